"""Convolutions with weights of their own at every place (Darknet's [local]).

out[b, f, y, x] = biases[f, y, x] + sum over c, i, j of weights[y, x, f, c, i, j] * pixel
pixel = x[b, c, y*stride + i - pad, x*stride + j - pad], zero outside the image
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np

from darkbn.errors import ShapeError
from darkbn.signature import Array


def forward_workspace(b: int, c: int, k: int, threads: int) -> int:
    """Floats of workspace that `forward` needs: none here."""
    return 0


def forward(
    x: Annotated[Array, "in b c h w"],
    weights: Annotated[Array, "in oh ow n c k k"],
    biases: Annotated[Array, "in n oh ow"],
    out: Annotated[Array, "out b n oh ow"],
    workspace: Annotated[Array, "io floats"],
    stride: int,
    pad: int,
    threads: int,
) -> None:
    """out as above."""
    _check("forward", stride, pad)
    for row, column, pixels in _patches(x, weights, stride, pad):
        sums = np.einsum("fcij,bcij->bf", weights[row, column], pixels, dtype=np.float64)
        out[:, :, row, column] = sums + biases[:, row, column]


def backward_weights_workspace(b: int, c: int, k: int, threads: int) -> int:
    """Floats of workspace that `backward_weights` needs: none here."""
    return 0


def backward_weights(
    x: Annotated[Array, "in b c h w"],
    delta: Annotated[Array, "in b n oh ow"],
    weight_updates: Annotated[Array, "io oh ow n c k k"],
    workspace: Annotated[Array, "io floats"],
    stride: int,
    pad: int,
    threads: int,
) -> None:
    """weight_updates += the gradient of sum(delta * out) by the weights."""
    _check("backward_weights", stride, pad)
    for row, column, pixels in _patches(x, weight_updates, stride, pad):
        here = delta[:, :, row, column]
        weight_updates[row, column] += np.einsum("bf,bcij->fcij", here, pixels, dtype=np.float64)


def backward_input_workspace(b: int, c: int, k: int, threads: int) -> int:
    """Floats of workspace that `backward_input` needs: none here."""
    return 0


def backward_input(
    weights: Annotated[Array, "in oh ow n c k k"],
    delta: Annotated[Array, "in b n oh ow"],
    input_delta: Annotated[Array, "io b c h w"],
    workspace: Annotated[Array, "io floats"],
    stride: int,
    pad: int,
    threads: int,
) -> None:
    """input_delta += the gradient of sum(delta * out) by the input."""
    _check("backward_input", stride, pad)
    h, w = input_delta.shape[2:]
    size = weights.shape[-1]
    total = _padded(np.zeros(input_delta.shape), weights, stride, pad)
    for row, column in np.ndindex(*weights.shape[:2]):
        top, left = row * stride, column * stride
        sums = np.einsum("fcij,bf->bcij", weights[row, column], delta[:, :, row, column], dtype=np.float64)
        total[:, :, top : top + size, left : left + size] += sums
    input_delta += total[:, :, pad : pad + h, pad : pad + w]


def _padded(x: Array, weights: Array, stride: int, pad: int) -> Array:
    """x as float64 with zeros round it, as many as the windows reach."""
    rows, columns = weights.shape[:2]
    size = weights.shape[-1]
    beyond = [
        (pad, max(0, (count - 1) * stride + size - pad - length))
        for count, length in zip((rows, columns), x.shape[2:], strict=True)
    ]
    return np.pad(x.astype(np.float64), [(0, 0), (0, 0), *beyond])


def _patches(x: Array, weights: Array, stride: int, pad: int) -> Iterator[tuple[int, int, Array]]:
    """Each place with the pixels (b, c, k, k) under its window."""
    size = weights.shape[-1]
    padded = _padded(x, weights, stride, pad)
    for row, column in np.ndindex(*weights.shape[:2]):
        top, left = row * stride, column * stride
        yield row, column, padded[:, :, top : top + size, left : left + size]


def _check(kernel: str, stride: int, pad: int) -> None:
    if stride < 1 or pad < 0:
        raise ShapeError(f"local.{kernel}: stride {stride} must be at least 1, pad {pad} at least 0")
