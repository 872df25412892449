"""Kernels of darkbn.reference.region."""

from cython.parallel cimport prange


cdef extern from "darkbn/region.h" nogil:
    const Py_ssize_t DARKBN_CELLS
    const Py_ssize_t DARKBN_TRANSPOSED
    const int DARKBN_REGION_STATISTICS

    ctypedef struct Groups "darkbn_groups":
        const int* sizes
        Py_ssize_t count

    ctypedef struct Rules "darkbn_region_rules":
        float thresh, coord_scale, object_scale, noobject_scale, class_scale
        int bias_match, rescore, early, background, keep_classes, cells, classfix, focal_loss

    ctypedef struct Head "darkbn_region":
        const float* output
        const float* truth
        const float* anchors
        const int* tree
        float* delta
        Py_ssize_t n, e, h, w, t, k, entry_stride, cell_stride, anchor_stride
        Rules rules

    void darkbn_region_activate(
        const float* x, float* out, Py_ssize_t n, Py_ssize_t e, Groups groups, int background, int softmax)
    void darkbn_region_activate_cells(
        const float* x, float* out, Py_ssize_t area, int count, Py_ssize_t n, Py_ssize_t e, Groups groups,
        int softmax)
    void darkbn_region_punish(const Head* l, Py_ssize_t n, Py_ssize_t start, int count)
    void darkbn_region_assign(const Head* l, double* statistics)
    void darkbn_region_decode(
        const Head* l, Py_ssize_t n, Py_ssize_t cell, float threshold, int sure, float* row)
    double darkbn_dot(const float* x, const float* y, Py_ssize_t n)

# Fewer values, or cells of a loss, are not worth a second thread.
cdef enum:
    PARALLEL = 32768
    PARALLEL_CELLS = 2048


def forward(
    const float[:, :, :, ::1] x, float[:, :, :, ::1] out, const int[::1] groups, int background, int softmax,
    int threads
):
    cdef Py_ssize_t e = x.shape[2], area = x.shape[3], plane
    cdef Groups sizes = groups_of(groups)
    cdef bint many = x.size > PARALLEL
    if x.size == 0:
        return
    for plane in prange(
            x.shape[0] * x.shape[1], nogil=True, num_threads=threads, schedule="static",
            use_threads_if=many):
        darkbn_region_activate(
            &x[0, 0, 0, 0] + plane * e * area, &out[0, 0, 0, 0] + plane * e * area, area, e, sizes, background,
            softmax)


cdef Groups groups_of(const int[::1] sizes) noexcept:
    cdef Groups groups
    groups.sizes, groups.count = NULL, 0
    if sizes is not None and sizes.shape[0]:
        groups.sizes, groups.count = &sizes[0], sizes.shape[0]
    return groups


def forward_cells(
    const float[:, :, :, ::1] x, float[:, :, :, ::1] out, const int[::1] groups, int softmax, int threads
):
    cdef Py_ssize_t n = x.shape[1], e = x.shape[2], area = x.shape[3], image, start, piece
    cdef Py_ssize_t blocks = (area + DARKBN_TRANSPOSED - 1) // DARKBN_TRANSPOSED
    cdef bint many = x.size > PARALLEL
    cdef Groups sizes = groups_of(groups)
    if x.size == 0:
        return
    for piece in prange(
            x.shape[0] * blocks, nogil=True, num_threads=threads, schedule="static",
            use_threads_if=many):
        image = piece // blocks
        start = (piece % blocks) * DARKBN_TRANSPOSED
        darkbn_region_activate_cells(
            &x[image, 0, 0, 0] + start, &out[image, start, 0, 0], area,
            <int>min(DARKBN_TRANSPOSED, area - start), n, e, sizes, softmax)


def decode(
    const float[:, :, :, :, ::1] output, const float[:, ::1] anchors, float[:, :, :, ::1] rows, int image,
    float threshold, int background, int threads
):
    cdef Head head
    if rows.size == 0:
        return
    head.output, head.anchors, head.delta, head.tree = &output[image, 0, 0, 0, 0], &anchors[0, 0], NULL, NULL
    head.n, head.e, head.h, head.w = output.shape[1], output.shape[2], output.shape[3], output.shape[4]
    set_planes(&head)
    head.rules.cells, head.rules.background = 0, background
    decode_image(&head, &rows[0, 0, 0, 0], threshold, 0, threads)


def decode_cells(
    const float[:, :, :, :, ::1] output, const float[:, ::1] anchors, float[:, :, :, ::1] rows, int image,
    float threshold, int sure, int threads
):
    cdef Head head
    if rows.size == 0:
        return
    head.output, head.anchors, head.delta, head.tree = &output[image, 0, 0, 0, 0], &anchors[0, 0], NULL, NULL
    head.h, head.w, head.n, head.e = output.shape[1], output.shape[2], output.shape[3], output.shape[4]
    set_cells(&head)
    head.rules.cells, head.rules.background = 1, 0
    decode_image(&head, &rows[0, 0, 0, 0], threshold, sure, threads)


cdef inline void set_planes(Head* head) noexcept nogil:
    """Strides of (n, e, h, w)."""
    head.cell_stride, head.entry_stride, head.anchor_stride = 1, head.h * head.w, head.e * head.h * head.w


cdef inline void set_cells(Head* head) noexcept nogil:
    """Strides of (h, w, n, e)."""
    head.cell_stride, head.entry_stride, head.anchor_stride = head.n * head.e, 1, head.e


cdef void decode_image(const Head* head, float* rows, float threshold, int sure, int threads) noexcept:
    cdef Py_ssize_t place, places = head.h * head.w * head.n
    cdef bint many = places * head.e > PARALLEL
    for place in prange(
            places, nogil=True, num_threads=threads, schedule="static",
            use_threads_if=many):
        darkbn_region_decode(head, place % head.n, place // head.n, threshold, sure, rows + place * head.e)


def loss(
    const float[:, :, :, :, ::1] output, const float[:, :, ::1] truth, const float[:, ::1] anchors,
    const int[:, ::1] tree, float[:, :, :, :, ::1] delta, double[:, ::1] squares, double[:, ::1] statistics,
    float thresh, float coord_scale, float object_scale, float noobject_scale, float class_scale, int bias_match,
    int rescore, int background,
    int keep_classes, int early, int threads
):
    cdef Head head
    if output.size == 0:
        squares[:] = 0
        statistics[:] = 0
        return
    head.output, head.truth = &output[0, 0, 0, 0, 0], &truth[0, 0, 0] if truth.size else NULL
    head.anchors, head.delta = &anchors[0, 0], &delta[0, 0, 0, 0, 0]
    head.n, head.e, head.h, head.w = output.shape[1], output.shape[2], output.shape[3], output.shape[4]
    head.t, head.k = truth.shape[1], truth.shape[2]
    head.tree = &tree[0, 0] if tree is not None and tree.shape[0] else NULL
    set_planes(&head)
    head.rules = Rules(
        thresh, coord_scale, object_scale, noobject_scale, class_scale, bias_match, rescore, early, background,
        keep_classes, 0, 0, 0)
    losses(&head, output.shape[0], &squares[0, 0], &statistics[0, 0], threads)


def loss_cells(
    const float[:, :, :, :, ::1] output, const float[:, :, ::1] truth, const float[:, ::1] anchors,
    const int[:, ::1] tree, float[:, :, :, :, ::1] delta, double[:, ::1] squares, double[:, ::1] statistics,
    float thresh, float coord_scale, float object_scale, float noobject_scale, float class_scale, int bias_match,
    int rescore, int classfix,
    int focal_loss, int early, int threads
):
    cdef Head head
    if output.size == 0:
        squares[:] = 0
        statistics[:] = 0
        return
    head.output, head.truth = &output[0, 0, 0, 0, 0], &truth[0, 0, 0] if truth.size else NULL
    head.anchors, head.delta = &anchors[0, 0], &delta[0, 0, 0, 0, 0]
    head.h, head.w, head.n, head.e = output.shape[1], output.shape[2], output.shape[3], output.shape[4]
    head.t, head.k = truth.shape[1], truth.shape[2]
    head.tree = &tree[0, 0] if tree is not None and tree.shape[0] else NULL
    set_cells(&head)
    head.rules = Rules(
        thresh, coord_scale, object_scale, noobject_scale, class_scale, bias_match, rescore, early, 0,
        0, 1, classfix, focal_loss)
    losses(&head, output.shape[0], &squares[0, 0], &statistics[0, 0], threads)


cdef void losses(const Head* whole, Py_ssize_t images, double* squares, double* statistics, int threads) noexcept:
    cdef Py_ssize_t blocks = (whole.h * whole.w + DARKBN_CELLS - 1) // DARKBN_CELLS, piece, image, plane
    cdef Py_ssize_t size = whole.e * whole.h * whole.w
    cdef bint many = images * whole.n * whole.h * whole.w > PARALLEL_CELLS
    for piece in prange(
            images * whole.n * blocks, nogil=True, num_threads=threads, schedule="static", use_threads_if=many):
        punish_block(whole, piece // blocks, piece % blocks)
    for image in prange(images, nogil=True, num_threads=threads, schedule="static", use_threads_if=many):
        assign_image(whole, image, statistics + DARKBN_REGION_STATISTICS * image)
    for plane in prange(images * whole.n, nogil=True, num_threads=threads, schedule="static", use_threads_if=many):
        squares[plane] = darkbn_dot(whole.delta + plane * size, whole.delta + plane * size, size)


cdef inline Head head_of(const Head* whole, Py_ssize_t image) noexcept nogil:
    cdef Head head = whole[0]
    cdef Py_ssize_t step = image * head.n * head.e * head.h * head.w
    head.output += step
    head.delta += step
    head.truth += image * head.t * head.k
    return head


cdef inline void punish_block(const Head* whole, Py_ssize_t plane, Py_ssize_t block) noexcept nogil:
    cdef Head head = head_of(whole, plane // whole.n)
    cdef Py_ssize_t start = block * DARKBN_CELLS
    darkbn_region_punish(&head, plane % whole.n, start, <int>min(DARKBN_CELLS, head.h * head.w - start))


cdef inline void assign_image(const Head* whole, Py_ssize_t image, double* statistics) noexcept nogil:
    cdef Head head = head_of(whole, image)
    darkbn_region_assign(&head, statistics)
