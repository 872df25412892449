"""[yolo]: boxes and classes per anchor and cell of the map before it (YOLOv3 and later).

Entries per anchor: x, y, w, h, objectness, classes. The output has x, y, objectness and classes through the logistic
function and w, h as they are; x and y are spread by scale_x_y round the middle of the cell. With new_coords nothing is
activated (the convolution before does it). A box is

    ((column + x) / w, (row + y) / h, exp(w) * anchor width / network width, exp(h) * anchor height / network height)

or, with new_coords, (2 w)² and (2 h)² in place of the exponentials. The loss is described at
`darkbn.reference.yolo.loss`.

Truth: pjreddie's dialect 90 rows of (x, y, w, h, class) per image, AlexeyAB's `max` rows of (x, y, w, h, class, track).

Departures from Darknet: a truth that cannot be (class out of range, centre outside of the image) is an error; a centre
on the right or lower border falls into the last cell instead of beyond it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from darkbn.backend import get_backend
from darkbn.boxes import GIOU, IOU_KINDS, MSE, NMS_KINDS
from darkbn.cfg import Section
from darkbn.layers.base import Buffer, Context, LayerOptions, Role
from darkbn.layers.heads import (
    HeadLayer,
    HeadStatistics,
    anchor_count,
    backward_head_layer,
    classes_multipliers,
    resize_head_layer,
)
from darkbn.options import option
from darkbn.signature import Array
from darkbn.state import NetworkState
from darkbn.tree import HIER

_FLT_MAX = float(np.finfo(np.float32).max)

#: Rows of truth per image in pjreddie's Darknet, whatever `max` says.
_ROWS = 90


@dataclass(frozen=True, kw_only=True)
class YoloOptions(LayerOptions):
    """Options of [yolo]."""

    classes: int = option(20, minimum=1)
    num: int = option(1, minimum=1)
    mask: tuple[int, ...] = option(())
    max: int = option(darknet=90, alexeyab=200, minimum=0)
    jitter: float = option(0.2)
    ignore_thresh: float = option(0.5)
    truth_thresh: float = option(1.0)
    random: float = option(0.0)
    map: str = option("")
    anchors: tuple[float, ...] = option(())
    show_details: int = option(1, only="alexeyab")
    max_delta: float = option(_FLT_MAX, only="alexeyab")
    counters_per_class: tuple[int, ...] = option((), only="alexeyab")
    label_smooth_eps: float = option(0.0, only="alexeyab")
    scale_x_y: float = option(1.0, only="alexeyab")
    objectness_smooth: int = option(0, only="alexeyab")
    new_coords: int = option(0, only="alexeyab")
    iou_normalizer: float = option(0.75, only="alexeyab")
    obj_normalizer: float = option(1.0, only="alexeyab")
    cls_normalizer: float = option(1.0, only="alexeyab")
    delta_normalizer: float = option(1.0, only="alexeyab")
    iou_loss: str = option("mse", only="alexeyab", choices=tuple(IOU_KINDS))
    iou_thresh_kind: str = option("iou", only="alexeyab", choices=tuple(IOU_KINDS)[1:])
    beta_nms: float = option(0.6, only="alexeyab")
    nms_kind: str = option("default", only="alexeyab", choices=tuple(NMS_KINDS))
    resize: float = option(1.0, only="alexeyab")
    focal_loss: int = option(0, only="alexeyab")
    iou_thresh: float = option(1.0, only="alexeyab")
    track_history_size: int = option(5, only="alexeyab")
    sim_thresh: float = option(0.8, only="alexeyab")
    dets_for_track: int = option(1, only="alexeyab")
    dets_for_show: int = option(1, only="alexeyab")
    track_ciou_norm: float = option(0.01, only="alexeyab")
    embedding_layer: int = option(999999, only="alexeyab")


class YoloLayer(HeadLayer):
    """A [yolo] head. `mask` holds the indices of its anchors, `classes_multipliers` a weight per class or None."""

    type = "yolo"
    sections = ("yolo",)
    options_class = YoloOptions
    options: YoloOptions
    anchors_option = "mask"

    mask: Any
    classes_multipliers: Any
    places: Any
    counts: Any
    squares: Any
    sums: Any

    def __init__(self, options: YoloOptions, context: Context) -> None:
        mask = options.mask or tuple(range(options.num))
        if min(mask) < 0:
            raise context.error(f"{min(mask)} is no anchor: they count from 0", key="mask")
        total = anchor_count(context, options.anchors, options.num, max(mask) + 1)
        self.mask = context.backend.array(mask, "int32")
        self.classes_multipliers = classes_multipliers(options, context)
        rows = options.max if context.dialect == "alexeyab" else _ROWS
        super().__init__(options, context, n=len(mask), total=total, max_boxes=options.max, rows=rows)

    @property
    def net_size(self) -> tuple[int, int]:
        """Width and height of the network's input, which anchors are measured in."""
        if self.context.layers:
            return self.context.layers[0].w, self.context.layers[0].h
        return self.context.net_w, self.context.net_h

    def buffers(self) -> list[Buffer]:
        return [
            *self.output_buffers(),
            Buffer("places", (1, self.h * self.w, self.n), Role.SCRATCH, dtype="int32"),
            Buffer("counts", (1,), Role.SCRATCH, dtype="int32"),
            *self.training_buffers(8, 2),
        ]

    def forward(self, net: NetworkState) -> None:
        forward_yolo_layer(self, net)

    def summarize(self, *arrays: Any) -> None:
        _summarize(self, *arrays)

    def detections(self, image: int, threshold: float, threads: int = 1, hier: float = HIER) -> Any:
        return get_yolo_detections(self, image, threshold, threads)


def make_yolo_layer(
    batch: int,
    w: int,
    h: int,
    n: int,
    total: int,
    mask: tuple[int, ...] | None,
    classes: int,
    *,
    anchors: tuple[float, ...],
    net_w: int,
    net_h: int,
    dialect: str = "darknet",
    backend: str = "cpu",
    **options: Any,
) -> YoloLayer:
    """A [yolo] head outside a network, ready to train.

    Args:
        batch, w, h: of the map.
        n, total: anchors of this head and of all.
        mask: indices of its anchors; None = the first n.
        classes: number of classes.
        anchors: width and height of all anchors in pixels of the network input.
        net_w, net_h: size of the network input.
        dialect: "darknet" or "alexeyab".
        backend: where its arrays live.
        options: further fields of `YoloOptions`.
    """
    defaults = YoloOptions.read(Section("yolo"), dialect, [])
    mask = tuple(mask) if mask is not None else tuple(range(n))
    chosen = replace(defaults, num=total, mask=mask, classes=classes, anchors=tuple(anchors), **options)
    c = n * (classes + 5)
    l = YoloLayer(
        chosen,
        Context(
            batch=batch,
            h=h,
            w=w,
            c=c,
            inputs=h * w * c,
            net_w=net_w,
            net_h=net_h,
            dialect=dialect,
            backend=get_backend(backend),
        ),
    )
    l.allocate(training=True)
    return l


def forward_yolo_layer(l: YoloLayer, net: NetworkState) -> None:
    """output = activated input; when training also delta, cost and statistics."""
    shape = (l.batch, l.n, l.entries, l.h * l.w)
    options = l.options
    x, out = net.input.reshape(shape), l.output.reshape(shape)
    l.backend.yolo.activate(x, out, options.scale_x_y, options.new_coords, net.threads)
    if net.train and not l.options.onlyforward:
        _train(l, net)


def _train(l: YoloLayer, net: NetworkState) -> None:
    o, alexeyab = l.options, l.context.dialect == "alexeyab"
    shape = (l.batch, l.n, l.entries, l.h, l.w)
    width, height = l.net_size
    l.backend.yolo.loss(
        l.output.reshape(shape),
        l.truth_rows(net),
        l.anchors,
        l.mask,
        l.classes_multipliers,
        l.delta.reshape(shape),
        l.squares,
        l.sums,
        float(width),
        float(height),
        o.ignore_thresh,
        o.truth_thresh,
        o.iou_thresh,
        IOU_KINDS[o.iou_thresh_kind],
        IOU_KINDS[o.iou_loss],
        o.iou_normalizer if alexeyab else 1.0,
        o.obj_normalizer,
        o.cls_normalizer,
        o.max_delta,
        o.label_smooth_eps,
        o.objectness_smooth,
        o.focal_loss,
        o.new_coords,
        int(alexeyab),
        net.threads,
    )
    if net.rejection is not None and net.rejection.apply(l.backend.xp, l.delta, l.entries, net.completed):
        squares = l.backend.xp.square(l.delta.reshape(shape), dtype="float64")
        l.squares[..., 0], l.squares[..., 1] = squares[:, :, :4].sum((2, 3, 4)), squares[:, :, 4:].sum((2, 3, 4))
    l.leave_loss(l.squares, l.sums)


def _summarize(l: YoloLayer, squares: Array, sums: Array) -> None:
    """cost and statistics from the sums of the loss."""
    o, kind = l.options, IOU_KINDS[l.options.iou_loss]
    count, iou, giou, recall50, recall75, category, objectness, everywhere = sums.sum(axis=0).tolist()
    some = max(count, 1)
    if kind == MSE or not o.show_details:  # Darknet takes the other path only where it prints details
        l.cost = float(squares.sum())
    else:
        lack = (count - (giou if kind == GIOU else iou)) / some
        l.cost = o.iou_normalizer * lack + o.obj_normalizer * float(squares[..., 1].sum())
    l.statistics = HeadStatistics(
        count=int(count),
        iou=iou / some,
        category=category / some,
        objectness=objectness / some,
        any_objectness=everywhere / (l.batch * l.n * l.h * l.w),
        recall50=recall50 / some,
        recall75=recall75 / some,
    )


def get_yolo_detections(l: YoloLayer, image: int, threshold: float, threads: int = 1) -> Any:
    """See `HeadLayer.detections`."""
    planes = l.output.reshape(l.batch, l.n, l.entries, -1)[image : image + 1]
    l.backend.yolo.candidates(planes, l.places, l.counts, float(threshold), threads)
    places = l.places.reshape(-1)[: int(l.counts[0])]
    rows = l.backend.empty((len(places), l.entries))
    width, height = l.net_size
    l.backend.yolo.decode(
        l.output.reshape(l.batch, l.n, l.entries, l.h, l.w),
        places,
        l.anchors[l.mask],
        rows,
        image,
        float(width),
        float(height),
        float(threshold),
        l.options.new_coords,
        threads,
    )
    return rows


backward_yolo_layer = backward_head_layer
resize_yolo_layer = resize_head_layer
