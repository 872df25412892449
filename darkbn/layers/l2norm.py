"""[l2norm]: every pixel's vector of channels brought to length 1 (dialect darknet).

    output = input / sqrt(sum over channels of input^2),  0 for a vector of zeros (Darknet: NaN)

Darknet passes the delta on as it is, as if nothing had been normalized. That is imitated with the conventions of batch
normalization that imitate Darknet's gradients (the default); with those that have exact gradients ("exact",
"pytorch", ...) it is the derivative.
"""

from __future__ import annotations

from typing import Any

from darkbn.layers.base import Context, Layer, LayerOptions
from darkbn.state import NetworkState


class L2normLayer(Layer):
    """Normalization to unit length over the channels (all values where the input has no image shape)."""

    type = "l2norm"
    sections = ("l2norm",)

    def shape(self) -> None:
        self.out_h, self.out_w, self.out_c, self.outputs = self.h, self.w, self.c, self.inputs

    def forward(self, net: NetworkState) -> None:
        forward_l2norm_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_l2norm_layer(self, net)

    @property
    def flops(self) -> int:
        return 3 * self.outputs


def make_l2norm_layer(batch: int, inputs: int, **context: Any) -> L2normLayer:
    """Normalization to unit length outside a network, ready to train.

    Args:
        batch, inputs: sizes.
        context: further fields of `Context` (h, w, c, backend, convention).
    """
    l = L2normLayer(LayerOptions(), Context(batch=batch, inputs=inputs, **context))
    l.allocate(training=True)
    return l


def _by_channel(l: L2normLayer, array: Any) -> Any:
    return array.reshape(l.batch, l.out_c or l.outputs, -1)


def forward_l2norm_layer(l: L2normLayer, net: NetworkState) -> None:
    """output = input / length of each pixel's vector."""
    l.backend.normalization.l2norm(_by_channel(l, net.input), _by_channel(l, l.output), net.threads)


def backward_l2norm_layer(l: L2normLayer, net: NetworkState) -> None:
    """Adds delta, or with an exact convention the derivative, to net.delta."""
    if net.delta is None:
        return
    if l.context.convention.gradient is not None:
        net.delta += l.delta.reshape(net.delta.shape)
        return
    arrays = (net.input, l.delta, net.delta)
    l.backend.normalization.l2norm_backward(*(_by_channel(l, array) for array in arrays), net.threads)


def resize_l2norm_layer(l: L2normLayer, w: int, h: int) -> None:
    """Take an input of w x h."""
    l.resize(w, h)
