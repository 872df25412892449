"""Kernels of darkbn.reference.yolo."""

from cython.parallel cimport prange


cdef extern from "darkbn/yolo.h" nogil:
    const Py_ssize_t DARKBN_CELLS

    ctypedef struct Rules "darkbn_yolo_rules":
        float net_w, net_h, ignore_thresh, truth_thresh, iou_thresh
        int iou_thresh_kind, iou_loss
        float iou_normalizer, obj_normalizer, cls_normalizer, max_delta, label_smooth_eps
        int objectness_smooth, focal_loss, new_coords, alexeyab

    ctypedef struct Head "darkbn_yolo":
        const float* output
        const float* truth
        const float* anchors
        const float* class_weights
        const int* mask
        float* delta
        Py_ssize_t n, e, h, w, t, k, all_anchors, weighted_classes
        Rules rules

    void darkbn_yolo_activate(
        const float* x, float* out, Py_ssize_t n, Py_ssize_t entry, float scale, int new_coords)
    float darkbn_yolo_size(float v, float anchor, float net, int new_coords)
    void darkbn_yolo_punish(const Head* l, Py_ssize_t n, Py_ssize_t start, int count)
    void darkbn_yolo_assign(const Head* l, double* statistics)
    void darkbn_yolo_average(const Head* l, Py_ssize_t n, Py_ssize_t start, int count)
    double darkbn_dot(const float* x, const float* y, Py_ssize_t n)

# Fewer values, or cells of a loss, are not worth a second thread.
cdef enum:
    PARALLEL = 32768
    PARALLEL_CELLS = 2048


def activate(
    const float[:, :, :, ::1] x, float[:, :, :, ::1] out, float scale_x_y, int new_coords, int threads
):
    cdef Py_ssize_t e = x.shape[2], area = x.shape[3], plane
    cdef bint many = x.size > PARALLEL
    if x.size == 0:
        return
    for plane in prange(
            x.shape[0] * x.shape[1] * e, nogil=True, num_threads=threads, schedule="static",
            use_threads_if=many):
        darkbn_yolo_activate(
            &x[0, 0, 0, 0] + plane * area, &out[0, 0, 0, 0] + plane * area, area, plane % e, scale_x_y, new_coords)


def candidates(
    const float[:, :, :, ::1] output, int[:, :, ::1] places, int[::1] counts, float threshold, int threads
):
    cdef Py_ssize_t n = output.shape[1], e = output.shape[2], area = output.shape[3], image
    cdef bint many = output.shape[0] > 1 and places.size > PARALLEL
    if output.size == 0:
        counts[:] = 0
        return
    for image in prange(
            output.shape[0], nogil=True, num_threads=threads, schedule="static",
            use_threads_if=many):
        counts[image] = find_candidates(
            &output[image, 0, 0, 0] + 4 * area, &places[image, 0, 0], n, e * area, area, threshold)


cdef inline int find_candidates(
    const float* objectness, int* places, Py_ssize_t n, Py_ssize_t step, Py_ssize_t area, float threshold
) noexcept nogil:
    cdef Py_ssize_t cell, anchor, found = 0, rest
    for cell in range(area):
        for anchor in range(n):
            if objectness[anchor * step + cell] > threshold:
                places[found] = <int>(cell * n + anchor)
                found += 1
    for rest in range(found, area * n):
        places[rest] = -1
    return <int>found


def decode(
    const float[:, :, :, :, ::1] output, const int[::1] places, const float[:, ::1] anchors, float[:, ::1] rows,
    int image, float net_w, float net_h, float threshold, int new_coords, int threads
):
    cdef Py_ssize_t n = output.shape[1], e = output.shape[2], h = output.shape[3], w = output.shape[4]
    cdef Py_ssize_t m, k, place, cell, anchor, area = h * w
    cdef const float* entry
    cdef float objectness, probability
    cdef bint many = rows.size > PARALLEL
    for m in prange(
            places.shape[0], nogil=True, num_threads=threads, schedule="static",
            use_threads_if=many):
        place = min(max(places[m], 0), area * n - 1)
        anchor = place % n
        cell = place // n
        entry = &output[image, anchor, 0, 0, 0] + cell
        objectness = entry[4 * area]
        rows[m, 0] = (<float>(cell % w) + entry[0]) / <float>w
        rows[m, 1] = (<float>(cell // w) + entry[area]) / <float>h
        rows[m, 2] = darkbn_yolo_size(entry[2 * area], anchors[anchor, 0], net_w, new_coords)
        rows[m, 3] = darkbn_yolo_size(entry[3 * area], anchors[anchor, 1], net_h, new_coords)
        rows[m, 4] = objectness
        for k in range(5, e):
            probability = objectness * entry[k * area]
            rows[m, k] = probability if probability > threshold else 0


def loss(
    const float[:, :, :, :, ::1] output, const float[:, :, ::1] truth, const float[:, ::1] anchors,
    const int[::1] mask, const float[::1] class_weights, float[:, :, :, :, ::1] delta, double[:, :, ::1] squares,
    double[:, ::1] statistics, float net_w, float net_h, float ignore_thresh, float truth_thresh, float iou_thresh,
    int iou_thresh_kind, int iou_loss, float iou_normalizer, float obj_normalizer, float cls_normalizer,
    float max_delta, float label_smooth_eps, int objectness_smooth, int focal_loss, int new_coords, int alexeyab,
    int threads
):
    cdef Py_ssize_t n = output.shape[1], area = output.shape[3] * output.shape[4]
    cdef Py_ssize_t blocks = (area + DARKBN_CELLS - 1) // DARKBN_CELLS, pieces = output.shape[0] * n * blocks
    cdef Py_ssize_t piece, image, plane
    cdef bint many
    cdef Head whole
    if output.size == 0 or anchors.size == 0:
        delta[:] = 0
        squares[:] = 0
        statistics[:] = 0
        return
    whole.rules = Rules(
        net_w, net_h, ignore_thresh, truth_thresh, iou_thresh, iou_thresh_kind, iou_loss, iou_normalizer,
        obj_normalizer, cls_normalizer, max_delta, label_smooth_eps, objectness_smooth, focal_loss, new_coords,
        alexeyab)
    whole.output, whole.delta = &output[0, 0, 0, 0, 0], &delta[0, 0, 0, 0, 0]
    whole.n, whole.e, whole.h, whole.w = n, output.shape[2], output.shape[3], output.shape[4]
    whole.t, whole.k, whole.all_anchors = truth.shape[1], truth.shape[2], anchors.shape[0]
    whole.truth = &truth[0, 0, 0] if truth.size else NULL
    whole.anchors, whole.mask = &anchors[0, 0], &mask[0]
    whole.class_weights, whole.weighted_classes = NULL, 0
    if class_weights is not None and class_weights.shape[0]:
        whole.class_weights, whole.weighted_classes = &class_weights[0], class_weights.shape[0]
    many = output.shape[0] * n * area > PARALLEL_CELLS
    for piece in prange(pieces, nogil=True, num_threads=threads, schedule="static", use_threads_if=many):
        punish_block(&whole, piece // blocks, piece % blocks)
    for image in prange(output.shape[0], nogil=True, num_threads=threads, schedule="static", use_threads_if=many):
        assign_image(&whole, image, &statistics[image, 0])
    if iou_thresh < 1:
        for piece in prange(pieces, nogil=True, num_threads=threads, schedule="static", use_threads_if=many):
            average_block(&whole, piece // blocks, piece % blocks)
    for plane in prange(output.shape[0] * n, nogil=True, num_threads=threads, schedule="static", use_threads_if=many):
        sum_anchor(&whole, plane, &squares[0, 0, 0] + 2 * plane)


cdef inline Head head_of(const Head* whole, Py_ssize_t image) noexcept nogil:
    cdef Head head = whole[0]
    cdef Py_ssize_t step = image * head.n * head.e * head.h * head.w
    head.output += step
    head.delta += step
    head.truth += image * head.t * head.k
    return head


cdef inline int cells_of(const Head* whole, Py_ssize_t block) noexcept nogil:
    return <int>min(DARKBN_CELLS, whole.h * whole.w - block * DARKBN_CELLS)


cdef inline void punish_block(const Head* whole, Py_ssize_t plane, Py_ssize_t block) noexcept nogil:
    cdef Head head = head_of(whole, plane // whole.n)
    darkbn_yolo_punish(&head, plane % whole.n, block * DARKBN_CELLS, cells_of(whole, block))


cdef inline void assign_image(const Head* whole, Py_ssize_t image, double* statistics) noexcept nogil:
    cdef Head head = head_of(whole, image)
    darkbn_yolo_assign(&head, statistics)


cdef inline void average_block(const Head* whole, Py_ssize_t plane, Py_ssize_t block) noexcept nogil:
    cdef Head head = head_of(whole, plane // whole.n)
    darkbn_yolo_average(&head, plane % whole.n, block * DARKBN_CELLS, cells_of(whole, block))


cdef inline void sum_anchor(const Head* whole, Py_ssize_t plane, double* squares) noexcept nogil:
    cdef Py_ssize_t area = whole.h * whole.w
    cdef const float* delta = whole.delta + plane * whole.e * area
    squares[0] = darkbn_dot(delta, delta, 4 * area)
    squares[1] = darkbn_dot(delta + 4 * area, delta + 4 * area, (whole.e - 4) * area)
