"""Kernels of darkbn.reference.recurrent."""

from cython.parallel cimport prange

from darkbn.cpu.flat cimport flat, flat_const


cdef extern from "darkbn/recurrent.h" nogil:
    enum:
        DARKBN_GATE_ROW
    ctypedef float* row "float*"
    void darkbn_next_state(const row* arrays, Py_ssize_t start, Py_ssize_t n)
    void darkbn_accumulate(const row* arrays, Py_ssize_t start, Py_ssize_t n, float scale)
    void darkbn_gru_gates(const row* arrays, Py_ssize_t start, Py_ssize_t n)
    void darkbn_gru_output(const row* arrays, Py_ssize_t start, Py_ssize_t n, int kind)
    void darkbn_gru_backward_output(const row* arrays, Py_ssize_t start, Py_ssize_t n, int kind)
    void darkbn_gru_backward_gates(const row* arrays, Py_ssize_t start, Py_ssize_t n)
    void darkbn_lstm_cell(const row* arrays, Py_ssize_t start, Py_ssize_t n, int kind)
    void darkbn_lstm_output(const row* arrays, Py_ssize_t start, Py_ssize_t n, int kind, float constrain)
    void darkbn_lstm_backward_output(const row* arrays, Py_ssize_t start, Py_ssize_t n, int kind, float constrain)
    void darkbn_lstm_backward_cell(const row* arrays, Py_ssize_t start, Py_ssize_t n, int kind)


# Values from which on threads pay, and the number of arrays that a kernel has at most.
cdef enum:
    PARALLEL = 16384
    ARRAYS = 13


cdef Py_ssize_t rows(inputs, outputs, float** pointers) except -1:
    """Stores where the arrays' values lie, NULL for None; returns how many each array has."""
    cdef const float[::1] values
    cdef float[::1] written
    cdef Py_ssize_t n = 0, k = 0
    for array in inputs:
        pointers[k] = NULL
        if array is not None:
            values = flat_const(array)
            n = values.shape[0]
            pointers[k] = <float*>&values[0] if n else NULL
        k += 1
    for array in outputs:
        pointers[k] = NULL
        if array is not None:
            written = flat(array)
            n = written.shape[0]
            pointers[k] = &written[0] if n else NULL
        k += 1
    return n


def next_state(a, b, previous, state, int threads):
    cdef float* p[ARRAYS]
    cdef Py_ssize_t n = rows((a, b, previous), (state,), p), start
    for start in prange(
            0, n, DARKBN_GATE_ROW, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        darkbn_next_state(p, start, min(DARKBN_GATE_ROW, n - start))


def accumulate(x, out, float scale, int threads):
    cdef float* p[ARRAYS]
    cdef Py_ssize_t n = rows((x,), (out,), p), start
    for start in prange(
            0, n, DARKBN_GATE_ROW, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        darkbn_accumulate(p, start, min(DARKBN_GATE_ROW, n - start), scale)


def gru_gates(uz, wz, ur, wr, state, z, r, forgot_state, int threads):
    cdef float* p[ARRAYS]
    cdef Py_ssize_t n = rows((uz, wz, ur, wr, state), (z, r, forgot_state), p), start
    for start in prange(
            0, n, DARKBN_GATE_ROW, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        darkbn_gru_gates(p, start, min(DARKBN_GATE_ROW, n - start))


def gru_output(uh, wh, z, state, candidate, output, int kind, int threads):
    cdef float* p[ARRAYS]
    cdef Py_ssize_t n = rows((uh, wh, z, state), (candidate, output), p), start
    for start in prange(
            0, n, DARKBN_GATE_ROW, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        darkbn_gru_output(p, start, min(DARKBN_GATE_ROW, n - start), kind)


def gru_backward_output(
        delta, z, candidate, state, uz_delta, wz_delta, uh_delta, wh_delta, state_delta, int kind, int threads):
    cdef float* p[ARRAYS]
    cdef Py_ssize_t n = rows(
        (delta, z, candidate, state),
        (uz_delta, wz_delta, uh_delta, wh_delta, state_delta),
        p), start
    for start in prange(
            0, n, DARKBN_GATE_ROW, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        darkbn_gru_backward_output(p, start, min(DARKBN_GATE_ROW, n - start), kind)


def gru_backward_gates(forgot_delta, r, state, ur_delta, wr_delta, state_delta, int threads):
    cdef float* p[ARRAYS]
    cdef Py_ssize_t n = rows((forgot_delta, r, state), (ur_delta, wr_delta, state_delta), p), start
    for start in prange(
            0, n, DARKBN_GATE_ROW, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        darkbn_gru_backward_gates(p, start, min(DARKBN_GATE_ROW, n - start))


def lstm_cell(wf, uf, vf, wi, ui, vi, wg, ug, previous_cell, f, i, g, cell, int kind, int threads):
    cdef float* p[ARRAYS]
    cdef Py_ssize_t n = rows((wf, uf, vf, wi, ui, vi, wg, ug, previous_cell), (f, i, g, cell), p), start
    for start in prange(
            0, n, DARKBN_GATE_ROW, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        darkbn_lstm_cell(p, start, min(DARKBN_GATE_ROW, n - start), kind)


def lstm_output(wo, uo, vo, o, cell, output, int kind, float constrain, int threads):
    cdef float* p[ARRAYS]
    cdef Py_ssize_t n = rows((wo, uo, vo), (o, cell, output), p), start
    for start in prange(
            0, n, DARKBN_GATE_ROW, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        darkbn_lstm_output(p, start, min(DARKBN_GATE_ROW, n - start), kind, constrain)


def lstm_backward_output(
        delta, f, i, g, o, previous_cell, cell_delta, cell, wo_delta, uo_delta, vo_delta, int kind, float constrain,
        int threads):
    cdef float* p[ARRAYS]
    cdef Py_ssize_t n = rows(
        (delta, f, i, g, o, previous_cell),
        (cell_delta, cell, wo_delta, uo_delta, vo_delta),
        p), start
    for start in prange(
            0, n, DARKBN_GATE_ROW, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        darkbn_lstm_backward_output(p, start, min(DARKBN_GATE_ROW, n - start), kind, constrain)


def lstm_backward_cell(
        f, i, g, previous_cell, cell_delta, wf_delta, uf_delta, vf_delta, wi_delta, ui_delta, vi_delta, wg_delta,
        ug_delta, int kind, int threads):
    cdef float* p[ARRAYS]
    cdef Py_ssize_t n = rows(
        (f, i, g, previous_cell),
        (cell_delta, wf_delta, uf_delta, vf_delta, wi_delta, ui_delta, vi_delta, wg_delta, ug_delta),
        p), start
    for start in prange(
            0, n, DARKBN_GATE_ROW, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        darkbn_lstm_backward_cell(p, start, min(DARKBN_GATE_ROW, n - start), kind)
