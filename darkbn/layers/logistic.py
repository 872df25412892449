"""[logistic]: probabilities of independent yes or no, and cross entropy as the loss (dialect darknet).

    output = 1 / (1 + exp(-input))
    loss   = -truth * log(output) - (1 - truth) * log(1 - output),  delta = truth - output

cost is the sum of loss. Departure from Darknet: a term whose factor is 0 is 0, also where its logarithm is infinite.
"""

from __future__ import annotations

from typing import Any

from darkbn.activations import CODES
from darkbn.layers.base import Buffer, Context, Layer, LayerOptions, Role
from darkbn.layers.softmax import require_truth, sum_loss
from darkbn.state import NetworkState


class LogisticLayer(Layer):
    """The logistic function with cross entropy. Arrays: loss, shaped like output."""

    type = "logistic"
    sections = ("logistic",)
    has_cost = True

    def shape(self) -> None:
        self.out_h, self.out_w, self.out_c, self.outputs = self.h, self.w, self.c, self.inputs

    def buffers(self) -> list[Buffer]:
        return [*self.output_buffers(), Buffer("loss", self.output_shape, Role.SCRATCH, training=True)]

    def forward(self, net: NetworkState) -> None:
        forward_logistic_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_logistic_layer(self, net)


def make_logistic_layer(batch: int, inputs: int, **context: Any) -> LogisticLayer:
    """The logistic function with cross entropy outside a network, ready to train.

    Args:
        batch, inputs: sizes.
        context: further fields of `Context` (h, w, c, backend).
    """
    l = LogisticLayer(LayerOptions(), Context(batch=batch, inputs=inputs, **context))
    l.allocate(training=True)
    return l


def forward_logistic_layer(l: LogisticLayer, net: NetworkState) -> None:
    """output, and with a truth when training delta, loss and cost."""
    l.output[...] = net.input.reshape(l.output.shape)
    l.backend.activation.forward(l.output, CODES["logistic"], net.threads)
    l.cost = None
    if net.train and net.truth is not None:
        l.backend.cost.logistic(l.output, require_truth(l, net), l.delta, l.loss, net.threads)
        sum_loss(l, l.loss, net)


def backward_logistic_layer(l: LogisticLayer, net: NetworkState) -> None:
    """Adds delta to net.delta."""
    if net.delta is not None:
        net.delta += l.delta.reshape(net.delta.shape)


def resize_logistic_layer(l: LogisticLayer, w: int, h: int) -> None:
    """Take an input of w x h."""
    l.resize(w, h)
