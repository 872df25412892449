"""Steps of the optimizer."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from darkbn.signature import Array


def sgd(
    weights: Annotated[Array, "io n"],
    updates: Annotated[Array, "io n"],
    rate: float,
    momentum: float,
    decay: float,
    threads: int,
) -> None:
    """Gradient descent with momentum, in Darknet's order.

    updates -= decay*weights; weights += rate*updates; updates *= momentum. `decay` is the weight decay times the batch,
    `rate` the learning rate divided by it: updates are sums over the samples of a batch.
    """
    updates -= decay * weights
    weights += rate * updates
    updates *= momentum


def adam(
    weights: Annotated[Array, "io n"],
    updates: Annotated[Array, "io n"],
    m: Annotated[Array, "io n"],
    v: Annotated[Array, "io n"],
    rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    decay: float,
    t: int,
    threads: int,
) -> None:
    """A step of Adam (arXiv:1412.6980) in Darknet's order; the updates start anew.

    updates -= decay*weights; m and v, the means of the updates and of their squares, take them in; weights += rate *
    (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon). `decay` is the weight decay times the batch; the updates
    are sums over its samples, which matters to epsilon only. `t` counts the steps, this one included.
    """
    updates -= decay * weights
    m += (1 - beta1) * (updates - m)
    v += (1 - beta2) * (updates**2 - v)
    weights += rate / (1 - beta1**t) * m / (np.sqrt(v / (1 - beta2**t)) + epsilon)
    updates[...] = 0


def average(values: Annotated[Array, "in n"], averages: Annotated[Array, "io n"], alpha: float, threads: int) -> None:
    """averages = alpha*averages + (1 - alpha)*values."""
    averages += (1 - alpha) * (values - averages)


def nonfinite(values: Annotated[Array, "in n"], count: Annotated[Array, "out:int64 1"], threads: int) -> None:
    """count = how many values are NaN or infinite."""
    count[0] = values.size - np.count_nonzero(np.isfinite(values))
