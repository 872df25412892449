"""[reorg3d]: blocks of stride x stride pixels become channels (dialect alexeyab).

    output[b, (dy*stride + dx)*c + k, y, x] = input[b, k, y*stride + dy, x*stride + dx]

With reverse=1 channels become blocks: the inverse.

Departures from Darknet: reverse=1 is what it says (Darknet reads outside its arrays); the gradient is added to the
delta of the layer before instead of overwriting it; rows and columns that do not fill a block are an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkbn.layers.base import Context, Layer, LayerOptions
from darkbn.options import option
from darkbn.state import NetworkState


@dataclass(frozen=True, kw_only=True)
class Reorg3dOptions(LayerOptions):
    """Options of [reorg3d]."""

    stride: int = option(1, minimum=1)
    reverse: bool = option(False)


class Reorg3dLayer(Layer):
    """Space to depth, or depth to space with reverse=1."""

    type = "reorg3d"
    sections = ("reorg3d",)
    options_class = Reorg3dOptions
    options: Reorg3dOptions

    def shape(self) -> None:
        self.context.require_image("[reorg3d]")
        stride = self.options.stride
        if self.options.reverse:
            if self.c % stride**2:
                raise self.context.error(f"stride*stride must divide the {self.c} input channels", key="stride")
            self.set_output(self.h * stride, self.w * stride, self.c // stride**2)
            return
        if self.h % stride or self.w % stride:
            raise self.context.error(f"must divide the input's size, {self.w} x {self.h}", key="stride")
        self.set_output(self.h // stride, self.w // stride, self.c * stride**2)

    def forward(self, net: NetworkState) -> None:
        forward_reorg3d_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_reorg3d_layer(self, net)

    def describe(self) -> tuple[str, str]:
        return "", f"/ {self.options.stride}"


def make_reorg3d_layer(
    batch: int, w: int, h: int, c: int, stride: int, reverse: bool = False, **context: Any
) -> Reorg3dLayer:
    """Space to depth outside a network, ready to train.

    Args:
        batch, w, h, c: input shape.
        stride: edge of a block.
        reverse: depth to space instead.
        context: further fields of `Context` (backend).
    """
    options = Reorg3dOptions(stride=stride, reverse=reverse)
    l = Reorg3dLayer(options, Context(batch=batch, h=h, w=w, c=c, inputs=h * w * c, **context))
    l.allocate(training=True)
    return l


def forward_reorg3d_layer(l: Reorg3dLayer, net: NetworkState) -> None:
    """output = input, rearranged."""
    kernels = l.backend.spatial
    kernel = kernels.depth_to_space if l.options.reverse else kernels.space_to_depth
    kernel(net.input.reshape(l.batch, l.c, l.h, l.w), l.output, l.options.stride, net.threads)


def backward_reorg3d_layer(l: Reorg3dLayer, net: NetworkState) -> None:
    """Adds delta, rearranged back, to net.delta."""
    if net.delta is None:
        return
    kernels = l.backend.spatial
    kernel = kernels.space_to_depth_add if l.options.reverse else kernels.depth_to_space_add
    kernel(l.delta, net.delta.reshape(l.batch, l.c, l.h, l.w), l.options.stride, net.threads)


def resize_reorg3d_layer(l: Reorg3dLayer, w: int, h: int) -> None:
    """Take an input of w x h."""
    l.resize(w, h)
