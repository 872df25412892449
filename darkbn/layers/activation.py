"""[activation]: an activation function as a layer of its own, and what layers with an activation inside share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkbn.activations import CHANNEL_KINDS, CODES, activation_option, needs_input
from darkbn.layers.base import Buffer, Context, Layer, LayerOptions, Role
from darkbn.state import NetworkState


def activation_buffers(name: str, shape: tuple[int, ...]) -> list[Buffer]:
    """The array that keeps the activation's input, where its gradient is a function of it."""
    if needs_input(CODES[name]):
        return [Buffer("activation_input", shape, Role.SCRATCH, training=True)]
    return []


def _by_channel(l: Layer, array: Any) -> Any:
    channels = l.out_c or l.outputs
    return array.reshape(l.batch, channels, -1)


def activate_array(l: Layer, net: NetworkState) -> None:
    """l.output = activation(l.output) in place; keeps the input when training and the gradient needs it."""
    kind, kernels = CODES[l.activation], l.backend.activation
    keep = net.batch_statistics and needs_input(kind)  # frozen layers have no way back
    if kind in CHANNEL_KINDS:
        if keep:
            l.activation_input[...] = l.output
        rows = _by_channel(l, l.output)
        kernels.forward_channels(rows, rows, kind, net.threads)
    elif keep:
        kernels.forward_saved(l.output, l.activation_input, kind, net.threads)
    elif l.activation != "linear":
        kernels.forward(l.output, kind, net.threads)


def gradient_array(l: Layer, net: NetworkState) -> None:
    """l.delta *= derivative of the activation, in place."""
    _gradient(l, l.activation_input if needs_input(CODES[l.activation]) else l.output, net)


def _gradient(l: Layer, values: Any, net: NetworkState) -> None:
    kind, kernels = CODES[l.activation], l.backend.activation
    if kind in CHANNEL_KINDS:
        kernels.gradient_channels(_by_channel(l, values), _by_channel(l, l.delta), kind, net.threads)
    elif l.activation != "linear":
        kernels.gradient(values, l.delta, kind, net.threads)


@dataclass(frozen=True, kw_only=True)
class ActivationOptions(LayerOptions):
    """Options of [activation]."""

    activation: str = activation_option("linear")


class ActivationLayer(Layer):
    """output = activation(input), same shape.

    Departure from Darknet: swish, mish and hard_mish work here too (ab-activation-only-in-conv), and the gradient is
    added to the delta of the layer before instead of overwriting it.
    """

    type = "activation"
    sections = ("activation",)
    options_class = ActivationOptions

    def __init__(self, options: ActivationOptions, context: Context) -> None:
        self.activation = options.activation
        super().__init__(options, context)

    def shape(self) -> None:
        self.out_h, self.out_w, self.out_c, self.outputs = self.h, self.w, self.c, self.inputs

    def forward(self, net: NetworkState) -> None:
        forward_activation_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_activation_layer(self, net)


def make_activation_layer(batch: int, inputs: int, activation: str, **context: Any) -> ActivationLayer:
    """An activation layer outside a network, ready to train.

    Args:
        batch, inputs: sizes.
        activation: its name.
        context: further fields of `Context` (h, w, c, backend, dialect).
    """
    l = ActivationLayer(ActivationOptions(activation=activation), Context(batch=batch, inputs=inputs, **context))
    l.allocate(training=True)
    return l


def forward_activation_layer(l: ActivationLayer, net: NetworkState) -> None:
    """output = activation(input)."""
    kind, kernels, x = CODES[l.activation], l.backend.activation, net.input.reshape(l.output.shape)
    if kind in CHANNEL_KINDS:
        kernels.forward_channels(_by_channel(l, x), _by_channel(l, l.output), kind, net.threads)
    else:
        kernels.forward_to(x, l.output, kind, net.threads)


def backward_activation_layer(l: ActivationLayer, net: NetworkState) -> None:
    """delta becomes the gradient before the activation and is added to net.delta."""
    _gradient(l, net.input.reshape(l.output.shape) if needs_input(CODES[l.activation]) else l.output, net)
    if net.delta is not None:
        net.delta += l.delta.reshape(net.delta.shape)


def resize_activation_layer(l: ActivationLayer, w: int, h: int) -> None:
    """Take an input of w x h."""
    l.resize(w, h)
