"""[scale_channels]: an earlier layer's maps, each times one value of the input (squeeze and excitation).

    output[b, c, y, x] = activation(input[b, c] * from[b, c, y, x])            scale_wh=0
    output[b, c, y, x] = activation(input[b, 0, y, x] * from[b, c, y, x])      scale_wh=1

Departure from Darknet: activations that keep their input (swish, mish, ...) work (ab-activation-only-in-conv).
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
class ScaleChannelsOptions(LayerOptions):
    """Options of [scale_channels]."""

    source: int = option(key="from", required=True)
    scale_wh: bool = option(False)
    activation: str = activation_option("linear")


class ScaleChannelsLayer(Layer):
    """Maps of `source`, scaled by the input; output is shaped like the source's."""

    type = "scale_channels"
    sections = ("scale_channels",)
    options_class = ScaleChannelsOptions
    options: ScaleChannelsOptions

    def __init__(self, options: ScaleChannelsOptions, context: Context) -> None:
        self.source = context.find_layer(options.source)
        self.activation = options.activation
        super().__init__(options, context)

    def shape(self) -> None:
        source = self.source
        self.set_output(source.out_h, source.out_w, source.out_c)
        wanted = (1, self.out_h, self.out_w) if self.options.scale_wh else (self.out_c, 1, 1)
        found = (self.c, self.h, self.w) if self.c else (self.inputs, 1, 1)
        if found != wanted:
            raise self.context.error(
                f"layer {source.context.index} gives {self.out_w} x {self.out_h} x {self.out_c} (width, height,"
                f" channels), so the input must be {wanted[2]} x {wanted[1]} x {wanted[0]},"
                f" found {found[2]} x {found[1]} x {found[0]}",
                key="from",
            )

    def buffers(self) -> list[Buffer]:
        return self.output_buffers() + activation_buffers(self.activation, self.output_shape)

    @property
    def gradient_sources(self) -> Sequence[Layer]:
        return (self.source,)

    def forward(self, net: NetworkState) -> None:
        forward_scale_channels_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_scale_channels_layer(self, net)

    @property
    def flops(self) -> int:
        return self.outputs


def make_scale_channels_layer(
    batch: int, index: int, scale_wh: bool = False, activation: str = "linear", **context: Any
) -> ScaleChannelsLayer:
    """A scaling of channels outside a network, ready to train.

    Args:
        batch: samples.
        index: which of `layers` is scaled.
        scale_wh: whether there is one scale per pixel instead of one per channel.
        activation: its name.
        context: further fields of `Context`: h, w, c, inputs of the scales, layers, index.
    """
    options = ScaleChannelsOptions(source=index, scale_wh=scale_wh, activation=activation)
    l = ScaleChannelsLayer(options, Context(batch=batch, **context))
    l.allocate(training=True)
    return l


def _arrays(l: ScaleChannelsLayer, *maps: Any) -> tuple[Any, ...]:
    return tuple(array.reshape(l.batch, l.out_c, l.out_h * l.out_w) for array in maps)


def forward_scale_channels_layer(l: ScaleChannelsLayer, net: NetworkState) -> None:
    """output = activation(input * source)."""
    kernel = l.backend.channels.scale_pixels if l.options.scale_wh else l.backend.channels.scale
    maps, out = _arrays(l, l.source.output, l.output)
    kernel(maps, net.input.reshape(l.batch, -1), out, net.threads)
    activate_array(l, net)


def backward_scale_channels_layer(l: ScaleChannelsLayer, net: NetworkState) -> None:
    """Adds the gradients of the scales to net.delta and of the maps to the source's delta."""
    gradient_array(l, net)
    kernels, pixels = l.backend.channels, l.options.scale_wh
    scale_add, dot_add = (
        (kernels.scale_pixels_add, kernels.dot_pixels_add) if pixels else (kernels.scale_add, kernels.dot_add)
    )
    maps, delta, source_delta = _arrays(l, l.source.output, l.delta, l.source.delta)
    if net.delta is not None:
        dot_add(maps, delta, net.delta.reshape(l.batch, -1), net.threads)
    scale_add(delta, net.input.reshape(l.batch, -1), source_delta, net.threads)


def resize_scale_channels_layer(l: ScaleChannelsLayer, w: int, h: int) -> None:
    """Take scales of w x h and the source's new size."""
    l.resize(w, h)
