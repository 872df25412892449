"""[implicit]: a learned vector, the same for every sample; the input is not used (dialect alexeyab).

output[b] = weights,  filters channels of atoms rows and one column
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from darkbn.layers.base import Buffer, Context, Layer, LayerOptions, Role, apply_updates
from darkbn.options import option
from darkbn.state import NetworkState, UpdateArgs


@dataclass(frozen=True, kw_only=True)
class ImplicitOptions(LayerOptions):
    """Options of [implicit]: sizes, and mean and half width of the initial weights."""

    filters: int = option(128, minimum=1)
    atoms: int = option(1, minimum=1)
    mean: float = option(0.0)
    std: float = option(0.2, minimum=0)


class ImplicitLayer(Layer):
    """A learned vector. Arrays: weights (filters * atoms,)."""

    type = "implicit"
    sections = ("implicit",)
    bounds_weights = True
    options_class = ImplicitOptions
    options: ImplicitOptions

    def shape(self) -> None:
        self.set_output(self.options.atoms, 1, self.options.filters)

    def buffers(self) -> list[Buffer]:
        return [
            Buffer("weights", (self.outputs,), Role.PARAMETER),
            Buffer("weight_updates", (self.outputs,), Role.UPDATE, training=True),
            *self.output_buffers(),
        ]

    def initialize(self, rng: np.random.Generator) -> None:
        mean, std = self.options.mean, self.options.std
        self.weights[...] = self.backend.array(rng.uniform(mean - std, mean + std, self.weights.shape))

    def weights_order(self) -> tuple[str, ...]:
        return ("weights",)

    def forward(self, net: NetworkState) -> None:
        forward_implicit_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_implicit_layer(self, net)

    def update(self, args: UpdateArgs) -> None:
        update_implicit_layer(self, args)

    def describe(self) -> tuple[str, str]:
        return str(self.options.filters), ""


def make_implicit_layer(
    batch: int,
    mean: float,
    std: float,
    filters: int,
    atoms: int,
    *,
    seed: int | None = None,
    **context: Any,
) -> ImplicitLayer:
    """A learned vector outside a network, ready to train.

    Args:
        batch: samples.
        mean, std: mean and half width of the initial weights, which are uniform.
        filters, atoms: channels and rows of the output.
        seed: of the initial weights.
        context: further fields of `Context` (backend, dialect).
    """
    options = ImplicitOptions(filters=filters, atoms=atoms, mean=mean, std=std)
    l = ImplicitLayer(options, Context(batch=batch, **context))
    l.allocate(training=True)
    l.initialize(np.random.default_rng(seed))
    return l


def forward_implicit_layer(l: ImplicitLayer, net: NetworkState) -> None:
    """output = weights, for every sample."""
    l.output.fill(0)
    l.backend.bias.add_bias(l.output.reshape(l.batch, l.outputs, 1), l.weights, net.threads)


def backward_implicit_layer(l: ImplicitLayer, net: NetworkState) -> None:
    """weight_updates += delta of every sample; nothing reaches the layer before."""
    l.backend.bias.backward_bias(l.weight_updates, l.delta.reshape(l.batch, l.outputs, 1), net.threads)


def update_implicit_layer(l: ImplicitLayer, args: UpdateArgs) -> None:
    """One step of gradient descent with momentum and weight decay."""
    apply_updates(l, args)


def resize_implicit_layer(l: ImplicitLayer, w: int, h: int) -> None:
    """Take an input of w x h: nothing changes."""
    l.resize(w, h)
