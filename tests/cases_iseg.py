"""Rows of the family `iseg`."""

import functools

import numpy as np
from cases import KernelCase


def truth(rng, shape, classes):
    """Overlapping masks, an empty one, a class that does not exist; the list ends before its last row."""
    rows = rng.uniform(0.5, 1, shape) * (rng.uniform(size=shape) < 0.4)
    rows[:, :, 0] = rng.integers(0, classes + 1, shape[:2])
    rows[:, 1:2, 1:] = 0
    rows[:, 2:, 0] *= np.arange(2, shape[1]) < max(shape[1] - 1, 3)
    rows[:, 2:, 0] -= np.arange(2, shape[1]) >= max(shape[1] - 1, 3)
    return rows


def iseg(b, classes, ids, s, m):
    sizes = {"b": b, "c": classes + ids, "s": s, "m": m, "t": s + 1, "classes": classes}
    fill = {"truth": functools.partial(truth, classes=classes)}
    return KernelCase("iseg.loss", sizes, {"classes": classes}, fill=fill)


KERNEL_CASES = [
    iseg(1, 1, 0, 1, 1),
    iseg(1, 1, 1, 7, 2),
    iseg(2, 3, 5, 33, 4),
    iseg(3, 2, 4, 64, 6),
    iseg(2, 4, 3, 701, 9),
    iseg(2, 3, 2, 10, 0),
]
