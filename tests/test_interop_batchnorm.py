"""The interfaces of other libraries to batch normalization: against the libraries, and against formulas in float64."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from darkbn.errors import DarkbnError, DtypeError, NonFiniteError, ShapeError, TrainingError, UnsupportedError
from darkbn.interop import cs231n, keras_batchnorm, tf_batchnorm, torch_batchnorm

DEVICES = ("cpu", "reference")
DTYPES = ("float32", "float64")
EPSILON = 1e-3


def tolerance(device: str, dtype: str) -> float:
    return 1e-12 if (device, dtype) == ("reference", "float64") else 1e-5


def close(found: Any, expected: Any, limit: float) -> None:
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=limit * max(1.0, np.abs(expected).max(initial=0)))


class Formulas:
    """Batch normalization and its gradient written out for (N, C) in float64."""

    def __init__(self, x: Any, gamma: Any, beta: Any, epsilon: float) -> None:
        self.x, self.gamma, self.beta = (np.asarray(a, np.float64) for a in (x, gamma, beta))
        self.mean, self.var = self.x.mean(axis=0), ((self.x - self.x.mean(axis=0)) ** 2).mean(axis=0)
        self.root = np.sqrt(self.var + epsilon)
        self.hat = (self.x - self.mean) / self.root

    @property
    def out(self) -> Any:
        return self.gamma * self.hat + self.beta

    def gradients(self, dout: Any) -> tuple[Any, Any, Any]:
        """By the Jacobian of each column, element by element."""
        n, dout = len(self.x), np.asarray(dout, np.float64)
        dx = np.zeros_like(self.x)
        for d in range(self.x.shape[1]):
            hat = self.hat[:, d]
            jacobian = self.gamma[d] / self.root[d] * (np.eye(n) - 1 / n - np.outer(hat, hat) / n)
            dx[:, d] = jacobian @ dout[:, d]
        return dx, (dout * self.hat).sum(axis=0), dout.sum(axis=0)


def rows(dtype: str = "float32", n: int = 6, d: int = 3) -> tuple[Any, ...]:
    rng = np.random.default_rng(0)
    x, dout = rng.standard_normal((2, n, d)) * 2 + 1
    gamma, beta = rng.standard_normal((2, d))
    return tuple(a.astype(dtype) for a in (x, dout, gamma, beta))


def each(function: Callable[..., None]) -> Callable[..., None]:
    function = pytest.mark.parametrize("dtype", DTYPES)(function)
    return pytest.mark.parametrize("device", DEVICES)(function)


# -- CS231n ------------------------------------------------------------------------------------------------------------


@each
def test_cs231n_training(device: str, dtype: str) -> None:
    x, dout, gamma, beta = rows(dtype)
    limit, expected = tolerance(device, dtype), Formulas(x, gamma, beta, 1e-5)
    param: dict[str, Any] = {"mode": "train"}
    out, cache = cs231n.batchnorm_forward(x, gamma, beta, param, device=device)
    assert out.dtype == param["running_mean"].dtype == dtype
    close(out, expected.out, limit)
    close(param["running_mean"], 0.1 * expected.mean, limit)
    close(param["running_var"], 0.1 * expected.var, limit)
    before = dout.copy()
    for backward in (cs231n.batchnorm_backward, cs231n.batchnorm_backward_alt):
        for found, right in zip(backward(dout, cache), expected.gradients(dout), strict=True):
            assert found.dtype == dtype
            close(found, right, limit)
    assert np.array_equal(dout, before)


@each
def test_cs231n_running_averages_and_test_mode(device: str, dtype: str) -> None:
    x, _, gamma, beta = rows(dtype)
    limit, param = tolerance(device, dtype), {"mode": "train", "momentum": 0.7, "eps": 0.01}
    mean, var = np.zeros(3), np.zeros(3)
    for step in range(3):
        given = param.get("running_mean")
        kept = None if given is None else np.array(given)
        cs231n.batchnorm_forward(x * (step + 1), gamma, beta, param, device=device)
        if given is not None:
            assert np.array_equal(given, kept), "the old array is left alone, the dict gets a new one"
        step_mean = (x.astype(float) * (step + 1)).mean(axis=0)
        mean = 0.7 * mean + 0.3 * step_mean
        var = 0.7 * var + 0.3 * (x.astype(float) * (step + 1)).var(axis=0)
    close(param["running_mean"], mean, limit)
    param["mode"] = "test"
    out, cache = cs231n.batchnorm_forward(x[:1], gamma, beta, param, device=device)  # a single row
    close(out, gamma * (x[:1] - mean) / np.sqrt(var + 0.01) + beta, limit)
    close(param["running_var"], var, limit)
    with pytest.raises(DarkbnError, match='mode "test"'):
        cs231n.batchnorm_backward(out, cache)
    with pytest.raises(UnsupportedError, match='must be "train" or "test", found \'eval\''):
        cs231n.batchnorm_forward(x, gamma, beta, {"mode": "eval"})


# -- PyTorch -----------------------------------------------------------------------------------------------------------

SHAPES = [(7, 3), (5, 3, 4), (2, 3, 4, 5), (2, 3, 2, 3, 2), (1, 3, 2)]


def torch() -> Any:
    return pytest.importorskip("torch", exc_type=ImportError)


def tensors(shape: tuple[int, ...], dtype: str) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    c = shape[1]
    arrays = {
        "input": rng.standard_normal(shape) * 1.5 + 0.5,
        "grad": rng.standard_normal(shape),
        "weight": rng.standard_normal(c),
        "bias": rng.standard_normal(c),
        "mean": rng.standard_normal(c),
        "var": rng.uniform(0.5, 2, c),
    }
    return {name: array.astype(dtype) for name, array in arrays.items()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@each
def test_torch(device: str, dtype: str, shape: tuple[int, ...], train: bool, affine: bool) -> None:
    pt, a, limit = torch(), tensors(shape, dtype), tolerance(device, dtype)
    t = {name: pt.tensor(array.astype(np.float64)) for name, array in a.items()}
    weight, bias = (a["weight"], a["bias"]) if affine else (None, None)
    t_weight, t_bias = (t["weight"], t["bias"]) if affine else (None, None)
    expected = pt.native_batch_norm(t["input"], t_weight, t_bias, t["mean"], t["var"], train, 0.3, EPSILON)
    found = torch_batchnorm.native_batch_norm(
        a["input"], weight, bias, a["mean"], a["var"], train, 0.3, EPSILON, device=device
    )
    assert found[0].dtype == dtype
    for ours, theirs in zip((*found, a["mean"], a["var"]), (*expected, t["mean"], t["var"]), strict=True):
        close(ours, theirs, limit)
    for mask in ([True, True, True], [True, False, False], [False, True, False], [False, False, True]):
        arguments = (t["grad"], t["input"], t_weight, t["mean"], t["var"], *expected[1:], train, EPSILON)
        theirs = pt.ops.aten.native_batch_norm_backward(*arguments, mask)
        ours = torch_batchnorm.native_batch_norm_backward(
            a["grad"], a["input"], weight, a["mean"], a["var"], *found[1:], train, EPSILON, mask, device=device
        )
        assert [g is not None for g in ours] == mask
        for one, other in zip(ours, theirs, strict=True):
            if one is not None:
                close(one, other, limit)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("settings", [{}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}])
@each
def test_torch_module(device: str, dtype: str, settings: dict[str, Any]) -> None:
    pt, limit = torch(), tolerance(device, dtype)
    theirs = pt.nn.BatchNorm2d(3, dtype=pt.float64, **settings)
    ours = torch_batchnorm.BatchNorm(3, dtype=dtype, device=device, **settings)
    rng = np.random.default_rng(2)
    for step in range(4):
        if step == 3:
            ours.eval()
            theirs.eval()
        x, grad = rng.standard_normal((2, 4, 3, 2, 5)).astype(dtype)
        t = pt.tensor(x.astype(np.float64), requires_grad=True)
        out = theirs(t)
        close(ours(x), out.detach(), limit)
        out.backward(pt.tensor(grad.astype(np.float64)))
        close(ours.backward(grad), t.grad, limit)
    if ours.weight is not None:
        close(ours.grad_weight, theirs.weight.grad, limit)
        close(ours.grad_bias, theirs.bias.grad, limit)
    if ours.running_mean is not None:
        close(ours.running_mean, theirs.running_mean, limit)
        close(ours.running_var, theirs.running_var, limit)
        assert ours.num_batches_tracked == int(theirs.num_batches_tracked)


@pytest.mark.filterwarnings("ignore")
def test_torch_tensors_are_taken_as_they_are() -> None:
    pt, a = torch(), tensors((4, 3, 2), "float32")
    mean, var = pt.zeros(3), pt.ones(3)
    torch_batchnorm.native_batch_norm(pt.tensor(a["input"]), None, None, mean, var, True)
    close(mean, 0.1 * a["input"].mean(axis=(0, 2)), 1e-6)


@each
def test_torch_backward_into_given_arrays(device: str, dtype: str) -> None:
    x, dout, gamma, beta = rows(dtype)
    limit, expected = tolerance(device, dtype), Formulas(x, gamma, beta, EPSILON)
    saved = expected.mean.astype(dtype), (1 / expected.root).astype(dtype)
    dx, dgamma, dbeta = expected.gradients(dout)
    grad_input, grad_weight, grad_bias = np.full_like(x, np.nan), np.ones(3, dtype), np.ones(3, dtype)
    given = (gamma, None, None, *saved, True, 0.5, EPSILON)
    torch_batchnorm.batch_normalization_backward(x, dout, grad_input, grad_weight, grad_bias, *given, device=device)
    close(grad_input, dx, limit)
    close(grad_weight, 1 + 0.5 * dgamma, limit)
    close(grad_bias, 1 + 0.5 * dbeta, limit)
    torch_batchnorm.batch_normalization_backward(x, dout, None, grad_weight, None, *given, device=device)
    close(grad_weight, 1 + dgamma, limit)
    close(grad_bias, 1 + 0.5 * dbeta, limit)
    mean, var = np.array([0.5, -1, 2], dtype), np.array([1, 4, 0.25], dtype)
    constant = (gamma, mean, var, None, None, False, 2.0, EPSILON)
    grad_weight[...], root = 0, np.sqrt(var.astype(float) + EPSILON)
    torch_batchnorm.batch_normalization_backward(x, dout, grad_input, grad_weight, None, *constant, device=device)
    close(grad_input, gamma.astype(float) / root * dout, limit)
    close(grad_weight, 2 * (dout * ((x.astype(float) - mean) / root)).sum(axis=0), limit)


def test_torch_errors() -> None:
    x = np.ones((2, 3, 4), np.float32)
    with pytest.raises(DarkbnError, match="running_mean and running_var are needed"):
        torch_batchnorm.native_batch_norm(x, None, None, None, None, False)
    with pytest.raises(ShapeError, match="must have 4 channels"):
        torch_batchnorm.BatchNorm(4)(x)
    with pytest.raises(DarkbnError, match="forward pass before"):
        torch_batchnorm.BatchNorm(3).backward(x)
    backward = torch_batchnorm.batch_normalization_backward
    with pytest.raises(DarkbnError, match="save_mean and save_invstd"):
        backward(x, x, x.copy(), None, None, None, None, None, None, None, True, 1, 1e-5)
    with pytest.raises(ShapeError, match="grad_weight must have shape"):
        backward(x, x, None, np.ones(4), None, None, np.ones(3), np.ones(3), None, None, False, 1, 1e-5)
    with pytest.raises(DtypeError, match="grad_bias"):
        backward(x, x, None, None, np.ones(3, int), None, np.ones(3), np.ones(3), None, None, False, 1, 1e-5)


# -- TensorFlow --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 3), (2, 4, 3, 3)])
@each
def test_slim(device: str, dtype: str, shape: tuple[int, ...]) -> None:
    rng, limit = np.random.default_rng(3), tolerance(device, dtype)
    x = (rng.standard_normal(shape) + 1).astype(dtype)
    expected = Formulas(x.reshape(-1, 3), np.ones(3), np.zeros(3), 0.001)
    variables: dict[str, Any] = {}
    out = tf_batchnorm.batch_norm(x, moving_vars=variables, device=device)
    assert out.dtype == dtype
    close(out.reshape(-1, 3), expected.out, limit)
    assert set(variables) == {"beta", "moving_mean", "moving_variance"}
    close(variables["moving_mean"], 0.001 * expected.mean, limit)
    close(variables["moving_variance"], 0.999 + 0.001 * expected.var, limit)
    variables |= {"beta": np.array([1, -2, 0.5], dtype), "gamma": np.array([2, 0.5, -1], dtype)}
    out = tf_batchnorm.batch_norm(x, 0.5, True, True, 0.1, variables, False, "relu", device=device)
    mean, var = (variables[f"moving_{name}"].astype(float) for name in ("mean", "variance"))
    plain = variables["gamma"] * (x.astype(float) - mean) / np.sqrt(var + 0.1) + variables["beta"]
    close(out, np.maximum(plain, 0), limit)
    out = tf_batchnorm.batch_norm(
        x, scale=True, epsilon=0.1, moving_vars=variables, is_training=False, activation=np.tanh, device=device
    )
    close(out, np.tanh(plain), limit)
    plain_out = tf_batchnorm.batch_norm(x, center=False, moving_vars=variables, device=device)  # gamma, beta unused
    close(plain_out.reshape(-1, 3), expected.out, limit)
    with pytest.raises(UnsupportedError, match="silu"):
        tf_batchnorm.batch_norm(x, moving_vars={}, activation="silu")


@pytest.mark.parametrize("kept", [(3,), (1, 1, 1, 3), (2, 1, 1, 3), (1, 4, 5, 3), (2, 4, 5, 3), (1, 4, 1, 1), (1,) * 4])
@each
def test_low_level_batch_normalization(device: str, dtype: str, kept: tuple[int, ...]) -> None:
    rng, limit = np.random.default_rng(4), tolerance(device, dtype)
    x = rng.standard_normal((2, 4, 5, 3)).astype(dtype)
    mean, offset, scale = rng.standard_normal((3, *kept)).astype(dtype)
    variance = rng.uniform(0.5, 2, kept).astype(dtype)
    root = np.sqrt(variance.astype(float) + EPSILON)
    for o, s in ((offset, scale), (None, scale), (offset, None), (None, None)):
        out = tf_batchnorm.batch_normalization(x, mean, variance, o, s, EPSILON, device=device)
        assert out.dtype == dtype
        assert out.flags.c_contiguous
        expected = (x.astype(float) - mean) / root * (1 if s is None else s) + (0 if o is None else o)
        close(out, expected, limit)
    per_channel = rng.standard_normal(3).astype(dtype)
    out = tf_batchnorm.batch_normalization(x, mean, variance, per_channel, None, EPSILON, device=device)
    close(out, (x.astype(float) - mean) / root + per_channel, limit)


@pytest.mark.parametrize("shape", [(4,), (2, 3), (2, 1, 1, 3), (3, 1)])
def test_low_level_shapes_that_do_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"mean must have shape \(3,\), or the 3 axes of x"):
        tf_batchnorm.batch_normalization(np.ones((2, 4, 3)), np.ones(shape), np.ones(3), None, None, 0.1)
    with pytest.raises(ShapeError, match=r"x must have shape"):
        tf_batchnorm.batch_normalization(np.float32(1), np.ones(1), np.ones(1), None, None, 0.1)


# -- Keras -------------------------------------------------------------------------------------------------------------


def keras() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    torch()
    found = pytest.importorskip("keras", minversion="3.0", exc_type=ImportError)
    if found.backend.backend() != "torch":
        pytest.skip("Keras runs on another backend")
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((6, 3), {}),
        ((2, 4, 5, 3), {"momentum": 0.8, "epsilon": 0.02}),
        ((2, 3, 4, 5), {"axis": 1, "scale": False}),
        ((2, 4, 3, 5), {"axis": 2, "center": False}),
        ((3, 6), {"axis": 0, "center": False, "scale": False}),
    ],
)
@pytest.mark.parametrize("device", DEVICES)
def test_keras(device: str, shape: tuple[int, ...], settings: dict[str, Any], training: bool) -> None:
    k, pt = keras(), torch()
    theirs = k.layers.BatchNormalization(dtype="float64", **settings)
    ours = keras_batchnorm.BatchNormalization(dtype="float64", device=device, **settings)
    limit, rng = 1e-5, np.random.default_rng(5)  # Keras computes in float32
    x, gradient = rng.standard_normal((2, *shape))
    theirs.build(shape)
    weights = [rng.uniform(0.5, 2, 3) for _ in theirs.get_weights()]
    theirs.set_weights(weights)
    ours.set_weights(weights)
    for _ in range(2):
        t = pt.tensor(x, requires_grad=True)
        for variable in theirs.trainable_variables:
            variable.value.grad = None
        out = theirs(t, training=training)
        out.backward(pt.tensor(gradient))
        close(ours(x, training=training), out.detach(), limit)
        close(ours.backward(gradient), t.grad, limit)
        for name in ("gamma", "beta"):
            variable, found = getattr(theirs, name), getattr(ours, f"{name}_gradient")
            assert (variable is None) is (found is None)
            if variable is not None:
                close(found, variable.value.grad, limit)
    for own, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        close(own, other, limit)


def test_keras_starts_like_keras() -> None:
    layer = keras_batchnorm.BatchNormalization()
    x, dout, _, _ = rows()
    expected = Formulas(x, np.ones(3), np.zeros(3), 1e-3)
    close(layer(x, training=True), expected.out, 1e-5)
    close(layer.moving_variance, 0.99 + 0.01 * expected.var, 1e-6)
    close(layer.backward(dout), expected.gradients(dout)[0], 1e-5)
    assert [w.shape for w in layer.get_weights()] == [(3,)] * 4
    with pytest.raises(ShapeError, match="expected 4 arrays"):
        layer.set_weights([np.ones(3)] * 3)
    with pytest.raises(DarkbnError, match="a call before"):
        keras_batchnorm.BatchNormalization().backward(dout)
    with pytest.raises(ShapeError, match="one value for each channel"):
        layer(np.ones((2, 4), np.float32))


# -- bad input ---------------------------------------------------------------------------------------------------------


def with_value(x: np.ndarray, value: float) -> np.ndarray:
    x = x.copy()
    x.reshape(-1)[4] = value
    return x


def calls(device: str) -> dict[str, Callable[..., Any]]:
    """A training pass of every interface over x (N, C) with parameters of the given length."""
    ones = np.ones
    return {
        "cs231n": lambda x, c: cs231n.batchnorm_forward(x, ones(c), ones(c), {"mode": "train"}, device=device),
        "torch": lambda x, c: torch_batchnorm.native_batch_norm(x, ones(c), ones(c), None, None, True, device=device),
        "slim": lambda x, c: tf_batchnorm.batch_norm(x, moving_vars={"beta": ones(c)}, device=device),
        "keras": lambda x, c: keras_layer(c, device)(x, training=True),
    }


def keras_layer(channels: int, device: str) -> keras_batchnorm.BatchNormalization:
    layer = keras_batchnorm.BatchNormalization(device=device)
    layer.build(channels)
    return layer


BAD: dict[str, tuple[Callable[[np.ndarray], Any], int, type[Exception], str]] = {
    "rank": (lambda x: x[0], 3, ShapeError, "must have shape"),
    "integers": (lambda x: x.astype(int), 3, DtypeError, "must be of float32 or float64, found int64"),
    "half": (lambda x: x.astype(np.float16), 3, DtypeError, "must be of float32 or float64, found float16"),
    "list": (lambda x: x.tolist(), 3, DtypeError, "must be an array of float32 or float64, found list"),
    "no rows": (lambda x: x[:0], 3, ShapeError, "has no values"),
    "NaN": (lambda x: with_value(x, np.nan), 3, NonFiniteError, r"holds nan at \(1, 1\)"),
    "infinity": (lambda x: with_value(x, -np.inf), 3, NonFiniteError, r"holds -inf at \(1, 1\)"),
    "channels": (lambda x: x, 4, ShapeError, r"must have shape \(3,\), one value for each channel, found \(4,\)"),
    "one row": (lambda x: x[:1], 3, TrainingError, "one value per channel"),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("interface", ["cs231n", "torch", "slim", "keras"])
def test_bad_input(interface: str, bad: str) -> None:
    spoil, channels, error, match = BAD[bad]
    x = spoil(rows()[0])
    messages = []
    for device in DEVICES:
        with pytest.raises(error, match=match) as caught:
            calls(device)[interface](x, channels)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("device", DEVICES)
def test_arrays_in_any_order_are_taken(device: str) -> None:
    x, _, gamma, beta = rows()
    for other in (np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2]):
        assert np.array_equal(
            cs231n.batchnorm_forward(other, gamma, beta, {"mode": "train"}, device=device)[0],
            cs231n.batchnorm_forward(x, gamma, beta, {"mode": "train"}, device=device)[0],
        )


def test_negative_variances() -> None:
    x = rows()[0]
    with pytest.raises(NonFiniteError, match="running_var must not be below 0, found -1"):
        torch_batchnorm.native_batch_norm(x, None, None, np.zeros(3), np.array([1.0, -1.0, 1.0]), False)
