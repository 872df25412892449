"""Recurrent sections as ONNX operators: one time step, with the state as inputs and outputs of the model.

A layer i that keeps a state adds the input layer_i_state_in and the output layer_i_state_out, one that has a memory
cell also layer_i_cell_in and layer_i_cell_out; all zeros begin a sequence. Formulas are those of the layers' modules.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from darkbn.interop.onnx.activations import activate
from darkbn.interop.onnx.exporter import Exporter, layer_name
from darkbn.interop.onnx.sections import convolution, matrix_product, section

#: What a layer carries from step to step: attribute of the layer and word in the names.
CARRIED = {"prev_state": "state", "prev_cell": "cell"}


def carried_names(index: int, attribute: str) -> tuple[str, str]:
    """Names of the input and the output that carry an array of a layer."""
    stem = f"{layer_name(index)}_{CARRIED[attribute]}"
    return f"{stem}_in", f"{stem}_out"


def _carried_in(e: Exporter, l: Any, attribute: str) -> str:
    """A new input of the model for what the step before left."""
    name = carried_names(l.context.index, attribute)[0]
    shape = getattr(l, attribute).shape[1:]
    e.g.inputs.append((name, [e.g.inputs[0][1][0], *shape]))
    value = e.g.cast(name, np.float16) if e.wanted.float16 else name
    return e.set_rank(value, 1 + len(shape))


def _carry_out(e: Exporter, l: Any, attribute: str, value: str) -> None:
    """A new output of the model for the next step."""
    name = carried_names(l.context.index, attribute)[1]
    shape = getattr(l, attribute).shape[1:]
    e.g.outputs.append((name, [e.g.inputs[0][1][0], *shape]))
    result = e.g.cast(value, np.float32) if e.wanted.float16 else e.g.op("Identity", value)
    e.g.rename(result, name, len(e.g.nodes) - 1)


def _part(e: Exporter, l: Any, name: str, x: str) -> str:
    """A sub-layer."""
    scope, part = e.g.scope, l.sublayers[name]
    e.g.scope = f"{scope}.{name}"
    y = matrix_product(e, part, x) if part.type == "connected" else convolution(e, part, x)
    e.g.scope = scope
    return y


def _sum(e: Exporter, *terms: str) -> str:
    total, *others = terms
    for term in others:
        total = e.g.op("Add", total, term)
    return total


def _gate(e: Exporter, *terms: str) -> str:
    return e.g.op("Sigmoid", _sum(e, *terms))


@section("rnn", "crnn")
def elman(e: Exporter, l: Any, x: str) -> str:
    e.require_fixed_size(l, "its state has the size of its input")
    x = e.image(l, x) if l.type == "crnn" else e.flat(x)
    before = _carried_in(e, l, "prev_state")
    terms = [_part(e, l, "input_layer", x), _part(e, l, "self_layer", before)]
    state = _sum(e, *terms, *([before] if l.options.shortcut else []))
    e.set_rank(state, 4 if l.type == "crnn" else 2)
    output = _part(e, l, "output_layer", state)
    _carry_out(e, l, "prev_state", state)
    return output


@section("gru")
def gru(e: Exporter, l: Any, x: str) -> str:
    e.require_fixed_size(l, "its state has the size of its input")
    x, state, g, names = e.flat(x), _carried_in(e, l, "prev_state"), e.g, l.names
    z = _gate(e, _part(e, l, names["uz"], x), _part(e, l, names["wz"], state))
    r = _gate(e, _part(e, l, names["ur"], x), _part(e, l, names["wr"], state))
    forgot = e.set_rank(g.op("Mul", r, state), 2)
    term = _sum(e, _part(e, l, names["uh"], x), _part(e, l, names["wh"], forgot))
    candidate = g.op("Tanh" if l.options.tanh and l.context.dialect == "darknet" else "Sigmoid", term)
    rest = g.op("Mul", g.op("Sub", g.scalar(1.0), z), candidate)
    output = e.set_rank(g.op("Add", g.op("Mul", z, state), rest), 2)
    _carry_out(e, l, "prev_state", output)
    return output


@section("lstm")
def lstm(e: Exporter, l: Any, x: str) -> str:
    e.require_fixed_size(l, "its state has the size of its input")
    x, g = e.flat(x), e.g
    state, cell = _carried_in(e, l, "prev_state"), _carried_in(e, l, "prev_cell")

    def term(gate: str) -> str:
        return _sum(e, _part(e, l, f"w{gate}", state), _part(e, l, f"u{gate}", x))

    f, i, o = (g.op("Sigmoid", term(gate)) for gate in "fio")
    cell = g.op("Add", g.op("Mul", f, cell), g.op("Mul", i, g.op("Tanh", term("g"))))
    output = e.set_rank(g.op("Mul", o, g.op("Tanh", cell)), 2)
    _carry_out(e, l, "prev_state", output)
    _carry_out(e, l, "prev_cell", cell)
    return output


@section("conv_lstm")
def conv_lstm(e: Exporter, l: Any, x: str) -> str:
    e.require_fixed_size(l, "its state has the size of its input")
    g, o = e.g, l.options
    x, state, previous = e.image(l, x), _carried_in(e, l, "prev_state"), _carried_in(e, l, "prev_cell")
    seen = ""
    if o.bottleneck:
        joined = e.set_rank(g.op("Concat", state, x, axis=1), 4)
        seen = e.set_rank(activate(g, o.lstm_activation, _part(e, l, "wf", joined)), 4)

    def terms(gate: str, cell: str) -> list[str]:
        peephole = [_part(e, l, f"v{gate}", cell)] if o.peephole and gate != "g" else []
        if o.bottleneck:
            return [_part(e, l, f"u{gate}", seen), *peephole]
        return [_part(e, l, f"w{gate}", state), _part(e, l, f"u{gate}", x), *peephole]

    forget, write = _gate(e, *terms("f", previous)), _gate(e, *terms("i", previous))
    new = activate(g, o.lstm_activation, _sum(e, *terms("g", previous)))
    cell = e.set_rank(g.op("Add", g.op("Mul", forget, previous), g.op("Mul", write, new)), 4)
    read = _gate(e, *terms("o", cell))
    hidden = g.op("Mul", read, activate(g, o.lstm_activation, cell))
    if l.constrain:
        cell = g.op("Clip", cell, g.scalar(-l.constrain), g.scalar(l.constrain))
    _carry_out(e, l, "prev_state", hidden)
    _carry_out(e, l, "prev_cell", cell)
    return _with_half(e, l, hidden, seen) if l.has_shortcut else hidden


def _with_half(e: Exporter, l: Any, hidden: str, seen: str) -> str:
    """The output of shortcut=1: the first half of the values that the gates saw is added."""
    first = e.g.slice(e.g.op("Flatten", seen, axis=1), (1,), (0,), (l.outputs // 2,))
    term = e.g.pad(first, (0, 0), (0, l.outputs - l.outputs // 2))
    return e.g.op("Add", hidden, e.g.reshape(term, (0, l.out_c, l.out_h, l.out_w)))


@section("history")
def history(e: Exporter, l: Any, x: str) -> str:
    e.require_fixed_size(l, "its state has the size of its input")
    x, before = e.image(l, x), _carried_in(e, l, "prev_state")
    kept = e.g.slice(before, (1,), (0,), (l.out_c - l.c,))
    output = e.g.op("Concat", x, kept, axis=1) if l.out_c > l.c else x
    _carry_out(e, l, "prev_state", output)
    return output
