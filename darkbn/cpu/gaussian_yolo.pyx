"""Kernels of darkbn.reference.gaussian_yolo."""

from cython.parallel cimport prange


cdef extern from "darkbn/gaussian_yolo.h" nogil:
    const Py_ssize_t DARKBN_CELLS
    const Py_ssize_t DARKBN_GAUSSIAN_SKIP

    ctypedef struct Rules "darkbn_yolo_rules":
        float net_w, net_h, ignore_thresh, truth_thresh, iou_thresh
        int iou_thresh_kind, iou_loss
        float iou_normalizer, obj_normalizer, cls_normalizer, max_delta, label_smooth_eps
        int objectness_smooth, focal_loss, new_coords, alexeyab

    ctypedef struct Tail "darkbn_yolo":
        const float* output
        const float* truth
        const float* anchors
        const float* class_weights
        const int* mask
        float* delta
        Py_ssize_t n, e, h, w, t, k, all_anchors, weighted_classes
        Rules rules

    ctypedef struct Head "darkbn_gaussian":
        Tail tail
        float uc_normalizer, to_center

    void darkbn_gaussian_activate(const float* x, float* out, Py_ssize_t n, Py_ssize_t entry, float scale)
    void darkbn_gaussian_punish(const Head* l, Py_ssize_t n, Py_ssize_t start, int count)
    void darkbn_gaussian_assign(const Head* l, double* statistics)
    void darkbn_gaussian_average(const Head* l, Py_ssize_t n, Py_ssize_t start, int count)
    double darkbn_dot(const float* x, const float* y, Py_ssize_t n)

# Numbers of darkbn.reference.gaussian_yolo.
cdef enum:
    CENTER = 0
    LEFT_TOP = 1

# Fewer values, or cells of a loss, are not worth a second thread.
cdef enum:
    PARALLEL = 32768
    PARALLEL_CELLS = 2048


def activate(const float[:, :, :, ::1] x, float[:, :, :, ::1] out, float scale_x_y, int threads):
    cdef Py_ssize_t e = x.shape[2], area = x.shape[3], plane
    cdef bint parallel = x.size > PARALLEL
    if x.size == 0:
        return
    for plane in prange(
        x.shape[0] * x.shape[1] * e, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel
    ):
        darkbn_gaussian_activate(
            &x[0, 0, 0, 0] + plane * area, &out[0, 0, 0, 0] + plane * area, area, plane % e, scale_x_y)


def loss(
    const float[:, :, :, :, ::1] output, const float[:, :, ::1] truth, const float[:, ::1] anchors,
    const int[::1] mask, const float[::1] class_weights, float[:, :, :, :, ::1] delta, double[:, ::1] squares,
    double[:, ::1] statistics, float net_w, float net_h, float ignore_thresh, float truth_thresh, float iou_thresh,
    int iou_thresh_kind, int iou_loss, float iou_normalizer, float uc_normalizer, float obj_normalizer,
    float cls_normalizer, float max_delta, float label_smooth_eps, int objectness_smooth, int point, int threads
):
    cdef Py_ssize_t n = output.shape[1], area = output.shape[3] * output.shape[4], step = output.shape[2] * area
    cdef Py_ssize_t blocks = (area + DARKBN_CELLS - 1) // DARKBN_CELLS, pieces = output.shape[0] * n * blocks
    cdef Py_ssize_t piece, image, plane
    cdef bint parallel = output.shape[0] * n * area > PARALLEL_CELLS
    cdef Head whole
    if output.size == 0 or anchors.size == 0:
        delta[:] = 0
        squares[:] = 0
        statistics[:] = 0
        return
    whole.tail.rules = Rules(
        net_w, net_h, ignore_thresh, truth_thresh, iou_thresh, iou_thresh_kind, iou_loss, iou_normalizer,
        obj_normalizer, cls_normalizer, max_delta, label_smooth_eps, objectness_smooth, 0, 0, 0)
    whole.uc_normalizer = uc_normalizer
    whole.to_center = 0 if point == CENTER else 1 if point == LEFT_TOP else -1
    whole.tail.output, whole.tail.delta = &output[0, 0, 0, 0, 0], &delta[0, 0, 0, 0, 0]
    whole.tail.n, whole.tail.e = n, output.shape[2] - DARKBN_GAUSSIAN_SKIP
    whole.tail.h, whole.tail.w = output.shape[3], output.shape[4]
    whole.tail.t, whole.tail.k, whole.tail.all_anchors = truth.shape[1], truth.shape[2], anchors.shape[0]
    whole.tail.truth = &truth[0, 0, 0] if truth.size else NULL
    whole.tail.anchors, whole.tail.mask = &anchors[0, 0], &mask[0]
    whole.tail.class_weights, whole.tail.weighted_classes = NULL, 0
    if class_weights is not None and class_weights.shape[0]:
        whole.tail.class_weights, whole.tail.weighted_classes = &class_weights[0], class_weights.shape[0]
    for piece in prange(pieces, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
        punish_block(&whole, piece // blocks, piece % blocks)
    for image in prange(output.shape[0], nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
        assign_image(&whole, image, &statistics[image, 0])
    for piece in prange(pieces, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
        average_block(&whole, piece // blocks, piece % blocks)
    for plane in prange(
        output.shape[0] * n, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel
    ):
        squares[plane // n, plane % n] = darkbn_dot(
            whole.tail.delta + plane * step, whole.tail.delta + plane * step, step)


cdef inline Head head_of(const Head* whole, Py_ssize_t image) noexcept nogil:
    cdef Head head = whole[0]
    cdef Py_ssize_t step = image * head.tail.n * (head.tail.e + DARKBN_GAUSSIAN_SKIP) * head.tail.h * head.tail.w
    head.tail.output += step
    head.tail.delta += step
    head.tail.truth += image * head.tail.t * head.tail.k
    return head


cdef inline int cells_of(const Head* whole, Py_ssize_t block) noexcept nogil:
    return <int>min(DARKBN_CELLS, whole.tail.h * whole.tail.w - block * DARKBN_CELLS)


cdef inline void punish_block(const Head* whole, Py_ssize_t plane, Py_ssize_t block) noexcept nogil:
    cdef Head head = head_of(whole, plane // whole.tail.n)
    darkbn_gaussian_punish(&head, plane % whole.tail.n, block * DARKBN_CELLS, cells_of(whole, block))


cdef inline void assign_image(const Head* whole, Py_ssize_t image, double* statistics) noexcept nogil:
    cdef Head head = head_of(whole, image)
    darkbn_gaussian_assign(&head, statistics)


cdef inline void average_block(const Head* whole, Py_ssize_t plane, Py_ssize_t block) noexcept nogil:
    cdef Head head = head_of(whole, plane // whole.tail.n)
    darkbn_gaussian_average(&head, plane % whole.tail.n, block * DARKBN_CELLS, cells_of(whole, block))
