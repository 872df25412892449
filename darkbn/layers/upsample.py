"""[upsample]: each pixel repeated in a block of stride x stride, or with a negative stride each block summed.

    output[b, c, y, x] = scale * input[b, c, y / stride, x / stride]                                 stride > 0
    output[b, c, y, x] = scale * sum over i, j < s of input[b, c, y*s + i, x*s + j], s = -stride     stride < 0

Departures from Darknet: where a negative stride does not divide the input, rows and columns of the rest do not
count (Darknet reads rows of the wrong length); its gradient is added to the delta of the layer before instead of
overwriting it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkbn.layers.base import Context, Layer, LayerOptions
from darkbn.options import option
from darkbn.state import NetworkState


@dataclass(frozen=True, kw_only=True)
class UpsampleOptions(LayerOptions):
    """Options of [upsample]."""

    stride: int = option(2)
    scale: float = option(1.0)


class UpsampleLayer(Layer):
    """A larger image (`reverse`: a smaller one). Darknet's fields: stride (positive), reverse, scale."""

    type = "upsample"
    sections = ("upsample",)
    options_class = UpsampleOptions
    options: UpsampleOptions

    def __init__(self, options: UpsampleOptions, context: Context) -> None:
        context.require_image("[upsample]")
        if options.stride == 0:
            raise context.error("must not be 0: 2 doubles the size, -2 halves it", key="stride")
        self.stride, self.reverse, self.scale = abs(options.stride), options.stride < 0, options.scale
        super().__init__(options, context)

    def shape(self) -> None:
        if self.reverse:
            self.set_output(self.h // self.stride, self.w // self.stride, self.c)
        else:
            self.set_output(self.h * self.stride, self.w * self.stride, self.c)

    def forward(self, net: NetworkState) -> None:
        forward_upsample_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_upsample_layer(self, net)

    def describe(self) -> tuple[str, str]:
        return "", f"{'/' if self.reverse else ''}{self.stride}x"


def make_upsample_layer(
    batch: int, w: int, h: int, c: int, stride: int, scale: float = 1.0, **context: Any
) -> UpsampleLayer:
    """An upsample layer outside a network, ready to train.

    Args:
        batch, w, h, c: input shape.
        stride: how many times as wide and high; negative: sums blocks of that size.
        scale: factor of the output.
        context: further fields of `Context` (backend).
    """
    options = UpsampleOptions(stride=stride, scale=scale)
    l = UpsampleLayer(options, Context(batch=batch, h=h, w=w, c=c, inputs=h * w * c, **context))
    l.allocate(training=True)
    return l


def forward_upsample_layer(l: UpsampleLayer, net: NetworkState) -> None:
    """output = scale * the input's pixels, repeated or summed."""
    kernel = l.backend.spatial.downsample if l.reverse else l.backend.spatial.upsample
    kernel(net.input.reshape(l.batch, l.c, l.h, l.w), l.output, l.stride, l.scale, net.threads)


def backward_upsample_layer(l: UpsampleLayer, net: NetworkState) -> None:
    """Adds scale * delta, summed or repeated, to net.delta."""
    if net.delta is None:
        return
    kernel = l.backend.spatial.downsample_backward if l.reverse else l.backend.spatial.upsample_backward
    kernel(l.delta, net.delta.reshape(l.batch, l.c, l.h, l.w), l.stride, l.scale, net.threads)


def resize_upsample_layer(l: UpsampleLayer, w: int, h: int) -> None:
    """Take an input of w x h."""
    l.resize(w, h)
