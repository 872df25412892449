"""Rows of the family `crop`."""

import numpy as np
from cases import KernelCase

SHAPES = [
    {"b": 1, "c": 1, "h": 1, "w": 1, "oh": 1, "ow": 1},
    {"b": 2, "c": 3, "h": 7, "w": 9, "oh": 5, "ow": 4},
    {"b": 3, "c": 2, "h": 17, "w": 16, "oh": 15, "ow": 15},
    {"b": 2, "c": 3, "h": 6, "w": 5, "oh": 8, "ow": 9},
    {"b": 3, "c": 3, "h": 80, "w": 70, "oh": 64, "ow": 61},
    {"b": 2, "c": 3, "h": 0, "w": 5, "oh": 2, "ow": 3},
    {"b": 2, "c": 3, "h": 5, "w": 5, "oh": 0, "ow": 3},
]

COLOURS = [{"b": 1, "s": 1}, {"b": 2, "s": 7}, {"b": 3, "s": 33}, {"b": 2, "s": 10007}, {"b": 2, "s": 0}]


def places(rng, shape):
    return np.column_stack([rng.integers(-1, 3, shape[0]), rng.integers(-2, 5, shape[0]), np.arange(shape[0]) % 2])


def angles(rng, shape):
    """The first picture is not turned."""
    return rng.uniform(-1, 1, shape) * (np.arange(shape[0]) > 0)


def turned(rng, shape):
    return rng.uniform(0.1, 1, shape)


def colours(rng, shape):
    """Pixels with equal greatest colours, grey and black ones among them."""
    values = rng.uniform(0, 1, shape)
    values[:, 1, ::4] = values[:, 0, ::4]
    values[:, :, ::7] = values[:, :1, ::7]
    values[:, :, ::5] = 0
    return values


def factors(rng, shape):
    """Some darken and clip nothing, some clip at both ends."""
    return rng.choice([0.6, 1.0, 1.7], shape)


def windows(sizes):
    scalars = {"scale": 2.0, "translate": -1.0}
    common = {"places": places}
    yield KernelCase("crop.window", sizes, scalars, fill=common, none=frozenset({"angles", "shifts"}))
    plain = {"scale": 1.0, "translate": 0.0}
    yield KernelCase("crop.window", sizes, plain, fill=common, none=frozenset({"angles"}))
    yield KernelCase("crop.window", sizes, scalars, fill={**common, "angles": angles})
    yield KernelCase("crop.window", sizes, scalars, fill={**common, "angles": turned}, none=frozenset({"shifts"}))
    yield KernelCase("crop.window_backward", sizes, {"scale": 2.0}, fill=common, none=frozenset({"angles"}))
    yield KernelCase("crop.window_backward", sizes, {"scale": 1.0}, fill={**common, "angles": angles})
    yield KernelCase("crop.window_backward", sizes, {"scale": 2.0}, fill={**common, "angles": turned})


KERNEL_CASES = [
    *(row for sizes in SHAPES for row in windows(sizes)),
    *(
        KernelCase(f"crop.{kernel}", sizes, fill={"x": colours, "factors": factors})
        for kernel in ("levels", "levels_backward")
        for sizes in COLOURS
    ),
]
