"""Batch normalization, its gradient, and Darknet's single steps of both.

N is the number of values of a channel, batch * spatial. An epsilon has a place: it is added to the variance,
or (`..._outside` = 1) to the square root. What a named convention gives is in `darkbn.conventions`.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np

from darkbn.activations import Activation, needs_input
from darkbn.reference.activation import forward_to, gradient
from darkbn.signature import Array


def _inverse_root(variance: Array, epsilon: float, outside: int) -> Any:
    variance = variance.astype(np.float64)
    return 1 / (np.sqrt(variance) + epsilon) if outside else 1 / np.sqrt(variance + epsilon)


def _inverse_root_slope(variance: Array, epsilon: float, outside: int) -> Any:
    """Derivative of the above by the variance; 0 where there is none (epsilon outside, variance 0)."""
    inverse = _inverse_root(variance, epsilon, outside)
    if not outside:
        return -(inverse**3) / 2
    deviation = np.sqrt(variance.astype(np.float64))
    return np.divide(-(inverse**2) / 2, deviation, out=np.zeros_like(deviation), where=deviation > 0)


def _by_channel(values: Any) -> Any:
    return np.asarray(values)[:, np.newaxis]


def _sum(values: Array) -> Any:
    return values.sum(axis=(0, 2), dtype=np.float64)


def _size(x: Array) -> int:
    return int(x.shape[0] * x.shape[2])


def forward_train(
    x: Annotated[Array, "in b c s"],
    out: Annotated[Array, "out b c s"],
    mean: Annotated[Array, "out c"],
    variance: Annotated[Array, "out c"],
    rolling_mean: Annotated[Array, "io c"],
    rolling_variance: Annotated[Array, "io c"],
    scales: Annotated[Array, "in c"],
    biases: Annotated[Array, "in c"],
    rolling_decay: float,
    ddof: int,
    rolling_ddof: int,
    epsilon: float,
    epsilon_outside: int,
    activation: int,
    threads: int,
) -> None:
    """Normalize by the batch's own statistics and fold them into the rolling ones; then an activation.

    mean = sum(x)/N, variance = sum((x - mean)^2)/(N - ddof), z = scales*(x - mean)/root(variance) + biases,
    out = activation(z), rolling = decay*rolling + (1 - decay)*(mean; variance divided by N - rolling_ddof).
    `activation` is a code of those that work on single values; LINEAR for none. `out` may be `x`.
    N must be larger than both ddofs.
    """
    values, size = x.astype(np.float64), _size(x)
    exact_mean = _sum(values) / size
    centered = values - _by_channel(exact_mean)
    squares = _sum(centered**2)
    mean[...] = exact_mean
    variance[...] = squares / (size - ddof)
    rolling_mean[...] = rolling_decay * rolling_mean + (1 - rolling_decay) * exact_mean
    rolling_variance[...] = rolling_decay * rolling_variance + (1 - rolling_decay) * squares / (size - rolling_ddof)
    factor = scales * _inverse_root(squares / (size - ddof), epsilon, epsilon_outside)
    forward_to(centered * _by_channel(factor) + _by_channel(biases), out, activation, threads)


def forward(
    x: Annotated[Array, "in b c s"],
    out: Annotated[Array, "out b c s"],
    mean: Annotated[Array, "in c"],
    variance: Annotated[Array, "in c"],
    scales: Annotated[Array, "in c"],
    biases: Annotated[Array, "in c"],
    epsilon: float,
    epsilon_outside: int,
    threads: int,
) -> None:
    """out = scales*(x - mean)/root(variance) + biases, with given (rolling) statistics. `out` may be `x`."""
    factor = scales * _inverse_root(variance, epsilon, epsilon_outside)
    out[...] = (x - _by_channel(mean)) * _by_channel(factor) + _by_channel(biases)


def backward(
    x: Annotated[Array, "in b c s"],
    delta: Annotated[Array, "io b c s"],
    mean: Annotated[Array, "in c"],
    variance: Annotated[Array, "in c"],
    scales: Annotated[Array, "in c"],
    biases: Annotated[Array, "in c"],
    scale_updates: Annotated[Array | None, "io? c"],
    bias_updates: Annotated[Array | None, "io? c"],
    mean_delta: Annotated[Array, "out c"],
    variance_delta: Annotated[Array, "out c"],
    epsilon: float,
    epsilon_outside: int,
    gradient_epsilon: float,
    gradient_epsilon_outside: int,
    statistics_epsilon: float,
    statistics_epsilon_outside: int,
    gradient_ddof: int,
    activation: int,
    threads: int,
) -> None:
    """delta becomes the gradient by x; the updates of scales and biases are added to, where they are given.

    First delta *= derivative of the activation at z = scales*(x - mean)/root(variance) + biases, computed again from x.
    With g = scales*delta and the roots of the variance with their own epsilons:

    scale_updates += sum(delta*(x - mean)/root(variance)), bias_updates += sum(delta)
    mean_delta = -sum(g)/root_statistics
    variance_delta = sum(g*(x - mean)) * d(1/root_statistics)/d(variance)
    delta = g/root_gradient + variance_delta*2*(x - mean)/(N - gradient_ddof) + mean_delta/N
    """
    size = _size(x)
    centered = x.astype(np.float64) - _by_channel(mean)
    if activation != Activation.LINEAR:
        factor = scales * _inverse_root(variance, epsilon, epsilon_outside)
        z = centered * _by_channel(factor) + _by_channel(biases)
        if not needs_input(activation):
            forward_to(z, z, activation, threads)
        gradient(z, delta, activation, threads)
    total, product = _sum(delta), _sum(delta * centered)
    if bias_updates is not None:
        bias_updates += total
    if scale_updates is not None:
        scale_updates += product * _inverse_root(variance, epsilon, epsilon_outside)
    mean_delta[...] = -scales * total * _inverse_root(variance, statistics_epsilon, statistics_epsilon_outside)
    slope = _inverse_root_slope(variance, statistics_epsilon, statistics_epsilon_outside)
    variance_delta[...] = scales * product * slope
    factor = scales * _inverse_root(variance, gradient_epsilon, gradient_epsilon_outside)
    delta *= _by_channel(factor)
    delta += centered * _by_channel(variance_delta * 2 / (size - gradient_ddof)) + _by_channel(mean_delta / size)


def mean(x: Annotated[Array, "in b c s"], mean: Annotated[Array, "out c"], threads: int) -> None:
    """Mean of each channel."""
    mean[...] = _sum(x) / _size(x)


def variance(
    x: Annotated[Array, "in b c s"],
    mean: Annotated[Array, "in c"],
    variance: Annotated[Array, "out c"],
    ddof: int,
    threads: int,
) -> None:
    """Sum of squared deviations from the given means, divided by N - ddof."""
    variance[...] = _sum((x.astype(np.float64) - _by_channel(mean)) ** 2) / (_size(x) - ddof)


def normalize(
    x: Annotated[Array, "in b c s"],
    out: Annotated[Array, "out b c s"],
    mean: Annotated[Array, "in c"],
    variance: Annotated[Array, "in c"],
    epsilon: float,
    epsilon_outside: int,
    threads: int,
) -> None:
    """out = (x - mean)/root(variance): Darknet's x_norm. `out` may be `x`."""
    out[...] = (x - _by_channel(mean)) * _by_channel(_inverse_root(variance, epsilon, epsilon_outside))


def backward_scale(
    x_norm: Annotated[Array, "in b c s"],
    delta: Annotated[Array, "in b c s"],
    scale_updates: Annotated[Array, "io c"],
    threads: int,
) -> None:
    """scale_updates += sum(delta*x_norm)."""
    scale_updates += _sum(delta.astype(np.float64) * x_norm)


def mean_delta(
    delta: Annotated[Array, "in b c s"],
    variance: Annotated[Array, "in c"],
    mean_delta: Annotated[Array, "out c"],
    epsilon: float,
    epsilon_outside: int,
    threads: int,
) -> None:
    """mean_delta = -sum(delta)/root(variance), where delta was multiplied by the scales before."""
    mean_delta[...] = -_sum(delta) * _inverse_root(variance, epsilon, epsilon_outside)


def variance_delta(
    x: Annotated[Array, "in b c s"],
    delta: Annotated[Array, "in b c s"],
    mean: Annotated[Array, "in c"],
    variance: Annotated[Array, "in c"],
    variance_delta: Annotated[Array, "out c"],
    epsilon: float,
    epsilon_outside: int,
    threads: int,
) -> None:
    """variance_delta = sum(delta*(x - mean)) * d(1/root)/d(variance), with delta as in `mean_delta`."""
    product = _sum(delta * (x.astype(np.float64) - _by_channel(mean)))
    variance_delta[...] = product * _inverse_root_slope(variance, epsilon, epsilon_outside)


def normalize_delta(
    x: Annotated[Array, "in b c s"],
    mean: Annotated[Array, "in c"],
    variance: Annotated[Array, "in c"],
    mean_delta: Annotated[Array, "in c"],
    variance_delta: Annotated[Array, "in c"],
    delta: Annotated[Array, "io b c s"],
    epsilon: float,
    epsilon_outside: int,
    ddof: int,
    threads: int,
) -> None:
    """delta = delta/root(variance) + variance_delta*2*(x - mean)/(N - ddof) + mean_delta/N."""
    size = _size(x)
    slope = _by_channel(variance_delta * 2 / (size - ddof))
    delta *= _by_channel(_inverse_root(variance, epsilon, epsilon_outside))
    delta += (x.astype(np.float64) - _by_channel(mean)) * slope + _by_channel(mean_delta / size)
