"""Launchers of darkbn.reference.pooling."""

from __future__ import annotations

from darkbn.geometry import require_window
from darkbn.signature import Array
from darkbn_gpu.launch import each, launch
from darkbn_gpu.vector import fill


def maxpool(
    x: Array,
    out: Array,
    indexes: Array | None,
    size: int,
    stride_y: int,
    stride_x: int,
    padding: int,
    threads: int,
) -> None:
    require_window("pooling.maxpool", size, stride_y, stride_x, padding)
    b, c, h, w = x.shape
    sizes = (b * c, h, w, *out.shape[2:], size, stride_y, stride_x, padding)
    each("pooling", "pooling_maxpool", out.size, x, out, indexes, *sizes)


def maxpool_backward(delta: Array, indexes: Array, input_delta: Array, accumulate: int, threads: int) -> None:
    b, c, h, w = input_delta.shape
    if not accumulate:
        fill(input_delta, 0.0, threads)
    area, pooled = h * w, delta.shape[2] * delta.shape[3]
    launch("pooling", "pooling_maxpool_backward", b * c, delta, indexes, input_delta, area, pooled)


def avgpool(x: Array, out: Array, threads: int) -> None:
    b, c, s = x.shape
    launch("pooling", "pooling_avgpool", b * c, x, out, s)


def avgpool_backward(delta: Array, input_delta: Array, threads: int) -> None:
    size = input_delta.size
    each("pooling", "pooling_avgpool_backward", size, delta, input_delta, size, input_delta.shape[2])


def local_avgpool(x: Array, out: Array, size: int, stride_y: int, stride_x: int, padding: int, threads: int) -> None:
    require_window("pooling.local_avgpool", size, stride_y, stride_x, padding)
    b, c, h, w = x.shape
    sizes = (b * c, h, w, *out.shape[2:], size, stride_y, stride_x, padding)
    each("pooling", "pooling_local_avgpool", out.size, x, out, *sizes)


def local_avgpool_backward(
    delta: Array, input_delta: Array, size: int, stride_y: int, stride_x: int, padding: int, threads: int
) -> None:
    require_window("pooling.local_avgpool_backward", size, stride_y, stride_x, padding)
    b, c, h, w = input_delta.shape
    sizes = (b * c, h, w, *delta.shape[2:], size, stride_y, stride_x, padding)
    each("pooling", "pooling_local_avgpool_backward", input_delta.size, delta, input_delta, *sizes)


def maxpool_depth(x: Array, out: Array, indexes: Array | None, threads: int) -> None:
    (b, c, s), n = x.shape, out.shape[1]
    each("pooling", "pooling_maxpool_depth", out.size, x, out, indexes, b, c, n, s)


def maxpool_depth_backward(delta: Array, indexes: Array, input_delta: Array, threads: int) -> None:
    (b, c, s), n = input_delta.shape, delta.shape[1]
    each("pooling", "pooling_maxpool_depth_backward", delta.size, delta, indexes, input_delta, b, c, n, s)
