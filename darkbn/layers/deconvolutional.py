"""[deconvolutional]: the transpose of a convolution, batch normalization or biases, activation (dialect darknet).

    z[b, n, y*stride + i - pad, x*stride + j - pad] = sum over c and all x, y, i, j that meet there of
        weights[c, n, i, j] * input[b, c, y, x]
    output = activation(batch_normalize(z) + biases)

The output is (in - 1) * stride + size - 2*pad wide and high. Forward is a convolution's gradient by its input, and the
other way round: the same kernels compute both.

Departure from Darknet: its files can be read (it writes them, but dies on loading them).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from darkbn.activations import activation_option
from darkbn.algorithms import Algorithm, training_algorithm
from darkbn.layers import batchnorm
from darkbn.layers.activation import activate_array, activation_buffers, gradient_array
from darkbn.layers.base import Buffer, Context, LayerOptions, Role, apply_updates
from darkbn.options import option
from darkbn.state import NetworkState, UpdateArgs


@dataclass(frozen=True, kw_only=True)
class DeconvolutionalOptions(LayerOptions):
    """Options of [deconvolutional]."""

    filters: int = option(1, minimum=1)
    size: int = option(1, minimum=1)
    stride: int = option(1, minimum=1)
    pad: bool = option(False)
    padding: int = option(0, minimum=0)
    activation: str = activation_option("logistic")
    batch_normalize: bool = option(False)


class DeconvolutionalLayer(batchnorm.BatchNormalized):
    """A transposed convolution. Arrays: weights (c, filters, size, size), biases (filters,); with batch normalization
    also scales, rolling_mean, rolling_variance (filters,); updates of the same shapes when training."""

    type = "deconvolutional"
    sections = ("deconvolutional", "deconv")
    options_class = DeconvolutionalOptions
    options: DeconvolutionalOptions

    def __init__(self, options: DeconvolutionalOptions, context: Context) -> None:
        context.require_image("[deconvolutional]")
        self.n, self.size, self.stride = options.filters, options.size, options.stride
        self.pad = options.size // 2 if options.pad else options.padding
        self.batch_normalize = options.batch_normalize
        self.activation = options.activation
        super().__init__(options, context)

    def shape(self) -> None:
        reach = self.size - self.stride - 2 * self.pad
        self.set_output(self.h * self.stride + reach, self.w * self.stride + reach, self.n)

    def buffers(self) -> list[Buffer]:
        weights = (self.c, self.n, self.size, self.size)
        arrays = [
            Buffer("weights", weights, Role.PARAMETER),
            Buffer("weight_updates", weights, Role.UPDATE, training=True),
            Buffer("biases", (self.n,), Role.PARAMETER),
            Buffer("bias_updates", (self.n,), Role.UPDATE, training=True),
            *self.output_buffers(),
            *activation_buffers(self.activation, self.output_shape),
        ]
        if self.batch_normalize:
            arrays += batchnorm.channel_buffers(self.n, self.convention) + batchnorm.sample_buffers(self.output_shape)
        return arrays

    def initialize(self, rng: np.random.Generator) -> None:
        scale = 0.02 * self.out_w * self.out_h / (self.w * self.h)
        self.weights[...] = self.backend.array(rng.standard_normal(self.weights.shape) * scale)

    def weights_order(self) -> tuple[str, ...]:
        return ("biases", *(batchnorm.FILE_ORDER if self.batch_normalize else ()), "weights")

    def forward(self, net: NetworkState) -> None:
        forward_deconvolutional_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_deconvolutional_layer(self, net)

    def update(self, args: UpdateArgs) -> None:
        update_deconvolutional_layer(self, args)

    @property
    def flops(self) -> int:
        return 2 * self.c * self.n * self.size**2 * self.h * self.w

    def describe(self) -> tuple[str, str]:
        return str(self.n), f"{self.size} x {self.size} / {self.stride}"


def make_deconvolutional_layer(
    batch: int,
    h: int,
    w: int,
    c: int,
    n: int,
    size: int,
    stride: int,
    padding: int,
    activation: str,
    batch_normalize: bool = False,
    *,
    seed: int | None = None,
    **context: Any,
) -> DeconvolutionalLayer:
    """A transposed convolution outside a network, ready to train.

    Args:
        batch, h, w, c: input shape.
        n, size, stride, padding: of the convolution.
        activation: its name.
        batch_normalize: whether to normalize before the activation.
        seed: of the initial weights.
        context: further fields of `Context` (backend, dialect, convention).
    """
    options = DeconvolutionalOptions(
        filters=n, size=size, stride=stride, padding=padding, activation=activation, batch_normalize=batch_normalize
    )
    l = DeconvolutionalLayer(options, Context(batch=batch, h=h, w=w, c=c, inputs=h * w * c, **context))
    l.allocate(training=True)
    l.initialize(np.random.default_rng(seed))
    return l


def _algorithm(l: DeconvolutionalLayer) -> Algorithm:
    """Of the passes in training."""
    return training_algorithm(l.n, l.c, l.size, (l.stride, l.stride), 1, 1, (l.h, l.w))


def _workspace_size(l: DeconvolutionalLayer, kernel: str, algorithm: Algorithm, threads: int) -> int:
    sizes = (l.batch, l.n, l.out_h, l.out_w, l.c, l.size, l.h, l.w)
    return int(getattr(l.backend.convolution, f"{kernel}_workspace")(*sizes, *_geometry(l), algorithm, threads))


def _geometry(l: DeconvolutionalLayer) -> tuple[int, int, int, int, int]:
    """Groups, strides, dilation and padding of the convolution that this is the transpose of."""
    return 1, l.stride, l.stride, 1, l.pad


def forward_deconvolutional_layer(l: DeconvolutionalLayer, net: NetworkState) -> None:
    """output = activation(batch normalization of the transposed convolution + biases)."""
    out = l.x if l.batch_normalize and net.batch_statistics else l.output
    algorithm = _algorithm(l) if net.train else Algorithm.GEMM
    out.fill(0)
    l.backend.convolution.backward_input(
        l.weights,
        net.input.reshape(l.batch, l.c, l.h, l.w),
        out,
        net.workspace(_workspace_size(l, "backward_input", algorithm, net.threads), l.backend),
        *_geometry(l),
        algorithm,
        net.threads,
    )
    if l.batch_normalize:
        batchnorm.forward_batchnorm_layer(l, net)
    else:
        l.backend.bias.add_bias(l.output.reshape(l.batch, l.n, -1), l.biases, net.threads)
    activate_array(l, net)


def backward_deconvolutional_layer(l: DeconvolutionalLayer, net: NetworkState) -> None:
    """Updates from delta; adds the input's gradient to net.delta."""
    algorithm = _algorithm(l)
    gradient_array(l, net)
    if l.batch_normalize:
        batchnorm.backward_batchnorm_layer(l, net)
    else:
        l.backend.bias.backward_bias(l.bias_updates, l.delta.reshape(l.batch, l.n, -1), net.threads)
    shape = (l.batch, l.c, l.h, l.w)
    l.backend.convolution.backward_weights(
        l.delta,
        net.input.reshape(shape),
        l.weight_updates,
        net.workspace(_workspace_size(l, "backward_weights", algorithm, net.threads), l.backend),
        *_geometry(l),
        algorithm,
        net.threads,
    )
    if net.delta is not None:
        size = _workspace_size(l, "forward", algorithm, net.threads)
        room = net.workspace(size + math.prod(shape), l.backend)
        change = room[size:].reshape(shape)
        steps = (*_geometry(l), algorithm, net.threads)
        l.backend.convolution.forward(l.delta, l.weights, None, change, room[:size], *steps)
        net.delta += change.reshape(net.delta.shape)


def update_deconvolutional_layer(l: DeconvolutionalLayer, args: UpdateArgs) -> None:
    """One step of gradient descent with momentum; weight decay acts on the weights only."""
    apply_updates(l, args)


def resize_deconvolutional_layer(l: DeconvolutionalLayer, w: int, h: int) -> None:
    """Take an input of w x h."""
    l.resize(w, h)
