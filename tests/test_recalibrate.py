"""Rolling statistics taken anew from data: against formulas, and from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import darkbn
import darkbn.images
import darkbn.layers.convolutional
from darkbn.cli.main import app
from darkbn.errors import DarkbnError, NonFiniteError, ShapeError
from darkbn.recalibrate import METHODS, passes, recalibrate
from darkbn.weights import read_header

CONV = "[convolutional]\nbatch_normalize=1\nfilters=3\nsize=3\npad=1\nactivation=linear\n"
NET = f"[net]\nbatch=8\nwidth=6\nheight=5\nchannels=2\n\n{CONV}\n[dropout]\nprobability=.5\n\n{CONV}\n[avgpool]\n"
DEVICE = "reference"


def load(cfg: str = NET, **options: Any) -> Any:
    return darkbn.load(cfg, batch=4, device=DEVICE, seed=0, **options)


def data(count: int = 3, shape: tuple[int, ...] = (4, 2, 5, 6)) -> list[np.ndarray]:
    """Batches that differ from each other."""
    rng = np.random.default_rng(1)
    return [(1 + i) * rng.standard_normal(shape) + i for i in range(count)]


def convolved(net: Any, layer: int, x: np.ndarray) -> np.ndarray:
    """What batch normalization of a layer sees in inference: (channels, values)."""
    net.forward(x)
    l = net.layers[layer]
    before = x if layer == 0 else net.layers[layer - 1].output
    plain = darkbn.layers.convolutional.make_convolutional_layer(
        4, 5, 6, before.shape[1], 3, 1, 3, 1, 1, "linear", backend=l.backend
    )
    plain.weights[...] = l.weights
    plain.forward(darkbn.NetworkState(input=before.copy()))
    return plain.output.transpose(1, 0, 2, 3).reshape(3, -1)


def rolling(net: Any, layer: int) -> tuple[np.ndarray, np.ndarray]:
    return net.layers[layer].rolling_mean, net.layers[layer].rolling_variance


def test_precise_and_paper() -> None:
    net, batches = load(), data()
    seen = [convolved(net, 0, x) for x in batches]
    recalibrate(net, batches)
    mean, variance = rolling(net, 0)
    together = np.concatenate(seen, axis=1)
    np.testing.assert_allclose(mean, together.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(variance, together.var(axis=1, ddof=1), rtol=1e-12)
    recalibrate(net, batches, "paper")
    m = 4 * 5 * 6
    np.testing.assert_allclose(mean, np.mean([s.mean(axis=1) for s in seen], axis=0), rtol=1e-12)
    expected = m / (m - 1) * np.mean([s.var(axis=1) for s in seen], axis=0)
    np.testing.assert_allclose(variance, expected, rtol=1e-12)
    assert (np.abs(variance / together.var(axis=1, ddof=1) - 1) > 0.05).all(), "these data tell the methods apart"


def test_cross_iteration_batch_normalization() -> None:
    cfg = NET.replace("batch_normalize=1", "batch_normalize=2", 1)
    net = load(cfg, dialect="alexeyab", batchnorm="darknet")
    together = np.concatenate([convolved(net, 0, x) for x in data()], axis=1)
    recalibrate(net, data())
    np.testing.assert_allclose(rolling(net, 0)[1], together.var(axis=1, ddof=1), rtol=1e-12)


def test_layers_before_are_normalized_as_the_method_says() -> None:
    """The second layer sees batches normalized by their own statistics, or by the new rolling ones."""
    net, batches = load(), data()
    recalibrate(net, batches)
    first = net.layers[0]
    seen = []
    for x in batches:
        own = convolved(net, 0, x)
        mean, variance = own.mean(axis=1), own.var(axis=1, ddof=1)
        kept = [a.copy() for a in rolling(net, 0)]
        first.rolling_mean[...], first.rolling_variance[...] = mean, variance
        seen.append(convolved(net, 2, x))
        first.rolling_mean[...], first.rolling_variance[...] = kept
    together = np.concatenate(seen, axis=1)
    np.testing.assert_allclose(rolling(net, 2)[0], together.mean(axis=1), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(rolling(net, 2)[1], together.var(axis=1, ddof=1), rtol=1e-10)
    recalibrate(net, batches, "sequential")
    together = np.concatenate([convolved(net, 2, x) for x in batches], axis=1)
    np.testing.assert_allclose(rolling(net, 2)[0], together.mean(axis=1), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(rolling(net, 2)[1], together.var(axis=1, ddof=1), rtol=1e-10)
    assert passes(net, "sequential") == 2
    assert passes(net, "precise") == 1


def test_rolling() -> None:
    net, other, batches = load(batchnorm="keras"), load(batchnorm="keras"), data()
    recalibrate(net, batches, "rolling")
    for x in batches:
        other.layers[0].rolling_mean[...] = 0.99 * rolling(other, 0)[0] + 0.01 * convolved(other, 0, x).mean(axis=1)
    np.testing.assert_allclose(rolling(net, 0)[0], rolling(other, 0)[0], rtol=1e-12)
    assert (rolling(net, 0)[1] > 0.9).all(), "starts at 1 and keeps 0.99"


def test_predictions_follow_and_nothing_else_changes() -> None:
    net, batches = load(), data()
    before = net.predict(batches[0])
    weights = net.layers[0].weights.copy(), net.layers[0].biases.copy(), net.seen
    done = recalibrate(net, batches)
    assert np.abs(net.predict(batches[0]) - before).max() > 0.1
    np.testing.assert_allclose(net.predict(batches[0]), net.forward(batches[0]), atol=1e-9)
    assert np.array_equal(net.layers[0].weights, weights[0])
    assert net.seen == weights[2]
    assert [c.layer for c in done.changes] == [0, 2]
    assert done.changes[0].values == 3 * 4 * 5 * 6
    assert done.batches == 3
    again = recalibrate(net, batches)
    assert max(c.mean for c in again.changes) < 1e-9
    assert max(c.variance for c in again.changes) == pytest.approx(1)
    assert len(str(again).splitlines()) == 3


def test_the_largest_change() -> None:
    net, batches = load(batchnorm="pytorch"), data()
    recalibrate(net, batches)
    mean, variance = rolling(net, 0)
    deviations = np.sqrt(variance + 1e-5)
    mean[1] += 3 * deviations[1]
    variance[2] = 4 * (variance[2] + 1e-5) - 1e-5
    change = recalibrate(net, batches).changes[0]
    assert change.mean == pytest.approx(3, rel=1e-6)
    assert change.variance == pytest.approx(4, rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_failures_leave_the_network_alone(method: str) -> None:
    net, batches = load(), data()
    recalibrate(net, batches)
    kept = [a.copy() for layer in (0, 2) for a in rolling(net, layer)]
    bad = np.full_like(batches[0], np.nan)
    for wrong, error in (
        ([*batches, bad], NonFiniteError),
        ([*batches, batches[0][:3]], ShapeError),
        ([], DarkbnError),
    ):
        with pytest.raises(error):
            recalibrate(net, wrong, method)
        now = [a for layer in (0, 2) for a in rolling(net, layer)]
        assert all(np.array_equal(a, b) for a, b in zip(kept, now, strict=True))


def test_arguments() -> None:
    net = load()
    with pytest.raises(DarkbnError, match="expected one of precise, paper, rolling, sequential"):
        recalibrate(net, data(), "exact")
    with pytest.raises(DarkbnError, match="several times"):
        recalibrate(net, iter(data()), "sequential")
    with pytest.raises(DarkbnError, match="no batch normalization"):
        recalibrate(load(NET.replace("batch_normalize=1", "batch_normalize=0")), data())


def test_heads_need_no_truth() -> None:
    """Losses and heads come after the last layer that is recalibrated, or act as in inference."""
    import networks

    net = darkbn.load(networks.TWO_HEADS, batch=4, seed=0)
    x = np.random.default_rng(0).random(net.input_shape, dtype="float32")
    assert [c.layer for c in recalibrate(net, [x]).changes] == [0, 1]


RNN = "[net]\nbatch=2\ntime_steps=3\ninputs=4\n\n[rnn]\nbatch_normalize=1\noutput=5\nhidden=3\nactivation=tanh\n"


@pytest.mark.parametrize("method", ["precise", "sequential"])
def test_recurrent_layers_count_every_step(method: str) -> None:
    net = darkbn.load(RNN, batch=4, device=DEVICE, seed=0)  # 4 images in each of 3 steps
    x = np.random.default_rng(0).standard_normal((12, 4))
    done = recalibrate(net, [x, 2 * x], method)
    parts = {c.part: c.values for c in done.changes}
    assert parts == {"input_layer.": 24, "self_layer.": 24, "output_layer.": 24}
    seen = np.concatenate([x, 2 * x]) @ net.layers[0].input_layer.weights.T
    np.testing.assert_allclose(net.layers[0].input_layer.rolling_mean, seen.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(net.layers[0].input_layer.rolling_variance, seen.var(axis=0, ddof=1), rtol=1e-12)


def test_layers_that_share_parameters() -> None:
    cfg = f"[net]\nwidth=6\nheight=5\nchannels=3\n\n{CONV}\n{CONV}share_index=0\n"
    net = load(cfg, dialect="alexeyab")
    recalibrate(net, data(shape=(4, 3, 5, 6)))
    assert net.layers[0].rolling_mean is net.layers[1].rolling_mean
    first = np.concatenate([convolved(net, 0, x) for x in data(shape=(4, 3, 5, 6))], axis=1)
    assert (np.abs(net.layers[0].rolling_variance / first.var(axis=1, ddof=1) - 1) > 0.05).all(), "both are counted"


# -- command -----------------------------------------------------------------------------------------------------------


def run(*arguments: Any) -> Any:
    return CliRunner(env={"COLUMNS": "80"}).invoke(app, [str(a) for a in arguments], prog_name="darkbn")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A network, its weights, and a folder of seven pictures and a broken one."""
    cfg, weights, folder = tmp_path / "net.cfg", tmp_path / "net.weights", tmp_path / "photos"
    cfg.write_text(NET.replace("channels=2", "channels=3"))
    net = darkbn.load(cfg, seed=0)
    net.seen = 640
    net.save_weights(weights)
    folder.mkdir()
    rng = np.random.default_rng(2)
    for number in range(7):
        Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8)).save(folder / f"{number}.png")
    (folder / "broken.jpg").write_bytes(b"nothing")
    return {"cfg": cfg, "weights": weights, "folder": folder, "out": tmp_path / "new.weights"}


def test_command(files: dict[str, Path]) -> None:
    cfg, weights, folder, out = files.values()
    before = weights.read_bytes()
    done = run("recalibrate", cfg, weights, "--images", folder, "--out", out, "--batch", 3)
    assert done.exit_code == 1, "one picture is broken"
    assert done.stderr.count("broken.jpg: cannot read the image") == 1
    assert "precise: 6 pictures in batches of 3; 1 left over, fewer than a batch" in done.stdout
    assert [line.split()[1] for line in done.stdout.splitlines()[1:3]] == ["convolutional"] * 2
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert weights.read_bytes() == before
    assert read_header(out).seen == 640
    net = darkbn.load(cfg, weights, batch=3)
    x = np.stack([darkbn_input(net, folder / f"{n}.png") for n in range(6)])
    recalibrate(net, [x[:3], x[3:]])
    new = darkbn.load(cfg, out)
    for layer in (0, 2):
        for found, expected in zip(rolling(new, layer), rolling(net, layer), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        assert np.array_equal(new.layers[layer].weights, net.layers[layer].weights)


def darkbn_input(net: Any, path: Path) -> np.ndarray:
    """The picture as a classifier's input, by the functions for images."""
    return darkbn.images.letterbox_image(darkbn.images.load_image(path), net.width, net.height)


def test_command_goes_through_pictures_again(files: dict[str, Path]) -> None:
    cfg, weights, folder, out = files.values()
    (folder / "broken.jpg").unlink()
    document = out.with_suffix(".json")
    done = run("recalibrate", cfg, weights, "--images", folder, "-o", out, "--method", "sequential", "--json", document)
    assert done.exit_code == 0, done.output
    assert "sequential: 7 pictures in batches of 7\nbatch normalization: darknet" in done.stdout
    found = json.loads(document.read_text())
    assert found["method"] == "sequential"
    assert [c["values"] for c in found["changes"]] == [7 * 30, 7 * 30]


def test_command_errors(files: dict[str, Path], tmp_path: Path) -> None:
    cfg, weights, folder, out = files.values()
    done = run("recalibrate", cfg, weights, "--images", folder, "--out", out, "--batch", 8)
    assert done.exit_code == 2
    assert "7 pictures can be read, fewer than a batch of 8: lower --batch" in done.stderr
    assert run("recalibrate", cfg, weights, "--images", folder, "--out", out, "--method", "mean").exit_code == 2
    done = run("recalibrate", cfg, weights, "--images", folder, "--out", tmp_path / "no" / "x.weights", "--batch", 7)
    assert done.exit_code == 2
    assert "cannot write the file" in done.stderr
    assert not out.exists()
