"""What the detection heads [yolo] and [region] share: their map, anchors, truths and what training says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from darkbn.errors import ShapeError, TrainingError
from darkbn.layers.base import Buffer, Context, Layer, Role, take_losses
from darkbn.signature import Array
from darkbn.state import NetworkState
from darkbn.tree import CLASS_ONLY, HIER, map_of

#: Numbers of a box before its classes: x, y, w, h, objectness.
BOX_ENTRIES = 5

#: Anchor size of anchors that the description does not give, as in Darknet.
DEFAULT_ANCHOR = 0.5


@dataclass(frozen=True)
class HeadStatistics:
    """How well the head did in a training pass; means over the predictions that truths claimed (0 when there are none).

    Attributes:
        count: how many predictions were claimed.
        iou: IoU with the truth.
        category: probability of the true class.
        objectness: objectness of claimed predictions; any_objectness: of all.
        recall50, recall75: part of them whose IoU exceeds .5 and .75 ([region] has no recall75).
    """

    count: int
    iou: float
    category: float
    objectness: float
    any_objectness: float
    recall50: float
    recall75: float | None = None


class HeadLayer(Layer):
    """A layer whose input has, per anchor, the entries x, y, w, h, objectness and one per class.

    Attributes:
        n, classes, entries: anchors of this head, classes, entries per anchor.
        biases: width and height of every anchor, as Darknet stores them.
        max_boxes, truth_size, truths: rows of truth per image that are read, numbers of a row, numbers per image.
        statistics: of the last training pass; None before one.
    """

    has_cost = True
    is_head = True
    #: What the error about the number of filters calls the number of anchors.
    anchors_option: ClassVar[str]
    #: Entries of an anchor before its classes.
    box_entries: ClassVar[int] = BOX_ENTRIES

    biases: Any

    def __init__(self, options: Any, context: Context, *, n: int, total: int, max_boxes: int, rows: int) -> None:
        self.n, self.total, self.classes = n, total, options.classes
        self.class_map = map_of(context, options.map, options.classes)
        self.entries = self.box_entries + self.classes
        # x, y, w, h, class; AlexeyAB's Darknet adds the number of a track.
        self.truth_size = 6 if context.dialect == "alexeyab" else 5
        self.max_boxes, self.truths = min(max_boxes, rows), rows * self.truth_size
        self._statistics: HeadStatistics | None = None
        sizes = np.full(2 * total, DEFAULT_ANCHOR)
        given = options.anchors[: 2 * total]
        sizes[: len(given)] = given
        self.biases = context.backend.array(sizes)
        super().__init__(options, context)

    @property
    def statistics(self) -> HeadStatistics | None:
        """How well the head did in the last training pass."""
        take_losses((self,))
        return self._statistics

    @statistics.setter
    def statistics(self, value: HeadStatistics | None) -> None:
        self._statistics = value

    @property
    def anchors(self) -> Any:
        """biases as (total, 2)."""
        return self.biases.reshape(-1, 2)

    def shape(self) -> None:
        self.context.require_image(f"[{self.type}]")
        wanted = self.n * self.entries
        if self.c != wanted:
            raise self._wrong_channels(wanted)
        self.set_output(self.h, self.w, self.c)

    def _wrong_channels(self, wanted: int) -> Exception:
        sum_text = f"({self.classes} classes + {self.box_entries}) * {self.n} of {self.anchors_option}"
        before = self.context.layers[self.context.index - 1] if self.context.layers and self.context.index else None
        if before is not None and before.type == "convolutional":
            where = f" in line {self.context.section.line}" if self.context.section else ""
            problem = f"must be {wanted} = {sum_text} for the [{self.type}]{where}, found {self.c}"
            return before.context.error(problem, key="filters")
        return self.context.error(f"needs {wanted} channels = {sum_text}, the input has {self.c}")

    def training_buffers(self, statistics: int, *squares: int) -> list[Buffer]:
        """Arrays that the loss kernels write sums to."""
        return [
            Buffer("squares", (self.batch, self.n, *squares), Role.SCRATCH, training=True, dtype="float64"),
            Buffer("sums", (self.batch, statistics), Role.SCRATCH, training=True, dtype="float64"),
        ]

    def backward(self, net: NetworkState) -> None:
        backward_head_layer(self, net)

    def truth_rows(self, net: NetworkState) -> Any:
        """`host_truth_rows` as an array of the backend."""
        return self.backend.array(self.host_truth_rows(net))

    def host_truth_rows(self, net: NetworkState) -> Array:
        """The truth as a NumPy array (batch, max_boxes, truth_size), checked.

        Raises:
            TrainingError: there is none, or a box that cannot be.
            ShapeError: not `truths` numbers per image.
        """
        name = f"layer {self.context.index} [{self.type}]"
        if net.truth is None:
            raise TrainingError(f"{name} needs truth: {self.truths} numbers per image")
        numbers = "x, y, w, h, class" + (", track" if self.truth_size == 6 else "")
        if net.truth.shape[0] != self.batch or net.truth.size != self.batch * self.truths:
            raise ShapeError(
                f"{name}: expected truth of shape {(self.batch, self.truths)}, {self.truths // self.truth_size} rows"
                f" ({numbers}) per image; found {net.truth.shape}"
            )
        rows = net.host_truth.reshape(self.batch, -1, self.truth_size)[:, : self.max_boxes]
        labels = self.classes if self.class_map is None else len(self.class_map)
        check_truths(rows, labels, name, self.classes_without_boxes)
        return rows if self.class_map is None else self._mapped(rows)

    @property
    def classes_without_boxes(self) -> int:
        """How many classes labels without a box can have; 0: there are no such labels."""
        return 0

    def _mapped(self, rows: Array) -> Array:
        """Truths with the classes of boxes renumbered by the class map."""
        boxes = (np.cumprod(rows[..., 0] != 0, axis=1) > 0) & ~without_box(rows)
        mapped = rows.copy()
        mapped[boxes, 4] = np.asarray(self.class_map)[rows[boxes, 4].astype("int64")]
        return mapped

    def detections(self, image: int, threshold: float, threads: int = 1, hier: float = HIER) -> Any:
        """Detections of one image of the last pass.

        Args:
            image: its place in the batch.
            threshold: smallest objectness, and smallest product of objectness and class probability, exclusive.
            threads: how many threads may work.
            hier: probability from which a class of a hierarchy is believed ([region] with tree=).

        Returns:
            Rows of x, y, w, h relative to the network input, objectness, and objectness * probability of every class,
            0 where that does not exceed the threshold. No suppression has taken place.
        """
        raise NotImplementedError


def without_box(rows: Array) -> Array:
    """Which truths (..., 5 or more) have a class but no box."""
    return np.asarray((rows[..., :2] > CLASS_ONLY).all(axis=-1))


def check_truths(rows: Array, classes: int, name: str, without_boxes: int = 0) -> None:
    """Raise TrainingError, saying which, when a listed box cannot be.

    Args:
        rows: (batch, rows, 5 or more): x, y, w, h, class; the first x = 0 ends an image's list.
        classes: number of classes.
        name: of the layer, for the message.
        without_boxes: number of classes that truths without a box can have; 0: every truth has a box.
    """
    listed = np.cumprod(rows[..., 0] != 0, axis=1) > 0
    kinds = rows[..., 4]
    if without_boxes:
        alone = listed & without_box(rows)
        classes_of = f"a class that does not exist: there are 0 to {without_boxes - 1}"
        _refuse(rows, alone & ((kinds < 0) | (kinds >= without_boxes)), name, classes_of)
        listed &= ~alone
    checks = [
        (~np.isfinite(rows[..., :5]).all(axis=-1), "a number that is not finite"),
        ((rows[..., :2] < 0).any(axis=-1) | (rows[..., :2] > 1).any(axis=-1), "a centre outside of the image"),
        ((rows[..., 2:4] <= 0).any(axis=-1), "no width or no height"),
        ((kinds < 0) | (kinds >= classes), f"a class that does not exist: there are 0 to {classes - 1}"),
    ]
    for wrong, what in checks:
        _refuse(rows, listed & wrong, name, what)


def _refuse(rows: Array, wrong: Array, name: str, what: str) -> None:
    found = np.argwhere(wrong)
    if len(found):
        image, box = map(int, found[0])
        values = ", ".join(f"{float(v):g}" for v in rows[image, box, :5])
        raise TrainingError(f"{name}: truth of image {image}, box {box} ({values}) has {what}")


def anchor_count(context: Context, anchors: tuple[float, ...], declared: int, used: int) -> int:
    """How many anchors a head knows; warns when the list and the declared number differ.

    Args:
        context: of the layer.
        anchors: the list, two numbers each; anchors beyond the declared number count, too.
        declared: `num`.
        used: one more than the largest index that the head uses.

    Raises:
        CfgError: an anchor that the head uses is not there.
    """
    given = -(-len(anchors) // 2)  # an official description ends in half an anchor
    if used > max(declared, given):
        raise context.error(f"{used - 1} is no anchor: num={declared} are 0 to {declared - 1}", key="mask")
    expected = f"expected {2 * declared} for num={declared}"
    if anchors and used > given:
        raise context.error(f"{len(anchors)} numbers are given, {expected}", key="anchors")
    if len(anchors) != 2 * declared:
        effect = "all are used" if given > declared else f"missing ones are {DEFAULT_ANCHOR}"
        context.warn(f"{len(anchors)} numbers are given, {expected}: {effect}", key="anchors")
    return max(declared, given)


def classes_multipliers(options: Any, context: Context) -> Any:
    """Weight of each class: the largest counter over its own, at most max_delta."""
    counters = options.counters_per_class
    if not counters:
        return None
    if len(counters) != options.classes:
        problem = f"{len(counters)} numbers for {options.classes} classes"
        raise context.error(problem, key="counters_per_class")
    counts = np.maximum(np.array(counters, dtype=np.float64), 1)
    return context.backend.array(np.minimum(counts.max() / counts, options.max_delta))


def backward_head_layer(l: HeadLayer, net: NetworkState) -> None:
    """net.delta += delta, times delta_normalizer where the head has one (ab-delta-normalizer-ignored)."""
    if net.delta is not None:
        factor = getattr(l.options, "delta_normalizer", 1.0)
        l.backend.vector.axpy(l.delta, net.delta.reshape(l.delta.shape), factor, net.threads)


def resize_head_layer(l: HeadLayer, w: int, h: int) -> None:
    """Take a map of w x h."""
    l.resize(w, h)
