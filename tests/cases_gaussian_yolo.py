"""Rows of the [Gaussian_yolo] kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases import KernelCase
from cases_yolo import anchor_sizes, slots, truths, weights

from darkbn.boxes import CIOU, DIOU, GIOU, IOU, MSE
from darkbn.gaussian import CENTER, LEFT_TOP, RIGHT_BOTTOM


def activated(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A map as training sees it: logistic values; log sizes round 0; deviations that are not tiny."""
    values = rng.random(shape)
    values[:, :, 1:8:2] = 0.2 + 0.8 * values[:, :, 1:8:2]
    values[:, :, 4:8:2] = rng.normal(0, 0.7, values[:, :, 4:8:2].shape)
    values[:, :, 9:] **= 4  # most classes improbable, so that some places have no likely class
    return values


DEFAULTS: dict[str, Any] = {
    "net_w": 96.0,
    "net_h": 64.0,
    "ignore_thresh": 0.4,
    "truth_thresh": 1.0,
    "iou_thresh": 1.0,
    "iou_thresh_kind": IOU,
    "iou_loss": MSE,
    "iou_normalizer": 0.75,
    "uc_normalizer": 1.0,
    "obj_normalizer": 1.0,
    "cls_normalizer": 1.0,
    "max_delta": 1e30,
    "label_smooth_eps": 0.0,
    "objectness_smooth": 0,
    "point": CENTER,
}


def loss(sizes: dict[str, int], weighted: bool = False, **scalars: Any) -> KernelCase:
    """A row of gaussian_yolo.loss; sizes b n classes h w, and a anchors, t truths of k numbers."""
    all_sizes = {"b": 2, "n": 3, "h": 5, "w": 7, "a": 6, "t": 9, "k": 6, "classes": 3} | sizes
    classes = all_sizes.pop("classes")
    return KernelCase(
        "gaussian_yolo.loss",
        {**all_sizes, "e": 9 + classes, "c": classes},
        {**DEFAULTS, **scalars},
        tolerance=1e-5,
        reason="differences of sides of boxes; exponentials of squared distances in deviations",
        fill={
            "output": activated,
            "truth": truths,
            "anchors": anchor_sizes,
            "mask": slots,
            "class_weights": weights,
        },
        none=frozenset() if weighted else frozenset(["class_weights"]),
    )


KERNEL_CASES = [
    *(
        KernelCase("gaussian_yolo.activate", {"b": b, "n": n, "e": e, "s": s}, {"scale_x_y": scale})
        for b, n, e, s in ((1, 1, 10, 1), (2, 3, 12, 31), (1, 2, 9, 17), (3, 1, 89, 169), (1, 1, 10, 0))
        for scale in (1.0, 1.05)
    ),
    loss({}),
    loss({"b": 1, "n": 1, "classes": 1, "h": 1, "w": 1, "a": 1, "t": 1, "k": 5}),
    loss({"t": 0}),
    loss({}, net_w=32.0, net_h=160.0, obj_normalizer=0.3, cls_normalizer=2.0, uc_normalizer=0.5),
    loss({"b": 3, "n": 2, "classes": 20, "h": 13, "w": 17, "k": 5, "t": 12}),
    loss({"h": 29, "w": 31, "classes": 80, "t": 30}, iou_loss=CIOU, iou_thresh=0.213, iou_normalizer=0.07),
    loss({"k": 5}, truth_thresh=0.5, ignore_thresh=0.2),
    loss({}, weighted=True, cls_normalizer=0.5, iou_loss=GIOU, iou_thresh=0.3, max_delta=0.05),
    *(
        loss({}, iou_loss=kind, iou_thresh=0.25, iou_thresh_kind=kind, point=point)
        for kind, point in ((IOU, LEFT_TOP), (GIOU, RIGHT_BOTTOM), (DIOU, CENTER), (CIOU, LEFT_TOP))
    ),
    loss({}, point=LEFT_TOP, truth_thresh=0.4),
    loss({}, point=RIGHT_BOTTOM, max_delta=1.0),
    loss({}, objectness_smooth=1, ignore_thresh=0.2, truth_thresh=0.5, iou_loss=DIOU),
    loss({}, weighted=True, objectness_smooth=1, ignore_thresh=0.1, truth_thresh=0.6, cls_normalizer=0.5),
    loss({}, label_smooth_eps=0.1, iou_thresh=0.2),
]
