"""Sums of layers with learned weights (AlexeyAB's shortcut with weights_type).

Weights are (inputs, channels): one per input and channel. Inputs with fewer channels than the sum count in those they
have; more are left out.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from darkbn.errors import ShapeError
from darkbn.signature import Array

#: Kinds of normalization: numbers of weights_normalization.
NONE, RELU, SOFTMAX = range(3)

#: Keeps the sum of normalized weights from being 0.
EPSILON = 1e-4


def normalize(
    weights: Annotated[Array, "in n c"], normalized: Annotated[Array, "out n c"], kind: int, threads: int
) -> None:
    """The weights of each channel made to sum to (a little less than) 1.

    NONE: as they are. RELU: max(w, 0) / (EPSILON + sum of those). SOFTMAX: exp(w - greatest) / (EPSILON + sum).
    """
    _check("normalize", kind)
    normalized[...] = weights if kind == NONE else _shares(weights, kind)


def normalize_backward(
    weights: Annotated[Array, "in n c"],
    gradient: Annotated[Array, "in n c"],
    weight_updates: Annotated[Array, "io n c"],
    kind: int,
    threads: int,
) -> None:
    """weight_updates += the gradient by the weights, given that by the normalized ones.

    AlexeyAB's Darknet adds the latter instead (ab-weighted-shortcut-gradient-simplified).
    EPSILON is held in proportion to the greatest exponential with SOFTMAX, as in the forward pass.
    """
    _check("normalize_backward", kind)
    if kind == NONE:
        weight_updates += gradient
        return
    parts = _parts(weights, kind)
    total = EPSILON + parts.sum(axis=0)
    shares = parts / total
    change = gradient - (gradient * shares).sum(axis=0)
    if kind == RELU:
        weight_updates += np.where(weights > 0, change, 0) / total
        return
    greatest = weights.argmax(axis=0)
    update = shares * change
    # exp(w - greatest): what every exponential gains by w, the greatest loses for all of them.
    columns = np.arange(weights.shape[1])
    update[greatest, columns] -= (shares * change).sum(axis=0)
    weight_updates += update


def scale(
    x: Annotated[Array, "in b c s"],
    weights: Annotated[Array, "in c"],
    out: Annotated[Array, "out b c s"],
    threads: int,
) -> None:
    """out = weights * x, one per channel: the first input of the sum."""
    out[...] = weights[:, np.newaxis] * x


def scale_add(
    x: Annotated[Array, "in b c1 s"],
    weights: Annotated[Array, "in m"],
    out: Annotated[Array, "io b c s"],
    threads: int,
) -> None:
    """out += weights * x in the channels that both have: a further input, or the gradient of one."""
    common = _common("scale_add", x, out, weights)
    out[:, :common] += weights[:common, np.newaxis] * x[:, :common]


def dot_add(
    x: Annotated[Array, "in b c1 s"],
    delta: Annotated[Array, "in b c s"],
    sums: Annotated[Array, "io m"],
    threads: int,
) -> None:
    """sums += x * delta, summed over batch and map, in the channels that both have: the gradient of the weights."""
    common = _common("dot_add", x, delta, sums)
    sums[:common] += (x[:, :common] * delta[:, :common]).sum(axis=(0, 2), dtype=np.float64)


def _parts(weights: Array, kind: int) -> Array:
    """What the normalized weights are in proportion to."""
    if kind == RELU:
        return np.maximum(weights, 0.0)
    return np.asarray(np.exp(weights - weights.max(axis=0)))


def _shares(weights: Array, kind: int) -> Array:
    parts = _parts(weights, kind)
    return np.asarray(parts / (EPSILON + parts.sum(axis=0)))


def _common(kernel: str, x: Array, y: Array, weights: Array) -> int:
    common: int = min(x.shape[1], y.shape[1])
    if weights.shape[0] < common:
        raise ShapeError(f"weighted.{kernel}: {common} channels need as many weights, found {weights.shape[0]}")
    return common


def _check(kernel: str, kind: int) -> None:
    if kind not in (NONE, RELU, SOFTMAX):
        raise ShapeError(f"weighted.{kernel}: kind must be 0, 1 or 2, found {kind}")
