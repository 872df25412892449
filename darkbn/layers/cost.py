"""[cost]: the distance of the input from the truth: output = error of each value, cost = their sum.

With d = truth - input:

    sse      error = d^2                                      delta = d
    seg      the same, times noobj where truth is 0
    masked   the same, 0 where truth is -1234
    smooth   error = d^2 where |d| < 1, else 2|d| - 1         delta = d where |d| < 1, else sign(d)
    L1       error = |d|                                      delta = 1 where d > 0, else -1
    wgan     error = -input where truth is not 0, else input  delta = 1 where truth > 0, else -1

`smooth=` moves labels towards their mean, `ratio=` keeps that share of the deltas, the largest, `thresh=` drops deltas
below thresh / inputs, `scale=` multiplies what goes back. seg, wgan, smooth=, thresh= and noobj= have no effect in
Darknet's CPU code; here they do what they do on its GPU (and ratio= what it is meant to do there). As in Darknet,
masked writes -1234 into the layer before.

Departures from Darknet: the sign of smooth (pj-smooth-l1-sign), L1 in dialect alexeyab (ab-cost-l1-is-l2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkbn.layers.base import Context, Layer, LayerOptions
from darkbn.layers.softmax import require_truth, sum_loss
from darkbn.options import option
from darkbn.state import NetworkState
from darkbn.tree import SECRET_NUM

#: Kernel of each type.
KERNELS = {"sse": "l2", "seg": "l2", "masked": "l2", "smooth": "smooth_l1", "L1": "l1", "wgan": "wgan"}


@dataclass(frozen=True, kw_only=True)
class CostOptions(LayerOptions):
    """Options of [cost]."""

    cost_type: str = option("sse", key="type", choices=tuple(KERNELS))
    scale: float = option(1.0)
    ratio: float = option(0.0, minimum=0, maximum=1)
    noobj: float = option(1.0, only="darknet")
    thresh: float = option(0.0, only="darknet", minimum=0)


class CostLayer(Layer):
    """A loss. output: error of each value, shaped like the input."""

    type = "cost"
    sections = ("cost",)
    options_class = CostOptions
    options: CostOptions
    has_cost = True

    def shape(self) -> None:
        self.cost_type, self.scale = self.options.cost_type, self.options.scale
        self.out_h, self.out_w, self.out_c, self.outputs = self.h, self.w, self.c, self.inputs

    def forward(self, net: NetworkState) -> None:
        forward_cost_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_cost_layer(self, net)

    def describe(self) -> tuple[str, str]:
        return "", self.cost_type


def make_cost_layer(batch: int, inputs: int, cost_type: str = "sse", scale: float = 1.0, **context: Any) -> CostLayer:
    """A loss outside a network, ready to train.

    Args:
        batch, inputs: sizes.
        cost_type: sse, seg, masked, smooth, L1 or wgan.
        scale: factor of the gradient.
        context: further fields of `Context` (h, w, c, backend).
    """
    options = CostOptions(cost_type=cost_type, scale=scale)
    l = CostLayer(options, Context(batch=batch, inputs=inputs, **context))
    l.allocate(training=True)
    return l


def forward_cost_layer(l: CostLayer, net: NetworkState) -> None:
    """With a truth when training: output, delta and cost."""
    l.cost = None
    if net.truth is None or not net.train:
        return
    x, truth, options, kernels = net.input.reshape(l.output.shape), require_truth(l, net), l.options, l.backend.cost
    if l.cost_type == "masked":
        kernels.fill_where(truth, x, SECRET_NUM, SECRET_NUM, net.threads)
    elif options.smooth:
        truth = truth * (1 - options.smooth) + options.smooth / l.inputs
    getattr(kernels, KERNELS[l.cost_type])(x, truth, l.delta, l.output, net.threads)
    if l.cost_type == "seg" and options.noobj != 1:
        kernels.scale_where(truth, l.delta, 0.0, options.noobj, net.threads)
        kernels.scale_where(truth, l.output, 0.0, options.noobj, net.threads)
    if options.ratio:
        kernels.suppress(l.delta, _size_from_top(l, options.ratio), net.threads)
    if options.thresh:
        kernels.suppress(l.delta, options.thresh / l.inputs, net.threads)
    sum_loss(l, l.output, net)


def _size_from_top(l: CostLayer, share: float) -> float:
    """The magnitude that such a share of the deltas reaches."""
    xp = l.backend.xp
    sizes = xp.sort(xp.abs(l.delta.reshape(-1)))
    return float(sizes[min(int((1 - share) * sizes.size), sizes.size - 1)])


def backward_cost_layer(l: CostLayer, net: NetworkState) -> None:
    """Adds scale * delta to net.delta."""
    if net.delta is not None:
        l.backend.vector.axpy(l.delta, net.delta.reshape(l.delta.shape), l.scale, net.threads)


def resize_cost_layer(l: CostLayer, w: int, h: int) -> None:
    """Take an input of w x h."""
    l.resize(w, h)
