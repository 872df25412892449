"""[Gaussian_yolo]: a [yolo] head that says how sure it is of each box (dialect alexeyab, arXiv:1904.04620).

Entries per anchor: x, y, w, h, each followed by its uncertainty, then objectness and classes. All but w and h go
through the logistic function; x and y are spread by scale_x_y round the middle of the cell. x and y are those of the
box's centre, or with yolo_point=left_top or right_bottom of that corner. Sizes are as in [yolo]; a class's probability
is its output times objectness times 1 minus the mean of the four uncertainties. The loss is described at
`darkbn.reference.gaussian_yolo.loss`, the truth at `darkbn.layers.yolo`.

Departures from Darknet: those of [yolo]; delta_normalizer works (Darknet has it in its GPU code only); with corners the
gradient of an overlap adds half of what moves the centre to the size (Darknet subtracts half of the size's from the
centre's).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from darkbn.boxes import IOU_KINDS, NMS_KINDS
from darkbn.gaussian import CENTER, LEFT_TOP, OBJECTNESS, RIGHT_BOTTOM, TO_CENTER
from darkbn.layers.base import Buffer, Context, LayerOptions
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

#: Values of yolo_point, and what kernels take for them.
POINTS = {"center": CENTER, "left_top": LEFT_TOP, "right_bottom": RIGHT_BOTTOM}


@dataclass(frozen=True, kw_only=True)
class GaussianYoloOptions(LayerOptions):
    """Options of [Gaussian_yolo]."""

    classes: int = option(20, minimum=1)
    max: int = option(200, minimum=0)
    num: int = option(1, minimum=1)
    mask: tuple[int, ...] = option(())
    max_delta: float = option(_FLT_MAX)
    counters_per_class: tuple[int, ...] = option(())
    label_smooth_eps: float = option(0.0)
    scale_x_y: float = option(1.0)
    objectness_smooth: int = option(0)
    uc_normalizer: float = option(1.0)
    iou_normalizer: float = option(0.75)
    obj_normalizer: float = option(1.0)
    cls_normalizer: float = option(1.0)
    delta_normalizer: float = option(1.0)
    iou_loss: str = option("mse", choices=tuple(IOU_KINDS))
    iou_thresh_kind: str = option("iou", choices=tuple(IOU_KINDS)[1:])
    beta_nms: float = option(0.6)
    nms_kind: str = option("default", choices=tuple(NMS_KINDS))
    yolo_point: str = option("center", choices=tuple(POINTS))
    jitter: float = option(0.2)
    resize: float = option(1.0)
    ignore_thresh: float = option(0.5)
    truth_thresh: float = option(1.0)
    iou_thresh: float = option(1.0)
    random: float = option(0.0)
    map: str = option("")
    anchors: tuple[float, ...] = option(())


class GaussianYoloLayer(HeadLayer):
    """A [Gaussian_yolo] head. `mask` holds the indices of its anchors, `classes_multipliers` a weight per class (None:
    all equal)."""

    type = "Gaussian_yolo"
    sections = ("Gaussian_yolo",)
    options_class = GaussianYoloOptions
    options: GaussianYoloOptions
    anchors_option = "mask"
    box_entries = OBJECTNESS + 1

    def __init__(self, options: GaussianYoloOptions, context: Context) -> None:
        mask = options.mask or tuple(range(options.num))
        if min(mask) < 0:
            raise context.error(f"{min(mask)} is no anchor: they count from 0", key="mask")
        total = anchor_count(context, options.anchors, options.num, max(mask) + 1)
        self.mask = context.backend.array(mask, "int32")
        self.classes_multipliers = classes_multipliers(options, context)
        self.point = POINTS[options.yolo_point]
        super().__init__(options, context, n=len(mask), total=total, max_boxes=options.max, rows=options.max)

    @property
    def net_size(self) -> tuple[int, int]:
        """Width and height of the network's input, which anchors are measured in."""
        if self.context.layers:
            return self.context.layers[0].w, self.context.layers[0].h
        return self.context.net_w, self.context.net_h

    def buffers(self) -> list[Buffer]:
        return [*self.output_buffers(), *self.training_buffers(8)]

    def forward(self, net: NetworkState) -> None:
        forward_gaussian_yolo_layer(self, net)

    def summarize(self, *arrays: Any) -> None:
        super().summarize(*arrays)
        _summarize(self, arrays[1])

    def detections(self, image: int, threshold: float, threads: int = 1, hier: float = HIER) -> Any:
        return get_gaussian_yolo_detections(self, image, threshold)


def make_gaussian_yolo_layer(
    batch: int,
    w: int,
    h: int,
    n: int,
    total: int,
    mask: tuple[int, ...] | None,
    classes: int,
    max_boxes: int = 200,
    *,
    anchors: tuple[float, ...],
    net_w: int,
    net_h: int,
    context: dict[str, Any] | None = None,
    **options: Any,
) -> GaussianYoloLayer:
    """A [Gaussian_yolo] head outside a network, ready to train.

    Args:
        batch, w, h: of the map.
        n, total: anchors of this head and of all.
        mask: indices of its anchors; None = the first n.
        classes: number of classes.
        max_boxes: rows of truth per image.
        anchors: width and height of all anchors in pixels of the network input.
        net_w, net_h: size of the network input.
        context: further fields of `Context` (backend).
        options: further fields of `GaussianYoloOptions`.
    """
    mask = tuple(mask) if mask is not None else tuple(range(n))
    read = GaussianYoloOptions(num=total, mask=mask, classes=classes, max=max_boxes, anchors=tuple(anchors), **options)
    c = n * (classes + OBJECTNESS + 1)
    sizes = {"h": h, "w": w, "c": c, "inputs": h * w * c, "net_w": net_w, "net_h": net_h, "dialect": "alexeyab"}
    l = GaussianYoloLayer(read, Context(batch=batch, **{**sizes, **(context or {})}))
    l.allocate(training=True)
    return l


def forward_gaussian_yolo_layer(l: GaussianYoloLayer, net: NetworkState) -> None:
    """output = activated input; when training also delta, cost and statistics."""
    shape = (l.batch, l.n, l.entries, l.h * l.w)
    x, out = net.input.reshape(shape), l.output.reshape(shape)
    l.backend.gaussian_yolo.activate(x, out, l.options.scale_x_y, net.threads)
    if net.train and not l.options.onlyforward:
        _train(l, net)


def _train(l: GaussianYoloLayer, net: NetworkState) -> None:
    o, shape = l.options, (l.batch, l.n, l.entries, l.h, l.w)
    width, height = l.net_size
    l.backend.gaussian_yolo.loss(
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
        o.iou_normalizer,
        o.uc_normalizer,
        o.obj_normalizer,
        o.cls_normalizer,
        o.max_delta,
        o.label_smooth_eps,
        o.objectness_smooth,
        l.point,
        net.threads,
    )
    l.leave_loss(l.squares, l.sums)


def _summarize(l: GaussianYoloLayer, sums: Array) -> None:
    """statistics from the sums of the loss."""
    count, overlap, _, recall50, recall75, category, objectness, everywhere = sums.sum(axis=0).tolist()
    some = max(count, 1)
    l.statistics = HeadStatistics(
        count=int(count),
        iou=overlap / some,
        category=category / some,
        objectness=objectness / some,
        any_objectness=everywhere / (l.batch * l.n * l.h * l.w),
        recall50=recall50 / some,
        recall75=recall75 / some,
    )


def get_gaussian_yolo_detections(l: GaussianYoloLayer, image: int, threshold: float) -> Any:
    """See `HeadLayer.detections`."""
    xp = l.backend.xp
    values = l.output[image].reshape(l.n, l.entries, l.h * l.w)
    cell, n = xp.nonzero((values[:, OBJECTNESS] > threshold).T)
    entries, (width, height) = values[n, :, cell], l.net_size
    anchors = l.anchors[l.mask[n]]
    rows = l.backend.empty((len(cell), 5 + l.classes))
    rows[:, 2:4] = xp.exp(entries[:, 4:8:2]) * anchors / l.backend.array([width, height])
    corner = xp.stack([cell % l.w, cell // l.w], axis=1)
    place = (entries[:, 0:4:2] + corner.astype(entries.dtype)) / l.backend.array([l.w, l.h])
    rows[:, :2] = place + TO_CENTER[l.point] * rows[:, 2:4] / 2
    rows[:, 4] = entries[:, OBJECTNESS]
    certain = rows[:, 4:5] * (1 - entries[:, 1:8:2].mean(axis=1, keepdims=True))
    probabilities = certain * entries[:, OBJECTNESS + 1 :]
    rows[:, 5:] = xp.where(probabilities > threshold, probabilities, 0)
    return rows


backward_gaussian_yolo_layer = backward_head_layer
resize_gaussian_yolo_layer = resize_head_layer
