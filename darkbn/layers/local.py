"""[local]: a convolution with weights and biases of its own at every place.

    z[b, n, y, x] = biases[n, y, x] + sum over c, i, j of weights[y, x, n, c, i, j]
        * input[b, c, y*stride + i - pad, x*stride + j - pad]
    output = activation(z)

With pad=0 the output is (in - size) / stride + 1 wide and high, else (in - 1) / stride + 1 with size/2 zeros before the
first pixel.

Departures from Darknet: the layer learns in both dialects (ab-layer-without-train-flag-is-not-updated); all weights
start random, not only those of the first place; pad is on or off (Darknet takes it for the number of zeros and mixes up
rows unless that is (size - 1) / 2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from darkbn.activations import activation_option
from darkbn.layers.activation import activate_array, activation_buffers, gradient_array
from darkbn.layers.base import Buffer, Context, Layer, LayerOptions, Role, apply_updates
from darkbn.options import option
from darkbn.state import NetworkState, UpdateArgs


@dataclass(frozen=True, kw_only=True)
class LocalOptions(LayerOptions):
    """Options of [local]."""

    filters: int = option(1, minimum=1)
    size: int = option(1, minimum=1)
    stride: int = option(1, minimum=1)
    pad: bool = option(False)
    activation: str = activation_option("logistic")


class LocalLayer(Layer):
    """A locally connected layer. Arrays: weights (out_h, out_w, filters, c, size, size), biases (filters, out_h,
    out_w), updates of the same shapes when training. Its input keeps its size."""

    type = "local"
    sections = ("local",)
    options_class = LocalOptions
    options: LocalOptions

    def __init__(self, options: LocalOptions, context: Context) -> None:
        context.require_image("[local]")
        self.n, self.size, self.stride = options.filters, options.size, options.stride
        self.pad = options.size // 2 if options.pad else 0
        self.activation = options.activation
        super().__init__(options, context)

    def shape(self) -> None:
        covered = 1 if self.options.pad else self.size
        out_h, out_w = ((length - covered) // self.stride + 1 for length in (self.h, self.w))
        if self.outputs and (out_h, out_w) != (self.out_h, self.out_w):
            raise self.context.error(
                f"has weights for {self.out_w} x {self.out_h} places; an input of {self.w} x {self.h} would need"
                f" {out_w} x {out_h}: the network cannot be resized"
            )
        self.set_output(out_h, out_w, self.n)

    def buffers(self) -> list[Buffer]:
        weights = (self.out_h, self.out_w, self.n, self.c, self.size, self.size)
        biases = (self.n, self.out_h, self.out_w)
        return [
            Buffer("weights", weights, Role.PARAMETER),
            Buffer("weight_updates", weights, Role.UPDATE, training=True),
            Buffer("biases", biases, Role.PARAMETER),
            Buffer("bias_updates", biases, Role.UPDATE, training=True),
            *self.output_buffers(),
            *activation_buffers(self.activation, self.output_shape),
        ]

    def initialize(self, rng: np.random.Generator) -> None:
        scale = math.sqrt(2.0 / (self.c * self.size**2))
        self.weights[...] = self.backend.array(rng.uniform(-scale, scale, self.weights.shape))

    def weights_order(self) -> tuple[str, ...]:
        return ("biases", "weights")

    def forward(self, net: NetworkState) -> None:
        forward_local_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_local_layer(self, net)

    def update(self, args: UpdateArgs) -> None:
        update_local_layer(self, args)

    @property
    def flops(self) -> int:
        return 2 * self.outputs * self.c * self.size**2

    def describe(self) -> tuple[str, str]:
        return str(self.n), f"{self.size} x {self.size} / {self.stride}"


def make_local_layer(
    batch: int,
    h: int,
    w: int,
    c: int,
    n: int,
    size: int,
    stride: int,
    pad: bool,
    activation: str,
    *,
    seed: int | None = None,
    **context: Any,
) -> LocalLayer:
    """A locally connected layer outside a network, ready to train.

    Args:
        batch, h, w, c: input shape.
        n, size, stride: filters, edge of the window, step.
        pad: whether zeros surround the image.
        activation: its name.
        seed: of the initial weights.
        context: further fields of `Context` (backend, dialect).
    """
    options = LocalOptions(filters=n, size=size, stride=stride, pad=pad, activation=activation)
    l = LocalLayer(options, Context(batch=batch, h=h, w=w, c=c, inputs=h * w * c, **context))
    l.allocate(training=True)
    l.initialize(np.random.default_rng(seed))
    return l


def _workspace(l: LocalLayer, net: NetworkState, kernel: str) -> Any:
    size = getattr(l.backend.local, f"{kernel}_workspace")(l.batch, l.c, l.size, net.threads)
    return net.workspace(size, l.backend)


def forward_local_layer(l: LocalLayer, net: NetworkState) -> None:
    """output = activation(biases + weights times the pixels under each window)."""
    x = net.input.reshape(l.batch, l.c, l.h, l.w)
    workspace = _workspace(l, net, "forward")
    l.backend.local.forward(x, l.weights, l.biases, l.output, workspace, l.stride, l.pad, net.threads)
    activate_array(l, net)


def backward_local_layer(l: LocalLayer, net: NetworkState) -> None:
    """Updates from delta; adds the input's gradient to net.delta."""
    gradient_array(l, net)
    kernels, geometry = l.backend.local, (l.stride, l.pad, net.threads)
    by_sample = l.delta.reshape(l.batch, l.outputs, 1)
    l.backend.bias.backward_bias(l.bias_updates.reshape(-1), by_sample, net.threads)
    x = net.input.reshape(l.batch, l.c, l.h, l.w)
    kernels.backward_weights(x, l.delta, l.weight_updates, _workspace(l, net, "backward_weights"), *geometry)
    if net.delta is not None:
        input_delta = net.delta.reshape(l.batch, l.c, l.h, l.w)
        kernels.backward_input(l.weights, l.delta, input_delta, _workspace(l, net, "backward_input"), *geometry)


def update_local_layer(l: LocalLayer, args: UpdateArgs) -> None:
    """One step of gradient descent with momentum; weight decay acts on the weights only."""
    apply_updates(l, args)


def resize_local_layer(l: LocalLayer, w: int, h: int) -> None:
    """Take an input of w x h; only one with as many places as before is possible."""
    l.resize(w, h)
