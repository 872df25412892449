"""Rows of the family `pooling`."""

from __future__ import annotations

import numpy as np
from cases import KernelCase

from darkbn.geometry import pooled_size

#: size, stride_y, stride_x, padding, h, w: every way a window can meet the edge, and each path of the CPU kernel
#: (few rows, folded tiles, strides 1, 2 and others, strips of columns, several blocks of rows).
WINDOWS = [
    (1, 1, 1, 0, 1, 1),
    (1, 1, 1, 0, 7, 13),
    (1, 3, 2, 0, 8, 17),
    (2, 2, 2, 1, 8, 16),
    (2, 2, 2, 1, 7, 9),
    (2, 2, 2, 1, 21, 37),
    (2, 2, 2, 0, 9, 34),
    (2, 2, 2, 3, 12, 18),
    (2, 1, 1, 1, 13, 13),
    (2, 1, 2, 1, 9, 8),
    (2, 2, 1, 1, 5, 33),
    (2, 3, 3, 4, 7, 8),
    (3, 2, 2, 2, 15, 31),
    (3, 2, 2, 0, 9, 10),
    (3, 2, 2, 1, 8, 9),
    (3, 3, 3, 2, 10, 11),
    (3, 1, 1, 2, 67, 5),
    (4, 1, 1, 3, 6, 7),
    (2, 2, 2, 1, 9, 2),
    (3, 2, 2, 2, 17, 3),
    (3, 3, 1, 2, 17, 1),
    (5, 1, 1, 4, 19, 17),
    (5, 2, 2, 4, 19, 18),
    (5, 1, 2, 4, 11, 7),
    (7, 4, 3, 6, 23, 29),
    (9, 1, 1, 8, 13, 13),
    (13, 1, 1, 12, 5, 4),
    (13, 1, 1, 12, 13, 12),
    (6, 1, 3, 0, 70, 137),
    (5, 1, 3, 4, 4, 401),
    (65, 1, 1, 64, 3, 70),
    (63, 1, 1, 62, 33, 66),
    (2, 2, 2, 1, 3, 2103),
    (3, 1, 1, 2, 130, 2),
    (1000, 1, 2, 999, 1, 1100),
    (3, 1, 1, 2, 0, 4),
]

DEPTHS = [(1, 1, 1, 1), (2, 3, 8, 7), (1, 8, 3, 16), (2, 5, 5, 33), (1, 4, 9, 1031), (2, 3, 0, 5)]


def with_specials(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Few different values, so that ties are everywhere, and all that compares in a special way."""
    values = rng.integers(-2, 3, shape).astype(np.float32)
    lowest = np.finfo(np.float32).min
    specials = np.array([np.nan, -np.inf, np.inf, lowest, -0.0], np.float32)
    chosen = rng.random(shape) < 0.4
    values[chosen] = rng.choice(specials, int(chosen.sum()), p=[0.4, 0.3, 0.02, 0.26, 0.02])
    return values


def places(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Indexes inside and outside of small planes."""
    return rng.integers(-2, 37, shape).astype(np.int32)


def channels(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Channels of each group where there are some, and others."""
    groups = np.arange(shape[1])[:, np.newaxis]
    return (groups + shape[1] * rng.integers(-1, 4, shape) + (rng.random(shape) < 0.2)).astype(np.int32)


def windowed(kernel: str, **options: object) -> list[KernelCase]:
    rows = []
    for n, (size, stride_y, stride_x, padding, h, w) in enumerate(WINDOWS):
        oh, ow = pooled_size(h, size, stride_y, padding), pooled_size(w, size, stride_x, padding)
        sizes = {"b": 1 + n % 2, "c": (1, 3, 2, 5)[n % 4], "h": h, "w": w, "oh": max(oh, 0), "ow": max(ow, 0)}
        scalars = {"size": size, "stride_y": stride_y, "stride_x": stride_x, "padding": padding}
        rows.append(KernelCase(kernel, sizes, scalars, **options))  # type: ignore[arg-type]
    return rows


WITHOUT = frozenset({"indexes"})
SPECIAL = {"x": with_specials}

KERNEL_CASES = [
    *windowed("pooling.maxpool"),
    *windowed("pooling.maxpool", none=WITHOUT),
    *windowed("pooling.maxpool", fill=SPECIAL),
    *windowed("pooling.maxpool", fill=SPECIAL, none=WITHOUT),
    *windowed("pooling.local_avgpool"),
    *windowed("pooling.local_avgpool_backward"),
    *(
        KernelCase("pooling.maxpool_backward", sizes, {"accumulate": accumulate}, fill={"indexes": places})
        for accumulate in (0, 1)
        for sizes in (
            {"b": 1, "c": 1, "h": 1, "w": 1, "oh": 1, "ow": 1},
            {"b": 2, "c": 3, "h": 5, "w": 7, "oh": 5, "ow": 7},
            {"b": 1, "c": 7, "h": 4, "w": 8, "oh": 2, "ow": 17},
            {"b": 2, "c": 2, "h": 3, "w": 3, "oh": 31, "ow": 3},
            {"b": 1, "c": 2, "h": 67, "w": 65, "oh": 33, "ow": 32},
            {"b": 2, "c": 2, "h": 0, "w": 3, "oh": 2, "ow": 3},
            {"b": 2, "c": 2, "h": 2, "w": 3, "oh": 0, "ow": 3},
        )
    ),
    *(
        KernelCase(f"pooling.{kernel}", {"b": b, "c": c, "s": s})
        for kernel in ("avgpool", "avgpool_backward")
        for b, c, s in [(1, 1, 1), (2, 3, 7), (3, 5, 16), (1, 17, 49), (2, 1, 10007), (2, 3, 0)]
    ),
    *(
        KernelCase("pooling.maxpool_depth", {"b": b, "n": n, "c": c, "s": s}, none=none, fill=fill)
        for b, n, c, s in DEPTHS
        for none in (WITHOUT, frozenset())
        for fill in ({}, SPECIAL)
    ),
    *(
        KernelCase("pooling.maxpool_depth_backward", {"b": b, "n": n, "c": c, "s": s}, fill={"indexes": channels})
        for b, n, c, s in DEPTHS
    ),
]
