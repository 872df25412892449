"""Kernels of darkbn.reference.weighted."""

from cython.parallel cimport prange
from libc.math cimport exp

from darkbn.errors import ShapeError


cdef extern from "darkbn/reduce.h" nogil:
    double darkbn_dot(const float* x, const float* y, Py_ssize_t n)


cdef extern from "darkbn/products.h" nogil:
    void darkbn_scale(const float* x, float scale, Py_ssize_t n, float* out)
    void darkbn_scale_add(const float* x, float scale, Py_ssize_t n, float* out)


# Numbers of darkbn.reference.weighted.
cdef enum:
    NONE = 0
    RELU = 1
    SOFTMAX = 2

# Fewer values are not worth a second thread.
cdef enum:
    PARALLEL = 16384

cdef double EPSILON = 1e-4


def normalize(const float[:, ::1] weights, float[:, ::1] normalized, int kind, int threads):
    cdef Py_ssize_t inputs = weights.shape[0], channels = weights.shape[1], channel, i
    cdef double greatest, total
    cdef bint parallel = weights.size > PARALLEL
    check("normalize", kind)
    for channel in prange(channels, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
        greatest = largest(weights, channel)
        total = 1 if kind == NONE else sum_of_parts(weights, channel, greatest, kind)
        for i in range(inputs):
            normalized[i, channel] = <float>(part(weights[i, channel], greatest, kind) / total)


def normalize_backward(
    const float[:, ::1] weights, const float[:, ::1] gradient, float[:, ::1] weight_updates, int kind, int threads
):
    cdef Py_ssize_t inputs = weights.shape[0], channels = weights.shape[1], channel, i
    cdef bint parallel = weights.size > PARALLEL
    check("normalize_backward", kind)
    for channel in prange(channels, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
        if kind == NONE:
            for i in range(inputs):
                weight_updates[i, channel] += gradient[i, channel]
        else:
            add_gradient(weights, gradient, weight_updates, channel, kind)


def scale(const float[:, :, ::1] x, const float[::1] weights, float[:, :, ::1] out, int threads):
    cdef Py_ssize_t maps = x.shape[0] * x.shape[1], channels = x.shape[1], spatial = x.shape[2], plane
    cdef bint parallel = x.size > PARALLEL
    if x.size == 0:
        return
    cdef const float* source = &x[0, 0, 0]
    cdef float* target = &out[0, 0, 0]
    for plane in prange(maps, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
        darkbn_scale(source + plane * spatial, weights[plane % channels], spatial, target + plane * spatial)


def scale_add(const float[:, :, ::1] x, const float[::1] weights, float[:, :, ::1] out, int threads):
    cdef Py_ssize_t common = min(x.shape[1], out.shape[1]), spatial = x.shape[2], item, sample, channel
    cdef bint parallel = x.size > PARALLEL
    check_weights("scale_add", common, weights.shape[0])
    if x.shape[0] * common * spatial == 0:
        return
    cdef const float* source = &x[0, 0, 0]
    cdef float* target = &out[0, 0, 0]
    for item in prange(
        x.shape[0] * common, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel
    ):
        sample = item // common
        channel = item % common
        darkbn_scale_add(
            source + (sample * x.shape[1] + channel) * spatial,
            weights[channel],
            spatial,
            target + (sample * out.shape[1] + channel) * spatial,
        )


def dot_add(const float[:, :, ::1] x, const float[:, :, ::1] delta, float[::1] sums, int threads):
    cdef Py_ssize_t common = min(x.shape[1], delta.shape[1]), spatial = x.shape[2], channel
    cdef bint parallel = x.size > PARALLEL
    check_weights("dot_add", common, sums.shape[0])
    if x.shape[0] * common * spatial == 0:
        return
    cdef const float* first = &x[0, 0, 0]
    cdef const float* second = &delta[0, 0, 0]
    for channel in prange(common, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
        sums[channel] += batch_dot(
            first + channel * spatial, second + channel * spatial, x.shape[0], x.shape[1] * spatial,
            delta.shape[1] * spatial, spatial)


cdef float batch_dot(
    const float* x, const float* y, Py_ssize_t batch, Py_ssize_t step_x, Py_ssize_t step_y, Py_ssize_t n
) noexcept nogil:
    cdef double total = 0
    cdef Py_ssize_t b
    for b in range(batch):
        total += darkbn_dot(x + b * step_x, y + b * step_y, n)
    return <float>total


cdef double largest(const float[:, ::1] weights, Py_ssize_t channel) noexcept nogil:
    cdef Py_ssize_t i
    cdef double found = weights[0, channel] if weights.shape[0] else 0
    for i in range(1, weights.shape[0]):
        found = max(found, weights[i, channel])
    return found


cdef inline double part(double weight, double greatest, int kind) noexcept nogil:
    """What a normalized weight is in proportion to."""
    if kind == NONE:
        return weight
    return max(weight, 0.0) if kind == RELU else exp(weight - greatest)


cdef double sum_of_parts(const float[:, ::1] weights, Py_ssize_t channel, double greatest, int kind) noexcept nogil:
    cdef double total = EPSILON
    cdef Py_ssize_t i
    for i in range(weights.shape[0]):
        total += part(weights[i, channel], greatest, kind)
    return total


cdef void add_gradient(
    const float[:, ::1] weights, const float[:, ::1] gradient, float[:, ::1] updates, Py_ssize_t channel, int kind
) noexcept nogil:
    cdef double greatest = largest(weights, channel), total = sum_of_parts(weights, channel, greatest, kind)
    cdef double mean = 0, lost = 0, change
    cdef Py_ssize_t i, best = -1
    for i in range(weights.shape[0]):
        mean += gradient[i, channel] * part(weights[i, channel], greatest, kind) / total
    for i in range(weights.shape[0]):
        change = gradient[i, channel] - mean
        if kind == RELU:
            change = change / total if weights[i, channel] > 0 else 0
        else:
            change = change * part(weights[i, channel], greatest, kind) / total
            lost += change
            if best < 0 and weights[i, channel] == greatest:
                best = i
        updates[i, channel] += <float>change
    if best >= 0:
        updates[best, channel] -= <float>lost


cdef check(str kernel, int kind):
    if kind not in (NONE, RELU, SOFTMAX):
        raise ShapeError(f"weighted.{kernel}: kind must be 0, 1 or 2, found {kind}")


cdef check_weights(str kernel, Py_ssize_t common, Py_ssize_t found):
    if found < common:
        raise ShapeError(f"weighted.{kernel}: {common} channels need as many weights, found {found}")
