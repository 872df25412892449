"""[crnn]: [rnn] with convolutions for sub-layers; the state is a stack of maps of the input's size.

    state_t = input_layer(x_t) + self_layer(state_(t-1)) [+ state_(t-1) with shortcut=1]
    output_t = output_layer(state_t)

Dialect darknet has 3x3 convolutions with padding 1 and the options output_filters, hidden_filters; alexeyab has
output, hidden and size, stride, pad, padding, dilation, groups, which must keep width and height.

Departure from Darknet: pjreddie's gives the convolutions no learning rate of their own, so they never learn
(pj-crnn-does-not-learn); here they do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from darkbn.activations import activation_option
from darkbn.layers.base import Context, LayerOptions
from darkbn.layers.convolutional import ConvolutionalLayer
from darkbn.layers.recurrent import Part
from darkbn.layers.rnn import ElmanLayer, backward_elman_layer, forward_elman_layer
from darkbn.options import option
from darkbn.state import NetworkState, UpdateArgs


@dataclass(frozen=True, kw_only=True)
class CrnnOptions(LayerOptions):
    """Options of [crnn]."""

    output_filters: int = option(1, only="darknet", minimum=1)
    hidden_filters: int = option(1, only="darknet", minimum=1)
    output: int = option(1, only="alexeyab", minimum=1)
    hidden: int = option(1, only="alexeyab", minimum=1)
    size: int = option(3, only="alexeyab", minimum=1)
    stride: int = option(1, only="alexeyab", minimum=1)
    dilation: int = option(1, only="alexeyab", minimum=1)
    pad: bool = option(False, only="alexeyab")
    padding: int = option(0, only="alexeyab", minimum=0)
    groups: int = option(1, only="alexeyab", minimum=1)
    activation: str = activation_option("logistic")
    batch_normalize: bool = option(False)
    shortcut: bool = option(False)
    xnor: bool = option(False, only="alexeyab")


class CrnnLayer(ElmanLayer):
    """A recurrent layer of convolutions: input_layer, self_layer, output_layer."""

    type = "crnn"
    sections = ("crnn",)
    options_class = CrnnOptions
    input_layer: ConvolutionalLayer
    self_layer: ConvolutionalLayer
    output_layer: ConvolutionalLayer

    def make_parts(self) -> dict[str, Part]:
        self.context.require_image("[crnn]")
        o: CrnnOptions = self.options
        outputs, hidden = o.output_filters, o.hidden_filters
        common: dict[str, Any] = {"size": 3, "padding": 1, "activation": o.activation}
        if self.context.dialect == "alexeyab":
            outputs, hidden = o.output, o.hidden
            geometry = ("size", "stride", "dilation", "pad", "padding", "groups", "activation", "xnor")
            common = {name: getattr(o, name) for name in geometry}
        self.hidden = self.h * self.w * hidden
        return {
            "input_layer": self.convolution(self.c, hidden, **common),
            "self_layer": self.convolution(hidden, hidden, **common),
            "output_layer": self.convolution(hidden, outputs, **common),
        }

    def shape(self) -> None:
        super().shape()
        self.hidden = self.self_layer.outputs
        self.set_output(self.h, self.w, self.output_layer.n)

    def reshape_part(self, part: Part) -> None:
        part.reshape(self.w, self.h, part.c, self.w * self.h * part.c)
        self.require_same_size(part)


def make_crnn_layer(
    batch: int,
    h: int,
    w: int,
    c: int,
    hidden_filters: int,
    output_filters: int,
    steps: int,
    activation: str,
    batch_normalize: bool = False,
    *,
    shortcut: bool = False,
    seed: int | None = None,
    **context: Any,
) -> CrnnLayer:
    """A recurrent layer of 3x3 convolutions outside a network, ready to train.

    Args:
        batch, h, w, c: input shape; batch is that of a step times steps.
        hidden_filters, output_filters: maps of the state and of the output.
        steps: time steps.
        activation: of the sub-layers.
        batch_normalize: whether the sub-layers normalize.
        shortcut: see [crnn].
        seed: of the initial weights.
        context: further fields of `Context` (backend, dialect, convention).
    """
    options = CrnnOptions(
        output_filters=output_filters,
        hidden_filters=hidden_filters,
        output=output_filters,
        hidden=hidden_filters,
        pad=True,
        activation=activation,
        batch_normalize=batch_normalize,
        shortcut=shortcut,
    )
    l = CrnnLayer(options, Context(batch=batch, h=h, w=w, c=c, inputs=h * w * c, time_steps=steps, **context))
    l.allocate(training=True)
    l.initialize(np.random.default_rng(seed))
    return l


def forward_crnn_layer(l: CrnnLayer, net: NetworkState) -> None:
    """All steps."""
    forward_elman_layer(l, net)


def backward_crnn_layer(l: CrnnLayer, net: NetworkState) -> None:
    """Back through time: updates of the sub-layers from delta, the input's gradient added to net.delta."""
    backward_elman_layer(l, net)


def update_crnn_layer(l: CrnnLayer, args: UpdateArgs) -> None:
    """One step of gradient descent with momentum in each sub-layer."""
    l.update(args)


def resize_crnn_layer(l: CrnnLayer, w: int, h: int) -> None:
    """Take maps of w x h."""
    l.resize(w, h)
