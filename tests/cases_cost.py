"""Rows of the family `cost`."""

from __future__ import annotations

import numpy as np
from cases import KernelCase

SIZES = [{"*s": (1,)}, {"*s": (17,)}, {"*s": (2, 3, 5)}, {"*s": (17, 31, 37)}, {"*s": (0,)}]


def tenths(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Multiples of 1/8: differences are exact, some are 0 and some 1."""
    return rng.integers(-16, 17, shape) / 8


def probability(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.uniform(0.01, 0.99, shape).astype(np.float32)


def label(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.choice([0, 0.25, 1], shape)


KERNEL_CASES = [
    *(
        KernelCase(f"cost.{name}", sizes, fill={"predicted": tenths, "truth": tenths})
        for name in ("l2", "l1", "smooth_l1", "wgan")
        for sizes in SIZES
    ),
    *(KernelCase("cost.logistic", sizes, fill={"predicted": probability, "truth": label}) for sizes in SIZES),
    *(
        KernelCase("cost.scale_where", sizes, {"value": value, "factor": factor}, fill={"mask": label})
        for sizes in SIZES
        for value, factor in ((0.25, 0.5), (1.0, 2.0))
    ),
    *(
        KernelCase("cost.fill_where", sizes, {"value": value, "number": number}, fill={"mask": label})
        for sizes in SIZES
        for value, number in ((1.0, -1234.0), (0.25, 0.5))
    ),
    *(
        KernelCase("cost.suppress", sizes, {"threshold": threshold}, fill={"x": tenths})
        for sizes in SIZES
        for threshold in (0.5, 1.0)
    ),
]
