"""[conv_lstm] (dialect alexeyab): long short-term memory of convolutions; state and cell are maps of the input's size.

    f, i = logistic(uf(x) + wf(state) + vf(cell)), logistic(ui(x) + wi(state) + vi(cell))
    g = activation(ug(x) + wg(state)), new = f * cell + i * g
    o = logistic(uo(x) + wo(state) + vo(new))
    output = o * activation(new), which is the next state; cell = new, clamped to +-state_constrain

v* exist with peephole=1 only. The activation is lstm_activation (tanh); `activation` is that inside the convolutions.
bottleneck=1 replaces x and wf, wi, wg, wo by one convolution of state and input together:

    x' = activation(wf(state, x)), f = logistic(uf(x') + vf(cell)), i, g, o alike
    output = o * activation(new) + the first half of x' with shortcut=1 (not in the next state)

time_normalizer scales the gradient that goes back to the state of the step before.

Departures from Darknet: lstm_activation, bottleneck and shortcut work on every backend (only the GPU code has them);
with bottleneck, state and input are joined sample by sample (Darknet joins the whole batch, the same for one sample),
and no gradient is clamped; NaN and infinities are not replaced by other numbers. The gradient is the derivative
(ab-conv-lstm-cpu-backward-incomplete).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from darkbn.activations import CODES, activation_option
from darkbn.layers.base import Buffer, Context, LayerOptions, Role
from darkbn.layers.convolutional import ConvolutionalLayer
from darkbn.layers.recurrent import Part, RecurrentLayer, inside
from darkbn.options import option
from darkbn.state import NetworkState, UpdateArgs

_OF_INPUT, _OF_STATE, _OF_CELL = ("uf", "ui", "ug", "uo"), ("wf", "wi", "wg", "wo"), ("vf", "vi", "vo")
_BY_STEPS = -1


@dataclass(frozen=True, kw_only=True)
class ConvLstmOptions(LayerOptions):
    """Options of [conv_lstm]; state_constrain is 32 * time_steps by default, 0 = no limit."""

    size: int = option(3, minimum=1)
    stride: int = option(1, minimum=1)
    dilation: int = option(1, minimum=1)
    pad: bool = option(False)
    padding: int = option(0, minimum=0)
    output: int = option(1, minimum=1)
    groups: int = option(1, minimum=1)
    activation: str = activation_option("linear")
    batch_normalize: bool = option(False)
    xnor: bool = option(False)
    peephole: bool = option(False)
    bottleneck: bool = option(False)
    state_constrain: int = option(_BY_STEPS, minimum=0)
    shortcut: bool = option(False)
    lstm_activation: str = option("tanh", choices=("tanh", "leaky", "linear"))
    time_normalizer: float = option(1.0)


class ConvLstmLayer(RecurrentLayer):
    """Long short-term memory of convolutions. Arrays: the gates f, i, g, o and cell, shaped like output; prev_state,
    prev_cell (step_batch, out_c, out_h, out_w), state and cell of the pass before."""

    type = "conv_lstm"
    sections = ("conv_lstm",)
    options_class = ConvLstmOptions
    wf: ConvolutionalLayer
    uo: ConvolutionalLayer

    def make_parts(self) -> dict[str, Part]:
        self.context.require_image("[conv_lstm]")
        o: ConvLstmOptions = self.options
        if o.bottleneck and self.c != o.output:
            raise self.context.error(
                f"bottleneck=1 needs as many filters as input channels: expected output={self.c}, found {o.output}",
                key="output",
            )
        self.constrain = float(32 * self.steps if o.state_constrain == _BY_STEPS else o.state_constrain)
        self.kind = CODES[o.lstm_activation]
        self.of_state = ("wf",) if o.bottleneck else _OF_STATE
        of_cell = _OF_CELL if o.peephole else ()
        geometry = ("size", "stride", "dilation", "pad", "padding", "groups", "activation", "xnor")
        common = {name: getattr(o, name) for name in geometry}
        channels = {**dict.fromkeys(of_cell, o.output), "wf": o.output * (2 if o.bottleneck else 1)}
        channels |= {**dict.fromkeys(self.of_state[1:], o.output), **dict.fromkeys(_OF_INPUT, self.c)}
        return {name: self.convolution(c, o.output, **common) for name, c in channels.items()}

    def shape(self) -> None:
        super().shape()
        self.set_output(self.h, self.w, self.options.output)

    def reshape_part(self, part: Part) -> None:
        part.reshape(self.w, self.h, part.c, self.w * self.h * part.c)
        self.require_same_size(part)

    def buffers(self) -> list[Buffer]:
        o, shape = self.options, self.output_shape
        step = (self.step_batch, *shape[1:])
        every = ["f", "i", "g", "o", "cell"]
        training = ["cell_delta"] + ["new_cell"] * o.peephole + ["state_delta"] * (not o.bottleneck)
        own = []
        if o.bottleneck:
            every.append("bottleneck")
            training.append("bottleneck_delta")
            joined = (2 * self.out_c, self.out_h, self.out_w)
            own += [
                Buffer("joined", (self.batch, *joined), Role.SCRATCH),
                Buffer("joined_delta", (self.step_batch, *joined), Role.SCRATCH, training=True),
            ]
            if o.shortcut:
                every.append("hidden")
                own.append(Buffer("hidden_delta", shape, Role.SCRATCH, training=True))
        return [
            *self.output_buffers(),
            *(Buffer(name, shape, Role.SCRATCH) for name in every),
            *(Buffer(name, step, Role.SCRATCH, training=True) for name in training),
            *(Buffer(name, step, Role.STATE) for name in ("prev_state", "prev_cell")),
            *own,
            *self.statistics_buffers(),
        ]

    @property
    def has_shortcut(self) -> bool:
        """Whether output is more than the state."""
        return bool(self.options.bottleneck and self.options.shortcut)

    def forward(self, net: NetworkState) -> None:
        forward_conv_lstm_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_conv_lstm_layer(self, net)


def make_conv_lstm_layer(
    batch: int,
    h: int,
    w: int,
    c: int,
    output_filters: int,
    steps: int,
    size: int = 3,
    activation: str = "linear",
    batch_normalize: bool = False,
    *,
    peephole: bool = False,
    bottleneck: bool = False,
    shortcut: bool = False,
    seed: int | None = None,
    **context: Any,
) -> ConvLstmLayer:
    """Long short-term memory of convolutions outside a network, ready to train.

    Args:
        batch, h, w, c: input shape; batch is that of a step times steps.
        output_filters: maps of the output.
        steps: time steps.
        size: of the convolutions, odd; they keep width and height.
        activation: inside the convolutions.
        batch_normalize: whether the convolutions normalize.
        peephole, bottleneck, shortcut: see [conv_lstm].
        seed: of the initial weights.
        context: further fields of `Context` (backend, convention).
    """
    options = ConvLstmOptions(
        output=output_filters,
        size=size,
        pad=True,
        activation=activation,
        batch_normalize=batch_normalize,
        peephole=peephole,
        bottleneck=bottleneck,
        shortcut=shortcut,
    )
    sizes: dict[str, Any] = {"batch": batch, "h": h, "w": w, "c": c, "inputs": h * w * c, "time_steps": steps}
    l = ConvLstmLayer(options, Context(**{"dialect": "alexeyab", **sizes, **context}))
    l.allocate(training=True)
    l.initialize(np.random.default_rng(seed))
    return l


def _state(l: ConvLstmLayer) -> Any:
    """What the next step sees of each step."""
    return l.hidden if l.has_shortcut else l.output


def forward_conv_lstm_layer(l: ConvLstmLayer, net: NetworkState) -> None:
    """All steps."""
    kernels, states = l.backend.recurrent, _state(l)
    with inside(net):
        if net.train:
            l.reset_state()
        x = net.input.reshape(l.batch, l.c, l.h, l.w)
        if not l.options.bottleneck:
            for name in _OF_INPUT:
                l.forward_all(name, net, x)
        for t in range(l.steps):
            state, previous = l.before(states, l.prev_state, t), l.before(l.cell, l.prev_cell, t)
            f, i, g, o, cell = (l.at(array, t) for array in (l.f, l.i, l.g, l.o, l.cell))
            wf, wi, wg, wo = _see_state(l, net, t, l.at(x, t), state)
            uf, ui, ug, uo = (l.step(name, t).output for name in _OF_INPUT)
            vf = vi = vo = None
            if l.options.peephole:
                vf, vi = (l.forward_step(name, t, net, previous) for name in ("vf", "vi"))
            kernels.lstm_cell(wf, uf, vf, wi, ui, vi, wg, ug, previous, f, i, g, cell, l.kind, net.threads)
            if l.options.peephole:
                vo = l.forward_step("vo", t, net, cell)
            kernels.lstm_output(wo, uo, vo, o, cell, l.at(states, t), l.kind, l.constrain, net.threads)
        if l.has_shortcut:
            l.output[...] = l.hidden
            _half(l, l.output)[...] += _half(l, l.bottleneck)
        if not net.train:
            l.prev_state[...], l.prev_cell[...] = l.at(states, l.steps - 1), l.at(l.cell, l.steps - 1)


def _see_state(l: ConvLstmLayer, net: NetworkState, t: int, x: Any, state: Any) -> tuple[Any, ...]:
    """The terms of the gates that see the state; with bottleneck it is in the input of uf, ui, ug, uo instead."""
    if not l.options.bottleneck:
        return tuple(l.forward_step(name, t, net, state) for name in _OF_STATE)
    joined, bottleneck = l.at(l.joined, t), l.at(l.bottleneck, t)
    joined[:, : l.out_c], joined[:, l.out_c :] = state, x
    seen = l.forward_step("wf", t, net, joined)
    l.backend.activation.forward_to(seen, bottleneck, l.kind, net.threads)
    for name in _OF_INPUT:
        l.forward_step(name, t, net, bottleneck)
    return (None,) * 4


def _half(l: ConvLstmLayer, maps: Any) -> Any:
    """The first half of each sample's values."""
    return maps.reshape(len(maps), -1)[:, : l.outputs // 2]


def backward_conv_lstm_layer(l: ConvLstmLayer, net: NetworkState) -> None:
    """Back through time: updates of the sub-layers from delta, the input's gradient added to net.delta. delta (with
    shortcut hidden_delta) becomes the gradient by the state of each step, later steps included."""
    states, deltas = _state(l), l.delta
    x, delta = (None if array is None else array.reshape(l.batch, l.c, l.h, l.w) for array in (net.input, net.delta))
    if l.has_shortcut:
        deltas = l.hidden_delta
        deltas[...] = l.delta
    with inside(net):
        l.cell_delta.fill(0)
        for t in reversed(range(l.steps)):
            state, state_delta = l.before(states, l.prev_state, t), l.before(deltas, None, t)
            _backward_gates(l, net, t, l.at(deltas, t))
            if l.options.bottleneck:
                _backward_bottleneck(l, net, t, None if delta is None else l.at(delta, t), state_delta)
            else:
                _backward_state(l, net, t, state, state_delta)
        if not l.options.bottleneck:
            for name in _OF_INPUT:
                l.backward_all(name, net, x, delta)


def _backward_gates(l: ConvLstmLayer, net: NetworkState, t: int, delta: Any) -> None:
    """From the delta of the state to those of all sub-layers' outputs; back through the peepholes; cell_delta becomes
    the gradient by the cell of the step before."""
    kernels, peephole = l.backend.recurrent, l.options.peephole
    of_state = () if l.options.bottleneck else _OF_STATE
    to = {name: l.step(name, t).delta for name in (*_OF_INPUT, *of_state, *(_OF_CELL if peephole else ()))}
    f, i, g, o = (l.at(array, t) for array in (l.f, l.i, l.g, l.o))
    previous, new = l.before(l.cell, l.prev_cell, t), l.new_cell if peephole else None
    out = [to.get(name) for name in ("wo", "uo", "vo")]
    kernels.lstm_backward_output(delta, f, i, g, o, previous, l.cell_delta, new, *out, l.kind, l.constrain, net.threads)
    if peephole:
        l.backward_step("vo", t, net, new, l.cell_delta)
    out = [to.get(name) for name in ("wf", "uf", "vf", "wi", "ui", "vi", "wg", "ug")]
    kernels.lstm_backward_cell(f, i, g, previous, l.cell_delta, *out, l.kind, net.threads)
    if peephole:
        for name in ("vf", "vi"):
            l.backward_step(name, t, net, previous, l.cell_delta)


def _backward_state(l: ConvLstmLayer, net: NetworkState, t: int, state: Any, state_delta: Any) -> None:
    """Back through wf, wi, wg, wo to the state of the step before."""
    l.state_delta.fill(0)
    for name in _OF_STATE:
        l.backward_step(name, t, net, state, None if state_delta is None else l.state_delta)
    if state_delta is not None:
        l.backend.recurrent.accumulate(l.state_delta, state_delta, l.options.time_normalizer, net.threads)


def _backward_bottleneck(l: ConvLstmLayer, net: NetworkState, t: int, delta: Any, state_delta: Any) -> None:
    """Back through uf, ui, ug, uo and wf to the input and the state of the step before."""
    bottleneck, wf = l.at(l.bottleneck, t), l.step("wf", t)
    l.bottleneck_delta.fill(0)
    for name in _OF_INPUT:
        l.backward_step(name, t, net, bottleneck, l.bottleneck_delta)
    if l.has_shortcut:
        _half(l, l.bottleneck_delta)[...] += _half(l, l.at(l.delta, t))
    l.backend.activation.gradient(bottleneck, l.bottleneck_delta, l.kind, net.threads)
    wf.delta[...] = l.bottleneck_delta
    l.joined_delta.fill(0)
    l.backward_step("wf", t, net, l.at(l.joined, t), l.joined_delta)
    if delta is not None:
        delta += l.joined_delta[:, l.out_c :]
    if state_delta is not None:
        l.joined_delta[:, : l.out_c] *= l.options.time_normalizer
        state_delta += l.joined_delta[:, : l.out_c]


def update_conv_lstm_layer(l: ConvLstmLayer, args: UpdateArgs) -> None:
    """One step of gradient descent with momentum in each sub-layer."""
    l.update(args)


def resize_conv_lstm_layer(l: ConvLstmLayer, w: int, h: int) -> None:
    """Take maps of w x h."""
    l.resize(w, h)
