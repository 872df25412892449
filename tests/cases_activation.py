"""Rows of the family `activation`."""

from __future__ import annotations

import numpy as np
from cases import KernelCase

from darkbn.activations import CHANNEL_KINDS, Activation

SIZES = [
    {"*s": (1,)},
    {"*s": (7,)},
    {"*s": (17,)},
    {"*s": (2, 3, 5, 7)},
    {"*s": (0,)},
]
CHUNKS = {"*s": (17, 31, 37)}  # enough for several threads, and a rest
CHANNEL_SIZES = [
    {"b": 4, "c": 7, "s": 1},
    {"b": 2, "c": 5, "s": 6},
    {"b": 3, "c": 17, "s": 127},
    {"b": 2, "c": 3, "s": 129},
    {"b": 1, "c": 257, "s": 300},
    {"b": 2, "c": 3, "s": 0},
]
KINDS = [kind for kind in Activation if kind not in CHANNEL_KINDS]


def wide(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Values that reach every branch, the tails, and the corners themselves."""
    corners = np.array([-6, -4, -2, -1, -0.625, -0.5, 0, 0.5, 0.625, 1, 2, 3, 4, 6])
    values = rng.standard_normal(shape) * rng.choice([0.01, 1, 8], shape)
    return np.where(rng.random(shape) < 0.2, rng.choice(corners, shape), values).astype(np.float32)


def probabilities(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """What the softmax over channels makes: positive, sums a little below 1."""
    values = np.exp(rng.standard_normal(shape))
    return (values / (values.sum(axis=1, keepdims=True) + 1e-4)).astype(np.float32)


CHUNKED = (Activation.LEAKY, Activation.MISH)


def pointwise(kernel: str, kind: Activation, sizes: dict[str, tuple[int, ...]]) -> KernelCase:
    values = "values" if kernel == "gradient" else "x"
    gelu = kind == Activation.GELU
    return KernelCase(
        f"activation.{kernel}",
        sizes,
        {"kind": int(kind)},
        tolerance=3e-6 if gelu else 1e-6,
        reason="the exponent has x^3 in it" if gelu else "",
        fill={values: wide},
    )


def channels(kernel: str, kind: Activation, sizes: dict[str, int]) -> KernelCase:
    gradient = kernel == "gradient_channels"
    of_output = gradient and kind != Activation.NORMALIZE_CHANNELS
    return KernelCase(
        f"activation.{kernel}",
        sizes,
        {"kind": int(kind)},
        tolerance=3e-6 if gradient else 1e-6,
        reason="differences of numbers of the same size" if gradient else "",
        fill={"values": probabilities} if of_output else {},
    )


KERNEL_CASES = [
    *(pointwise(kernel, kind, sizes) for kernel in ("forward", "gradient") for kind in KINDS for sizes in SIZES),
    *(pointwise(kernel, kind, SIZES[3]) for kernel in ("forward_to", "forward_saved") for kind in KINDS),
    *(
        pointwise(kernel, kind, CHUNKS)
        for kernel in ("forward", "forward_to", "forward_saved", "gradient")
        for kind in CHUNKED
    ),
    *(
        channels(kernel, kind, sizes)
        for kernel in ("forward_channels", "gradient_channels")
        for kind in sorted(CHANNEL_KINDS)
        for sizes in CHANNEL_SIZES
    ),
]
