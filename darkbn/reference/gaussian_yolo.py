"""The [Gaussian_yolo] head: activation of its map and its training loss.

A map is (batch, anchor, entry, row, column); its entries are x, y, w, h, each followed by its uncertainty (the standard
deviation of a normal distribution round it), then objectness and one per class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from darkbn.boxes import MSE, decode, giou, iou, iou_gradient, overlap
from darkbn.gaussian import OBJECTNESS, TO_CENTER
from darkbn.reference.yolo import LIKELY, STATISTICS
from darkbn.signature import Array

#: Added to a deviation in the density, and to the density where it divides.
SIGMA, EPSILON = 0.3, 1e-9


def activate(
    x: Annotated[Array, "in b n e s"], out: Annotated[Array, "out b n e s"], scale_x_y: float, threads: int
) -> None:
    """Logistic of all but w and h; then x, y spread by scale_x_y round their middle."""
    out[...] = 1 / (1 + np.exp(-x))
    out[:, :, 4:8:2] = x[:, :, 4:8:2]
    out[:, :, 0:4:2] = out[:, :, 0:4:2] * scale_x_y - 0.5 * (scale_x_y - 1)


def loss(
    output: Annotated[Array, "in b n e h w"],
    truth: Annotated[Array, "in b t k"],
    anchors: Annotated[Array, "in a 2"],
    mask: Annotated[Array, "in:int32 n"],
    class_weights: Annotated[Array | None, "in? c"],
    delta: Annotated[Array, "out b n e h w"],
    squares: Annotated[Array, "out:float64 b n"],
    statistics: Annotated[Array, "out:float64 b 8"],
    net_w: float,
    net_h: float,
    ignore_thresh: float,
    truth_thresh: float,
    iou_thresh: float,
    iou_thresh_kind: int,
    iou_loss: int,
    iou_normalizer: float,
    uc_normalizer: float,
    obj_normalizer: float,
    cls_normalizer: float,
    max_delta: float,
    label_smooth_eps: float,
    objectness_smooth: int,
    point: int,
    threads: int,
) -> None:
    """What training moves the activated map by, without the derivative of the logistic function.

    As `darkbn.reference.yolo.loss` with AlexeyAB's rules, but:

    - Boxes follow the gradient of the log density of the truth under the predicted normal distributions (scaled by
      2 - w h), or of the overlap; uncertainties always follow that of the log density.
    - With objectness_smooth the objectness of a matching prediction goes to the square of its IoU, and its classes to
      the truth's.
    - The deltas of boxes are always divided by the number of classes that rise in the same place.
    - A place whose first class already has a delta keeps those of the other classes.

    Args:
        output: the activated map.
        truth: rows x, y, w, h, class and possibly more, relative to the image; the first with x = 0 ends the list. Rows
            with a class that does not exist are skipped.
        anchors: width and height of all anchors in pixels of the network input.
        mask: the anchors of this head.
        class_weights: weight per class, multiplied into the deltas of boxes, objectness and true class.
        delta: the result.
        squares: per image and anchor, sum of delta².
        statistics: per image, see `darkbn.reference.yolo.STATISTICS`.
        net_w, net_h: size of the network input.
        ignore_thresh, truth_thresh, iou_thresh, iou_thresh_kind, iou_loss: as in yolo.
        iou_normalizer, uc_normalizer, obj_normalizer, cls_normalizer: weights of boxes, uncertainties, objectness; the
            last acts only together with class_weights.
        max_delta: bound of the deltas of boxes and uncertainties.
        label_smooth_eps: true class 1 - eps / 2, others eps / 2.
        objectness_smooth: see above.
        point: which point of the box x and y are: CENTER, LEFT_TOP or RIGHT_BOTTOM. Its cell is the truth's.
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
        uc_normalizer,
        obj_normalizer,
        cls_normalizer,
        max_delta,
        label_smooth_eps,
        objectness_smooth,
        TO_CENTER[point],
    )
    delta[...] = 0
    for image in range(len(output)):
        head = _Head(output[image], truth[image], anchors, mask, class_weights, delta[image], rules)
        head.punish_objectness()
        statistics[image] = head.assign_truths()
        head.average_boxes()
    squares[...] = np.square(delta, dtype=np.float64).sum(axis=(2, 3, 4))


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
    uc_normalizer: float
    obj_normalizer: float
    cls_normalizer: float
    max_delta: float
    label_smooth_eps: float
    objectness_smooth: int
    to_center: int


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
        return int(self.output.shape[1] - OBJECTNESS - 1)

    def truths(self) -> Iterator[Array]:
        """The rows up to the first with x = 0 whose class exists."""
        for row in self.truth:
            if row[0] == 0:
                return
            if 0 <= int(row[4]) < self.classes:
                yield row

    def weight(self, kind: int) -> float:
        return 1.0 if self.class_weights is None else float(self.class_weights[kind])

    def boxes(self) -> Array:
        """Predicted boxes (n, h, w, 4), by their centres."""
        rules = self.rules
        boxes = decode(self.output[:, 0:8:2], self.anchors[self.mask], rules.net_w, rules.net_h)
        boxes[..., :2] += rules.to_center * boxes[..., 2:] / 2
        return boxes

    def punish_objectness(self) -> None:
        """Objectness to 0, except where a prediction matches a truth."""
        rules, objectness = self.rules, self.output[:, OBJECTNESS]
        rows = list(self.truths())
        overlaps = np.array([np.zeros(objectness.shape), *(iou(self.boxes(), row[:4]) for row in rows)])
        best, which = overlaps.max(axis=0), overlaps.argmax(axis=0) - 1
        likely = (self.output[:, OBJECTNESS + 1 :] > LIKELY).any(axis=1)
        matches = likely & (best > rules.ignore_thresh)
        self.delta[:, OBJECTNESS] = rules.obj_normalizer * (0 - objectness)
        target = rules.obj_normalizer * (best**2 - objectness) if rules.objectness_smooth else np.zeros_like(best)
        self.delta[:, OBJECTNESS][matches] = target[matches]
        for n, j, i in np.argwhere(which >= 0):
            row = rows[which[n, j, i]]
            if rules.objectness_smooth and matches[n, j, i]:
                self.move_class(int(row[4]), n, j, i)
            if best[n, j, i] > rules.truth_thresh:
                self.train_on(row, float(best[n, j, i]), n, j, i)

    def train_on(self, row: Array, best: float, n: int, j: int, i: int) -> None:
        """Train a prediction that a truth did not claim on that truth all the same."""
        rules, kind, place = self.rules, int(row[4]), (n, slice(OBJECTNESS, None), j, i)
        target = best * best if rules.objectness_smooth else 1
        output, delta = self.output[place], self.delta[place]
        delta[0] = rules.obj_normalizer * (target - output[0])
        self.move_class(kind, n, j, i)
        if rules.objectness_smooth:
            delta[1 + kind] = self.weight(kind) * (target - output[1 + kind])
        self.move_box(row, n, j, i)

    def assign_truths(self) -> Array:
        """Each truth trains its places; returns the statistics of the image."""
        sums = np.zeros(len(STATISTICS))
        cells = np.array(self.output.shape[:1:-1])
        for row in self.truths():
            corner = row[:2] - self.rules.to_center * row[2:4] / 2
            i, j = np.clip(corner * cells, 0, cells - 1).astype(int)
            for anchor in self.claimed_anchors(row):
                for n in np.flatnonzero(self.mask == anchor)[:1]:
                    sums[:-1] += self.claim(row, int(n), j, i)
        sums[-1] = self.output[:, OBJECTNESS].sum(dtype=np.float64)
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
        kind, box, objectness = int(row[4]), self.boxes()[n, j, i], float(self.output[n, OBJECTNESS, j, i])
        found = float(iou(box, row[:4]))
        self.move_box(row, n, j, i)
        self.delta[n, OBJECTNESS, j, i] = self.weight(kind) * self.rules.obj_normalizer * (1 - objectness)
        self.move_class(kind, n, j, i)
        category = float(self.output[n, OBJECTNESS + 1 + kind, j, i])
        return 1, found, float(giou(box, row[:4])), found > 0.5, found > 0.75, category, objectness

    def move_box(self, row: Array, n: int, j: int, i: int) -> None:
        """Adds to the deltas of x, y, w, h and of their uncertainties."""
        rules = self.rules
        means, deviations = self.density_gradient(row, n, j, i)
        if rules.iou_loss != MSE:
            means = self.overlap_gradient(row, n, j, i)
        step = np.empty(8)
        step[0::2] = means * rules.iou_normalizer * self.weight(int(row[4]))
        step[1::2] = deviations * rules.uc_normalizer
        self.delta[n, :8, j, i] += np.where(np.isfinite(step), step, 0).clip(-rules.max_delta, rules.max_delta)

    def density_gradient(self, row: Array, n: int, j: int, i: int) -> tuple[Array, Array]:
        """Gradient of half the log of (density + EPSILON) by the means and by the deviations.

        Darknet's density: exp(-z²/2) / (sqrt(2 pi) (deviation + SIGMA)) with z = (truth - mean) / deviation.
        """
        values = self.output[n, :8, j, i].astype(np.float64)
        means, deviations = values[0::2], values[1::2]
        with np.errstate(all="ignore"):
            z = (self.target(row, n, j, i) - means) / deviations
            density = np.exp(-(z**2) / 2) / (np.sqrt(2 * np.pi) * (deviations + SIGMA))
            share = (2 - row[2] * row[3]) / 2 * density / (density + EPSILON)
            return share * z / deviations, share * (z**2 / deviations - 1 / (deviations + SIGMA))

    def target(self, row: Array, n: int, j: int, i: int) -> Array:
        """The numbers x, y, w, h that give the truth."""
        rules, (rows, columns) = self.rules, self.output.shape[2:]
        x, y = row[:2] - rules.to_center * row[2:4] / 2
        size = np.log(row[2:4] * (rules.net_w, rules.net_h) / self.anchors[self.mask[n]])
        return np.array([x * columns - i, y * rows - j, *size])

    def overlap_gradient(self, row: Array, n: int, j: int, i: int) -> Array:
        """Gradient of the overlap; through the exponential function for w and h, not through anchors and cells."""
        box = self.boxes()[n, j, i]
        box[2:][box[2:] == 0] = 1
        gradient = iou_gradient(box, row[:4], self.rules.iou_loss)
        gradient[2:] += self.rules.to_center * gradient[:2] / 2
        gradient[2:] *= np.exp(self.output[n, 4:8:2, j, i])
        return gradient

    def move_class(self, kind: int, n: int, j: int, i: int) -> None:
        """Delta of the classes."""
        rules, place = self.rules, (n, slice(OBJECTNESS + 1, None), j, i)
        output, delta = self.output[place], self.delta[place]
        wanted = np.full(self.classes, rules.label_smooth_eps / 2)
        wanted[kind] += 1 - rules.label_smooth_eps
        weight = self.weight(kind)
        if delta[0] != 0:
            delta[kind] = (wanted[kind] - output[kind]) * weight
            return
        delta[...] = wanted - output
        delta[kind] *= weight if self.class_weights is None else weight * rules.cls_normalizer

    def average_boxes(self) -> None:
        """Divide the box deltas by the number of classes that rise in the same place."""
        rising = (self.delta[:, OBJECTNESS + 1 :] > 0).sum(axis=1)
        self.delta[:, :OBJECTNESS] /= np.maximum(rising, 1)[:, np.newaxis]
