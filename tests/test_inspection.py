"""Inspection of batch normalization: distributions and findings, table, picture and page."""

from __future__ import annotations

import io
import json
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from networks import CLASSIFIER, TWO_HEADS
from PIL import Image
from typer.testing import CliRunner

import darkbn
from darkbn import Network
from darkbn.cli.main import app
from darkbn.extras import MissingExtraError
from darkbn.inspection import Distribution

CONV = (
    "[net]\nwidth=4\nheight=4\nchannels=3\n[convolutional]\nfilters=8\nsize=3\nbatch_normalize=1\nactivation=linear\n"
)


def trained(text: str = CONV, **options: str) -> Network:
    """A network with harmless statistics."""
    net = darkbn.load(text, seed=1, **options)
    for layer in net.layers:
        for _, part in layer.walk():
            if hasattr(part, "rolling_variance"):
                rng = np.random.default_rng(2)
                part.rolling_variance[...] = rng.uniform(0.5, 2, part.rolling_variance.shape)
                part.rolling_mean[...] = rng.standard_normal(part.rolling_mean.shape)
    return net


def test_distribution() -> None:
    found = Distribution.of(np.array([4.0, 0.0, 1.0, np.nan, 3.0, 2.0, np.inf]))
    assert found == Distribution(0, 1, 2, 3, 4, 2)
    assert np.isnan(Distribution.of(np.array([np.nan])).median)


def test_a_healthy_network_has_no_findings() -> None:
    inspection = darkbn.inspect(trained(TWO_HEADS))
    assert [layer.index for layer in inspection.layers] == [0, 1]
    assert (inspection.channels, inspection.plain, inspection.findings) == (16, 2, {})


def test_layers_without_training() -> None:
    """The classifier's only batch normalization is in a connected layer."""
    (layer,) = darkbn.inspect(darkbn.load(CLASSIFIER, seed=1)).layers
    assert (layer.type, layer.findings) == ("connected", {"untrained": 7, "collapsed": 7})
    assert darkbn.inspect(trained(CLASSIFIER)).findings == {}


def test_findings() -> None:
    net = trained()
    layer = net.layers[0]
    layer.scales[1] = -1e-6
    layer.rolling_variance[2] = 1e-9
    layer.rolling_variance[3] = 1e9
    layer.rolling_variance[4] = -0.5
    layer.biases[5], layer.rolling_mean[6] = np.nan, np.inf
    before = {name: getattr(layer, name).copy() for name in ("scales", "rolling_variance", "weights")}
    (found,) = darkbn.inspect(net).layers
    assert found.dead == (1,)
    assert found.collapsed == (2,)
    assert found.exploding == (3,)
    assert found.negative == (4,)
    assert found.not_finite == (5, 6)
    assert found.findings == {"dead": 1, "collapsed": 1, "exploding": 1, "negative": 1, "not finite": 2}
    assert all(np.array_equal(getattr(layer, name), array, equal_nan=True) for name, array in before.items())


def test_epsilon_decides_what_has_collapsed() -> None:
    """A variance of 1e-6 is a tenth of pytorch's epsilon; darkbn's default adds 1e-6 to a root of 1e-3."""
    for convention, expected in (("pytorch", (2,)), ("darknet", ())):
        net = trained(batchnorm=convention)
        net.layers[0].rolling_variance[...] = 1e-5 * np.arange(2, 10)
        net.layers[0].rolling_variance[2] = 1e-6
        assert darkbn.inspect(net).layers[0].collapsed == expected


def test_folding_effect() -> None:
    net = trained(batchnorm="pytorch")
    layer = net.layers[0]
    layer.rolling_variance[...], layer.scales[...] = 1 - 1e-5, 1
    layer.scales[5], layer.scales[3], layer.scales[0] = -8, 4, 0
    (found,) = darkbn.inspect(net).layers
    assert found.folding is not None
    assert [channel for channel, _ in found.folding.amplified[:2]] == [5, 3]
    assert found.folding.amplified[0][1] == pytest.approx(8)
    assert found.folding.ratio == pytest.approx(8)
    assert found.folding.before == np.abs(layer.weights).max()
    grown = np.abs(layer.weights * layer.scales[:, None, None, None]).max()
    assert found.folding.after == pytest.approx(grown, rel=1e-5)


def test_standalone_and_recurrent_layers() -> None:
    net = trained("[net]\ninputs=3\n[rnn]\noutput=4\nbatch_normalize=1\n[batchnorm]\n")
    found = darkbn.inspect(net).layers
    assert [layer.name for layer in found] == ["0.input_layer", "0.self_layer", "0.output_layer", "1"]
    assert [layer.folding is None for layer in found] == [False, False, False, True]


def test_document_is_json() -> None:
    net = trained()
    net.layers[0].scales[...] = np.nan
    document = json.loads(json.dumps(darkbn.inspect(net).document(), allow_nan=False))
    assert document["layers"][0]["scales"]["median"] is None
    assert document["findings"] == {"not finite": 8}


class Page(HTMLParser):
    """Which tags are open, which pictures there are, what is asked from elsewhere."""

    VOID = ("meta", "img", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.pictures: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        assert "href" not in values
        if tag == "img":
            self.pictures.append(values["src"] or "")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    net = trained()
    net.layers[0].scales[1] = 0
    net.save_weights(tmp_path / "a.weights")
    (tmp_path / "a <b>.cfg").write_text(CONV)
    return str(tmp_path / "a <b>.cfg"), str(tmp_path / "a.weights")


def test_picture_and_page(files: tuple[str, str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = ["--png", str(tmp_path / "a.png"), "--html", str(tmp_path / "a.html")]
    done = CliRunner().invoke(app, ["inspect", *files, *out])
    assert done.exit_code == 0, done.output
    assert Image.open(io.BytesIO((tmp_path / "a.png").read_bytes())).format == "PNG"
    text = (tmp_path / "a.html").read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert len(page.pictures) == 1
    assert page.pictures[0].startswith("data:image/png;base64,")
    assert "a &lt;b&gt;.cfg" in text
    assert "<b>dead</b>" in text
    assert "channel 1<" in text


def test_command(files: tuple[str, str], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["inspect", *files], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    assert "1 dead" in done.output
    assert max(map(len, done.output.splitlines())) <= 80 + 40  # the summary lines wrap in the terminal
    document = json.loads(CliRunner().invoke(app, ["inspect", *files, "--json", "-"]).stdout)
    assert document["layers"][0]["dead"] == [1]
    missing = CliRunner().invoke(app, ["inspect", *files, "--png", str(tmp_path / "no" / "a.png")])
    assert missing.exit_code == 2


def test_matplotlib_is_asked_for(files: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from darkbn.inspection_page import write_png

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"darkbn\[plot\]"):
        write_png(darkbn.inspect(darkbn.load(*files)), tmp_path / "a.png")
