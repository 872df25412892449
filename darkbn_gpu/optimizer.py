"""Launchers of darkbn.reference.optimizer."""

from __future__ import annotations

import numpy as np

from darkbn.signature import Array
from darkbn_gpu.launch import each, map_each


def sgd(weights: Array, updates: Array, rate: float, momentum: float, decay: float, threads: int) -> None:
    rules = (float(rate), float(momentum), float(decay))
    each("optimizer", "optimizer_sgd", weights.size, weights, updates, weights.size, *rules)


def adam(
    weights: Array,
    updates: Array,
    m: Array,
    v: Array,
    rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    decay: float,
    t: int,
    threads: int,
) -> None:
    steps = (rate / (1 - beta1**t), beta1, beta2, epsilon, decay, 1 / (1 - beta2**t))
    rules = [np.float64(number) for number in steps]
    each("optimizer", "optimizer_adam", weights.size, weights, updates, m, v, weights.size, *rules)


def average(values: Array, averages: Array, alpha: float, threads: int) -> None:
    map_each("optimizer", "optimizer_average", values.size, values, averages, values.size, 1.0 - alpha)


def nonfinite(values: Array, count: Array, threads: int) -> None:
    count.fill(0)
    each("optimizer", "optimizer_nonfinite", values.size, values, count, values.size)
