"""[dropout]: in training, values are dropped at random and the others scaled up; otherwise output = input.

    output = 0 where rand < probability, else input / (1 - probability)

with rand uniform in [0, 1), drawn from net.rng.

Departure from Darknet, which works in place on the output of the layer before: here that output stays as it is, so
that the gradient of its activation is taken at the right place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from darkbn.layers.base import Buffer, Context, Layer, LayerOptions, Role
from darkbn.layers.dropblock import current_square, dropblock_sizes, dropped
from darkbn.options import option
from darkbn.state import NetworkState


@dataclass(frozen=True, kw_only=True)
class DropoutOptions(LayerOptions):
    """Options of [dropout]."""

    probability: float = option(darknet=0.5, alexeyab=0.2, minimum=0, maximum=1)
    dropblock: bool = option(False, only="alexeyab")
    dropblock_size_rel: float = option(0.0, only="alexeyab", minimum=0, maximum=1)
    dropblock_size_abs: float = option(0.0, only="alexeyab", minimum=0)


class DropoutLayer(Layer):
    """Dropout. Arrays: rand, shaped like output: the numbers drawn in the last training pass; with dropblock=1 (see
    `darkbn.layers.dropblock`) 0 where values were dropped, else 1, and drop_blocks_scale (batch,): factors of others.
    """

    type = "dropout"
    sections = ("dropout",)
    options_class = DropoutOptions
    options: DropoutOptions

    def shape(self) -> None:
        self.probability = self.options.probability
        self.block_scales: tuple[float, ...] = ()
        if self.probability >= 1:
            raise self.context.error("must be less than 1: all values would be dropped", key="probability")
        self.scale = 1 / (1 - self.probability)
        self.block_sizes = dropblock_sizes(self.options, self.context) if self.options.dropblock else (0, 0.0)
        self.out_h, self.out_w, self.out_c, self.outputs = self.h, self.w, self.c, self.inputs

    def buffers(self) -> list[Buffer]:
        found = [*self.output_buffers(), Buffer("rand", self.output_shape, Role.SCRATCH, training=True)]
        if self.options.dropblock:
            found.append(Buffer("drop_blocks_scale", (self.batch,), Role.SCRATCH, training=True))
        return found

    def factors(self) -> Iterator[tuple[slice, float, float]]:
        """Samples that go together, from which number drawn on their values are kept, and the factor of those."""
        if not self.options.dropblock:
            yield slice(None), self.probability, self.scale
            return
        for sample, scale in enumerate(self.block_scales):
            yield slice(sample, sample + 1), 0.5, scale

    def forward(self, net: NetworkState) -> None:
        forward_dropout_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_dropout_layer(self, net)

    def describe(self) -> tuple[str, str]:
        return "", f"p = {self.probability:.2f}"


def make_dropout_layer(batch: int, inputs: int, probability: float, **context: Any) -> DropoutLayer:
    """Dropout outside a network, ready to train.

    Args:
        batch, inputs: sizes.
        probability: share of the values that is dropped.
        context: further fields of `Context` (h, w, c, backend).
    """
    l = DropoutLayer(DropoutOptions(probability=probability), Context(batch=batch, inputs=inputs, **context))
    l.allocate(training=True)
    return l


def forward_dropout_layer(l: DropoutLayer, net: NetworkState) -> None:
    """output = input, of which training drops a part."""
    x = net.input.reshape(l.output.shape)
    if not net.train:
        l.output[...] = x
        return
    numbers = net.rng.random(l.rand.shape, dtype="float32")
    if l.options.dropblock:
        gone = dropped(numbers, *current_square(l, net))
        scales = l.outputs / (l.outputs - gone.sum(axis=(1, 2, 3)).clip(max=l.outputs - 1))
        l.block_scales = tuple(scales.astype(l.backend.dtype).tolist())
        l.backend.assign(l.drop_blocks_scale, scales)
        numbers = ~gone
    l.backend.assign(l.rand, numbers)
    for rows, probability, scale in l.factors():
        l.backend.dropout.forward(x[rows], l.rand[rows], l.output[rows], probability, scale, net.threads)


def backward_dropout_layer(l: DropoutLayer, net: NetworkState) -> None:
    """Adds delta of the values that were kept, scaled, to net.delta."""
    if net.delta is not None:
        to = net.delta.reshape(l.delta.shape)
        for rows, probability, scale in l.factors():
            l.backend.dropout.backward(l.rand[rows], l.delta[rows], to[rows], probability, scale, net.threads)


def resize_dropout_layer(l: DropoutLayer, w: int, h: int) -> None:
    """Take an input of w x h."""
    l.resize(w, h)
