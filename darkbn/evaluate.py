"""How good a detector is: average precision per class and their mean, as AlexeyAB's `detector map` computes them.

A detection is matched with the label of its class and image that it overlaps most, if by more than the threshold.
Sorted by falling probability, the first detection of a label is a true positive, every other one a false positive. The
average precision of a class is the area under its precision over recall; the mean runs over all classes, those without
labels counting 0.

Departure from Darknet: the counts at one confidence (`true_positives` and what follows from them) let the most
probable detection have a label first; Darknet's take the boxes in the order of its heads, so that a weak box can claim
the label and the strong one counts as false. `order="given"` does that, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from darkbn.boxes import iou
from darkbn.errors import DarkbnError, ImageError, ShapeError
from darkbn.signature import Array

if TYPE_CHECKING:
    from darkbn.imageio import Source
    from darkbn.network import Network

#: What Darknet takes detections from and reports counts at.
THRESHOLD, NMS, CONFIDENCE = 0.005, 0.45, 0.25

#: Columns of detections: image, class, probability, x, y, w, h; of labels: class, x, y, w, h.
DETECTION_SIZE, LABEL_SIZE = 7, 5


@dataclass(frozen=True)
class ClassScore:
    """One class.

    Attributes:
        class_id: its number.
        labels, detections: how many there are of it.
        average_precision: 0 to 1; 0 without labels.
        true_positives, false_positives: of the detections above the confidence.
        average_iou: mean overlap of those, false ones counting 0.
    """

    class_id: int
    labels: int
    detections: int
    average_precision: float
    true_positives: int
    false_positives: int
    average_iou: float


@dataclass(frozen=True)
class Evaluation:
    """All classes.

    Attributes:
        classes: one score per class.
        mean_average_precision: mean over all classes, 0 to 1.
        iou_threshold, points, confidence: what it was computed with.
    """

    classes: tuple[ClassScore, ...]
    iou_threshold: float
    points: int
    confidence: float

    @property
    def mean_average_precision(self) -> float:
        return sum(c.average_precision for c in self.classes) / len(self.classes)

    @property
    def labels(self) -> int:
        return sum(c.labels for c in self.classes)

    @property
    def detections(self) -> int:
        return sum(c.detections for c in self.classes)

    @property
    def true_positives(self) -> int:
        return sum(c.true_positives for c in self.classes)

    @property
    def false_positives(self) -> int:
        return sum(c.false_positives for c in self.classes)

    @property
    def false_negatives(self) -> int:
        return self.labels - self.true_positives

    @property
    def precision(self) -> float:
        """Part of the detections above the confidence that are right; 0 when there are none."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """Part of the labels that were found above the confidence; 0 when there are none."""
        return _ratio(self.true_positives, self.labels)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return _ratio(2 * self.precision * self.recall, self.precision + self.recall)

    @property
    def average_iou(self) -> float:
        """Mean overlap of the detections above the confidence, false ones counting 0."""
        counts = [c.true_positives + c.false_positives for c in self.classes]
        return _ratio(sum(c.average_iou * n for c, n in zip(self.classes, counts, strict=True)), sum(counts))


def mean_average_precision(
    detections: Array, labels: Sequence[Array], classes: int, threshold: float = 0.5, points: int = 0
) -> float:
    """Mean of the classes' average precisions, 0 to 1; see `evaluate`."""
    return evaluate(detections, labels, classes, threshold, points).mean_average_precision


def evaluate(
    detections: Array,
    labels: Sequence[Array],
    classes: int,
    threshold: float = 0.5,
    points: int = 0,
    *,
    confidence: float = CONFIDENCE,
    order: str = "probability",
    difficult: Sequence[Array] | None = None,
) -> Evaluation:
    """Score detections against labels.

    Args:
        detections: rows (image, class, probability, x, y, w, h) of all images, after suppression; image and class count
            from 0, boxes are in centre form.
        labels: per image, rows (class, x, y, w, h) in the same units; an array of no rows where there is nothing.
        classes: number of classes.
        threshold: overlap (intersection over union) that a detection must exceed to match a label.
        points: 0 for the area under the precision made monotone (VOC 2010, ImageNet), else so many points of recall: 11
            as VOC 2007, 101 as COCO.
        confidence: probability above which detections count as made (true and false positives).
        order: who claims a label first in those counts: "probability", or "given", the order of the rows as in Darknet.
        difficult: per image, labels that need not be found: a detection that matches one, and no other, is left out.

    Raises:
        ShapeError: arrays of other shapes.
        DarkbnError: an image or class that does not exist, or a number that cannot be.
    """
    rows, truths = _checked(detections, labels, classes)
    spared = None if difficult is None else _checked(rows[:0], difficult, classes)[1]
    if spared is not None and len(spared) != len(truths):
        raise ShapeError(f"difficult: {len(spared)} images, but there are {len(truths)} with labels")
    if points == 1 or points < 0:
        raise DarkbnError(f"points must be 0 (area) or at least 2, found {points}")
    if order not in ("probability", "given"):
        raise DarkbnError(f"order must be probability or given, found {order!r}")
    rows, matches, overlaps = _match(rows, truths, spared, threshold)
    ranks = np.argsort(-rows[:, 2], kind="stable")
    ranked_hits = _first(matches[ranks])
    made = ranks if order == "probability" else np.arange(len(rows))
    hits = np.zeros(len(rows), bool)
    hits[made] = _first(matches[made])
    kinds = rows[:, 1].astype(int)
    counts = np.bincount(np.concatenate([_none(), *truths])[:, 0].astype(int), minlength=classes)
    scores = []
    for kind in range(classes):
        own = kinds == kind
        counted = own & (rows[:, 2] > confidence)
        right = counted & hits
        score = ClassScore(
            kind,
            int(counts[kind]),
            int(own.sum()),
            average_precision(ranked_hits[own[ranks]], int(counts[kind]), points),
            int(right.sum()),
            int(counted.sum() - right.sum()),
            _ratio(float(overlaps[right].sum()), int(counted.sum())),
        )
        scores.append(score)
    return Evaluation(tuple(scores), float(threshold), int(points), float(confidence))


def average_precision(hits: Array, labels: int, points: int = 0) -> float:
    """Average precision of one class.

    Args:
        hits: for its detections by falling probability, whether each is a true positive.
        labels: how many objects there are; without any it is 0.
        points: see `evaluate`.
    """
    if not labels or not len(hits):
        return 0.0
    found = np.cumsum(hits, dtype=np.float64)
    precision, recall = found / np.arange(1, len(hits) + 1), found / labels
    best = np.maximum.accumulate(precision[::-1])[::-1]  # the best precision from this recall on
    if points == 0:
        return float(np.sum(np.diff(recall, prepend=0.0) * best))
    # Recall rises, so the first place that reaches a point is found by bisection.
    wanted = np.arange(points) * 1.0 / (points - 1)
    places = np.searchsorted(recall, wanted)
    return float(np.append(best, 0.0)[places].sum() / points)


def evaluate_images(
    net: Network,
    images: Iterable[Source],
    labels: Sequence[Array],
    threshold: float = 0.5,
    points: int = 0,
    *,
    confidence: float = CONFIDENCE,
    nms: float = NMS,
    letterbox: bool | None = None,
    difficult: Sequence[Array] | None = None,
    progress: Any = None,
) -> tuple[Evaluation, list[ImageError]]:
    """Detect in images and score the result.

    Args:
        net: a detector.
        images, labels: as many; see `darkbn.detect.detect` and `evaluate`.
        threshold, points, confidence, difficult: see `evaluate`.
        nms, letterbox: see `darkbn.detect.detect`. None: as the dialect's detector does.
        progress: called without arguments after each image.

    Returns:
        The scores, and the errors of images that could not be read; their labels do not count.
    """
    from darkbn.detect import detect_each

    rows: list[tuple[float, ...]] = []
    kept: list[int] = []
    errors: list[ImageError] = []
    for index, found in enumerate(detect_each(net, images, THRESHOLD, nms, letterbox)):
        if isinstance(found, ImageError):
            errors.append(found)
        else:
            rows += [(len(kept), one.class_id, one.probability, *one.box) for one in found]
            kept.append(index)
        if progress is not None:
            progress()
    table = np.array(rows, np.float32).reshape(-1, DETECTION_SIZE)
    chosen = [labels[index] for index in kept]
    spared = None if difficult is None else [difficult[index] for index in kept]
    classes = max(head.options.classes for head in net.heads)
    scores = evaluate(table, chosen, classes, threshold, points, confidence=confidence, difficult=spared)
    return scores, errors


def _ratio(a: float, b: float) -> float:
    return a / b if b else 0.0


def _checked(detections: Any, labels: Sequence[Any], classes: int) -> tuple[Array, list[Array]]:
    """Both as arrays of float32, after a look at every number."""
    if classes < 1:
        raise DarkbnError(f"classes must be at least 1, found {classes}")
    truths = [np.asarray(one, np.float32).reshape(-1, LABEL_SIZE) if np.size(one) else _none() for one in labels]
    rows = np.asarray(detections, np.float32)
    if rows.ndim != 2 or rows.shape[1] != DETECTION_SIZE:
        raise ShapeError(
            f"detections must be rows of {DETECTION_SIZE} (image, class, probability, box), found {rows.shape}"
        )
    for name, values, limit in [
        ("detections: image", rows[:, 0], len(truths)),
        ("detections: class", rows[:, 1], classes),
        *((f"labels of image {i}: class", one[:, 0], classes) for i, one in enumerate(truths)),
    ]:
        wrong = values[~((values >= 0) & (values < limit) & (values == np.floor(values)))]
        if len(wrong):
            raise DarkbnError(f"{name} {wrong[0]:g} does not exist: there are 0 to {limit - 1}")
    return rows, truths


def _none() -> Array:
    return np.zeros((0, LABEL_SIZE), np.float32)


def _match(
    rows: Array, truths: list[Array], spared: list[Array] | None, threshold: float
) -> tuple[Array, Array, Array]:
    """Per detection, the number of the label that it matches (counted through all images, -1: none) and their overlap.

    Detections that match a difficult label only are left out of the rows that are returned.
    """
    limit = np.float32(threshold)
    matches, overlaps = np.full(len(rows), -1), np.zeros(len(rows), np.float32)
    keep = np.ones(len(rows), bool)
    offset = 0
    places = np.argsort(rows[:, 0], kind="stable")
    bounds = np.searchsorted(rows[places, 0], np.arange(len(truths) + 1))
    for image, truth in enumerate(truths):
        own = places[bounds[image] : bounds[image + 1]]
        which, best = _best(rows[own], truth, limit)
        matches[own], overlaps[own] = np.where(which >= 0, which + offset, -1), best
        if spared is not None:
            keep[own] = (which >= 0) | (_best(rows[own], spared[image], limit)[0] < 0)
        offset += len(truth)
    return rows[keep], matches[keep], overlaps[keep]


def _best(rows: Array, truth: Array, limit: np.float32) -> tuple[Array, Array]:
    """Per detection of an image the label of its class that it overlaps most, -1 unless above the limit; overlap."""
    if not len(rows) or not len(truth):
        return np.full(len(rows), -1), np.zeros(len(rows), np.float32)
    found = iou(rows[:, np.newaxis, 3:], truth[np.newaxis, :, 1:])
    found = np.where((rows[:, 1:2] == truth[np.newaxis, :, 0]) & (found > limit), found, 0)
    which = found.argmax(axis=1)
    best = found[np.arange(len(rows)), which]
    return np.where(best > 0, which, -1), best


def _first(matches: Array) -> Array:
    """Whether each is the first with its label."""
    hits = np.zeros(len(matches), bool)
    hits[np.unique(matches, return_index=True)[1]] = True
    return hits & (matches >= 0)
