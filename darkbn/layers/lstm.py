"""[lstm]: long short-term memory of eight fully connected sub-layers.

    f, i, o = logistic(uf(x) + wf(state)), logistic(ui(x) + wi(state)), logistic(uo(x) + wo(state))
    g = tanh(ug(x) + wg(state))
    cell = f * cell + i * g
    output = o * tanh(cell), which is the next state

The two dialects store the sub-layers in different orders.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from darkbn.activations import CODES
from darkbn.layers.base import Buffer, Context, LayerOptions, Role
from darkbn.layers.connected import ConnectedLayer
from darkbn.layers.recurrent import Part, RecurrentLayer, inside
from darkbn.options import option
from darkbn.state import NetworkState, UpdateArgs

_FILE_ORDER = {
    "darknet": ("wi", "wf", "wo", "wg", "ui", "uf", "uo", "ug"),
    "alexeyab": ("wf", "wi", "wg", "wo", "uf", "ui", "ug", "uo"),
}
_OF_STATE, _OF_INPUT = ("wo", "wg", "wi", "wf"), ("uo", "ug", "ui", "uf")
_TANH = CODES["tanh"]


@dataclass(frozen=True, kw_only=True)
class LstmOptions(LayerOptions):
    """Options of [lstm]."""

    output: int = option(1, minimum=1)
    batch_normalize: bool = option(False)


class LstmLayer(RecurrentLayer):
    """Long short-term memory. Arrays: the gates f, i, g, o and cell (batch, outputs); prev_state, prev_cell
    (step_batch, outputs), output and cell of the pass before."""

    type = "lstm"
    sections = ("lstm",)
    options_class = LstmOptions
    imitable = True
    uf: ConnectedLayer
    ui: ConnectedLayer
    ug: ConnectedLayer
    uo: ConnectedLayer
    wf: ConnectedLayer
    wi: ConnectedLayer
    wg: ConnectedLayer
    wo: ConnectedLayer

    def make_parts(self) -> dict[str, Part]:
        outputs = self.options.output
        return {
            name: self.connected(self.inputs if name[0] == "u" else outputs, outputs, "linear")
            for name in _FILE_ORDER[self.context.dialect]
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
            *(Buffer(name, self.output_shape, Role.SCRATCH) for name in ("f", "i", "g", "o", "cell")),
            *(Buffer(name, step, Role.STATE) for name in ("prev_state", "prev_cell")),
            Buffer("cell_delta", step, Role.SCRATCH, training=True),
            *self.statistics_buffers(),
        ]

    def reshape(self, w: int, h: int, c: int, inputs: int) -> None:
        self.require_inputs(inputs)
        super().reshape(w, h, c, inputs)

    def forward(self, net: NetworkState) -> None:
        forward_lstm_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_lstm_layer(self, net)


def make_lstm_layer(
    batch: int,
    inputs: int,
    outputs: int,
    steps: int,
    batch_normalize: bool = False,
    *,
    seed: int | None = None,
    **context: Any,
) -> LstmLayer:
    """Long short-term memory outside a network, ready to train.

    Args:
        batch, inputs, outputs: sizes; batch is that of a step times steps.
        steps: time steps.
        batch_normalize: whether the sub-layers normalize.
        seed: of the initial weights.
        context: further fields of `Context` (backend, dialect, convention).
    """
    options = LstmOptions(output=outputs, batch_normalize=batch_normalize)
    l = LstmLayer(options, Context(batch=batch, inputs=inputs, time_steps=steps, **context))
    l.allocate(training=True)
    l.initialize(np.random.default_rng(seed))
    return l


def forward_lstm_layer(l: LstmLayer, net: NetworkState) -> None:
    """All steps."""
    kernels = l.backend.recurrent
    with inside(net):
        if net.train:
            l.reset_state()
        x = net.input
        for name in _OF_INPUT:
            l.forward_all(name, net, x)
        for t in range(l.steps):
            state, previous = l.before(l.output, l.prev_state, t), l.before(l.cell, l.prev_cell, t)
            f, i, g, o, cell = (l.at(array, t) for array in (l.f, l.i, l.g, l.o, l.cell))
            uo, ug, ui, uf = (l.step(name, t).output for name in _OF_INPUT)
            wo, wg, wi, wf = (l.forward_step(name, t, net, state) for name in _OF_STATE)
            kernels.lstm_cell(wf, uf, None, wi, ui, None, wg, ug, previous, f, i, g, cell, _TANH, net.threads)
            kernels.lstm_output(wo, uo, None, o, cell, l.at(l.output, t), _TANH, 0.0, net.threads)
        if not net.train:
            l.prev_state[...], l.prev_cell[...] = l.at(l.output, l.steps - 1), l.at(l.cell, l.steps - 1)


def backward_lstm_layer(l: LstmLayer, net: NetworkState) -> None:
    """Back through time: delta becomes the gradient by the output of each step, later steps included; updates of the
    sub-layers, and the input's gradient added to net.delta."""
    kernels = l.backend.recurrent
    x, delta = net.input, net.delta
    with inside(net):
        l.cell_delta.fill(0)
        for t in reversed(range(l.steps)):
            state, previous = l.before(l.output, l.prev_state, t), l.before(l.cell, l.prev_cell, t)
            f, i, g, o = (l.at(array, t) for array in (l.f, l.i, l.g, l.o))
            uo, ug, ui, uf = (l.step(name, t).delta for name in _OF_INPUT)
            wo, wg, wi, wf = (l.step(name, t).delta for name in _OF_STATE)
            kernels.lstm_backward_output(
                l.at(l.delta, t), f, i, g, o, previous, l.cell_delta, None, wo, uo, None, _TANH, 0.0, net.threads
            )
            if l.imitates and t == 0 and l.steps > 1:
                state, previous = l.at(l.output, 0), l.at(l.cell, 0)
            kernels.lstm_backward_cell(
                f, i, g, previous, l.cell_delta, wf, uf, None, wi, ui, None, wg, ug, _TANH, net.threads
            )
            for name in _OF_STATE:
                l.backward_step(name, t, net, state, l.before(l.delta, None, t))
        for name in _OF_INPUT:
            l.backward_all(name, net, x, delta)


def update_lstm_layer(l: LstmLayer, args: UpdateArgs) -> None:
    """One step of gradient descent with momentum in each sub-layer."""
    l.update(args)


def resize_lstm_layer(l: LstmLayer, w: int, h: int) -> None:
    """Take an input of w x h; only one with as many values as before is possible."""
    l.resize(w, h)
