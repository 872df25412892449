"""Conventions of batch normalization: what they say, and that the kernels do it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from darkbn.backend import get_backend
from darkbn.conventions import CONVENTIONS, BatchNormConvention, get_convention
from darkbn.errors import TrainingError, UnsupportedError
from darkbn.layers.batchnorm import make_batchnorm_layer
from darkbn.state import NetworkState, UpdateArgs

SHAPE = (3, 2, 1, 5)
EXACT = [name for name, convention in CONVENTIONS.items() if convention.gradient is None]


def test_names() -> None:
    assert list(CONVENTIONS) == [c.name for c in CONVENTIONS.values()]
    assert get_convention("pytorch") is get_convention(CONVENTIONS["pytorch"])
    with pytest.raises(UnsupportedError, match="did you mean 'alexeyab-gpu'"):
        get_convention("alexeyab_gpu")


def test_connected_layers() -> None:
    cpu = get_convention("alexeyab-cpu")
    assert (cpu.rolling_decay, cpu.trains_biases) == (0.9, False)
    assert (cpu.for_connected().rolling_decay, cpu.for_connected().trains_biases) == (0.95, True)
    assert cpu.for_connected().for_connected() == cpu.for_connected()
    assert get_convention("darknet").for_connected() is get_convention("darknet")


def test_roots() -> None:
    assert get_convention("darknet").inverse_root(4.0) == 1 / (2 + 1e-6)
    assert get_convention("darknet-gpu").inverse_root(4.0) == (4 + 1e-5) ** -0.5


def run(name: str, x: np.ndarray, delta: np.ndarray | None = None, backend: str = "reference") -> tuple:
    """Layer, state and the sum of output * delta after a training pass with random scales and biases."""
    l = make_batchnorm_layer(
        x.shape[0], x.shape[3], x.shape[2], x.shape[1], backend=get_backend(backend), convention=get_convention(name)
    )
    l.scales[...], l.biases[...] = [1.5, -0.7][: x.shape[1]], [0.3, 0.2][: x.shape[1]]
    net = NetworkState(input=l.backend.array(x), delta=l.backend.zeros(x.shape), train=True)
    l.forward(net)
    if delta is not None:
        l.delta[...] = delta
    return l, net, 0.0 if delta is None else float((l.output * delta).sum())


def slope(name: str, x: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """Finite differences of sum(output * delta)."""
    found = np.empty_like(x)
    for place in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[place] = 1e-5
        found[place] = (run(name, x + step, delta)[2] - run(name, x - step, delta)[2]) / 2e-5
    return found


def backward(name: str, x: np.ndarray, delta: np.ndarray) -> tuple:
    l, net, _ = run(name, x, delta)
    l.backward(net)
    return l, net.delta


@pytest.mark.parametrize("name", EXACT)
def test_exact_gradients(name: str) -> None:
    rng = np.random.default_rng(0)
    x, delta = rng.standard_normal((2, *SHAPE))
    l, found = backward(name, x, delta)
    np.testing.assert_allclose(found, slope(name, x, delta), atol=1e-8)
    np.testing.assert_allclose(l.bias_updates, delta.sum(axis=(0, 2, 3)))
    if get_convention(name).trains_scales:
        np.testing.assert_allclose(l.scale_updates, (delta * l.x_norm).sum(axis=(0, 2, 3)))
    else:
        assert not l.scale_updates.any()


@pytest.mark.parametrize(("batch", "error"), [(1, 0.15), (20, 0.005)])
def test_darknets_gradient_is_not_exact(batch: int, error: float) -> None:
    """Forward divides the variance by N - 1, backward differentiates as if by N: 1/N remains."""
    rng = np.random.default_rng(1)
    x, delta = rng.standard_normal((2, batch, 2, 1, 5))
    _, found = backward("darknet", x, delta)
    expected = slope("darknet", x, delta)
    worst = np.abs(found - expected).max() / np.abs(expected).max()
    assert error / 10 < worst < error


def test_biases_that_do_not_train() -> None:
    x, delta = np.random.default_rng(2).standard_normal((2, *SHAPE))
    l, _ = backward("alexeyab-cpu", x, delta)
    assert not l.bias_updates.any()
    assert l.scale_updates.all()


@pytest.mark.parametrize("name", CONVENTIONS)
def test_rolling_statistics(name: str) -> None:
    x = np.random.default_rng(3).standard_normal(SHAPE)
    convention = get_convention(name)
    l, _, _ = run(name, x)
    keep, start = convention.rolling_decay, convention.initial_rolling_variance
    axes = (0, 2, 3)
    np.testing.assert_allclose(l.rolling_mean, (1 - keep) * x.mean(axis=axes))
    expected = keep * start + (1 - keep) * x.var(axis=axes, ddof=convention.rolling_ddof)
    np.testing.assert_allclose(l.rolling_variance, expected)
    np.testing.assert_allclose(l.variance, x.var(axis=axes, ddof=convention.ddof))


def test_a_convention_of_ones_own() -> None:
    own = dataclasses.replace(get_convention("pytorch"), name="own", rolling_decay=0.5, epsilon=0.25)
    assert isinstance(own, BatchNormConvention)
    assert own.gradient_constants().epsilon == 0.25
    l = make_batchnorm_layer(2, 1, 1, 1, convention=own)
    l.forward(NetworkState(input=np.array([[[[1.0]]], [[[3.0]]]], np.float32), train=True))
    np.testing.assert_allclose(l.rolling_mean, [1.0])
    np.testing.assert_allclose(l.output.reshape(-1), np.array([-1, 1]) / np.sqrt(1.25), rtol=1e-6)


@pytest.mark.parametrize("shape", [(8, 3, 13, 13), (64, 5, 1, 1), (16, 3, 2, 2), (2, 1, 64, 64)])
def test_variance_far_from_zero(shape: tuple[int, ...]) -> None:
    """Mean 1000, deviation 0.01: what float32 leaves of the values is measured to 1e-6."""
    x = (1000 + 0.01 * np.random.default_rng(4).standard_normal(shape)).astype(np.float32)
    l = make_batchnorm_layer(shape[0], shape[3], shape[2], shape[1])
    l.forward(NetworkState(input=x, train=True))
    exact = x.astype(np.float64)
    np.testing.assert_allclose(l.variance, exact.var(axis=(0, 2, 3), ddof=1), rtol=1e-6)
    centered = exact - exact.mean(axis=(0, 2, 3), keepdims=True)
    expected = centered / (exact.std(axis=(0, 2, 3), ddof=1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(l.output, expected, atol=1e-5)


def test_one_value_per_channel() -> None:
    l = make_batchnorm_layer(1, 1, 1, 3)
    with pytest.raises(TrainingError, match="one value per channel"):
        l.forward(NetworkState(input=np.ones((1, 3, 1, 1), np.float32), train=True))
    assert not l.rolling_mean.any()


def test_update_and_inference() -> None:
    x, delta = np.random.default_rng(5).standard_normal((2, *SHAPE))
    l, _ = backward("darknet", x, delta)
    scales, updates = l.scales.copy(), l.scale_updates.copy()
    l.update(UpdateArgs(learning_rate=0.1, momentum=0.9, decay=0.5, batch=3))
    np.testing.assert_allclose(l.scales, scales + 0.1 / 3 * updates)
    np.testing.assert_allclose(l.scale_updates, 0.9 * updates)
    l.forward(NetworkState(input=x))
    root = np.sqrt(l.rolling_variance) + 1e-6
    by_channel = (1, -1, 1, 1)
    expected = (x - l.rolling_mean.reshape(by_channel)) / root.reshape(by_channel) * l.scales.reshape(by_channel)
    np.testing.assert_allclose(l.output, expected + l.biases.reshape(by_channel))


#: decay, N - ddof, rolled N - ddof, epsilon, outside, start of the variance; and of the gradient: epsilon of the first
#: term, outside, epsilon of the statistics, N - ddof. As in the sources, not as in darkbn.
VALUES = {
    "darknet": (0.99, 1, 1, 1e-6, True, 0, 1e-5, False, 1e-5, 0),
    "darknet-gpu": (0.99, 1, 1, 1e-5, False, 0, 1e-5, False, 1e-5, 0),
    "alexeyab-cpu": (0.9, 1, 1, 1e-5, False, 0, 1e-5, True, 1e-5, 0),
    "alexeyab-gpu": (0.99, 0, 0, 1e-5, False, 0, 1e-6, True, 1e-6, 0),
    "cudnn": (0.99, 0, 1, 1e-5, False, 0, 1e-5, False, 1e-5, 0),
    "pytorch": (0.9, 0, 1, 1e-5, False, 1, 1e-5, False, 1e-5, 0),
    "keras": (0.99, 0, 0, 1e-3, False, 1, 1e-3, False, 1e-3, 0),
    "tf-slim": (0.999, 0, 0, 1e-3, False, 1, 1e-3, False, 1e-3, 0),
    "cs231n": (0.9, 0, 0, 1e-5, False, 0, 1e-5, False, 1e-5, 0),
    "exact": (0.99, 1, 1, 1e-6, True, 0, 1e-6, True, 1e-6, 1),
}


def test_values() -> None:
    found = {}
    for name, c in CONVENTIONS.items():
        g = c.gradient_constants()
        assert g.statistics_epsilon_outside is (name == "exact")
        forward = (c.rolling_decay, c.ddof, c.rolling_ddof, c.epsilon, c.epsilon_outside, c.initial_rolling_variance)
        found[name] = (*forward, g.epsilon, g.epsilon_outside, g.statistics_epsilon, g.ddof)
    assert found == VALUES
    assert {name for name, c in CONVENTIONS.items() if not c.trains_biases} == {"alexeyab-cpu"}
    assert {name for name, c in CONVENTIONS.items() if not c.trains_scales} == {"tf-slim"}
