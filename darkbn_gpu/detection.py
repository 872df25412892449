"""Launchers of darkbn.reference.detection."""

from __future__ import annotations

from darkbn.errors import ShapeError
from darkbn.signature import Array
from darkbn_gpu.launch import each, launch


def activate(x: Array, out: Array, cells: int, classes: int, softmax: int, threads: int) -> None:
    if min(cells, classes) < 0 or cells * classes > x.shape[1]:
        raise ShapeError(f"detection.activate: {cells} cells of {classes} classes are not inside {x.shape[1]} values")
    each("detection", "detection_activate", x.size, x, out, *x.shape, cells, classes, softmax)


def loss(
    output: Array,
    truth: Array,
    choices: Array | None,
    delta: Array,
    costs: Array,
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
    _check(output, truth, choices, side, n, classes)
    b, size = output.shape
    scales = [float(scale) for scale in (object_scale, noobject_scale, class_scale, coord_scale)]
    rules = (b, side, n, classes, *scales, sqrt, rescore, forced)
    each("detection", "detection_loss", b * side * side, output, truth, choices, delta, *rules)
    launch("detection", "detection_costs", b, delta, costs, size)


def _check(output: Array, truth: Array, choices: Array | None, side: int, n: int, classes: int) -> None:
    cells = side * side
    expected = (cells * (classes + 5 * n), cells * (classes + 5))
    found = (output.shape[1], truth.shape[1])
    if min(side, n) < 1 or classes < 0 or found != expected:
        raise ShapeError(
            f"detection.loss: {side} x {side} cells with {n} boxes and {classes} classes have {expected[0]} values and"
            f" {expected[1]} of truth, found {found[0]} and {found[1]}"
        )
    if choices is not None and (choices.shape[1] != cells or bool(((choices < 0) | (choices >= n)).any())):
        raise ShapeError(f"detection.loss: choices must be numbers below {n}, one for each of {cells} cells")
