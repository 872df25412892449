"""[avgpool] ([avg]): the mean of each channel; output is c values, an image of 1 x 1.

output[b, c] = sum of input[b, c, y, x] / (h*w)
"""

from __future__ import annotations

from typing import Any

from darkbn.layers.base import Context, Layer, LayerOptions
from darkbn.state import NetworkState


class AvgpoolLayer(Layer):
    """Means over whole planes."""

    type = "avgpool"
    sections = ("avgpool", "avg")

    def shape(self) -> None:
        self.context.require_image("[avgpool]")
        self.set_output(1, 1, self.c)

    def forward(self, net: NetworkState) -> None:
        forward_avgpool_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_avgpool_layer(self, net)

    @property
    def flops(self) -> int:
        return self.inputs


def make_avgpool_layer(batch: int, w: int, h: int, c: int, **context: Any) -> AvgpoolLayer:
    """An avgpool layer outside a network, ready to train.

    Args:
        batch, w, h, c: input shape.
        context: further fields of `Context` (backend).
    """
    l = AvgpoolLayer(LayerOptions(), Context(batch=batch, h=h, w=w, c=c, inputs=h * w * c, **context))
    l.allocate(training=True)
    return l


def _planes(l: AvgpoolLayer, array: Any) -> Any:
    return array.reshape(l.batch, l.c, l.h * l.w)


def forward_avgpool_layer(l: AvgpoolLayer, net: NetworkState) -> None:
    """output = mean of each plane."""
    l.backend.pooling.avgpool(_planes(l, net.input), l.output.reshape(l.batch, l.c), net.threads)


def backward_avgpool_layer(l: AvgpoolLayer, net: NetworkState) -> None:
    """Adds delta / (h*w) to every pixel of net.delta."""
    if net.delta is not None:
        l.backend.pooling.avgpool_backward(l.delta.reshape(l.batch, l.c), _planes(l, net.delta), net.threads)


def resize_avgpool_layer(l: AvgpoolLayer, w: int, h: int) -> None:
    """Take an input of w x h."""
    l.resize(w, h)
