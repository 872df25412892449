"""Steps of the optimizer."""

from __future__ import annotations

from typing import Annotated

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
