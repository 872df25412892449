"""What inference does to blocked maps besides convolutions (their layout: see blocked_convolution).

`x_block`, `out_block`, ... are the first blocks of slices; `blocks` is how many a slice has. Kernels write all lanes
of the blocks of their slice of out and nothing else, but for copy_channels, which writes its channels only.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from darkbn.geometry import require_blocks, require_range, require_slice, require_window
from darkbn.reference import activation as activations
from darkbn.reference import pooling, spatial
from darkbn.signature import Array

BLOCK = 8


def from_plain(
    x: Annotated[Array, "in b c h w"], out: Annotated[Array, "io b ob h w 8"], out_block: int, threads: int
) -> None:
    """A plain map to a slice; lanes beyond its channels become 0."""
    b, c, h, w = x.shape
    blocks = -(-c // BLOCK)
    require_slice("blocked.from_plain", "out", out_block, blocks, out.shape[1])
    padded = np.zeros((b, blocks * BLOCK, h, w))
    padded[:, :c] = x
    out[:, out_block : out_block + blocks] = padded.reshape(b, blocks, BLOCK, h, w).transpose(0, 1, 3, 4, 2)


def to_plain(
    x: Annotated[Array, "in b xb h w 8"], out: Annotated[Array, "out b c h w"], x_block: int, threads: int
) -> None:
    """The first channels of a slice as a plain map."""
    c = out.shape[1]
    blocks = -(-c // BLOCK)
    require_slice("blocked.to_plain", "x", x_block, blocks, x.shape[1])
    out[...] = _channels(x[:, x_block : x_block + blocks])[:, :c]


def copy_channels(
    x: Annotated[Array, "in b xb h w 8"],
    out: Annotated[Array, "io b ob h w 8"],
    x_channel: int,
    out_channel: int,
    channels: int,
    threads: int,
) -> None:
    """out's channels from out_channel on = x's from x_channel on: slices that do not begin with a block."""
    require_range("blocked.copy_channels", "x", x_channel, channels, x.shape[1] * BLOCK)
    require_range("blocked.copy_channels", "out", out_channel, channels, out.shape[1] * BLOCK)
    for i in range(channels):
        source, target = divmod(x_channel + i, BLOCK), divmod(out_channel + i, BLOCK)
        out[:, target[0], :, :, target[1]] = x[:, source[0], :, :, source[1]]


def maxpool(
    x: Annotated[Array, "in b xb h w 8"],
    out: Annotated[Array, "io b ob oh ow 8"],
    x_block: int,
    out_block: int,
    blocks: int,
    size: int,
    stride_y: int,
    stride_x: int,
    padding: int,
    threads: int,
) -> None:
    """The maxima of darkbn.reference.pooling."""
    kernel = "blocked.maxpool"
    require_window(kernel, size, stride_y, stride_x, padding)
    _require_slices(kernel, blocks, x=(x, x_block), out=(out, out_block))
    plain = np.empty((out.shape[0], blocks * BLOCK, *out.shape[2:4]))
    pooling.maxpool(_channels(x[:, x_block : x_block + blocks]), plain, None, size, stride_y, stride_x, padding, 1)
    out[:, out_block : out_block + blocks] = _blocked(plain)


def avgpool(
    x: Annotated[Array, "in b xb h w 8"],
    out: Annotated[Array, "io b ob 1 1 8"],
    x_block: int,
    out_block: int,
    blocks: int,
    threads: int,
) -> None:
    """out = mean of each channel; 0 of an empty one."""
    _require_slices("blocked.avgpool", blocks, x=(x, x_block), out=(out, out_block))
    sums = x[:, x_block : x_block + blocks].sum(axis=(2, 3), dtype=np.float64, keepdims=True)
    out[:, out_block : out_block + blocks] = sums / max(x.shape[2] * x.shape[3], 1)


def upsample(
    x: Annotated[Array, "in b xb h w 8"],
    out: Annotated[Array, "io b ob oh ow 8"],
    x_block: int,
    out_block: int,
    blocks: int,
    stride: int,
    scale: float,
    threads: int,
) -> None:
    """out[.., y, x, :] = scale * x[.., y // stride, x // stride, :]"""
    kernel = "blocked.upsample"
    require_blocks(kernel, out.shape[2:4], x.shape[2:4], stride, rest=False)
    _require_slices(kernel, blocks, x=(x, x_block), out=(out, out_block))
    pixels = scale * x[:, x_block : x_block + blocks]
    out[:, out_block : out_block + blocks] = pixels.repeat(stride, axis=2).repeat(stride, axis=3)


def shortcut(
    x: Annotated[Array, "in b xb h w 8"],
    residual: Annotated[Array, "in b rb h w 8"],
    out: Annotated[Array, "io b ob h w 8"],
    x_block: int,
    residual_block: int,
    out_block: int,
    blocks: int,
    activation: int,
    threads: int,
) -> None:
    """out = activation(x + residual), for the kinds that work on single values; out's slice may be another's."""
    slices = {"x": (x, x_block), "residual": (residual, residual_block), "out": (out, out_block)}
    _require_slices("blocked.shortcut", blocks, **slices)
    total = x[:, x_block : x_block + blocks] + residual[:, residual_block : residual_block + blocks]
    activations.forward(total, activation, 1)
    out[:, out_block : out_block + blocks] = total


def shortcut_unequal(
    x: Annotated[Array, "in b xb h w 8"],
    residual: Annotated[Array, "in b rb h1 w1 8"],
    out: Annotated[Array, "io b ob h w 8"],
    x_block: int,
    residual_block: int,
    out_block: int,
    blocks: int,
    channels: int,
    alpha: float,
    beta: float,
    activation: int,
    threads: int,
) -> None:
    """out = activation(alpha * x + beta * residual) where the two meet, activation(x) elsewhere; out may be x.

    They meet in their first `channels` channels, and in the pixels that darkbn.reference.spatial.shortcut names.
    """
    kernel = "blocked.shortcut_unequal"
    _require_slices(kernel, blocks, x=(x, x_block), out=(out, out_block))
    require_range(kernel, "x", 0, channels, blocks * BLOCK)
    meeting = -(-channels // BLOCK)
    _require_slices(kernel, meeting, residual=(residual, residual_block))
    plain = _channels(x[:, x_block : x_block + blocks])
    total = np.empty(plain.shape)
    other = _channels(residual[:, residual_block : residual_block + meeting])[:, :channels]
    spatial.shortcut(plain, other, total, alpha, beta, 1)
    activations.forward(total, activation, 1)
    out[:, out_block : out_block + blocks] = _blocked(total)


def activation(
    x: Annotated[Array, "in b xb h w 8"],
    out: Annotated[Array, "io b ob h w 8"],
    x_block: int,
    out_block: int,
    blocks: int,
    activation: int,
    threads: int,
) -> None:
    """out = activation(x), for the kinds that work on single values; out's slice may be x's."""
    _require_slices("blocked.activation", blocks, x=(x, x_block), out=(out, out_block))
    values = x[:, x_block : x_block + blocks].astype(np.float64)
    activations.forward(values, activation, 1)
    out[:, out_block : out_block + blocks] = values


def scale_channels(
    x: Annotated[Array, "in b xb h w 8"],
    scales: Annotated[Array, "in b sb 1 1 8"],
    out: Annotated[Array, "io b ob h w 8"],
    x_block: int,
    scale_block: int,
    out_block: int,
    blocks: int,
    activation: int,
    threads: int,
) -> None:
    """out = activation(x * scales), a scale a channel; out's slice may be x's."""
    slices = {"x": (x, x_block), "scales": (scales, scale_block), "out": (out, out_block)}
    _require_slices("blocked.scale_channels", blocks, **slices)
    product = x[:, x_block : x_block + blocks] * scales[:, scale_block : scale_block + blocks]
    activations.forward(product, activation, 1)
    out[:, out_block : out_block + blocks] = product


def _require_slices(kernel: str, blocks: int, **slices: tuple[Array, int]) -> None:
    for name, (array, block) in slices.items():
        require_slice(kernel, name, block, blocks, array.shape[1])


def _channels(x: Array) -> Array:
    """A blocked map as (batch, channel, row, column)."""
    b, blocks, h, w, _ = x.shape
    return x.transpose(0, 1, 4, 2, 3).reshape(b, blocks * BLOCK, h, w)


def _blocked(x: Array) -> Array:
    b, c, h, w = x.shape
    return x.reshape(b, c // BLOCK, BLOCK, h, w).transpose(0, 1, 3, 4, 2)
