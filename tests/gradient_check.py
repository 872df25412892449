"""Gradients by finite differences, on the reference backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import darkbn

STEP = 1e-5


def differences(function: Callable[[], float], array: np.ndarray, limit: int = 12) -> Iterator[tuple[int, float]]:
    """Central differences of a function by elements of an array, spread over it: (flat index, derivative)."""
    flat = array.reshape(-1)
    for index in range(0, flat.size, max(1, flat.size // limit)):
        value = flat[index]
        flat[index] = value + STEP
        above = function()
        flat[index] = value - STEP
        below = function()
        flat[index] = value
        yield index, (above - below) / (2 * STEP)


def check_gradients(
    cfg: str, dialect: str, seed: int = 0, x: Any = None, tolerance: float = 1e-6, batchnorm: str = "exact"
) -> None:
    """Compare input_delta and all updates of a network with the differences of sum(delta * output).

    Args:
        cfg: the network; its last layer has no loss.
        dialect: of the network.
        seed: of the parameters, the input and delta; random layers draw the same in every pass.
        x: input; random by default.
        tolerance: largest error relative to the largest derivative of an array.
        batchnorm: convention of batch normalization; one whose gradient is the derivative.
    """
    net = darkbn.load(cfg, dialect=dialect, device="reference", train=True, batchnorm=batchnorm, seed=seed)
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(net.input_shape) if x is None else np.array(x, np.float64).reshape(net.input_shape)
    for layer in net.layers:
        for name in ("biases", "scales", "weights"):  # away from where they start alike
            if hasattr(layer, name):
                getattr(layer, name)[...] += 0.1 * rng.standard_normal(getattr(layer, name).shape)
    net.forward(x, train=True)
    delta = rng.standard_normal(net.layers[-1].output.shape)

    def total() -> float:
        net._state.rng = np.random.default_rng(seed)
        net.forward(x, train=True)
        return float((delta * net.layers[-1].output).sum())

    total()
    net.layers[-1].delta[...] = delta
    net.backward()
    found = {"input_delta": (x, net.input_delta.copy())}
    for index, layer in enumerate(net.layers):
        for parameter, updates in (
            ("weights", "weight_updates"),
            ("biases", "bias_updates"),
            ("scales", "scale_updates"),
        ):
            if getattr(layer, updates, None) is not None:
                found[f"{updates} of layer {index}"] = (getattr(layer, parameter), getattr(layer, updates).copy())
    for name, (array, gradient) in found.items():
        pairs = [(gradient.reshape(-1)[index], slope) for index, slope in differences(total, array)]
        computed, expected = np.array(pairs).T
        scale = np.abs(expected).max(initial=1e-3)
        error = np.abs(computed - expected).max() / scale
        assert error < tolerance, f"{name}: error {error:.3g} of {scale:.3g}"
