"""Rows of the family `weighted`."""

import numpy as np
from cases import KernelCase

WEIGHTS = [
    {"n": 1, "c": 1},
    {"n": 2, "c": 1},
    {"n": 2, "c": 7},
    {"n": 3, "c": 16},
    {"n": 5, "c": 33},
    {"n": 3, "c": 6007},
    {"n": 2, "c": 0},
]

# c1: channels of the input, c: of the sum, m: weights.
MAPS = [
    {"b": 1, "c1": 1, "c": 1, "m": 1, "s": 1},
    {"b": 2, "c1": 3, "c": 3, "m": 3, "s": 7},
    {"b": 2, "c1": 3, "c": 5, "m": 5, "s": 15},
    {"b": 3, "c1": 7, "c": 4, "m": 4, "s": 33},
    {"b": 2, "c1": 5, "c": 5, "m": 5, "s": 10007},
    {"b": 2, "c1": 3, "c": 3, "m": 3, "s": 0},
]


def equal(rng, shape):
    return np.ones(shape)


def some_negative(rng, shape):
    values = np.abs(rng.standard_normal(shape))
    values[1::2] *= -1
    return values


KERNEL_CASES = [
    *(
        KernelCase(f"weighted.{kernel}", sizes, {"kind": kind}, fill={"weights": fill})
        for kernel in ("normalize", "normalize_backward")
        for sizes in WEIGHTS
        for kind, fill in ((0, some_negative), (1, some_negative), (1, equal), (2, some_negative), (2, equal))
    ),
    *(KernelCase("weighted.scale", {k: sizes[k] for k in ("b", "c", "s")}) for sizes in MAPS),
    *(KernelCase(f"weighted.{kernel}", sizes) for kernel in ("scale_add", "dot_add") for sizes in MAPS),
]
