"""Kernels of darkbn.reference.crop."""

from cython.parallel cimport prange
from libc.math cimport cos, sin
from libc.stdint cimport int32_t


cdef extern from "darkbn/crop.h" nogil:
    ctypedef struct darkbn_window:
        Py_ssize_t h, w, oh, ow, top, left
        int mirrored, turned
        double sine, cosine

    void darkbn_window_row(
        const darkbn_window* g, const float* x, Py_ssize_t i, float scale, float shift, float* out)
    void darkbn_window_row_gradient(
        const darkbn_window* g, const float* delta, Py_ssize_t i, float scale, float* x)
    void darkbn_levels(
        const float* x, Py_ssize_t step, Py_ssize_t n, float saturation, float exposure, float* out)
    void darkbn_levels_gradient(
        const float* x, const float* delta, Py_ssize_t step, Py_ssize_t n, float saturation, float exposure,
        float* input_delta)


# Pixels whose colours one thread changes at a time; fewer values than PARALLEL are not worth a second thread.
cdef enum:
    PIXELS = 4096
    PARALLEL = 16384


def window(
    const float[:, :, :, ::1] x,
    const int32_t[:, ::1] places,
    const float[::1] angles,
    const float[::1] shifts,
    float[:, :, :, ::1] out,
    float scale,
    float translate,
    int threads,
):
    cdef Py_ssize_t channels = out.shape[1], planes = out.shape[0] * out.shape[1], plane
    cdef bint turned = angles is not None, shifted = shifts is not None, parallel = out.size > PARALLEL
    if out.size == 0:
        return
    cdef const float* source = &x[0, 0, 0, 0] if x.size else NULL
    cdef float* target = &out[0, 0, 0, 0]
    for plane in prange(planes, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
        cut_plane(
            source + plane * x.shape[2] * x.shape[3],
            x.shape[2],
            x.shape[3],
            target + plane * out.shape[2] * out.shape[3],
            out.shape[2],
            out.shape[3],
            &places[plane // channels, 0],
            angles[plane // channels] if turned else 0,
            scale,
            translate + (shifts[plane % channels] if shifted else 0),
        )


def window_backward(
    const float[:, :, :, ::1] delta,
    const int32_t[:, ::1] places,
    const float[::1] angles,
    float[:, :, :, ::1] input_delta,
    float scale,
    int threads,
):
    cdef Py_ssize_t channels = delta.shape[1], planes = delta.shape[0] * delta.shape[1], plane
    cdef bint turned = angles is not None
    cdef bint parallel = delta.size > PARALLEL
    if delta.size == 0 or input_delta.size == 0:
        return
    cdef const float* source = &delta[0, 0, 0, 0]
    cdef float* target = &input_delta[0, 0, 0, 0]
    for plane in prange(planes, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
        add_plane(
            source + plane * delta.shape[2] * delta.shape[3],
            delta.shape[2],
            delta.shape[3],
            target + plane * input_delta.shape[2] * input_delta.shape[3],
            input_delta.shape[2],
            input_delta.shape[3],
            &places[plane // channels, 0],
            angles[plane // channels] if turned else 0,
            scale,
        )


def levels(const float[:, :, ::1] x, const float[:, ::1] factors, float[:, :, ::1] out, int threads):
    cdef Py_ssize_t spatial = x.shape[2], blocks = (x.shape[2] + PIXELS - 1) // PIXELS, item, sample, first
    cdef bint parallel = x.size > PARALLEL
    if x.size == 0:
        return
    cdef const float* source = &x[0, 0, 0]
    cdef float* target = &out[0, 0, 0]
    for item in prange(
        x.shape[0] * blocks, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel
    ):
        sample = item // blocks
        first = item % blocks * PIXELS
        darkbn_levels(
            source + sample * 3 * spatial + first, spatial, min(spatial - first, <Py_ssize_t>PIXELS),
            factors[sample, 0], factors[sample, 1], target + sample * 3 * spatial + first)


def levels_backward(
    const float[:, :, ::1] x,
    const float[:, ::1] factors,
    const float[:, :, ::1] delta,
    float[:, :, ::1] input_delta,
    int threads,
):
    cdef Py_ssize_t spatial = x.shape[2], blocks = (x.shape[2] + PIXELS - 1) // PIXELS, item, sample, first
    cdef bint parallel = x.size > PARALLEL
    if x.size == 0:
        return
    cdef const float* source = &x[0, 0, 0]
    cdef const float* change = &delta[0, 0, 0]
    cdef float* target = &input_delta[0, 0, 0]
    for item in prange(
        x.shape[0] * blocks, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel
    ):
        sample = item // blocks
        first = item % blocks * PIXELS
        darkbn_levels_gradient(
            source + sample * 3 * spatial + first, change + sample * 3 * spatial + first, spatial,
            min(spatial - first, <Py_ssize_t>PIXELS), factors[sample, 0], factors[sample, 1],
            target + sample * 3 * spatial + first)


cdef darkbn_window make_window(
    Py_ssize_t h, Py_ssize_t w, Py_ssize_t oh, Py_ssize_t ow, const int32_t* place, double angle
) noexcept nogil:
    cdef darkbn_window g
    g.h, g.w, g.oh, g.ow = h, w, oh, ow
    g.top, g.left, g.mirrored = place[0], place[1], place[2] != 0
    g.turned, g.sine, g.cosine = angle != 0, sin(angle), cos(angle)
    return g


cdef void cut_plane(
    const float* x,
    Py_ssize_t h,
    Py_ssize_t w,
    float* out,
    Py_ssize_t oh,
    Py_ssize_t ow,
    const int32_t* place,
    double angle,
    float scale,
    float shift,
) noexcept nogil:
    cdef darkbn_window g = make_window(h, w, oh, ow, place, angle)
    cdef Py_ssize_t i
    for i in range(oh):
        darkbn_window_row(&g, x, i, scale, shift, out + i * ow)


cdef void add_plane(
    const float* delta,
    Py_ssize_t oh,
    Py_ssize_t ow,
    float* x,
    Py_ssize_t h,
    Py_ssize_t w,
    const int32_t* place,
    double angle,
    float scale,
) noexcept nogil:
    cdef darkbn_window g = make_window(h, w, oh, ow, place, angle)
    cdef Py_ssize_t i
    for i in range(oh):
        darkbn_window_row_gradient(&g, delta + i * ow, i, scale, x)
