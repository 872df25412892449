"""Pictures: scaling and letterboxing, bytes to planes, turning, colours.

Planes are (channel, row, column) with values in 0..1, bytes are (row, column, channel) as decoders give them.
Positions are computed in float32 as in Darknet: over a source of thousands of pixels they round to about 1e-4 of
a pixel, which is more than the arithmetic on the values does.
"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np

from darkbn.signature import Array


def resize(
    x: Annotated[Array, "in c h w"],
    out: Annotated[Array, "out c oh ow"],
    left: int,
    top: int,
    width: int,
    height: int,
    fill: float,
    threads: int,
) -> None:
    """Scale x to (height, width), put it into out with its corner at (top, left), the rest becomes fill.

    Darknet's resize_image (bilinear, corner pixels to corner pixels), letterbox_image and embed_image in one. What
    falls outside of out is dropped. The last row is the last row of x; in Darknet, for some sizes, it is nearly black.
    """
    out[:] = fill
    rows, columns = _positions(x.shape[1], height), _positions(x.shape[2], width)
    part = _between(np.asarray(x, dtype=np.float64), columns, axis=2)
    scaled = _between(part, rows, axis=1)
    row, column = max(0, -top), max(0, -left)
    inside = out[:, max(0, top) : max(0, top + height), max(0, left) : max(0, left + width)]
    inside[:] = scaled[:, row : row + inside.shape[1], column : column + inside.shape[2]]


def resize_bytes(
    x: Annotated[Array, "in:uint8 h w c"],
    out: Annotated[Array, "out c oh ow"],
    left: int,
    top: int,
    width: int,
    height: int,
    fill: float,
    threads: int,
) -> None:
    """`resize` of a picture in bytes: the same as planes_from_bytes, then resize."""
    planes = np.empty((x.shape[2], *x.shape[:2]))
    planes_from_bytes(x, planes, threads)
    resize(planes, out, left, top, width, height, fill, threads)


def planes_from_bytes(x: Annotated[Array, "in:uint8 h w c"], out: Annotated[Array, "out c h w"], threads: int) -> None:
    """out = x / 255 with the channels in front."""
    out[:] = x.transpose(2, 0, 1) / 255


def rotate_crop(
    x: Annotated[Array, "in c h w"],
    out: Annotated[Array, "out c oh ow"],
    angle: float,
    scale: float,
    dx: float,
    dy: float,
    aspect: float,
    threads: int,
) -> None:
    """out = x turned by angle (radians) round its centre, seen through a window of out's size (rotate_crop_image).

    The window is shifted by (dx, dy) and x enlarged by scale, horizontally by scale / aspect. Outside of x is 0,
    between pixels the value is bilinear.
    """
    (h, w), (oh, ow) = x.shape[1:], out.shape[1:]
    across = (np.arange(ow) - ow / 2) / scale * aspect + dx / scale * aspect
    down = ((np.arange(oh) - oh / 2) / scale + dy / scale)[:, np.newaxis]
    columns = (math.cos(angle) * across - math.sin(angle) * down + w / 2).astype(np.float32)
    rows = (math.sin(angle) * across + math.cos(angle) * down + h / 2).astype(np.float32)
    left, top = np.floor(columns).astype(np.int64), np.floor(rows).astype(np.int64)
    u, v = (columns - left).astype(np.float64), (rows - top).astype(np.float64)

    def pixel(row: Array, column: Array) -> Array:
        inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)
        return np.where(inside, x[:, row.clip(0, h - 1), column.clip(0, w - 1)], 0)

    upper = (1 - u) * pixel(top, left) + u * pixel(top, left + 1)
    lower = (1 - u) * pixel(top + 1, left) + u * pixel(top + 1, left + 1)
    out[:] = (1 - v) * upper + v * lower


def rgb_to_hsv(x: Annotated[Array, "io 3 s"], threads: int) -> None:
    """Red, green, blue to hue (0..1 for a whole turn), saturation, value. Grey has hue 0 (Darknet: NaN)."""
    r, g, b = np.array(x, dtype=np.float64)
    value = np.maximum(np.maximum(r, g), b)
    spread = value - np.minimum(np.minimum(r, g), b)
    divisor = np.where(spread == 0, 1, spread)
    sixth = np.where(r == value, (g - b) / divisor, np.where(g == value, 2 + (b - r) / divisor, 4 + (r - g) / divisor))
    x[0] = np.where(spread == 0, 0, np.where(sixth < 0, sixth + 6, sixth) / 6)
    x[1] = np.where(value == 0, 0, spread / np.where(value == 0, 1, value))
    x[2] = value


def hsv_to_rgb(x: Annotated[Array, "io 3 s"], threads: int) -> None:
    """The inverse of rgb_to_hsv for every hue; a whole turn (hue 1) is red (Darknet: magenta)."""
    hue, saturation, value = np.array(x, dtype=np.float64)
    for channel, turn in enumerate((5, 3, 1)):
        k = np.mod(turn + 6 * hue, 6)
        x[channel] = value - value * saturation * np.clip(np.minimum(k, 4 - k), 0, 1)


def distort(x: Annotated[Array, "io 3 s"], hue: float, saturation: float, exposure: float, threads: int) -> None:
    """Shift the hue, multiply saturation and value, and clip to 0..1 (Darknet's distort_image)."""
    rgb_to_hsv(x, threads)
    x[0] += hue
    x[1] *= saturation
    x[2] *= exposure
    hsv_to_rgb(x, threads)
    np.clip(x, 0, 1, out=x)


def _positions(source: int, target: int) -> tuple[Array, Array, Array]:
    """For each target pixel the two source pixels that it lies between, and the weight of the second."""
    with np.errstate(divide="ignore", invalid="ignore"):
        step = np.float32(source - 1) / np.float32(target - 1)
        at = np.arange(target, dtype=np.float32) * step
    at[-1:] = source - 1
    low = np.clip(at.astype(np.int64), 0, max(source - 2, 0))
    return low, np.minimum(low + 1, source - 1), (at - low).astype(np.float64)


def _between(x: Array, positions: tuple[Array, Array, Array], axis: int) -> Array:
    low, high, weight = positions
    weight = weight[(...,) + (np.newaxis,) * (x.ndim - 1 - axis)]
    return np.asarray((1 - weight) * x.take(low, axis) + weight * x.take(high, axis))
