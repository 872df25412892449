"""Softmax and the cross entropy that goes with it."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from darkbn.signature import Array


def forward(
    x: Annotated[Array, "in b n s"], out: Annotated[Array, "out b n s"], temperature: float, threads: int
) -> None:
    """out = exp(x/temperature) / its sum over n, computed without overflow. `out` may be `x`.

    Groups of a row: (batch * groups, size of a group, 1). Channels of each pixel: (batch, channels, height * width).
    """
    parts = np.exp((x - x.max(axis=1, keepdims=True)) / temperature)
    out[...] = parts / parts.sum(axis=1, keepdims=True)


def forward_groups(
    x: Annotated[Array, "in b n"],
    out: Annotated[Array, "out b n"],
    sizes: Annotated[Array, "in:int32 g"],
    temperature: float,
    threads: int,
) -> None:
    """The softmax of each group of a row.

    Args:
        x, out: rows of values.
        sizes: how many values each group has; their sum is n.
        temperature: see `forward`.
    """
    starts = np.cumsum(sizes) - sizes
    for start, size in zip(starts, sizes, strict=True):
        group = x[:, start : start + size]
        parts = np.exp((group - group.max(axis=1, keepdims=True)) / temperature)
        out[:, start : start + size] = parts / parts.sum(axis=1, keepdims=True)


def cross_entropy(
    predicted: Annotated[Array, "in *s"],
    truth: Annotated[Array, "in *s"],
    delta: Annotated[Array, "out *s"],
    error: Annotated[Array, "out *s"],
    threads: int,
) -> None:
    """error = -log(predicted) where truth is not 0, else 0; delta = truth - predicted (Darknet's softmax_x_ent).

    delta is the gradient of the loss by the softmax's input, at temperature 1.
    """
    error[...] = -np.log(predicted, out=np.zeros_like(predicted), where=truth != 0)
    delta[...] = truth - predicted
