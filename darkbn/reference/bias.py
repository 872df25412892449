"""One value per channel: biases and scales added to, multiplied into and gathered from a batch of maps."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from darkbn.signature import Array


def add_bias(x: Annotated[Array, "io b c s"], biases: Annotated[Array, "in c"], threads: int) -> None:
    """x += biases, one per channel (Darknet's add_bias)."""
    x += biases[:, np.newaxis]


def scale_bias(x: Annotated[Array, "io b c s"], scales: Annotated[Array, "in c"], threads: int) -> None:
    """x *= scales, one per channel (Darknet's scale_bias)."""
    x *= scales[:, np.newaxis]


def backward_bias(bias_updates: Annotated[Array, "io c"], delta: Annotated[Array, "in b c s"], threads: int) -> None:
    """bias_updates += the sum of delta over batch and space (Darknet's backward_bias)."""
    bias_updates += delta.sum(axis=(0, 2), dtype=np.float64)
