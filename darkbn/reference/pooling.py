"""Pooling: maximum and mean over windows, planes or groups of channels, and their gradients.

A window of output (i, j) covers `size` rows from i*stride_y - padding//2 and `size` columns from
j*stride_x - padding//2; what lies outside the image does not count. `padding` is thus the total that Darknet means,
and the output is (in + padding - size)//stride + 1 high and wide; kernels take any output size.

A maximum starts from LOWEST and is replaced by greater values only, as in Darknet: the first of equal values wins,
NaN never wins, a window without any greater value gives LOWEST. Indexes are those of the winner, -1 where there is
none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np

from darkbn.geometry import require_window
from darkbn.signature import Array

#: What a maximum starts from: -FLT_MAX of C.
LOWEST = -float(np.finfo(np.float32).max)


def maxpool(
    x: Annotated[Array, "in b c h w"],
    out: Annotated[Array, "out b c oh ow"],
    indexes: Annotated[Array | None, "out?:int32 b c oh ow"],
    size: int,
    stride_y: int,
    stride_x: int,
    padding: int,
    threads: int,
) -> None:
    """out = maximum of each window; indexes = where it is in its plane, row*w + column (training needs them).

    Darknet's l.indexes counts from the start of the whole array instead: add plane*h*w.
    """
    require_window("pooling.maxpool", size, stride_y, stride_x, padding)
    width = x.shape[3]
    for i, j, rows, columns in _windows(x, out, size, stride_y, stride_x, padding):
        window = x[:, :, rows, columns]
        values = np.where(window > LOWEST, window, LOWEST).reshape(*x.shape[:2], -1)
        if values.shape[2] == 0:
            out[:, :, i, j] = LOWEST
            if indexes is not None:
                indexes[:, :, i, j] = -1
            continue
        out[:, :, i, j] = values.max(axis=2)
        if indexes is not None:
            row, column = np.divmod(values.argmax(axis=2), window.shape[3])
            found = (rows.start + row) * width + columns.start + column
            indexes[:, :, i, j] = np.where(values.max(axis=2) > LOWEST, found, -1)


def maxpool_backward(
    delta: Annotated[Array, "in b c oh ow"],
    indexes: Annotated[Array, "in:int32 b c oh ow"],
    input_delta: Annotated[Array, "io b c h w"],
    accumulate: int,
    threads: int,
) -> None:
    """input_delta += delta, each value where its maximum came from; indexes outside the plane have no source.

    Without `accumulate` input_delta counts as zeros, whatever it holds.
    """
    if not accumulate:
        input_delta[...] = 0
    for plane in np.ndindex(input_delta.shape[:2]):
        target, index = input_delta[plane], indexes[plane]
        valid = (index >= 0) & (index < target.size)
        total = np.zeros(target.size)
        np.add.at(total, index[valid], delta[plane][valid])
        target += total.reshape(target.shape)


def avgpool(x: Annotated[Array, "in b c s"], out: Annotated[Array, "out b c"], threads: int) -> None:
    """out = mean of each plane; 0 of an empty one."""
    out[...] = x.sum(axis=2, dtype=np.float64) / max(x.shape[2], 1)


def avgpool_backward(
    delta: Annotated[Array, "in b c"], input_delta: Annotated[Array, "io b c s"], threads: int
) -> None:
    """input_delta += delta / s, the gradient of the mean."""
    input_delta += delta[:, :, np.newaxis] / max(input_delta.shape[2], 1)


def local_avgpool(
    x: Annotated[Array, "in b c h w"],
    out: Annotated[Array, "out b c oh ow"],
    size: int,
    stride_y: int,
    stride_x: int,
    padding: int,
    threads: int,
) -> None:
    """out = mean of the pixels of each window that lie inside the image; 0 where none does."""
    require_window("pooling.local_avgpool", size, stride_y, stride_x, padding)
    for i, j, rows, columns in _windows(x, out, size, stride_y, stride_x, padding):
        window = x[:, :, rows, columns]
        count = max(window.shape[2] * window.shape[3], 1)
        out[:, :, i, j] = window.sum(axis=(2, 3), dtype=np.float64) / count


def local_avgpool_backward(
    delta: Annotated[Array, "in b c oh ow"],
    input_delta: Annotated[Array, "io b c h w"],
    size: int,
    stride_y: int,
    stride_x: int,
    padding: int,
    threads: int,
) -> None:
    """input_delta += the gradient of local_avgpool: each delta over the number of pixels that its window counted.

    AlexeyAB divides by size*size here, also where the window leaves the image
    (ab-local-avgpool-backward-divides-by-full-window).
    """
    require_window("pooling.local_avgpool_backward", size, stride_y, stride_x, padding)
    total = np.zeros(input_delta.shape)
    for i, j, rows, columns in _windows(input_delta, delta, size, stride_y, stride_x, padding):
        count = max((rows.stop - rows.start) * (columns.stop - columns.start), 1)
        total[:, :, rows, columns] += delta[:, :, i, j, np.newaxis, np.newaxis] / count
    input_delta += total


def maxpool_depth(
    x: Annotated[Array, "in b c s"],
    out: Annotated[Array, "out b n s"],
    indexes: Annotated[Array | None, "out?:int32 b n s"],
    threads: int,
) -> None:
    """out[b, g] = maximum over the channels g, g + n, g + 2n, ... of each pixel (AlexeyAB's maxpool_depth).

    indexes = the channel of the maximum.
    """
    for g in range(out.shape[1]):
        group = x[:, g :: out.shape[1]]
        if group.shape[1] == 0:
            out[:, g] = LOWEST
            if indexes is not None:
                indexes[:, g] = -1
            continue
        values = np.where(group > LOWEST, group, LOWEST)
        out[:, g] = values.max(axis=1)
        if indexes is not None:
            found = g + values.argmax(axis=1) * out.shape[1]
            indexes[:, g] = np.where(values.max(axis=1) > LOWEST, found, -1)


def maxpool_depth_backward(
    delta: Annotated[Array, "in b n s"],
    indexes: Annotated[Array, "in:int32 b n s"],
    input_delta: Annotated[Array, "io b c s"],
    threads: int,
) -> None:
    """input_delta += delta in the channel its maximum came from; indexes of no channel of the group have no source."""
    n, channels = delta.shape[1], input_delta.shape[1]
    valid = (indexes >= 0) & (indexes < channels) & (indexes % n == np.arange(n)[:, np.newaxis])
    b, _, pixel = np.nonzero(valid)
    input_delta[b, indexes[valid], pixel] += delta[valid]


def _windows(
    image: Array, pooled: Array, size: int, stride_y: int, stride_x: int, padding: int
) -> Iterator[tuple[int, int, slice, slice]]:
    """Each output position with the rows and columns of its window that lie inside the image."""
    for i in range(pooled.shape[2]):
        for j in range(pooled.shape[3]):
            rows = _inside(i * stride_y - padding // 2, size, image.shape[2])
            columns = _inside(j * stride_x - padding // 2, size, image.shape[3])
            yield i, j, rows, columns


def _inside(start: int, size: int, length: int) -> slice:
    stop = min(max(start + size, 0), length)
    return slice(min(max(start, 0), stop), stop)
