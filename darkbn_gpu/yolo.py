"""Launchers of darkbn.reference.yolo."""

from __future__ import annotations

from darkbn.signature import Array
from darkbn_gpu.launch import each, launch


def activate(x: Array, out: Array, scale_x_y: float, new_coords: int, threads: int) -> None:
    sizes = (x.size, *x.shape[2:], float(scale_x_y), new_coords)
    each("yolo", "yolo_activate", x.size, x, out, *sizes)


def candidates(output: Array, places: Array, counts: Array, threshold: float, threads: int) -> None:
    b, n, e, s = output.shape
    launch("yolo", "yolo_candidates", b, output, places, counts, n, e, s, float(threshold))


def decode(
    output: Array,
    places: Array,
    anchors: Array,
    rows: Array,
    image: int,
    net_w: float,
    net_h: float,
    threshold: float,
    new_coords: int,
    threads: int,
) -> None:
    sizes = (rows.shape[0], *output.shape[1:], float(net_w), float(net_h), float(threshold), new_coords)
    each("yolo", "yolo_decode", rows.size, output[image], places, anchors, rows, *sizes)


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
    if output.size == 0 or anchors.size == 0:
        for array in (delta, squares, statistics):
            array.fill(0)
        return
    b, n, e, h, w = output.shape
    weights = class_weights if class_weights is not None and class_weights.size else None
    sizes = (n, e, h, w, *truth.shape[1:], anchors.shape[0], 0 if weights is None else weights.shape[0])
    numbers = (net_w, net_h, ignore_thresh, truth_thresh, iou_thresh)
    factors = (iou_normalizer, obj_normalizer, cls_normalizer, max_delta, label_smooth_eps)
    flags = (objectness_smooth, focal_loss, new_coords, alexeyab)
    rules = (*map(float, numbers), iou_thresh_kind, iou_loss, *map(float, factors), *flags)
    head = (output, truth, anchors, mask, weights, delta, *sizes, *rules)
    each("yolo", "yolo_punish", b * n * h * w, b, *head)
    each("yolo", "yolo_assign", b, b, statistics, *head)
    if iou_thresh < 1:
        each("yolo", "yolo_average", b * n * h * w, b, *head)
    launch("yolo", "yolo_squares", b * n, delta, squares, e, h * w)
