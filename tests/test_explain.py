"""What darkbn says about conventions: the formulas in the text are run and compared with the kernels."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import networks
import numpy as np
import pytest
from typer.testing import CliRunner

import darkbn
from darkbn.backend import get_backend
from darkbn.cli.main import app
from darkbn.conventions import CONVENTIONS, BatchNormConvention, GradientConstants, get_convention
from darkbn.errors import UnsupportedError
from darkbn.explain import SOURCES, TITLES, departures
from darkbn.layers.batchnorm import make_batchnorm_layer
from darkbn.layers.connected import make_connected_layer
from darkbn.state import NetworkState

OWN = dataclasses.replace(
    get_convention("pytorch"),
    name="own",
    epsilon=0.3,
    rolling_decay=0.75,
    gradient=GradientConstants(
        epsilon=0.2, epsilon_outside=True, statistics_epsilon=0.1, statistics_epsilon_outside=True, ddof=2
    ),
)
ALL: list[BatchNormConvention] = [*CONVENTIONS.values(), OWN]


def statements(text: str, connected: bool = False) -> list[str]:
    """The formulas of an explanation as Python."""
    joined = re.sub(r"\n +\+ ", " + ", text)
    lines = [line.strip() for line in joined.splitlines() if re.match(r"    \w+ +\+?= ", line)]
    kept = []
    for line in lines:
        only = "(connected layers" in line
        if connected and only:  # what holds there takes the place of what holds elsewhere
            kept = [k for k in kept if k.split()[0] != line.split()[0]]
        if connected or not only:
            kept.append(re.sub(r"\(connected layers.*", "", line).replace("^", "**"))
    return kept


def evaluate(c: BatchNormConvention, values: dict[str, Any], connected: bool = False) -> dict[str, Any]:
    names = {"sum": np.sum, "sqrt": np.sqrt, "N": values["x"].size, "bias_updates": 0.0, "scale_updates": 0.0, **values}
    for statement in statements(darkbn.explain_batchnorm(c), connected):
        if not statement.startswith("delta = scales"):  # the closed form has a test of its own
            exec(statement, {}, names)
    return names


@pytest.mark.parametrize("c", ALL, ids=lambda c: c.name)
def test_the_formulas_are_what_the_kernels_compute(c: BatchNormConvention) -> None:
    rng = np.random.default_rng(0)
    x, delta = 0.1 * rng.standard_normal((2, 7))  # small, so that every epsilon counts
    l = make_batchnorm_layer(7, 1, 1, 1, backend=get_backend("reference"), convention=c)
    l.scales[...], l.biases[...] = 1.7, -0.4
    net = NetworkState(input=x.reshape(7, 1, 1, 1), delta=np.zeros((7, 1, 1, 1)), train=True)
    l.forward(net)
    l.delta[...] = delta.reshape(l.delta.shape)
    l.backward(net)
    start = {"rolling_mean": 0.0, "rolling_variance": c.initial_rolling_variance}
    found = evaluate(c, {"x": x, "delta": delta, "scales": 1.7, "biases": -0.4, **start})
    for name in ("mean", "variance", "rolling_mean", "rolling_variance", "mean_delta", "variance_delta"):
        np.testing.assert_allclose(found[name], getattr(l, name)[0], rtol=1e-12)
    for name in ("scale_updates", "bias_updates"):
        np.testing.assert_allclose(found[name], getattr(l, name)[0], rtol=1e-12)
    np.testing.assert_allclose(found["delta"], net.delta.reshape(-1), rtol=1e-10)
    l.forward(dataclasses.replace(net, train=False))
    np.testing.assert_allclose(found["output"], l.output.reshape(-1), rtol=1e-12)


def test_formulas_of_connected_layers() -> None:
    l = make_connected_layer(
        5, 1, 1, "linear", True, backend=get_backend("reference"), convention=get_convention("alexeyab-cpu")
    )
    l.weights[...] = 1
    x, delta = np.random.default_rng(1).standard_normal((2, 5))
    net = NetworkState(input=x.reshape(5, 1), train=True)
    l.forward(net)
    l.delta[...] = delta.reshape(5, 1)
    l.backward(net)
    values = {"x": x, "delta": delta, "scales": 1.0, "biases": 0.0, "rolling_mean": 0.0, "rolling_variance": 0.0}
    found = evaluate(l.context.convention, values, connected=True)
    for name in ("rolling_mean", "rolling_variance", "bias_updates", "scale_updates"):
        np.testing.assert_allclose(found[name], getattr(l, name)[0], rtol=1e-12)
    assert found["rolling_variance"] == pytest.approx(0.05 * x.var(ddof=1))


@pytest.mark.parametrize("name", ["cudnn", "pytorch", "keras", "tf-slim", "cs231n"])
def test_the_closed_form_is_the_gradient(name: str) -> None:
    c = get_convention(name)
    x, delta = np.random.default_rng(2).standard_normal((2, 6))
    mean, variance = x.mean(), x.var(ddof=c.ddof)
    names = {"sum": np.sum, "sqrt": np.sqrt, "N": 6, "scales": 1.3, "delta": delta, "variance": variance}
    names |= {"root": np.sqrt(variance + c.epsilon), "x_norm": (x - mean) / np.sqrt(variance + c.epsilon)}
    (closed,) = [s for s in statements(darkbn.explain_batchnorm(c)) if s.startswith("delta = scales")]
    exec(closed, {}, names)
    start = {"rolling_mean": 0.0, "rolling_variance": 0.0}
    expected = evaluate(c, {"x": x, "delta": delta, "scales": 1.3, "biases": 0.0, **start})["delta"]
    np.testing.assert_allclose(names["delta"], expected, rtol=1e-10)


def test_departures() -> None:
    found = {name: len(departures(c)) for name, c in CONVENTIONS.items() if departures(c)}
    assert found == {"darknet": 3, "darknet-gpu": 1, "alexeyab-cpu": 3, "alexeyab-gpu": 2}
    for c in CONVENTIONS.values():
        text = darkbn.explain_batchnorm(c)
        assert ("This is the derivative" in text) is not bool(departures(c))
        assert max(map(len, text.splitlines())) <= 96


def test_every_convention_has_a_title_and_sources() -> None:
    assert list(TITLES) == list(SOURCES) == list(CONVENTIONS)
    assert "source: pjreddie/darknet f6afaab, src/blas.c" in darkbn.explain_batchnorm("darknet")


def test_a_convention_of_ones_own() -> None:
    text = darkbn.explain_batchnorm(OWN)
    assert text.startswith("Batch normalization, convention own\n    your own\n")
    assert text.count("source: your own") == 3
    close = dataclasses.replace(get_convention("keras"), name="close", rolling_decay=0.5)
    assert "source: your own, as in keras, tf-slim" in darkbn.explain_batchnorm(close)
    assert "your own" in darkbn.explain_batchnorm(dataclasses.replace(close, name="keras"))
    net = darkbn.load(networks.CLASSIFIER, batchnorm=OWN, batch=3, train=True, seed=0)
    net.forward(np.random.default_rng(0).standard_normal(net.input_shape), np.eye(4)[:3], train=True)
    layer = net.layers[2]
    np.testing.assert_allclose(layer.rolling_mean, 0.25 * layer.mean, rtol=1e-6)
    assert "batch normalization: own" in str(net.summary())


def test_unknown_names() -> None:
    with pytest.raises(UnsupportedError, match="did you mean 'keras'"):
        darkbn.explain_batchnorm("kerass")


def run(*arguments: Any) -> Any:
    return CliRunner(env={"COLUMNS": "80"}).invoke(app, [str(a) for a in arguments], prog_name="darkbn")


def test_command(tmp_path: Path) -> None:
    assert run("explain", "cudnn").stdout.strip() == darkbn.explain_batchnorm("cudnn")
    table = run("explain").stdout.splitlines()
    assert [line.split()[0] for line in table[1:]] == list(CONVENTIONS)
    assert all(len(line) <= 80 and "…" not in line for line in table)
    assert re.search(r"alexeyab-cpu +0.9, 0.95 +/ \(N-1\) +/ \(N-1\) +sqrt\(v \+ 1e-05\) +0, 0 +its own", table[3])
    assert re.search(r"pytorch +0.9 +/ N +/ \(N-1\) +sqrt\(v \+ 1e-05\) +0, 1 +derivative", table[6])
    done = run("explain", "darknett")
    assert done.exit_code == 2
    assert "did you mean 'darknet'?" in done.stderr


# -- the effective batch in summaries ----------------------------------------------------------------------------------

CRNN = "[net]\nbatch=4\ntime_steps=2\nheight=3\nwidth=5\nchannels=2\n\n[crnn]\nbatch_normalize=1\noutput=3\nhidden=2\n"


def test_effective_batch(tmp_path: Path) -> None:
    net = darkbn.load(networks.TWO_HEADS)  # batch=4, subdivisions=2
    summary = net.summary()
    assert [row.normalized for row in summary.rows[:3]] == [(2, 8, 8), (2, 8, 8), None]
    assert summary.rows[0].effective_batch == 128
    assert "effective batch 128 or more (smallest in layer 0)" in str(summary)
    assert "2x8x8" in str(summary)
    assert darkbn.load(networks.TWO_HEADS, batch=3, train=True).summary().rows[0].normalized == (3, 8, 8)
    cfg = tmp_path / "net.cfg"
    cfg.write_text(networks.TWO_HEADS)
    done = run("info", cfg, "--json", "-")
    assert [layer["effective_batch"] for layer in json.loads(done.stdout)["layers"][:3]] == [128, 128, None]


def test_effective_batch_of_connected_recurrent_and_blurred_layers() -> None:
    rows = darkbn.load(networks.CLASSIFIER).summary().rows
    assert [row.effective_batch for row in rows] == [None, None, 6, None, None, None]
    assert darkbn.load(CRNN, dialect="darknet").summary().rows[0].normalized == (4, 3, 5)  # each step on its own
    blurred = "[net]\nbatch=2\nheight=8\nwidth=8\nchannels=1\n\n[convolutional]\nbatch_normalize=1\nsize=3\npad=1\n"
    net = darkbn.load(f"{blurred}stride=2\nantialiasing=1\n", dialect="alexeyab")
    assert net.summary().rows[0].normalized == (2, 8, 8)
    without = darkbn.load("[net]\ninputs=3\n\n[connected]\noutput=2\n")
    assert "batch normalization: darknet, in no layer" in str(without.summary())
