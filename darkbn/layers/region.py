"""[region]: boxes and classes per anchor and cell of the map before it (YOLOv2).

Entries per anchor: x, y, w, h, objectness, classes. A box is

    ((column + logistic(x)) / w, (row + logistic(y)) / h, exp(w) * anchor width / w, exp(h) * anchor height / h)

with anchors in cells. The classes go through a softmax (softmax=1); without it, pjreddie's Darknet takes their logistic
function, AlexeyAB's leaves them as they are. The loss is described at `darkbn.reference.region.loss`.

YOLO9000: tree= names a hierarchy of the classes (`darkbn.tree`). Each group of it has a softmax of its own, which gives
the probability of a class given its parent. A detection has one class then: the last one on the way down from the roots
along the most probable child whose probability exceeds a threshold (hier, .5 by default). Its probability is the
objectness in dialect darknet; in alexeyab that of the class, where it exceeds hier. map= renumbers the classes of
labels with boxes. Labels without a box (centre beyond 100000) train their class alone.

Layout: dialect darknet (anchor, entry, row, column), x and y after the logistic function. Dialect alexeyab (row,
column, anchor, entry), x and y before it, also on its GPU (ab-region-output-is-transposed); `output` has the shape of
the input all the same. `delta` is always laid out like the input.

Truth: pjreddie's dialect 30 rows of (x, y, w, h, class) per image, AlexeyAB's `max` rows of (x, y, w, h, class, track).

Departures from Darknet: the delta is passed on to the layer before in both dialects (pj-region-cpu-backward-is-empty);
truths that cannot be are errors; softmax over a hierarchy has temperature 1 (pj-region-tree-nan) and takes each place
by itself, as on the GPU; going down the hierarchy, the probability of a class is the product along its path
(pj-tree-multiplies-twice: pjreddie's multiplies such products again), and hier counts in dialect alexeyab, too
(ab-hier-ignored: always .5).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from darkbn.backend import get_backend, to_host
from darkbn.cfg import Section
from darkbn.layers.base import Buffer, Context, LayerOptions
from darkbn.layers.heads import (
    HeadLayer,
    HeadStatistics,
    anchor_count,
    backward_head_layer,
    resize_head_layer,
)
from darkbn.options import option
from darkbn.signature import Array
from darkbn.state import NetworkState
from darkbn.tree import HIER, ClassTree, tree_of

#: Rows of truth per image in pjreddie's Darknet, whatever `max` says.
_ROWS = 30

#: Images for which boxes are pulled to their anchors at the beginning of training.
EARLY_IMAGES = 12800


@dataclass(frozen=True, kw_only=True)
class RegionOptions(LayerOptions):
    """Options of [region]."""

    coords: int = option(4, unsupported="more numbers than x, y, w, h (masks) are not supported; Darknet misreads them")
    classes: int = option(20, minimum=1)
    num: int = option(1, minimum=1)
    log: int = option(0)
    sqrt: int = option(0)
    softmax: bool = option(False)
    background: bool = option(False, only="darknet")
    max: int = option(darknet=30, alexeyab=200, minimum=0)
    jitter: float = option(0.2)
    rescore: bool = option(False)
    thresh: float = option(0.5)
    classfix: int = option(0)
    absolute: int = option(0)
    random: float = option(0.0)
    coord_scale: float = option(1.0)
    object_scale: float = option(1.0)
    noobject_scale: float = option(1.0)
    mask_scale: float = option(1.0)
    class_scale: float = option(1.0)
    bias_match: bool = option(False)
    tree: str = option("")
    map: str = option("")
    anchors: tuple[float, ...] = option(())
    focal_loss: bool = option(False, only="alexeyab")
    resize: float = option(1.0, only="alexeyab")


class RegionLayer(HeadLayer):
    """A [region] head; see the module for the layout of its output.

    Attributes:
        softmax_tree: the hierarchy of the classes, or None.
        groups, paths: what kernels take of it: its group_size and paths, or None.
    """

    type = "region"
    sections = ("region",)
    options_class = RegionOptions
    options: RegionOptions
    anchors_option = "num"

    softmax_tree: ClassTree | None
    groups: Any
    paths: Any
    squares: Any
    sums: Any

    def __init__(self, options: RegionOptions, context: Context) -> None:
        anchor_count(context, options.anchors, options.num, options.num)
        self.softmax_tree = self.groups = self.paths = None
        if options.tree:
            self.softmax_tree = tree_of(context, options.tree, options.classes)
            self.groups = context.backend.array(self.softmax_tree.group_size, "int32")
            self.paths = context.backend.array(self.softmax_tree.paths, "int32")
        rows = options.max if context.dialect == "alexeyab" else _ROWS
        super().__init__(options, context, n=options.num, total=options.num, max_boxes=rows, rows=rows)

    @property
    def in_cells(self) -> bool:
        """Whether the output is laid out place by place."""
        return self.context.dialect == "alexeyab"

    @property
    def map_shape(self) -> tuple[int, ...]:
        """The output's axes: (batch, n, entries, h, w), or (batch, h, w, n, entries)."""
        if self.in_cells:
            return (self.batch, self.h, self.w, self.n, self.entries)
        return (self.batch, self.n, self.entries, self.h, self.w)

    def buffers(self) -> list[Buffer]:
        return self.output_buffers() + self.training_buffers(7)

    @property
    def classes_without_boxes(self) -> int:
        return 0 if self.softmax_tree is None else self.classes

    def forward(self, net: NetworkState) -> None:
        forward_region_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_region_layer(self, net)

    def summarize(self, *arrays: Any) -> None:
        super().summarize(*arrays)
        _summarize(self, arrays[1])

    def detections(self, image: int, threshold: float, threads: int = 1, hier: float = HIER) -> Any:
        return get_region_detections(self, image, threshold, threads, hier)


def make_region_layer(
    batch: int,
    w: int,
    h: int,
    n: int,
    classes: int,
    coords: int = 4,
    *,
    anchors: tuple[float, ...],
    dialect: str = "darknet",
    backend: str = "cpu",
    **options: Any,
) -> RegionLayer:
    """A [region] head outside a network, ready to train.

    Args:
        batch, w, h: of the map.
        n, classes, coords: anchors, classes, numbers of a box (4).
        anchors: width and height of the anchors in cells.
        dialect: "darknet" or "alexeyab".
        backend: where its arrays live.
        options: further fields of `RegionOptions`.
    """
    defaults = RegionOptions.read(Section("region"), dialect, [])
    chosen = replace(defaults, num=n, classes=classes, coords=coords, anchors=tuple(anchors), **options)
    c = n * (classes + coords + 1)
    context = Context(batch=batch, h=h, w=w, c=c, inputs=h * w * c, dialect=dialect, backend=get_backend(backend))
    l = RegionLayer(chosen, context)
    l.allocate(training=True)
    return l


def forward_region_layer(l: RegionLayer, net: NetworkState) -> None:
    """output = activated input; when training also delta, cost and statistics."""
    area, softmax = l.h * l.w, int(l.options.softmax)
    x = net.input.reshape(l.batch, l.n, l.entries, area)
    if l.in_cells:
        out = l.output.reshape(l.batch, area, l.n, l.entries)
        l.backend.region.forward_cells(x, out, l.groups, softmax, net.threads)
    else:
        background = int(l.options.background)
        l.backend.region.forward(x, l.output.reshape(x.shape), l.groups, background, softmax, net.threads)
    if net.train and not l.options.onlyforward:
        _train(l, net)


def _train(l: RegionLayer, net: NetworkState) -> None:
    o = l.options
    if l.in_cells:
        loss, kind = l.backend.region.loss_cells, (o.classfix, int(o.focal_loss))
    else:
        loss, kind = l.backend.region.loss, (int(o.background), int(not o.softmax))
    loss(
        l.output.reshape(l.map_shape),
        l.truth_rows(net),
        l.anchors,
        l.paths,
        l.delta.reshape(l.batch, l.n, l.entries, l.h, l.w),
        l.squares,
        l.sums,
        o.thresh,
        o.coord_scale,
        o.object_scale,
        o.noobject_scale,
        o.class_scale,
        int(o.bias_match),
        int(o.rescore),
        *kind,
        int(net.seen < EARLY_IMAGES),
        net.threads,
    )
    l.leave_loss(l.squares, l.sums)


def _summarize(l: RegionLayer, sums: Array) -> None:
    """statistics from the sums of the loss."""
    count, iou, recall50, category, objectness, everywhere, classified = sums.sum(axis=0).tolist()
    some = max(count, 1)
    l.statistics = HeadStatistics(
        count=int(count),
        iou=iou / some,
        category=category / max(classified, 1),
        objectness=objectness / some,
        any_objectness=everywhere / (l.batch * l.n * l.h * l.w),
        recall50=recall50 / some,
    )


def get_region_detections(l: RegionLayer, image: int, threshold: float, threads: int = 1, hier: float = HIER) -> Any:
    """See `HeadLayer.detections`. In dialect alexeyab the objectness need not exceed the threshold."""
    output = l.output.reshape(l.map_shape)[image : image + 1]
    if l.softmax_tree is not None:
        return _tree_detections(l, output, threshold, hier, threads)
    rows = _decode(l, output, threshold, threads)
    return to_host(rows[(rows[:, 5:] > 0).any(axis=1)] if l.in_cells else rows[rows[:, 4] > 0])


def _decode(l: RegionLayer, output: Any, threshold: float, threads: int) -> Any:
    """Rows of all places of one image: box, objectness and whatever classes `output` has."""
    entries = output.shape[4 if l.in_cells else 2]
    rows = l.backend.empty((l.h, l.w, l.n, entries))
    if l.in_cells:
        sure = int(l.options.classfix == -1)
        l.backend.region.decode_cells(output, l.anchors, rows, 0, float(threshold), sure, threads)
    else:
        background = int(l.options.background)
        l.backend.region.decode(output, l.anchors, rows, 0, float(threshold), background, threads)
    return rows.reshape(-1, entries)


def _tree_detections(l: RegionLayer, output: Any, threshold: float, hier: float, threads: int) -> Any:
    """Rows with the one class that the hierarchy gives each place whose objectness exceeds the threshold."""
    tree: Any = l.softmax_tree
    by_place = output[0] if l.in_cells else output[0].transpose(2, 3, 0, 1)
    boxes = output[..., :5] if l.in_cells else output[:, :, :5]
    decoded = _decode(l, l.backend.array(boxes), threshold, threads)
    live = l.backend.xp.flatnonzero(decoded[:, 4] > threshold)
    rows, classes = to_host(decoded[live]), to_host(by_place.reshape(-1, l.entries)[live, 5:])
    probabilities = tree.hierarchy_predictions(classes)
    best = np.array([tree.hierarchy_top_prediction(place, hier) for place in probabilities], dtype=np.int64)
    chosen = probabilities[np.arange(len(best)), best]
    found = np.zeros((len(best), l.entries), rows.dtype)
    found[:, :5] = rows
    found[np.arange(len(best)), 5 + best] = np.where(chosen > hier, chosen, 0) if l.in_cells else rows[:, 4]
    return found


def backward_region_layer(l: RegionLayer, net: NetworkState) -> None:
    """Adds delta to net.delta.

    In dialect darknet delta is multiplied by the derivative of the logistic function of x, y and objectness first, as
    its CUDA code does; in dialect alexeyab the loss has done so.
    """
    if not l.in_cells:
        shape = (l.batch, l.n, l.entries, l.h * l.w)
        output, delta = l.output.reshape(shape), l.delta.reshape(shape)
        for entry in (0, 1) if l.options.background else (0, 1, 4):
            y = output[:, :, entry]
            delta[:, :, entry] *= y * (1 - y)
    backward_head_layer(l, net)


resize_region_layer = resize_head_layer
