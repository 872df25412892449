"""Rows of the family `image`."""

from __future__ import annotations

import numpy as np
from cases import KernelCase

RESIZES = [
    # source c h w, target oh ow, window left top width height
    ((1, 1, 1), (1, 1), (0, 0, 1, 1)),
    ((3, 1, 1), (3, 5), (0, 0, 5, 3)),
    ((3, 1, 7), (4, 13), (0, 0, 13, 4)),
    ((3, 5, 1), (11, 3), (0, 0, 3, 11)),
    ((2, 7, 2), (1, 1), (0, 0, 1, 1)),
    ((4, 2, 3), (17, 33), (0, 0, 33, 17)),
    ((3, 29, 37), (29, 37), (0, 0, 37, 29)),
    ((3, 29, 37), (24, 24), (0, 0, 24, 24)),
    ((3, 29, 37), (20, 20), (0, 2, 20, 15)),
    ((3, 31, 23), (13, 17), (-5, -3, 40, 30)),
    ((3, 11, 9), (6, 7), (4, 3, 9, 9)),
    ((1, 11, 9), (6, 7), (9, 3, 4, 9)),
    ((1, 11, 9), (6, 7), (1, 3, 5, 0)),
    ((3, 53, 1021), (47, 523), (0, 5, 523, 37)),
    ((1, 6, 9), (0, 7), (0, 0, 7, 5)),
]

ANGLES = [
    # c h w, oh ow, angle scale dx dy aspect
    ((1, 1, 1), (1, 1), (0.3, 1.0, 0.0, 0.0, 1.0)),
    ((3, 29, 37), (29, 37), (0.25, 1.0, 0.0, 0.0, 1.0)),
    ((3, 29, 37), (24, 30), (-1.2, 1.4, 3.5, -2.25, 0.8)),
    ((2, 7, 5), (13, 11), (3.0, 0.3, 40.0, 2.0, 1.3)),
    ((3, 131, 257), (97, 521), (0.1, 2.3, -7.0, 5.0, 1.1)),
    ((1, 5, 5), (3, 0), (0.1, 1.0, 0.0, 0.0, 1.0)),
]

PIXELS = (1, 2, 7, 8, 17, 1023, 1025, 5003)


def colours(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Red, green, blue in 0..1, with greys, black, white and pure colours among them."""
    x = rng.random(shape)
    x[:, ::5] = rng.integers(0, 2, x[:, ::5].shape)
    x[:, ::7] = x[:1, ::7]
    return x


def hues(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Hue, saturation, value: hues beyond a turn and at its ends, too."""
    x = rng.random(shape)
    x[0] = rng.uniform(-2, 3, shape[1])
    x[0, ::6] = rng.integers(0, 7, x[0, ::6].shape) / 6
    return x


def pixels(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(0, 256, shape, dtype=np.uint8)


def resize_case(source: tuple[int, ...], target: tuple[int, ...], window: tuple[int, ...], kernel: str) -> KernelCase:
    (c, h, w), (oh, ow) = source, target
    scalars = dict(zip(("left", "top", "width", "height"), window, strict=True)) | {"fill": 0.5 if c > 1 else 0.25}
    sizes = {"c": c, "h": h, "w": w, "oh": oh, "ow": ow}
    return KernelCase(f"image.{kernel}", sizes, scalars, fill={"x": pixels} if kernel == "resize_bytes" else {})


def rotate_case(source: tuple[int, ...], target: tuple[int, ...], how: tuple[float, ...]) -> KernelCase:
    (c, h, w), (oh, ow) = source, target
    return KernelCase(
        "image.rotate_crop",
        {"c": c, "h": h, "w": w, "oh": oh, "ow": ow},
        dict(zip(("angle", "scale", "dx", "dy", "aspect"), how, strict=True)),
        tolerance=5e-5,
        reason="a position of some hundred pixels may round to the next float, 3e-5 of a pixel away",
    )


KERNEL_CASES = [
    *(resize_case(*row, kernel) for row in RESIZES for kernel in ("resize", "resize_bytes")),
    *(
        KernelCase("image.planes_from_bytes", {"c": c, "h": h, "w": w}, fill={"x": pixels}, tolerance=1e-7)
        for c, h, w in [(1, 1, 1), (3, 1, 1), (3, 7, 31), (4, 5, 33), (2, 3, 17), (3, 67, 129), (3, 0, 5)]
    ),
    *(rotate_case(*row) for row in ANGLES),
    *(KernelCase("image.rgb_to_hsv", {"s": s}, fill={"x": colours}) for s in PIXELS),
    *(
        KernelCase("image.hsv_to_rgb", {"s": s}, fill={"x": hues}, tolerance=5e-6, reason="hue in sixths of a turn")
        for s in PIXELS
    ),
    *(
        KernelCase(
            "image.distort",
            {"s": s},
            {"hue": hue, "saturation": saturation, "exposure": exposure},
            fill={"x": colours},
            tolerance=5e-6,
            reason="the hue is rounded in between and counts six times",
        )
        for s in (1, 17, 1025)
        for hue, saturation, exposure in [(0.1, 1.5, 0.8), (-0.3, 0.6, 1.4), (0.0, 1.0, 1.0)]
    ),
]
