"""Bad input to batch normalization: the same error on every backend, and nothing changed by it.

The interfaces of other libraries have theirs in test_interop_batchnorm.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from darkbn.backend import get_backend
from darkbn.errors import CfgError, DtypeError, NonFiniteError, ShapeError, TrainingError
from darkbn.layers.batchnorm import BatchnormLayer, make_batchnorm_layer
from darkbn.layers.convolutional import make_convolutional_layer
from darkbn.state import NetworkState

BACKENDS = ("cpu", "reference")
KEPT = ("rolling_mean", "rolling_variance", "scale_updates", "bias_updates", "scales", "biases")


def layer(backend: str, batch: int = 3, h: int = 4, w: int = 5) -> tuple[BatchnormLayer, Any]:
    l = make_batchnorm_layer(batch, w, h, 2, backend=get_backend(backend))
    x = np.random.default_rng(0).standard_normal((batch, 2, h, w))
    return l, l.backend.array(x)


def spoiled(x: Any, value: float) -> Any:
    x = x.copy()
    x[1, 1, 2, 3] = value
    return x


INPUTS: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "rank": (lambda x: x.reshape(-1), ShapeError, r"the input must have shape \(3, 2, 4, 5\), found \(120,\)"),
    "batch": (lambda x: x[:2], ShapeError, r"found \(2, 2, 4, 5\)"),
    "no batch": (lambda x: x[:0], ShapeError, r"found \(0, 2, 4, 5\)"),
    "channels": (lambda x: np.concatenate([x, x], axis=1), ShapeError, r"found \(3, 4, 4, 5\)"),
    "order": (lambda x: np.asfortranarray(x), ShapeError, "must be C-contiguous"),
    "steps": (lambda x: np.repeat(x, 2, axis=3)[..., ::2], ShapeError, "must be C-contiguous"),
    "half": (lambda x: x.astype(np.float16), DtypeError, "must be of FLOAT, found float16"),
    "integers": (lambda x: x.astype(np.int32), DtypeError, "must be of FLOAT, found int32"),
    "list": (lambda x: x.tolist(), DtypeError, "must be an array of FLOAT, found list"),
    "nothing": (lambda x: None, DtypeError, "found NoneType"),
}


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("bad", INPUTS)
def test_inputs_of_a_layer(bad: str, train: bool) -> None:
    spoil, error, match = INPUTS[bad]
    messages = []
    for backend in BACKENDS:
        l, x = layer(backend)
        with pytest.raises(error) as caught:
            l.forward(NetworkState(input=spoil(x), train=train))
        messages.append(str(caught.value).replace(l.backend.dtype, "FLOAT"))
        assert not l.rolling_mean.any()
    assert re.search(match, messages[0])
    assert messages[0].startswith("layer 0 [batchnorm]: the input")
    assert messages[0] == messages[1]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(value: float) -> None:
    messages = []
    for backend in BACKENDS:
        l, x = layer(backend)
        net = NetworkState(input=x, delta=np.zeros_like(x), train=True)
        l.forward(net)
        l.delta[...] = 1
        l.backward(net)
        before = {name: getattr(l, name).copy() for name in KEPT}
        with pytest.raises(NonFiniteError) as caught, np.errstate(invalid="ignore"):
            l.forward(NetworkState(input=spoiled(x, value), train=True))
        messages.append(str(caught.value))
        assert (caught.value.layer, caught.value.type, caught.value.array) == (0, "batchnorm", "x")
        l.forward(NetworkState(input=x, train=True))
        before |= {name: getattr(l, name).copy() for name in KEPT[:2]}
        l.delta[...] = spoiled(x, value)
        with pytest.raises(NonFiniteError) as caught, np.errstate(invalid="ignore"):
            l.backward(net)
        messages.append(str(caught.value))
        for name in KEPT:
            assert np.array_equal(getattr(l, name), before[name]), name
    where = "layer 0 [batchnorm] batch normalization: NaN or infinity in channel 1 of"
    assert messages == [f"{where} x", f"{where} delta"] * 2


def test_values_that_are_not_finite_inside_another_layer() -> None:
    for backend in BACKENDS:
        l = make_convolutional_layer(2, 3, 3, 1, 2, 1, 1, 1, 0, "linear", True, backend=get_backend(backend), seed=0)
        x = l.backend.array(np.ones((2, 1, 3, 3)))
        x[0, 0, 1, 1] = np.nan
        with pytest.raises(NonFiniteError, match=r"layer 0 \[convolutional\] batch normalization: .* channel 0 of x"):
            l.forward(NetworkState(input=x, train=True))
        assert not l.rolling_variance.any()
        l.forward(NetworkState(input=x, train=True, check_finite=False))  # as a network with a guard of its own does
        assert np.isnan(l.rolling_variance).all()


def test_sizes_without_meaning() -> None:
    messages = []
    for backend in BACKENDS:
        l, x = layer(backend, batch=1, h=1, w=1)
        with pytest.raises(TrainingError) as caught:
            l.forward(NetworkState(input=x, train=True))
        messages.append(str(caught.value))
        l.forward(NetworkState(input=x))
        with pytest.raises(CfgError) as empty:
            make_batchnorm_layer(0, 5, 4, 2, backend=get_backend(backend))
        messages.append(str(empty.value))
    assert messages[:2] == messages[2:]
    assert "one value per channel (batch 1, 1 positions)" in messages[0]
    assert "batch must be at least 1, found 0" in messages[1]


def arguments(backend: str) -> dict[str, Any]:
    """A right call of batchnorm.forward_train."""
    b = get_backend(backend)
    channels = {name: b.zeros((2,)) for name in ("mean", "variance", "rolling_mean", "rolling_variance")}
    scalars = {
        "rolling_decay": 0.9,
        "ddof": 1,
        "rolling_ddof": 1,
        "epsilon": 1e-5,
        "epsilon_outside": 0,
        "activation": 9,
        "threads": 1,
    }
    x, out = b.array(np.ones((3, 2, 20))), b.zeros((3, 2, 20))
    return {"x": x, "out": out, **channels, "scales": b.zeros((2,)), "biases": b.zeros((2,)), **scalars}


KERNEL: dict[str, tuple[str, Callable[[Any], Any], type[Exception], str]] = {
    "rank": ("x", lambda a: a.reshape(3, 40), ShapeError, r"x must have shape \(b, c, s\), found \(3, 40\)"),
    "shape": ("out", lambda a: a[:, :, :19].copy(), ShapeError, r"axis 2 of out \(s\) must be 20, as in x, found 19"),
    "channels": ("scales", lambda a: np.zeros(3, a.dtype), ShapeError, r"axis 0 of scales \(c\) must be 2, as in x"),
    "order": ("x", lambda a: np.asfortranarray(a), ShapeError, "x of shape .* must be C-contiguous"),
    "dtype": ("biases", lambda a: a.astype(np.int64), DtypeError, "biases must be of FLOAT, found int64"),
    "list": ("x", lambda a: a.tolist(), DtypeError, "x must be an array of FLOAT, found list"),
}


@pytest.mark.parametrize("bad", KERNEL)
def test_arguments_of_a_kernel(bad: str) -> None:
    name, spoil, error, match = KERNEL[bad]
    messages = []
    for backend in BACKENDS:
        given = arguments(backend)
        given[name] = spoil(given[name])
        with pytest.raises(error) as caught:
            get_backend(backend).batchnorm.forward_train(**given)
        messages.append(str(caught.value).replace(get_backend(backend).dtype, "FLOAT"))
        assert not given["rolling_variance"].any()
    assert re.search(f"batchnorm.forward_train: {match}", messages[0])
    assert messages[0] == messages[1]
