"""Kernels of darkbn.reference.optimizer."""

from cython.parallel cimport prange

cdef extern from "darkbn/optimizer.h" nogil:
    const Py_ssize_t DARKBN_STEP_BLOCK
    void darkbn_sgd(float* weights, float* updates, Py_ssize_t n, float rate, float momentum, float decay)
    void darkbn_adam(
        float* weights, float* updates, float* m, float* v, Py_ssize_t n, float one_minus_beta1, float one_minus_beta2,
        float m_scale, float v_scale, float epsilon, float decay)
    void darkbn_average(const float* values, float* averages, Py_ssize_t n, float one_minus_alpha)
    Py_ssize_t darkbn_nonfinite(const float* values, Py_ssize_t n)


def sgd(float[::1] weights, float[::1] updates, float rate, float momentum, float decay, int threads):
    cdef Py_ssize_t n = weights.shape[0], block, start
    cdef Py_ssize_t blocks = (n + DARKBN_STEP_BLOCK - 1) // DARKBN_STEP_BLOCK
    # Most calls are for a few biases: waking a second thread would cost more than the whole step.
    threads = max(1, min(threads, blocks))
    for block in prange(blocks, nogil=True, num_threads=threads, schedule="static"):
        start = block * DARKBN_STEP_BLOCK
        darkbn_sgd(&weights[start], &updates[start], min(DARKBN_STEP_BLOCK, n - start), rate, momentum, decay)


def adam(
    float[::1] weights,
    float[::1] updates,
    float[::1] m,
    float[::1] v,
    double rate,
    double beta1,
    double beta2,
    double epsilon,
    double decay,
    int t,
    int threads,
):
    cdef Py_ssize_t n = weights.shape[0], block, start
    cdef Py_ssize_t blocks = (n + DARKBN_STEP_BLOCK - 1) // DARKBN_STEP_BLOCK
    cdef double m_scale = rate / (1 - beta1**t), v_scale = 1 / (1 - beta2**t)
    threads = max(1, min(threads, blocks))
    for block in prange(blocks, nogil=True, num_threads=threads, schedule="static"):
        start = block * DARKBN_STEP_BLOCK
        darkbn_adam(
            &weights[start], &updates[start], &m[start], &v[start], min(DARKBN_STEP_BLOCK, n - start), 1 - beta1,
            1 - beta2, m_scale, v_scale, epsilon, decay)


def average(const float[::1] values, float[::1] averages, double alpha, int threads):
    cdef Py_ssize_t n = values.shape[0], block, start
    cdef Py_ssize_t blocks = (n + DARKBN_STEP_BLOCK - 1) // DARKBN_STEP_BLOCK
    threads = max(1, min(threads, blocks))
    for block in prange(blocks, nogil=True, num_threads=threads, schedule="static"):
        start = block * DARKBN_STEP_BLOCK
        darkbn_average(&values[start], &averages[start], min(DARKBN_STEP_BLOCK, n - start), 1 - alpha)


def nonfinite(const float[::1] values, long long[::1] count, int threads):
    cdef Py_ssize_t n = values.shape[0], block, start, found = 0
    cdef Py_ssize_t blocks = (n + DARKBN_STEP_BLOCK - 1) // DARKBN_STEP_BLOCK
    threads = max(1, min(threads, blocks))
    for block in prange(blocks, nogil=True, num_threads=threads, schedule="static"):
        start = block * DARKBN_STEP_BLOCK
        found += darkbn_nonfinite(&values[start], min(DARKBN_STEP_BLOCK, n - start))
    count[0] = found
