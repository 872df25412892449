from darkbn.signature import Array

def next_state(a: Array, b: Array, previous: Array | None, state: Array, threads: int) -> None: ...
def accumulate(x: Array, out: Array, scale: float, threads: int) -> None: ...
def gru_gates(
    uz: Array, wz: Array, ur: Array, wr: Array, state: Array, z: Array, r: Array, forgot_state: Array, threads: int
) -> None: ...
def gru_output(
    uh: Array, wh: Array, z: Array, state: Array, candidate: Array, output: Array, kind: int, threads: int
) -> None: ...
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
) -> None: ...
def gru_backward_gates(
    forgot_delta: Array,
    r: Array,
    state: Array,
    ur_delta: Array,
    wr_delta: Array,
    state_delta: Array | None,
    threads: int,
) -> None: ...
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
) -> None: ...
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
) -> None: ...
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
) -> None: ...
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
) -> None: ...
