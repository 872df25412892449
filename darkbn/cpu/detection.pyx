"""Kernels of darkbn.reference.detection."""

from cython.parallel cimport prange
from libc.stdint cimport int32_t
from libc.string cimport memcpy

from darkbn.errors import ShapeError


cdef extern from "darkbn/detection.h" nogil:
    ctypedef struct darkbn_detection:
        Py_ssize_t side, n, classes
        float object_scale, noobject_scale, class_scale, coord_scale
        int sqrt, rescore, forced

    void darkbn_softmax_row(const float* x, Py_ssize_t n, float* out)
    double darkbn_detection_loss(
        const darkbn_detection* g, const float* output, const float* truth, const int32_t* choices, float* delta)

# Fewer values are not worth a second thread.
cdef enum:
    PARALLEL = 8192


def activate(
    const float[:, ::1] x, float[:, ::1] out, Py_ssize_t cells, Py_ssize_t classes, int softmax, int threads
):
    cdef Py_ssize_t size = x.shape[1], b
    cdef bint parallel = x.size > PARALLEL
    if min(cells, classes) < 0 or cells * classes > size:
        raise ShapeError(f"detection.activate: {cells} cells of {classes} classes are not inside {size} values")
    if x.size == 0:
        return
    cdef const float* source = &x[0, 0]
    cdef float* target = &out[0, 0]
    for b in prange(x.shape[0], nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
        activate_sample(source + b * size, target + b * size, size, cells, classes if softmax else 0)


def loss(
    const float[:, ::1] output,
    const float[:, ::1] truth,
    const int32_t[:, ::1] choices,
    float[:, ::1] delta,
    double[::1] costs,
    int side,
    int n,
    int classes,
    float object_scale,
    float noobject_scale,
    float class_scale,
    float coord_scale,
    int sqrt,
    int rescore,
    int forced,
    int threads,
):
    cdef Py_ssize_t b, size = output.shape[1], labels = truth.shape[1], cells = <Py_ssize_t>side * side
    cdef bint chosen = choices is not None, parallel = output.size > PARALLEL
    cdef darkbn_detection g
    check(size, labels, side, n, classes)
    if chosen:
        check_choices(choices, cells, n)
    g.side, g.n, g.classes = side, n, classes
    g.object_scale, g.noobject_scale = object_scale, noobject_scale
    g.class_scale, g.coord_scale = class_scale, coord_scale
    g.sqrt, g.rescore, g.forced = sqrt, rescore, forced
    if output.shape[0] == 0:
        return
    cdef const float* values = &output[0, 0]
    cdef const float* rows = &truth[0, 0]
    cdef float* target = &delta[0, 0]
    for b in prange(output.shape[0], nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
        costs[b] = darkbn_detection_loss(
            &g, values + b * size, rows + b * labels, &choices[b, 0] if chosen else NULL, target + b * size)


cdef void activate_sample(
    const float* x, float* out, Py_ssize_t size, Py_ssize_t cells, Py_ssize_t classes
) noexcept nogil:
    cdef Py_ssize_t cell
    memcpy(out, x, size * sizeof(float))
    if classes:
        for cell in range(cells):
            darkbn_softmax_row(x + cell * classes, classes, out + cell * classes)


cdef check(Py_ssize_t values, Py_ssize_t labels, Py_ssize_t side, Py_ssize_t n, Py_ssize_t classes):
    cdef Py_ssize_t cells = side * side
    if min(side, n) < 1 or classes < 0 or values != cells * (classes + 5 * n) or labels != cells * (classes + 5):
        raise ShapeError(
            f"detection.loss: {side} x {side} cells with {n} boxes and {classes} classes have"
            f" {cells * (classes + 5 * n)} values and {cells * (classes + 5)} of truth, found {values} and {labels}"
        )


cdef check_choices(const int32_t[:, ::1] choices, Py_ssize_t cells, int n):
    cdef Py_ssize_t b, cell
    cdef bint right = choices.shape[1] == cells
    for b in range(choices.shape[0]):
        for cell in range(choices.shape[1]):
            right &= 0 <= choices[b, cell] < n
    if not right:
        raise ShapeError(f"detection.loss: choices must be numbers below {n}, one for each of {cells} cells")
