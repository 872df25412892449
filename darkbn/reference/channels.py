"""Maps times what belongs to their channels, their pixels or both; the sums that are the gradients of it."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from darkbn.signature import Array


def scale(
    x: Annotated[Array, "in b c s"],
    scales: Annotated[Array, "in b c"],
    out: Annotated[Array, "out b c s"],
    threads: int,
) -> None:
    """out = x * scales, one per map (AlexeyAB's scale_channels)."""
    out[...] = x * scales[:, :, np.newaxis]


def scale_add(
    x: Annotated[Array, "in b c s"],
    scales: Annotated[Array, "in b c"],
    out: Annotated[Array, "io b c s"],
    threads: int,
) -> None:
    """out += x * scales."""
    out += x * scales[:, :, np.newaxis]


def dot_add(
    x: Annotated[Array, "in b c s"],
    y: Annotated[Array, "in b c s"],
    sums: Annotated[Array, "io b c"],
    threads: int,
) -> None:
    """sums += x * y, summed over the map: the gradient of scale by its scales."""
    sums += (x * y).sum(axis=2, dtype=np.float64)


def scale_pixels(
    x: Annotated[Array, "in b c s"],
    scales: Annotated[Array, "in b s"],
    out: Annotated[Array, "out b c s"],
    threads: int,
) -> None:
    """out = x * scales, one per pixel (scale_channels with scale_wh=1)."""
    out[...] = x * scales[:, np.newaxis]


def scale_pixels_add(
    x: Annotated[Array, "in b c s"],
    scales: Annotated[Array, "in b s"],
    out: Annotated[Array, "io b c s"],
    threads: int,
) -> None:
    """out += x * scales."""
    out += x * scales[:, np.newaxis]


def dot_pixels_add(
    x: Annotated[Array, "in b c s"],
    y: Annotated[Array, "in b c s"],
    sums: Annotated[Array, "io b s"],
    threads: int,
) -> None:
    """sums += x * y, summed over the channels: the gradient of scale_pixels by its scales."""
    sums += (x * y).sum(axis=1, dtype=np.float64)


def multiply(
    x: Annotated[Array, "in n"], y: Annotated[Array, "in n"], out: Annotated[Array, "out n"], threads: int
) -> None:
    """out = x * y (AlexeyAB's sam)."""
    out[...] = x * y


def multiply_add(
    x: Annotated[Array, "in n"], y: Annotated[Array, "in n"], out: Annotated[Array, "io n"], threads: int
) -> None:
    """out += x * y."""
    out += x * y
