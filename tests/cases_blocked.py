"""Rows of the family `blocked`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from cases import KernelCase

from darkbn.activations import Activation
from darkbn.geometry import pooled_size

#: b, c, h, w, block
PLAIN = [(1, 1, 1, 1, 0), (2, 8, 5, 7, 1), (1, 19, 13, 3, 0), (3, 16, 2, 33, 2), (1, 5, 0, 4, 0)]

#: x_channel, out_channel, channels; maps have 5 and 4 blocks
MOVES = [(0, 0, 8), (0, 8, 24), (8, 0, 21), (3, 5, 1), (5, 3, 9), (1, 30, 2), (7, 7, 25), (2, 6, 8), (9, 1, 0)]

#: size, stride_y, stride_x, padding, h, w
WINDOWS = [
    (1, 1, 1, 0, 1, 1),
    (2, 2, 2, 1, 8, 16),
    (2, 2, 2, 0, 7, 9),
    (2, 1, 1, 1, 13, 13),
    (3, 2, 2, 2, 15, 31),
    (3, 1, 3, 2, 9, 5),
    (5, 1, 1, 4, 19, 17),
    (13, 1, 1, 12, 5, 4),
    (6, 1, 2, 3, 4, 1403),
    (1000, 1, 2, 999, 1, 1100),
]

KINDS = [Activation.LINEAR, Activation.LEAKY, Activation.MISH, Activation.RELU, Activation.LOGISTIC]


def with_specials(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Few different values, and all that compares in a special way."""
    specials = np.array([np.nan, -np.inf, np.inf, np.finfo(np.float32).min, -0.0, 1.0, -2.0, 3.0], np.float32)
    return rng.choice(specials, shape)


def slices(x: int, out: int, blocks: int) -> tuple[dict[str, int], dict[str, int]]:
    """Sizes and scalars of slices with that many blocks in front, one behind x and two behind out."""
    return {"xb": x + blocks + 1, "ob": out + blocks + 2}, {"x_block": x, "out_block": out, "blocks": blocks}


def plain_rows() -> Iterator[KernelCase]:
    for b, c, h, w, block in PLAIN:
        sizes = {"b": b, "c": c, "h": h, "w": w}
        yield KernelCase("blocked.from_plain", {**sizes, "ob": block + -(-c // 8) + 1}, {"out_block": block})
        yield KernelCase("blocked.to_plain", {**sizes, "xb": block + -(-c // 8) + 1}, {"x_block": block})
    for i, (x, out, channels) in enumerate(MOVES):
        sizes = {"b": 1 + i % 2, "xb": 5 + i % 3, "ob": 4 + i % 2, "h": 1 + i, "w": 3 + i}
        scalars = {"x_channel": x, "out_channel": out, "channels": channels}
        yield KernelCase("blocked.copy_channels", sizes, scalars)


def pooling_rows() -> Iterator[KernelCase]:
    for i, (size, stride_y, stride_x, padding, h, w) in enumerate(WINDOWS):
        blocks, scalars = slices(i % 3, (i + 1) % 4 // 2, 1 + i % 2)
        sizes = {"b": 1 + i % 2, **blocks, "h": h, "w": w}
        sizes |= {"oh": pooled_size(h, size, stride_y, padding), "ow": pooled_size(w, size, stride_x, padding)}
        scalars |= {"size": size, "stride_y": stride_y, "stride_x": stride_x, "padding": padding}
        yield KernelCase("blocked.maxpool", sizes, scalars)
        yield KernelCase("blocked.maxpool", sizes, scalars, fill={"x": with_specials})
    for i, (h, w) in enumerate([(1, 1), (13, 13), (7, 100), (0, 3)]):
        blocks, scalars = slices(i % 2, i % 3, 1 + i)
        yield KernelCase("blocked.avgpool", {"b": 1 + i % 2, **blocks, "h": h, "w": w}, scalars)


def elementwise_rows() -> Iterator[KernelCase]:
    for i, kind in enumerate(KINDS):
        blocks, scalars = slices(i % 3, (i + 1) % 2, 1 + i)
        sizes = {"b": 1 + i % 2, **blocks, "h": 5 + 40 * i, "w": 7 + i}
        active = {**scalars, "activation": int(kind)}
        yield KernelCase("blocked.activation", sizes, active)
        yield KernelCase("blocked.shortcut", {**sizes, "rb": 2 + 2 * i}, {**active, "residual_block": i % 2})
        yield KernelCase("blocked.scale_channels", {**sizes, "sb": 2 + 2 * i}, {**active, "scale_block": i % 2})
        stride = 1 + i % 3
        sizes = {**sizes, "h": 3 + i, "w": 4 + i} | {"oh": (3 + i) * stride, "ow": (4 + i) * stride}
        yield KernelCase("blocked.upsample", sizes, {**scalars, "stride": stride, "scale": 1 + 0.25 * i})


#: blocks, channels that meet, (h, w), (h1, w1)
MEETINGS = [
    (2, 16, (6, 8), (3, 4)),
    (3, 11, (5, 4), (10, 8)),
    (4, 32, (7, 9), (7, 9)),
    (1, 8, (13, 6), (6, 13)),
    (2, 0, (4, 3), (2, 3)),
    (2, 9, (4, 3), (0, 3)),
]


def shortcut_rows() -> Iterator[KernelCase]:
    for i, (count, channels, (h, w), (h1, w1)) in enumerate(MEETINGS):
        blocks, scalars = slices(i % 3, i % 2, count)
        sizes = {"b": 1 + i % 2, **blocks, "rb": 5 + i % 2, "h": h, "w": w, "h1": h1, "w1": w1}
        scalars |= {"residual_block": (i + 1) % 2, "channels": channels, "alpha": 1.5 - i % 2, "beta": 1.0 + i % 3}
        yield KernelCase("blocked.shortcut_unequal", sizes, {**scalars, "activation": int(KINDS[i % len(KINDS)])})


KERNEL_CASES = [*plain_rows(), *pooling_rows(), *elementwise_rows(), *shortcut_rows()]
