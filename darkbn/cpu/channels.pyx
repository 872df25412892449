"""Kernels of darkbn.reference.channels."""

from cython.parallel cimport prange


cdef extern from "darkbn/reduce.h" nogil:
    double darkbn_dot(const float* x, const float* y, Py_ssize_t n)


cdef extern from "darkbn/products.h" nogil:
    void darkbn_scale(const float* x, float scale, Py_ssize_t n, float* out)
    void darkbn_scale_add(const float* x, float scale, Py_ssize_t n, float* out)
    void darkbn_multiply(const float* x, const float* y, Py_ssize_t n, float* out)
    void darkbn_multiply_add(const float* x, const float* y, Py_ssize_t n, float* out)
    const Py_ssize_t DARKBN_PIXELS

    void darkbn_pixel_dots_add(
        const float* x, const float* y, Py_ssize_t channels, Py_ssize_t step, Py_ssize_t n, float* out)


# Values that one thread works on at a time; fewer than PARALLEL are not worth a second thread.
cdef enum:
    BLOCK = 4096
    PARALLEL = 16384


def scale(const float[:, :, ::1] x, const float[:, ::1] scales, float[:, :, ::1] out, int threads):
    cdef Py_ssize_t maps = x.shape[0] * x.shape[1], spatial = x.shape[2], plane
    cdef bint parallel = x.size > PARALLEL
    if x.size == 0:
        return
    cdef const float* source = &x[0, 0, 0]
    cdef const float* factor = &scales[0, 0]
    cdef float* target = &out[0, 0, 0]
    for plane in prange(maps, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
        darkbn_scale(source + plane * spatial, factor[plane], spatial, target + plane * spatial)


def scale_add(const float[:, :, ::1] x, const float[:, ::1] scales, float[:, :, ::1] out, int threads):
    cdef Py_ssize_t maps = x.shape[0] * x.shape[1], spatial = x.shape[2], plane
    cdef bint parallel = x.size > PARALLEL
    if x.size == 0:
        return
    cdef const float* source = &x[0, 0, 0]
    cdef const float* factor = &scales[0, 0]
    cdef float* target = &out[0, 0, 0]
    for plane in prange(maps, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
        darkbn_scale_add(source + plane * spatial, factor[plane], spatial, target + plane * spatial)


def dot_add(const float[:, :, ::1] x, const float[:, :, ::1] y, float[:, ::1] sums, int threads):
    cdef Py_ssize_t maps = x.shape[0] * x.shape[1], spatial = x.shape[2], plane
    cdef bint parallel = x.size > PARALLEL
    if x.size == 0:
        return
    cdef const float* first = &x[0, 0, 0]
    cdef const float* second = &y[0, 0, 0]
    cdef float* target = &sums[0, 0]
    for plane in prange(maps, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
        target[plane] += <float>darkbn_dot(first + plane * spatial, second + plane * spatial, spatial)


def scale_pixels(const float[:, :, ::1] x, const float[:, ::1] scales, float[:, :, ::1] out, int threads):
    cdef Py_ssize_t maps = x.shape[0] * x.shape[1], channels = x.shape[1], spatial = x.shape[2], plane
    cdef bint parallel = x.size > PARALLEL
    if x.size == 0:
        return
    cdef const float* source = &x[0, 0, 0]
    cdef const float* factor = &scales[0, 0]
    cdef float* target = &out[0, 0, 0]
    for plane in prange(maps, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
        darkbn_multiply(
            source + plane * spatial, factor + plane // channels * spatial, spatial, target + plane * spatial)


def scale_pixels_add(const float[:, :, ::1] x, const float[:, ::1] scales, float[:, :, ::1] out, int threads):
    cdef Py_ssize_t maps = x.shape[0] * x.shape[1], channels = x.shape[1], spatial = x.shape[2], plane
    cdef bint parallel = x.size > PARALLEL
    if x.size == 0:
        return
    cdef const float* source = &x[0, 0, 0]
    cdef const float* factor = &scales[0, 0]
    cdef float* target = &out[0, 0, 0]
    for plane in prange(maps, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
        darkbn_multiply_add(
            source + plane * spatial, factor + plane // channels * spatial, spatial, target + plane * spatial)


def dot_pixels_add(const float[:, :, ::1] x, const float[:, :, ::1] y, float[:, ::1] sums, int threads):
    cdef Py_ssize_t channels = x.shape[1], spatial = x.shape[2], item, at, sample
    cdef Py_ssize_t blocks = (x.shape[2] + DARKBN_PIXELS - 1) // DARKBN_PIXELS
    cdef bint parallel = x.size > PARALLEL
    if x.size == 0:
        return
    cdef const float* first = &x[0, 0, 0]
    cdef const float* second = &y[0, 0, 0]
    cdef float* target = &sums[0, 0]
    for item in prange(
        x.shape[0] * blocks, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel
    ):
        sample = item // blocks
        at = item % blocks * DARKBN_PIXELS
        darkbn_pixel_dots_add(
            first + sample * channels * spatial + at,
            second + sample * channels * spatial + at,
            channels,
            spatial,
            min(spatial - at, DARKBN_PIXELS),
            target + sample * spatial + at,
        )


def multiply(const float[::1] x, const float[::1] y, float[::1] out, int threads):
    cdef Py_ssize_t size = x.shape[0], block
    cdef bint parallel = x.size > PARALLEL
    if size == 0:
        return
    cdef const float* first = &x[0]
    cdef const float* second = &y[0]
    cdef float* target = &out[0]
    for block in prange(
        (size + BLOCK - 1) // BLOCK, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel
    ):
        darkbn_multiply(
            first + block * BLOCK, second + block * BLOCK, min(size - block * BLOCK, <Py_ssize_t>BLOCK),
            target + block * BLOCK)


def multiply_add(const float[::1] x, const float[::1] y, float[::1] out, int threads):
    cdef Py_ssize_t size = x.shape[0], block
    cdef bint parallel = x.size > PARALLEL
    if size == 0:
        return
    cdef const float* first = &x[0]
    cdef const float* second = &y[0]
    cdef float* target = &out[0]
    for block in prange(
        (size + BLOCK - 1) // BLOCK, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel
    ):
        darkbn_multiply_add(
            first + block * BLOCK, second + block * BLOCK, min(size - block * BLOCK, <Py_ssize_t>BLOCK),
            target + block * BLOCK)
