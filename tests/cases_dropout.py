"""Rows of the family `dropout`."""

from __future__ import annotations

import numpy as np
from cases import KernelCase

SIZES = [{"*s": (1,)}, {"*s": (17,)}, {"*s": (2, 3, 5)}, {"*s": (17, 31, 37)}, {"*s": (0,)}]
SCALARS = [{"probability": 0.5, "scale": 2.0}, {"probability": 0.25, "scale": 4 / 3}]


def uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform in [0, 1), in steps that hit the probability itself."""
    return rng.integers(0, 64, shape) / 64


KERNEL_CASES = [
    KernelCase(f"dropout.{name}", sizes, scalars, fill={"rand": uniform})
    for name in ("forward", "backward")
    for sizes in SIZES
    for scalars in SCALARS
]
