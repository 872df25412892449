"""[shortcut]: the input plus earlier layers' outputs, then an activation.

    output = activation(alpha * input + beta * from[0].output + beta * from[1].output + ...)

With weights_type (dialect alexeyab) the sum has learned weights, see `darkbn.layers.weighted`:

    output = activation(weights[0] * input + weights[1] * from[0].output + ...)

alpha and beta exist in dialect darknet. Shapes may differ: the sum is over the common channels. Where one image is
n times as wide and high, every n-th of its pixels meets one of the other's. What meets nothing stays as it is;
alpha acts only where the first of `from` is added.

Departures from Darknet: other widths and heights work in dialect alexeyab too (AlexeyAB stops: its own
resnet50.cfg does not load), several layers in dialect darknet too (pjreddie's adds the first); alpha counts in the
gradient only where it did in the output; the gradient of weights goes through their normalization
(ab-weighted-shortcut-gradient-simplified).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from darkbn.activations import activation_option
from darkbn.layers import weighted
from darkbn.layers.activation import activate_array, activation_buffers, gradient_array
from darkbn.layers.base import Buffer, Context, Layer, LayerOptions, apply_updates
from darkbn.options import option
from darkbn.state import NetworkState, UpdateArgs


@dataclass(frozen=True, kw_only=True)
class ShortcutOptions(LayerOptions):
    """Options of [shortcut]."""

    source: tuple[int, ...] = option(key="from", required=True)
    activation: str = activation_option("linear")
    alpha: float = option(1.0, only="darknet")
    beta: float = option(1.0, only="darknet")
    weights_type: str = option("none", only="alexeyab", choices=weighted.TYPES)
    weights_normalization: str = option("none", only="alexeyab", choices=tuple(weighted.NORMALIZATIONS))


class ShortcutLayer(Layer):
    """The input plus the outputs of `from`. Output is shaped like the input.

    Attributes:
        from_layers: the layers that are added; input_layers: their indices; index: the first one's.
    """

    type = "shortcut"
    sections = ("shortcut",)
    options_class = ShortcutOptions
    options: ShortcutOptions

    def __init__(self, options: ShortcutOptions, context: Context) -> None:
        context.require_image("[shortcut]")
        if not options.source:
            raise context.error("at least one layer is needed", key="from")
        self.from_layers = [context.find_layer(index) for index in options.source]
        self.input_layers = [layer.context.index for layer in self.from_layers]
        self.index, self.n = self.input_layers[0], len(self.input_layers)
        self.alpha, self.beta, self.activation = options.alpha, options.beta, options.activation
        self.weighted = options.weights_type != "none"
        self.replaces_deltas = not self.weighted
        super().__init__(options, context)

    def shape(self) -> None:
        for layer in self.from_layers:
            self._check_meets(layer)
        self.set_output(self.h, self.w, self.c)

    def _check_meets(self, layer: Layer) -> None:
        h, w = layer.out_h, layer.out_w
        image = h and w and layer.out_c
        if self.weighted and (w, h) != (self.w, self.h):
            raise self.context.error(
                f"layer {layer.context.index} [{layer.type}] is {w} x {h}, the input {self.w} x {self.h}: with"
                " weights_type width and height must be equal",
                key="from",
            )
        if image and (self.w // w, w // self.w) == (self.h // h, h // self.h):
            return
        found = f"{w} x {h} x {layer.out_c} (width, height, channels)" if image else f"{layer.outputs} values, no image"
        raise self.context.error(
            f"layer {layer.context.index} [{layer.type}] gives {found}, which cannot be added to the input's"
            f" {self.w} x {self.h} x {self.c}: width and height must be equal, or larger or smaller by the same factor",
            key="from",
        )

    def buffers(self) -> list[Buffer]:
        weights = weighted.weight_buffers(self.n + 1, self.c, self.options.weights_type)
        return weights + self.output_buffers() + activation_buffers(self.activation, self.output_shape)

    def weights_order(self) -> tuple[str, ...]:
        return ("weights",) if self.weighted else ()

    def update(self, args: UpdateArgs) -> None:
        update_shortcut_layer(self, args)

    @property
    def gradient_sources(self) -> Sequence[Layer]:
        return self.from_layers

    def forward(self, net: NetworkState) -> None:
        forward_shortcut_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_shortcut_layer(self, net)

    @property
    def flops(self) -> int:
        return self.outputs * self.n

    def describe(self) -> tuple[str, str]:
        return "", " ".join(str(index) for index in self.input_layers)


def make_shortcut_layer(
    batch: int,
    layers: Sequence[Layer],
    indexes: Sequence[int],
    w: int,
    h: int,
    c: int,
    activation: str = "linear",
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    **context: Any,
) -> ShortcutLayer:
    """A shortcut layer outside a network, ready to train.

    Args:
        batch, w, h, c: input shape.
        layers: layers with their arrays allocated.
        indexes: which of `layers` are added; negative ones count from the end.
        activation: its name.
        alpha, beta: factors of the input and of what is added.
        context: further fields of `Context` (backend, dialect).
    """
    options = ShortcutOptions(source=tuple(indexes), activation=activation, alpha=alpha, beta=beta)
    place = Context(batch=batch, h=h, w=w, c=c, inputs=h * w * c, layers=layers, index=len(layers), **context)
    l = ShortcutLayer(options, place)
    l.allocate(training=True)
    return l


def forward_shortcut_layer(l: ShortcutLayer, net: NetworkState) -> None:
    """output = activation(alpha * input + beta * the outputs of the other layers), or the weighted sum of all."""
    first, *others = l.from_layers
    spatial, x = l.backend.spatial, net.input.reshape(l.output.shape)
    if l.weighted:
        outputs = [x, *(layer.output for layer in l.from_layers)]
        weighted.forward(l, outputs, l.options.weights_normalization, net)
        activate_array(l, net)
        return
    spatial.shortcut(x, first.output, l.output, l.alpha, l.beta, net.threads)
    for layer in others:
        spatial.shortcut_add(layer.output, l.output, 1.0, l.beta, net.threads)
    activate_array(l, net)


def backward_shortcut_layer(l: ShortcutLayer, net: NetworkState) -> None:
    """Adds delta, through the activation, to net.delta and to the deltas of the layers that were added."""
    gradient_array(l, net)
    first, *others = l.from_layers
    spatial = l.backend.spatial
    input_delta = None if net.delta is None else net.delta.reshape(l.delta.shape)
    if l.weighted:
        outputs = [net.input.reshape(l.output.shape), *(layer.output for layer in l.from_layers)]
        deltas = [input_delta, *(layer.delta for layer in l.from_layers)]
        weighted.backward(l, outputs, deltas, l.options.weights_normalization, net)
        return
    # The input first: `from` may name the same layer.
    accumulate = [int(delta is not None and not net.replaces(delta)) for delta in (net.delta, first.delta)]
    spatial.shortcut_backward(l.delta, input_delta, first.delta, l.alpha, l.beta, *accumulate, net.threads)
    for layer in others:
        net.clear(layer.delta, l.backend)
        spatial.shortcut_add(l.delta, layer.delta, 1.0, l.beta, net.threads)


def update_shortcut_layer(l: ShortcutLayer, args: UpdateArgs) -> None:
    """One step of gradient descent with momentum and weight decay for the weights, where there are some."""
    apply_updates(l, args)


def resize_shortcut_layer(l: ShortcutLayer, w: int, h: int) -> None:
    """Take an input of w x h, and the new sizes of the layers that are added."""
    l.resize(w, h)
