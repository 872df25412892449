"""Kernels of darkbn.reference.softmax."""

from cython.parallel cimport prange

from darkbn.cpu.flat cimport flat, flat_const


cdef extern from "darkbn/softmax.h" nogil:
    enum:
        DARKBN_TILE
    void darkbn_softmax_row(const float* x, float* out, Py_ssize_t n, float inverse_temperature)
    void darkbn_softmax_groups(
        const float* x, float* out, const int* sizes, Py_ssize_t groups, float inverse_temperature)
    void darkbn_softmax_columns(
        const float* x, float* out, Py_ssize_t n, Py_ssize_t stride, int count, float inverse_temperature)


cdef extern from "darkbn/elementwise.h" nogil:
    void darkbn_softmax_x_ent(const float* pred, const float* truth, float* delta, float* error, Py_ssize_t n)


cdef enum:
    CHUNK = 1024
    PARALLEL = 8192


def forward(const float[:, :, ::1] x, float[:, :, ::1] out, float temperature, int threads):
    cdef Py_ssize_t n = x.shape[1], spatial = x.shape[2], tiles = (spatial + DARKBN_TILE - 1) // DARKBN_TILE
    cdef Py_ssize_t i, start, offset
    cdef float factor = 1 / temperature
    cdef bint parallel = x.shape[0] * n * spatial > PARALLEL
    if n == 0 or spatial == 0:
        return
    if spatial == 1:
        for i in prange(x.shape[0], nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
            darkbn_softmax_row(&x[i, 0, 0], &out[i, 0, 0], n, factor)
        return
    for i in prange(x.shape[0] * tiles, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
        start = i % tiles * DARKBN_TILE
        offset = i // tiles * n * spatial + start
        darkbn_softmax_columns(
            &x[0, 0, 0] + offset, &out[0, 0, 0] + offset, n, spatial, <int>min(DARKBN_TILE, spatial - start), factor)


def forward_groups(const float[:, ::1] x, float[:, ::1] out, const int[::1] sizes, float temperature, int threads):
    cdef Py_ssize_t i
    cdef bint parallel = x.shape[0] * x.shape[1] > PARALLEL
    if x.shape[1] == 0 or sizes.shape[0] == 0:
        return
    for i in prange(x.shape[0], nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
        darkbn_softmax_groups(&x[i, 0], &out[i, 0], &sizes[0], sizes.shape[0], 1 / temperature)


def cross_entropy(predicted, truth, delta, error, int threads):
    cdef const float[::1] p = flat_const(predicted), t = flat_const(truth)
    cdef float[::1] d = flat(delta), e = flat(error)
    cdef Py_ssize_t n = p.shape[0], i
    for i in prange(0, n, CHUNK, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        darkbn_softmax_x_ent(&p[i], &t[i], &d[i], &e[i], min(CHUNK, n - i))
