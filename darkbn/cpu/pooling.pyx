"""Kernels of darkbn.reference.pooling."""

from cython.parallel cimport prange
from libc.stdint cimport int32_t

from darkbn.geometry import require_window


cdef extern from "darkbn/reduce.h" nogil:
    double darkbn_sum(const float* x, Py_ssize_t n)


cdef extern from "darkbn/pooling.h" nogil:
    ctypedef struct darkbn_windows:
        Py_ssize_t h, w, oh, ow, size, stride_y, stride_x, before

    void darkbn_maxpool_rows(
        const darkbn_windows* g, const float* plane, float* out, Py_ssize_t first, Py_ssize_t last)
    void darkbn_maxpool_indexed(
        const darkbn_windows* g, const float* plane, float* out, int32_t* indexes, Py_ssize_t first, Py_ssize_t last)
    void darkbn_local_avgpool_rows(
        const darkbn_windows* g, const float* plane, float* out, Py_ssize_t first, Py_ssize_t last)
    void darkbn_local_avgpool_gradient(const darkbn_windows* g, const float* delta, float* plane)
    void darkbn_pool_scatter(
        const float* delta, const int32_t* places, Py_ssize_t n, float* plane, Py_ssize_t size)
    void darkbn_pool_scatter_into(
        const float* delta, const int32_t* places, Py_ssize_t n, float* plane, Py_ssize_t size)
    void darkbn_maxpool_depth(
        const float* sample, Py_ssize_t channels, Py_ssize_t group, Py_ssize_t n, Py_ssize_t spatial, float* out,
        int32_t* indexes)


# Output rows of a plane that one thread takes at a time: few planes still keep every core busy.
cdef enum:
    ROWS = 64


def maxpool(
    const float[:, :, :, ::1] x,
    float[:, :, :, ::1] out,
    int32_t[:, :, :, ::1] indexes,
    int size,
    int stride_y,
    int stride_x,
    int padding,
    int threads,
):
    cdef Py_ssize_t planes = out.shape[0] * out.shape[1], pooled = out.shape[2] * out.shape[3]
    cdef Py_ssize_t image = x.shape[2] * x.shape[3], blocks = (out.shape[2] + ROWS - 1) // ROWS
    cdef Py_ssize_t item, plane, first, last
    cdef bint indexed = indexes is not None
    cdef darkbn_windows g
    require_window("pooling.maxpool", size, stride_y, stride_x, padding)
    if planes * pooled == 0:
        return
    g = windows(x.shape[2], x.shape[3], out.shape[2], out.shape[3], size, stride_y, stride_x, padding)
    cdef const float* source = &x[0, 0, 0, 0] if image else NULL
    cdef float* target = &out[0, 0, 0, 0]
    cdef int32_t* places = &indexes[0, 0, 0, 0] if indexed else NULL
    for item in prange(planes * blocks, nogil=True, num_threads=threads, schedule="static"):
        plane = item // blocks
        first = item % blocks * ROWS
        last = min(first + ROWS, g.oh)
        if indexed:
            darkbn_maxpool_indexed(
                &g, source + plane * image, target + plane * pooled, places + plane * pooled, first, last)
        else:
            darkbn_maxpool_rows(&g, source + plane * image, target + plane * pooled, first, last)


def maxpool_backward(
    const float[:, :, :, ::1] delta,
    const int32_t[:, :, :, ::1] indexes,
    float[:, :, :, ::1] input_delta,
    bint accumulate,
    int threads,
):
    cdef Py_ssize_t planes = delta.shape[0] * delta.shape[1], pooled = delta.shape[2] * delta.shape[3]
    cdef Py_ssize_t image = input_delta.shape[2] * input_delta.shape[3], plane
    if planes * image == 0:
        return
    cdef const float* source = &delta[0, 0, 0, 0] if pooled else NULL
    cdef const int32_t* places = &indexes[0, 0, 0, 0] if pooled else NULL
    cdef float* target = &input_delta[0, 0, 0, 0]
    for plane in prange(planes, nogil=True, num_threads=threads, schedule="static"):
        if accumulate:
            darkbn_pool_scatter(source + plane * pooled, places + plane * pooled, pooled, target + plane * image, image)
        else:
            darkbn_pool_scatter_into(
                source + plane * pooled, places + plane * pooled, pooled, target + plane * image, image)


def avgpool(const float[:, :, ::1] x, float[:, ::1] out, int threads):
    cdef Py_ssize_t planes = x.shape[0] * x.shape[1], spatial = x.shape[2], plane
    if planes == 0:
        return
    cdef const float* source = &x[0, 0, 0] if spatial else NULL
    cdef float* target = &out[0, 0]
    for plane in prange(planes, nogil=True, num_threads=threads, schedule="static"):
        target[plane] = <float>(darkbn_sum(source + plane * spatial, spatial) / max(spatial, 1))


def avgpool_backward(const float[:, ::1] delta, float[:, :, ::1] input_delta, int threads):
    cdef Py_ssize_t planes = delta.shape[0] * delta.shape[1], spatial = input_delta.shape[2], plane, i
    if planes * spatial == 0:
        return
    cdef const float* source = &delta[0, 0]
    cdef float* target = &input_delta[0, 0, 0]
    cdef float* row
    cdef float share
    for plane in prange(planes, nogil=True, num_threads=threads, schedule="static"):
        row = target + plane * spatial
        share = source[plane] / <float>spatial
        for i in range(spatial):
            row[i] = row[i] + share


def local_avgpool(
    const float[:, :, :, ::1] x,
    float[:, :, :, ::1] out,
    int size,
    int stride_y,
    int stride_x,
    int padding,
    int threads,
):
    cdef Py_ssize_t planes = out.shape[0] * out.shape[1], pooled = out.shape[2] * out.shape[3]
    cdef Py_ssize_t image = x.shape[2] * x.shape[3], blocks = (out.shape[2] + ROWS - 1) // ROWS
    cdef Py_ssize_t item, plane, first
    cdef darkbn_windows g
    require_window("pooling.local_avgpool", size, stride_y, stride_x, padding)
    if planes * pooled == 0:
        return
    g = windows(x.shape[2], x.shape[3], out.shape[2], out.shape[3], size, stride_y, stride_x, padding)
    cdef const float* source = &x[0, 0, 0, 0] if image else NULL
    cdef float* target = &out[0, 0, 0, 0]
    for item in prange(planes * blocks, nogil=True, num_threads=threads, schedule="static"):
        plane = item // blocks
        first = item % blocks * ROWS
        darkbn_local_avgpool_rows(
            &g, source + plane * image, target + plane * pooled, first, min(first + ROWS, g.oh))


def local_avgpool_backward(
    const float[:, :, :, ::1] delta,
    float[:, :, :, ::1] input_delta,
    int size,
    int stride_y,
    int stride_x,
    int padding,
    int threads,
):
    cdef Py_ssize_t planes = delta.shape[0] * delta.shape[1], pooled = delta.shape[2] * delta.shape[3]
    cdef Py_ssize_t image = input_delta.shape[2] * input_delta.shape[3], plane
    cdef darkbn_windows g
    require_window("pooling.local_avgpool_backward", size, stride_y, stride_x, padding)
    if planes * pooled * image == 0:
        return
    g = windows(
        input_delta.shape[2], input_delta.shape[3], delta.shape[2], delta.shape[3], size, stride_y, stride_x, padding)
    cdef const float* source = &delta[0, 0, 0, 0]
    cdef float* target = &input_delta[0, 0, 0, 0]
    for plane in prange(planes, nogil=True, num_threads=threads, schedule="static"):
        darkbn_local_avgpool_gradient(&g, source + plane * pooled, target + plane * image)


def maxpool_depth(const float[:, :, ::1] x, float[:, :, ::1] out, int32_t[:, :, ::1] indexes, int threads):
    cdef Py_ssize_t channels = x.shape[1], n = out.shape[1], spatial = out.shape[2], plane
    if out.shape[0] * n * spatial == 0:
        return
    cdef bint indexed = indexes is not None
    cdef const float* source = &x[0, 0, 0] if channels else NULL
    cdef float* target = &out[0, 0, 0]
    cdef int32_t* places = &indexes[0, 0, 0] if indexed else NULL
    for plane in prange(out.shape[0] * n, nogil=True, num_threads=threads, schedule="static"):
        darkbn_maxpool_depth(
            source + plane // n * channels * spatial,
            channels,
            plane % n,
            n,
            spatial,
            target + plane * spatial,
            places + plane * spatial if indexed else NULL,
        )


def maxpool_depth_backward(
    const float[:, :, ::1] delta, const int32_t[:, :, ::1] indexes, float[:, :, ::1] input_delta, int threads
):
    cdef Py_ssize_t channels = input_delta.shape[1], n = delta.shape[1], spatial = delta.shape[2], plane, i
    cdef const float* row
    cdef const int32_t* place
    cdef float* sample
    if delta.shape[0] * n * spatial * channels == 0:
        return
    cdef const float* source = &delta[0, 0, 0]
    cdef const int32_t* places = &indexes[0, 0, 0]
    cdef float* target = &input_delta[0, 0, 0]
    for plane in prange(delta.shape[0] * n, nogil=True, num_threads=threads, schedule="static"):
        row = source + plane * spatial
        place = places + plane * spatial
        sample = target + plane // n * channels * spatial
        for i in range(spatial):
            # Only channels of this group: others belong to another thread.
            if 0 <= place[i] < channels and place[i] % n == plane % n:
                sample[place[i] * spatial + i] += row[i]


cdef darkbn_windows windows(
    Py_ssize_t h,
    Py_ssize_t w,
    Py_ssize_t oh,
    Py_ssize_t ow,
    Py_ssize_t size,
    Py_ssize_t stride_y,
    Py_ssize_t stride_x,
    Py_ssize_t padding,
) noexcept nogil:
    cdef darkbn_windows g
    g.h, g.w, g.oh, g.ow = h, w, oh, ow
    g.size, g.stride_y, g.stride_x, g.before = size, stride_y, stride_x, padding // 2
    return g
