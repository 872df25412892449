"""Launchers of darkbn.reference.gaussian_yolo."""

from __future__ import annotations

from darkbn.gaussian import TO_CENTER
from darkbn.signature import Array
from darkbn_gpu.launch import each, launch


def activate(x: Array, out: Array, scale_x_y: float, threads: int) -> None:
    each("gaussian_yolo", "gaussian_yolo_activate", x.size, x, out, x.size, *x.shape[2:], float(scale_x_y))


def loss(
    output: Array,
    truth: Array,
    anchors: Array,
    mask: Array,
    class_weights: Array | None,
    delta: Array,
    squares: Array,
    statistics: Array,
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
    if output.size == 0 or anchors.size == 0:
        for array in (delta, squares, statistics):
            array.fill(0)
        return
    b, n, e, h, w = output.shape
    weights = class_weights if class_weights is not None and class_weights.size else None
    sizes = (n, e, h, w, *truth.shape[1:], anchors.shape[0], 0 if weights is None else weights.shape[0])
    numbers = (net_w, net_h, ignore_thresh, truth_thresh, iou_thresh)
    factors = (iou_normalizer, obj_normalizer, cls_normalizer, max_delta, label_smooth_eps)
    rules = (*map(float, numbers), iou_thresh_kind, iou_loss, *map(float, factors), objectness_smooth)
    own = (float(uc_normalizer), float(TO_CENTER[point]))
    head = (output, truth, anchors, mask, weights, delta, *sizes, *rules, *own)
    each("gaussian_yolo", "gaussian_yolo_punish", b * n * h * w, b, *head)
    each("gaussian_yolo", "gaussian_yolo_assign", b, b, statistics, *head)
    each("gaussian_yolo", "gaussian_yolo_average", b * n * h * w, b, *head)
    launch("gaussian_yolo", "gaussian_yolo_squares", b * n, delta, squares, e * h * w)
