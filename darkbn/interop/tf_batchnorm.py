"""Batch normalization with the interfaces of TensorFlow: slim's batch_norm, and tf.nn.batch_normalization.

    variables = {}
    y = batch_norm(x, scale=True, moving_vars=variables)                     # training
    y = batch_norm(x, scale=True, moving_vars=variables, is_training=False)  # inference

Channels are the last axis. Arrays are float32 or float64; results have the type of the input. They are computed in
float32 on device "cpu" and in float64 on "reference" (see `darkbn.interop.batchnorm`). Unlike in TensorFlow, NaN,
infinity and one value per channel in training are errors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, MutableMapping
from typing import Any

import numpy as np

from darkbn.activations import activation_code
from darkbn.conventions import get_convention
from darkbn.cpu import thread_count
from darkbn.errors import ShapeError
from darkbn.interop.batchnorm import Layout, Statistics, float_array, forward, forward_train
from darkbn.signature import Array

_CONVENTION = get_convention("tf-slim")

Activation = str | Callable[[Array], Array]


def batch_norm(
    inputs: Any,
    decay: float = _CONVENTION.rolling_decay,
    center: bool = True,
    scale: bool = False,
    epsilon: float = _CONVENTION.epsilon,
    moving_vars: MutableMapping[str, Array] | None = None,
    is_training: bool = True,
    activation: Activation | None = None,
    *,
    device: str = "cpu",
) -> Array:
    """slim's batch_norm.

    Args:
        inputs: (N, H, W, C) or (N, C).
        decay: share of the moving averages that a training pass keeps.
        center: whether to add beta.
        scale: whether to multiply by gamma.
        epsilon: added to the variance.
        moving_vars: the variables, one value per channel, by the names that TensorFlow gives them: "moving_mean",
            "moving_variance", "beta" (when center), "gamma" (when scale). Those that are missing are added with their
            initial values 0, 1, 0, 1; a training pass stores new moving averages. None: they are not kept.
        is_training: whether to normalize by the batch's statistics, and not by the moving ones.
        activation: of the result: a function of an array, or a name that Darknet knows ("relu", "leaky", ...).
        device: "cpu" or "reference".
    """
    at = Layout.of("batch_norm", "inputs", inputs, -1, "(N, C) or (N, H, W, C)", device)
    x, variables = at.take("inputs", inputs), {} if moving_vars is None else moving_vars
    moving = (
        at.channel("moving_mean", variables.get("moving_mean")),
        at.channel("moving_variance", variables.get("moving_variance"), 1, minimum=0),
    )
    gamma = at.channel("gamma", variables.get("gamma") if scale else None, 1)
    beta = at.channel("beta", variables.get("beta") if center else None)
    if is_training:
        convention = dataclasses.replace(_CONVENTION, name="", rolling_decay=decay, epsilon=epsilon)
        out, _ = forward_train(at, x, gamma, beta, convention, moving)
    else:
        out = forward(at, x, gamma, beta, Statistics(*moving, epsilon))
    if isinstance(activation, str):
        at.backend.activation.forward(out.reshape(-1), activation_code(activation), thread_count(None))
    for name, values, used in (("gamma", gamma, scale), ("beta", beta, center)):
        if used:
            variables.setdefault(name, at.give_channel(values))
    for name, values in (("moving_mean", moving[0]), ("moving_variance", moving[1])):
        if is_training or name not in variables:
            variables[name] = at.give_channel(values)
    result = at.give(out)
    return activation(result) if callable(activation) else result


def batch_normalization(
    x: Any, mean: Any, variance: Any, offset: Any, scale: Any, variance_epsilon: float, *, device: str = "cpu"
) -> Array:
    """tf.nn.batch_normalization: scale * (x - mean) / sqrt(variance + variance_epsilon) + offset.

    Args:
        x: any shape.
        mean, variance: one value per channel, (C,); or with as many axes as x, of the same length as x's or of 1, as
            tf.nn.moments(keepdims=True) gives them.
        offset, scale: the same, or None for 0 and 1.
        variance_epsilon: added to the variance.
        device: "cpu" or "reference".
    """
    array = float_array("batch_normalization", "x", x)
    if array.ndim < 1:
        raise ShapeError("batch_normalization: x must have shape (..., C), found ()")
    given = {"mean": mean, "variance": variance, "offset": offset, "scale": scale}
    shapes = {name: _own_axes(array, name, v) for name, v in given.items() if v is not None}
    kept = [axis for axis in range(array.ndim) if any(s[axis] != 1 for s in shapes.values())]
    order = [axis for axis in range(array.ndim) if axis not in kept] + kept
    moved = array.transpose(order)
    common = moved.shape[len(order) - len(kept) :]
    at = Layout.of("batch_normalization", "x", moved.reshape(-1, max(1, int(np.prod(common)))), 1, "(N, C)", device)

    def values(name: str, default: float, minimum: float | None = None) -> Array:
        if given[name] is None:
            return at.channel(name, None, default)
        own = float_array(at.who, name, given[name]).reshape(shapes[name]).transpose(order)
        own = np.broadcast_to(own, (*own.shape[: len(order) - len(kept)], *common))
        return at.channel(name, own.reshape(-1), minimum=minimum)

    s = Statistics(values("mean", 0), values("variance", 1, 0), variance_epsilon)
    out = at.give(forward(at, at.take("x", moved.reshape(at.shape)), values("scale", 1), values("offset", 0), s))
    back: Array = np.ascontiguousarray(out.reshape(moved.shape).transpose(np.argsort(order)))
    return back


def _own_axes(x: Array, name: str, value: Any) -> tuple[int, ...]:
    """The shape of statistics with as many axes as x; raises ShapeError when it does not fit."""
    found = float_array("batch_normalization", name, value).shape
    shape = (1,) * (x.ndim - 1) + found if len(found) == 1 else found
    if len(shape) != x.ndim or any(n not in (1, m) for n, m in zip(shape, x.shape, strict=True)):
        raise ShapeError(
            f"batch_normalization: {name} must have shape ({x.shape[-1]},), or the {x.ndim} axes of x {x.shape} with"
            f" 1 where it is the same, found {found}"
        )
    return shape
