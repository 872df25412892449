"""Windows cut out of pictures, turned, mirrored and with changed colours (Darknet's [crop]), and their gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated

import numpy as np

from darkbn.signature import Array


def window(
    x: Annotated[Array, "in b c h w"],
    places: Annotated[Array, "in:int32 b 3"],
    angles: Annotated[Array | None, "in? b"],
    shifts: Annotated[Array | None, "in? c"],
    out: Annotated[Array, "out b c oh ow"],
    scale: float,
    translate: float,
    threads: int,
) -> None:
    """out = scale * x + translate + shifts, seen through a window.

    Args:
        x: pictures.
        places: of each picture, the row and column of the window's corner, and whether it is mirrored: column j is
            then w - column - 1 - j.
        angles: by how much the window is turned round the picture's centre (w/2, h/2), in radians; None: not at all.
            Values between pixels are bilinear.
        shifts: added to each channel; None: nothing.
        out: the windows; what lies outside the picture is 0.
        scale, translate: of every value inside the picture.
    """
    for sample, taps in _samples(x, places, angles, out):
        out[sample] = 0
        for rows, columns, weights, inside in taps:
            values = scale * x[sample][:, rows, columns] + translate
            if shifts is not None:
                values = values + shifts[:, np.newaxis, np.newaxis]
            out[sample] += np.where(inside, weights * values, 0)


def window_backward(
    delta: Annotated[Array, "in b c oh ow"],
    places: Annotated[Array, "in:int32 b 3"],
    angles: Annotated[Array | None, "in? b"],
    input_delta: Annotated[Array, "io b c h w"],
    scale: float,
    threads: int,
) -> None:
    """input_delta += the gradient of sum(delta * window) by the picture (Darknet has none)."""
    for sample, taps in _samples(input_delta, places, angles, delta):
        total = np.zeros(input_delta.shape[1:])
        for rows, columns, weights, inside in taps:
            share = np.where(inside, weights * delta[sample] * scale, 0)
            for channel in range(len(total)):
                np.add.at(total[channel], (rows, columns), share[channel])
        input_delta[sample] += total


def levels(
    x: Annotated[Array, "in b 3 s"],
    factors: Annotated[Array, "in b 2"],
    out: Annotated[Array, "out b 3 s"],
    threads: int,
) -> None:
    """out = red, green, blue with saturation and value multiplied by factors, clipped to 0..1.

    Hue stays, so that it need not be known: with v the greatest of the three, a colour c becomes
    exposure * (v - saturation * (v - c)).
    """
    out[...] = np.clip(_changed(x, factors), 0, 1)


def levels_backward(
    x: Annotated[Array, "in b 3 s"],
    factors: Annotated[Array, "in b 2"],
    delta: Annotated[Array, "in b 3 s"],
    input_delta: Annotated[Array, "io b 3 s"],
    threads: int,
) -> None:
    """input_delta += the gradient of sum(delta * levels); clipped values have none, the first greatest colour is v."""
    saturation, exposure = factors.T[:, :, np.newaxis, np.newaxis]
    changed = _changed(x, factors)
    live = np.where((changed >= 0) & (changed <= 1), delta * exposure, 0)
    greatest = x.argmax(axis=1)[:, np.newaxis] == np.arange(3)[:, np.newaxis]
    input_delta += saturation * live + greatest * (1 - saturation) * live.sum(axis=1, keepdims=True)


def _changed(x: Array, factors: Array) -> Array:
    saturation, exposure = factors.T[:, :, np.newaxis, np.newaxis]
    value = x.max(axis=1, keepdims=True)
    return np.asarray(exposure * (value - saturation * (value - x)))


_Tap = tuple[Array, Array, Array, Array]


def _samples(x: Array, places: Array, angles: Array | None, out: Array) -> Iterator[tuple[int, list[_Tap]]]:
    """For each sample the pixels that make its window: rows, columns (clipped to x), weights, whether inside of x."""
    for sample, (top, left, mirrored) in enumerate(places):
        rows, columns = np.meshgrid(*(np.arange(n) for n in out.shape[2:]), indexing="ij")
        rows = rows + int(top)
        columns = x.shape[3] - int(left) - 1 - columns if mirrored else columns + int(left)
        angle = float(angles[sample]) if angles is not None else 0.0
        yield sample, _taps(rows, columns, angle, *x.shape[2:]) if x.size else []


def _taps(rows: Array, columns: Array, angle: float, h: int, w: int) -> list[_Tap]:
    """The four neighbours of the turned positions; the pixels themselves where nothing is turned."""
    if angle == 0:
        return [_tap(rows, columns, np.ones(()), h, w)]
    across, down = columns - w / 2, rows - h / 2
    column = math.cos(angle) * across - math.sin(angle) * down + w / 2
    row = math.sin(angle) * across + math.cos(angle) * down + h / 2
    left, top = np.floor(column).astype(np.int64), np.floor(row).astype(np.int64)
    u, v = column - left, row - top
    return [
        _tap(top, left, (1 - v) * (1 - u), h, w),
        _tap(top, left + 1, (1 - v) * u, h, w),
        _tap(top + 1, left, v * (1 - u), h, w),
        _tap(top + 1, left + 1, v * u, h, w),
    ]


def _tap(rows: Array, columns: Array, weights: Array, h: int, w: int) -> _Tap:
    inside = (rows >= 0) & (rows < h) & (columns >= 0) & (columns < w)
    return rows.clip(0, h - 1), columns.clip(0, w - 1), weights, inside
