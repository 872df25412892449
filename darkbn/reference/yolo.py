"""The [yolo] head: activation of its map, detections in it, its training loss.

A map is (batch, anchor, entry, row, column); its entries are x, y, w, h, objectness and one per class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from darkbn.boxes import MSE, giou, iou, iou_gradient, overlap
from darkbn.boxes import decode as decode_boxes
from darkbn.signature import Array

#: Numbers of an image that `loss` gives, all sums over its `count` assigned boxes but the last, which is over the map.
STATISTICS = ("count", "iou", "giou", "recall50", "recall75", "category", "objectness", "any_objectness")

#: Class probability from which AlexeyAB's Darknet lets a well placed prediction go unpunished.
LIKELY = 0.25


def activate(
    x: Annotated[Array, "in b n e s"],
    out: Annotated[Array, "out b n e s"],
    scale_x_y: float,
    new_coords: int,
    threads: int,
) -> None:
    """Logistic of x, y, objectness and classes, unless new_coords; then x, y spread by scale_x_y round their middle."""
    out[...] = x
    if not new_coords:
        out[:, :, :2] = _logistic(x[:, :, :2])
        out[:, :, 4:] = _logistic(x[:, :, 4:])
    out[:, :, :2] = out[:, :, :2] * scale_x_y - 0.5 * (scale_x_y - 1)


def candidates(
    output: Annotated[Array, "in b n e s"],
    places: Annotated[Array, "out:int32 b s n"],
    counts: Annotated[Array, "out:int32 b"],
    threshold: float,
    threads: int,
) -> None:
    """Where the objectness exceeds the threshold.

    Args:
        output: the activated map.
        places: per image, cell * n + anchor of the candidates in rising order, then -1.
        counts: how many there are.
        threshold: smallest objectness, exclusive.
    """
    places[...] = -1
    for image, objectness in enumerate(output[:, :, 4]):
        found = np.flatnonzero(np.greater(objectness.T, threshold))
        places[image].reshape(-1)[: len(found)] = found
        counts[image] = len(found)


def decode(
    output: Annotated[Array, "in b n e h w"],
    places: Annotated[Array, "in:int32 m"],
    anchors: Annotated[Array, "in n 2"],
    rows: Annotated[Array, "out m e"],
    image: int,
    net_w: float,
    net_h: float,
    threshold: float,
    new_coords: int,
    threads: int,
) -> None:
    """Detections at some places of one image.

    Args:
        output: the activated map.
        places: as `candidates` gives them.
        anchors: width and height in pixels of the network input.
        rows: x, y, w, h relative to the network input, objectness, then objectness * class probability, 0 where that
            does not exceed the threshold.
        image: which of the batch.
        net_w, net_h: size of the network input.
        threshold: see rows.
        new_coords: sizes are (2 v)² anchor instead of exp(v) anchor.
    """
    n, e = output.shape[1:3]
    cell, anchor = np.divmod(places, n)
    boxes = decode_boxes(output[image, :, :4], anchors, net_w, net_h, bool(new_coords))
    entries = output[image].reshape(n, e, -1)[anchor, :, cell]
    probabilities = entries[:, 4:5] * entries[:, 5:]
    rows[:, :4] = boxes.reshape(n, -1, 4)[anchor, cell]
    rows[:, 4] = entries[:, 4]
    rows[:, 5:] = np.where(probabilities > threshold, probabilities, 0)


def loss(
    output: Annotated[Array, "in b n e h w"],
    truth: Annotated[Array, "in b t k"],
    anchors: Annotated[Array, "in a 2"],
    mask: Annotated[Array, "in:int32 n"],
    class_weights: Annotated[Array, "in? c"],
    delta: Annotated[Array, "out b n e h w"],
    squares: Annotated[Array, "out:float64 b n 2"],
    statistics: Annotated[Array, "out:float64 b 8"],
    net_w: float,
    net_h: float,
    ignore_thresh: float,
    truth_thresh: float,
    iou_thresh: float,
    iou_thresh_kind: int,
    iou_loss: int,
    iou_normalizer: float,
    obj_normalizer: float,
    cls_normalizer: float,
    max_delta: float,
    label_smooth_eps: float,
    objectness_smooth: int,
    focal_loss: int,
    new_coords: int,
    alexeyab: int,
    threads: int,
) -> None:
    """What training moves the activated map by: truth - output, without the derivative of the logistic function.

    Every prediction is pulled to objectness 0, unless its IoU with some truth exceeds ignore_thresh (it is let alone),
    or truth_thresh (it is trained on that truth). Then each truth claims, in the cell of its centre, the anchor of all
    `anchors` that is most like it in shape (when this head has it), and with iou_thresh < 1 every other anchor of the
    head that is similar enough: objectness goes to 1, the box to the truth, the classes to the truth's.

    Args:
        output: the activated map.
        truth: rows x, y, w, h, class and possibly more, relative to the image; the first with x = 0 ends the list. Rows
            with a class that does not exist are skipped.
        anchors: width and height of all anchors in pixels of the network input.
        mask: the anchors of this head.
        class_weights: weight per class, multiplied into the deltas of boxes, objectness and true class.
        delta: the result.
        squares: per image and anchor, sum of delta² of the boxes and of the rest.
        statistics: per image, see STATISTICS.
        net_w, net_h: size of the network input.
        ignore_thresh, truth_thresh, iou_thresh: see above.
        iou_thresh_kind: overlap that iou_thresh is about, a number of `darkbn.boxes.IOU_KINDS`.
        iou_loss: MSE moves the numbers of the box to the truth's, scaled by 2 - w h; other kinds follow
            `darkbn.boxes.iou_gradient`.
        iou_normalizer, obj_normalizer, cls_normalizer: weights of box and objectness; the last acts only together with
            class_weights.
        max_delta: bound of the box deltas of kinds other than MSE.
        label_smooth_eps: true class 1 - eps / 2, others eps / 2.
        objectness_smooth: objectness of matching predictions goes to their IoU.
        focal_loss: class deltas times the derivative of the focal loss of the true class (alpha .5, gamma 2).
        new_coords: see `decode`.
        alexeyab: the rules of AlexeyAB's Darknet: only predictions with a class probability above LIKELY are let alone;
            several truths in one place add up; a place whose true class already has a delta keeps those of the others
            (pjreddie's asks for the first class); NaN objectness counts as 0.
    """
    rules = _Rules(
        net_w,
        net_h,
        ignore_thresh,
        truth_thresh,
        iou_thresh,
        iou_thresh_kind,
        iou_loss,
        iou_normalizer,
        obj_normalizer,
        cls_normalizer,
        max_delta,
        label_smooth_eps,
        objectness_smooth,
        focal_loss,
        new_coords,
        alexeyab,
    )
    delta[...] = 0
    for image in range(len(output)):
        head = _Head(output[image], truth[image], anchors, mask, class_weights, delta[image], rules)
        head.punish_objectness()
        statistics[image] = head.assign_truths()
        if iou_thresh < 1:
            head.average_boxes()
    squares[..., 0] = np.square(delta[:, :, :4], dtype=np.float64).sum(axis=(2, 3, 4))
    squares[..., 1] = np.square(delta[:, :, 4:], dtype=np.float64).sum(axis=(2, 3, 4))


@dataclass(frozen=True)
class _Rules:
    """The scalars of `loss`."""

    net_w: float
    net_h: float
    ignore_thresh: float
    truth_thresh: float
    iou_thresh: float
    iou_thresh_kind: int
    iou_loss: int
    iou_normalizer: float
    obj_normalizer: float
    cls_normalizer: float
    max_delta: float
    label_smooth_eps: float
    objectness_smooth: int
    focal_loss: int
    new_coords: int
    alexeyab: int


@dataclass(frozen=True)
class _Head:
    """One image of `loss`."""

    output: Array
    truth: Array
    anchors: Array
    mask: Array
    class_weights: Array | None
    delta: Array
    rules: _Rules

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

    def objectness(self) -> Array:
        """Objectness with the numbers that AlexeyAB's Darknet does not train on."""
        values = self.output[:, 4]
        return np.where(np.isfinite(values), values, 0) if self.rules.alexeyab else values

    def weight(self, kind: int) -> float:
        return 1.0 if self.class_weights is None else float(self.class_weights[kind])

    def boxes(self) -> Array:
        """Predicted boxes (n, h, w, 4)."""
        rules = self.rules
        anchors = self.anchors[self.mask]
        return decode_boxes(self.output[:, :4], anchors, rules.net_w, rules.net_h, bool(rules.new_coords))

    def punish_objectness(self) -> None:
        """Objectness to 0, except where a prediction matches a truth."""
        rules, objectness = self.rules, self.objectness()
        rows = list(self.truths())
        overlaps = np.array([np.zeros(objectness.shape), *(iou(self.boxes(), row[:4]) for row in rows)])
        best, which = overlaps.max(axis=0), overlaps.argmax(axis=0) - 1
        matched = best
        if rules.alexeyab:
            matched = np.where((self.output[:, 5:] > LIKELY).any(axis=1), best, 0)
        self.delta[:, 4] = rules.obj_normalizer * (0 - objectness)
        target: Array = np.zeros_like(best)
        if rules.objectness_smooth:
            target = np.maximum(self.delta[:, 4], rules.obj_normalizer * (matched - objectness))
        alone = matched > rules.ignore_thresh
        self.delta[:, 4][alone] = target[alone]
        for n, j, i in np.argwhere((best > rules.truth_thresh) & (which >= 0)):
            self.train_on(rows[which[n, j, i]], float(best[n, j, i]), n, j, i)

    def train_on(self, row: Array, best: float, n: int, j: int, i: int) -> None:
        """Train a prediction that a truth did not claim on that truth all the same."""
        rules, kind = self.rules, int(row[4])
        target = best * best if rules.objectness_smooth else 1
        self.delta[n, 4, j, i] = rules.obj_normalizer * (target - self.objectness()[n, j, i])
        self.move_class(kind, n, j, i)
        if rules.objectness_smooth:
            self.delta[n, 5 + kind, j, i] = self.weight(kind) * (target - self.output[n, 5 + kind, j, i])
        self.move_box(row, n, j, i)

    def assign_truths(self) -> Array:
        """Each truth trains its places; returns the statistics of the image."""
        sums = np.zeros(len(STATISTICS))
        rows, columns = self.output.shape[2:]
        for row in self.truths():
            i = min(max(int(row[0] * columns), 0), columns - 1)
            j = min(max(int(row[1] * rows), 0), rows - 1)
            for anchor in self.claimed_anchors(row):
                for n in np.flatnonzero(self.mask == anchor)[:1]:
                    sums[:-1] += self.claim(row, int(n), j, i)
        sums[-1] = self.output[:, 4].sum(dtype=np.float64)
        return sums

    def claimed_anchors(self, row: Array) -> list[int]:
        """The anchor of all anchors that is most like the truth in shape, then those that iou_thresh lets in."""
        rules = self.rules
        sizes = self.anchors / (rules.net_w, rules.net_h)
        shapes = np.concatenate([np.zeros_like(sizes), sizes], axis=1)
        shape = np.array([0, 0, row[2], row[3]], dtype=row.dtype)
        best = int(iou(shapes, shape).argmax())
        if rules.iou_thresh >= 1:
            return [best]
        similar = np.flatnonzero(overlap(shapes, shape, rules.iou_thresh_kind) > rules.iou_thresh)
        return [best, *(int(anchor) for anchor in similar if anchor != best)]

    def claim(self, row: Array, n: int, j: int, i: int) -> tuple[float, ...]:
        """Train one place on a truth; returns what it adds to the statistics."""
        kind = int(row[4])
        box = self.boxes()[n, j, i]
        found, objectness = float(iou(box, row[:4])), float(self.objectness()[n, j, i])
        self.move_box(row, n, j, i)
        if not self.rules.objectness_smooth or self.delta[n, 4, j, i] == 0:
            self.delta[n, 4, j, i] = self.weight(kind) * self.rules.obj_normalizer * (1 - objectness)
        self.move_class(kind, n, j, i)
        category = float(self.output[n, 5 + kind, j, i])
        return 1, found, float(giou(box, row[:4])), found > 0.5, found > 0.75, category, objectness

    def move_box(self, row: Array, n: int, j: int, i: int) -> None:
        """Delta of x, y, w, h; added where AlexeyAB's Darknet adds."""
        rules, delta = self.rules, self.delta[n, :4, j, i]
        change = self.box_difference if rules.iou_loss == MSE else self.box_gradient
        step = change(row, n, j, i) * rules.iou_normalizer * self.weight(int(row[4]))
        if rules.iou_loss != MSE:
            step = np.where(np.isfinite(step), step, 0).clip(-rules.max_delta, rules.max_delta)
        delta[...] = delta + step if rules.alexeyab else step

    def box_difference(self, row: Array, n: int, j: int, i: int) -> Array:
        """What the four numbers of the box lack to give the truth."""
        rules, anchor = self.rules, self.anchors[self.mask[n]]
        rows, columns = self.output.shape[2:]
        relative = row[2:4] * (rules.net_w, rules.net_h) / anchor
        size = np.sqrt(relative / 4) if rules.new_coords else np.log(relative)
        target = np.array([row[0] * columns - i, row[1] * rows - j, *size])
        return np.asarray((2 - row[2] * row[3]) * (target - self.output[n, :4, j, i]))

    def box_gradient(self, row: Array, n: int, j: int, i: int) -> Array:
        """Gradient of the overlap; through the exponential function for w and h, not through anchors and cells."""
        box = self.boxes()[n, j, i]
        box[2:][box[2:] == 0] = 1
        gradient = iou_gradient(box, row[:4], self.rules.iou_loss)
        if not self.rules.new_coords:
            gradient[2:] *= np.exp(self.output[n, 2:4, j, i])
        return gradient

    def move_class(self, kind: int, n: int, j: int, i: int) -> None:
        """Delta of the classes."""
        rules = self.rules
        output, delta = self.output[n, 5:, j, i], self.delta[n, 5:, j, i]
        wanted = np.full(self.classes, rules.label_smooth_eps / 2)
        wanted[kind] += 1 - rules.label_smooth_eps
        step = wanted - output
        step = np.where(np.isfinite(step), step, delta) if rules.alexeyab else step
        weight = self.weight(kind)
        if delta[kind if rules.alexeyab else 0] != 0:
            delta[kind] = step[kind] * weight
        elif rules.focal_loss:
            certain = output[kind] + 1e-15
            slope = -(1 - certain) * (2 * certain * np.log(certain) + certain - 1)
            delta[...] = ((np.arange(self.classes) == kind) - output) * 0.5 * slope
        else:
            delta[...] = step
            delta[kind] *= weight if self.class_weights is None else weight * rules.cls_normalizer

    def average_boxes(self) -> None:
        """Divide the box deltas by the number of classes that rise in the same place."""
        rising = (self.delta[:, 5:] > 0).sum(axis=1)
        trained = (self.delta[:, 4] != 0) & (rising > 0)
        self.delta[:, :4] /= np.where(trained, rising, 1)[:, np.newaxis]


def _logistic(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))
