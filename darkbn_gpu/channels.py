"""Launchers of darkbn.reference.channels."""

from __future__ import annotations

from darkbn.signature import Array
from darkbn_gpu.launch import each, launch, map_each


def scale(x: Array, scales: Array, out: Array, threads: int) -> None:
    each("channels", "channels_scale", x.size, x, scales, out, x.size, x.shape[2], 0)


def scale_add(x: Array, scales: Array, out: Array, threads: int) -> None:
    each("channels", "channels_scale", x.size, x, scales, out, x.size, x.shape[2], 1)


def dot_add(x: Array, y: Array, sums: Array, threads: int) -> None:
    b, c, s = x.shape
    launch("channels", "channels_dot_add", b * c, x, y, sums, s)


def scale_pixels(x: Array, scales: Array, out: Array, threads: int) -> None:
    each("channels", "channels_scale_pixels", x.size, x, scales, out, x.size, *x.shape[1:], 0)


def scale_pixels_add(x: Array, scales: Array, out: Array, threads: int) -> None:
    each("channels", "channels_scale_pixels", x.size, x, scales, out, x.size, *x.shape[1:], 1)


def dot_pixels_add(x: Array, y: Array, sums: Array, threads: int) -> None:
    b, c, s = x.shape
    each("channels", "channels_dot_pixels_add", b * s, x, y, sums, b, c, s)


def multiply(x: Array, y: Array, out: Array, threads: int) -> None:
    map_each("channels", "channels_multiply", x.size, x, y, out, x.size, 0)


def multiply_add(x: Array, y: Array, out: Array, threads: int) -> None:
    map_each("channels", "channels_multiply", x.size, x, y, out, x.size, 1)
