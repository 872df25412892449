"""Losses of single values: error, and delta from the prediction towards the truth (minus half the slope of the error,
or minus the slope where the name says so). The loss of a batch is the sum of the errors."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from darkbn.signature import Array


def l2(
    predicted: Annotated[Array, "in *s"],
    truth: Annotated[Array, "in *s"],
    delta: Annotated[Array, "out *s"],
    error: Annotated[Array, "out *s"],
    threads: int,
) -> None:
    """error = (truth - predicted)^2, delta = truth - predicted."""
    delta[...] = truth - predicted
    error[...] = delta**2


def l1(
    predicted: Annotated[Array, "in *s"],
    truth: Annotated[Array, "in *s"],
    delta: Annotated[Array, "out *s"],
    error: Annotated[Array, "out *s"],
    threads: int,
) -> None:
    """error = |truth - predicted|, delta = 1 where truth is larger, else -1 (also where they are equal)."""
    error[...] = np.abs(truth - predicted)
    delta[...] = np.where(truth - predicted > 0, 1, -1)


def smooth_l1(
    predicted: Annotated[Array, "in *s"],
    truth: Annotated[Array, "in *s"],
    delta: Annotated[Array, "out *s"],
    error: Annotated[Array, "out *s"],
    threads: int,
) -> None:
    """With d = truth - predicted: error = d^2, delta = d where |d| < 1, else error = 2|d| - 1, delta = sign(d)."""
    difference = truth - predicted
    size = np.abs(difference)
    error[...] = np.where(size < 1, difference**2, 2 * size - 1)
    delta[...] = np.where(size < 1, difference, np.sign(difference))


def wgan(
    predicted: Annotated[Array, "in *s"],
    truth: Annotated[Array, "in *s"],
    delta: Annotated[Array, "out *s"],
    error: Annotated[Array, "out *s"],
    threads: int,
) -> None:
    """error = -predicted where truth is not 0, else predicted; delta = 1 where truth is positive, else -1."""
    error[...] = np.where(truth != 0, -predicted, predicted)
    delta[...] = np.where(truth > 0, 1, -1)


def logistic(
    predicted: Annotated[Array, "in *s"],
    truth: Annotated[Array, "in *s"],
    delta: Annotated[Array, "out *s"],
    error: Annotated[Array, "out *s"],
    threads: int,
) -> None:
    """error = -truth*log(predicted) - (1 - truth)*log(1 - predicted), delta = truth - predicted.

    A term whose factor is 0 is 0. delta is the gradient by the input of the logistic function.
    """
    yes = np.log(predicted, out=np.zeros_like(predicted), where=truth != 0)
    no = np.log1p(-predicted, out=np.zeros_like(predicted), where=truth != 1)
    error[...] = -truth * yes - (1 - truth) * no
    delta[...] = truth - predicted


def scale_where(
    mask: Annotated[Array, "in *s"], x: Annotated[Array, "io *s"], value: float, factor: float, threads: int
) -> None:
    """x *= factor where mask equals value."""
    x[mask == value] *= factor


def fill_where(
    mask: Annotated[Array, "in *s"], x: Annotated[Array, "io *s"], value: float, number: float, threads: int
) -> None:
    """x = number where mask equals value."""
    x[mask == value] = number


def suppress(x: Annotated[Array, "io *s"], threshold: float, threads: int) -> None:
    """x = 0 where |x| < threshold."""
    x[np.abs(x) < threshold] = 0
