"""Launchers of darkbn.reference.batchnorm."""

from __future__ import annotations

from typing import Any

from darkbn.activations import Activation
from darkbn.signature import Array
from darkbn_gpu.activation import forward_to
from darkbn_gpu.launch import MOST_BLOCKS, blocks_per_channel, each, is_aligned, launch, scratch

#: Values of a channel that one block keeps in shared memory: SMALL of batchnorm.cu.
_SMALL = 4096

#: Activations of two lines, which are part of the kernels: their slope below 0 (darkbn/activation_kinds.h).
_BELOW: dict[int, float] = {
    Activation.LINEAR: 1.0,
    Activation.RELU: 0.0,
    Activation.LEAKY: 0.1,
    Activation.REVLEAKY: 0.1,
    Activation.RELIE: 0.01,
}
#: No activation: variance, scales, biases, epsilon, its place, slope below 0.
_OPEN = (None, None, None, 0.0, 0, 1.0)

# What batchnorm_join makes of the sums.
_DIVIDED, _ADDED, _TIMES_MINUS_ROOT, _TIMES_SLOPE = range(4)


def _parts(x: Array) -> int:
    b, c, s = x.shape
    return blocks_per_channel(c, b * s)


def _pieces(x: Array) -> int:
    """Blocks that share a channel where no sums are joined: as many as keep a device busy to the end."""
    b, c, s = x.shape
    return int(max(1, min(-(-b * s // 8192), MOST_BLOCKS * 4 // max(c, 1))))


def _wide(*arrays: Array) -> int:
    """Whether all channels of all arrays begin at multiples of 16 bytes."""
    return int(arrays[0].shape[2] % 4 == 0 and is_aligned(*arrays))


def forward_train(
    x: Array,
    out: Array,
    mean: Array,
    variance: Array,
    rolling_mean: Array,
    rolling_variance: Array,
    scales: Array,
    biases: Array,
    rolling_decay: float,
    ddof: int,
    rolling_ddof: int,
    epsilon: float,
    epsilon_outside: int,
    activation: int,
    threads: int,
) -> None:
    b, c, s = x.shape
    below = _BELOW.get(activation, 1.0)
    channel = (mean, variance, rolling_mean, rolling_variance, scales, biases)
    rules = (float(rolling_decay), ddof, rolling_ddof, float(epsilon), epsilon_outside)
    if b * s <= _SMALL:
        launch("batchnorm", "batchnorm_forward_small", c, x, out, b, c, s, *channel, *rules, below)
    else:
        parts = _parts(x)
        partial, affines = scratch(x, 3 * c * parts), scratch(x, 4 * c, "float32")
        launch("batchnorm", "batchnorm_moments", c * parts, x, partial, b, c, s, parts, _wide(x))
        each("batchnorm", "batchnorm_finish", c, partial, affines, c, parts, *channel, *rules)
        pieces = _pieces(x)
        launch("batchnorm", "batchnorm_apply", c * pieces, x, out, affines, b, c, s, pieces, _wide(x, out), below)
    if activation not in _BELOW:
        forward_to(out, out, activation, threads)


def forward(
    x: Array,
    out: Array,
    mean: Array,
    variance: Array,
    scales: Array,
    biases: Array,
    epsilon: float,
    epsilon_outside: int,
    threads: int,
) -> None:
    _forward(x, out, mean, variance, scales, biases, epsilon, epsilon_outside)


def normalize(
    x: Array, out: Array, mean: Array, variance: Array, epsilon: float, epsilon_outside: int, threads: int
) -> None:
    _forward(x, out, mean, variance, None, None, epsilon, epsilon_outside)


def _forward(x: Array, out: Array, *channel_and_rules: Any) -> None:
    mean, variance, scales, biases, epsilon, outside = channel_and_rules
    pieces = _pieces(x)
    sizes = (*x.shape, pieces, _wide(x, out))
    arguments = (x, out, mean, variance, scales, biases, *sizes, float(epsilon), outside)
    launch("batchnorm", "batchnorm_forward", x.shape[1] * pieces, *arguments)


def backward(
    x: Array,
    delta: Array,
    mean: Array,
    variance: Array,
    scales: Array,
    biases: Array,
    scale_updates: Array | None,
    bias_updates: Array | None,
    mean_delta: Array,
    variance_delta: Array,
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
    b, c, s = x.shape
    values = (variance, scales, biases)
    if activation not in _BELOW:
        rules = (b, c, s, _parts(x), float(epsilon), epsilon_outside, activation)
        launch("batchnorm", "batchnorm_activation_gradient", c * _parts(x), x, delta, mean, *values, *rules)
    gate = (*values, float(epsilon), epsilon_outside, _BELOW.get(activation, 1.0))
    partial, gradients = _sums(x, delta, mean, gate), scratch(x, 4 * c, "float32")
    written = (scale_updates, bias_updates, mean_delta, variance_delta)
    places = (float(epsilon), epsilon_outside, float(gradient_epsilon), gradient_epsilon_outside)
    last_place = (float(statistics_epsilon), statistics_epsilon_outside)
    sizes = (b * s, c, _parts(x))
    arguments = (partial, gradients, variance, scales, *written, *sizes, *places, *last_place, gradient_ddof)
    each("batchnorm", "batchnorm_finish_gradient", c, *arguments)
    _move(x, delta, mean, gradients, gate)


def _sums(x: Array | None, delta: Array, mean: Array | None, gate: tuple[Any, ...] = _OPEN) -> Any:
    """Sums of delta, and of delta * (x - mean) where these are given, for all parts of all channels; delta goes back
    through the gate first."""
    b, c, s = delta.shape
    parts = _parts(delta)
    partial = scratch(delta, 2 * c * parts)
    wide = _wide(delta, delta if x is None else x)
    launch("batchnorm", "batchnorm_sums", c * parts, x, delta, mean, partial, b, c, s, parts, wide, *gate)
    return partial


def _move(x: Array, delta: Array, mean: Array, gradients: Any, gate: tuple[Any, ...] = _OPEN) -> None:
    pieces = _pieces(x)
    sizes = (*x.shape, pieces, _wide(x, delta))
    launch("batchnorm", "batchnorm_gradient", x.shape[1] * pieces, x, delta, mean, gradients, *sizes, *gate)


def _join(
    partial: Any,
    out: Array,
    x: Array,
    which: int,
    what: int,
    divisor: int = 1,
    variance: Array | None = None,
    epsilon: float = 0.0,
    outside: int = 0,
) -> None:
    c = x.shape[1]
    rules = (which, what, divisor, float(epsilon), outside)
    each("batchnorm", "batchnorm_join", c, partial, out, variance, c, _parts(x), *rules)


def mean(x: Array, mean: Array, threads: int) -> None:
    _join(_sums(None, x, None), mean, x, 0, _DIVIDED, x.shape[0] * x.shape[2])


def variance(x: Array, mean: Array, variance: Array, ddof: int, threads: int) -> None:
    b, c, s = x.shape
    parts = _parts(x)
    partial = scratch(x, 2 * c * parts)
    launch("batchnorm", "batchnorm_squares", c * parts, x, mean, partial, b, c, s, parts)
    _join(partial, variance, x, 1, _DIVIDED, b * s - ddof)


def backward_scale(x_norm: Array, delta: Array, scale_updates: Array, threads: int) -> None:
    b, c, s = delta.shape
    parts = _parts(delta)
    partial = scratch(delta, 2 * c * parts)
    launch("batchnorm", "batchnorm_products", c * parts, x_norm, delta, partial, b, c, s, parts)
    _join(partial, scale_updates, delta, 1, _ADDED)


def mean_delta(
    delta: Array, variance: Array, mean_delta: Array, epsilon: float, epsilon_outside: int, threads: int
) -> None:
    partial = _sums(None, delta, None)
    _join(partial, mean_delta, delta, 0, _TIMES_MINUS_ROOT, 1, variance, epsilon, epsilon_outside)


def variance_delta(
    x: Array,
    delta: Array,
    mean: Array,
    variance: Array,
    variance_delta: Array,
    epsilon: float,
    epsilon_outside: int,
    threads: int,
) -> None:
    partial = _sums(x, delta, mean)
    _join(partial, variance_delta, delta, 1, _TIMES_SLOPE, 1, variance, epsilon, epsilon_outside)


def normalize_delta(
    x: Array,
    mean: Array,
    variance: Array,
    mean_delta: Array,
    variance_delta: Array,
    delta: Array,
    epsilon: float,
    epsilon_outside: int,
    ddof: int,
    threads: int,
) -> None:
    b, c, s = x.shape
    gradients = scratch(x, 4 * c, "float32")
    given = (gradients, variance, mean_delta, variance_delta)
    each("batchnorm", "batchnorm_given_gradient", c, *given, b * s, c, float(epsilon), epsilon_outside, ddof)
    _move(x, delta, mean, gradients)
