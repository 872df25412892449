"""Folding of batch normalization into weights and biases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from darkbn.conventions import CONVENTIONS, get_convention
from darkbn.inference.fold import folded_parameters
from darkbn.layers.base import Layer
from darkbn.layers.batchnorm import make_batchnorm_layer
from darkbn.layers.connected import make_connected_layer
from darkbn.layers.convolutional import make_convolutional_layer
from darkbn.layers.deconvolutional import make_deconvolutional_layer
from darkbn.state import NetworkState

KINDS = ("convolutional", "groups", "deconvolutional", "connected")


def make(kind: str, batch_normalize: bool, **context: Any) -> Layer:
    """A layer with six outputs and an activation that shows every error."""
    common: Any = {"batch_normalize": batch_normalize, "seed": 3, **context}
    if kind == "connected":
        return make_connected_layer(2, 20, 6, "linear", **common)
    if kind == "deconvolutional":
        return make_deconvolutional_layer(2, 5, 4, 4, 6, 3, 2, 1, "linear", **common)
    return make_convolutional_layer(2, 5, 4, 4, 6, 2 if kind == "groups" else 1, 3, 1, 1, "linear", **common)


def randomize(layer: Layer, rng: np.random.Generator) -> None:
    """Statistics small enough that the place of epsilon shows."""
    for name in ("scales", "biases", "rolling_mean"):
        array = getattr(layer, name)
        array[...] = rng.standard_normal(array.shape)
    layer.rolling_variance[...] = rng.uniform(1e-5, 1e-3, layer.rolling_variance.shape)


def outputs(layer: Layer, x: np.ndarray) -> np.ndarray:
    layer.forward(NetworkState(input=x))
    return np.array(layer.output)


def close(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-5) -> bool:
    return bool(np.abs(found - expected).max() <= tolerance * np.abs(expected).max())


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_folded_parameters_compute_the_same(kind: str, convention: str) -> None:
    rng = np.random.default_rng(1)
    layer = make(kind, True, convention=get_convention(convention))
    randomize(layer, rng)
    x = rng.standard_normal((2, layer.inputs)).astype(np.float32)
    expected, before = outputs(layer, x), layer.weights.copy()
    plain = make(kind, False)
    plain.weights[...], plain.biases[...] = folded_parameters(layer)
    assert close(outputs(plain, x), expected)
    assert np.array_equal(layer.weights, before)
    # The epsilon of another convention would show.
    other = make(kind, True, convention=get_convention("pytorch" if layer.convention.epsilon == 1e-3 else "keras"))
    for name in ("weights", "scales", "biases", "rolling_mean", "rolling_variance"):
        getattr(other, name)[...] = getattr(layer, name)
    assert not close(outputs(other, x), expected, 1e-3)


def test_nothing_to_fold_copies() -> None:
    layer = make("convolutional", False)
    weights, biases = folded_parameters(layer)
    assert np.array_equal(weights, layer.weights)
    assert np.array_equal(biases, layer.biases)
    assert not np.shares_memory(weights, layer.weights)
    assert not np.shares_memory(biases, layer.biases)


@pytest.mark.parametrize("batch_normalize", [False, True])
@pytest.mark.parametrize("kind", ["convolutional", "deconvolutional"])
def test_a_batchnorm_layer_behind_a_linear_one(kind: str, batch_normalize: bool) -> None:
    rng = np.random.default_rng(2)
    layer = make(kind, batch_normalize)
    then = make_batchnorm_layer(2, layer.out_w, layer.out_h, layer.out_c)
    for part in (layer, then) if batch_normalize else (then,):
        randomize(part, rng)
    layer.biases[...] = rng.standard_normal(6)
    x = rng.standard_normal((2, layer.inputs)).astype(np.float32)
    expected = outputs(then, outputs(layer, x))
    plain = make(kind, False)
    plain.weights[...], plain.biases[...] = folded_parameters(layer, then)
    assert close(outputs(plain, x), expected)


def test_a_dead_variance_of_zero_folds_as_it_runs() -> None:
    """Darknet's convention divides by 1e-6 there."""
    layer = make("convolutional", True)
    layer.rolling_mean[...], layer.rolling_variance[...], layer.scales[...] = 0.5, 0, 1e-6
    x = np.random.default_rng(4).standard_normal((2, layer.inputs)).astype(np.float32)
    expected = outputs(layer, x)
    plain = make("convolutional", False)
    plain.weights[...], plain.biases[...] = folded_parameters(layer)
    assert close(outputs(plain, x), expected)
