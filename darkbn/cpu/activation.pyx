"""Kernels of darkbn.reference.activation."""

from cython.parallel cimport prange

from darkbn.cpu.flat cimport flat, flat_const


cdef extern from "string.h" nogil:
    void* memcpy(void* to, const void* source, size_t n)


cdef extern from "darkbn/activation_rows.h" nogil:
    void darkbn_activate(const float* x, float* out, Py_ssize_t n, int kind)
    void darkbn_activation_gradient(const float* values, float* delta, Py_ssize_t n, int kind)


cdef extern from "darkbn/softmax.h" nogil:
    enum:
        DARKBN_TILE
    void darkbn_activate_channels(
        const float* x, float* out, Py_ssize_t n, Py_ssize_t stride, int count, int kind)
    void darkbn_channels_gradient(
        const float* values, float* delta, Py_ssize_t n, Py_ssize_t stride, int count, int kind)


# Values that one thread works on at a time (they stay in the first cache), and fewer than which threads do not pay.
cdef enum:
    CHUNK = 2048
    PARALLEL = 16384


def forward(x, int kind, int threads):
    cdef float[::1] row = flat(x)
    cdef Py_ssize_t n = row.shape[0], start
    for start in prange(0, n, CHUNK, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        darkbn_activate(&row[start], &row[start], min(CHUNK, n - start), kind)


def forward_to(x, out, int kind, int threads):
    cdef const float[::1] row = flat_const(x)
    cdef float[::1] to = flat(out)
    cdef Py_ssize_t n = row.shape[0], start
    for start in prange(0, n, CHUNK, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        darkbn_activate(&row[start], &to[start], min(CHUNK, n - start), kind)


def forward_saved(x, saved, int kind, int threads):
    cdef float[::1] row = flat(x), copy = flat(saved)
    cdef Py_ssize_t n = row.shape[0], start, count
    for start in prange(0, n, CHUNK, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        count = min(CHUNK, n - start)
        memcpy(&copy[start], &row[start], count * sizeof(float))
        darkbn_activate(&row[start], &row[start], count, kind)


def gradient(values, delta, int kind, int threads):
    cdef const float[::1] at = flat_const(values)
    cdef float[::1] row = flat(delta)
    cdef Py_ssize_t n = row.shape[0], start
    for start in prange(0, n, CHUNK, nogil=True, num_threads=threads, schedule="static", use_threads_if=n > PARALLEL):
        darkbn_activation_gradient(&at[start], &row[start], min(CHUNK, n - start), kind)


def forward_channels(const float[:, :, ::1] x, float[:, :, ::1] out, int kind, int threads):
    cdef Py_ssize_t channels = x.shape[1], spatial = x.shape[2], tiles = (spatial + DARKBN_TILE - 1) // DARKBN_TILE
    cdef Py_ssize_t tile, start, offset
    for tile in prange(x.shape[0] * tiles, nogil=True, num_threads=threads, schedule="static"):
        start = tile % tiles * DARKBN_TILE
        offset = tile // tiles * channels * spatial + start
        darkbn_activate_channels(
            &x[0, 0, 0] + offset, &out[0, 0, 0] + offset, channels, spatial,
            <int>min(DARKBN_TILE, spatial - start), kind)


def gradient_channels(const float[:, :, ::1] values, float[:, :, ::1] delta, int kind, int threads):
    cdef Py_ssize_t channels = delta.shape[1], spatial = delta.shape[2]
    cdef Py_ssize_t tiles = (spatial + DARKBN_TILE - 1) // DARKBN_TILE
    cdef Py_ssize_t tile, start, offset
    for tile in prange(delta.shape[0] * tiles, nogil=True, num_threads=threads, schedule="static"):
        start = tile % tiles * DARKBN_TILE
        offset = tile // tiles * channels * spatial + start
        darkbn_channels_gradient(
            &values[0, 0, 0] + offset, &delta[0, 0, 0] + offset, channels, spatial,
            <int>min(DARKBN_TILE, spatial - start), kind)
