"""The YOLOv1 head (Darknet's [detection]): a grid of cells with a few boxes each.

One sample's values, with cells = side * side and n boxes a cell:

    classes      cells * classes        one distribution per cell
    confidences  cells * n
    boxes        cells * n * 4          x, y in cells from the cell's corner, w, h relative to the picture
                                        (or their square roots)

and one sample's truth: per cell, whether it holds an object, a class vector, x, y, w, h.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np

from darkbn import boxes
from darkbn.errors import ShapeError
from darkbn.signature import Array


def activate(
    x: Annotated[Array, "in b m"],
    out: Annotated[Array, "out b m"],
    cells: int,
    classes: int,
    softmax: int,
    threads: int,
) -> None:
    """out = x, with softmax over the classes of each cell when softmax is not 0."""
    if min(cells, classes) < 0 or cells * classes > x.shape[1]:
        raise ShapeError(f"detection.activate: {cells} cells of {classes} classes are not inside {x.shape[1]} values")
    out[...] = x
    if softmax:
        scores = x[:, : cells * classes].reshape(len(x), cells, classes).astype(np.float64)
        powers = np.exp(scores - scores.max(axis=2, keepdims=True))
        out[:, : cells * classes] = (powers / powers.sum(axis=2, keepdims=True)).reshape(len(x), -1)


def loss(
    output: Annotated[Array, "in b m"],
    truth: Annotated[Array, "in b t"],
    choices: Annotated[Array | None, "in?:int32 b cells"],
    delta: Annotated[Array, "out b m"],
    costs: Annotated[Array, "out:float64 b"],
    side: int,
    n: int,
    classes: int,
    object_scale: float,
    noobject_scale: float,
    class_scale: float,
    coord_scale: float,
    sqrt: int,
    rescore: int,
    forced: int,
    threads: int,
) -> None:
    """delta = the descent direction of the loss, costs = the sum of its squares for each sample.

    In every cell the confidences are drawn to 0, with noobject_scale. In cells with an object the classes are drawn
    to the truth, and one box is responsible: its confidence is drawn to 1 (or, with rescore, to its IoU) and its
    coordinates to the truth (to the square roots of w and h with sqrt). It is the box with the greatest IoU or,
    where none overlaps, the one nearest to the truth.

    Args:
        output: activated values.
        truth: of each cell in turn 1 + classes + 4 values.
        choices: the responsible box of each cell, given instead of searched (Darknet's random=1); None: searched.
        forced: the responsible box is the second one for objects of less than a tenth of the picture, else the first.
    """
    _check(output, truth, choices, side, n, classes)
    delta[...] = 0
    for sample in range(len(output)):
        here = _split(output[sample], side, n, classes)
        change = _split(delta[sample], side, n, classes)
        rows = truth[sample].reshape(side * side, 1 + classes + 4)
        change.confidences[...] = noobject_scale * -here.confidences
        for cell in np.flatnonzero(np.trunc(rows[:, 0])):
            target, place = rows[cell, 1 : 1 + classes], rows[cell, 1 + classes :]
            overlaps, distances = _compare(here.boxes[cell], place, side, sqrt)
            if choices is not None:
                best = int(choices[sample, cell])
            elif forced:
                best = min(1 if place[2] * place[3] < 0.1 else 0, n - 1)
            else:
                best = int(overlaps.argmax() if (overlaps > 0).any() else distances.argmin())
            change.classes[cell] = class_scale * (target - here.classes[cell])
            goal = overlaps[best] if rescore else 1.0
            change.confidences[cell, best] = object_scale * (goal - here.confidences[cell, best])
            aim = np.concatenate([place[:2], np.sqrt(place[2:]) if sqrt else place[2:]])
            change.boxes[cell, best] = coord_scale * (aim - here.boxes[cell, best])
    costs[...] = np.square(delta, dtype=np.float64).sum(axis=1)


class _Parts(NamedTuple):
    """Views of one sample."""

    classes: Array  # (cells, classes)
    confidences: Array  # (cells, n)
    boxes: Array  # (cells, n, 4)


def _split(values: Array, side: int, n: int, classes: int) -> _Parts:
    cells = side * side
    first, second, third = np.split(values, [cells * classes, cells * (classes + n)])
    return _Parts(first.reshape(cells, classes), second.reshape(cells, n), third.reshape(cells, n, 4))


def _compare(predicted: Array, place: Array, side: int, sqrt: int) -> tuple[Array, Array]:
    """IoU and distance of each box of a cell and the truth."""
    unit = np.array([side, side, 1, 1])
    found = predicted / unit
    if sqrt:
        found[:, 2:] **= 2
    return boxes.iou(found, place / unit), boxes.rmse(found, place / unit)


def _check(output: Array, truth: Array, choices: Array | None, side: int, n: int, classes: int) -> None:
    cells = side * side
    expected = (cells * (classes + 5 * n), cells * (classes + 5))
    found = (output.shape[1], truth.shape[1])
    if min(side, n) < 1 or classes < 0 or found != expected:
        raise ShapeError(
            f"detection.loss: {side} x {side} cells with {n} boxes and {classes} classes have {expected[0]} values and"
            f" {expected[1]} of truth, found {found[0]} and {found[1]}"
        )
    if choices is not None and (choices.shape[1] != cells or (choices < 0).any() or (choices >= n).any()):
        raise ShapeError(f"detection.loss: choices must be numbers below {n}, one for each of {cells} cells")
