"""Kernels of darkbn.reference.iseg."""

from cython.parallel cimport prange, threadid

from darkbn.errors import ShapeError


cdef extern from "darkbn/iseg.h" nogil:
    ctypedef struct darkbn_iseg:
        Py_ssize_t channels, classes, spatial, instances

    double darkbn_iseg_loss(
        const darkbn_iseg* g, const float* output, const float* truth, float* delta, float* room)

# Fewer values of truth are not worth a second thread.
cdef enum:
    PARALLEL = 8192


def loss_workspace(Py_ssize_t c, Py_ssize_t m, Py_ssize_t classes, Py_ssize_t threads):
    return threads * m * (c - classes + 1)


def loss(
    const float[:, :, ::1] output,
    const float[:, :, ::1] truth,
    float[:, :, ::1] delta,
    double[::1] costs,
    float[::1] workspace,
    int classes,
    int threads,
):
    cdef Py_ssize_t sample, instances = truth.shape[1], room
    cdef bint parallel = truth.size > PARALLEL
    cdef darkbn_iseg g
    check(output.shape[1], output.shape[2], truth.shape[2], classes)
    g.channels, g.classes, g.spatial, g.instances = output.shape[1], classes, output.shape[2], instances
    room = loss_workspace(g.channels, instances, classes, 1)
    if workspace.size < threads * room:
        raise ShapeError(f"iseg.loss: workspace must have {threads * room} floats, found {workspace.size}")
    cdef const float* values = &output[0, 0, 0] if output.size else NULL
    cdef const float* rows = &truth[0, 0, 0] if truth.size else NULL
    cdef float* target = &delta[0, 0, 0] if delta.size else NULL
    cdef float* means = &workspace[0] if workspace.size else NULL
    for sample in prange(output.shape[0], nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
        costs[sample] = darkbn_iseg_loss(
            &g,
            values + sample * g.channels * g.spatial,
            rows + sample * instances * (g.spatial + 1),
            target + sample * g.channels * g.spatial,
            means + threadid() * room,
        )


cdef check(Py_ssize_t channels, Py_ssize_t spatial, Py_ssize_t values, Py_ssize_t classes):
    if values != spatial + 1 or not 0 <= classes <= channels:
        raise ShapeError(
            f"iseg.loss: truth must have 1 + {spatial} values for each instance, found {values};"
            f" {classes} classes must be among {channels} channels"
        )
