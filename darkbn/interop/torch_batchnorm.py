"""Batch normalization with the interface of PyTorch's CPU code, on NumPy arrays (and what NumPy reads as such).

    out, save_mean, save_invstd = native_batch_norm(x, weight, bias, running_mean, running_var, True, 0.1, 1e-5)
    grad_input, grad_weight, grad_bias = native_batch_norm_backward(
        grad_out, x, weight, running_mean, running_var, save_mean, save_invstd, True, 1e-5, (True, True, True)
    )

x is (N, C, ...) of float32 or float64; results have its type. They are computed in float32 on device "cpu" and in
float64 on "reference" (see `darkbn.interop.batchnorm`). As in torch.nn.functional.batch_norm, and unlike in
native_batch_norm, one value per channel is an error in training; so are NaN and infinity, and arrays without values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from darkbn.conventions import get_convention
from darkbn.errors import DarkbnError, DtypeError, ShapeError
from darkbn.interop.batchnorm import Layout, Statistics, backward_constant, backward_train, forward, forward_train
from darkbn.signature import Array

_CONVENTION = get_convention("pytorch")
_SHAPE = "(N, C, ...)"


def native_batch_norm(
    input: Any,
    weight: Any,
    bias: Any,
    running_mean: Array | None,
    running_var: Array | None,
    training: bool,
    momentum: float = 1 - _CONVENTION.rolling_decay,
    eps: float = _CONVENTION.epsilon,
    *,
    device: str = "cpu",
) -> tuple[Array, Array, Array]:
    """The forward pass.

    Args:
        input: (N, C, ...).
        weight, bias: (C,), or None for 1 and 0.
        running_mean, running_var: (C,), changed in place in training; None in training: not kept.
        training: whether the batch's statistics are used, not the running ones.
        momentum: share of the batch's statistics in the new running ones.
        eps: added to the variance.
        device: "cpu" or "reference".

    Returns:
        output, and for the backward pass mean and 1/sqrt(variance / N + eps) of the batch: (C,), or (0,) when not
        training.
    """
    at = Layout.of("native_batch_norm", "input", input, 1, _SHAPE, device)
    x, scales, biases = at.take("input", input), at.channel("weight", weight, 1), at.channel("bias", bias)
    running = _running(at, running_mean, running_var, required=not training)
    if not training:
        none = np.empty(0, at.dtype)
        return at.give(forward(at, x, scales, biases, Statistics(*running, eps))), none, none.copy()
    convention = dataclasses.replace(_CONVENTION, name="", rolling_decay=1 - momentum, epsilon=eps)
    out, s = forward_train(at, x, scales, biases, convention, running)
    for own, new in ((running_mean, running[0]), (running_var, running[1])):
        if own is not None:
            np.asarray(own)[...] = new
    return at.give(out), at.give_channel(s.mean), at.give_channel((s.variance + eps) ** -0.5)


def native_batch_norm_backward(
    grad_out: Any,
    input: Any,
    weight: Any,
    running_mean: Any,
    running_var: Any,
    save_mean: Any,
    save_invstd: Any,
    train: bool,
    eps: float,
    output_mask: Sequence[bool] = (True, True, True),
    *,
    device: str = "cpu",
) -> tuple[Array | None, Array | None, Array | None]:
    """The backward pass.

    Args:
        grad_out: gradient with respect to the output, shaped like input.
        input, weight, running_mean, running_var, eps: as in the forward pass.
        save_mean, save_invstd: what it returned; used when train, else the running statistics are, as constants.
        train: which of the two.
        output_mask: which gradients are wanted.
        device: "cpu" or "reference".

    Returns:
        Gradients of input, weight and bias, new arrays; None where not wanted.
    """
    at = Layout.of("native_batch_norm_backward", "input", input, 1, _SHAPE, device)
    found = _gradients(at, grad_out, input, weight, (running_mean, running_var), (save_mean, save_invstd), train, eps)
    results = at.give(found[0]), at.give_channel(found[1]), at.give_channel(found[2])
    first, second, third = (r if wanted else None for r, wanted in zip(results, output_mask, strict=True))
    return first, second, third


def batch_normalization_backward(
    input: Any,
    grad_output: Any,
    grad_input: Array | None,
    grad_weight: Array | None,
    grad_bias: Array | None,
    weight: Any,
    running_mean: Any,
    running_var: Any,
    save_mean: Any,
    save_invstd: Any,
    train: bool,
    scale: float,
    eps: float,
    *,
    device: str = "cpu",
) -> None:
    """The backward pass of PyTorch's older CPU library: into given arrays, parameters accumulate.

        grad_input = gradient,  grad_weight += scale * gradient,  grad_bias += scale * gradient

    Args:
        grad_input, grad_weight, grad_bias: written in place where not None.
        scale: of what is added to the gradients of weight and bias.
        The others: as in `native_batch_norm_backward`.
    """
    at = Layout.of("batch_normalization_backward", "input", input, 1, _SHAPE, device)
    outputs = ("grad_input", grad_input, at.shape), ("grad_weight", grad_weight, (at.channels,))
    for name, array, shape in (*outputs, ("grad_bias", grad_bias, (at.channels,))):
        _check_output(at.who, name, array, shape)
    running, saved = (running_mean, running_var), (save_mean, save_invstd)
    found = _gradients(at, grad_output, input, weight, running, saved, train, eps)
    if grad_input is not None:
        grad_input[...] = at.give(found[0])
    for own, new in ((grad_weight, found[1]), (grad_bias, found[2])):
        if own is not None:
            own += scale * new


class BatchNorm:
    """torch.nn.BatchNorm1d, 2d and 3d, and their backward pass.

    Attributes:
        weight, bias: (C,), or None when not affine.
        running_mean, running_var: (C,), or None when not tracked: then the batch's statistics are always used.
        num_batches_tracked: training passes; with momentum=None the running statistics are the mean over them.
        training: see `train` and `eval`.
        grad_weight, grad_bias: added to by `backward`.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = _CONVENTION.epsilon,
        momentum: float | None = 1 - _CONVENTION.rolling_decay,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> None:
        """Parameters as in PyTorch.

        Args:
            momentum: share of the batch in the running statistics; None: their mean over all batches.
            dtype: of parameters and running statistics.
            device: "cpu" or "reference".
        """
        self.eps, self.momentum, self.device = eps, momentum, device
        self.num_batches_tracked, self.training = 0, True
        self.weight = np.ones(num_features, dtype) if affine else None
        self.bias = np.zeros(num_features, dtype) if affine else None
        self.grad_weight = np.zeros(num_features, dtype) if affine else None
        self.grad_bias = np.zeros(num_features, dtype) if affine else None
        self.running_mean = np.zeros(num_features, dtype) if track_running_stats else None
        self.running_var = np.ones(num_features, dtype) if track_running_stats else None
        self._features = num_features
        self._saved: tuple[Any, Array, Array, bool] | None = None

    def train(self, mode: bool = True) -> BatchNorm:
        """Normalize by the batch's statistics from now on; with mode=False by the running ones."""
        self.training = mode
        return self

    def eval(self) -> BatchNorm:
        """Normalize by the running statistics from now on."""
        return self.train(False)

    def __call__(self, input: Any) -> Array:
        """The output for input (N, C, ...)."""
        if np.ndim(input) > 1 and np.shape(input)[1] != self._features:
            raise ShapeError(f"BatchNorm: input must have {self._features} channels, found shape {np.shape(input)}")
        tracked = self.running_mean is not None
        batch = self.training or not tracked
        momentum = self.momentum
        if momentum is None:
            momentum = 1 / (self.num_batches_tracked + 1)
        running = (self.running_mean, self.running_var)
        out, mean, invstd = native_batch_norm(
            input, self.weight, self.bias, *running, batch, momentum, self.eps, device=self.device
        )
        self.num_batches_tracked += int(self.training and tracked)
        self._saved = input, mean, invstd, batch
        return out

    def backward(self, grad_out: Any) -> Array:
        """Gradient with respect to the input of the last call; those of weight and bias are added to."""
        if self._saved is None:
            raise DarkbnError("BatchNorm: backward needs a forward pass before it")
        x, mean, invstd, batch = self._saved
        grad = np.empty(np.shape(x), np.asarray(x).dtype)
        running = (self.running_mean, self.running_var)
        gradients = (grad, self.grad_weight, self.grad_bias)
        batch_normalization_backward(
            x, grad_out, *gradients, self.weight, *running, mean, invstd, batch, 1.0, self.eps, device=self.device
        )
        return grad


def _running(at: Layout, mean: Any, variance: Any, required: bool) -> tuple[Array, Array]:
    if required and (mean is None or variance is None):
        raise DarkbnError(f"{at.who}: running_mean and running_var are needed when not training")
    return at.channel("running_mean", mean), at.channel("running_var", variance, 1, minimum=0)


def _gradients(
    at: Layout,
    grad_out: Any,
    input: Any,
    weight: Any,
    running: tuple[Any, Any],
    saved: tuple[Any, Any],
    train: bool,
    eps: float,
) -> tuple[Array, Array, Array]:
    """Gradients of input, weight and bias, of the backend."""
    x, scales = at.take("input", input), at.channel("weight", weight, 1)
    if not train:
        s = Statistics(*_running(at, *running, required=True), eps)
        delta, updates = backward_constant(at, x, at.take("grad_out", grad_out), scales, s)
        return delta, *updates
    at.require_several()
    if saved[0] is None or saved[1] is None:
        raise DarkbnError(f"{at.who}: save_mean and save_invstd are needed in training")
    mean, invstd = at.channel("save_mean", saved[0]), at.channel("save_invstd", saved[1], minimum=0)
    delta = at.take("grad_out", grad_out, copy=True)
    # The saved root holds epsilon already.
    return delta, *backward_train(at, x, delta, scales, Statistics(mean, invstd**-2, 0.0))


def _check_output(who: str, name: str, array: Array | None, shape: tuple[int, ...]) -> None:
    if array is None:
        return
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        raise DtypeError(f"{who}: {name} must be an array of float32 or float64")
    if array.shape != shape:
        raise ShapeError(f"{who}: {name} must have shape {shape}, found {array.shape}")
