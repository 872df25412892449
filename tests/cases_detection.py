"""Rows of the family `detection`."""

import functools

import numpy as np
from cases import KernelCase


def truth(rng, shape, side, classes):
    """Half of the cells hold an object; large and small ones."""
    rows = rng.uniform(0.05, 0.95, (shape[0], side * side, 1 + classes + 4))
    rows[:, :, 0] = rng.integers(0, 2, rows.shape[:2])
    rows[:, :, 1 : 1 + classes] = np.eye(max(classes, 1))[rng.integers(0, max(classes, 1), rows.shape[:2]), :classes]
    return rows.reshape(shape)


def far(rng, shape):
    """Predictions that overlap nothing: the nearest box is responsible."""
    return rng.uniform(20, 30, shape)


def near(rng, shape):
    return rng.uniform(0, 1, shape)


def choices(rng, shape, n):
    return rng.integers(0, n, shape)


SCALES = {"object_scale": 1.5, "noobject_scale": 0.5, "class_scale": 1.25, "coord_scale": 5.0}
ONES = dict.fromkeys(SCALES, 1.0)


def loss_case(b, side, n, classes, sqrt=1, rescore=1, forced=0, output=near, random=False, scales=SCALES):
    cells = side * side
    sizes = {"b": b, "m": cells * (classes + 5 * n), "t": cells * (classes + 5), "cells": cells}
    scalars = {"side": side, "n": n, "classes": classes, **scales, "sqrt": sqrt, "rescore": rescore, "forced": forced}
    fill = {"output": output, "truth": functools.partial(truth, side=side, classes=classes)}
    if random:
        fill["choices"] = functools.partial(choices, n=n)
    return KernelCase("detection.loss", sizes, scalars, fill=fill, none=frozenset() if random else {"choices"})


KERNEL_CASES = [
    *(
        KernelCase("detection.activate", {"b": b, "m": m}, {"cells": cells, "classes": classes, "softmax": softmax})
        for b, m, cells, classes in ((1, 1, 1, 1), (2, 126, 9, 4), (3, 101, 7, 13), (2, 9, 0, 3), (7, 1470, 49, 20))
        for softmax in (0, 1)
    ),
    loss_case(1, 1, 1, 1),
    loss_case(2, 3, 2, 4),
    loss_case(3, 3, 3, 4, sqrt=0),
    loss_case(3, 3, 3, 4, sqrt=0, output=far),
    loss_case(2, 5, 2, 3, rescore=0),
    loss_case(2, 5, 3, 3, forced=1),
    loss_case(2, 5, 1, 3, forced=1),
    loss_case(2, 4, 4, 0),
    loss_case(2, 4, 4, 5, random=True),
    loss_case(7, 7, 2, 20),
    loss_case(2, 3, 2, 4, scales=ONES),
]
