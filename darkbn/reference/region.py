"""The [region] head: activation of its map, detections in it, its training loss.

The entries of a map are x, y, w, h, objectness (or, in pjreddie's Darknet, background) and one per class. pjreddie's
Darknet lays the output out as (anchor, entry, row, column) like its input; AlexeyAB's as (row, column, anchor, entry):
the functions that end in `_cells`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from darkbn.boxes import decode as decode_boxes
from darkbn.boxes import iou
from darkbn.signature import Array
from darkbn.tree import CLASS_ONLY

#: Numbers of an image that `loss` gives, all sums over its `count` truths but any_objectness, which is over the map.
#: `category` is the sum over `classified` truths: these and those without a box.
STATISTICS = ("count", "iou", "recall50", "category", "objectness", "any_objectness", "classified")

#: Pull of every box to its anchor early in training.
EARLY_SCALE = 0.01


def forward(
    x: Annotated[Array, "in b n e s"],
    out: Annotated[Array, "out b n e s"],
    groups: Annotated[Array, "in?:int32 g"],
    background: int,
    softmax: int,
    threads: int,
) -> None:
    """Logistic of x, y and objectness, softmax or logistic of the classes.

    Args:
        x, out: input and output.
        groups: sizes of the groups of a class hierarchy, each of which has a softmax of its own whatever the other
            arguments say; None: no hierarchy.
        background: the entry of the objectness is a class of its own: no logistic, and part of the softmax.
        softmax: see above.
    """
    out[...] = x
    out[:, :, :2] = _logistic(x[:, :, :2])
    if not background:
        out[:, :, 4] = _logistic(x[:, :, 4])
    first = 4 if background else 5
    if groups is not None:
        out[:, :, 5:] = _softmax_groups(x[:, :, 5:], groups, axis=2)
    elif softmax:
        out[:, :, first:] = _softmax(x[:, :, first:], axis=2)
    else:
        out[:, :, 5:] = _logistic(x[:, :, 5:])


def forward_cells(
    x: Annotated[Array, "in b n e s"],
    out: Annotated[Array, "out b s n e"],
    groups: Annotated[Array, "in?:int32 g"],
    softmax: int,
    threads: int,
) -> None:
    """Logistic of the objectness, softmax of the classes when asked for; all else as it is, place by place.

    Args:
        x, out: input and output.
        groups: as for `forward`.
        softmax: see above.
    """
    out[...] = x.transpose(0, 3, 1, 2)
    out[..., 4] = _logistic(out[..., 4])
    if groups is not None:
        out[..., 5:] = _softmax_groups(out[..., 5:], groups, axis=-1)
    elif softmax:
        out[..., 5:] = _softmax(out[..., 5:], axis=-1)


def decode(
    output: Annotated[Array, "in b n e h w"],
    anchors: Annotated[Array, "in n 2"],
    rows: Annotated[Array, "out h w n e"],
    image: int,
    threshold: float,
    background: int,
    threads: int,
) -> None:
    """Detections of one image.

    Args:
        output: as `forward` gives it.
        anchors: width and height in cells.
        rows: x, y, w, h relative to the network input, objectness (1 with background), then objectness * class
            probability. Objectness and products that do not exceed the threshold are 0, as are the products of such
            an objectness.
        image: which of the batch.
        threshold: see rows.
        background: see `forward`.
    """
    values = output[image]
    rows[...] = values.transpose(2, 3, 0, 1)
    rows[..., :4] = decode_boxes(values[:, :4], anchors, *values.shape[:1:-1]).transpose(1, 2, 0, 3)
    rows[..., 4] = 1 if background else rows[..., 4]
    rows[..., 4][~(rows[..., 4] > threshold)] = 0
    rows[..., 5:] *= rows[..., 4:5]
    rows[..., 5:][~(rows[..., 5:] > threshold)] = 0


def decode_cells(
    output: Annotated[Array, "in b h w n e"],
    anchors: Annotated[Array, "in n 2"],
    rows: Annotated[Array, "out h w n e"],
    image: int,
    threshold: float,
    sure: int,
    threads: int,
) -> None:
    """Detections of one image.

    Args:
        output: as `forward_cells` gives it.
        anchors: width and height in cells.
        rows: x, y, w, h relative to the network input, objectness, then objectness * class probability, 0 where that
            does not exceed the threshold.
        image: which of the batch.
        threshold: see rows.
        sure: objectness below 0.5 counts as 0.
    """
    values = _planes(output)[image]
    rows[...] = output[image]
    rows[..., :4] = decode_boxes(_place_coordinates(values), anchors, *values.shape[:1:-1]).transpose(1, 2, 0, 3)
    if sure:
        rows[..., 4][rows[..., 4] < 0.5] = 0
    rows[..., 5:] *= rows[..., 4:5]
    rows[..., 5:][~(rows[..., 5:] > threshold)] = 0


def loss(
    output: Annotated[Array, "in b n e h w"],
    truth: Annotated[Array, "in b t k"],
    anchors: Annotated[Array, "in n 2"],
    tree: Annotated[Array, "in?:int32 c 3"],
    delta: Annotated[Array, "out b n e h w"],
    squares: Annotated[Array, "out:float64 b n"],
    statistics: Annotated[Array, "out:float64 b 7"],
    thresh: float,
    coord_scale: float,
    object_scale: float,
    noobject_scale: float,
    class_scale: float,
    bias_match: int,
    rescore: int,
    background: int,
    keep_classes: int,
    early: int,
    threads: int,
) -> None:
    """What training moves the output of `forward` by: truth - output, without the derivative of the logistic function.

    Every prediction is pulled to objectness 0 unless its IoU with some truth exceeds thresh. Then each truth claims, in
    the cell of its centre, the prediction that is most like it in shape.

    With a class hierarchy, the groups of the true class and of all above it learn, the others do not. A truth whose
    centre is beyond CLASS_ONLY is a class without a box: then nothing of the image counts but that class, learned where
    it is most probable, and the objectness, which is pulled to 0 elsewhere.

    Args:
        output: as `forward` gives it.
        truth: rows x, y, w, h, class and possibly more, relative to the image; the first with x = 0 ends the list. Rows
            with a class that does not exist are skipped.
        anchors: width and height in cells.
        tree: parent, first class and number of classes of the own group of every class (`darkbn.tree`); None: no
            hierarchy.
        delta: the result.
        squares: per image and anchor, sum of delta².
        statistics: per image, see STATISTICS.
        thresh: see above.
        coord_scale: weight of the box of a claimed prediction, times 2 - w h.
        object_scale, noobject_scale, class_scale: weights of objectness (of claimed predictions, of the others) and of
            the classes of claimed ones.
        bias_match: truths are compared with the anchors instead of the predicted sizes.
        rescore: the objectness of claimed predictions goes to their IoU instead of 1.
        background: see `forward`; that entry goes to 1 without a truth and to 0 with one.
        keep_classes: where classes already have a delta, only the true one gets another.
        early: every box is pulled to its anchor in the middle of its cell, too.
    """
    rules = _Rules(thresh, coord_scale, object_scale, noobject_scale, class_scale, bias_match, rescore, early)
    kind = {"background": background, "keep_classes": keep_classes, "tree": tree}
    _losses(output, truth, anchors, delta, squares, statistics, rules, kind)


def loss_cells(
    output: Annotated[Array, "in b h w n e"],
    truth: Annotated[Array, "in b t k"],
    anchors: Annotated[Array, "in n 2"],
    tree: Annotated[Array, "in?:int32 c 3"],
    delta: Annotated[Array, "out b n e h w"],
    squares: Annotated[Array, "out:float64 b n"],
    statistics: Annotated[Array, "out:float64 b 7"],
    thresh: float,
    coord_scale: float,
    object_scale: float,
    noobject_scale: float,
    class_scale: float,
    bias_match: int,
    rescore: int,
    classfix: int,
    focal_loss: int,
    early: int,
    threads: int,
) -> None:
    """The same for the output of `forward_cells`; deltas of x, y and objectness contain the logistic's derivative, and
    a class without a box leaves the objectness alone.

    Args:
        output, truth, anchors, tree, squares, statistics: as for `loss`.
        delta: in the layout of the input.
        thresh, object_scale, noobject_scale, class_scale, bias_match, rescore, early: as for `loss`.
        coord_scale: weight of the box of a claimed prediction.
        classfix: 1: predictions whose IoU exceeds thresh learn the class of that truth; 2: the more, the higher their
            objectness; -1: the objectness of all unclaimed predictions goes to their best IoU.
        focal_loss: class deltas times the derivative of the focal loss of the true class (alpha .5, gamma 2).
    """
    rules = _Rules(thresh, coord_scale, object_scale, noobject_scale, class_scale, bias_match, rescore, early)
    kind = {"classfix": classfix, "focal_loss": focal_loss, "cells": 1, "tree": tree}
    _losses(_planes(output), truth, anchors, delta, squares, statistics, rules, kind)


@dataclass(frozen=True)
class _Rules:
    """The scalars that `loss` and `loss_cells` share."""

    thresh: float
    coord_scale: float
    object_scale: float
    noobject_scale: float
    class_scale: float
    bias_match: int
    rescore: int
    early: int


def _losses(
    output: Array,
    truth: Array,
    anchors: Array,
    delta: Array,
    squares: Array,
    statistics: Array,
    rules: _Rules,
    kind: dict[str, Any],
) -> None:
    delta[...] = 0
    for image in range(len(output)):
        head = _Head(output[image], truth[image], anchors, delta[image], rules, **kind)
        alone = head.class_without_box()
        if alone is not None:
            statistics[image] = head.learn_class(alone)
            continue
        head.punish_objectness()
        statistics[image] = head.assign_truths()
    squares[...] = np.square(delta, dtype=np.float64).sum(axis=(2, 3, 4))


@dataclass(frozen=True)
class _Head:
    """One image of a loss, output and delta as (n, e, h, w)."""

    output: Array
    truth: Array
    anchors: Array
    delta: Array
    rules: _Rules
    background: int = 0
    keep_classes: int = 0
    classfix: int = 0
    focal_loss: int = 0
    cells: int = 0
    tree: Array | None = None

    @property
    def classes(self) -> int:
        return int(self.output.shape[1] - 5)

    def truths(self) -> Iterator[Array]:
        """The rows up to the first with x = 0 whose class exists."""
        for row in self.truth:
            if row[0] == 0:
                return
            if 0 <= int(row[4]) < self.classes:
                yield row

    def class_without_box(self) -> int | None:
        """The class of the first truth that has no box."""
        rows = self.truths() if self.tree is not None else ()
        return next((int(row[4]) for row in rows if (row[:2] > CLASS_ONLY).all()), None)

    def learn_class(self, kind: int) -> Array:
        """Train a class where it is most probable; returns the statistics of the image."""
        objectness = self.output[:, 4]
        probability = objectness * self.probability(self.output[:, 5:].transpose(1, 0, 2, 3), kind)
        n, j, i = np.unravel_index(int(probability.argmax()), probability.shape)
        if not self.cells:
            self.delta[:, 4] = self.rules.noobject_scale * (0 - objectness)
            self.delta[n, 4, j, i] = 0
        self.move_class(kind, self.rules.class_scale, int(n), int(j), int(i))
        sums = np.zeros(len(STATISTICS))
        sums[[3, 6]] = self.probability(self.output[n, 5:, j, i], kind), 1
        return sums

    def probability(self, classes: Array, kind: int) -> Array:
        """Probability of a class, from those given their parents in a hierarchy: the product along its path."""
        product = np.ones_like(classes[kind])
        while kind >= 0:
            product = product * classes[kind]
            kind = int(self.tree[kind, 0]) if self.tree is not None else -1
        return np.asarray(product)

    def coordinates(self) -> Array:
        """x, y, w, h of all places as `darkbn.boxes.decode` takes them."""
        return _place_coordinates(self.output) if self.cells else self.output[:, :4]

    def boxes(self) -> Array:
        """Predicted boxes (n, h, w, 4)."""
        return decode_boxes(self.coordinates(), self.anchors, *self.output.shape[:1:-1])

    def slope(self, value: Array) -> Array:
        """Derivative of the logistic function by its value, where the dialect multiplies by it."""
        return np.asarray((1 - value) * value if self.cells else 1)

    def punish_objectness(self) -> None:
        """Objectness to 0, except where a prediction matches a truth."""
        rules, objectness = self.rules, self.output[:, 4]
        rows = list(self.truths())
        overlaps = np.array([np.zeros(objectness.shape), *(iou(self.boxes(), row[:4]) for row in rows)])
        best, which = overlaps.max(axis=0), overlaps.argmax(axis=0) - 1
        target = best if self.classfix == -1 else np.full_like(best, self.background)
        self.delta[:, 4] = rules.noobject_scale * (target - objectness) * self.slope(objectness)
        if self.classfix != -1:
            matched = best > rules.thresh
            self.delta[:, 4][matched] = 0
            for n, j, i in np.argwhere(matched & (which >= 0)) if self.classfix > 0 else []:
                certain = float(objectness[n, j, i]) if self.classfix == 2 else 1
                self.move_class(int(rows[which[n, j, i]][4]), rules.class_scale * certain, n, j, i)
        if rules.early:
            target = np.array([0.5, 0.5, 0, 0])[:, np.newaxis, np.newaxis]
            self.delta[:, :4] = EARLY_SCALE * (target - self.coordinates()) * self.box_slope()

    def box_slope(self) -> Array:
        """Factors of the deltas of x, y, w, h."""
        slope = np.ones_like(self.output[:, :4])
        slope[:, :2] = self.slope(self.coordinates()[:, :2])
        return slope

    def assign_truths(self) -> Array:
        """Each truth trains its place; returns the statistics of the image."""
        sums = np.zeros(len(STATISTICS))
        rows, columns = self.output.shape[2:]
        for row in self.truths():
            i = min(max(int(row[0] * columns), 0), columns - 1)
            j = min(max(int(row[1] * rows), 0), rows - 1)
            sizes = self.anchors / (columns, rows) if self.rules.bias_match else self.boxes()[:, j, i, 2:]
            shapes = np.concatenate([np.zeros_like(sizes), sizes], axis=1)
            shape = np.array([0, 0, row[2], row[3]], dtype=row.dtype)
            sums[:5] += self.claim(row, int(iou(shapes, shape).argmax()), j, i)
        sums[5:] = self.output[:, 4].sum(dtype=np.float64), sums[0]
        return sums

    def claim(self, row: Array, n: int, j: int, i: int) -> tuple[float, ...]:
        """Train one place on a truth; returns what it adds to the statistics."""
        rules, kind = self.rules, int(row[4])
        found, objectness = float(iou(self.boxes()[n, j, i], row[:4])), self.output[n, 4, j, i]
        self.move_box(row, n, j, i)
        target = found if rules.rescore else 1
        target = 0 if self.background else target
        self.delta[n, 4, j, i] = rules.object_scale * (target - objectness) * self.slope(objectness)
        self.move_class(kind, rules.class_scale, n, j, i)
        category = float(self.probability(self.output[n, 5:, j, i], kind))
        return 1, found, found > 0.5, category, float(objectness)

    def move_box(self, row: Array, n: int, j: int, i: int) -> None:
        """Delta of x, y, w, h."""
        rows, columns = self.output.shape[2:]
        size = np.log(row[2:4] * (columns, rows) / self.anchors[n])
        target = np.array([row[0] * columns - i, row[1] * rows - j, *size])
        scale = self.rules.coord_scale * (1 if self.cells else 2 - row[2] * row[3])
        step = scale * (target - self.coordinates()[n, :, j, i])
        self.delta[n, :4, j, i] = step * self.box_slope()[n, :, j, i]

    def move_class(self, kind: int, scale: float, n: int, j: int, i: int) -> None:
        """Delta of the classes."""
        output, delta = self.output[n, 5:, j, i], self.delta[n, 5:, j, i]
        if self.tree is not None:
            while kind >= 0:
                parent, first, size = map(int, self.tree[kind])
                delta[first : first + size] = scale * (0 - output[first : first + size])
                delta[kind] = scale * (1 - output[kind])
                kind = parent
            return
        step = scale * ((np.arange(self.classes) == kind) - output)
        if self.focal_loss:
            certain = output[kind] + 1e-15
            step *= 0.5 * -(1 - certain) * (2 * certain * np.log(certain) + certain - 1)
        if self.keep_classes and delta[0] != 0:
            delta[kind] = step[kind]
        else:
            delta[...] = step


def _planes(output: Array) -> Array:
    """A map (b, h, w, n, e) seen as (b, n, e, h, w)."""
    return output.transpose(0, 3, 4, 1, 2)


def _place_coordinates(values: Array) -> Array:
    """x, y, w, h of a map (n, e, h, w) whose x and y are before the logistic function."""
    return np.concatenate([_logistic(values[:, :2]), values[:, 2:4]], axis=1)


def _logistic(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _softmax_groups(x: Array, sizes: Array, axis: int) -> Array:
    parts = np.split(x, np.cumsum(sizes)[:-1], axis=axis)
    return np.concatenate([_softmax(part, axis) for part in parts], axis=axis)


def _softmax(x: Array, axis: int) -> Array:
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))
