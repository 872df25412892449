"""Rows of the [region] kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases import KernelCase
from cases_yolo import activated, truths

OUTPUTS = {"": activated, "_cells": lambda rng, shape: in_cells(rng, shape)}


def in_cells(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """An activated map place by place; x and y before the logistic function."""
    b, h, w, n, e = shape
    values = activated(rng, (b, n, e, h, w)).transpose(0, 3, 4, 1, 2)
    values[..., :2] = rng.normal(0, 1.5, values[..., :2].shape)
    return values


def anchor_sizes(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Sizes in cells."""
    return rng.uniform(0.5, 5, shape)


RULES: dict[str, Any] = {
    "thresh": 0.3,
    "coord_scale": 1.5,
    "object_scale": 5.0,
    "noobject_scale": 0.7,
    "class_scale": 2.0,
    "bias_match": 1,
    "rescore": 1,
    "early": 0,
}
KINDS = {"": {"background": 0, "keep_classes": 0}, "_cells": {"classfix": 0, "focal_loss": 0}}


#: Group sizes of hierarchies, by number of classes, and the class whose children each group is (-1: roots).
HIERARCHIES = {1: ((1,), (-1,)), 9: ((2, 3, 1, 3), (-1, 1, 2, 0)), 80: ((7, 40, 3, 29, 1), (-1, 6, 10, 48, 2))}


def group_sizes(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return next(np.array(sizes) for sizes, _ in HIERARCHIES.values() if len(sizes) == shape[0])


def tree_table(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Parent, first class and number of classes of the group of each class."""
    sizes, parents = HIERARCHIES[shape[0]]
    starts = np.cumsum(sizes) - sizes
    return np.repeat(np.stack([parents, starts, sizes], axis=1), sizes, axis=0)


def truths_of_paths(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Boxes with classes deep in the hierarchy; in the first image a class without a box, in the second a later one."""
    rows = truths(rng, shape)
    rows[:, :, 4] = np.arange(shape[1]) % 9
    rows[0, :1, :5] = 999999, 999999, 0, 0, 8
    rows[1:2, 1:2, :5] = 999999, 999999, 0, 0, 3
    return rows


def boxes_of_paths(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    rows = truths(rng, shape)
    rows[:, :, 4] = np.arange(shape[1]) % 9
    return rows


def trees(sizes: dict[str, int], rows: Any = boxes_of_paths, **scalars: Any) -> list[KernelCase]:
    """Rows of both losses with a hierarchy."""
    all_sizes = {"b": 3, "n": 2, "e": 14, "c": 9, "h": 5, "w": 7, "t": 9, "k": 6} | sizes
    return [
        KernelCase(
            f"region.loss{suffix}",
            all_sizes,
            {**RULES, **KINDS[suffix], **scalars},
            tolerance=2e-6,
            reason="logarithms of sizes near those of the anchors",
            fill={"output": OUTPUTS[suffix], "truth": rows, "anchors": anchor_sizes, "tree": tree_table},
        )
        for suffix in ("", "_cells")
    ]


def losses(sizes: dict[str, int], kind: str | None = None, **scalars: Any) -> list[KernelCase]:
    """Rows of both losses, or of one."""
    all_sizes = {"b": 2, "n": 3, "e": 8, "h": 5, "w": 7, "t": 9, "k": 6} | sizes
    all_sizes["c"] = all_sizes["e"] - 5
    return [
        KernelCase(
            f"region.loss{suffix}",
            all_sizes,
            {**RULES, **KINDS[suffix], **scalars},
            tolerance=2e-6,
            reason="logarithms of sizes near those of the anchors",
            fill={"output": OUTPUTS[suffix], "truth": truths, "anchors": anchor_sizes},
            none=frozenset({"tree"}),
        )
        for suffix in (["", "_cells"] if kind is None else [kind])
    ]


def decodes(e: int, threshold: float, kind: str, h: int = 5, w: int = 7, **scalars: int) -> KernelCase:
    return KernelCase(
        f"region.decode{kind}",
        {"b": 2 + e % 2, "n": 2 + e % 3, "e": e, "h": h, "w": w},
        {"image": e % 2, "threshold": threshold, **scalars},
        fill={"output": OUTPUTS[kind], "anchors": anchor_sizes},
    )


SHAPES = ((1, 1, 6, 1), (2, 3, 8, 31), (2, 3, 85, 101), (1, 2, 25, 169), (3, 1, 85, 17), (1, 2, 6, 0))

KERNEL_CASES = [
    *(
        KernelCase(
            "region.forward",
            {"b": b, "n": n, "e": e, "s": s},
            {"background": background, "softmax": softmax},
            none=frozenset({"groups"}),
        )
        for b, n, e, s in SHAPES
        for background, softmax in ((0, 0), (0, 1), (1, 1), (1, 0))
    ),
    *(
        KernelCase(
            "region.forward_cells", {"b": b, "n": n, "e": e, "s": s}, {"softmax": softmax}, none=frozenset({"groups"})
        )
        for b, n, e, s in SHAPES
        for softmax in (0, 1)
    ),
    *(
        KernelCase(
            f"region.forward{suffix}",
            {"b": 2, "n": 3, "e": 5 + classes, "s": s, "g": len(HIERARCHIES[classes][0])},
            {"softmax": 0, **({} if suffix else {"background": 0})},
            fill={"groups": group_sizes},
        )
        for suffix in ("", "_cells")
        for classes, s in ((1, 1), (9, 35), (80, 131))
    ),
    *trees({}),
    *trees({}, truths_of_paths),
    *trees({"b": 1, "e": 6, "c": 1, "h": 1, "w": 1}, truths_of_paths),
    *trees({"e": 85, "c": 80, "h": 19, "w": 23}, truths_of_paths, early=1),
    *(decodes(e, threshold, "", background=0) for e, threshold in ((6, 0.0), (25, 0.2), (9, 2.0))),
    decodes(8, 0.1, "", h=1, w=16, background=1),
    decodes(85, 0.2, "", h=23, w=11, background=0),
    *(decodes(e, threshold, "_cells", sure=0) for e, threshold in ((6, 0.0), (25, 0.2), (9, 2.0))),
    decodes(8, 0.1, "_cells", h=1, w=16, sure=1),
    decodes(85, 0.2, "_cells", h=23, w=11, sure=0),
    *losses({}),
    *losses({"b": 1, "n": 1, "e": 6, "h": 1, "w": 1, "t": 1, "k": 5}),
    *losses({"t": 0}, early=1),
    *losses({"e": 25, "h": 23, "w": 19, "t": 14}),
    *losses({}, bias_match=0, rescore=0),
    *losses({}, early=1, thresh=0.1),
    *losses({}, coord_scale=0.9, object_scale=1.3, noobject_scale=2.1, class_scale=0.6, early=1),
    *losses({}, "", background=1),
    *losses({}, "", keep_classes=1, bias_match=0),
    *losses({}, "_cells", classfix=1, thresh=0.1),
    *losses({}, "_cells", classfix=2, thresh=0.1),
    *losses({}, "_cells", classfix=-1),
    *losses({}, "_cells", focal_loss=1),
]
