"""[maxpool] ([max]): the maximum of each window, or with maxpool_depth=1 of groups of channels.

    output[b, c, y, x] = max over i, j < size of input[b, c, y*stride_y - padding/2 + i, x*stride_x - padding/2 + j]

Pixels outside the image do not count. The output is (in + padding - size) / stride + 1 wide and high; padding is
size - 1 unless given, so that stride 1 keeps the size. Of equal values the first in row-major order is taken: the
gradient goes there. With maxpool_depth=1 (dialect alexeyab) size, stride and padding have no meaning:

    output[b, g, y, x] = max over k with k mod out_channels = g of input[b, k, y, x]

With maxpool_zero_nonmax=1 (dialect alexeyab) the output is the input where that is the maximum of its own window, else
0 (on every backend; Darknet's CPU code does not know it). It must be as large as the input. The gradient is the
derivative (ab-zero-nonmax-passes-deltas-of-neighbours).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkbn.geometry import MAX_WINDOW, pooled_size
from darkbn.layers.antialiasing import AntialiasedLayer
from darkbn.layers.base import Buffer, Context, Layer, LayerOptions, Role
from darkbn.options import option
from darkbn.state import NetworkState


@dataclass(frozen=True, kw_only=True)
class MaxpoolOptions(LayerOptions):
    """Options of [maxpool]."""

    stride: int = option(1, minimum=1)
    stride_x: int = option(derived=lambda o: o.stride, only="alexeyab", minimum=1)
    stride_y: int = option(derived=lambda o: o.stride, only="alexeyab", minimum=1)
    size: int = option(derived=lambda o: o.stride, minimum=1, maximum=MAX_WINDOW)
    padding: int = option(derived=lambda o: o.size - 1, minimum=0)
    maxpool_depth: bool = option(False, only="alexeyab")
    out_channels: int = option(1, only="alexeyab", minimum=1)
    antialiasing: int = option(0, only="alexeyab")
    maxpool_zero_nonmax: bool = option(False, only="alexeyab")


class MaxpoolLayer(Layer):
    """Maxima over windows. Arrays: indexes, shaped like output, when training: where in its plane each maximum is
    (row*w + column; with maxpool_depth its channel), -1 for none. Darknet's count from the start of the whole array."""

    type = "maxpool"
    sections = ("maxpool", "max")
    options_class = MaxpoolOptions
    options: MaxpoolOptions
    replaces_deltas = True

    @classmethod
    def build(cls, options: MaxpoolOptions, context: Context) -> Layer:
        if options.antialiasing:
            return AntialiasedMaxpoolLayer(options, context)
        only_maxima = options.maxpool_zero_nonmax and not options.maxpool_depth
        return MaximaLayer(options, context) if only_maxima else cls(options, context)

    def __init__(self, options: MaxpoolOptions, context: Context) -> None:
        context.require_image("[maxpool]")
        self.size, self.pad = options.size, options.padding
        self.stride, self.stride_x, self.stride_y = options.stride, options.stride_x, options.stride_y
        self.maxpool_depth, self.out_channels = options.maxpool_depth, options.out_channels
        super().__init__(options, context)

    def shape(self) -> None:
        if self.maxpool_depth:
            if self.out_channels > self.c:
                raise self.context.error(f"must be at most the {self.c} channels of the input", key="out_channels")
            self.set_output(self.h, self.w, self.out_channels)
            return
        out_h = pooled_size(self.h, self.size, self.stride_y, self.pad)
        out_w = pooled_size(self.w, self.size, self.stride_x, self.pad)
        self.set_output(out_h, out_w, self.c)

    def buffers(self) -> list[Buffer]:
        return [
            *self.output_buffers(),
            Buffer("indexes", self.output_shape, Role.SCRATCH, training=True, dtype="int32"),
        ]

    def forward(self, net: NetworkState) -> None:
        forward_maxpool_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_maxpool_layer(self, net)

    @property
    def flops(self) -> int:
        return self.h * self.w * self.c if self.maxpool_depth else self.size**2 * self.outputs

    def describe(self) -> tuple[str, str]:
        if self.maxpool_depth:
            return str(self.out_channels), "depth"
        stride = f"{self.stride_x}" if self.stride_x == self.stride_y else f"{self.stride_x},{self.stride_y}"
        return "", f"{self.size} x {self.size} / {stride}"


class MaximaLayer(MaxpoolLayer):
    """The input where it is the maximum of its window, else 0 (maxpool_zero_nonmax=1)."""

    replaces_deltas = False

    def shape(self) -> None:
        super().shape()
        if (self.out_w, self.out_h) != (self.w, self.h):
            raise self.context.error(
                f"the output must be as large as the input, {self.w} x {self.h}; size, stride and padding make it"
                f" {self.out_w} x {self.out_h}",
                key="maxpool_zero_nonmax",
            )

    def forward(self, net: NetworkState) -> None:
        super().forward(net)
        self.output[self.output != net.input.reshape(self.output_shape)] = 0

    def backward(self, net: NetworkState) -> None:
        if net.delta is not None:
            xp = self.backend.xp
            places = xp.arange(self.h * self.w).reshape(self.h, self.w)
            net.delta += xp.where(self.indexes == places, self.delta, 0).reshape(net.delta.shape)


class AntialiasedMaxpoolLayer(AntialiasedLayer):
    """Maxima with antialiasing=: see `darkbn.layers.antialiasing`."""

    type = "maxpool"
    options_class = MaxpoolOptions
    host_class = MaxpoolLayer


def make_maxpool_layer(
    batch: int,
    h: int,
    w: int,
    c: int,
    size: int,
    stride: int,
    padding: int | None = None,
    *,
    stride_x: int | None = None,
    stride_y: int | None = None,
    maxpool_depth: bool = False,
    out_channels: int = 1,
    **context: Any,
) -> MaxpoolLayer:
    """A maxpool layer outside a network, ready to train.

    Args:
        batch, h, w, c: input shape.
        size, stride, padding: of the windows; padding is the total of both sides, None = size - 1.
        stride_x, stride_y: strides along and down where they differ from `stride`.
        maxpool_depth, out_channels: maxima over channels instead, see the module.
        context: further fields of `Context` (backend, dialect).
    """
    options = MaxpoolOptions(
        stride=stride,
        stride_x=stride if stride_x is None else stride_x,
        stride_y=stride if stride_y is None else stride_y,
        size=size,
        padding=size - 1 if padding is None else padding,
        maxpool_depth=maxpool_depth,
        out_channels=out_channels,
    )
    l = MaxpoolLayer(options, Context(batch=batch, h=h, w=w, c=c, inputs=h * w * c, **context))
    l.allocate(training=True)
    return l


def _by_pixel(l: MaxpoolLayer, array: Any, channels: int) -> Any:
    return array.reshape(l.batch, channels, l.h * l.w)


def forward_maxpool_layer(l: MaxpoolLayer, net: NetworkState) -> None:
    """output = maximum of each window; indexes = its place, in training passes."""
    pooling, indexes = l.backend.pooling, l.indexes if net.train else None
    if l.maxpool_depth:
        out = _by_pixel(l, l.output, l.out_c)
        places = None if indexes is None else _by_pixel(l, indexes, l.out_c)
        pooling.maxpool_depth(_by_pixel(l, net.input, l.c), out, places, net.threads)
        return
    x = net.input.reshape(l.batch, l.c, l.h, l.w)
    pooling.maxpool(x, l.output, indexes, l.size, l.stride_y, l.stride_x, l.pad, net.threads)


def backward_maxpool_layer(l: MaxpoolLayer, net: NetworkState) -> None:
    """Adds each delta to net.delta where its maximum came from."""
    if net.delta is None:
        return
    if l.maxpool_depth:
        net.clear(net.delta, l.backend)
        delta, indexes = (_by_pixel(l, array, l.out_c) for array in (l.delta, l.indexes))
        l.backend.pooling.maxpool_depth_backward(delta, indexes, _by_pixel(l, net.delta, l.c), net.threads)
        return
    input_delta, accumulate = net.delta.reshape(l.batch, l.c, l.h, l.w), int(not net.replaces(net.delta))
    l.backend.pooling.maxpool_backward(l.delta, l.indexes, input_delta, accumulate, net.threads)


def resize_maxpool_layer(l: MaxpoolLayer, w: int, h: int) -> None:
    """Take an input of w x h."""
    l.resize(w, h)
