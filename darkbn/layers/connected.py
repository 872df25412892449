"""[connected]: every output is a weighted sum of every input; batch normalization or biases, activation.

    output = activation(batch_normalize(input @ weights.T) + biases),  weights (outputs, inputs)

In a .weights file the statistics of batch normalization follow the weights; files with major or minor > 1000 hold the
matrix transposed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from darkbn.activations import activation_option
from darkbn.conventions import BatchNormConvention
from darkbn.layers import batchnorm
from darkbn.layers.activation import activate_array, activation_buffers, gradient_array
from darkbn.layers.base import Buffer, Context, LayerOptions, Role, apply_updates
from darkbn.options import option
from darkbn.state import NetworkState, UpdateArgs


@dataclass(frozen=True, kw_only=True)
class ConnectedOptions(LayerOptions):
    """Options of [connected]."""

    output: int = option(1, minimum=1)
    activation: str = activation_option("logistic")
    batch_normalize: bool = option(False)


class ConnectedLayer(batchnorm.BatchNormalized):
    """A fully connected layer. Arrays: weights (outputs, inputs), biases (outputs,); with batch normalization also
    scales, rolling_mean, rolling_variance (outputs,); updates of the same shapes when training."""

    type = "connected"
    sections = ("connected", "conn")
    options_class = ConnectedOptions
    options: ConnectedOptions

    def __init__(self, options: ConnectedOptions, context: Context) -> None:
        self.activation = options.activation
        self.batch_normalize = options.batch_normalize
        super().__init__(options, context)

    @property
    def convention(self) -> BatchNormConvention:
        return self.context.convention.for_connected()

    def shape(self) -> None:
        if self.inputs < 1:
            raise self.context.error("needs an input; [net] gives neither inputs nor width, height and channels")
        self.outputs = self.options.output
        self.out_h, self.out_w, self.out_c = 1, 1, self.outputs

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.batch, self.outputs)

    def buffers(self) -> list[Buffer]:
        matrix = (self.outputs, self.inputs)
        declared = [
            Buffer("weights", matrix, Role.PARAMETER),
            Buffer("weight_updates", matrix, Role.UPDATE, training=True),
            Buffer("biases", (self.outputs,), Role.PARAMETER),
            Buffer("bias_updates", (self.outputs,), Role.UPDATE, training=True),
            *self.output_buffers(),
            *activation_buffers(self.activation, self.output_shape),
        ]
        if self.batch_normalize:
            declared += batchnorm.channel_buffers(self.outputs, self.convention) + batchnorm.sample_buffers(
                self.output_shape
            )
        return declared

    def initialize(self, rng: np.random.Generator) -> None:
        # Both dialects draw connected weights uniformly.
        scale = math.sqrt(2.0 / self.inputs)
        self.weights[...] = self.backend.array(rng.uniform(-scale, scale, self.weights.shape))

    def weights_order(self) -> tuple[str, ...]:
        return ("biases", "weights", *(batchnorm.FILE_ORDER if self.batch_normalize else ()))

    def forward(self, net: NetworkState) -> None:
        forward_connected_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_connected_layer(self, net)

    def update(self, args: UpdateArgs) -> None:
        update_connected_layer(self, args)

    def reshape(self, w: int, h: int, c: int, inputs: int) -> None:
        if inputs != self.inputs:
            raise self.context.error(f"has {self.inputs} inputs and cannot take {inputs}: its weights fix the size")
        super().reshape(w, h, c, inputs)

    @property
    def flops(self) -> int:
        return 2 * self.inputs * self.outputs

    def describe(self) -> tuple[str, str]:
        return str(self.outputs), ""


def make_connected_layer(
    batch: int,
    inputs: int,
    outputs: int,
    activation: str,
    batch_normalize: bool = False,
    *,
    seed: int | None = None,
    **context: Any,
) -> ConnectedLayer:
    """A connected layer outside a network, ready to train.

    Args:
        batch, inputs, outputs: sizes.
        activation: its name.
        batch_normalize: whether to normalize before the activation.
        seed: of the initial weights.
        context: further fields of `Context` (backend, dialect, convention).
    """
    options = ConnectedOptions(output=outputs, activation=activation, batch_normalize=batch_normalize)
    l = ConnectedLayer(options, Context(batch=batch, inputs=inputs, **context))
    l.allocate(training=True)
    l.initialize(np.random.default_rng(seed))
    return l


def _gemm(l: ConnectedLayer, net: NetworkState, a: Any, b: Any, c: Any, trans: tuple[int, int], beta: float) -> None:
    """c = op(a) op(b) + beta c."""
    m, n = c.shape
    k = a.shape[0] if trans[0] else a.shape[1]
    workspace = net.workspace(l.backend.gemm.gemm_workspace(m, n, k, net.threads), l.backend)
    l.backend.gemm.gemm(a, b, c, workspace, *trans, 1.0, beta, net.threads)


def forward_connected_layer(l: ConnectedLayer, net: NetworkState) -> None:
    """output = activation(batch normalization of input times weights + biases)."""
    x = net.input.reshape(l.batch, l.inputs)
    _gemm(l, net, x, l.weights, l.x if l.batch_normalize and net.batch_statistics else l.output, (0, 1), 0.0)
    if l.batch_normalize:
        batchnorm.forward_batchnorm_layer(l, net)
    else:
        l.backend.bias.add_bias(l.output.reshape(l.batch, l.outputs, 1), l.biases, net.threads)
    activate_array(l, net)


def backward_connected_layer(l: ConnectedLayer, net: NetworkState) -> None:
    """Updates from delta; adds the input's gradient to net.delta."""
    gradient_array(l, net)
    if l.batch_normalize:
        batchnorm.backward_batchnorm_layer(l, net)
    else:
        l.backend.bias.backward_bias(l.bias_updates, l.delta.reshape(l.batch, l.outputs, 1), net.threads)
    x = net.input.reshape(l.batch, l.inputs)
    _gemm(l, net, l.delta, x, l.weight_updates, (1, 0), 1.0)
    if net.delta is not None:
        _gemm(l, net, l.delta, l.weights, net.delta.reshape(l.batch, l.inputs), (0, 0), 1.0)


def update_connected_layer(l: ConnectedLayer, args: UpdateArgs) -> None:
    """One step of gradient descent with momentum; weight decay acts on the weights only."""
    apply_updates(l, args)


def resize_connected_layer(l: ConnectedLayer, w: int, h: int) -> None:
    """Take an input of w x h; only one with as many values as before is possible."""
    l.resize(w, h)
