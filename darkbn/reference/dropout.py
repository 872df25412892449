"""Dropout: values are dropped at random, the others scaled up so that their expectation stays."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from darkbn.signature import Array


def forward(
    x: Annotated[Array, "in *s"],
    rand: Annotated[Array, "in *s"],
    out: Annotated[Array, "out *s"],
    probability: float,
    scale: float,
    threads: int,
) -> None:
    """out = 0 where rand < probability, else x*scale. `rand` is uniform in [0, 1); `out` may be `x`."""
    out[...] = np.where(rand < probability, 0, x * scale)


def backward(
    rand: Annotated[Array, "in *s"],
    delta: Annotated[Array, "in *s"],
    out: Annotated[Array, "io *s"],
    probability: float,
    scale: float,
    threads: int,
) -> None:
    """out += delta*scale where the value was kept."""
    out += np.where(rand < probability, 0, delta * scale)
