"""Kernels of darkbn.reference.dropout."""

from cython.parallel cimport prange

from darkbn.cpu.flat cimport flat, flat_const


cdef extern from "darkbn/elementwise.h" nogil:
    void darkbn_dropout(
        const float* x, const float* rand, float* out, Py_ssize_t n, float probability, float scale)
    void darkbn_dropout_backward(
        const float* rand, const float* delta, float* out, Py_ssize_t n, float probability, float scale)


cdef enum:
    CHUNK = 4096
    PARALLEL = 16384


def forward(x, rand, out, float probability, float scale, int threads):
    cdef const float[::1] row = flat_const(x), drawn = flat_const(rand)
    cdef float[::1] to = flat(out)
    cdef Py_ssize_t n = to.shape[0], i
    for i in prange(0, n, CHUNK, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        darkbn_dropout(&row[i], &drawn[i], &to[i], min(CHUNK, n - i), probability, scale)


def backward(rand, delta, out, float probability, float scale, int threads):
    cdef const float[::1] drawn = flat_const(rand), row = flat_const(delta)
    cdef float[::1] to = flat(out)
    cdef Py_ssize_t n = to.shape[0], i
    for i in prange(0, n, CHUNK, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        darkbn_dropout_backward(&drawn[i], &row[i], &to[i], min(CHUNK, n - i), probability, scale)
