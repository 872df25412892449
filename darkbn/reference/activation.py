"""Activation functions and their gradients.

`kind` is a code of `darkbn.activations.Activation`. A gradient is a function of `values`: the input for the
kinds of `darkbn.activations.needs_input`, the output for the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np

from darkbn.activations import Activation
from darkbn.signature import Array

_CHANNEL_EPSILON = 1e-4
_SELU_SCALE, _SELU_ALPHA = 1.0507, 1.6732
_GELU_LINEAR, _GELU_CUBIC = 0.797885, 0.035677


def _logistic(x: Array) -> Any:
    """1 / (1 + exp(-x)), without overflow."""
    return np.exp(-np.logaddexp(0, -x))


def _finite_below(x: Array) -> Any:
    """x, but not -infinity: x times a tail that vanishes there has the limit 0."""
    return np.maximum(x, -1e4)


def _finite(x: Array) -> Any:
    return np.clip(x, -1e4, 1e4)


def _mish_fraction(x: Array) -> Any:
    return np.tanh(np.logaddexp(0, x))


def _stair(x: Array) -> Any:
    below, step = np.floor(x), np.floor(x / 2)
    return np.where(2 * step == below, step, (x - below) + step)


def _gelu_logistic(x: Array) -> Any:
    return _logistic(2 * x * (_GELU_LINEAR + _GELU_CUBIC * x**2))


def _mish_gradient(x: Array) -> Any:
    fraction = _mish_fraction(x)
    return fraction + _finite(x) * (1 - fraction**2) * _logistic(x)


def _swish_gradient(x: Array) -> Any:
    s = _logistic(x)
    return s + _finite(x) * s * (1 - s)


def _gelu_gradient(x: Array) -> Any:
    x = _finite(x)
    s = _gelu_logistic(x)
    return s + 2 * x * s * (1 - s) * (_GELU_LINEAR + 3 * _GELU_CUBIC * x**2)


_FORWARD: dict[int, Callable[[Array], Any]] = {
    Activation.LOGISTIC: _logistic,
    Activation.LOGGY: lambda x: np.tanh(x / 2),
    Activation.RELU: lambda x: np.maximum(x, 0),
    Activation.ELU: lambda x: np.where(x >= 0, x, np.expm1(np.minimum(x, 0))),
    Activation.SELU: lambda x: _SELU_SCALE * np.where(x >= 0, x, _SELU_ALPHA * np.expm1(np.minimum(x, 0))),
    Activation.RELIE: lambda x: np.where(x > 0, x, 0.01 * x),
    Activation.PLSE: lambda x: np.where(x < -4, 0.01 * (x + 4), np.where(x > 4, 0.01 * (x - 4) + 1, 0.125 * x + 0.5)),
    Activation.HARDTAN: lambda x: np.clip(x, -1, 1),
    Activation.LHTAN: lambda x: np.where(x < 0, 0.001 * x, np.where(x > 1, 0.001 * (x - 1) + 1, x)),
    Activation.LINEAR: lambda x: x,
    Activation.RAMP: lambda x: np.maximum(x, 0) + 0.1 * x,
    Activation.LEAKY: lambda x: np.where(x > 0, x, 0.1 * x),
    Activation.TANH: np.tanh,
    Activation.STAIR: _stair,
    Activation.SWISH: lambda x: _finite_below(x) * _logistic(x),
    Activation.MISH: lambda x: _finite_below(x) * _mish_fraction(x),
    Activation.HARD_MISH: lambda x: np.where(x > 0, x, np.clip(x, -2, 0) * (np.clip(x, -2, 0) / 2 + 1)),
    Activation.RELU6: lambda x: np.clip(x, 0, 6),
    Activation.GELU: lambda x: _finite_below(x) * _gelu_logistic(_finite_below(x)),
    Activation.REVLEAKY: lambda x: np.where(x > 0, x, 0.1 * x),
}

_GRADIENT: dict[int, Callable[[Array], Any]] = {
    Activation.LOGISTIC: lambda y: (1 - y) * y,
    Activation.LOGGY: lambda y: (1 - y) * (1 + y) / 2,
    Activation.RELU: lambda y: y > 0,
    Activation.ELU: lambda y: np.where(y >= 0, 1, y + 1),
    Activation.SELU: lambda y: np.where(y >= 0, _SELU_SCALE, y + _SELU_SCALE * _SELU_ALPHA),
    Activation.RELIE: lambda y: np.where(y > 0, 1, 0.01),
    Activation.PLSE: lambda y: np.where((y < 0) | (y > 1), 0.01, 0.125),
    Activation.HARDTAN: lambda y: (y > -1) & (y < 1),
    Activation.LHTAN: lambda y: np.where((y > 0) & (y < 1), 1, 0.001),
    Activation.LINEAR: lambda y: 1.0,
    Activation.RAMP: lambda y: (y > 0) + 0.1,
    Activation.LEAKY: lambda y: np.where(y > 0, 1, 0.1),
    Activation.TANH: lambda y: (1 - y) * (1 + y),
    Activation.STAIR: lambda y: np.floor(y) != y,
    Activation.SWISH: _swish_gradient,
    Activation.MISH: _mish_gradient,
    Activation.HARD_MISH: lambda x: np.where(x <= -2, 0, np.where(x > 0, 1, x + 1)),
    Activation.RELU6: lambda y: (y > 0) & (y < 6),
    Activation.GELU: _gelu_gradient,
    Activation.REVLEAKY: lambda y: np.where(y > 0, 1, 0.1),
}


def forward(x: Annotated[Array, "io *s"], kind: int, threads: int) -> None:
    """x = activation(x), for the kinds that work on single values."""
    x[...] = _FORWARD[kind](x)


def forward_to(x: Annotated[Array, "in *s"], out: Annotated[Array, "out *s"], kind: int, threads: int) -> None:
    """out = activation(x), for the kinds that work on single values. `out` may be `x`."""
    out[...] = _FORWARD[kind](x)


def forward_saved(x: Annotated[Array, "io *s"], saved: Annotated[Array, "out *s"], kind: int, threads: int) -> None:
    """saved = x, then x = activation(x), for the kinds that work on single values."""
    saved[...] = x
    x[...] = _FORWARD[kind](x)


def gradient(values: Annotated[Array, "in *s"], delta: Annotated[Array, "io *s"], kind: int, threads: int) -> None:
    """delta *= derivative of the activation at values, for the kinds that work on single values."""
    delta *= _GRADIENT[kind](values)


def forward_channels(
    x: Annotated[Array, "in b c s"], out: Annotated[Array, "out b c s"], kind: int, threads: int
) -> None:
    """The kinds that mix the channels of a pixel. `out` may be `x`.

    normalize_channels: max(x, 0) / (1e-4 + sum of max(x, 0)).
    normalize_channels_softmax: exp(x) / (1e-4 + sum of exp(x)).
    normalize_channels_softmax_maxval: the same with x less its largest value in the pixel.
    """
    if kind == Activation.NORMALIZE_CHANNELS:
        parts = np.maximum(x, 0)
    elif kind == Activation.NORMALIZE_CHANNELS_SOFTMAX:
        parts = np.exp(x)
    else:
        parts = np.exp(x - x.max(axis=1, keepdims=True))
    out[...] = parts / (_CHANNEL_EPSILON + parts.sum(axis=1, keepdims=True))


def gradient_channels(
    values: Annotated[Array, "in b c s"], delta: Annotated[Array, "io b c s"], kind: int, threads: int
) -> None:
    """delta becomes the gradient before an activation that mixes channels (see `forward_channels`).

    values: the input for normalize_channels, else the output.
    The largest value of a pixel is the first of equals.
    """
    if kind == Activation.NORMALIZE_CHANNELS:
        positive = np.maximum(values, 0)
        total = _CHANNEL_EPSILON + positive.sum(axis=1, keepdims=True)
        common = (delta * positive).sum(axis=1, keepdims=True) / total
        delta[...] = np.where(values > 0, (delta - common) / total, 0)
        return
    common = (delta * values).sum(axis=1, keepdims=True)
    delta[...] = values * (delta - common)
    if kind == Activation.NORMALIZE_CHANNELS_SOFTMAX_MAXVAL:
        # The subtracted maximum scales exp(x) but not the 1e-4: its share of the denominator is 1 - sum(y).
        largest = values.argmax(axis=1, keepdims=True)
        rest = 1 - values.sum(axis=1, keepdims=True)
        np.put_along_axis(delta, largest, np.take_along_axis(delta, largest, 1) - common * rest, 1)
