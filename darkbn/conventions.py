"""Batch normalization as different programs compute it; what differs is a field of `BatchNormConvention`.

With N = batch * height * width values per channel:

    mean      = sum(x) / N
    variance  = sum((x - mean)^2) / (N - ddof)
    x_norm    = (x - mean) / root(variance)          root(v) = sqrt(v + epsilon), or sqrt(v) + epsilon
    output    = scales * x_norm + biases
    rolling   = rolling_decay * rolling + (1 - rolling_decay) * batch

where `batch` is the mean, or the variance divided by N - rolling_ddof.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from typing import Any

from darkbn.errors import UnsupportedError


@dataclass(frozen=True, kw_only=True)
class GradientConstants:
    """How the input gradient is computed from g = scales * delta:

        mean_delta     = -sum(g) / sqrt(variance + statistics_epsilon)
        variance_delta = sum(g * (x - mean)) * d(1/root)/d(variance), with statistics_epsilon
        delta          = g / root(variance) + variance_delta * 2 * (x - mean) / (N - ddof) + mean_delta / N

    Attributes:
        epsilon: in the root of the first term of delta.
        epsilon_outside: whether it is added to the square root there, instead of to the variance.
        statistics_epsilon: in mean_delta and variance_delta.
        statistics_epsilon_outside: its place there.
        ddof: the variance is differentiated as if it had been divided by N - ddof.
    """

    epsilon: float
    epsilon_outside: bool
    statistics_epsilon: float
    statistics_epsilon_outside: bool = False
    ddof: int = 0


@dataclass(frozen=True, kw_only=True)
class BatchNormConvention:
    """Everything that differs between implementations of batch normalization.

    Attributes:
        name: how `get_convention` finds it.
        rolling_decay: share of the rolling mean and variance that a training step keeps.
        rolling_decay_connected: the same in connected layers, where it differs.
        ddof: the variance that normalizes is divided by N - ddof.
        rolling_ddof: the variance that goes into the rolling one is divided by N - rolling_ddof.
        epsilon: keeps the division finite.
        epsilon_outside: whether epsilon is added to the square root, instead of to the variance.
        gradient: constants of the input gradient; None = the exact derivative of the forward pass.
        trains_biases: whether the biases (beta) get a gradient.
        trains_biases_connected: the same in connected layers, where it differs.
        trains_scales: whether the scales (gamma) get a gradient.
        initial_rolling_variance: the rolling variance before training (the rolling mean starts at 0).
        darknet_through_time: whether recurrent layers go back through time as Darknet's CPU code does, statistics of
            batch normalization included, instead of computing the derivative (see `darkbn.layers.recurrent`).
    """

    name: str
    rolling_decay: float
    rolling_decay_connected: float | None = None
    ddof: int
    rolling_ddof: int
    epsilon: float
    epsilon_outside: bool = False
    gradient: GradientConstants | None = None
    trains_biases: bool = True
    trains_biases_connected: bool | None = None
    trains_scales: bool = True
    initial_rolling_variance: float = 0.0
    darknet_through_time: bool = False

    def for_connected(self) -> BatchNormConvention:
        """The convention as it holds in connected layers."""
        decay, trains = self.rolling_decay_connected, self.trains_biases_connected
        if decay is None and trains is None:
            return self
        return dataclasses.replace(
            self,
            rolling_decay=self.rolling_decay if decay is None else decay,
            rolling_decay_connected=None,
            trains_biases=self.trains_biases if trains is None else trains,
            trains_biases_connected=None,
        )

    def gradient_constants(self) -> GradientConstants:
        """`gradient`, or the constants that make it the exact derivative."""
        return self.gradient or GradientConstants(
            epsilon=self.epsilon,
            epsilon_outside=self.epsilon_outside,
            statistics_epsilon=self.epsilon,
            statistics_epsilon_outside=self.epsilon_outside,
            ddof=self.ddof,
        )

    def inverse_root(self, variance: Any) -> Any:
        """1/root(variance): what x - mean is multiplied by. For a number or an array."""
        if self.epsilon_outside:
            return 1 / (variance**0.5 + self.epsilon)
        return (variance + self.epsilon) ** -0.5


#: darknet: the CPU code of pjreddie/darknet. darknet-gpu: its own CUDA kernels.
_DARKNET = BatchNormConvention(
    name="darknet",
    rolling_decay=0.99,
    ddof=1,
    rolling_ddof=1,
    epsilon=1e-6,
    epsilon_outside=True,
    gradient=GradientConstants(epsilon=1e-5, epsilon_outside=False, statistics_epsilon=1e-5),
    darknet_through_time=True,
)
_DARKNET_GPU = dataclasses.replace(
    _DARKNET, name="darknet-gpu", epsilon=1e-5, epsilon_outside=False, darknet_through_time=False
)

#: exact: the forward pass of `darknet` with its true gradient.
_EXACT = dataclasses.replace(_DARKNET, name="exact", gradient=None, darknet_through_time=False)

#: alexeyab-cpu: the CPU code of AlexeyAB/darknet: no gradient of the biases except in connected layers.
#: alexeyab-gpu: its CUDA kernels; that they add the bias gradient of connected layers twice is not imitated.
_ALEXEYAB_CPU = BatchNormConvention(
    name="alexeyab-cpu",
    rolling_decay=0.9,
    rolling_decay_connected=0.95,
    ddof=1,
    rolling_ddof=1,
    epsilon=1e-5,
    gradient=GradientConstants(epsilon=1e-5, epsilon_outside=True, statistics_epsilon=1e-5),
    trains_biases=False,
    trains_biases_connected=True,
    darknet_through_time=True,
)
_ALEXEYAB_GPU = BatchNormConvention(
    name="alexeyab-gpu",
    rolling_decay=0.99,
    ddof=0,
    rolling_ddof=0,
    epsilon=1e-5,
    gradient=GradientConstants(epsilon=1e-6, epsilon_outside=True, statistics_epsilon=1e-6),
)

#: cudnn: both Darknets built with cuDNN.
_CUDNN = BatchNormConvention(name="cudnn", rolling_decay=0.99, ddof=0, rolling_ddof=1, epsilon=1e-5)
_PYTORCH = dataclasses.replace(_CUDNN, name="pytorch", rolling_decay=0.9, initial_rolling_variance=1.0)
_KERAS = BatchNormConvention(
    name="keras", rolling_decay=0.99, ddof=0, rolling_ddof=0, epsilon=1e-3, initial_rolling_variance=1.0
)
_TF_SLIM = dataclasses.replace(_KERAS, name="tf-slim", rolling_decay=0.999, trains_scales=False)
_CS231N = BatchNormConvention(name="cs231n", rolling_decay=0.9, ddof=0, rolling_ddof=0, epsilon=1e-5)

#: The named conventions.
CONVENTIONS: dict[str, BatchNormConvention] = {
    convention.name: convention
    for convention in (
        _DARKNET,
        _DARKNET_GPU,
        _ALEXEYAB_CPU,
        _ALEXEYAB_GPU,
        _CUDNN,
        _PYTORCH,
        _KERAS,
        _TF_SLIM,
        _CS231N,
        _EXACT,
    )
}


def get_convention(convention: str | BatchNormConvention) -> BatchNormConvention:
    """The convention of that name; a `BatchNormConvention` is returned as it is. Raises UnsupportedError."""
    if isinstance(convention, BatchNormConvention):
        return convention
    if convention in CONVENTIONS:
        return CONVENTIONS[convention]
    close = difflib.get_close_matches(str(convention), CONVENTIONS, 1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    names = ", ".join(CONVENTIONS)
    raise UnsupportedError(f"unknown batch normalization convention {convention!r}{hint} (expected one of {names})")
