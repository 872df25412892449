"""Detection heads as ONNX operators: their raw maps, boxes and scores decoded from them, suppression.

Decoded, every head gives for each cell, row by row, and each of its anchors

    boxes   x, y of the centre, width, height, relative to the network's input
    scores  objectness times the probability of each class

which is what `HeadLayer.detections` gives at threshold 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from darkbn.boxes import DIOU_EXPONENT
from darkbn.extras import require
from darkbn.gaussian import OBJECTNESS, TO_CENTER
from darkbn.interop.onnx.exporter import INPUT, Exporter
from darkbn.interop.onnx.sections import section, softmax_of_groups

#: More boxes than any class can keep.
_ALL = np.iinfo(np.int32).max

# -- raw maps ----------------------------------------------------------------------------------------------------------


@section("yolo")
def yolo(e: Exporter, l: Any, x: str) -> str:
    untouched = range(l.entries) if l.options.new_coords else (2, 3)
    return _activated_map(e, l, e.image(l, x), (0, 1), untouched)


@section("Gaussian_yolo")
def gaussian_yolo(e: Exporter, l: Any, x: str) -> str:
    return _activated_map(e, l, e.image(l, x), (0, 2), (4, 6))


def _activated_map(e: Exporter, l: Any, x: str, places: Sequence[int], untouched: Sequence[int]) -> str:
    """The logistic function of all entries but `untouched`, `places` spread by scale_x_y round the middle."""
    spread, raw = l.options.scale_x_y, np.zeros(l.entries, bool)
    raw[list(untouched)] = True
    y = x if raw.all() else e.g.op("Sigmoid", x)
    if not raw.all() and raw.any():
        y = e.g.op("Where", _per_channel(e, l, raw), x, y)
    if spread == 1:
        return y
    factor, term = np.ones(l.entries), np.zeros(l.entries)
    factor[list(places)], term[list(places)] = spread, -0.5 * (spread - 1)
    return e.g.op("Add", e.g.op("Mul", y, _per_channel(e, l, factor)), _per_channel(e, l, term))


def _per_channel(e: Exporter, l: Any, entries: Any) -> str:
    return e.g.constant(np.tile(entries, l.n).reshape(1, -1, 1, 1), "entries")


@section("region")
def region(e: Exporter, l: Any, x: str) -> str:
    x = e.image(l, x)
    if l.in_cells:
        y, axis = _rows_of(e, l, x), 3
    else:
        y, axis = e.g.reshape(x, (0, l.n, l.entries, -1)), 2

    def part(first: int, end: int) -> str:
        return e.g.slice(y, (axis,), (first,), (end,))

    background = not l.in_cells and l.options.background
    place = part(0, 2) if l.in_cells else e.g.op("Sigmoid", part(0, 2))
    parts = [place, part(2, 4)]
    if not background:
        parts.append(e.g.op("Sigmoid", part(4, 5)))
    tree = l.softmax_tree
    joint = background and l.options.softmax and tree is None
    if background and not joint:
        parts.append(part(4, 5))
    classes = part(4 if joint else 5, l.entries)
    if tree is not None:
        before, after = ((0, -1, l.n), ()) if l.in_cells else ((0, l.n), (-1,))
        classes = softmax_of_groups(e, classes, tree.group_size, before, after)
    elif l.options.softmax:
        classes = e.g.op("Softmax", classes, axis=axis)
    elif not l.in_cells:
        classes = e.g.op("Sigmoid", classes)
    return e.restore(e.g.op("Concat", *parts, classes, axis=axis), x, l)


def _rows_of(e: Exporter, l: Any, x: str) -> str:
    """(batch, n * entries, h, w) as (batch, h * w, n, entries)."""
    return e.g.op("Transpose", e.g.reshape(x, (0, l.n, l.entries, -1)), perm=[0, 3, 1, 2])


@section("detection")
def detection(e: Exporter, l: Any, x: str) -> str:
    e.require_fixed_size(l, f"has {l.side} x {l.side} cells")
    x = e.flat(x)
    if not l.options.softmax:
        return x
    end = l.cells * l.classes
    classes = e.g.reshape(e.g.slice(x, (1,), (0,), (end,)), (0, l.cells, l.classes))
    classes = e.g.reshape(e.g.op("Softmax", classes, axis=2), (0, end))
    return e.set_rank(e.g.op("Concat", classes, e.g.slice(x, (1,), (end,), (l.outputs,)), axis=1), 2)


# -- decoded -----------------------------------------------------------------------------------------------------------


def decode(e: Exporter) -> tuple[str, str]:
    """Boxes (batch, m, 4) and scores (batch, m, classes) of all heads of the network, one behind the other."""
    boxes, scores = [], []
    most = max(head.options.classes for head in e.net.heads)
    for head in e.net.heads:
        if getattr(head, "softmax_tree", None) is not None:
            raise e.refuse(head, "the one class of each box that a hierarchy gives is not decoded; heads raw works")
        e.g.scope = f"decode_{head.context.index}"
        value = e.values[head.context.index]
        if e.wanted.float16:
            value = e.g.cast(value, np.float32)
        box, score = _DECODERS[head.type](e, head, value)
        missing = most - head.options.classes
        scores.append(e.g.pad(score, (0, 0, 0), (0, 0, missing)) if missing else score)
        boxes.append(box)
    e.g.scope = "decode"
    if len(boxes) == 1:
        return boxes[0], scores[0]
    return e.g.op("Concat", *boxes, axis=1), e.g.op("Concat", *scores, axis=1)


def _decode_yolo(e: Exporter, l: Any, value: str) -> tuple[str, str]:
    rows, grid = _rows_of(e, l, value), _Grid(e, l, value)
    size = _entries(e, rows, 2, 4)
    if l.options.new_coords:
        half = e.g.op("Mul", size, e.g.scalar(2.0))
        size = e.g.op("Mul", half, half)
    else:
        size = e.g.op("Exp", size)
    boxes = [grid.places(_entries(e, rows, 0, 2)), grid.sizes(size, l.anchors[l.mask])]
    return _finished(e, l, boxes, _entries(e, rows, 4, 5), _entries(e, rows, 5, l.entries))


def _decode_region(e: Exporter, l: Any, value: str) -> tuple[str, str]:
    rows = e.g.reshape(value, (0, -1, l.n, l.entries)) if l.in_cells else _rows_of(e, l, value)
    grid = _Grid(e, l, value)
    place, objectness = _entries(e, rows, 0, 2), _entries(e, rows, 4, 5)
    if l.in_cells:
        place = e.g.op("Sigmoid", place)
        if l.options.classfix == -1:
            unsure = e.g.op("Less", objectness, e.g.scalar(0.5))
            objectness = e.g.op("Where", unsure, e.g.scalar(0.0), objectness)
    elif l.options.background:
        objectness = ""
    size = e.g.op("Exp", _entries(e, rows, 2, 4))
    boxes = [grid.places(place), grid.sizes(size, l.anchors, in_cells=True)]
    return _finished(e, l, boxes, objectness, _entries(e, rows, 5, l.entries))


def _decode_gaussian(e: Exporter, l: Any, value: str) -> tuple[str, str]:
    rows, grid = _rows_of(e, l, value), _Grid(e, l, value)

    def every_second(first: int, end: int) -> str:
        return e.g.slice(rows, (3,), (first,), (end,), (2,))

    size = grid.sizes(e.g.op("Exp", every_second(4, 8)), l.anchors[l.mask])
    place = grid.places(every_second(0, 4))
    shift = TO_CENTER[l.point] / 2
    if shift:
        place = e.g.op("Add", place, e.g.op("Mul", size, e.g.scalar(shift)))
    unsure = e.g.op("Mul", e.g.reduce("ReduceSum", every_second(1, 8), [3]), e.g.scalar(0.25))
    certain = e.g.op("Mul", _entries(e, rows, 8, 9), e.g.op("Sub", e.g.scalar(1.0), unsure))
    return _finished(e, l, [place, size], certain, _entries(e, rows, OBJECTNESS + 1, l.entries))


def _decode_detection(e: Exporter, l: Any, value: str) -> tuple[str, str]:
    """[detection] keeps classes, confidences and boxes in three blocks."""
    ends = np.cumsum([0, l.cells * l.classes, l.cells * l.n, l.cells * l.n * 4])
    shapes = ((0, l.cells, 1, l.classes), (0, l.cells, l.n, 1), (0, l.cells, l.n, 4))
    classes, confidences, rows = (
        e.g.reshape(e.g.slice(value, (1,), (int(ends[i]),), (int(ends[i + 1]),)), shape)
        for i, shape in enumerate(shapes)
    )
    grid, size = _Grid(e, l, value), _entries(e, rows, 2, 4)
    if l.options.sqrt:
        size = e.g.op("Mul", size, size)
    return _finished(e, l, [grid.places(_entries(e, rows, 0, 2)), size], confidences, classes)


_DECODERS = {
    "yolo": _decode_yolo,
    "region": _decode_region,
    "Gaussian_yolo": _decode_gaussian,
    "detection": _decode_detection,
}


def _entries(e: Exporter, rows: str, first: int, end: int) -> str:
    return e.g.slice(rows, (3,), (first,), (end,))


def _finished(e: Exporter, l: Any, boxes: list[str], objectness: str, classes: str) -> tuple[str, str]:
    scores = e.g.op("Mul", classes, objectness) if objectness else classes
    box = e.g.reshape(e.g.op("Concat", *boxes, axis=3), (0, -1, 4))
    return box, e.g.reshape(scores, (0, -1, l.options.classes))


class _Grid:
    """Where the cells of a head are, as constants or, when the size is open, computed from the shapes."""

    def __init__(self, e: Exporter, l: Any, value: str) -> None:
        self.e = e
        if e.wanted.dynamic_size:
            self.cells, self.count = self._measured(value)
            self.net = _as_float(e, e.g.lengths(INPUT, [3, 2]))
            return
        width, height = (l.side, l.side) if l.type == "detection" else (l.w, l.h)
        rows, columns = np.divmod(np.arange(width * height), width)
        self.cells = e.g.constant(np.stack([columns, rows], 1).reshape(1, -1, 1, 2) * 1.0, "cells", np.float32)
        self.count = e.g.constant([float(width), float(height)], "grid", np.float32)
        self.net = e.g.constant([float(e.net.width), float(e.net.height)], "net_size", np.float32)

    def _measured(self, value: str) -> tuple[str, str]:
        g = self.e.g
        size = g.lengths(value, [2, 3])
        zero, one = g.constant(0), g.constant(1)
        steps = [g.op("Range", zero, g.op("Gather", size, g.constant(axis), axis=0), one) for axis in (0, 1)]
        rows, columns = g.reshape(steps[0], (-1, 1)), g.reshape(steps[1], (1, -1))
        parts = [g.reshape(g.op("Expand", part, size), (1, -1, 1, 1)) for part in (columns, rows)]
        return _as_float(self.e, g.op("Concat", *parts, axis=3)), _as_float(self.e, g.lengths(value, [3, 2]))

    def places(self, x: str) -> str:
        """Centres relative to the network's input."""
        g = self.e.g
        return g.op("Div", g.op("Add", x, self.cells), self.count)

    def sizes(self, x: str, anchors: Any, *, in_cells: bool = False) -> str:
        """Sizes relative to the network's input, whose anchors are in pixels of it or in cells."""
        g, anchors = self.e.g, np.asarray(anchors, np.float64).reshape(1, 1, -1, 2)
        scaled = g.op("Mul", x, g.constant(anchors, "anchors", np.float32))
        return g.op("Div", scaled, self.count if in_cells else self.net)


def _as_float(e: Exporter, x: str) -> str:
    return e.g.cast(x, np.float32)


# -- suppression -------------------------------------------------------------------------------------------------------


def suppress(e: Exporter, boxes: str, scores: str, *, threshold: float, overlap: float, kind: str, beta: float) -> str:
    """Detections (k, 7): image, class, score, x, y, w, h of what is left after non-maximum suppression per class.

    Args:
        e: the exporter.
        boxes, scores: as `decode` gives them.
        threshold: scores must exceed it.
        overlap: boxes whose overlap with a better one of their class exceeds it are dropped.
        kind, beta: measure of the overlap, as in `darkbn.boxes.nms_sort`. For "default" and "cornersnms" it is IoU,
            for which ONNX has an operator. For the others that operator only picks and sorts, and the rest is written
            out (pairs of boxes, and a loop).
    """
    g, plain = e.g, kind in ("default", "cornersnms")
    by_class = g.op("Transpose", scores, perm=[0, 2, 1])
    chosen = g.op(
        "NonMaxSuppression",
        boxes,
        by_class,
        g.constant([_ALL]),
        g.constant([float(overlap) if plain else 1.0], "overlap", np.float32),
        g.constant([float(threshold)], "threshold", np.float32),
        center_point_box=1,
    )
    numbers = g.slice(chosen, (1,), (0,), (2,))
    score = g.reshape(g.op("GatherND", by_class, chosen), (-1, 1))
    box = g.op("GatherND", boxes, g.op("Gather", chosen, g.constant([0, 2]), axis=1))
    rows = g.op("Concat", _as_float(e, numbers), score, box, axis=1)
    if plain:
        return rows
    exponent = beta if kind == "diounms" else DIOU_EXPONENT
    near = g.op("Greater", _distance_iou(e, box, exponent), g.scalar(overlap))
    return g.op("Compress", rows, _kept(e, g.op("And", near, _earlier_of_the_same(e, numbers))), axis=0)


def _distance_iou(e: Exporter, box: str, exponent: float) -> str:
    """IoU less a power of the relative centre distance, of each of k boxes with each, (k, k)."""
    g = e.g

    def pair(column: str, operator: str) -> str:
        return g.op(operator, column, g.op("Transpose", column, perm=[1, 0]))

    shared, outer, apart, area = "", "", "", ""
    for axis in (0, 1):
        centre, size = (g.slice(box, (1,), (k,), (k + 1,)) for k in (axis, axis + 2))
        half = g.op("Mul", size, g.scalar(0.5))
        low, high = g.op("Sub", centre, half), g.op("Add", centre, half)
        inner = g.op("Relu", g.op("Sub", pair(high, "Min"), pair(low, "Max")))
        across, offset = g.op("Sub", pair(high, "Max"), pair(low, "Min")), pair(centre, "Sub")
        across, offset = g.op("Mul", across, across), g.op("Mul", offset, offset)
        shared = g.op("Mul", shared, inner) if shared else inner
        outer = g.op("Add", outer, across) if outer else across
        apart = g.op("Add", apart, offset) if apart else offset
        area = g.op("Mul", area, size) if area else size
    covered = g.op("Sub", pair(area, "Add"), shared)
    distance = g.op("Pow", _quotient(e, apart, outer), g.scalar(exponent))
    return g.op("Sub", _quotient(e, shared, covered), distance)


def _quotient(e: Exporter, numerator: str, denominator: str) -> str:
    """0 where the denominator is 0."""
    positive = e.g.op("Greater", denominator, e.g.scalar(0.0))
    return e.g.op("Div", numerator, e.g.op("Where", positive, denominator, e.g.scalar(1.0)))


def _earlier_of_the_same(e: Exporter, numbers: str) -> str:
    """(k, k): whether the row's detection comes before the column's, in the same image and class."""
    g = e.g
    places = g.op("Range", g.constant(0), g.op("Gather", g.op("Shape", numbers), g.constant(0), axis=0), g.constant(1))
    related = g.op("Less", g.reshape(places, (-1, 1)), g.reshape(places, (1, -1)))
    for column in (0, 1):
        number = g.slice(numbers, (1,), (column,), (column + 1,))
        related = g.op("And", related, g.op("Equal", number, g.op("Transpose", number, perm=[1, 0])))
    return related


def _kept(e: Exporter, drops: str) -> str:
    """(k,) bool: what is left when the detections, best first, drop what `drops` (k, k) says, unless dropped.

    All are kept at first; then, until nothing changes, those are that no kept one drops. Each round settles at least
    one more from the beginning.
    """
    g = e.g
    matrix = _as_float(e, drops)
    count = g.lengths(drops, [0])
    every = g.op("Expand", g.scalar(1.0), g.op("Concat", g.constant([1]), count, axis=0))
    onnx = require("onnx", extra="onnx")
    make, tensor, types = onnx.helper.make_node, onnx.helper.make_tensor_value_info, onnx.TensorProto
    body = onnx.helper.make_graph(
        [
            make("MatMul", ["nms.kept", matrix], ["nms.droppers"]),
            make("Cast", ["nms.droppers"], ["nms.dropped"], to=types.BOOL),
            make("Not", ["nms.dropped"], ["nms.free"]),
            make("Cast", ["nms.free"], ["nms.now"], to=types.FLOAT),
            make("Sub", ["nms.now", "nms.kept"], ["nms.difference"]),
            make("Abs", ["nms.difference"], ["nms.changes"]),
            make("ReduceSum", ["nms.changes"], ["nms.changed"], keepdims=0),
            make("Cast", ["nms.changed"], ["nms.again"], to=types.BOOL),
        ],
        "keep",
        [tensor("nms.round", types.INT64, []), tensor("nms.go", types.BOOL, []), tensor("nms.kept", types.FLOAT, None)],
        [tensor("nms.again", types.BOOL, []), tensor("nms.now", types.FLOAT, None)],
    )
    rounds = g.op("Gather", count, g.constant(0), axis=0)
    kept = g.op("Loop", rounds, g.constant(np.array(True)), every, body=body)
    return g.cast(g.reshape(kept, (-1,)), np.bool_)
