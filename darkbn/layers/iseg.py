"""[iseg]: instance segmentation (dialect darknet): `classes` maps of class probabilities and `ids` of an embedding.

output = input, with the logistic function over the class maps. The truth has for each of at most 90 instances its class
(below 0 ends the list) and its mask at the size of the output. The loss draws class maps to the masks, embeddings of an
instance towards their mean and away from the means of the others, and all embeddings a little to 0; cost = sum of
the squares of delta.

Departure from Darknet: instances of a class that does not exist are left out (Darknet writes outside its arrays).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkbn.activations import CODES
from darkbn.errors import TrainingError
from darkbn.layers.base import Buffer, Context, Layer, LayerOptions, Role
from darkbn.options import option
from darkbn.state import NetworkState

#: Instances in the truth of one sample.
INSTANCES = 90


@dataclass(frozen=True, kw_only=True)
class IsegOptions(LayerOptions):
    """Options of [iseg]."""

    classes: int = option(20, minimum=0)
    ids: int = option(32, minimum=0)


class IsegLayer(Layer):
    """Class maps and embeddings; output is shaped like the input, classes + ids channels."""

    type = "iseg"
    sections = ("iseg",)
    options_class = IsegOptions
    options: IsegOptions
    has_cost = True

    def shape(self) -> None:
        self.context.require_image("[iseg]")
        self.classes = self.options.classes
        expected = self.options.classes + self.options.ids
        if self.c != expected:
            raise self.context.error(f"needs an input of classes + ids = {expected} channels, found {self.c}")
        self.truths = INSTANCES * (self.w * self.h + 1)
        self.set_output(self.h, self.w, self.c)

    def buffers(self) -> list[Buffer]:
        costs = Buffer("costs", (self.batch,), Role.SCRATCH, training=True, dtype="float64")
        return [*self.output_buffers(), costs]

    def forward(self, net: NetworkState) -> None:
        forward_iseg_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_iseg_layer(self, net)


def make_iseg_layer(batch: int, w: int, h: int, classes: int, ids: int, **context: Any) -> IsegLayer:
    """Instance segmentation outside a network, ready to train.

    Args:
        batch, w, h: input shape; it has classes + ids channels.
        classes, ids: maps of class probabilities and of the embedding.
        context: further fields of `Context` (backend).
    """
    c = classes + ids
    options = IsegOptions(classes=classes, ids=ids)
    l = IsegLayer(options, Context(batch=batch, h=h, w=w, c=c, inputs=h * w * c, **context))
    l.allocate(training=True)
    return l


def forward_iseg_layer(l: IsegLayer, net: NetworkState) -> None:
    """output, and when training delta and cost."""
    l.output[...] = net.input.reshape(l.output.shape)
    for sample in l.output:
        l.backend.activation.forward(sample[: l.classes], CODES["logistic"], net.threads)
    if not net.train:
        return
    if net.truth is None or net.truth.size != l.batch * l.truths:
        found = "none" if net.truth is None else f"{net.truth.shape[1]} values"
        raise TrainingError(
            f"layer {l.context.index} [iseg]: needs {INSTANCES} * (w*h + 1) = {l.truths} values of truth for each of"
            f" {l.batch} samples, found {found}"
        )
    kernels, spatial = l.backend.iseg, l.h * l.w
    kernels.loss(
        l.output.reshape(l.batch, l.c, spatial),
        net.truth.reshape(l.batch, INSTANCES, spatial + 1),
        l.delta.reshape(l.batch, l.c, spatial),
        l.costs,
        net.workspace(kernels.loss_workspace(l.c, INSTANCES, l.classes, net.threads), l.backend),
        l.classes,
        net.threads,
    )
    l.leave_loss(l.costs)


def backward_iseg_layer(l: IsegLayer, net: NetworkState) -> None:
    """Adds delta to net.delta."""
    if net.delta is not None:
        net.delta += l.delta.reshape(net.delta.shape)


def resize_iseg_layer(l: IsegLayer, w: int, h: int) -> None:
    """Take an input of w x h."""
    l.resize(w, h)
