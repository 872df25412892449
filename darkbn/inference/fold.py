"""Folding: batch normalization with rolling statistics is a factor and an offset per channel, which the weights and
biases of the layer before it can take over.

    output = scales * (z - rolling_mean) / root(rolling_variance) + biases
    factor = scales / root(rolling_variance),  weights' = weights * factor,  biases' = biases - rolling_mean * factor

`root` is that of the layer's convention. Everything is computed in float64 and rounded once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from darkbn.backend import to_host
from darkbn.layers.base import Layer

#: float64 array.
Doubles = np.ndarray[Any, np.dtype[np.float64]]


def normalization(layer: Layer) -> tuple[Doubles, Doubles]:
    """Batch normalization with the rolling statistics, as `factor * value + offset`.

    Args:
        layer: an allocated layer with scales, biases, rolling_mean and rolling_variance, (channels,) each.

    Returns:
        factor and offset, (channels,), float64. A rolling variance below zero (broken weights) gives NaN, as it does
        when the layer runs.
    """
    names = ("scales", "biases", "rolling_mean", "rolling_variance")
    scales, biases, mean, variance = (np.asarray(to_host(getattr(layer, name)), np.float64) for name in names)
    with np.errstate(all="ignore"):
        factor = scales * layer.convention.inverse_root(variance)
        return factor, biases - mean * factor


def folded_parameters(layer: Layer, then: Layer | None = None, *, overwrite: bool = False) -> tuple[Any, Any]:
    """Weights and biases that compute without batch normalization what the layer computes with it when predicting.

    Args:
        layer: an allocated [convolutional], [deconvolutional] or [connected] layer, or one inside a recurrent layer;
            it is not changed unless `overwrite`.
        then: a [batchnorm] layer behind it that is to be taken over, too; the layer's activation must be linear.
        overwrite: whether its weights may be folded where they are, which spares a copy.

    Returns:
        New arrays of the backend's float type: weights, shaped like the layer's, and biases (channels,). With nothing
        to fold they are copies of the layer's own.
    """
    if not layer.batch_normalize and then is None:
        return (layer.weights, layer.biases) if overwrite else (layer.weights.copy(), layer.biases.copy())
    if layer.batch_normalize:
        factor, offset = normalization(layer)
    else:
        factor, offset = np.ones(layer.biases.shape), np.asarray(to_host(layer.biases), np.float64)
    with np.errstate(all="ignore"):
        if then is not None:
            more, shift = normalization(then)
            factor, offset = factor * more, offset * more + shift
        own = to_host(layer.weights)
        weights = own if overwrite else np.empty_like(own)
        np.multiply(own, _along_outputs(layer, factor), out=weights, dtype=np.float64, casting="same_kind")
    return layer.backend.array(weights), layer.backend.array(offset)


def _along_outputs(layer: Layer, values: Doubles) -> Doubles:
    """One value per output channel, shaped so that it multiplies the layer's weights."""
    axis = 1 if layer.type == "deconvolutional" else 0  # its weights are (inputs, outputs, size, size)
    return values.reshape([-1 if a == axis else 1 for a in range(layer.weights.ndim)])
