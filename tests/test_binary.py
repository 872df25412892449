"""Convolutions with binary weights and inputs: binary=, xnor=, bin_output=."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import darkbn
from darkbn.backend import BACKENDS

HEAD = "[net]\nbatch=2\nwidth=6\nheight=5\nchannels=4\nlearning_rate=.05\nmomentum=.9\ndecay=0\n\n"
CONV = "[convolutional]\nfilters=6\nsize=3\npad=1\nstride=2\ngroups=2\nactivation=leaky\n"


def pair(option: str, device: str, dialect: str, more: str = "") -> tuple[darkbn.Network, darkbn.Network]:
    """A network of one binary convolution, and the plain one with the same weights."""
    nets = [
        darkbn.load(f"{HEAD}{CONV}{more}{o}", device=device, dialect=dialect, train=True, seed=3) for o in (option, "")
    ]
    return nets[0], nets[1]


def signs(x: Any) -> Any:
    return np.where(np.asarray(x) > 0, 1, -1)


def binary(weights: Any) -> Any:
    rows = np.asarray(weights, np.float64)
    return signs(rows) * np.abs(rows).mean(axis=(1, 2, 3), keepdims=True)


@pytest.mark.parametrize("more", ["", "batch_normalize=1\n"])
@pytest.mark.parametrize("dialect", ["darknet", "alexeyab"])
@pytest.mark.parametrize("device", BACKENDS)
@pytest.mark.parametrize("option", ["binary=1", "xnor=1"])
def test_a_binary_convolution_is_a_convolution_of_binary_values(
    option: str, device: str, dialect: str, more: str
) -> None:
    found, plain = pair(option, device, dialect, more)
    rng = np.random.default_rng(0)
    x = 0.8 * rng.standard_normal(found.input_shape)
    x[0, 0, 0, :3] = 0, 1, -1
    l, p = found.layers[0], plain.layers[0]
    kept = np.array(l.weights)
    p.weights[...] = binary(l.weights)
    seen = signs(x) if option == "xnor=1" else x
    delta = rng.standard_normal(l.output.shape)
    for net, values in ((found, x), (plain, seen)):
        net.forward(values, train=True)
        net.layers[0].delta[...] = delta
        net.backward()
    np.testing.assert_allclose(l.output, p.output, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(l.weight_updates, p.weight_updates, rtol=1e-4, atol=1e-5)
    passes = np.abs(x) < 1 if option == "xnor=1" else True
    np.testing.assert_allclose(found.input_delta, np.where(passes, plain.input_delta, 0), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(l.weights, kept)
    for net, values in ((found, x), (plain, seen)):
        net.forward(values)
    np.testing.assert_allclose(l.output, p.output, rtol=1e-5, atol=1e-6)


def test_the_gradient_of_an_earlier_reader_stays() -> None:
    """Only the layer's own share of the input's delta passes through the signs."""
    first = "[convolutional]\nfilters=4\nactivation=linear\n\n"
    own = CONV.replace("stride=2", "stride=1").replace("filters=6", "filters=4")
    cfg = f"{HEAD}{first}{own}xnor=1\n\n[shortcut]\nfrom=0\nactivation=linear\n"
    net = darkbn.load(cfg, train=True, seed=0)
    x = 3 * np.random.default_rng(0).standard_normal(net.input_shape)
    net.forward(x, train=True)
    net.layers[2].delta.fill(1)
    net.backward()
    outside = np.abs(np.asarray(net.layers[0].output)) >= 1
    assert 20 < outside.sum() < outside.size
    assert (np.asarray(net.layers[0].delta)[outside] == 1).all()
    assert not (np.asarray(net.layers[0].delta)[~outside] == 1).any()


@pytest.mark.parametrize("option", ["binary=1", "xnor=1", "xnor=1\nbin_output=1"])
def test_binary_networks_learn_and_keep_their_weights(tmp_path: Path, option: str) -> None:
    end = "[connected]\noutput=3\nactivation=linear\n\n[softmax]\n"
    cfg = f"{HEAD}{CONV}batch_normalize=1\n\n{CONV}{option}\nbatch_normalize=1\n\n{end}"
    net = darkbn.load(cfg, dialect="alexeyab", train=True, seed=1)
    x = np.random.default_rng(0).standard_normal(net.input_shape)
    losses = [net.train_step(x, np.eye(3)[[0, 2]]) for _ in range(40)]
    assert losses[-1] < 0.3 * losses[0]
    weights = np.asarray(net.layers[1].weights)
    assert len(np.unique(np.abs(weights[0]))) > 5  # not binary
    net.save_weights(tmp_path / "a.weights")
    again = darkbn.load(cfg, tmp_path / "a.weights", dialect="alexeyab", batch=2)
    np.testing.assert_array_equal(again.layers[1].weights, weights)
    out = np.array(again.forward(x))
    np.testing.assert_allclose(out, net.forward(x), rtol=1e-5)
    np.testing.assert_allclose(again.predict(x), out.reshape(2, 3, *out.shape[2:]), rtol=1e-4, atol=1e-6)


def test_antialiased_binary_convolutions_predict_what_they_compute() -> None:
    net = darkbn.load(f"{HEAD}{CONV}xnor=1\nantialiasing=1\n", dialect="alexeyab", seed=1, batch=2)
    plain = darkbn.load(f"{HEAD}{CONV}antialiasing=1\n", dialect="alexeyab", seed=1, batch=2)
    x = np.random.default_rng(0).standard_normal(net.input_shape)
    out = np.array(net.forward(x))
    assert np.abs(out - plain.forward(x)).max() > 0.01
    np.testing.assert_allclose(net.predict(x), out, rtol=1e-5)


@pytest.mark.parametrize("section", ["crnn", "conv_lstm"])
def test_recurrent_layers_with_binary_convolutions_go_step_by_step(section: str) -> None:
    size = "output=4\nhidden=3" if section == "crnn" else "output=4"
    cfg = f"{HEAD}[{section}]\n{size}\nsize=3\npad=1\nactivation=leaky\nxnor=1\n"
    steps = darkbn.load(cfg.replace("[net]", "[net]\ntime_steps=2"), dialect="alexeyab", seed=1, batch=2)
    single, plain = (darkbn.load(c, dialect="alexeyab", seed=1, batch=2) for c in (cfg, cfg.replace("xnor=1", "")))
    x = np.random.default_rng(0).standard_normal(steps.input_shape)
    found = np.array(steps.forward(x))
    expected = np.concatenate([np.array(single.forward(part)) for part in (x[:2], x[2:])])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(found[:2] - plain.forward(x[:2])).max() > 0.01
    trained = darkbn.load(cfg.replace("[net]", "[net]\ntime_steps=2"), dialect="alexeyab", seed=1, train=True)
    trained.forward(x, train=True)
    trained.layers[0].delta.fill(1)
    trained.backward()
    assert np.isfinite(trained.input_delta).all()
    assert np.any(trained.input_delta)
