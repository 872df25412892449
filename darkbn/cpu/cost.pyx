"""Kernels of darkbn.reference.cost."""

from cython.parallel cimport prange

from darkbn.cpu.flat cimport flat, flat_const

ctypedef void (*Loss)(const float* pred, const float* truth, float* delta, float* error, Py_ssize_t n) noexcept nogil


cdef extern from "darkbn/elementwise.h" nogil:
    void darkbn_l2(const float* pred, const float* truth, float* delta, float* error, Py_ssize_t n)
    void darkbn_l1(const float* pred, const float* truth, float* delta, float* error, Py_ssize_t n)
    void darkbn_smooth_l1(const float* pred, const float* truth, float* delta, float* error, Py_ssize_t n)
    void darkbn_wgan(const float* pred, const float* truth, float* delta, float* error, Py_ssize_t n)
    void darkbn_logistic_x_ent(const float* pred, const float* truth, float* delta, float* error, Py_ssize_t n)
    void darkbn_scale_where(const float* mask, float* x, Py_ssize_t n, float value, float factor)
    void darkbn_fill_where(const float* mask, float* x, Py_ssize_t n, float value, float number)
    void darkbn_suppress(float* x, Py_ssize_t n, float threshold)


cdef enum:
    CHUNK = 2048
    PARALLEL = 16384


cdef apply_loss(Loss loss, predicted, truth, delta, error, int threads):
    cdef const float[::1] p = flat_const(predicted), t = flat_const(truth)
    cdef float[::1] d = flat(delta), e = flat(error)
    cdef Py_ssize_t n = p.shape[0], i
    for i in prange(0, n, CHUNK, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        loss(&p[i], &t[i], &d[i], &e[i], min(CHUNK, n - i))


def l2(predicted, truth, delta, error, int threads):
    apply_loss(darkbn_l2, predicted, truth, delta, error, threads)


def l1(predicted, truth, delta, error, int threads):
    apply_loss(darkbn_l1, predicted, truth, delta, error, threads)


def smooth_l1(predicted, truth, delta, error, int threads):
    apply_loss(darkbn_smooth_l1, predicted, truth, delta, error, threads)


def wgan(predicted, truth, delta, error, int threads):
    apply_loss(darkbn_wgan, predicted, truth, delta, error, threads)


def logistic(predicted, truth, delta, error, int threads):
    apply_loss(darkbn_logistic_x_ent, predicted, truth, delta, error, threads)


def scale_where(mask, x, float value, float factor, int threads):
    cdef const float[::1] where = flat_const(mask)
    cdef float[::1] row = flat(x)
    cdef Py_ssize_t n = row.shape[0], i
    for i in prange(0, n, CHUNK, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        darkbn_scale_where(&where[i], &row[i], min(CHUNK, n - i), value, factor)


def fill_where(mask, x, float value, float number, int threads):
    cdef const float[::1] where = flat_const(mask)
    cdef float[::1] row = flat(x)
    cdef Py_ssize_t n = row.shape[0], i
    for i in prange(0, n, CHUNK, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        darkbn_fill_where(&where[i], &row[i], min(CHUNK, n - i), value, number)


def suppress(x, float threshold, int threads):
    cdef float[::1] row = flat(x)
    cdef Py_ssize_t n = row.shape[0], i
    for i in prange(0, n, CHUNK, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        darkbn_suppress(&row[i], min(CHUNK, n - i), threshold)
