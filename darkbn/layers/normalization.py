"""[normalization] ([lrn]): local response normalization over neighbouring channels.

    norms[k] = kappa + alpha * (sum of input[j]^2 over the window of `size` channels round k, without channel size/2)
    output = input * norms^-beta

Both Darknets leave channel size/2 out of every sum; so does darkbn, as weights were trained with it.
Departure from Darknet: the gradient is the derivative, and is added to the delta of the layer before
(lrn-backward-approximate: Darknet overwrites it with delta * norms^-beta).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkbn.layers.base import Buffer, Context, Layer, LayerOptions, Role
from darkbn.options import option
from darkbn.state import NetworkState


@dataclass(frozen=True, kw_only=True)
class NormalizationOptions(LayerOptions):
    """Options of [normalization]."""

    alpha: float = option(0.0001)
    beta: float = option(0.75)
    kappa: float = option(1.0)
    size: int = option(5, minimum=1)


class NormalizationLayer(Layer):
    """Local response normalization; `norms`, shaped like output, are kept when training."""

    type = "normalization"
    sections = ("normalization", "lrn")
    options_class = NormalizationOptions
    options: NormalizationOptions

    def shape(self) -> None:
        self.context.require_image("[normalization]")
        self.set_output(self.h, self.w, self.c)

    def buffers(self) -> list[Buffer]:
        return [*self.output_buffers(), Buffer("norms", self.output_shape, Role.SCRATCH, training=True)]

    def forward(self, net: NetworkState) -> None:
        forward_normalization_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_normalization_layer(self, net)

    @property
    def flops(self) -> int:
        return 5 * self.outputs


def make_normalization_layer(
    batch: int, w: int, h: int, c: int, size: int, alpha: float, beta: float, kappa: float, **context: Any
) -> NormalizationLayer:
    """Local response normalization outside a network, ready to train.

    Args:
        batch, w, h, c: input shape.
        size, alpha, beta, kappa: see the module.
        context: further fields of `Context` (backend, dialect).
    """
    options = NormalizationOptions(size=size, alpha=alpha, beta=beta, kappa=kappa)
    l = NormalizationLayer(options, Context(batch=batch, h=h, w=w, c=c, inputs=h * w * c, **context))
    l.allocate(training=True)
    return l


def forward_normalization_layer(l: NormalizationLayer, net: NetworkState) -> None:
    """output = input * norms^-beta."""
    o, shape = l.options, (l.batch, l.c, l.h * l.w)
    norms = l.norms.reshape(shape) if net.train else None
    l.backend.normalization.lrn(
        net.input.reshape(shape), norms, l.output.reshape(shape), o.size, o.alpha, o.beta, o.kappa, net.threads
    )


def backward_normalization_layer(l: NormalizationLayer, net: NetworkState) -> None:
    """Adds the input's gradient to net.delta."""
    if net.delta is None:
        return
    o, shape, kernels = l.options, (l.batch, l.c, l.h * l.w), l.backend.normalization
    kernels.lrn_backward(
        net.input.reshape(shape),
        l.norms.reshape(shape),
        l.delta.reshape(shape),
        net.delta.reshape(shape),
        net.workspace(kernels.lrn_backward_workspace(l.c, net.threads), l.backend),
        o.size,
        o.alpha,
        o.beta,
        net.threads,
    )


def resize_normalization_layer(l: NormalizationLayer, w: int, h: int) -> None:
    """Take an input of w x h."""
    l.resize(w, h)
