"""[rnn]: a recurrent layer of three fully connected sub-layers.

    state_t = input_layer(x_t) + self_layer(state_(t-1)) [+ state_(t-1) with shortcut=1]
    output_t = output_layer(state_t)

The state has `hidden` values in dialect alexeyab, as many as the output in dialect darknet. logistic=1 (alexeyab)
makes logistic, 2 loggy, the activation of self_layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from darkbn.activations import activation_option
from darkbn.errors import ShapeError
from darkbn.layers.base import Buffer, Context, LayerOptions, Role
from darkbn.layers.connected import ConnectedLayer
from darkbn.layers.recurrent import Part, RecurrentLayer, inside
from darkbn.options import option
from darkbn.state import NetworkState, UpdateArgs


@dataclass(frozen=True, kw_only=True)
class RnnOptions(LayerOptions):
    """Options of [rnn]. pjreddie's own descriptions give `hidden` though his Darknet does not read it."""

    output: int = option(1, minimum=1)
    hidden: int = option(1, only="alexeyab", minimum=1, evidence=False)
    activation: str = activation_option("logistic")
    batch_normalize: bool = option(False)
    shortcut: bool = option(False)
    logistic: int = option(0, only="alexeyab", minimum=0, maximum=2)


class ElmanLayer(RecurrentLayer):
    """Base of [rnn] and [crnn]. Arrays: state (batch, hidden...), the state of every step; prev_state (step_batch,
    hidden...), that of the pass before; output and delta are those of output_layer."""

    imitable = True

    def buffers(self) -> list[Buffer]:
        hidden = self.sublayers["self_layer"].output_shape[1:]
        return [
            Buffer("state", (self.batch, *hidden), Role.SCRATCH),
            Buffer("prev_state", (self.step_batch, *hidden), Role.STATE),
            *self.statistics_buffers(),
        ]

    def allocate(self, training: bool) -> None:
        super().allocate(training)
        self.output, self.delta = self.output_layer.output, self.output_layer.delta

    def forward(self, net: NetworkState) -> None:
        forward_elman_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_elman_layer(self, net)


class RnnLayer(ElmanLayer):
    """A recurrent layer of fully connected sub-layers: input_layer, self_layer, output_layer."""

    type = "rnn"
    sections = ("rnn",)
    options_class = RnnOptions
    input_layer: ConnectedLayer
    self_layer: ConnectedLayer
    output_layer: ConnectedLayer

    def make_parts(self) -> dict[str, Part]:
        o: RnnOptions = self.options
        self.hidden = o.hidden if self.context.dialect == "alexeyab" else o.output
        return {
            "input_layer": self.connected(self.inputs, self.hidden, o.activation),
            "self_layer": self.connected(self.hidden, self.hidden, (o.activation, "logistic", "loggy")[o.logistic]),
            "output_layer": self.connected(self.hidden, o.output, o.activation),
        }

    def shape(self) -> None:
        super().shape()
        self.outputs = self.options.output
        self.out_h, self.out_w, self.out_c = 1, 1, self.outputs

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.batch, self.outputs)

    def reshape(self, w: int, h: int, c: int, inputs: int) -> None:
        self.require_inputs(inputs)
        super().reshape(w, h, c, inputs)


def make_rnn_layer(
    batch: int,
    inputs: int,
    outputs: int,
    steps: int,
    activation: str,
    batch_normalize: bool = False,
    *,
    hidden: int | None = None,
    shortcut: bool = False,
    logistic: int = 0,
    seed: int | None = None,
    **context: Any,
) -> RnnLayer:
    """A recurrent layer outside a network, ready to train.

    Args:
        batch, inputs, outputs: sizes; batch is that of a step times steps.
        steps: time steps.
        activation: of the sub-layers.
        batch_normalize: whether the sub-layers normalize.
        hidden: values of the state, as many as outputs by default; other numbers need dialect="alexeyab".
        shortcut, logistic: see [rnn].
        seed: of the initial weights.
        context: further fields of `Context` (backend, dialect, convention).
    """
    if hidden not in (None, outputs) and context.get("dialect") != "alexeyab":
        raise ShapeError(f"hidden={hidden} differs from outputs={outputs}, which exists in dialect alexeyab only")
    options = RnnOptions(
        output=outputs,
        hidden=outputs if hidden is None else hidden,
        activation=activation,
        batch_normalize=batch_normalize,
        shortcut=shortcut,
        logistic=logistic,
    )
    l = RnnLayer(options, Context(batch=batch, inputs=inputs, time_steps=steps, **context))
    l.allocate(training=True)
    l.initialize(np.random.default_rng(seed))
    return l


def forward_elman_layer(l: ElmanLayer, net: NetworkState) -> None:
    """The steps of [rnn] and [crnn]; only self_layer has to wait for the step before."""
    with inside(net):
        if net.train:
            l.prev_state.fill(0)
        l.forward_all("input_layer", net, net.input)
        for t in range(l.steps):
            before, state = l.before(l.state, l.prev_state, t), l.at(l.state, t)
            own = l.forward_step("self_layer", t, net, before)
            seen = l.at(l.input_layer.output, t)
            l.backend.recurrent.next_state(seen, own, before if l.options.shortcut else None, state, net.threads)
        l.forward_all("output_layer", net, l.state)
        if not net.train:
            l.prev_state[...] = l.at(l.state, l.steps - 1)


def backward_elman_layer(l: ElmanLayer, net: NetworkState) -> None:
    """Back through time. self_layer.delta is the gradient by the state until the step's own backward pass."""
    x, delta = net.input, net.delta
    deltas, own = l.input_layer.delta, l.self_layer.delta
    with inside(net):
        own.fill(0)
        l.backward_all("output_layer", net, _seen_state(l, net), own)
        for t in reversed(range(l.steps)):
            if not l.imitates:
                l.at(deltas, t)[...] = l.at(own, t)
            earlier = l.at(own, t - 1) if t else None
            l.backward_step("self_layer", t, net, l.before(l.state, l.prev_state, t), earlier)
            if l.imitates:
                l.at(deltas, t)[...] = l.at(own, t)
            if l.options.shortcut and earlier is not None:
                earlier += l.at(deltas, t)
        l.backward_all("input_layer", net, x, delta)


def _seen_state(l: ElmanLayer, net: NetworkState) -> Any:
    """The input of output_layer as its backward pass takes it: the state, without the shortcut where Darknet's way is
    followed (computed in input_layer.delta, which is free until the steps)."""
    if not (l.imitates and l.options.shortcut):
        return l.state
    state = l.input_layer.delta
    l.backend.recurrent.next_state(l.input_layer.output, l.self_layer.output, None, state, net.threads)
    return state


def forward_rnn_layer(l: RnnLayer, net: NetworkState) -> None:
    """All steps."""
    forward_elman_layer(l, net)


def backward_rnn_layer(l: RnnLayer, net: NetworkState) -> None:
    """Back through time: updates of the sub-layers from delta, the input's gradient added to net.delta."""
    backward_elman_layer(l, net)


def update_rnn_layer(l: RnnLayer, args: UpdateArgs) -> None:
    """One step of gradient descent with momentum in each sub-layer."""
    l.update(args)


def resize_rnn_layer(l: RnnLayer, w: int, h: int) -> None:
    """Take an input of w x h; only one with as many values as before is possible."""
    l.resize(w, h)
