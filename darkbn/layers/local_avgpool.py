"""[local_avgpool] ([local_avg]): the mean of the pixels under each window (dialect alexeyab).

A window covers size x size pixels from y*stride_y - padding/2 and x*stride_x - padding/2; those outside the image do
not count. The output is (in + padding - size) / stride + 1 wide and high; padding is size - 1 unless given.

Departure from Darknet: the gradient divides by the number of pixels that counted, as the mean does
(ab-local-avgpool-backward-divides-by-full-window).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkbn.geometry import MAX_WINDOW, pooled_size
from darkbn.layers.base import Context, Layer, LayerOptions
from darkbn.options import option
from darkbn.state import NetworkState


@dataclass(frozen=True, kw_only=True)
class LocalAvgpoolOptions(LayerOptions):
    """Options of [local_avgpool]."""

    stride: int = option(1, minimum=1)
    stride_x: int = option(derived=lambda o: o.stride, minimum=1)
    stride_y: int = option(derived=lambda o: o.stride, minimum=1)
    size: int = option(derived=lambda o: o.stride, minimum=1, maximum=MAX_WINDOW)
    padding: int = option(derived=lambda o: o.size - 1, minimum=0)


class LocalAvgpoolLayer(Layer):
    """Means over windows."""

    type = "local_avgpool"
    sections = ("local_avgpool", "local_avg")
    options_class = LocalAvgpoolOptions
    options: LocalAvgpoolOptions

    def shape(self) -> None:
        self.context.require_image("[local_avgpool]")
        o = self.options
        out_h = pooled_size(self.h, o.size, o.stride_y, o.padding)
        out_w = pooled_size(self.w, o.size, o.stride_x, o.padding)
        self.set_output(out_h, out_w, self.c)

    def forward(self, net: NetworkState) -> None:
        forward_local_avgpool_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_local_avgpool_layer(self, net)

    @property
    def flops(self) -> int:
        return self.options.size**2 * self.outputs

    def describe(self) -> tuple[str, str]:
        o = self.options
        stride = f"{o.stride_x}" if o.stride_x == o.stride_y else f"{o.stride_x},{o.stride_y}"
        return "", f"{o.size} x {o.size} / {stride}"


def make_local_avgpool_layer(
    batch: int, h: int, w: int, c: int, size: int, stride_x: int, stride_y: int, padding: int, **context: Any
) -> LocalAvgpoolLayer:
    """Means over windows outside a network, ready to train.

    Args:
        batch, h, w, c: input shape.
        size, stride_x, stride_y, padding: see the module.
        context: further fields of `Context` (backend).
    """
    options = LocalAvgpoolOptions(size=size, stride_x=stride_x, stride_y=stride_y, padding=padding)
    l = LocalAvgpoolLayer(options, Context(batch=batch, h=h, w=w, c=c, inputs=h * w * c, **context))
    l.allocate(training=True)
    return l


def _windows(l: LocalAvgpoolLayer) -> tuple[int, int, int, int]:
    o = l.options
    return o.size, o.stride_y, o.stride_x, o.padding


def forward_local_avgpool_layer(l: LocalAvgpoolLayer, net: NetworkState) -> None:
    """output = mean of each window."""
    x = net.input.reshape(l.batch, l.c, l.h, l.w)
    l.backend.pooling.local_avgpool(x, l.output, *_windows(l), net.threads)


def backward_local_avgpool_layer(l: LocalAvgpoolLayer, net: NetworkState) -> None:
    """Adds each delta, divided by the pixels of its window, to net.delta."""
    if net.delta is not None:
        input_delta = net.delta.reshape(l.batch, l.c, l.h, l.w)
        l.backend.pooling.local_avgpool_backward(l.delta, input_delta, *_windows(l), net.threads)


def resize_local_avgpool_layer(l: LocalAvgpoolLayer, w: int, h: int) -> None:
    """Take an input of w x h."""
    l.resize(w, h)
