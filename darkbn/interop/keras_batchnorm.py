"""Batch normalization with the interface of Keras' layer BatchNormalization, on NumPy arrays.

Arrays are float32 or float64; results have the type of the input. They are computed in float32 on device "cpu" and in
float64 on "reference" (see `darkbn.interop.batchnorm`). Unlike in Keras, NaN, infinity and one value per channel in
training are errors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from darkbn.conventions import get_convention
from darkbn.errors import DarkbnError, ShapeError
from darkbn.interop.batchnorm import Layout, Statistics, backward_constant, backward_train, forward, forward_train
from darkbn.signature import Array

_CONVENTION = get_convention("keras")


class BatchNormalization:
    """keras.layers.BatchNormalization, and its backward pass.

    Attributes:
        axis: of the channels.
        gamma, beta: (C,), None without scale or center; made by the first call.
        moving_mean, moving_variance: (C,).
        gamma_gradient, beta_gradient: of the last `backward`.
    """

    def __init__(
        self,
        axis: int = -1,
        momentum: float = _CONVENTION.rolling_decay,
        epsilon: float = _CONVENTION.epsilon,
        center: bool = True,
        scale: bool = True,
        *,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> None:
        """Parameters as in Keras.

        Args:
            momentum: share of the moving averages that a training pass keeps.
            epsilon: added to the variance.
            center, scale: whether there are beta and gamma.
            dtype: of the variables.
            device: "cpu" or "reference".
        """
        self.axis, self.center, self.scale, self.dtype, self.device = axis, center, scale, dtype, device
        self._convention = dataclasses.replace(_CONVENTION, name="", rolling_decay=momentum, epsilon=epsilon)
        self.gamma: Array | None = None
        self.beta: Array | None = None
        self.moving_mean: Array | None = None
        self.moving_variance: Array | None = None
        self.gamma_gradient: Array | None = None
        self.beta_gradient: Array | None = None
        self._saved: tuple[Layout, Any, Statistics, bool] | None = None

    def build(self, channels: int) -> None:
        """Make the variables with their initial values."""
        self.gamma = np.ones(channels, self.dtype) if self.scale else None
        self.beta = np.zeros(channels, self.dtype) if self.center else None
        self.moving_mean, self.moving_variance = np.zeros(channels, self.dtype), np.ones(channels, self.dtype)

    def get_weights(self) -> list[Array]:
        """gamma, beta (those that there are), moving_mean, moving_variance, as Keras orders them."""
        return [v for v in (self.gamma, self.beta, self.moving_mean, self.moving_variance) if v is not None]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Take values in the order of `get_weights`."""
        expected = 2 + self.scale + self.center
        if len(weights) != expected or len({np.shape(w) for w in weights}) != 1 or np.ndim(weights[0]) != 1:
            found = [np.shape(w) for w in weights]
            raise ShapeError(f"BatchNormalization: expected {expected} arrays of shape (C,), found {found}")
        self.build(len(weights[0]))
        for own, new in zip(self.get_weights(), weights, strict=True):
            own[...] = new

    def __call__(self, inputs: Any, training: bool = False) -> Array:
        """The output for inputs of 2 axes or more: by the batch's statistics when training, else the moving ones."""
        at = Layout.of("BatchNormalization", "inputs", inputs, self.axis, "(N, C, ...)", self.device)
        if self.moving_mean is None:
            self.build(at.channels)
        x, gamma, beta = at.take("inputs", inputs), self._gamma(at), at.channel("beta", self.beta)
        moving = (
            at.channel("moving_mean", self.moving_mean),
            at.channel("moving_variance", self.moving_variance, minimum=0),
        )
        if training:
            out, statistics = forward_train(at, x, gamma, beta, self._convention, moving)
            self.moving_mean, self.moving_variance = (values.astype(self.dtype) for values in moving)
        else:
            statistics = Statistics(*moving, self._convention.epsilon)
            out = forward(at, x, gamma, beta, statistics)
        self._saved = at, inputs, statistics, training
        return at.give(out)

    def backward(self, gradient: Any) -> Array:
        """Gradient with respect to the inputs of the last call, given that with respect to its output."""
        if self._saved is None:
            raise DarkbnError("BatchNormalization: backward needs a call before it")
        at, inputs, statistics, training = self._saved
        x, gamma = at.take("inputs", inputs), self._gamma(at)
        delta = at.take("gradient", gradient, copy=True)
        if training:
            updates = backward_train(at, x, delta, gamma, statistics)
        else:
            delta, updates = backward_constant(at, x, delta, gamma, statistics)
        self.gamma_gradient = updates[0].astype(self.dtype) if self.scale else None
        self.beta_gradient = updates[1].astype(self.dtype) if self.center else None
        return at.give(delta)

    def _gamma(self, at: Layout) -> Array:
        return at.channel("gamma", self.gamma, 1)
