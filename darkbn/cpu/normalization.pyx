"""Kernels of darkbn.reference.normalization."""

from cython.parallel cimport prange, threadid

from darkbn.errors import ShapeError


cdef extern from "darkbn/lrn.h" nogil:
    const Py_ssize_t DARKBN_PIXELS

    void darkbn_lrn(
        const float* x, float* norms, float* out, Py_ssize_t channels, Py_ssize_t step, Py_ssize_t n, Py_ssize_t size,
        float alpha, float beta, float kappa)
    void darkbn_lrn_gradient(
        const float* x, const float* norms, const float* delta, float* input_delta, float* through,
        Py_ssize_t channels, Py_ssize_t step, Py_ssize_t n, Py_ssize_t size, float alpha, float beta)
    void darkbn_l2norm(const float* x, float* out, Py_ssize_t channels, Py_ssize_t step, Py_ssize_t n)
    void darkbn_l2norm_gradient(
        const float* x, const float* delta, float* input_delta, Py_ssize_t channels, Py_ssize_t step, Py_ssize_t n)

# Fewer values are not worth a second thread.
cdef enum:
    PARALLEL = 8192


def lrn(
    const float[:, :, ::1] x,
    float[:, :, ::1] norms,
    float[:, :, ::1] out,
    int size,
    float alpha,
    float beta,
    float kappa,
    int threads,
):
    cdef Py_ssize_t channels = x.shape[1], step = x.shape[2], blocks = (step + DARKBN_PIXELS - 1) // DARKBN_PIXELS
    cdef Py_ssize_t item, at, n
    cdef bint parallel = x.size > PARALLEL
    check_size("lrn", size)
    if x.size == 0:
        return
    cdef bint keep = norms is not None
    cdef const float* source = &x[0, 0, 0]
    cdef float* sums = &norms[0, 0, 0] if keep else NULL
    cdef float* target = &out[0, 0, 0]
    for item in prange(
        x.shape[0] * blocks, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel
    ):
        at = item // blocks * channels * step + item % blocks * DARKBN_PIXELS
        n = min(step - item % blocks * DARKBN_PIXELS, DARKBN_PIXELS)
        darkbn_lrn(
            source + at, sums + at if keep else NULL, target + at, channels, step, n, size, alpha, beta, kappa)


def lrn_backward_workspace(Py_ssize_t c, Py_ssize_t threads):
    return threads * c * DARKBN_PIXELS


def lrn_backward(
    const float[:, :, ::1] x,
    const float[:, :, ::1] norms,
    const float[:, :, ::1] delta,
    float[:, :, ::1] input_delta,
    float[::1] workspace,
    int size,
    float alpha,
    float beta,
    int threads,
):
    cdef Py_ssize_t channels = x.shape[1], step = x.shape[2], blocks = (step + DARKBN_PIXELS - 1) // DARKBN_PIXELS
    cdef Py_ssize_t item, at, n, needed = lrn_backward_workspace(channels, threads)
    cdef bint parallel = x.size > PARALLEL
    check_size("lrn_backward", size)
    if workspace.size < needed:
        raise ShapeError(f"normalization.lrn_backward: workspace must have {needed} floats, found {workspace.size}")
    if x.size == 0:
        return
    cdef const float* source = &x[0, 0, 0]
    cdef const float* sums = &norms[0, 0, 0]
    cdef const float* change = &delta[0, 0, 0]
    cdef float* target = &input_delta[0, 0, 0]
    cdef float* room = &workspace[0]
    for item in prange(
        x.shape[0] * blocks, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel
    ):
        at = item // blocks * channels * step + item % blocks * DARKBN_PIXELS
        n = min(step - item % blocks * DARKBN_PIXELS, DARKBN_PIXELS)
        darkbn_lrn_gradient(
            source + at, sums + at, change + at, target + at, room + threadid() * channels * DARKBN_PIXELS, channels,
            step, n, size, alpha, beta)


def l2norm(const float[:, :, ::1] x, float[:, :, ::1] out, int threads):
    cdef Py_ssize_t channels = x.shape[1], step = x.shape[2], blocks = (step + DARKBN_PIXELS - 1) // DARKBN_PIXELS
    cdef Py_ssize_t item, at, n
    cdef bint parallel = x.size > PARALLEL
    if x.size == 0:
        return
    cdef const float* source = &x[0, 0, 0]
    cdef float* target = &out[0, 0, 0]
    for item in prange(
        x.shape[0] * blocks, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel
    ):
        at = item // blocks * channels * step + item % blocks * DARKBN_PIXELS
        n = min(step - item % blocks * DARKBN_PIXELS, DARKBN_PIXELS)
        darkbn_l2norm(source + at, target + at, channels, step, n)


def l2norm_backward(
    const float[:, :, ::1] x, const float[:, :, ::1] delta, float[:, :, ::1] input_delta, int threads
):
    cdef Py_ssize_t channels = x.shape[1], step = x.shape[2], blocks = (step + DARKBN_PIXELS - 1) // DARKBN_PIXELS
    cdef Py_ssize_t item, at, n
    cdef bint parallel = x.size > PARALLEL
    if x.size == 0:
        return
    cdef const float* source = &x[0, 0, 0]
    cdef const float* change = &delta[0, 0, 0]
    cdef float* target = &input_delta[0, 0, 0]
    for item in prange(
        x.shape[0] * blocks, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel
    ):
        at = item // blocks * channels * step + item % blocks * DARKBN_PIXELS
        n = min(step - item % blocks * DARKBN_PIXELS, DARKBN_PIXELS)
        darkbn_l2norm_gradient(source + at, change + at, target + at, channels, step, n)


cdef check_size(str kernel, int size):
    if size < 1:
        raise ShapeError(f"normalization.{kernel}: size must be at least 1, found {size}")
