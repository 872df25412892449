"""Rows of the family `softmax`."""

from __future__ import annotations

import numpy as np
from cases import KernelCase

SHAPES = [
    {"b": 1, "n": 1, "s": 1},
    {"b": 6, "n": 7, "s": 1},
    {"b": 3, "n": 16, "s": 1},
    {"b": 11, "n": 1000, "s": 1},
    {"b": 2, "n": 5, "s": 6},
    {"b": 3, "n": 80, "s": 127},
    {"b": 2, "n": 3, "s": 129},
    {"b": 2, "n": 3, "s": 0},
]
SIZES = [{"*s": (1,)}, {"*s": (17,)}, {"*s": (13, 1000)}, {"*s": (0,)}]


def wide(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Values whose exponentials would overflow."""
    return (20 * rng.standard_normal(shape) + 200).astype(np.float32)


def probability(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.uniform(0.01, 0.99, shape).astype(np.float32)


def group_sizes(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Groups of 1, 2, ... values, the last one of 20 more."""
    sizes = np.arange(1, shape[0] + 1)
    sizes[-1:] += 20
    return sizes


def label(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(0, 2, shape).astype(np.float32)


KERNEL_CASES = [
    *(KernelCase("softmax.forward", sizes, {"temperature": t}) for sizes in SHAPES for t in (1.0, 0.5, 3.0)),
    *(
        KernelCase(
            "softmax.forward", sizes, {"temperature": 2.0}, fill={"x": wide}, tolerance=3e-6, reason="x/2 is rounded"
        )
        for sizes in SHAPES[1:6]
    ),
    *(
        KernelCase(
            "softmax.forward_groups",
            {"b": b, "g": g, "n": g * (g + 1) // 2 + 20},
            {"temperature": t},
            fill={"sizes": group_sizes},
        )
        for b, g, t in ((1, 1, 1.0), (3, 2, 0.5), (5, 7, 1.0), (2, 101, 3.0))
    ),
    KernelCase("softmax.forward_groups", {"b": 2, "g": 0, "n": 0}, {"temperature": 1.0}),
    *(KernelCase("softmax.cross_entropy", sizes, fill={"predicted": probability, "truth": label}) for sizes in SIZES),
]
