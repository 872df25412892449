"""Moving values between layers and grids: shortcut, route, upsample, reorg; and their gradients."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from darkbn.geometry import require_blocks, require_depth, require_range
from darkbn.signature import Array


def shortcut(
    x: Annotated[Array, "in b c h w"],
    add: Annotated[Array, "in b c1 h1 w1"],
    out: Annotated[Array, "out b c h w"],
    alpha: float,
    beta: float,
    threads: int,
) -> None:
    """out = alpha*x + beta*add where the two meet, and x elsewhere (Darknet's shortcut layer before its activation).

    They meet in their common channels. Where one is n times as wide, every n-th of its columns meets one of the
    other's; the same for rows. Darknet's shortcut_cpu wants the same n for rows and columns, here each has its own.
    """
    mine, theirs = _meeting(x, add)
    out[...] = x
    out[mine] = alpha * x[mine] + beta * add[theirs]


def shortcut_add(
    add: Annotated[Array, "in b c1 h1 w1"],
    out: Annotated[Array, "io b c h w"],
    alpha: float,
    beta: float,
    threads: int,
) -> None:
    """out = alpha*out + beta*add where the two meet (Darknet's shortcut_cpu; see `shortcut`)."""
    mine, theirs = _meeting(out, add)
    out[mine] = alpha * out[mine] + beta * add[theirs]


def shortcut_backward(
    delta: Annotated[Array, "in b c h w"],
    input_delta: Annotated[Array | None, "io? b c h w"],
    add_delta: Annotated[Array, "io b c1 h1 w1"],
    alpha: float,
    beta: float,
    accumulate: int,
    add_accumulate: int,
    threads: int,
) -> None:
    """input_delta += alpha*delta where the two met and delta elsewhere; add_delta += beta*delta where they met.

    Without `accumulate` input_delta counts as zeros, whatever it holds, without `add_accumulate` add_delta does. Both
    may be one array, with `add_accumulate`. Darknet multiplies the whole delta by alpha, also where forward did not.
    """
    mine, theirs = _meeting(delta, add_delta)
    if not add_accumulate:
        add_delta[...] = 0
    if input_delta is not None:
        if not accumulate:
            input_delta[...] = 0
        factor = np.ones(delta.shape)
        factor[mine] = alpha
        input_delta += factor * delta
    add_delta[theirs] += beta * delta[mine]


def copy_block(
    source: Annotated[Array, "in b m"],
    out: Annotated[Array, "io b n"],
    source_start: int,
    out_start: int,
    count: int,
    threads: int,
) -> None:
    """out[:, out_start:][:count] = source[:, source_start:][:count]: one input of a route layer."""
    require_range("spatial.copy_block", "source", source_start, count, source.shape[1])
    require_range("spatial.copy_block", "out", out_start, count, out.shape[1])
    out[:, out_start : out_start + count] = source[:, source_start : source_start + count]


def add_block(
    source: Annotated[Array, "in b m"],
    out: Annotated[Array, "io b n"],
    source_start: int,
    out_start: int,
    count: int,
    threads: int,
) -> None:
    """out[:, out_start:][:count] += source[:, source_start:][:count]: the gradient of copy_block."""
    require_range("spatial.add_block", "source", source_start, count, source.shape[1])
    require_range("spatial.add_block", "out", out_start, count, out.shape[1])
    out[:, out_start : out_start + count] += source[:, source_start : source_start + count]


def upsample(
    x: Annotated[Array, "in b c h w"],
    out: Annotated[Array, "out b c oh ow"],
    stride: int,
    scale: float,
    threads: int,
) -> None:
    """out = scale*x, each value repeated in a block of stride x stride."""
    require_blocks("spatial.upsample", out.shape[2:], x.shape[2:], stride, rest=False)
    out[...] = (scale * x).repeat(stride, axis=2).repeat(stride, axis=3)


def upsample_backward(
    delta: Annotated[Array, "in b c oh ow"],
    input_delta: Annotated[Array, "io b c h w"],
    stride: int,
    scale: float,
    threads: int,
) -> None:
    """input_delta += scale * the sum of delta over each block of stride x stride."""
    require_blocks("spatial.upsample_backward", delta.shape[2:], input_delta.shape[2:], stride, rest=False)
    input_delta += scale * _block_sums(delta, stride)


def downsample(
    x: Annotated[Array, "in b c h w"],
    out: Annotated[Array, "out b c oh ow"],
    stride: int,
    scale: float,
    threads: int,
) -> None:
    """out = scale * the sum of x over each block of stride x stride (Darknet's upsample with a negative stride).

    Rows and columns beyond the last whole block do not count.
    """
    require_blocks("spatial.downsample", x.shape[2:], out.shape[2:], stride, rest=True)
    out[...] = scale * _block_sums(x[:, :, : out.shape[2] * stride, : out.shape[3] * stride], stride)


def downsample_backward(
    delta: Annotated[Array, "in b c oh ow"],
    input_delta: Annotated[Array, "io b c h w"],
    stride: int,
    scale: float,
    threads: int,
) -> None:
    """input_delta += scale*delta, repeated over each block of stride x stride."""
    require_blocks("spatial.downsample_backward", input_delta.shape[2:], delta.shape[2:], stride, rest=True)
    rows, columns = delta.shape[2] * stride, delta.shape[3] * stride
    input_delta[:, :, :rows, :columns] += (scale * delta).repeat(stride, axis=2).repeat(stride, axis=3)


def space_to_depth(
    x: Annotated[Array, "in b c h w"], out: Annotated[Array, "out b oc oh ow"], stride: int, threads: int
) -> None:
    """out[b, (dy*stride + dx)*c + k, y, x] = x[b, k, y*stride + dy, x*stride + dx]."""
    require_depth("spatial.space_to_depth", x.shape[1:], out.shape[1:], stride)
    out[...] = _to_depth(x, stride)


def space_to_depth_add(
    x: Annotated[Array, "in b c h w"], out: Annotated[Array, "io b oc oh ow"], stride: int, threads: int
) -> None:
    """out += space_to_depth of x: the gradient of depth_to_space."""
    require_depth("spatial.space_to_depth_add", x.shape[1:], out.shape[1:], stride)
    out += _to_depth(x, stride)


def depth_to_space(
    x: Annotated[Array, "in b c h w"], out: Annotated[Array, "out b oc oh ow"], stride: int, threads: int
) -> None:
    """out[b, k, y*stride + dy, x*stride + dx] = x[b, (dy*stride + dx)*oc + k, y, x]."""
    require_depth("spatial.depth_to_space", out.shape[1:], x.shape[1:], stride)
    out[...] = _to_space(x, stride)


def depth_to_space_add(
    x: Annotated[Array, "in b c h w"], out: Annotated[Array, "io b oc oh ow"], stride: int, threads: int
) -> None:
    """out += depth_to_space of x: the gradient of space_to_depth."""
    require_depth("spatial.depth_to_space_add", out.shape[1:], x.shape[1:], stride)
    out += _to_space(x, stride)


def flatten(x: Annotated[Array, "in b c s"], out: Annotated[Array, "out b s c"], threads: int) -> None:
    """out[b, i, k] = x[b, k, i]: planes to pixels; with the axes' roles exchanged, back (Darknet's flatten)."""
    out[...] = x.transpose(0, 2, 1)


def flatten_add(x: Annotated[Array, "in b c s"], out: Annotated[Array, "io b s c"], threads: int) -> None:
    """out[b, i, k] += x[b, k, i]: the gradient of flatten."""
    out += x.transpose(0, 2, 1)


def _meeting(a: Array, b: Array) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Index of the values of a that meet values of b, and of those in b."""
    channels = min(a.shape[1], b.shape[1])
    rows, columns = (_steps(a.shape[axis], b.shape[axis]) for axis in (2, 3))
    batch = slice(None)
    return (
        (batch, slice(channels), rows[0], columns[0]),
        (batch, slice(channels), rows[1], columns[1]),
    )


def _steps(a: int, b: int) -> tuple[slice, slice]:
    """Every n-th of the longer axis with each of the shorter, n = longer // shorter."""
    count = min(a, b)
    step_a, step_b = (max(a // b, 1), max(b // a, 1)) if count else (1, 1)
    return slice(0, count * step_a, step_a), slice(0, count * step_b, step_b)


def _block_sums(x: Array, stride: int) -> Array:
    b, c, h, w = x.shape
    blocks = x.reshape(b, c, h // stride, stride, w // stride, stride)
    sums: Array = blocks.sum(axis=(3, 5), dtype=np.float64)
    return sums


def _to_depth(x: Array, stride: int) -> Array:
    b, c, h, w = x.shape
    blocks = x.reshape(b, c, h // stride, stride, w // stride, stride)
    return blocks.transpose(0, 3, 5, 1, 2, 4).reshape(b, stride * stride * c, h // stride, w // stride)


def _to_space(x: Array, stride: int) -> Array:
    b, c, h, w = x.shape
    blocks = x.reshape(b, stride, stride, c // (stride * stride), h, w)
    return blocks.transpose(0, 3, 4, 1, 5, 2).reshape(b, c // (stride * stride), h * stride, w * stride)
