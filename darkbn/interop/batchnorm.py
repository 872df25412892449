"""What the interfaces of other libraries to batch normalization share: the way to the kernels and back.

The kernels see (batch, channels, positions), contiguous and of the backend's float type. An array of any shape is seen
so when its axis of channels is named, without moving anything: the axes before it are the batch, those after it the
positions. Results come back in the shape and element type of the caller's array. What is computed in between is
float32 with float64 sums on device "cpu", and float64 on "reference".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from darkbn.activations import Activation
from darkbn.backend import Backend, get_backend
from darkbn.conventions import BatchNormConvention
from darkbn.cpu import thread_count
from darkbn.errors import DtypeError, NonFiniteError, ShapeError, TrainingError
from darkbn.signature import Array

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def float_array(who: str, name: str, value: Any) -> Array:
    """The value as a NumPy array of float32 or float64 (of anything that NumPy reads as one); values must be finite.

    Raises:
        DtypeError: it is no array, or of another type.
        NonFiniteError: it holds NaN or infinity.
    """
    if not hasattr(value, "__array__"):
        raise DtypeError(f"{who}: {name} must be an array of float32 or float64, found {type(value).__name__}")
    array = np.asarray(value)
    if array.dtype not in _FLOATS:
        raise DtypeError(f"{who}: {name} must be of float32 or float64, found {array.dtype}")
    # A sum is NaN or infinite when a value is, and much faster than asking every value; overflow is told apart below.
    with np.errstate(over="ignore", invalid="ignore"):
        suspect = not np.isfinite(array.sum())
    if suspect and not np.isfinite(array).all():
        where = np.unravel_index(int(np.argmin(np.isfinite(array))), array.shape)
        raise NonFiniteError(f"{who}: {name} holds {array[where]} at {tuple(map(int, where))}")
    return array


@dataclass(frozen=True)
class Layout:
    """How an array is seen by the kernels, and what its results look like.

    Attributes:
        who: name of the function, for messages.
        backend: where the kernels are.
        shape, dtype: of the caller's array.
        axis: of its channels.
    """

    who: str
    backend: Backend
    shape: tuple[int, ...]
    dtype: Any
    axis: int

    @classmethod
    def of(cls, who: str, name: str, x: Any, axis: int, ranks: str, device: str | Backend) -> Layout:
        """The layout of an array.

        Args:
            who, name: of the function and of its argument.
            x: the array.
            axis: of the channels; negative: counted from the end.
            ranks: the shapes that are allowed, as text with an alternative per rank ("(N, D)"), or "(N, C, ...)".
            device: "cpu" or "reference".
        """
        array = float_array(who, name, x)
        allowed = [text.count(",") + 1 for text in ranks.split(" or ")]
        fits = array.ndim >= 2 if "..." in ranks else array.ndim in allowed
        if not fits or not -array.ndim <= axis < array.ndim:
            raise ShapeError(f"{who}: {name} must have shape {ranks}, found {array.shape}")
        if array.size == 0:
            raise ShapeError(f"{who}: {name} of shape {array.shape} has no values")
        return cls(who, get_backend(device), array.shape, array.dtype, axis % array.ndim)

    @property
    def channels(self) -> int:
        """How many channels there are."""
        return self.shape[self.axis]

    @property
    def size(self) -> int:
        """N: how many values a channel has."""
        return math.prod(self.shape) // self.channels

    @property
    def block(self) -> tuple[int, int, int]:
        """(batch, channels, positions)."""
        return math.prod(self.shape[: self.axis]), self.channels, math.prod(self.shape[self.axis + 1 :])

    def take(self, name: str, value: Any, *, copy: bool = False) -> Array:
        """An array of the caller's shape as the kernels see it; a view of it where that is possible, unless copy."""
        array = float_array(self.who, name, value)
        if array.shape != self.shape:
            raise ShapeError(f"{self.who}: {name} must have shape {self.shape}, found {array.shape}")
        block: Array = self.backend.array(array).reshape(self.block)
        return block.copy() if copy and np.shares_memory(block, array) else block

    def give(self, block: Array) -> Array:
        """A result in the caller's shape and type."""
        result: Array = block.reshape(self.shape).astype(self.dtype, copy=False)
        return result

    def channel(self, name: str, value: Any, default: float = 0.0, *, minimum: float | None = None) -> Array:
        """One value per channel, as an array of the backend of its own; filled with default where value is None."""
        if value is None:
            return np.full(self.channels, default, self.backend.dtype)
        array = float_array(self.who, name, value)
        if array.shape != (self.channels,):
            raise ShapeError(
                f"{self.who}: {name} must have shape ({self.channels},), one value for each channel,"
                f" found {array.shape}"
            )
        if minimum is not None and array.min() < minimum:
            raise NonFiniteError(f"{self.who}: {name} must not be below {minimum:g}, found {array.min():g}")
        own: Array = array.astype(self.backend.dtype)
        return own

    def give_channel(self, values: Array) -> Array:
        """One value per channel as a result."""
        result: Array = values.astype(self.dtype, copy=False)
        return result

    def empty(self) -> Array:
        """Room for a result, as the kernels see it."""
        result: Array = self.backend.empty(self.block)
        return result

    def zeros(self) -> Array:
        """Zero for each channel."""
        result: Array = self.backend.zeros((self.channels,))
        return result

    def require_several(self) -> None:
        """Raise TrainingError when a channel has one value only, so that its variance means nothing."""
        if self.size < 2:
            raise TrainingError(
                f"{self.who}: one value per channel in an array of shape {self.shape}: its variance means nothing;"
                " training needs at least 2"
            )


@dataclass(frozen=True)
class Statistics:
    """What a pass normalized with, and its backward pass needs.

    Attributes:
        mean, variance: one value per channel.
        epsilon: added to the variance.
    """

    mean: Array
    variance: Array
    epsilon: float


def forward_train(
    at: Layout, x: Array, scales: Array, biases: Array, c: BatchNormConvention, rolling: tuple[Array, Array]
) -> tuple[Array, Statistics]:
    """Normalize by the batch's statistics, which are folded into the rolling mean and variance (changed in place).

    Args:
        at: the layout of x.
        x: (batch, channels, positions); scales, biases, rolling: (channels,), all of the backend.
        c: divisors, epsilon and rolling decay.
    """
    at.require_several()
    out, mean, variance = at.empty(), at.zeros(), at.zeros()
    at.backend.batchnorm.forward_train(
        x,
        out,
        mean,
        variance,
        *rolling,
        scales,
        biases,
        c.rolling_decay,
        c.ddof,
        c.rolling_ddof,
        c.epsilon,
        int(c.epsilon_outside),
        Activation.LINEAR,
        thread_count(None),
    )
    return out, Statistics(mean, variance, c.epsilon)


def forward(at: Layout, x: Array, scales: Array, biases: Array, s: Statistics) -> Array:
    """Normalize by given statistics."""
    out = at.empty()
    at.backend.batchnorm.forward(x, out, s.mean, s.variance, scales, biases, s.epsilon, 0, thread_count(None))
    return out


def backward_train(at: Layout, x: Array, delta: Array, scales: Array, s: Statistics) -> tuple[Array, Array]:
    """The derivative through the statistics of the batch (variance / N): delta becomes that by x.

    Returns:
        The gradients of scales and biases.
    """
    scale_updates, bias_updates = at.zeros(), at.zeros()
    place = s.epsilon, 0
    at.backend.batchnorm.backward(
        x,
        delta,
        s.mean,
        s.variance,
        scales,
        at.zeros(),
        scale_updates,
        bias_updates,
        at.zeros(),
        at.zeros(),
        *place,
        *place,
        *place,
        0,
        Activation.LINEAR,
        thread_count(None),
    )
    return scale_updates, bias_updates


def backward_constant(
    at: Layout, x: Array, delta: Array, scales: Array, s: Statistics
) -> tuple[Array, tuple[Array, Array]]:
    """The derivative with the statistics as constants: that by x, and those by scales and biases. delta is kept."""
    kernels, threads = at.backend, thread_count(None)
    updates, x_norm = (at.zeros(), at.zeros()), at.empty()
    kernels.batchnorm.normalize(x, x_norm, s.mean, s.variance, s.epsilon, 0, threads)
    kernels.batchnorm.backward_scale(x_norm, delta, updates[0], threads)
    kernels.bias.backward_bias(updates[1], delta, threads)
    # delta / root * scales: the forward formula with mean and biases 0.
    kernels.batchnorm.forward(delta, x_norm, at.zeros(), s.variance, scales, at.zeros(), s.epsilon, 0, threads)
    return x_norm, updates
