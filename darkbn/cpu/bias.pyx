"""Kernels of darkbn.reference.bias.

With one value per channel (after connected layers) whole rows of channels are worked through, else planes.
"""

from cython.parallel cimport prange


cdef extern from "darkbn/reduce.h" nogil:
    enum:
        DARKBN_SUM_COLUMNS
    double darkbn_sum(const float* x, Py_ssize_t n)
    void darkbn_sum_columns(const float* x, Py_ssize_t rows, Py_ssize_t step, int columns, double* sums)


cdef extern from "darkbn/elementwise.h" nogil:
    void darkbn_add(float* x, Py_ssize_t n, float value)
    void darkbn_scal(float* x, Py_ssize_t n, float value)
    void darkbn_axpy(const float* x, float* y, Py_ssize_t n, float alpha)
    void darkbn_mul(const float* x, float* y, Py_ssize_t n)


# Fewer values are not worth a second thread.
cdef enum:
    PARALLEL = 16384


def add_bias(float[:, :, ::1] x, const float[::1] biases, int threads):
    cdef Py_ssize_t filters = x.shape[1], spatial = x.shape[2], i
    cdef bint parallel = x.shape[0] * filters * spatial > PARALLEL
    if filters == 0 or spatial == 0:
        return
    if spatial == 1:
        for i in prange(x.shape[0], nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
            darkbn_axpy(&biases[0], &x[i, 0, 0], filters, 1)
        return
    for i in prange(x.shape[0] * filters, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
        darkbn_add(&x[0, 0, 0] + i * spatial, spatial, biases[i % filters])


def scale_bias(float[:, :, ::1] x, const float[::1] scales, int threads):
    cdef Py_ssize_t filters = x.shape[1], spatial = x.shape[2], i
    cdef bint parallel = x.shape[0] * filters * spatial > PARALLEL
    if filters == 0 or spatial == 0:
        return
    if spatial == 1:
        for i in prange(x.shape[0], nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
            darkbn_mul(&scales[0], &x[i, 0, 0], filters)
        return
    for i in prange(x.shape[0] * filters, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
        darkbn_scal(&x[0, 0, 0] + i * spatial, spatial, scales[i % filters])


def backward_bias(float[::1] bias_updates, const float[:, :, ::1] delta, int threads):
    cdef Py_ssize_t batch = delta.shape[0], filters = delta.shape[1], spatial = delta.shape[2], i
    cdef bint parallel = batch * filters * spatial > PARALLEL
    if batch == 0 or filters == 0 or spatial == 0:
        return
    if spatial == 1:
        for i in prange(0, filters, DARKBN_SUM_COLUMNS, nogil=True, num_threads=threads, schedule="static",
                        use_threads_if=parallel):
            add_columns(&bias_updates[i], &delta[0, i, 0], batch, filters, <int>min(DARKBN_SUM_COLUMNS, filters - i))
        return
    for i in prange(filters, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
        bias_updates[i] += sum_channel(&delta[0, 0, 0] + i * spatial, batch, filters * spatial, spatial)


cdef inline float sum_channel(const float* x, Py_ssize_t batch, Py_ssize_t step, Py_ssize_t spatial) noexcept nogil:
    cdef double total = 0
    cdef Py_ssize_t b
    for b in range(batch):
        total += darkbn_sum(x + b * step, spatial)
    return <float>total


cdef void add_columns(float* to, const float* x, Py_ssize_t rows, Py_ssize_t step, int columns) noexcept nogil:
    cdef double sums[DARKBN_SUM_COLUMNS]
    cdef int i
    darkbn_sum_columns(x, rows, step, columns, sums)
    for i in range(columns):
        to[i] += <float>sums[i]
