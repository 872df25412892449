"""Rows of the box kernels."""

from __future__ import annotations

import numpy as np
from cases import KernelCase

from darkbn.boxes import CORNERS_NMS, DEFAULT_NMS, DIOU_NMS, GREEDY_NMS


def crowded(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Boxes that often overlap: a few centres, many boxes round each; some of them empty."""
    n = shape[1]
    centres = rng.random((2, max(1, n // 8)))[:, rng.integers(0, max(1, n // 8), n)]
    sizes = rng.uniform(0.05, 0.3, (2, n)) * (rng.random((2, n)) > 0.02)
    return np.concatenate([centres + rng.normal(0, 0.02, (2, n)), sizes])


def segments(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Ascending starts within the 700 boxes of the rows below; boxes before and behind belong to no segment."""
    return np.sort(rng.integers(0, 700, shape)).astype(np.int32)


def whole(n: int) -> np.ndarray:
    return np.array([0, n], dtype=np.int32)


KERNEL_CASES = [
    KernelCase(
        "boxes.suppress",
        {"n": n, "m": 2},
        {"threshold": 0.45, "kind": kind, "exponent": 0.6},
        fill={"boxes": crowded, "starts": lambda rng, shape, n=n: whole(n)},
    )
    for n in (0, 1, 2, 31, 257, 700)
    for kind in (DEFAULT_NMS, GREEDY_NMS)
] + [
    KernelCase(
        "boxes.suppress",
        {"n": 700, "m": m},
        {"threshold": threshold, "kind": kind, "exponent": exponent},
        fill={"boxes": crowded, "starts": segments},
    )
    for m, threshold, kind, exponent in (
        (1, 0.5, DEFAULT_NMS, 0.6),
        (7, 0.3, CORNERS_NMS, 0.6),
        (21, 0.0, DEFAULT_NMS, 0.6),
        (5, 0.2, DIOU_NMS, 1.0),
        (5, 0.2, DIOU_NMS, 0.1),
    )
]
