"""Rows of the [yolo] kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases import Fill, KernelCase

from darkbn.boxes import CIOU, DIOU, GIOU, IOU, MSE


def activated(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A map as training sees it: logistic values; log sizes round 0."""
    values = rng.random(shape)
    values[:, :, 2:4] = rng.normal(0, 0.7, values[:, :, 2:4].shape)
    values[:, :, 5:] **= 4  # most classes improbable, so that some places have no likely class
    return values


def truths(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Lists of boxes of different lengths; one class that does not exist, centres on the far border, a crowded cell."""
    b, t, k = shape
    rows = np.zeros(shape)
    for image in range(b):
        count = max(0, t - 3 * image)
        rows[image, :count, :2] = rng.uniform(0.02, 0.98, (count, 2))
        rows[image, :count, 2:4] = rng.uniform(0.05, 0.7, (count, 2))
        rows[image, :count, 4] = np.arange(count) % 2
        rows[image, :count, 5:] = rng.integers(0, 99, (count, k - 5))
    rows[0, 1:2, 4] = 1000
    rows[0, 2:3, :2] = 1
    rows[0, 4:5] = rows[0, 3:4]
    rows[0, 4:5, 4] = 1 - rows[0, 3:4, 4]
    return rows


def anchor_sizes(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Pixels of a network input of 96 x 64."""
    return rng.uniform(5, 60, shape)


def damaged(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A map with NaN and infinities among objectness and classes."""
    values = activated(rng, shape)
    broken = values[:, :, 4:]
    broken[rng.random(broken.shape) < 0.1] = np.nan
    broken[rng.random(broken.shape) < 0.1] = np.inf
    return values


def slots(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Anchors of a head, not in order."""
    return np.array([1, 3, 0][: shape[0]] if shape[0] > 1 else [0])


def weights(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.uniform(1, 4, shape)


DEFAULTS: dict[str, Any] = {
    "net_w": 96.0,
    "net_h": 64.0,
    "ignore_thresh": 0.4,
    "truth_thresh": 1.0,
    "iou_thresh": 1.0,
    "iou_thresh_kind": IOU,
    "iou_loss": MSE,
    "iou_normalizer": 1.0,
    "obj_normalizer": 1.0,
    "cls_normalizer": 1.0,
    "max_delta": 1e30,
    "label_smooth_eps": 0.0,
    "objectness_smooth": 0,
    "focal_loss": 0,
    "new_coords": 0,
    "alexeyab": 0,
}

FILL = {"truth": truths, "anchors": anchor_sizes, "mask": slots, "class_weights": weights}


def loss(sizes: dict[str, int], weighted: bool = False, output: Fill = activated, **scalars: Any) -> KernelCase:
    """A row of yolo.loss; sizes b n classes h w, and a anchors, t truths of k numbers."""
    all_sizes = {"b": 2, "n": 3, "h": 5, "w": 7, "a": 6, "t": 9, "k": 6, "classes": 3} | sizes
    classes = all_sizes.pop("classes")
    return KernelCase(
        "yolo.loss",
        {**all_sizes, "e": 5 + classes, "c": classes},
        {**DEFAULTS, **scalars},
        tolerance=3e-6,
        reason="differences of sides of boxes, of which some are nearly equal",
        fill={**FILL, "output": output},
        none=frozenset() if weighted else frozenset(["class_weights"]),
    )


ALEXEYAB = {"alexeyab": 1, "iou_normalizer": 0.07, "obj_normalizer": 0.4}

KERNEL_CASES = [
    *(
        KernelCase("yolo.activate", {"b": b, "n": n, "e": e, "s": s}, {"scale_x_y": scale, "new_coords": new_coords})
        for b, n, e, s in ((1, 1, 6, 1), (2, 3, 8, 31), (1, 2, 5, 17), (3, 1, 85, 169), (1, 1, 6, 0))
        for scale, new_coords in ((1.0, 0), (1.05, 0), (2.0, 1))
    ),
    *(
        KernelCase(
            "yolo.candidates",
            {"b": b, "n": n, "e": 6 + b, "s": s},
            {"threshold": threshold},
            fill={"output": lambda rng, shape: rng.random(shape)},
        )
        for b, n, s in ((1, 1, 1), (2, 3, 35), (3, 2, 257), (3, 3, 4001), (1, 3, 0))
        for threshold in (0.0, 0.6, 2.0)
    ),
    *(
        KernelCase(
            "yolo.decode",
            {"b": 2 + image, "n": n, "e": e, "h": h, "w": 105 // n // h, "m": m},
            {"image": image, "net_w": net_w, "net_h": 1.5 * net_w, "threshold": threshold, "new_coords": new_coords},
            fill={
                "output": activated,
                "anchors": anchor_sizes,
                "places": lambda rng, shape: rng.integers(0, 105, shape).astype(np.int32),
            },
        )
        for image, n, h, net_w in ((1, 3, 5, 96.0), (2, 5, 1, 32.0), (0, 3, 7, 160.0))
        for e, m, threshold, new_coords in (
            (6, 1, 0.0, 0),
            (25, 105, 0.1, 0),
            (25, 1401, 0.1, 0),
            (8, 17, 0.05, 1),
            (8, 0, 0.1, 0),
        )
    ),
    loss({}),
    loss({"b": 1, "n": 1, "classes": 1, "h": 1, "w": 1, "a": 1, "t": 1, "k": 5}),
    loss({"t": 0}),
    loss({}, net_w=32.0, net_h=160.0, obj_normalizer=0.3, cls_normalizer=2.0),
    loss({"b": 3, "n": 2, "classes": 20, "h": 13, "w": 17, "k": 5, "t": 12}),
    loss({"h": 29, "w": 31, "classes": 80, "t": 30}, **ALEXEYAB, iou_loss=CIOU, iou_thresh=0.213),
    loss({"k": 5}, truth_thresh=0.5, ignore_thresh=0.2),
    loss({}, **ALEXEYAB),
    loss({}, weighted=True, **ALEXEYAB, cls_normalizer=0.5, iou_loss=GIOU, iou_thresh=0.3, max_delta=0.05),
    *(loss({}, **ALEXEYAB, iou_loss=kind, iou_thresh=0.25, iou_thresh_kind=kind) for kind in (IOU, GIOU, DIOU, CIOU)),
    loss({}, **ALEXEYAB, objectness_smooth=1, ignore_thresh=0.2, truth_thresh=0.5, iou_loss=DIOU),
    loss({}, weighted=True, **ALEXEYAB, objectness_smooth=1, ignore_thresh=0.1, truth_thresh=0.6, cls_normalizer=0.5),
    loss({}, **ALEXEYAB, focal_loss=1, iou_thresh=0.2, iou_loss=IOU),
    loss({}, **ALEXEYAB, label_smooth_eps=0.1, iou_thresh=0.2),
    loss({}, **ALEXEYAB, new_coords=1, iou_loss=CIOU, iou_thresh=0.2),
    loss({}, alexeyab=1, new_coords=1),
    loss({}, output=damaged, **ALEXEYAB),
    loss({}, output=damaged, alexeyab=0),
]
