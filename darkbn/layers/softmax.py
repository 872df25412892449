"""[softmax] ([soft]): probabilities of classes, and cross entropy as the loss.

    output = exp(input / temperature) / its sum over a group
    loss   = -log(output) where truth is not 0,  delta = truth - output

A group is `inputs / groups` neighbouring values, or, with spatial=1, the channels of a pixel (Darknet's CPU code
ignores spatial). delta is not divided by the temperature, as in Darknet. With tree=, a hierarchy of the classes
(`darkbn.tree`), each group of it is one; values whose truth is -1234 have no truth, and no loss (in Darknet on the GPU
only: tree-softmax-masks-on-gpu-only).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkbn.errors import TrainingError
from darkbn.layers.base import Buffer, Context, Layer, LayerOptions, Role
from darkbn.options import option
from darkbn.state import NetworkState
from darkbn.tree import SECRET_NUM, ClassTree, tree_of


@dataclass(frozen=True, kw_only=True)
class SoftmaxOptions(LayerOptions):
    """Options of [softmax]."""

    groups: int = option(1, minimum=1)
    temperature: float = option(1.0)
    tree: str = option("")
    spatial: float = option(0.0)
    noloss: int = option(0)


class SoftmaxLayer(Layer):
    """Softmax with cross entropy. Arrays: loss, shaped like output, and what every layer has."""

    type = "softmax"
    sections = ("softmax", "soft")
    options_class = SoftmaxOptions
    options: SoftmaxOptions
    has_cost = True

    @classmethod
    def build(cls, options: SoftmaxOptions, context: Context) -> Layer:
        return TreeSoftmaxLayer(options, context) if options.tree else cls(options, context)

    def shape(self) -> None:
        options = self.options
        self.groups, self.temperature = options.groups, options.temperature
        self.spatial, self.noloss = bool(options.spatial), bool(options.noloss)
        if self.temperature <= 0:
            raise self.context.error(f"must be positive, found {self.temperature}", key="temperature")
        if self.inputs % self.groups:
            raise self.context.error(f"groups={self.groups} must divide the {self.inputs} inputs", key="groups")
        if self.spatial:
            self.context.require_image("spatial=1")
        self.out_h, self.out_w, self.out_c, self.outputs = self.h, self.w, self.c, self.inputs

    def buffers(self) -> list[Buffer]:
        return [*self.output_buffers(), Buffer("loss", self.output_shape, Role.SCRATCH, training=True)]

    def activate(self, net: NetworkState) -> None:
        """output = softmax of the input."""
        self.backend.softmax.forward(
            _grouped(self, net.input), _grouped(self, self.output), self.temperature, net.threads
        )

    def forget_unlabelled(self, truth: Any, net: NetworkState) -> None:
        """No delta and no loss where there is no truth; here there is one everywhere."""

    def forward(self, net: NetworkState) -> None:
        forward_softmax_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_softmax_layer(self, net)


class TreeSoftmaxLayer(SoftmaxLayer):
    """Softmax over each group of a hierarchy of classes. `softmax_tree`: the hierarchy."""

    softmax_tree: ClassTree

    def shape(self) -> None:
        super().shape()
        self.softmax_tree = tree_of(self.context, self.options.tree, self.inputs)
        self.group_size = self.backend.array(self.softmax_tree.group_size, "int32")

    def activate(self, net: NetworkState) -> None:
        x, out = (array.reshape(self.batch, self.inputs) for array in (net.input, self.output))
        self.backend.softmax.forward_groups(x, out, self.group_size, self.temperature, net.threads)

    def forget_unlabelled(self, truth: Any, net: NetworkState) -> None:
        for array in (self.delta, self.loss):
            self.backend.cost.scale_where(truth, array, SECRET_NUM, 0.0, net.threads)


def make_softmax_layer(
    batch: int, inputs: int, groups: int = 1, *, temperature: float = 1.0, spatial: bool = False, **context: Any
) -> SoftmaxLayer:
    """Softmax outside a network, ready to train.

    Args:
        batch, inputs: sizes.
        groups: independent groups of neighbouring values.
        temperature: inputs are divided by it.
        spatial: over the channels of each pixel instead.
        context: further fields of `Context` (h, w, c, backend).
    """
    options = SoftmaxOptions(groups=groups, temperature=temperature, spatial=float(spatial))
    l = SoftmaxLayer(options, Context(batch=batch, inputs=inputs, **context))
    l.allocate(training=True)
    return l


def _grouped(l: SoftmaxLayer, array: Any) -> Any:
    if l.spatial:
        return array.reshape(l.batch, l.c, l.h * l.w)
    return array.reshape(l.batch * l.groups, l.inputs // l.groups, 1)


def require_truth(l: Layer, net: NetworkState) -> Any:
    """net.truth, shaped like l.output; a TrainingError when it has another number of values."""
    if net.truth.size != l.batch * l.outputs:
        raise TrainingError(
            f"layer {l.context.index} [{l.type}]: needs {l.outputs} values of truth for each of {l.batch} samples,"
            f" found an array of shape {net.truth.shape}"
        )
    return net.truth.reshape(l.output.shape)


def sum_loss(l: Layer, values: Any, net: NetworkState) -> None:
    """The layer's cost is the sum of an array, in float64."""
    out = l.backend.empty((1,), "float64")
    l.backend.vector.total(values, out, net.threads)
    l.leave_loss(out)


def forward_softmax_layer(l: SoftmaxLayer, net: NetworkState) -> None:
    """output, and with a truth when training delta, loss and cost."""
    l.activate(net)
    l.cost = None
    if net.train and net.truth is not None and not l.noloss:
        truth = require_truth(l, net)
        l.backend.softmax.cross_entropy(l.output, truth, l.delta, l.loss, net.threads)
        l.forget_unlabelled(truth, net)
        sum_loss(l, l.loss, net)


def backward_softmax_layer(l: SoftmaxLayer, net: NetworkState) -> None:
    """Adds delta to net.delta."""
    if net.delta is not None:
        net.delta += l.delta.reshape(net.delta.shape)


def resize_softmax_layer(l: SoftmaxLayer, w: int, h: int) -> None:
    """Take an input of w x h."""
    l.resize(w, h)
