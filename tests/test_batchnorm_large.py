"""Batch normalization of arrays that are written past the caches: too large for the table of cases."""

from __future__ import annotations

import numpy as np
import pytest

from darkbn.activations import Activation
from darkbn.backend import get_backend

#: Just above 16 MiB; rows end in the middle of a cache line.
SHAPE = (3, 41, 34217)
GUARD = 67


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(SHAPE, dtype=np.float32) * 2 + 1


def guarded(start: int) -> tuple[np.ndarray, np.ndarray]:
    """An array of SHAPE that begins `start` floats into a buffer of NaN, and the buffer."""
    buffer = np.full(int(np.prod(SHAPE)) + start + GUARD, np.nan, np.float32)
    return buffer[start:-GUARD].reshape(SHAPE), buffer


def parameters() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    names = ("mean", "variance", "rolling_mean", "rolling_variance", "scales", "biases")
    return {name: rng.uniform(0.5, 2, SHAPE[1]).astype(np.float32) for name in names}


def train(x: np.ndarray, out: np.ndarray, threads: int) -> dict[str, np.ndarray]:
    p = parameters()
    get_backend("cpu").batchnorm.forward_train(x, out, *p.values(), 0.99, 1, 1, 1e-5, 0, Activation.LINEAR, threads)
    return p


def test_streamed_results_are_the_ordinary_ones(x: np.ndarray) -> None:
    """In place nothing is streamed: the same bits, wherever the array begins and however many threads work."""
    expected = x.copy()
    statistics = train(expected, expected, 1)
    for start, threads in ((5, 1), (16, 2), (31, 3)):
        out, buffer = guarded(start)
        found = train(x, out, threads)
        assert np.array_equal(out, expected)
        assert all(np.array_equal(found[name], statistics[name]) for name in statistics)
        assert np.isnan(buffer[:start]).all()
        assert np.isnan(buffer[-GUARD:]).all()


def test_streamed_values_are_right(x: np.ndarray) -> None:
    out, _ = guarded(3)
    p = train(x, out, 2)
    for channel in (0, 17, 40):
        values = x[:, channel].astype(np.float64)
        mean, variance = values.mean(), values.var(ddof=1)
        normal = (values - mean) / np.sqrt(variance + 1e-5) * p["scales"][channel] + p["biases"][channel]
        assert np.abs(out[:, channel] - normal).max() < 3e-6
        assert abs(p["mean"][channel] - mean) < 3e-7 * abs(mean)
        assert abs(p["variance"][channel] - variance) < 1e-6 * variance


def test_streamed_inference(x: np.ndarray) -> None:
    p = parameters()
    out, _ = guarded(7)
    given = (p["mean"], p["variance"], p["scales"], p["biases"], 1e-5, 0)
    get_backend("cpu").batchnorm.forward(x, out, *given, 2)
    expected = x.copy()
    get_backend("cpu").batchnorm.forward(expected, expected, *given, 1)
    assert np.array_equal(out, expected)


@pytest.mark.parametrize("shape", [(16, 4, 52, 52), (128, 32, 1, 1)])
def test_variance_far_from_zero(shape: tuple[int, ...]) -> None:
    """Mean 1000, deviation 0.01: the variance keeps four digits (float32 itself rounds x to 6e-5)."""
    rng = np.random.default_rng(2)
    far = (1000 + 1e-2 * rng.standard_normal((*shape[:2], shape[2] * shape[3]))).astype(np.float32)
    n = shape[1]
    mean, variance, one = np.zeros(n, np.float32), np.zeros(n, np.float32), np.ones(n, np.float32)
    rolling = np.zeros(n, np.float32), np.zeros(n, np.float32)
    get_backend("cpu").batchnorm.forward_train(
        far, np.empty_like(far), mean, variance, *rolling, one, one, 0.9, 0, 1, 1e-5, 0, Activation.LINEAR, 2
    )
    exact = far.astype(np.float64).var(axis=(0, 2))
    assert np.abs(variance / exact - 1).max() < 1e-4
