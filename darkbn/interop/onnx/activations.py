"""Activation functions as ONNX operators, by the formulas of `darkbn.reference.activation`."""

from __future__ import annotations

from collections.abc import Callable

from darkbn.activations import CODES, mixes_channels
from darkbn.interop.onnx.graph import Graph

_CHANNEL_EPSILON = 1e-4
_GELU_LINEAR, _GELU_CUBIC = 0.797885, 0.035677


def activate(g: Graph, name: str, x: str) -> str:
    """The value of an activation at x; those that mix channels take them along axis 1."""
    if name == "linear":
        return x
    if mixes_channels(CODES[name]):
        return _normalize_channels(g, name, x)
    return FORMULAS[name](g, x)


def _times(g: Graph, x: str, factor: float) -> str:
    return g.op("Mul", x, g.scalar(factor))


def _plus(g: Graph, x: str, term: float) -> str:
    return g.op("Add", x, g.scalar(term))


def _clip(g: Graph, x: str, low: float, high: float) -> str:
    return g.op("Clip", x, g.scalar(low), g.scalar(high))


def _above(g: Graph, x: str, threshold: float) -> str:
    return g.op("Greater", x, g.scalar(threshold))


def _plse(g: Graph, x: str) -> str:
    middle = _plus(g, _times(g, x, 0.125), 0.5)
    low, high = _times(g, _plus(g, x, 4), 0.01), _plus(g, _times(g, _plus(g, x, -4), 0.01), 1)
    below = g.op("Less", x, g.scalar(-4.0))
    return g.op("Where", below, low, g.op("Where", _above(g, x, 4), high, middle))


def _lhtan(g: Graph, x: str) -> str:
    high = _plus(g, _times(g, _plus(g, x, -1), 0.001), 1)
    negative = g.op("Less", x, g.scalar(0.0))
    return g.op("Where", negative, _times(g, x, 0.001), g.op("Where", _above(g, x, 1), high, x))


def _stair(g: Graph, x: str) -> str:
    below, step = g.op("Floor", x), g.op("Floor", _times(g, x, 0.5))
    even = g.op("Equal", _times(g, step, 2), below)
    return g.op("Where", even, step, g.op("Add", g.op("Sub", x, below), step))


def _mish(g: Graph, x: str) -> str:
    return g.op("Mul", x, g.op("Tanh", g.op("Softplus", x)))


def _hard_mish(g: Graph, x: str) -> str:
    part = _clip(g, x, -2, 0)
    return g.op("Where", _above(g, x, 0), x, g.op("Mul", part, _plus(g, _times(g, part, 0.5), 1)))


def _gelu(g: Graph, x: str) -> str:
    slope = _plus(g, _times(g, g.op("Mul", x, x), 2 * _GELU_CUBIC), 2 * _GELU_LINEAR)
    return g.op("Mul", x, g.op("Sigmoid", g.op("Mul", x, slope)))


#: How to write each activation that works on single values.
FORMULAS: dict[str, Callable[[Graph, str], str]] = {
    "logistic": lambda g, x: g.op("Sigmoid", x),
    "loggy": lambda g, x: g.op("Tanh", _times(g, x, 0.5)),
    "relu": lambda g, x: g.op("Relu", x),
    "elu": lambda g, x: g.op("Elu", x, alpha=1.0),
    "selu": lambda g, x: g.op("Selu", x, alpha=1.6732, gamma=1.0507),
    "relie": lambda g, x: g.op("LeakyRelu", x, alpha=0.01),
    "plse": _plse,
    "hardtan": lambda g, x: _clip(g, x, -1, 1),
    "lhtan": _lhtan,
    "ramp": lambda g, x: g.op("Add", g.op("Relu", x), _times(g, x, 0.1)),
    "leaky": lambda g, x: g.op("LeakyRelu", x, alpha=0.1),
    "tanh": lambda g, x: g.op("Tanh", x),
    "stair": _stair,
    "swish": lambda g, x: g.op("Mul", x, g.op("Sigmoid", x)),
    "mish": _mish,
    "hard_mish": _hard_mish,
    "relu6": lambda g, x: _clip(g, x, 0, 6),
    "gelu": _gelu,
    "revleaky": lambda g, x: g.op("LeakyRelu", x, alpha=0.1),
}


def _normalize_channels(g: Graph, name: str, x: str) -> str:
    if name == "normalize_channels":
        parts = g.op("Relu", x)
    elif name == "normalize_channels_softmax":
        parts = g.op("Exp", x)
    else:
        parts = g.op("Exp", g.op("Sub", x, g.reduce("ReduceMax", x, [1])))
    return g.op("Div", parts, _plus(g, g.reduce("ReduceSum", parts, [1]), _CHANNEL_EPSILON))
