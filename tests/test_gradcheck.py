"""The gradient check as a tool: what it reports, and that it finds what is wrong."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import networks
import numpy as np
import pytest
from typer.testing import CliRunner

import darkbn
from darkbn.cli.main import app
from darkbn.conventions import CONVENTIONS, get_convention
from darkbn.errors import CfgError, ShapeError, UnsupportedError
from darkbn.gradients import _D, GradientReport, _numbers
from darkbn.layers.batchnorm import make_batchnorm_layer
from darkbn.layers.convolutional import ConvolutionalLayer, make_convolutional_layer

NORMALIZED = (
    "[net]\nbatch=2\nwidth=3\nheight=2\nchannels=2\n\n"
    "[convolutional]\nbatch_normalize=1\nfilters=3\nsize=3\npad=1\nactivation=tanh\n\n"
    "[connected]\noutput=2\nbatch_normalize=1\nactivation=linear\n"
)


def rows(report: GradientReport) -> dict[str, Any]:
    return {row.name: row for row in report.rows}


def backward(convention: str, x: np.ndarray, d: np.ndarray) -> np.ndarray:
    """The input gradient of a convention with scales 1, by its formulas."""
    c = get_convention(convention)
    g, n = c.gradient_constants(), x.size
    centered = x - x.mean()
    variance = (centered**2).sum() / (n - c.ddof)

    def root(epsilon: float, outside: bool) -> Any:
        return np.sqrt(variance) + epsilon if outside else np.sqrt(variance + epsilon)

    mean_delta = -d.sum() / root(g.statistics_epsilon, g.statistics_epsilon_outside)
    if g.statistics_epsilon_outside:
        slope = -1 / (2 * np.sqrt(variance) * root(g.statistics_epsilon, True) ** 2)
    else:
        slope = -0.5 * (variance + g.statistics_epsilon) ** -1.5
    first = d / root(g.epsilon, g.epsilon_outside)
    return first + (d * centered).sum() * slope * 2 * centered / (n - g.ddof) + mean_delta / n


@pytest.mark.parametrize("name", CONVENTIONS)
@pytest.mark.parametrize(("n", "deviation"), [(4, 1.0), (64, 1.0), (16, 1e-2)])
def test_what_is_the_conventions_own(name: str, n: int, deviation: float) -> None:
    x = deviation * np.random.default_rng(0).standard_normal((n, 1, 1, 1))
    l = make_batchnorm_layer(n, 1, 1, 1, convention=get_convention(name))
    report = darkbn.gradcheck(l, x, step=1e-5 * deviation, batchnorm=name)
    assert report.passed, str(report)
    assert report.convention == name
    row = rows(report)["input"]
    d = _numbers(0, _D, 0).standard_normal((n, 1, 1, 1))
    exact = dataclasses.replace(get_convention(name), name="", gradient=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CONVENTIONS, "derivative", exact)
        derivative = backward("derivative", x, d)
    expected = np.abs(backward(name, x, d) - derivative).max() / max(np.abs(derivative).max(), 1e-3)
    assert row.own == pytest.approx(expected, rel=1e-9, abs=1e-11)
    assert row.own_divisor + row.own_epsilon >= row.own * 0.999
    assert (row.own > 1e-9) is (name in ("darknet", "darknet-gpu", "alexeyab-cpu", "alexeyab-gpu"))
    assert (row.own_divisor > 0) is (name in ("darknet", "darknet-gpu", "alexeyab-cpu"))


def test_the_divisor_and_the_epsilon_are_told_apart() -> None:
    few = rows(darkbn.gradcheck(make_batchnorm_layer(4, 1, 1, 1), samples=4))["input"]
    assert 0.02 < few.own_divisor < 1
    assert few.own_epsilon < 1e-3
    many = rows(darkbn.gradcheck(make_batchnorm_layer(64, 8, 8, 1), samples=4))["input"]
    assert many.own_divisor < 1e-3
    small = 0.003 * np.random.default_rng(0).standard_normal((64, 1, 8, 8))
    near_epsilon = rows(darkbn.gradcheck(make_batchnorm_layer(64, 8, 8, 1), small, step=1e-8))["input"]
    assert near_epsilon.own_epsilon > 0.1


def test_biases_that_do_not_train() -> None:
    net = darkbn.load(NORMALIZED, dialect="alexeyab", batchnorm="alexeyab-cpu", batch=4, seed=0)
    found = rows(darkbn.gradcheck(net, perturb=0.1))
    assert found["biases of layer 0 [convolutional]"].own == 1
    assert found["biases of layer 1 [connected]"].own == 0
    assert rows(darkbn.gradcheck(net, batchnorm="exact"))["biases of layer 0 [convolutional]"].own == 0


def test_every_array_is_checked_and_nothing_is_changed() -> None:
    net = darkbn.load(NORMALIZED, batch=3, seed=1)
    before = [np.array(getattr(l, name)) for l in net.layers for name in l.weights_order()]
    report = darkbn.gradcheck(net, batchnorm="pytorch", samples=5, perturb=0.1)
    after = [getattr(l, name) for l in net.layers for name in l.weights_order()]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert not net.training
    names = [f"{array} of layer {l}" for l in ("0 [convolutional]", "1 [connected]") for array in ("weights", "biases")]
    assert set(rows(report)) == {"input", *names, "scales of layer 0 [convolutional]", "scales of layer 1 [connected]"}
    assert report.passed
    assert all(row.checked >= min(5, row.size) for row in report.rows)
    assert len(str(report).splitlines()) == 1 + 7 + 2


def test_losses_and_heads_are_left_out() -> None:
    for cfg in (networks.TWO_HEADS, networks.CLASSIFIER):
        net = darkbn.load(cfg, batch=2, seed=0)
        report = darkbn.gradcheck(net, samples=4, perturb=0.1, batchnorm="exact")
        assert report.passed, str(report)
        layers = {row.layer for row in report.rows}
        assert layers == {None, *(i for i, l in enumerate(net.layers) if hasattr(l, "weights"))}
        assert max(row.scale for row in report.rows) > 0.1


def test_kinks_are_no_errors() -> None:
    l = make_convolutional_layer(2, 4, 4, 3, 5, 1, 3, 1, 1, "relu", seed=0)
    net = darkbn.load(NORMALIZED.replace("tanh", "leaky"), batch=3, seed=0)
    assert darkbn.gradcheck(net, batchnorm="exact", samples=60, perturb=0.1, step=1e-3, tolerance=1e-5).passed
    assert darkbn.gradcheck(l, samples=60).passed


def test_a_layer_of_a_network() -> None:
    net = darkbn.load(networks.TWO_HEADS, batch=2, seed=0)
    report = darkbn.gradcheck(net.layers[1], batchnorm="exact")
    assert report.passed
    assert report.rows[0].size == 2 * 8 * 8 * 8
    with pytest.raises(CfgError, match="must come before"):
        darkbn.gradcheck(net.layers[2])
    with pytest.raises(ShapeError, match=r"x must have shape \(2, 3, 16, 16\), found \(3,\)"):
        darkbn.gradcheck(net, np.ones(3))


def test_resized_networks_and_stopped_gradients() -> None:
    cfg = networks.TWO_HEADS.replace("filters=16", "filters=16\nstopbackward=1", 1)
    net = darkbn.load(cfg, batch=2, seed=0, batchnorm="pytorch")  # frozen: by rolling variances, which start at 1
    net.resize(32, 16)
    report = darkbn.gradcheck(net, samples=2)
    assert report.passed
    assert {row.layer for row in report.rows} == {9}


def test_networks_that_cannot_be_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ConvolutionalLayer, "untrainable", lambda l: ["has no gradient"])
    with pytest.raises(UnsupportedError, match=r"layer 0 \[convolutional\] has no gradient"):
        darkbn.gradcheck(darkbn.load(NORMALIZED))


def test_cross_iteration_batch_normalization() -> None:
    cfg = NORMALIZED.replace("batch_normalize=1", "batch_normalize=2", 1)
    net = darkbn.load(cfg, dialect="alexeyab", batch=3, seed=0, batchnorm="cudnn")
    assert darkbn.gradcheck(net, perturb=0.1).passed


def test_random_layers_draw_the_same_numbers() -> None:
    cfg = NORMALIZED.replace("[connected]", "[dropout]\nprobability=.4\n\n[connected]")
    net = darkbn.load(cfg, batch=4, seed=0, batchnorm="exact")
    assert darkbn.gradcheck(net, samples=30, perturb=0.1).passed


# -- command -----------------------------------------------------------------------------------------------------------


def run(*arguments: Any) -> Any:
    return CliRunner(env={"COLUMNS": "80"}).invoke(app, [str(a) for a in arguments], prog_name="darkbn")


def test_command(tmp_path: Path) -> None:
    cfg, weights = tmp_path / "net.cfg", tmp_path / "net.weights"
    cfg.write_text(NORMALIZED)
    darkbn.load(cfg, seed=0).save_weights(weights)
    done = run("gradcheck", cfg, weights, "--json", tmp_path / "out.json", "--batch", 3)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["layer", "gradient", "of", "checked", "largest", "error", "own", "1/N", "epsilon"]
    assert lines[1].split()[0] == "input"
    assert lines[2].split()[:3] == ["0", "convolutional", "weights"]
    assert all(len(line) <= 80 for line in lines[:8])
    assert "input 3 x 2 x 2, batch 3" in done.stdout
    assert "all agree" in done.stdout
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["passed"] is True
    assert [g["array"] for g in document["gradients"]][:2] == ["input", "weights"]


def test_command_finds_wrong_gradients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from darkbn.layers import connected

    right = connected.backward_connected_layer

    def slightly_wrong(l: Any, state: Any) -> None:
        right(l, state)
        l.weight_updates *= 1.001

    monkeypatch.setattr(connected, "backward_connected_layer", slightly_wrong)
    cfg = tmp_path / "net.cfg"
    cfg.write_text(NORMALIZED)
    done = run("gradcheck", cfg, "--batchnorm", "keras", "--size", 4)
    assert done.exit_code == 1
    (wrong,) = [line for line in done.stdout.splitlines() if "WRONG" in line]
    assert wrong.split()[:3] == ["1", "connected", "weights"]
    assert "1 of 7 gradients are wrong" in done.stdout
    assert run("gradcheck", cfg, "--batchnorm", "kerass").exit_code == 2


def test_command_makes_large_inputs_small(tmp_path: Path) -> None:
    cfg = tmp_path / "net.cfg"
    convolution = "[convolutional]\nfilters=2\nsize=3\nstride=2\nactivation=linear\n"
    cfg.write_text(f"[net]\nwidth=96\nheight=96\nchannels=1\n\n{convolution}")
    assert "input 64 x 64 x 1, batch 2" in run("gradcheck", cfg).stdout
    cfg.write_text(f"{cfg.read_text()}\n[connected]\noutput=1\nactivation=linear\n")
    done = run("gradcheck", cfg)
    assert "input 96 x 96 x 1" in done.stdout
    assert "cannot be made smaller" in done.stderr
