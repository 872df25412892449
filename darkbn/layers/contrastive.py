"""[contrastive]: a loss that draws embeddings of the same object together and pushes others apart (dialect alexeyab).

With yolo_layer= the input is the map that the [yolo] layer's anchors have their embeddings in, `n` times embedding_size
channels; what counts are the places that truths claim there, labelled by the truth's track and paired within its class.
Without, the input is one embedding per image, labelled by the most probable class of its truth (or, where the truth is
empty, by pairs of neighbours, as Darknet loads two views of each picture). output = input; the loss, described at
`darkbn.reference.contrastive.loss`, is multiplied by cls_normalizer and bounded by max_delta; cost = sum of the squares
of delta.

Departure from Darknet: the form without yolo_layer= works (Darknet dies on reading it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from darkbn.backend import to_host
from darkbn.boxes import iou
from darkbn.errors import TrainingError
from darkbn.layers.base import Context, Layer, LayerOptions, take_losses
from darkbn.layers.yolo import YoloLayer
from darkbn.options import option
from darkbn.signature import Array
from darkbn.state import NetworkState

_FLT_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True)
class ContrastiveOptions(LayerOptions):
    """Options of [contrastive]."""

    classes: int = option(1000, minimum=1)
    yolo_layer: int = option(0)
    temperature: float = option(1.0)
    cls_normalizer: float = option(1.0)
    max_delta: float = option(_FLT_MAX, minimum=0)
    contrastive_neg_max: int = option(3, minimum=0)


@dataclass(frozen=True)
class Labels:
    """Which embeddings count in a pass: places (image, anchor, cell), and their labels and classes."""

    places: Array  # (m, 3)
    labels: Array  # (m,)
    classes: Array  # (m,)


class ContrastiveLayer(Layer):
    """The contrastive loss.

    Attributes:
        yolo: the [yolo] layer whose truths label the embeddings, or None.
        n, embedding_size: embeddings per cell, and their length.
        accuracy: of the last training pass, in percent: embeddings whose nearest partner has their label, among those
            with partners of both kinds; None when there are none.
    """

    type = "contrastive"
    sections = ("contrastive",)
    options_class = ContrastiveOptions
    options: ContrastiveOptions
    has_cost = True

    def __init__(self, options: ContrastiveOptions, context: Context) -> None:
        self.yolo = self._find_yolo(options, context)
        self.classes = self.yolo.classes if self.yolo else options.classes
        self.n = self.yolo.n if self.yolo else 1
        self._accuracy: float | None = None
        if options.temperature <= 0:
            raise context.error(f"must be above 0, found {options.temperature}", key="temperature")
        super().__init__(options, context)

    @staticmethod
    def _find_yolo(options: ContrastiveOptions, context: Context) -> YoloLayer | None:
        if options.yolo_layer == 0:
            return None
        layer = context.find_layer(options.yolo_layer, key="yolo_layer")
        if not isinstance(layer, YoloLayer):
            raise context.error(f"layer {layer.context.index} is [{layer.type}], expected [yolo]", key="yolo_layer")
        return layer

    def shape(self) -> None:
        self.out_h, self.out_w, self.out_c, self.outputs = self.h, self.w, self.c, self.inputs
        cells = max(self.h * self.w, 1)
        if self.yolo is None and cells > 1:
            raise self.context.error(f"without yolo_layer= the input must be 1 x 1, found {self.w} x {self.h}")
        if self.yolo is not None and (self.yolo.w, self.yolo.h) != (self.w, self.h):
            raise self.context.error(
                f"the [yolo] layer is {self.yolo.w} x {self.yolo.h}, the input {self.w} x {self.h}", key="yolo_layer"
            )
        if self.inputs % (self.n * cells):
            raise self.context.error(f"the input's {self.c} channels cannot be divided among {self.n} anchors")
        self.embedding_size = self.inputs // (self.n * cells)

    @property
    def accuracy(self) -> float | None:
        """See the class."""
        take_losses((self,))
        return self._accuracy

    def summarize(self, *arrays: Any) -> None:
        super().summarize(*arrays)
        counted = arrays[1][arrays[1] >= 0]
        self._accuracy = 100 * float(counted.mean()) if len(counted) else None

    def forward(self, net: NetworkState) -> None:
        forward_contrastive_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_contrastive_layer(self, net)


def make_contrastive_layer(batch: int, inputs: int, classes: int, **options: Any) -> ContrastiveLayer:
    """The contrastive loss over one embedding per image outside a network, ready to train.

    Args:
        batch, inputs: sizes; inputs is the length of an embedding.
        classes: values of truth per image.
        options: further options of the section; fields of `Context` as context={...}.
    """
    context = options.pop("context", {})
    l = ContrastiveLayer(ContrastiveOptions(classes=classes, **options), Context(batch=batch, inputs=inputs, **context))
    l.allocate(training=True)
    return l


def forward_contrastive_layer(l: ContrastiveLayer, net: NetworkState) -> None:
    """output = input, and when training delta, cost and accuracy."""
    l.output[...] = net.input.reshape(l.output.shape)
    if net.train:
        _train(l, net, _tracks(l.yolo, net) if l.yolo else _kinds(l, net))


def _train(l: ContrastiveLayer, net: NetworkState, found: Labels) -> None:
    o, backend, kernels = l.options, l.backend, l.backend.contrastive
    image, anchor, cell = (backend.array(numbers, "int64") for numbers in found.places.T)
    maps = (l.batch, l.n, l.embedding_size, max(l.h * l.w, 1))
    z = backend.array(l.output.reshape(maps)[image, anchor, :, cell])
    steps = found.places[:, 0] // max(l.batch // l.context.time_steps, 1)
    delta, right = backend.empty(z.shape), backend.empty((len(z),), "int32")
    kernels.loss(
        z,
        *(backend.array(numbers, "int32") for numbers in (found.labels, found.classes, steps)),
        delta,
        right,
        net.workspace(kernels.loss_workspace(len(z), net.threads), backend),
        o.temperature,
        o.contrastive_neg_max,
        int(l.yolo is not None),
        net.threads,
    )
    l.delta.fill(0)
    l.delta.reshape(maps)[image, anchor, :, cell] = (delta * o.cls_normalizer).clip(-o.max_delta, o.max_delta)
    l.leave_loss(backend.xp.square(l.delta, dtype="float64").sum(), right)


def _kinds(l: ContrastiveLayer, net: NetworkState) -> Labels:
    """Every image, by the most probable class of its truth."""
    if net.truth is None or net.truth.size != l.batch * l.classes:
        found = "none" if net.truth is None else f"an array of shape {net.truth.shape}"
        raise TrainingError(
            f"layer {l.context.index} [contrastive]: needs {l.classes} values of truth for each of {l.batch} samples,"
            f" found {found}"
        )
    truth = net.host_truth.reshape(l.batch, l.classes)
    images = np.arange(l.batch)
    labels = np.where(truth.max(axis=1) > 0, truth.argmax(axis=1), images // 2)
    return Labels(np.stack([images, 0 * images, 0 * images], axis=1), labels, 0 * images)


def _tracks(yolo: YoloLayer, net: NetworkState) -> Labels:
    """The places that truths claim in a [yolo] layer, by track; the last of several in one place counts."""
    rows, mask = yolo.host_truth_rows(net), to_host(yolo.mask)
    width, height = yolo.net_size
    sizes = to_host(yolo.anchors) / (width, height)
    shapes = np.concatenate([np.zeros_like(sizes), sizes], axis=1)
    found: dict[tuple[int, int, int], tuple[int, int]] = {}
    for image, truths in enumerate(rows):
        for x, y, w, h, kind, track in truths[:, :6]:
            if x == 0:
                break
            best = iou(shapes, np.array([0, 0, w, h])).argmax()
            i, j = min(int(x * yolo.w), yolo.w - 1), min(int(y * yolo.h), yolo.h - 1)
            for slot in np.flatnonzero(mask == best)[:1]:
                found[image, int(slot), j * yolo.w + i] = int(track), int(kind)
    places = sorted(place for place, (track, _) in found.items() if track >= 0)
    labels = np.array([found[place] for place in places], np.int64).reshape(-1, 2)
    return Labels(np.array(places, np.int64).reshape(-1, 3), labels[:, 0], labels[:, 1])


def backward_contrastive_layer(l: ContrastiveLayer, net: NetworkState) -> None:
    """Adds delta to net.delta."""
    if net.delta is not None:
        net.delta += l.delta.reshape(net.delta.shape)


def resize_contrastive_layer(l: ContrastiveLayer, w: int, h: int) -> None:
    """Take an input of w x h, the new size of the [yolo] layer."""
    l.resize(w, h)
