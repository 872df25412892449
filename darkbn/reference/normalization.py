"""Normalization over the channels of each pixel: local response normalization, unit length.

Local response normalization divides by a power of a sum of squares:

    norms[k] = kappa + alpha * (sum of x[j]^2 for k - (size-1)//2 <= j <= k + size//2, without x[size//2]^2)
    out[k]   = x[k] * norms[k]^-beta

The channel size//2 is left out of every sum, also of those in whose window it does not lie (where it is subtracted):
both Darknets start the running sum one channel short and never make up for it. Weights were trained with it.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from darkbn.errors import ShapeError
from darkbn.signature import Array


def lrn(
    x: Annotated[Array, "in b c s"],
    norms: Annotated[Array | None, "out? b c s"],
    out: Annotated[Array, "out b c s"],
    size: int,
    alpha: float,
    beta: float,
    kappa: float,
    threads: int,
) -> None:
    """Local response normalization; norms are kept for the gradient."""
    _check_size("lrn", size)
    sums = kappa + alpha * np.einsum("kj,bjs->bks", _windows(x.shape[1], size), np.square(x, dtype=np.float64))
    out[...] = x * sums**-beta
    if norms is not None:
        norms[...] = sums


def lrn_backward_workspace(c: int, threads: int) -> int:
    """Floats of workspace that `lrn_backward` needs: none here."""
    return 0


def lrn_backward(
    x: Annotated[Array, "in b c s"],
    norms: Annotated[Array, "in b c s"],
    delta: Annotated[Array, "in b c s"],
    input_delta: Annotated[Array, "io b c s"],
    workspace: Annotated[Array, "io floats"],
    size: int,
    alpha: float,
    beta: float,
    threads: int,
) -> None:
    """input_delta += the gradient of sum(delta * out) by x.

    Both Darknets overwrite it with delta * norms^-beta, the first of its two terms (lrn-backward-approximate).
    """
    _check_size("lrn_backward", size)
    through = delta * x * np.power(norms, -beta - 1, dtype=np.float64)
    through = np.einsum("kj,bks->bjs", _windows(x.shape[1], size), through)
    input_delta += delta * np.power(norms, -beta, dtype=np.float64) - 2 * alpha * beta * x * through


def l2norm(x: Annotated[Array, "in b c s"], out: Annotated[Array, "out b c s"], threads: int) -> None:
    """out = x over the length of its pixel's vector of channels; 0 where that is 0 (Darknet: NaN)."""
    out[...] = x * _inverse_length(x)


def l2norm_backward(
    x: Annotated[Array, "in b c s"],
    delta: Annotated[Array, "in b c s"],
    input_delta: Annotated[Array, "io b c s"],
    threads: int,
) -> None:
    """input_delta += (delta - out * (sum over channels of out * delta)) / length, the gradient of l2norm."""
    inverse = _inverse_length(x)
    out = x * inverse
    along = (out * delta).sum(axis=1, keepdims=True)
    input_delta += (delta - out * along) * inverse


def _windows(channels: int, size: int) -> Array:
    """How often x[j]^2 counts in norms[k]."""
    k, j = np.mgrid[:channels, :channels]
    inside = (k - (size - 1) // 2 <= j) & (j <= k + size // 2)
    return np.asarray(inside * 1.0 - (j == size // 2))


def _inverse_length(x: Array) -> Array:
    """1 / length of each pixel's vector, 0 for zero vectors."""
    squares = np.square(x, dtype=np.float64).sum(axis=1, keepdims=True)
    return np.asarray(np.divide(1, np.sqrt(squares), out=np.zeros_like(squares), where=squares > 0))


def _check_size(kernel: str, size: int) -> None:
    if size < 1:
        raise ShapeError(f"normalization.{kernel}: size must be at least 1, found {size}")
