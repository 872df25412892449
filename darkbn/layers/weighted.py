"""Learned weights of [shortcut] (weights_type, dialect alexeyab): one per input of the sum (per_feature, per_layer) or
one per input and channel (per_channel), all 1 at first.

    weights_normalization=relu (avg_relu)   max(w, 0) / (0.0001 + the sum over the inputs)
    weights_normalization=softmax           exp(w - largest) / (0.0001 + the sum over the inputs)
    weights_normalization=none              w (AlexeyAB's Darknet stops)

The first input is the layer before. Inputs with fewer channels count in those they have. In a .weights file the weights
of each input follow each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from darkbn.layers.base import Buffer, Layer, Role
from darkbn.state import NetworkState

#: Values of weights_type.
TYPES = ("none", "per_feature", "per_layer", "per_channel")

#: Values of weights_normalization, and what kernels take for them.
NORMALIZATIONS = {"none": 0, "relu": 1, "avg_relu": 1, "softmax": 2}


def weight_buffers(inputs: int, channels: int, kind: str) -> list[Buffer]:
    """The arrays that the weights need: weights, weight_updates (inputs,) or (inputs, channels); room for the
    normalized ones and their gradient."""
    if kind == "none":
        return []
    columns = channels if kind == "per_channel" else 1
    shape = (inputs, channels) if kind == "per_channel" else (inputs,)
    return [
        Buffer("weights", shape, Role.PARAMETER, fill=1.0),
        Buffer("weight_updates", shape, Role.UPDATE, training=True),
        Buffer("shares", (inputs, columns), Role.SCRATCH),
        Buffer("channel_shares", (inputs, channels), Role.SCRATCH),
        Buffer("share_updates", (inputs, channels), Role.SCRATCH, training=True),
    ]


def _maps(array: Any) -> Any:
    return array.reshape(*array.shape[:2], -1)


def forward(l: Layer, outputs: Sequence[Any], normalization: str, net: NetworkState) -> None:
    """l.output = the sum of `outputs` times their normalized weights."""
    kernels, kind = l.backend.weighted, NORMALIZATIONS[normalization]
    kernels.normalize(l.weights.reshape(l.shares.shape), l.shares, kind, net.threads)
    l.channel_shares[...] = l.shares
    first, *others = outputs
    kernels.scale(_maps(first), l.channel_shares[0], _maps(l.output), net.threads)
    for shares, output in zip(l.channel_shares[1:], others, strict=True):
        kernels.scale_add(_maps(output), shares, _maps(l.output), net.threads)


def backward(l: Layer, outputs: Sequence[Any], deltas: Sequence[Any], normalization: str, net: NetworkState) -> None:
    """Adds the gradients of the inputs to `deltas` (None: not wanted) and those of the weights to weight_updates."""
    kernels, kind = l.backend.weighted, NORMALIZATIONS[normalization]
    l.share_updates.fill(0)
    for output, delta, shares, updates in zip(outputs, deltas, l.channel_shares, l.share_updates, strict=True):
        kernels.dot_add(_maps(output), _maps(l.delta), updates, net.threads)
        if delta is not None:
            kernels.scale_add(_maps(l.delta), shares, _maps(delta), net.threads)
    per_input = l.shares.shape[1] == 1
    gradient = l.share_updates.sum(axis=1, keepdims=True) if per_input else l.share_updates
    weights, updates = (array.reshape(l.shares.shape) for array in (l.weights, l.weight_updates))
    kernels.normalize_backward(weights, gradient, updates, kind, net.threads)
