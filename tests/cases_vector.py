"""Rows of the family `vector`."""

from __future__ import annotations

import numpy as np
from cases import KernelCase

SIZES = [{"*s": (1,)}, {"*s": (17,)}, {"*s": (2, 3, 5, 7)}, {"*s": (17, 31, 37)}, {"*s": (0,)}]
IMAGES = [{"b": 1, "c": 1, "s": 1}, {"b": 2, "c": 3, "s": 35}, {"b": 2, "c": 17, "s": 129}, {"b": 1, "c": 2, "s": 0}]
MATRICES = [{"n": 1, "m": 1}, {"n": 4, "m": 18}, {"n": 31, "m": 37}]

ELEMENTWISE: list[tuple[str, dict[str, float]]] = [
    ("fill", {"value": 0.3}),
    ("fill", {"value": -1.5}),
    ("copy", {}),
    ("axpy", {"alpha": -1.7}),
    ("axpy", {"alpha": 0.4}),
    ("scal_add", {"alpha": 0.3, "beta": 0.25}),
    ("scal_add", {"alpha": -1.7, "beta": 1.5}),
    ("mul", {}),
    ("mult_add_into", {}),
    ("weighted_sum", {}),
    ("weighted_delta", {}),
    ("constrain", {"limit": 0.5}),
    ("constrain", {"limit": 1.25}),
    ("binarize", {}),
]


def positive(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.uniform(0.1, 3, shape).astype(np.float32)


KERNEL_CASES = [
    *(KernelCase(f"vector.{name}", sizes, scalars) for name, scalars in ELEMENTWISE for sizes in SIZES),
    *(KernelCase("vector.weighted_delta", SIZES[2], none=frozenset(none)) for none in ({"da"}, {"db"}, {"da", "db"})),
    *(
        KernelCase("vector.power", sizes, {"alpha": alpha}, fill={"x": positive})
        for sizes in SIZES
        for alpha in (2.0, 0.5, -0.75)
    ),
    *(
        KernelCase(f"vector.{name}", sizes, fill={"x": positive, "y": positive})
        for name in ("dot", "total")
        for sizes in SIZES
    ),
    *(KernelCase(f"vector.{name}", sizes) for name in ("binarize_rows", "binarize_columns") for sizes in MATRICES),
    *(KernelCase("vector.l2normalize", sizes) for sizes in IMAGES[1:]),
]
