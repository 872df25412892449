"""Element by element passes of recurrent layers; the products between them are those of their sub-layers.

Names follow Darknet: w* are the outputs of the sub-layers that see the state, u* of those that see the input, v* of
those that see the cell (peepholes). A delta is the gradient by the array that it is named after. Arguments that may
be None count as zeros. An array may be given once only, except that different `in` arguments may share memory.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np

from darkbn.activations import Activation
from darkbn.reference import activation as functions
from darkbn.signature import Array


def _activate(x: Any, kind: int) -> Any:
    y = np.empty_like(x, dtype=np.float64)
    functions.forward_to(x, y, kind, 1)
    return y


def _slope(y: Any, kind: int) -> Any:
    """Derivative of an activation as a function of its output."""
    slope = np.ones_like(y, dtype=np.float64)
    functions.gradient(y, slope, kind, 1)
    return slope


def _logistic(x: Any) -> Any:
    return _activate(x, Activation.LOGISTIC)


def _sum(*terms: Array | None) -> Any:
    return sum(term.astype(np.float64) for term in terms if term is not None)


def _give(value: Any, *targets: Array | None) -> None:
    for target in targets:
        if target is not None:
            target[...] = value


def next_state(
    a: Annotated[Array, "in *s"],
    b: Annotated[Array, "in *s"],
    previous: Annotated[Array, "in? *s"],
    state: Annotated[Array, "out *s"],
    threads: int,
) -> None:
    """state = a + b + previous."""
    state[...] = _sum(a, b, previous)


def accumulate(x: Annotated[Array, "in *s"], out: Annotated[Array, "io *s"], scale: float, threads: int) -> None:
    """out += scale * x (Darknet's axpy)."""
    out += scale * x


def gru_gates(
    uz: Annotated[Array, "in *s"],
    wz: Annotated[Array, "in *s"],
    ur: Annotated[Array, "in *s"],
    wr: Annotated[Array, "in *s"],
    state: Annotated[Array, "in *s"],
    z: Annotated[Array, "out *s"],
    r: Annotated[Array, "out *s"],
    forgot_state: Annotated[Array, "out *s"],
    threads: int,
) -> None:
    """z = logistic(uz + wz), r = logistic(ur + wr), forgot_state = r * state."""
    z[...] = _logistic(_sum(uz, wz))
    reset = _logistic(_sum(ur, wr))
    r[...] = reset
    forgot_state[...] = reset * state


def gru_output(
    uh: Annotated[Array, "in *s"],
    wh: Annotated[Array, "in *s"],
    z: Annotated[Array, "in *s"],
    state: Annotated[Array, "in *s"],
    candidate: Annotated[Array, "out *s"],
    output: Annotated[Array, "out *s"],
    kind: int,
    threads: int,
) -> None:
    """candidate = activation(uh + wh), output = z * state + (1 - z) * candidate.

    kind: code of the activation, logistic or tanh.
    """
    new = _activate(_sum(uh, wh), kind)
    candidate[...] = new
    output[...] = z * state + (1 - z) * new


def gru_backward_output(
    delta: Annotated[Array, "in *s"],
    z: Annotated[Array, "in *s"],
    candidate: Annotated[Array, "in *s"],
    state: Annotated[Array, "in *s"],
    uz_delta: Annotated[Array, "out *s"],
    wz_delta: Annotated[Array, "out *s"],
    uh_delta: Annotated[Array, "out *s"],
    wh_delta: Annotated[Array, "out *s"],
    state_delta: Annotated[Array, "io? *s"],
    kind: int,
    threads: int,
) -> None:
    """From the delta of the output to those of the update gate and the candidate; adds to the state's."""
    _give(delta * (state - candidate) * _slope(z, Activation.LOGISTIC), uz_delta, wz_delta)
    _give(delta * (1 - z) * _slope(candidate, kind), uh_delta, wh_delta)
    if state_delta is not None:
        state_delta += delta * z


def gru_backward_gates(
    forgot_delta: Annotated[Array, "in *s"],
    r: Annotated[Array, "in *s"],
    state: Annotated[Array, "in *s"],
    ur_delta: Annotated[Array, "out *s"],
    wr_delta: Annotated[Array, "out *s"],
    state_delta: Annotated[Array, "io? *s"],
    threads: int,
) -> None:
    """From the delta of forgot_state to that of the reset gate; adds to the state's."""
    _give(forgot_delta * state * _slope(r, Activation.LOGISTIC), ur_delta, wr_delta)
    if state_delta is not None:
        state_delta += forgot_delta * r


def lstm_cell(
    wf: Annotated[Array, "in? *s"],
    uf: Annotated[Array, "in *s"],
    vf: Annotated[Array, "in? *s"],
    wi: Annotated[Array, "in? *s"],
    ui: Annotated[Array, "in *s"],
    vi: Annotated[Array, "in? *s"],
    wg: Annotated[Array, "in? *s"],
    ug: Annotated[Array, "in *s"],
    previous_cell: Annotated[Array, "in *s"],
    f: Annotated[Array, "out *s"],
    i: Annotated[Array, "out *s"],
    g: Annotated[Array, "out *s"],
    cell: Annotated[Array, "out *s"],
    kind: int,
    threads: int,
) -> None:
    """f = logistic(wf + uf + vf), i = logistic(wi + ui + vi), g = activation(wg + ug), cell = f*previous_cell + i*g.

    kind: code of an activation whose gradient is a function of its output.
    """
    forget, write, new = _logistic(_sum(wf, uf, vf)), _logistic(_sum(wi, ui, vi)), _activate(_sum(wg, ug), kind)
    f[...], i[...], g[...] = forget, write, new
    cell[...] = forget * previous_cell + write * new


def lstm_output(
    wo: Annotated[Array, "in? *s"],
    uo: Annotated[Array, "in *s"],
    vo: Annotated[Array, "in? *s"],
    o: Annotated[Array, "out *s"],
    cell: Annotated[Array, "io *s"],
    output: Annotated[Array, "out *s"],
    kind: int,
    constrain: float,
    threads: int,
) -> None:
    """o = logistic(wo + uo + vo), output = o * activation(cell); then the cell is clamped to +-constrain, if not 0."""
    read = _logistic(_sum(wo, uo, vo))
    o[...] = read
    output[...] = read * _activate(cell, kind)
    if constrain:
        np.clip(cell, -constrain, constrain, out=cell)


def lstm_backward_output(
    delta: Annotated[Array, "in *s"],
    f: Annotated[Array, "in *s"],
    i: Annotated[Array, "in *s"],
    g: Annotated[Array, "in *s"],
    o: Annotated[Array, "in *s"],
    previous_cell: Annotated[Array, "in *s"],
    cell_delta: Annotated[Array, "io *s"],
    cell: Annotated[Array, "out? *s"],
    wo_delta: Annotated[Array, "out? *s"],
    uo_delta: Annotated[Array, "out *s"],
    vo_delta: Annotated[Array, "out? *s"],
    kind: int,
    constrain: float,
    threads: int,
) -> None:
    """From the deltas of the output and of the clamped cell to those of the output gate and of the cell itself.

    `cell` receives the cell as it was before it was clamped, which `vo` has seen.
    """
    c = f * previous_cell + i.astype(np.float64) * g
    y = _activate(c, kind)
    _give(c, cell)
    _give(delta * y * _slope(o, Activation.LOGISTIC), wo_delta, uo_delta, vo_delta)
    if constrain:
        cell_delta *= np.abs(c) <= constrain
    cell_delta += delta * o * _slope(y, kind)


def lstm_backward_cell(
    f: Annotated[Array, "in *s"],
    i: Annotated[Array, "in *s"],
    g: Annotated[Array, "in *s"],
    previous_cell: Annotated[Array, "in *s"],
    cell_delta: Annotated[Array, "io *s"],
    wf_delta: Annotated[Array, "out? *s"],
    uf_delta: Annotated[Array, "out *s"],
    vf_delta: Annotated[Array, "out? *s"],
    wi_delta: Annotated[Array, "out? *s"],
    ui_delta: Annotated[Array, "out *s"],
    vi_delta: Annotated[Array, "out? *s"],
    wg_delta: Annotated[Array, "out? *s"],
    ug_delta: Annotated[Array, "out *s"],
    kind: int,
    threads: int,
) -> None:
    """From the delta of the cell to those of the gates; cell_delta becomes what f passes on to previous_cell."""
    _give(cell_delta * previous_cell * _slope(f, Activation.LOGISTIC), wf_delta, uf_delta, vf_delta)
    _give(cell_delta * g * _slope(i, Activation.LOGISTIC), wi_delta, ui_delta, vi_delta)
    _give(cell_delta * i * _slope(g, kind), wg_delta, ug_delta)
    cell_delta *= f
