"""Kernels of darkbn.reference.optimizer."""

from cython.parallel cimport prange

cdef extern from "darkbn/optimizer.h" nogil:
    const Py_ssize_t DARKBN_STEP_BLOCK
    void darkbn_sgd(float* weights, float* updates, Py_ssize_t n, float rate, float momentum, float decay)


def sgd(float[::1] weights, float[::1] updates, float rate, float momentum, float decay, int threads):
    cdef Py_ssize_t n = weights.shape[0], block, start
    cdef Py_ssize_t blocks = (n + DARKBN_STEP_BLOCK - 1) // DARKBN_STEP_BLOCK
    # Most calls are for a few biases: waking a second thread would cost more than the whole step.
    threads = max(1, min(threads, blocks))
    for block in prange(blocks, nogil=True, num_threads=threads, schedule="static"):
        start = block * DARKBN_STEP_BLOCK
        darkbn_sgd(&weights[start], &updates[start], min(DARKBN_STEP_BLOCK, n - start), rate, momentum, decay)
