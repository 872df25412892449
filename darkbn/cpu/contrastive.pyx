"""Kernels of darkbn.reference.contrastive."""

from cython.parallel cimport prange
from libc.stdint cimport int32_t

from darkbn.errors import ShapeError


cdef extern from "darkbn/contrastive.h" nogil:
    ctypedef struct darkbn_contrast:
        const float* z
        const int32_t* labels
        const int32_t* classes
        const int32_t* steps
        float* similar
        Py_ssize_t m, d, most
        double temperature
        int detection

    void darkbn_contrast_length(const darkbn_contrast* g, Py_ssize_t i)
    void darkbn_contrast_angles(const darkbn_contrast* g, Py_ssize_t i)
    void darkbn_contrast_total(const darkbn_contrast* g, Py_ssize_t j)
    int darkbn_contrast_loss(const darkbn_contrast* g, Py_ssize_t i, float* delta)

# Fewer products are not worth a second thread.
cdef enum:
    PARALLEL = 16384


def loss_workspace(Py_ssize_t m, Py_ssize_t threads):
    return m * m + 2 * m


def loss(
    const float[:, ::1] z,
    const int32_t[::1] labels,
    const int32_t[::1] classes,
    const int32_t[::1] steps,
    float[:, ::1] delta,
    int32_t[::1] right,
    float[::1] workspace,
    double temperature,
    int most,
    int detection,
    int threads,
):
    cdef Py_ssize_t m = z.shape[0], d = z.shape[1], i
    cdef bint parallel = m * m * d > PARALLEL
    cdef darkbn_contrast g
    if workspace.size < loss_workspace(m, threads):
        raise ShapeError(
            f"contrastive.loss: workspace must have {loss_workspace(m, threads)} floats, found {workspace.size}")
    if m == 0:
        return
    g.z, g.labels, g.classes, g.steps = &z[0, 0] if d else NULL, &labels[0], &classes[0], &steps[0]
    g.similar, g.m, g.d, g.most = &workspace[0], m, d, most
    g.temperature, g.detection = temperature, detection
    cdef float* target = &delta[0, 0] if d else NULL
    for i in prange(m, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
        darkbn_contrast_length(&g, i)
    for i in prange(m, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
        darkbn_contrast_angles(&g, i)
    for i in prange(m, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
        darkbn_contrast_total(&g, i)
    for i in prange(m, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
        right[i] = darkbn_contrast_loss(&g, i, target + i * d)
