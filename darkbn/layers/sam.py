"""[sam]: the input times an earlier layer, value by value (spatial attention).

    output = activation(input * from)

Departures from Darknet: the gradient is added to the delta of the earlier layer
(ab-sam-backward-overwrites-from-delta); activations that keep their input work (ab-activation-only-in-conv).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from darkbn.activations import activation_option
from darkbn.layers.activation import activate_array, activation_buffers, gradient_array
from darkbn.layers.base import Buffer, Context, Layer, LayerOptions
from darkbn.options import option
from darkbn.state import NetworkState


@dataclass(frozen=True, kw_only=True)
class SamOptions(LayerOptions):
    """Options of [sam]."""

    source: int = option(key="from", required=True)
    activation: str = activation_option("linear")


class SamLayer(Layer):
    """Input times `source`; both have the same shape."""

    type = "sam"
    sections = ("sam",)
    options_class = SamOptions
    options: SamOptions

    def __init__(self, options: SamOptions, context: Context) -> None:
        self.source = context.find_layer(options.source)
        self.activation = options.activation
        super().__init__(options, context)

    def shape(self) -> None:
        source = self.source
        wanted = (source.out_w, source.out_h, source.out_c, source.outputs)
        found = (self.w, self.h, self.c, self.inputs)
        if found != wanted:
            raise self.context.error(
                f"the input must have the shape of layer {source.context.index},"
                f" {' x '.join(map(str, wanted[:3]))} (width, height, channels), found"
                f" {' x '.join(map(str, found[:3]))}",
                key="from",
            )
        self.out_h, self.out_w, self.out_c, self.outputs = self.h, self.w, self.c, self.inputs

    def buffers(self) -> list[Buffer]:
        return self.output_buffers() + activation_buffers(self.activation, self.output_shape)

    @property
    def gradient_sources(self) -> Sequence[Layer]:
        return (self.source,)

    def forward(self, net: NetworkState) -> None:
        forward_sam_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_sam_layer(self, net)

    @property
    def flops(self) -> int:
        return self.outputs


def make_sam_layer(batch: int, index: int, activation: str = "linear", **context: Any) -> SamLayer:
    """A product of two layers outside a network, ready to train.

    Args:
        batch: samples.
        index: which of `layers` the input is multiplied by.
        activation: its name.
        context: further fields of `Context`: h, w, c, inputs of the input, layers, index.
    """
    l = SamLayer(SamOptions(source=index, activation=activation), Context(batch=batch, **context))
    l.allocate(training=True)
    return l


def forward_sam_layer(l: SamLayer, net: NetworkState) -> None:
    """output = activation(input * source)."""
    arrays = (net.input, l.source.output, l.output)
    l.backend.channels.multiply(*(array.reshape(-1) for array in arrays), net.threads)
    activate_array(l, net)


def backward_sam_layer(l: SamLayer, net: NetworkState) -> None:
    """Adds the gradients to net.delta and to the source's delta."""
    gradient_array(l, net)
    delta, multiply_add = l.delta.reshape(-1), l.backend.channels.multiply_add
    if net.delta is not None:
        multiply_add(delta, l.source.output.reshape(-1), net.delta.reshape(-1), net.threads)
    multiply_add(delta, net.input.reshape(-1), l.source.delta.reshape(-1), net.threads)


def resize_sam_layer(l: SamLayer, w: int, h: int) -> None:
    """Take an input of w x h; the source must have that size already."""
    l.resize(w, h)
