"""coordconv=1 of [convolutional] (dialect alexeyab): the first three channels of the output become coordinates.

    channel 0   x = 2 column / width - 1
    channel 1   y = 2 row / height - 1
    channel 2   sqrt(x^2 + y^2)

They get no gradient.

Departures from Darknet: it works on every backend; every pixel gets its coordinates (Darknet's CUDA kernel writes one
value per channel: ab-coordconv-writes-one-value).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from darkbn.layers.base import Layer
from darkbn.layers.wrapped import WrappedLayer
from darkbn.state import NetworkState

#: Channels that are overwritten, where there are so many.
CHANNELS = 3


class CoordinatesLayer(WrappedLayer):
    """A layer whose first channels are overwritten with coordinates."""

    type: ClassVar[str] = "convolutional"
    bounds_weights = True
    coordinates: Any

    def shape(self) -> None:
        host = self.host
        host.reshape(self.w, self.h, self.c, self.inputs)
        self.set_output(host.out_h, host.out_w, host.out_c)
        x = np.broadcast_to(2 * np.arange(self.out_w) / self.out_w - 1, (self.out_h, self.out_w))
        y = np.broadcast_to((2 * np.arange(self.out_h) / self.out_h - 1)[:, np.newaxis], x.shape)
        self.coordinates = self.backend.array(np.stack([x, y, np.hypot(x, y)])[: self.out_c])

    def allocate(self, training: bool) -> None:
        super().allocate(training)
        self.output, self.delta = self.host.output, self.host.delta if training else None

    def forward(self, net: NetworkState) -> None:
        self.host.forward(net)
        self.output[:, :CHANNELS] = self.coordinates

    def backward(self, net: NetworkState) -> None:
        self.delta[:, :CHANNELS] = 0
        self.host.backward(net)


def with_coordinates(options: Any, host: Layer) -> CoordinatesLayer:
    """A convolution with coordinates in its output."""
    return CoordinatesLayer(options, host.context, host)
