"""Launchers of darkbn.reference.recurrent."""

from __future__ import annotations

from darkbn.signature import Array
from darkbn_gpu.launch import each


def next_state(a: Array, b: Array, previous: Array | None, state: Array, threads: int) -> None:
    each("recurrent", "recurrent_next_state", a.size, a, b, previous, state, a.size)


def accumulate(x: Array, out: Array, scale: float, threads: int) -> None:
    each("recurrent", "recurrent_accumulate", x.size, x, out, x.size, float(scale))


def gru_gates(
    uz: Array, wz: Array, ur: Array, wr: Array, state: Array, z: Array, r: Array, forgot_state: Array, threads: int
) -> None:
    each("recurrent", "recurrent_gru_gates", uz.size, uz, wz, ur, wr, state, z, r, forgot_state, uz.size)


def gru_output(
    uh: Array, wh: Array, z: Array, state: Array, candidate: Array, output: Array, kind: int, threads: int
) -> None:
    each("recurrent", "recurrent_gru_output", uh.size, uh, wh, z, state, candidate, output, uh.size, kind)


def gru_backward_output(
    delta: Array,
    z: Array,
    candidate: Array,
    state: Array,
    uz_delta: Array,
    wz_delta: Array,
    uh_delta: Array,
    wh_delta: Array,
    state_delta: Array | None,
    kind: int,
    threads: int,
) -> None:
    arrays = (delta, z, candidate, state, uz_delta, wz_delta, uh_delta, wh_delta, state_delta)
    each("recurrent", "recurrent_gru_backward_output", delta.size, *arrays, delta.size, kind)


def gru_backward_gates(
    forgot_delta: Array,
    r: Array,
    state: Array,
    ur_delta: Array,
    wr_delta: Array,
    state_delta: Array | None,
    threads: int,
) -> None:
    arrays = (forgot_delta, r, state, ur_delta, wr_delta, state_delta)
    each("recurrent", "recurrent_gru_backward_gates", forgot_delta.size, *arrays, forgot_delta.size)


def lstm_cell(
    wf: Array | None,
    uf: Array,
    vf: Array | None,
    wi: Array | None,
    ui: Array,
    vi: Array | None,
    wg: Array | None,
    ug: Array,
    previous_cell: Array,
    f: Array,
    i: Array,
    g: Array,
    cell: Array,
    kind: int,
    threads: int,
) -> None:
    arrays = (wf, uf, vf, wi, ui, vi, wg, ug, previous_cell, f, i, g, cell)
    each("recurrent", "recurrent_lstm_cell", uf.size, *arrays, uf.size, kind)


def lstm_output(
    wo: Array | None,
    uo: Array,
    vo: Array | None,
    o: Array,
    cell: Array,
    output: Array,
    kind: int,
    constrain: float,
    threads: int,
) -> None:
    each("recurrent", "recurrent_lstm_output", uo.size, wo, uo, vo, o, cell, output, uo.size, kind, float(constrain))


def lstm_backward_output(
    delta: Array,
    f: Array,
    i: Array,
    g: Array,
    o: Array,
    previous_cell: Array,
    cell_delta: Array,
    cell: Array | None,
    wo_delta: Array | None,
    uo_delta: Array,
    vo_delta: Array | None,
    kind: int,
    constrain: float,
    threads: int,
) -> None:
    arrays = (delta, f, i, g, o, previous_cell, cell_delta, cell, wo_delta, uo_delta, vo_delta)
    each("recurrent", "recurrent_lstm_backward_output", delta.size, *arrays, delta.size, kind, float(constrain))


def lstm_backward_cell(
    f: Array,
    i: Array,
    g: Array,
    previous_cell: Array,
    cell_delta: Array,
    wf_delta: Array | None,
    uf_delta: Array,
    vf_delta: Array | None,
    wi_delta: Array | None,
    ui_delta: Array,
    vi_delta: Array | None,
    wg_delta: Array | None,
    ug_delta: Array,
    kind: int,
    threads: int,
) -> None:
    arrays = (
        f,
        i,
        g,
        previous_cell,
        cell_delta,
        wf_delta,
        uf_delta,
        vf_delta,
        wi_delta,
        ui_delta,
        vi_delta,
        wg_delta,
        ug_delta,
    )
    each("recurrent", "recurrent_lstm_backward_cell", f.size, *arrays, f.size, kind)
