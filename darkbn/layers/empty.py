"""[empty] ([silence]): hands on what comes in (dialect alexeyab)."""

from __future__ import annotations

from typing import Any

from darkbn.layers.base import Buffer, Context, Layer, LayerOptions
from darkbn.state import NetworkState


class EmptyLayer(Layer):
    """The layer before, under another index: its output and delta are those of that layer.

    As the first layer it copies the network's input.
    """

    type = "empty"
    sections = ("empty", "silence")

    def shape(self) -> None:
        self.out_h, self.out_w, self.out_c, self.outputs = self.h, self.w, self.c, self.inputs

    @property
    def before(self) -> Layer | None:
        """The layer whose arrays it shares."""
        return self.context.layers[self.context.index - 1] if self.context.index else None

    def buffers(self) -> list[Buffer]:
        return [] if self.before else self.output_buffers()

    def allocate(self, training: bool) -> None:
        super().allocate(training)
        if self.before:
            self.output, self.delta = self.before.output, self.before.delta

    def forward(self, net: NetworkState) -> None:
        forward_empty_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_empty_layer(self, net)


def make_empty_layer(batch: int, inputs: int, **context: Any) -> EmptyLayer:
    """An empty layer outside a network.

    Args:
        batch, inputs: sizes.
        context: further fields of `Context` (h, w, c, backend).
    """
    l = EmptyLayer(LayerOptions(), Context(batch=batch, inputs=inputs, **context))
    l.allocate(training=True)
    return l


def forward_empty_layer(l: EmptyLayer, net: NetworkState) -> None:
    """output = input."""
    if l.before is None:
        l.output[...] = net.input.reshape(l.output.shape)


def backward_empty_layer(l: EmptyLayer, net: NetworkState) -> None:
    """Adds delta to net.delta, unless it is the same array."""
    if l.before is None and net.delta is not None:
        net.delta += l.delta.reshape(net.delta.shape)


def resize_empty_layer(l: EmptyLayer, w: int, h: int) -> None:
    """Take an input of w x h."""
    l.resize(w, h)
