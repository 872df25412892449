"""[gru]: a gated recurrent layer of six fully connected sub-layers.

    z = logistic(uz(x) + wz(state)), r = logistic(ur(x) + wr(state))
    candidate = activation(uh(x) + wh(r * state))
    output = z * state + (1 - z) * candidate, which is the next state

The activation is logistic; tanh=1 (dialect darknet) makes it tanh. The sub-layers are uz, ur, uh for the input and wz,
wr, wh for the state; dialect alexeyab calls them input_z_layer, ..., state_h_layer and stores them in another order.

Departure: the gradient exists on every backend (Darknet's CPU code leaves it out).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from darkbn.activations import CODES
from darkbn.layers.base import Buffer, Context, LayerOptions, Role
from darkbn.layers.recurrent import Part, RecurrentLayer, inside
from darkbn.options import option
from darkbn.state import NetworkState, UpdateArgs

#: Names of the sub-layers, and Darknet's in the order of its weights file.
_NAMES = {
    "darknet": {name: name for name in ("wz", "wr", "wh", "uz", "ur", "uh")},
    "alexeyab": {
        "uz": "input_z_layer",
        "ur": "input_r_layer",
        "uh": "input_h_layer",
        "wz": "state_z_layer",
        "wr": "state_r_layer",
        "wh": "state_h_layer",
    },
}


@dataclass(frozen=True, kw_only=True)
class GruOptions(LayerOptions):
    """Options of [gru]."""

    output: int = option(1, minimum=1)
    batch_normalize: bool = option(False)
    tanh: bool = option(False, only="darknet")


class GruLayer(RecurrentLayer):
    """A gated recurrent layer. Arrays: z, r, candidate, forgot_state (batch, outputs); prev_state (step_batch,
    outputs), the output of the pass before."""

    type = "gru"
    sections = ("gru",)
    options_class = GruOptions

    def make_parts(self) -> dict[str, Part]:
        outputs = self.options.output
        self.kind = CODES["tanh" if self.options.tanh and self.context.dialect == "darknet" else "logistic"]
        self.names = _NAMES[self.context.dialect]
        return {
            name: self.connected(self.inputs if key[0] == "u" else outputs, outputs, "linear")
            for key, name in self.names.items()
        }

    def shape(self) -> None:
        super().shape()
        self.outputs = self.options.output
        self.out_h, self.out_w, self.out_c = 1, 1, self.outputs

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.batch, self.outputs)

    def buffers(self) -> list[Buffer]:
        step = (self.step_batch, self.outputs)
        return [
            *self.output_buffers(),
            *(Buffer(name, self.output_shape, Role.SCRATCH) for name in ("z", "r", "candidate", "forgot_state")),
            Buffer("prev_state", step, Role.STATE),
            Buffer("forgot_delta", step, Role.SCRATCH, training=True),
            *self.statistics_buffers(),
        ]

    def reshape(self, w: int, h: int, c: int, inputs: int) -> None:
        self.require_inputs(inputs)
        super().reshape(w, h, c, inputs)

    def forward(self, net: NetworkState) -> None:
        forward_gru_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_gru_layer(self, net)


def make_gru_layer(
    batch: int,
    inputs: int,
    outputs: int,
    steps: int,
    batch_normalize: bool = False,
    *,
    tanh: bool = False,
    seed: int | None = None,
    **context: Any,
) -> GruLayer:
    """A gated recurrent layer outside a network, ready to train.

    Args:
        batch, inputs, outputs: sizes; batch is that of a step times steps.
        steps: time steps.
        batch_normalize: whether the sub-layers normalize.
        tanh: activation of the candidate (dialect darknet).
        seed: of the initial weights.
        context: further fields of `Context` (backend, dialect, convention).
    """
    options = GruOptions(output=outputs, batch_normalize=batch_normalize, tanh=tanh)
    l = GruLayer(options, Context(batch=batch, inputs=inputs, time_steps=steps, **context))
    l.allocate(training=True)
    l.initialize(np.random.default_rng(seed))
    return l


def forward_gru_layer(l: GruLayer, net: NetworkState) -> None:
    """All steps."""
    name, kernels = l.names, l.backend.recurrent
    with inside(net):
        if net.train:
            l.prev_state.fill(0)
        x = net.input
        for key in ("uz", "ur", "uh"):
            l.forward_all(name[key], net, x)
        for t in range(l.steps):
            state = l.before(l.output, l.prev_state, t)
            z, r, candidate, forgot = (l.at(array, t) for array in (l.z, l.r, l.candidate, l.forgot_state))
            uz, ur, uh = (l.step(name[key], t).output for key in ("uz", "ur", "uh"))
            wz, wr = (l.forward_step(name[key], t, net, state) for key in ("wz", "wr"))
            kernels.gru_gates(uz, wz, ur, wr, state, z, r, forgot, net.threads)
            wh = l.forward_step(name["wh"], t, net, forgot)
            kernels.gru_output(uh, wh, z, state, candidate, l.at(l.output, t), l.kind, net.threads)
        if not net.train:
            l.prev_state[...] = l.at(l.output, l.steps - 1)


def backward_gru_layer(l: GruLayer, net: NetworkState) -> None:
    """Back through time: delta becomes the gradient by the output of each step, later steps included; updates of the
    sub-layers, and the input's gradient added to net.delta."""
    name, kernels = l.names, l.backend.recurrent
    x, delta = net.input, net.delta
    with inside(net):
        for t in reversed(range(l.steps)):
            state, state_delta = l.before(l.output, l.prev_state, t), l.before(l.delta, None, t)
            z, r, candidate, forgot = (l.at(array, t) for array in (l.z, l.r, l.candidate, l.forgot_state))
            uz, wz, uh, wh, ur, wr = (l.step(name[key], t).delta for key in ("uz", "wz", "uh", "wh", "ur", "wr"))
            kernels.gru_backward_output(
                l.at(l.delta, t), z, candidate, state, uz, wz, uh, wh, state_delta, l.kind, net.threads
            )
            l.forgot_delta.fill(0)
            l.backward_step(name["wh"], t, net, forgot, l.forgot_delta)
            kernels.gru_backward_gates(l.forgot_delta, r, state, ur, wr, state_delta, net.threads)
            for key in ("wz", "wr"):
                l.backward_step(name[key], t, net, state, state_delta)
        for key in ("uz", "ur", "uh"):
            l.backward_all(name[key], net, x, delta)


def update_gru_layer(l: GruLayer, args: UpdateArgs) -> None:
    """One step of gradient descent with momentum in each sub-layer."""
    l.update(args)


def resize_gru_layer(l: GruLayer, w: int, h: int) -> None:
    """Take an input of w x h; only one with as many values as before is possible."""
    l.resize(w, h)
