"""Kernels of darkbn.reference.boxes."""

from cython.parallel cimport prange
from libc.string cimport memset


cdef extern from "darkbn/suppress.h" nogil:
    void darkbn_suppress(
        const float* boxes, unsigned char* keep, Py_ssize_t n, Py_ssize_t start, Py_ssize_t end,
        float threshold, int distant, double exponent)

# Numbers of darkbn.boxes.NMS_KINDS.
cdef enum:
    GREEDY_NMS = 1
    DIOU_NMS = 2

# Fewer boxes are not worth a second thread.
cdef enum:
    PARALLEL = 500


def suppress(
    const float[:, ::1] boxes, const int[::1] starts, unsigned char[::1] keep,
    float threshold, int kind, double exponent, int threads
):
    cdef Py_ssize_t n = keep.shape[0], segment, start, end
    cdef int distant = kind == GREEDY_NMS or kind == DIOU_NMS
    if n == 0:
        return
    memset(&keep[0], 1, n)
    # Classes have very unlike numbers of boxes.
    for segment in prange(
            starts.shape[0] - 1, nogil=True, num_threads=threads, schedule="dynamic", use_threads_if=n > PARALLEL):
        start = max(0, starts[segment])
        end = min(n, starts[segment + 1])
        darkbn_suppress(&boxes[0, 0], &keep[0], n, start, end, threshold, distant, exponent)
