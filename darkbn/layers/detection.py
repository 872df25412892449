"""[detection]: the YOLOv1 head, a grid of side x side cells with `num` boxes each.

The input is, for each sample: a distribution over the classes for each cell, the confidences of all boxes, the boxes
(x, y in cells from the cell's corner; w, h relative to the picture, with sqrt=1 their square roots). output = input,
with softmax=1 normalized over the classes of each cell.

The truth has for each cell: whether it holds an object, a class vector, x, y, w, h. The loss draws all confidences to
0 (noobject_scale); in cells with an object it draws the classes to the truth (class_scale), the confidence of the
responsible box to 1, or with rescore=1 to its IoU (object_scale), and its coordinates to the truth (coord_scale). The
responsible box is the one with the greatest IoU, else the nearest; with forced=1 the second one for small objects and
the first for others; with random=1 any one for the first 64000 images. cost = sum of the squares of delta.

Departures from Darknet: where every box is farther than 20 from the truth it writes before the cell's boxes, darkbn
takes the nearest; coords= must be 4, as the loss of Darknet assumes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from darkbn.backend import to_host
from darkbn.errors import TrainingError
from darkbn.layers.base import Buffer, Context, Layer, LayerOptions, Role
from darkbn.options import option
from darkbn.signature import Array
from darkbn.state import NetworkState
from darkbn.tree import HIER

#: Images for which random=1 picks the responsible boxes at random.
RANDOM_IMAGES = 64000


def _wrong_coords(value: int, dialect: str) -> str | None:
    return None if value == 4 else f"a box has 4 coordinates, found {value}"


@dataclass(frozen=True, kw_only=True)
class DetectionOptions(LayerOptions):
    """Options of [detection]."""

    coords: int = option(1, problem=_wrong_coords)
    classes: int = option(1, minimum=1)
    rescore: bool = option(False)
    num: int = option(1, minimum=1)
    side: int = option(7, minimum=1)
    softmax: bool = option(False)
    sqrt: bool = option(False)
    max: int = option(darknet=90, alexeyab=200)
    coord_scale: float = option(1.0)
    forced: bool = option(False)
    object_scale: float = option(1.0)
    noobject_scale: float = option(1.0)
    class_scale: float = option(1.0)
    jitter: float = option(0.2)
    resize: float = option(1.0, only="alexeyab")
    random: float = option(0.0)
    reorg: int = option(0)


class DetectionLayer(Layer):
    """The YOLOv1 head; output is shaped like the input."""

    type = "detection"
    sections = ("detection",)
    options_class = DetectionOptions
    options: DetectionOptions
    has_cost = True
    is_head = True

    def __init__(self, options: DetectionOptions, context: Context) -> None:
        self.side, self.n, self.classes = options.side, options.num, options.classes
        self.cells = options.side**2
        self.truths = self.cells * (1 + 4 + options.classes)
        super().__init__(options, context)

    def shape(self) -> None:
        o, expected = self.options, self.cells * (5 * self.n + self.classes)
        if o.coords != 4:
            raise self.context.error("must be 4", key="coords")
        if self.inputs != expected:
            raise self.context.error(
                f"needs an input of side*side*(num*5 + classes) = {o.side}*{o.side}*({o.num}*5 + {o.classes}) ="
                f" {expected} values, found {self.inputs}"
            )
        self.outputs = self.inputs

    def buffers(self) -> list[Buffer]:
        costs = Buffer("costs", (self.batch,), Role.SCRATCH, training=True, dtype="float64")
        return [*self.output_buffers(), costs]

    def forward(self, net: NetworkState) -> None:
        forward_detection_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_detection_layer(self, net)

    def detections(self, index: int, threshold: float, threads: int = 1, hier: float = HIER) -> Array:
        """The boxes of one sample that have a class above the threshold; see `get_detection_detections`."""
        return get_detection_detections(self, index, threshold)


def make_detection_layer(
    batch: int, inputs: int, n: int, side: int, classes: int, coords: int = 4, rescore: bool = False, **options: Any
) -> DetectionLayer:
    """A YOLOv1 head outside a network, ready to train.

    Args:
        batch, inputs: sizes.
        n, side, classes, coords, rescore: as num=, side=, classes=, coords= and rescore= of the section.
        options: further options of the section; fields of `Context` as context={...}.
    """
    context = options.pop("context", {})
    read = DetectionOptions(num=n, side=side, classes=classes, coords=coords, rescore=rescore, **options)
    l = DetectionLayer(read, Context(batch=batch, inputs=inputs, **context))
    l.allocate(training=True)
    return l


def forward_detection_layer(l: DetectionLayer, net: NetworkState) -> None:
    """output, and when training delta and cost."""
    o, kernels = l.options, l.backend.detection
    x = net.input.reshape(l.output.shape)
    kernels.activate(x, l.output, l.cells, l.classes, int(o.softmax), net.threads)
    if not net.train:
        return
    if net.truth is None or net.truth.shape != (l.batch, l.truths):
        found = "none" if net.truth is None else f"{net.truth.shape[1]} values"
        raise TrainingError(
            f"layer {l.context.index} [detection]: needs side*side*(5 + classes) = {l.truths} values of truth for each"
            f" of {l.batch} samples, found {found}"
        )
    choices = None
    if o.random and net.seen < RANDOM_IMAGES:
        choices = l.backend.array(net.rng.integers(0, l.n, (l.batch, l.cells)), "int32")
    kernels.loss(
        l.output,
        net.truth,
        choices,
        l.delta,
        l.costs,
        o.side,
        o.num,
        o.classes,
        o.object_scale,
        o.noobject_scale,
        o.class_scale,
        o.coord_scale,
        int(o.sqrt),
        int(o.rescore),
        int(o.forced),
        net.threads,
    )
    l.leave_loss(l.costs)


def backward_detection_layer(l: DetectionLayer, net: NetworkState) -> None:
    """Adds delta to net.delta."""
    if net.delta is not None:
        net.delta += l.delta.reshape(net.delta.shape)


def get_detection_detections(l: DetectionLayer, index: int, threshold: float) -> Array:
    """Boxes of one sample.

    Args:
        l: the layer after a forward pass.
        index: of the sample.
        threshold: what confidence times class probability must exceed.

    Returns:
        (m, 5 + classes): x, y, w, h relative to the network's input, confidence, and the probabilities, 0 where they
        do not exceed the threshold. Boxes without any are left out.
    """
    values = to_host(l.output[index])
    classes, confidences, boxes = np.split(values, [l.cells * l.classes, l.cells * (l.classes + l.n)])
    confidences, boxes = confidences.reshape(l.cells, l.n, 1), boxes.reshape(l.cells, l.n, 4)
    probabilities = confidences * classes.reshape(l.cells, 1, l.classes)
    rows, columns = np.divmod(np.arange(l.cells), l.side)
    places = (boxes[..., :2] + np.stack([columns, rows], axis=1)[:, np.newaxis].astype(values.dtype)) / l.side
    sizes = np.square(boxes[..., 2:]) if l.options.sqrt else boxes[..., 2:]
    kept = np.where(probabilities > threshold, probabilities, 0)
    found = np.concatenate([places, sizes, confidences, kept], axis=2).reshape(-1, 5 + l.classes)
    result: Array = found[(found[:, 5:] > 0).any(axis=1)]
    return result


def resize_detection_layer(l: DetectionLayer, w: int, h: int) -> None:
    """Take an input of w x h; only one with as many values as before is possible."""
    l.resize(w, h)
