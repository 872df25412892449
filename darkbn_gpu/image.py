"""Launchers of darkbn.reference.image."""

from __future__ import annotations

import numpy as np

from darkbn.signature import Array
from darkbn_gpu.launch import each


def resize(x: Array, out: Array, left: int, top: int, width: int, height: int, fill: float, threads: int) -> None:
    sizes = (*x.shape, *out.shape[1:], left, top, width, height, float(fill))
    each("image", "image_resize", out.size if x.size else 0, x, out, *sizes)


def resize_bytes(x: Array, out: Array, left: int, top: int, width: int, height: int, fill: float, threads: int) -> None:
    h, w, c = x.shape
    sizes = (c, h, w, *out.shape[1:], left, top, width, height, float(fill))
    each("image", "image_resize_bytes", out.size if x.size else 0, x, out, *sizes)


def planes_from_bytes(x: Array, out: Array, threads: int) -> None:
    h, w, c = x.shape
    each("image", "image_planes_from_bytes", out.size, x, out, c, h * w)


def rotate_crop(
    x: Array, out: Array, angle: float, scale: float, dx: float, dy: float, aspect: float, threads: int
) -> None:
    numbers = [np.float64(number) for number in (angle, scale, dx, dy, aspect)]
    each("image", "image_rotate_crop", out.size, x, out, *x.shape, *out.shape[1:], *numbers)


def rgb_to_hsv(x: Array, threads: int) -> None:
    each("image", "image_rgb_to_hsv", x.shape[1], x, x.shape[1])


def hsv_to_rgb(x: Array, threads: int) -> None:
    each("image", "image_hsv_to_rgb", x.shape[1], x, x.shape[1])


def distort(x: Array, hue: float, saturation: float, exposure: float, threads: int) -> None:
    each("image", "image_distort", x.shape[1], x, x.shape[1], float(hue), float(saturation), float(exposure))
