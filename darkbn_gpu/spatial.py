"""Launchers of darkbn.reference.spatial."""

from __future__ import annotations

from darkbn.geometry import require_blocks, require_depth, require_range
from darkbn.signature import Array
from darkbn_gpu.launch import each
from darkbn_gpu.vector import fill


def _meeting(a: Array, b: Array) -> tuple[int, ...]:
    """Channels, rows and columns that meet, then the steps between those of a (y, x) and of b."""
    rows, columns = (min(a.shape[axis], b.shape[axis]) for axis in (2, 3))
    steps = [_steps(a.shape[axis], b.shape[axis]) for axis in (2, 3)]
    return (min(a.shape[1], b.shape[1]), rows, columns, steps[0][0], steps[1][0], steps[0][1], steps[1][1])


def _steps(a: int, b: int) -> tuple[int, int]:
    return (max(a // b, 1), max(b // a, 1)) if min(a, b) else (1, 1)


def shortcut(x: Array, add: Array, out: Array, alpha: float, beta: float, threads: int) -> None:
    sizes = (*x.shape, *add.shape[1:], float(alpha), float(beta), *_meeting(x, add))
    each("spatial", "spatial_shortcut", out.size, x, add, out, *sizes)


def shortcut_add(add: Array, out: Array, alpha: float, beta: float, threads: int) -> None:
    shortcut(out, add, out, alpha, beta, threads)


def shortcut_backward(
    delta: Array,
    input_delta: Array | None,
    add_delta: Array,
    alpha: float,
    beta: float,
    accumulate: int,
    add_accumulate: int,
    threads: int,
) -> None:
    meeting = _meeting(delta, add_delta)
    if not add_accumulate:
        fill(add_delta, 0.0, threads)
    if input_delta is not None and not accumulate:
        fill(input_delta, 0.0, threads)
    sizes = (*delta.shape, *add_delta.shape[2:], float(alpha), *meeting)
    if input_delta is not None:
        each("spatial", "spatial_shortcut_backward", delta.size, delta, input_delta, *sizes)
    channels, rows, columns = meeting[:3]
    count = delta.shape[0] * channels * rows * columns
    sizes = (*delta.shape, *add_delta.shape[1:], float(beta), *meeting)
    each("spatial", "spatial_shortcut_backward_add", count, delta, add_delta, *sizes)


def copy_block(source: Array, out: Array, source_start: int, out_start: int, count: int, threads: int) -> None:
    _block("spatial.copy_block", source, out, source_start, out_start, count, 0)


def add_block(source: Array, out: Array, source_start: int, out_start: int, count: int, threads: int) -> None:
    _block("spatial.add_block", source, out, source_start, out_start, count, 1)


def _block(kernel: str, source: Array, out: Array, source_start: int, out_start: int, count: int, add: int) -> None:
    require_range(kernel, "source", source_start, count, source.shape[1])
    require_range(kernel, "out", out_start, count, out.shape[1])
    sizes = (source.shape[0], source.shape[1], out.shape[1], source_start, out_start, count, add)
    each("spatial", "spatial_block", source.shape[0] * count, source, out, *sizes)


def _planes(x: Array, out: Array) -> tuple[int, ...]:
    b, c, h, w = x.shape
    return (b * c, h, w, *out.shape[2:])


def upsample(x: Array, out: Array, stride: int, scale: float, threads: int) -> None:
    require_blocks("spatial.upsample", out.shape[2:], x.shape[2:], stride, rest=False)
    each("spatial", "spatial_repeat", out.size, x, out, *_planes(x, out), stride, float(scale), 0)


def upsample_backward(delta: Array, input_delta: Array, stride: int, scale: float, threads: int) -> None:
    require_blocks("spatial.upsample_backward", delta.shape[2:], input_delta.shape[2:], stride, rest=False)
    sizes = (*_planes(delta, input_delta), stride, float(scale), 1)
    each("spatial", "spatial_block_sums", input_delta.size, delta, input_delta, *sizes)


def downsample(x: Array, out: Array, stride: int, scale: float, threads: int) -> None:
    require_blocks("spatial.downsample", x.shape[2:], out.shape[2:], stride, rest=True)
    each("spatial", "spatial_block_sums", out.size, x, out, *_planes(x, out), stride, float(scale), 0)


def downsample_backward(delta: Array, input_delta: Array, stride: int, scale: float, threads: int) -> None:
    require_blocks("spatial.downsample_backward", input_delta.shape[2:], delta.shape[2:], stride, rest=True)
    sizes = (*_planes(delta, input_delta), stride, float(scale), 1)
    each("spatial", "spatial_repeat", input_delta.size, delta, input_delta, *sizes)


def space_to_depth(x: Array, out: Array, stride: int, threads: int) -> None:
    require_depth("spatial.space_to_depth", x.shape[1:], out.shape[1:], stride)
    each("spatial", "spatial_depth", x.size, x, out, *x.shape, stride, 0, 0)


def space_to_depth_add(x: Array, out: Array, stride: int, threads: int) -> None:
    require_depth("spatial.space_to_depth_add", x.shape[1:], out.shape[1:], stride)
    each("spatial", "spatial_depth", x.size, x, out, *x.shape, stride, 0, 1)


def depth_to_space(x: Array, out: Array, stride: int, threads: int) -> None:
    require_depth("spatial.depth_to_space", out.shape[1:], x.shape[1:], stride)
    each("spatial", "spatial_depth", out.size, x, out, *out.shape, stride, 1, 0)


def depth_to_space_add(x: Array, out: Array, stride: int, threads: int) -> None:
    require_depth("spatial.depth_to_space_add", out.shape[1:], x.shape[1:], stride)
    each("spatial", "spatial_depth", out.size, x, out, *out.shape, stride, 1, 1)


def flatten(x: Array, out: Array, threads: int) -> None:
    each("spatial", "spatial_flatten", x.size, x, out, *x.shape, 0)


def flatten_add(x: Array, out: Array, threads: int) -> None:
    each("spatial", "spatial_flatten", x.size, x, out, *x.shape, 1)
