"""Kernels of darkbn.reference.vector."""

from cython.parallel cimport prange

from darkbn.cpu.flat cimport flat, flat_const

from libc.math cimport fabsf


cdef extern from "darkbn/elementwise.h" nogil:
    void darkbn_fill(float* x, Py_ssize_t n, float value)
    void darkbn_axpy(const float* x, float* y, Py_ssize_t n, float alpha)
    void darkbn_scal_add(float* x, Py_ssize_t n, float alpha, float beta)
    void darkbn_mul(const float* x, float* y, Py_ssize_t n)
    void darkbn_pow(const float* x, float* y, Py_ssize_t n, float alpha)
    void darkbn_mult_add_into(const float* x, const float* y, float* z, Py_ssize_t n)
    void darkbn_weighted_sum(const float* a, const float* b, const float* s, float* out, Py_ssize_t n)
    void darkbn_weighted_delta(
        const float* a, const float* b, const float* s, float* da, float* db, float* ds, const float* dc,
        Py_ssize_t n)
    void darkbn_constrain(float* x, Py_ssize_t n, float limit)
    void darkbn_binarize(const float* x, float* out, Py_ssize_t n, float size)
    enum:
        DARKBN_VECTOR_TILE
    void darkbn_l2normalize_columns(float* x, float* dx, Py_ssize_t n, Py_ssize_t stride, int count)


cdef extern from "darkbn/stream.h" nogil:
    enum:
        DARKBN_STREAM_FROM
    void darkbn_copy_stream(const float* x, float* out, Py_ssize_t n)
    void darkbn_copy(float* to, const float* source, Py_ssize_t n)


cdef extern from "darkbn/reduce.h" nogil:
    double darkbn_sum(const float* x, Py_ssize_t n)
    double darkbn_dot(const float* x, const float* y, Py_ssize_t n)


# Values that one thread works on at a time; fewer than PARALLEL are not worth a second thread.
cdef enum:
    CHUNK = 4096
    STREAMED_CHUNK = 262144
    PARALLEL = 16384


def fill(x, float value, int threads):
    cdef float[::1] row = flat(x)
    cdef Py_ssize_t n = row.shape[0], i
    for i in prange(0, n, CHUNK, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        darkbn_fill(&row[i], min(CHUNK, n - i), value)


def copy(x, y, int threads):
    cdef const float[::1] row = flat_const(x)
    cdef float[::1] to = flat(y)
    cdef Py_ssize_t n = row.shape[0], i
    if n < DARKBN_STREAM_FROM:
        for i in prange(0, n, CHUNK, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
            darkbn_copy(&to[i], &row[i], min(CHUNK, n - i))
        return
    for i in prange(0, n, STREAMED_CHUNK, nogil=True, num_threads=threads, schedule="static"):
        darkbn_copy_stream(&row[i], &to[i], min(STREAMED_CHUNK, n - i))


def axpy(x, y, float alpha, int threads):
    cdef const float[::1] row = flat_const(x)
    cdef float[::1] to = flat(y)
    cdef Py_ssize_t n = row.shape[0], i
    for i in prange(0, n, CHUNK, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        darkbn_axpy(&row[i], &to[i], min(CHUNK, n - i), alpha)


def scal_add(x, float alpha, float beta, int threads):
    cdef float[::1] row = flat(x)
    cdef Py_ssize_t n = row.shape[0], i
    for i in prange(0, n, CHUNK, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        darkbn_scal_add(&row[i], min(CHUNK, n - i), alpha, beta)


def mul(x, y, int threads):
    cdef const float[::1] row = flat_const(x)
    cdef float[::1] to = flat(y)
    cdef Py_ssize_t n = row.shape[0], i
    for i in prange(0, n, CHUNK, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        darkbn_mul(&row[i], &to[i], min(CHUNK, n - i))


def power(x, y, float alpha, int threads):
    cdef const float[::1] row = flat_const(x)
    cdef float[::1] to = flat(y)
    cdef Py_ssize_t n = row.shape[0], i
    for i in prange(0, n, CHUNK, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        darkbn_pow(&row[i], &to[i], min(CHUNK, n - i), alpha)


def dot(x, y, double[::1] out, int threads):
    cdef const float[::1] a = flat_const(x), b = flat_const(y)
    out[0] = darkbn_dot(&a[0], &b[0], a.shape[0]) if a.shape[0] else 0


def total(x, double[::1] out, int threads):
    cdef const float[::1] row = flat_const(x)
    out[0] = darkbn_sum(&row[0], row.shape[0]) if row.shape[0] else 0


def mult_add_into(x, y, z, int threads):
    cdef const float[::1] a = flat_const(x), b = flat_const(y)
    cdef float[::1] to = flat(z)
    cdef Py_ssize_t n = a.shape[0], i
    for i in prange(0, n, CHUNK, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        darkbn_mult_add_into(&a[i], &b[i], &to[i], min(CHUNK, n - i))


def weighted_sum(a, b, s, out, int threads):
    cdef const float[::1] first = flat_const(a), second = flat_const(b), share = flat_const(s)
    cdef float[::1] to = flat(out)
    cdef Py_ssize_t n = to.shape[0], i
    for i in prange(0, n, CHUNK, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        darkbn_weighted_sum(&first[i], &second[i], &share[i], &to[i], min(CHUNK, n - i))


def weighted_delta(a, b, s, da, db, ds, dc, int threads):
    cdef const float[::1] first = flat_const(a), second = flat_const(b), share = flat_const(s), delta = flat_const(dc)
    cdef float[::1] first_delta, second_delta, share_delta = flat(ds)
    cdef float* to_first = NULL
    cdef float* to_second = NULL
    cdef Py_ssize_t n = delta.shape[0], i
    if n == 0:
        return
    if da is not None:
        first_delta = flat(da)
        to_first = &first_delta[0]
    if db is not None:
        second_delta = flat(db)
        to_second = &second_delta[0]
    for i in prange(0, n, CHUNK, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        darkbn_weighted_delta(
            &first[i], &second[i], &share[i], to_first + i if to_first else NULL,
            to_second + i if to_second else NULL, &share_delta[i], &delta[i], min(CHUNK, n - i))


def constrain(x, float limit, int threads):
    cdef float[::1] row = flat(x)
    cdef Py_ssize_t n = row.shape[0], i
    for i in prange(0, n, CHUNK, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        darkbn_constrain(&row[i], min(CHUNK, n - i), limit)


def binarize(x, out, int threads):
    cdef const float[::1] row = flat_const(x)
    cdef float[::1] to = flat(out)
    cdef Py_ssize_t n = row.shape[0], i
    for i in prange(0, n, CHUNK, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        darkbn_binarize(&row[i], &to[i], min(CHUNK, n - i), 1)


def binarize_rows(const float[:, ::1] x, float[:, ::1] out, int threads):
    cdef Py_ssize_t row
    for row in prange(x.shape[0], nogil=True, num_threads=threads, schedule="static"):
        binarize_row(&x[row, 0], &out[row, 0], x.shape[1])


cdef void binarize_row(const float* x, float* out, Py_ssize_t n) noexcept nogil:
    cdef double size = 0
    cdef Py_ssize_t i
    for i in range(n):
        size += fabsf(x[i])
    darkbn_binarize(x, out, n, <float>(size / n))


def binarize_columns(const float[:, ::1] x, float[:, ::1] out, int threads):
    cdef Py_ssize_t column, i, rows = x.shape[0]
    cdef double size
    for column in prange(x.shape[1], nogil=True, num_threads=threads, schedule="static"):
        size = 0
        for i in range(rows):
            size = size + fabsf(x[i, column])
        size = size / rows
        for i in range(rows):
            out[i, column] = <float>size if x[i, column] > 0 else -<float>size


def l2normalize(float[:, :, ::1] x, float[:, :, ::1] dx, int threads):
    cdef Py_ssize_t channels = x.shape[1], spatial = x.shape[2]
    cdef Py_ssize_t tiles = (spatial + DARKBN_VECTOR_TILE - 1) // DARKBN_VECTOR_TILE
    cdef Py_ssize_t tile, start, offset
    for tile in prange(x.shape[0] * tiles, nogil=True, num_threads=threads, schedule="static"):
        start = tile % tiles * DARKBN_VECTOR_TILE
        offset = tile // tiles * channels * spatial + start
        darkbn_l2normalize_columns(
            &x[0, 0, 0] + offset, &dx[0, 0, 0] + offset, channels, spatial,
            <int>min(DARKBN_VECTOR_TILE, spatial - start))
