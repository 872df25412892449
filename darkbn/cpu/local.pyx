"""Kernels of darkbn.reference.local."""

from cython.parallel cimport prange, threadid
from libc.string cimport memset

from darkbn.errors import ShapeError


cdef extern from "darkbn/local.h" nogil:
    ctypedef struct darkbn_local:
        Py_ssize_t c, h, w, k, n, places, top, left

    void darkbn_local_gather(const darkbn_local* g, const float* x, float* patch)
    void darkbn_local_scatter(const darkbn_local* g, Py_ssize_t channels, const float* patch, float* x)
    void darkbn_local_forward(
        const darkbn_local* g, Py_ssize_t batch, const float* weights, const float* biases, const float* patches,
        float* out)
    void darkbn_local_weights(
        const darkbn_local* g, Py_ssize_t batch, const float* delta, const float* patches, float* updates)
    void darkbn_combine(
        const float* factors, Py_ssize_t skip, const float* rows, Py_ssize_t step, Py_ssize_t count, Py_ssize_t n,
        float* row)


# Input channels whose gradient one thread computes at a time; fewer products than PARALLEL are not worth a second one.
cdef enum:
    CHANNELS = 64
    PARALLEL = 16384


def forward_workspace(Py_ssize_t b, Py_ssize_t c, Py_ssize_t k, Py_ssize_t threads):
    return threads * b * c * k * k


def backward_weights_workspace(Py_ssize_t b, Py_ssize_t c, Py_ssize_t k, Py_ssize_t threads):
    return threads * b * c * k * k


def backward_input_workspace(Py_ssize_t b, Py_ssize_t c, Py_ssize_t k, Py_ssize_t threads):
    return threads * min(c, CHANNELS) * k * k


def forward(
    const float[:, :, :, ::1] x,
    const float[:, :, :, :, :, ::1] weights,
    const float[:, :, ::1] biases,
    float[:, :, :, ::1] out,
    float[::1] workspace,
    int stride,
    int pad,
    int threads,
):
    cdef Py_ssize_t batch = x.shape[0], place, k = weights.shape[5], patch = x.shape[1] * k * k
    cdef darkbn_local g = sizes(
        x.shape[1], x.shape[2], x.shape[3], weights.shape[2], k, weights.shape[0] * weights.shape[1])
    cdef bint parallel = batch * weights.size > PARALLEL
    check("forward", workspace, forward_workspace(batch, g.c, g.k, threads), stride, pad)
    if batch * g.n * g.places == 0:
        return
    cdef const float* source = &x[0, 0, 0, 0] if x.size else NULL
    cdef const float* rows = &weights[0, 0, 0, 0, 0, 0] if weights.size else NULL
    cdef const float* shift = &biases[0, 0, 0]
    cdef float* target = &out[0, 0, 0, 0]
    cdef float* room = &workspace[0] if workspace.size else NULL
    for place in prange(g.places, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
        forward_place(
            &g, source, rows + place * g.n * patch, shift + place, target + place, room + threadid() * batch * patch,
            batch, place, out.shape[3], stride, pad)


def backward_weights(
    const float[:, :, :, ::1] x,
    const float[:, :, :, ::1] delta,
    float[:, :, :, :, :, ::1] weight_updates,
    float[::1] workspace,
    int stride,
    int pad,
    int threads,
):
    cdef Py_ssize_t batch = x.shape[0], place, k = weight_updates.shape[5], patch = x.shape[1] * k * k
    cdef darkbn_local g = sizes(
        x.shape[1], x.shape[2], x.shape[3], weight_updates.shape[2], k,
        weight_updates.shape[0] * weight_updates.shape[1])
    cdef bint parallel = batch * weight_updates.size > PARALLEL
    check("backward_weights", workspace, backward_weights_workspace(batch, g.c, g.k, threads), stride, pad)
    if batch * g.n * g.places * patch == 0:
        return
    cdef const float* source = &x[0, 0, 0, 0] if x.size else NULL
    cdef const float* change = &delta[0, 0, 0, 0]
    cdef float* rows = &weight_updates[0, 0, 0, 0, 0, 0]
    cdef float* room = &workspace[0]
    for place in prange(g.places, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
        weights_place(
            &g, source, change + place, rows + place * g.n * patch, room + threadid() * batch * patch, batch, place,
            delta.shape[3], stride, pad)


def backward_input(
    const float[:, :, :, :, :, ::1] weights,
    const float[:, :, :, ::1] delta,
    float[:, :, :, ::1] input_delta,
    float[::1] workspace,
    int stride,
    int pad,
    int threads,
):
    cdef Py_ssize_t batch = input_delta.shape[0], block, channels = input_delta.shape[1], k = weights.shape[5]
    cdef Py_ssize_t patch = min(channels, <Py_ssize_t>CHANNELS) * k * k
    cdef darkbn_local g = sizes(
        channels, input_delta.shape[2], input_delta.shape[3], weights.shape[2], k,
        weights.shape[0] * weights.shape[1])
    cdef bint parallel = batch * weights.size > PARALLEL
    check("backward_input", workspace, backward_input_workspace(batch, g.c, g.k, threads), stride, pad)
    if batch * g.n * g.places * input_delta.size * patch == 0:
        return
    cdef const float* rows = &weights[0, 0, 0, 0, 0, 0]
    cdef const float* change = &delta[0, 0, 0, 0]
    cdef float* target = &input_delta[0, 0, 0, 0]
    cdef float* room = &workspace[0]
    # Each thread adds to channels of its own, so that places which overlap do not meet.
    for block in prange(
        (channels + CHANNELS - 1) // CHANNELS, nogil=True, num_threads=threads, schedule="static",
        use_threads_if=parallel
    ):
        input_block(
            &g, rows, change, target, room + threadid() * patch, batch, block * CHANNELS,
            min(channels - block * CHANNELS, <Py_ssize_t>CHANNELS), delta.shape[3], stride, pad)


cdef darkbn_local sizes(
    Py_ssize_t c, Py_ssize_t h, Py_ssize_t w, Py_ssize_t n, Py_ssize_t k, Py_ssize_t places
) noexcept:
    cdef darkbn_local g
    g.c, g.h, g.w, g.n, g.k, g.places = c, h, w, n, k, places
    g.top = g.left = 0
    return g


cdef check(str kernel, float[::1] workspace, Py_ssize_t needed, int stride, int pad):
    if stride < 1 or pad < 0:
        raise ShapeError(f"local.{kernel}: stride {stride} must be at least 1, pad {pad} at least 0")
    if workspace.size < needed:
        raise ShapeError(f"local.{kernel}: workspace must have {needed} floats, found {workspace.size}")


cdef void forward_place(
    const darkbn_local* sizes,
    const float* x,
    const float* weights,
    const float* biases,
    float* out,
    float* patches,
    Py_ssize_t batch,
    Py_ssize_t place,
    Py_ssize_t columns,
    Py_ssize_t stride,
    Py_ssize_t pad,
) noexcept nogil:
    cdef darkbn_local g = sizes[0]
    gather(&g, x, patches, batch, place, columns, stride, pad)
    darkbn_local_forward(&g, batch, weights, biases, patches, out)


cdef void weights_place(
    const darkbn_local* sizes,
    const float* x,
    const float* delta,
    float* updates,
    float* patches,
    Py_ssize_t batch,
    Py_ssize_t place,
    Py_ssize_t columns,
    Py_ssize_t stride,
    Py_ssize_t pad,
) noexcept nogil:
    cdef darkbn_local g = sizes[0]
    gather(&g, x, patches, batch, place, columns, stride, pad)
    darkbn_local_weights(&g, batch, delta, patches, updates)


cdef void gather(
    darkbn_local* g,
    const float* x,
    float* patches,
    Py_ssize_t batch,
    Py_ssize_t place,
    Py_ssize_t columns,
    Py_ssize_t stride,
    Py_ssize_t pad,
) noexcept nogil:
    cdef Py_ssize_t b
    g.top = place // columns * stride - pad
    g.left = place % columns * stride - pad
    for b in range(batch):
        darkbn_local_gather(g, x + b * g.c * g.h * g.w, patches + b * g.c * g.k * g.k)


cdef void input_block(
    const darkbn_local* sizes,
    const float* weights,
    const float* delta,
    float* input_delta,
    float* patch,
    Py_ssize_t batch,
    Py_ssize_t first,
    Py_ssize_t channels,
    Py_ssize_t columns,
    Py_ssize_t stride,
    Py_ssize_t pad,
) noexcept nogil:
    cdef darkbn_local g = sizes[0]
    cdef Py_ssize_t place, b, window = g.k * g.k, length = g.c * g.k * g.k
    for place in range(g.places):
        g.top = place // columns * stride - pad
        g.left = place % columns * stride - pad
        for b in range(batch):
            memset(patch, 0, channels * window * sizeof(float))
            darkbn_combine(
                delta + b * g.n * g.places + place, g.places,
                weights + place * g.n * length + first * window, length, g.n, channels * window, patch)
            darkbn_local_scatter(&g, channels, patch, input_delta + (b * g.c + first) * g.h * g.w)
