"""antialiasing= of [convolutional] and [maxpool] (dialect alexeyab): the layer runs with stride 1, then a fixed blur of
every channel takes the stride.

    antialiasing=1   3 x 3 weights 1 2 1, 2 4 2, 1 2 1, divided by 16, one pixel of zeros round the image
    antialiasing=2   the mean of 2 x 2 pixels, no zeros

Departure from Darknet: there is a gradient (Darknet's CPU code sends the blurred image's delta through the layer as if
nothing had been blurred).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from darkbn.algorithms import Algorithm
from darkbn.layers.base import Buffer, Context, Layer, LayerOptions, Role
from darkbn.layers.wrapped import WrappedLayer
from darkbn.options import option
from darkbn.state import NetworkState

#: Weights of the blur by its size.
_PATTERNS = {3: np.outer([1, 2, 1], [1, 2, 1]) / 16, 2: np.full((2, 2), 1 / 4)}


@dataclass(frozen=True, kw_only=True)
class BlurOptions(LayerOptions):
    """What a blur is made from: kind as antialiasing=, the strides of the layer before it."""

    antialiasing: int = option(1)
    stride_x: int = option(1)
    stride_y: int = option(1)


class BlurLayer(Layer):
    """The fixed blur. Arrays: weights (c, 1, size, size), which neither learn nor are saved."""

    type = "blur"
    sections = ()
    options_class = BlurOptions
    options: BlurOptions

    def shape(self) -> None:
        self.size, self.pad = (2, 0) if self.options.antialiasing == 2 else (3, 1)
        out_h = (self.h + 2 * self.pad - self.size) // self.options.stride_y + 1
        out_w = (self.w + 2 * self.pad - self.size) // self.options.stride_x + 1
        self.set_output(out_h, out_w, self.c)

    def buffers(self) -> list[Buffer]:
        return [Buffer("weights", (self.c, 1, self.size, self.size), Role.SCRATCH), *self.output_buffers()]

    def allocate(self, training: bool) -> None:
        super().allocate(training)
        self.weights[...] = self.backend.array(_PATTERNS[self.size])

    def _convolution(self, net: NetworkState, kernel: str) -> tuple[Any, tuple[int, ...], Any]:
        """A kernel of the convolution that the blur is, what it takes from groups to algorithm, its workspace."""
        geometry = (self.c, self.options.stride_y, self.options.stride_x, 1, self.pad, Algorithm.GEMM)
        sizes = (self.batch, self.c, self.h, self.w, self.c, self.size, self.out_h, self.out_w)
        kernels = self.backend.convolution
        floats = getattr(kernels, f"{kernel}_workspace")(*sizes, *geometry, net.threads)
        return getattr(kernels, kernel), geometry, net.workspace(floats, self.backend)

    def forward(self, net: NetworkState) -> None:
        kernel, geometry, workspace = self._convolution(net, "forward")
        kernel(net.input, self.weights, None, self.output, workspace, *geometry, net.threads)

    def backward(self, net: NetworkState) -> None:
        kernel, geometry, workspace = self._convolution(net, "backward_input")
        kernel(self.weights, self.delta, net.delta, workspace, *geometry, net.threads)


class AntialiasedLayer(WrappedLayer):
    """A layer with stride 1 and the blur behind it. A subclass names the layer's class.

    Attributes:
        input_layer: the blur, by Darknet's name; output and delta are the blur's.
    """

    host_class: ClassVar[type[Layer]]

    def __init__(self, options: Any, context: Context) -> None:
        strides = {"stride": 1, "stride_x": 1, "stride_y": 1}
        host = self.host_class.build(replace(options, antialiasing=0, **strides), context)
        blur = BlurOptions(
            antialiasing=options.antialiasing,
            stride_x=options.stride_x if options.stride_x > 0 else options.stride,
            stride_y=options.stride_y if options.stride_y > 0 else options.stride,
        )
        self.input_layer = BlurLayer(
            blur, replace(context, h=host.out_h, w=host.out_w, c=host.out_c, inputs=host.outputs)
        )
        super().__init__(options, context, host)

    def shape(self) -> None:
        host, blur = self.host, self.input_layer
        host.reshape(self.w, self.h, self.c, self.inputs)
        blur.reshape(host.out_w, host.out_h, host.out_c, host.outputs)
        self.set_output(blur.out_h, blur.out_w, blur.out_c)

    @property
    def sublayers(self) -> dict[str, Layer]:
        return {"host": self.host, "input_layer": self.input_layer}

    def allocate(self, training: bool) -> None:
        super().allocate(training)
        self.output = self.input_layer.output
        self.delta = self.input_layer.delta if training else None

    def forward(self, net: NetworkState) -> None:
        self.host.forward(net)
        x, net.input = net.input, self.host.output
        self.input_layer.forward(net)
        net.input = x

    def backward(self, net: NetworkState) -> None:
        delta, net.delta = net.delta, self.host.delta
        net.delta.fill(0)
        self.input_layer.backward(net)
        net.delta = delta
        self.host.backward(net)

    @property
    def flops(self) -> int:
        return self.host.flops + 2 * self.input_layer.size**2 * self.outputs

    def describe(self) -> tuple[str, str]:
        filters, size = self.host.describe()
        return filters, f"{size} aa"
