"""Kernels of darkbn.reference.image."""

from cython.parallel cimport prange
from libc.math cimport cos, sin
from libc.stdint cimport uint8_t


cdef extern from "darkbn/image.h" nogil:
    enum:
        DARKBN_COLUMNS
    ctypedef struct darkbn_place:
        Py_ssize_t low
        float weight
    darkbn_place darkbn_locate(Py_ssize_t at, Py_ssize_t source, Py_ssize_t target)
    void darkbn_locate_columns(
        Py_ssize_t first, int count, Py_ssize_t source, Py_ssize_t target, int* low, float* weight)
    void darkbn_resize_columns(
        const float* upper, const float* lower, float v, Py_ssize_t source, const int* low, const float* weight,
        int count, float* out)
    ctypedef struct darkbn_pixels:
        pass
    void darkbn_gather_rgb(
        const uint8_t* upper, const uint8_t* lower, Py_ssize_t source, const int* low, int count,
        darkbn_pixels* pixels)
    void darkbn_gather_one(
        const uint8_t* upper, const uint8_t* lower, Py_ssize_t source, Py_ssize_t channels, const int* low, int count,
        darkbn_pixels* pixels)
    void darkbn_mix(
        const darkbn_pixels* pixels, int k, float v, const float* weight, int count, float* out)
    void darkbn_row_to_planes(const uint8_t* x, Py_ssize_t count, Py_ssize_t channels, float* out, Py_ssize_t plane)
    ctypedef struct darkbn_samples:
        pass
    void darkbn_sample_line(
        int h, int w, double row, double row_step, double column, double column_step, Py_ssize_t first, int count,
        darkbn_samples* s)
    void darkbn_sample(const float* x, const darkbn_samples* s, int count, float* out)
    void darkbn_rgb_to_hsv_row(float* x, float* y, float* z, Py_ssize_t n)
    void darkbn_hsv_to_rgb_row(float* x, float* y, float* z, Py_ssize_t n)
    void darkbn_distort_row(
        float* x, float* y, float* z, Py_ssize_t n, float hue, float saturation, float exposure)


cdef enum:
    PIXELS = 1024  # a chunk of the colour kernels: three planes of it fit the first cache


cdef struct Source:
    const float* planes      # one of the two is NULL
    const uint8_t* pixels
    Py_ssize_t h
    Py_ssize_t w
    Py_ssize_t c


cdef struct Window:
    Py_ssize_t left
    Py_ssize_t top
    Py_ssize_t width
    Py_ssize_t height
    float fill


def resize(
    const float[:, :, ::1] x, float[:, :, ::1] out, Py_ssize_t left, Py_ssize_t top, Py_ssize_t width,
    Py_ssize_t height, float fill, int threads,
):
    cdef Source source = Source(&x[0, 0, 0], NULL, x.shape[1], x.shape[2], x.shape[0])
    cdef Window window = Window(left, top, width, height, fill)
    cdef Py_ssize_t oh = out.shape[1], ow = out.shape[2], row
    for row in prange(oh, nogil=True, num_threads=threads, schedule="static"):
        resize_row(&source, &window, &out[0, 0, 0], row, oh, ow)


def resize_bytes(
    const uint8_t[:, :, ::1] x, float[:, :, ::1] out, Py_ssize_t left, Py_ssize_t top, Py_ssize_t width,
    Py_ssize_t height, float fill, int threads,
):
    cdef Source source = Source(NULL, &x[0, 0, 0], x.shape[0], x.shape[1], x.shape[2])
    cdef Window window = Window(left, top, width, height, fill)
    cdef Py_ssize_t oh = out.shape[1], ow = out.shape[2], row
    for row in prange(oh, nogil=True, num_threads=threads, schedule="static"):
        resize_row(&source, &window, &out[0, 0, 0], row, oh, ow)


cdef void resize_row(
    const Source* x, const Window* window, float* out, Py_ssize_t row, Py_ssize_t oh, Py_ssize_t ow
) noexcept nogil:
    """One row of every channel of the output."""
    cdef Py_ssize_t first = max(window.left, 0), last = min(window.left + window.width, ow), channel, plane = oh * ow
    cdef Py_ssize_t at, count
    cdef int[DARKBN_COLUMNS] low
    cdef float[DARKBN_COLUMNS] weight
    cdef darkbn_place place
    out += row * ow
    if row < window.top or row >= window.top + window.height or first >= last or x.h == 0 or x.w == 0:
        first = last = ow
    for channel in range(x.c):
        fill_row(out + channel * plane, 0, first, window.fill)
        fill_row(out + channel * plane, last, ow, window.fill)
    if first == last:
        return
    place = darkbn_locate(row - window.top, x.h, window.height)
    at = first
    while at < last:
        count = min(last - at, <Py_ssize_t>DARKBN_COLUMNS)
        darkbn_locate_columns(at - window.left, <int>count, x.w, window.width, low, weight)
        resize_chunk(x, place, low, weight, <int>count, out + at, plane)
        at += count


cdef inline void resize_chunk(
    const Source* x, darkbn_place place, const int* low, const float* weight, int count, float* out, Py_ssize_t plane
) noexcept nogil:
    """Some columns of one row, every channel."""
    cdef Py_ssize_t upper = place.low, lower = min(upper + 1, x.h - 1), channel
    cdef const float* planes
    cdef Py_ssize_t line = x.w * x.c
    cdef darkbn_pixels pixels
    if x.planes != NULL:
        for channel in range(x.c):
            planes = x.planes + channel * x.h * x.w
            darkbn_resize_columns(
                planes + upper * x.w, planes + lower * x.w, place.weight, x.w, low, weight, count,
                out + channel * plane)
    elif x.c == 3:
        darkbn_gather_rgb(x.pixels + upper * line, x.pixels + lower * line, x.w, low, count, &pixels)
        for channel in range(3):
            darkbn_mix(&pixels, <int>channel, place.weight, weight, count, out + channel * plane)
    else:
        for channel in range(x.c):
            darkbn_gather_one(
                x.pixels + upper * line + channel, x.pixels + lower * line + channel, x.w, x.c, low, count, &pixels)
            darkbn_mix(&pixels, 0, place.weight, weight, count, out + channel * plane)


cdef inline void fill_row(float* out, Py_ssize_t first, Py_ssize_t last, float value) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(first, last):
        out[i] = value


def planes_from_bytes(const uint8_t[:, :, ::1] x, float[:, :, ::1] out, int threads):
    cdef Py_ssize_t h = x.shape[0], w = x.shape[1], c = x.shape[2], row
    for row in prange(h, nogil=True, num_threads=threads, schedule="static"):
        darkbn_row_to_planes(&x[0, 0, 0] + row * w * c, w, c, &out[0, 0, 0] + row * w, h * w)


def rotate_crop(
    const float[:, :, ::1] x, float[:, :, ::1] out, double angle, double scale, double dx, double dy, double aspect,
    int threads,
):
    cdef Py_ssize_t h = x.shape[1], w = x.shape[2], oh = out.shape[1], ow = out.shape[2], row
    cdef double cosine = cos(angle), sine = sin(angle), down, step = aspect / scale
    cdef double across = (dx - ow / 2.0) * step  # of the first column
    if x.shape[0] == 0 or h == 0 or w == 0:
        out[:] = 0
        return
    for row in prange(oh, nogil=True, num_threads=threads, schedule="static"):
        down = (row - oh / 2.0 + dy) / scale
        sample_row(
            &x[0, 0, 0], x.shape[0], h, w, sine * across + cosine * down + h / 2.0, sine * step,
            cosine * across - sine * down + w / 2.0, cosine * step, &out[0, 0, 0] + row * ow, ow, oh * ow)


cdef void sample_row(
    const float* x, Py_ssize_t c, Py_ssize_t h, Py_ssize_t w, double row, double row_step, double column,
    double column_step, float* out, Py_ssize_t ow, Py_ssize_t plane,
) noexcept nogil:
    """One row of every channel of the output, along a line through x."""
    cdef darkbn_samples samples
    cdef Py_ssize_t first = 0, channel
    cdef int count
    while first < ow:
        count = <int>min(ow - first, <Py_ssize_t>DARKBN_COLUMNS)
        darkbn_sample_line(<int>h, <int>w, row, row_step, column, column_step, first, count, &samples)
        for channel in range(c):
            darkbn_sample(x + channel * h * w, &samples, count, out + channel * plane + first)
        first += count


def rgb_to_hsv(float[:, ::1] x, int threads):
    cdef Py_ssize_t s = x.shape[1], chunk, at
    cdef float* p = &x[0, 0]
    for chunk in prange((s + PIXELS - 1) // PIXELS, nogil=True, num_threads=threads, schedule="static"):
        at = chunk * PIXELS
        darkbn_rgb_to_hsv_row(p + at, p + s + at, p + 2 * s + at, min(s - at, <Py_ssize_t>PIXELS))


def hsv_to_rgb(float[:, ::1] x, int threads):
    cdef Py_ssize_t s = x.shape[1], chunk, at
    cdef float* p = &x[0, 0]
    for chunk in prange((s + PIXELS - 1) // PIXELS, nogil=True, num_threads=threads, schedule="static"):
        at = chunk * PIXELS
        darkbn_hsv_to_rgb_row(p + at, p + s + at, p + 2 * s + at, min(s - at, <Py_ssize_t>PIXELS))


def distort(float[:, ::1] x, float hue, float saturation, float exposure, int threads):
    cdef Py_ssize_t s = x.shape[1], chunk, at
    cdef float* p = &x[0, 0]
    for chunk in prange((s + PIXELS - 1) // PIXELS, nogil=True, num_threads=threads, schedule="static"):
        at = chunk * PIXELS
        darkbn_distort_row(
            p + at, p + s + at, p + 2 * s + at, min(s - at, <Py_ssize_t>PIXELS), hue, saturation, exposure)
