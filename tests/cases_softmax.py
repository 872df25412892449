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
    *(KernelCase("softmax.cross_entropy", sizes, fill={"predicted": probability, "truth": label}) for sizes in SIZES),
]
