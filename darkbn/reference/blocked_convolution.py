"""Convolutions for inference on blocked maps: biases, activation and a residual in one pass, filters packed before.

A blocked map of c channels is (batch, blocks, height, width, 8): channel ch is [:, ch // 8, :, :, ch % 8], and
blocks = ceil(c / 8). A slice of a map is its channels from a block on: what a route concatenates is written to slices
of one map. Lanes beyond the last channel hold what filters of zeros without bias give; they are written, but never
matter to a result.

    out = residual_activation(activation(convolution + biases) + residual)

`convolution` is that of `darkbn.reference.convolution`; without residual, residual_activation has no part. `packed` is
what `pack` makes for the algorithm (a code of `darkbn.algorithms.Algorithm`); its contents are a backend's own affair.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from darkbn.algorithms import Algorithm
from darkbn.errors import ShapeError
from darkbn.geometry import require_algorithm, require_blocked_convolution, require_slice
from darkbn.reference import activation as activations
from darkbn.reference import convolution
from darkbn.signature import Array

BLOCK = 8


def packed_size(n: int, cg: int, size: int, groups: int, algorithm: int) -> int:
    """Floats of `packed`."""
    require_algorithm("blocked_convolution.packed_size", algorithm, n, cg, size, groups)
    return n * (1 + cg * size * size)


def pack(
    weights: Annotated[Array, "in n cg k k"],
    biases: Annotated[Array | None, "in? n"],
    packed: Annotated[Array, "out packed"],
    groups: int,
    algorithm: int,
    threads: int,
) -> None:
    """packed = weights and biases, arranged (and for Winograd transformed) for the algorithm."""
    n, cg, size = weights.shape[:3]
    require_algorithm("blocked_convolution.pack", algorithm, n, cg, size, groups)
    packed[:n] = 0 if biases is None else biases
    packed[n : n + weights.size] = weights.reshape(-1)


def forward_workspace(
    b: int,
    c: int,
    h: int,
    w: int,
    n: int,
    size: int,
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
    x: Annotated[Array, "in b xb h w 8"],
    packed: Annotated[Array, "in packed"],
    residual: Annotated[Array | None, "in? b rb oh ow 8"],
    out: Annotated[Array, "io b ob oh ow 8"],
    workspace: Annotated[Array, "io? floats"],
    x_block: int,
    residual_block: int,
    out_block: int,
    c: int,
    n: int,
    size: int,
    groups: int,
    stride_y: int,
    stride_x: int,
    dilation: int,
    pad: int,
    activation: int,
    residual_activation: int,
    algorithm: int,
    threads: int,
) -> None:
    """The convolution of a slice of x into a slice of out. residual may be out itself; x must not overlap out."""
    kernel = "blocked_convolution.forward"
    steps = (stride_y, stride_x, dilation, pad)
    require_blocked_convolution(kernel, algorithm, (c, n, groups), size, steps)
    if algorithm == Algorithm.FIRST:
        raise ShapeError(f"{kernel}: FIRST takes plain maps, by forward_plain")
    require_slice(kernel, "x", x_block, _blocks(c), x.shape[1])
    plain = _to_plain(x[:, x_block : x_block + _blocks(c)], c)
    _into_slice(kernel, plain, packed, residual, out, residual_block, out_block, n, size, groups, steps, activation,
                residual_activation)  # fmt: skip


def forward_plain_workspace(
    b: int,
    c: int,
    h: int,
    w: int,
    n: int,
    size: int,
    oh: int,
    ow: int,
    stride_y: int,
    stride_x: int,
    dilation: int,
    pad: int,
    threads: int,
) -> int:
    """Floats of workspace that `forward_plain` needs: none here."""
    return 0


def forward_plain(
    x: Annotated[Array, "in b c h w"],
    packed: Annotated[Array, "in packed"],
    residual: Annotated[Array | None, "in? b rb oh ow 8"],
    out: Annotated[Array, "io b ob oh ow 8"],
    workspace: Annotated[Array, "io? floats"],
    residual_block: int,
    out_block: int,
    n: int,
    size: int,
    stride_y: int,
    stride_x: int,
    dilation: int,
    pad: int,
    activation: int,
    residual_activation: int,
    threads: int,
) -> None:
    """The convolution of a plain x, a network's input, into a slice of a blocked map."""
    kernel = "blocked_convolution.forward_plain"
    steps = (stride_y, stride_x, dilation, pad)
    require_blocked_convolution(kernel, Algorithm.FIRST, (x.shape[1], n, 1), size, steps)
    _into_slice(kernel, x, packed, residual, out, residual_block, out_block, n, size, 1, steps, activation,
                residual_activation)  # fmt: skip


def _into_slice(
    kernel: str,
    x: Array,
    packed: Array,
    residual: Array | None,
    out: Array,
    residual_block: int,
    out_block: int,
    n: int,
    size: int,
    groups: int,
    steps: tuple[int, int, int, int],
    activation: int,
    residual_activation: int,
) -> None:
    """The convolution of plain x, then everything that follows it, to blocks of out."""
    cg, blocks = x.shape[1] // groups, _blocks(n)
    require_slice(kernel, "out", out_block, blocks, out.shape[1])
    if residual is not None:
        require_slice(kernel, "residual", residual_block, blocks, residual.shape[1])
    weights = packed[n : n + n * cg * size * size].reshape(n, cg, size, size)
    sums = np.zeros((out.shape[0], blocks * BLOCK, *out.shape[2:4]))
    plain = np.empty((out.shape[0], n, *out.shape[2:4]))
    convolution.forward(x, weights, packed[:n], plain, np.empty(0), groups, *steps, Algorithm.GEMM, 1)
    sums[:, :n] = plain
    activations.forward(sums, activation, 1)
    if residual is not None:
        sums += _to_plain(residual[:, residual_block : residual_block + blocks], blocks * BLOCK)
        activations.forward(sums, residual_activation, 1)
    split = sums.reshape(out.shape[0], blocks, BLOCK, *out.shape[2:4])
    out[:, out_block : out_block + blocks] = split.transpose(0, 1, 3, 4, 2)


def _blocks(channels: int) -> int:
    return -(-channels // BLOCK)


def _to_plain(x: Array, channels: int) -> Array:
    """The first channels of a blocked map as (batch, channel, row, column)."""
    b, blocks, h, w, _ = x.shape
    return x.transpose(0, 1, 4, 2, 3).reshape(b, blocks * BLOCK, h, w)[:, :channels]
