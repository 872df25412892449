"""Convolutions as Darknet means them: cross-correlations of square kernels, in groups, with strides, dilated.

    out[b, f, y, x] = biases[f] + sum over c, i, j of weights[f, c, i, j] * x[b, the group's c, row, column]
    row = y * stride_y + i * dilation - pad, column = x * stride_x + j * dilation - pad

Pixels outside the image are zero. The size of the output is that of the given array: `pad` is what lies left
of and above the image, so a larger output reads more zeros on the right and below.

`algorithm` (`darkbn.algorithms.Algorithm`: GEMM, WINOGRAD_2, WINOGRAD_4 or WINOGRAD_STRIDE_2) is how a backend
computes the sums; it does not change what they are. Winograd needs 3x3 kernels with dilation 1 in one group, and
strides 1, or 2 for WINOGRAD_STRIDE_2. The reference and the GPU compute all of them alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np

from darkbn.errors import ShapeError
from darkbn.geometry import require_plain_algorithm
from darkbn.signature import Array


def forward_workspace(
    b: int,
    c: int,
    h: int,
    w: int,
    n: int,
    k: int,
    oh: int,
    ow: int,
    groups: int,
    stride_y: int,
    stride_x: int,
    dilation: int,
    pad: int,
    algorithm: int,
    threads: int,
) -> int:
    """Floats of workspace that `forward` needs: none here."""
    return 0


def forward(
    x: Annotated[Array, "in b c h w"],
    weights: Annotated[Array, "in n cg k k"],
    biases: Annotated[Array, "in? n"],
    out: Annotated[Array, "out b n oh ow"],
    workspace: Annotated[Array, "io? floats"],
    groups: int,
    stride_y: int,
    stride_x: int,
    dilation: int,
    pad: int,
    algorithm: int,
    threads: int,
) -> None:
    """The convolution, plus one bias per filter where biases are given."""
    _check("forward", x, weights, groups, stride_y, stride_x, dilation, pad, algorithm)
    grouped = _grouped(weights, groups, axis=0)
    total = np.zeros(_grouped(out, groups, axis=1).shape)
    for i, j, taken, rows, columns in _taps(weights.shape[2], x, out, stride_y, stride_x, dilation, pad):
        pixels = _grouped(x[:, :, *taken], groups, axis=1)
        total[..., rows, columns] += np.einsum("gfc,bgcyx->bgfyx", grouped[..., i, j], pixels, optimize=True)
    total = total.reshape(out.shape)
    out[...] = total if biases is None else total + biases[:, np.newaxis, np.newaxis]


def backward_weights_workspace(
    b: int,
    c: int,
    h: int,
    w: int,
    n: int,
    k: int,
    oh: int,
    ow: int,
    groups: int,
    stride_y: int,
    stride_x: int,
    dilation: int,
    pad: int,
    algorithm: int,
    threads: int,
) -> int:
    """Floats of workspace that `backward_weights` needs: none here."""
    return 0


def backward_weights(
    x: Annotated[Array, "in b c h w"],
    delta: Annotated[Array, "in b n oh ow"],
    weight_updates: Annotated[Array, "io n cg k k"],
    workspace: Annotated[Array, "io? floats"],
    groups: int,
    stride_y: int,
    stride_x: int,
    dilation: int,
    pad: int,
    algorithm: int,
    threads: int,
) -> None:
    """weight_updates += the gradient of sum(delta * out) by the weights."""
    _check("backward_weights", x, weight_updates, groups, stride_y, stride_x, dilation, pad, algorithm)
    grouped = _grouped(delta, groups, axis=1)
    for i, j, taken, rows, columns in _taps(weight_updates.shape[2], x, delta, stride_y, stride_x, dilation, pad):
        pixels = _grouped(x[:, :, *taken], groups, axis=1)
        sums = np.einsum("bgfyx,bgcyx->gfc", grouped[..., rows, columns], pixels, optimize=True)
        weight_updates[:, :, i, j] += sums.reshape(weight_updates.shape[:2])


def backward_input_workspace(
    b: int,
    c: int,
    h: int,
    w: int,
    n: int,
    k: int,
    oh: int,
    ow: int,
    groups: int,
    stride_y: int,
    stride_x: int,
    dilation: int,
    pad: int,
    algorithm: int,
    threads: int,
) -> int:
    """Floats of workspace that `backward_input` needs: none here."""
    return 0


def backward_input(
    weights: Annotated[Array, "in n cg k k"],
    delta: Annotated[Array, "in b n oh ow"],
    input_delta: Annotated[Array, "io b c h w"],
    workspace: Annotated[Array, "io? floats"],
    groups: int,
    stride_y: int,
    stride_x: int,
    dilation: int,
    pad: int,
    algorithm: int,
    threads: int,
) -> None:
    """input_delta += the gradient of sum(delta * out) by the input."""
    _check("backward_input", input_delta, weights, groups, stride_y, stride_x, dilation, pad, algorithm)
    grouped = _grouped(weights, groups, axis=0)
    grouped_delta = _grouped(delta, groups, axis=1)
    total = np.zeros(input_delta.shape)
    for i, j, taken, rows, columns in _taps(weights.shape[2], input_delta, delta, stride_y, stride_x, dilation, pad):
        pixels = grouped_delta[..., rows, columns]
        sums = np.einsum("gfc,bgfyx->bgcyx", grouped[..., i, j], pixels, optimize=True)
        total[:, :, *taken] += sums.reshape(*total.shape[:2], *sums.shape[3:])
    input_delta += total


def im2col(
    im: Annotated[Array, "in c h w"],
    col: Annotated[Array, "out c k k oh ow"],
    stride_y: int,
    stride_x: int,
    dilation: int,
    pad: int,
    threads: int,
) -> None:
    """col[c, i, j, y, x] = the pixel that tap (i, j) reads for output (y, x), zero outside the image.

    Its first three axes in a row are Darknet's rows of im2col: (c*size + i)*size + j.
    """
    _check_steps("im2col", stride_y, stride_x, dilation, pad)
    col[...] = 0
    for i, j, taken, rows, columns in _taps(col.shape[1], im, col, stride_y, stride_x, dilation, pad):
        col[:, i, j, rows, columns] = im[:, *taken]


def col2im(
    col: Annotated[Array, "in c k k oh ow"],
    im: Annotated[Array, "io c h w"],
    stride_y: int,
    stride_x: int,
    dilation: int,
    pad: int,
    threads: int,
) -> None:
    """Add each element of col to the pixel that im2col takes it from; those outside the image are dropped."""
    _check_steps("col2im", stride_y, stride_x, dilation, pad)
    for i, j, taken, rows, columns in _taps(col.shape[1], im, col, stride_y, stride_x, dilation, pad):
        im[:, *taken] += col[:, i, j, rows, columns]


def _grouped(x: Array, groups: int, axis: int) -> Array:
    """As float64, with this axis split into (groups, the rest)."""
    split = (groups, x.shape[axis] // groups)
    return x.astype(np.float64).reshape(*x.shape[:axis], *split, *x.shape[axis + 1 :])


def _taps(
    size: int, x: Array, out: Array, stride_y: int, stride_x: int, dilation: int, pad: int
) -> Iterator[tuple[int, int, tuple[slice, slice], slice, slice]]:
    """For each tap (i, j): the pixels that it reads, and the outputs that read them (others read zeros)."""
    for i in range(size):
        read_rows, rows = _inside(i * dilation - pad, stride_y, x.shape[-2], out.shape[-2])
        for j in range(size):
            read_columns, columns = _inside(j * dilation - pad, stride_x, x.shape[-1], out.shape[-1])
            yield i, j, (read_rows, read_columns), rows, columns


def _inside(shift: int, stride: int, size: int, out: int) -> tuple[slice, slice]:
    """Positions p*stride + shift in [0, size) for p in [0, out), as slices of the input and of the output."""
    first = max(0, -(shift // stride))
    last = max(first, min(out, -((shift - size) // stride)))
    start = first * stride + shift
    if last == first:
        return slice(0, 0), slice(0, 0)
    return slice(start, (last - 1) * stride + shift + 1, stride), slice(first, last)


def _check_steps(kernel: str, stride_y: int, stride_x: int, dilation: int, pad: int) -> None:
    if min(stride_y, stride_x, dilation) < 1 or pad < 0:
        raise ShapeError(
            f"convolution.{kernel}: strides ({stride_y}, {stride_x}) and dilation {dilation} must be at"
            f" least 1, pad {pad} at least 0"
        )


def _check(
    kernel: str,
    x: Array,
    weights: Array,
    groups: int,
    stride_y: int,
    stride_x: int,
    dilation: int,
    pad: int,
    algorithm: int,
) -> None:
    """Raise ShapeError where channels, filters and groups do not go together, or a step or the algorithm makes no
    sense."""
    _check_steps(kernel, stride_y, stride_x, dilation, pad)
    channels, (filters, group_channels) = x.shape[1], weights.shape[:2]
    if groups < 1 or filters % groups or group_channels * groups != channels:
        raise ShapeError(
            f"convolution.{kernel}: {filters} filters of {group_channels} channels in {groups} groups do not"
            f" fit {channels} input channels"
        )
    require_plain_algorithm(
        f"convolution.{kernel}", algorithm, weights.shape[2], (stride_y, stride_x), dilation, groups
    )
