"""Kernels of darkbn.reference.blocked_bottleneck."""

from darkbn.errors import ShapeError
from darkbn.geometry import require_bottleneck, require_slice


cdef extern from "darkbn/blocked_bottleneck.h" nogil:
    ctypedef struct darkbn_slice:
        float* data
        Py_ssize_t image, plane

    ctypedef struct darkbn_bottleneck:
        darkbn_slice x, out, residual
        Py_ssize_t batch, h, w, c, m, n, size, out_h, out_w, stride_y, stride_x, pad, squeezed
        int expands, projects
        int expand_activation, depthwise_activation, project_activation, residual_activation
        int squeeze_activation, excite_activation, scale_activation

    ctypedef struct darkbn_bottleneck_parts:
        Py_ssize_t expand, depthwise, squeeze, excite, project

    void darkbn_bottleneck_unpack(darkbn_bottleneck* g, const float* packed)
    Py_ssize_t darkbn_blocks(Py_ssize_t channels)
    darkbn_bottleneck_parts darkbn_bottleneck_packed(const darkbn_bottleneck* g)
    void darkbn_bottleneck_pack(const darkbn_bottleneck* g, const float* weights, const float* biases, float* packed)
    Py_ssize_t darkbn_bottleneck_floats(const darkbn_bottleneck* g, int threads)
    void darkbn_bottleneck_run(const darkbn_bottleneck* g, float* workspace, int threads)


def packed_size(Py_ssize_t c, Py_ssize_t m, Py_ssize_t n, Py_ssize_t size, int expand, int squeeze, int project):
    require_bottleneck("blocked_bottleneck.packed_size", (c, m, n), size, (expand, squeeze, project), (1, 1, 0))
    cdef darkbn_bottleneck g = filters(c, m, n, size, expand, squeeze, project)
    return packed_floats(&g)


def pack(
    const float[::1] weights, const float[::1] biases, float[::1] packed, Py_ssize_t c, Py_ssize_t m, Py_ssize_t n,
    Py_ssize_t size, int expand, int squeeze, int project, int threads
):
    cdef str kernel = "blocked_bottleneck.pack"
    require_bottleneck(
        kernel, (c, m, n), size, (expand, squeeze, project), (1, 1, 0), (weights.shape[0], biases.shape[0])
    )
    cdef darkbn_bottleneck g = filters(c, m, n, size, expand, squeeze, project)
    check_packed(kernel, packed, &g)
    with nogil:
        darkbn_bottleneck_pack(&g, &weights[0], &biases[0], &packed[0])


def forward_workspace(
    Py_ssize_t b, Py_ssize_t h, Py_ssize_t w, Py_ssize_t oh, Py_ssize_t ow, Py_ssize_t c, Py_ssize_t m, Py_ssize_t n,
    Py_ssize_t size, int expand, int squeeze, int project, Py_ssize_t stride_y, Py_ssize_t stride_x, Py_ssize_t pad,
    int threads
):
    require_bottleneck(
        "blocked_bottleneck.forward_workspace", (c, m, n), size, (expand, squeeze, project), (stride_y, stride_x, pad)
    )
    cdef darkbn_bottleneck g = filters(c, m, n, size, expand, squeeze, project)
    g.batch, g.h, g.w, g.out_h, g.out_w = b, h, w, oh, ow
    g.stride_y, g.stride_x, g.pad = stride_y, stride_x, pad
    return darkbn_bottleneck_floats(&g, threads)


def forward(
    const float[:, :, :, :, ::1] x, const float[::1] packed, const float[:, :, :, :, ::1] residual,
    float[:, :, :, :, ::1] out, float[::1] workspace, Py_ssize_t x_block, Py_ssize_t residual_block,
    Py_ssize_t out_block, Py_ssize_t c, Py_ssize_t m, Py_ssize_t n, Py_ssize_t size, int expand, int squeeze,
    int project, Py_ssize_t stride_y, Py_ssize_t stride_x, Py_ssize_t pad, int expand_activation, int activation,
    int squeeze_activation, int excite_activation, int scale_activation, int project_activation,
    int residual_activation, int threads
):
    cdef str kernel = "blocked_bottleneck.forward"
    cdef darkbn_bottleneck g = filters(c, m, n, size, expand, squeeze, project)
    g.batch, g.h, g.w, g.out_h, g.out_w = x.shape[0], x.shape[2], x.shape[3], out.shape[2], out.shape[3]
    g.stride_y, g.stride_x, g.pad = stride_y, stride_x, pad
    g.expand_activation, g.depthwise_activation = expand_activation, activation
    g.squeeze_activation, g.excite_activation = squeeze_activation, excite_activation
    g.scale_activation = scale_activation
    g.project_activation, g.residual_activation = project_activation, residual_activation
    require_bottleneck(
        kernel, (c, m, n), size, (expand, squeeze, project), (stride_y, stride_x, pad), residual=residual is not None
    )
    require_slice(kernel, "x", x_block, darkbn_blocks(c), x.shape[1])
    require_slice(kernel, "out", out_block, darkbn_blocks(n), out.shape[1])
    check_packed(kernel, packed, &g)
    cdef Py_ssize_t needed = darkbn_bottleneck_floats(&g, threads)
    if workspace is None or workspace.shape[0] < needed:
        raise ShapeError(f"{kernel}: workspace must have at least {needed} floats")
    g.x, g.out, g.residual.data = slice_of(x, x_block), slice_of(out, out_block), NULL
    if residual is not None:
        require_slice(kernel, "residual", residual_block, darkbn_blocks(n), residual.shape[1])
        g.residual = slice_of(residual, residual_block)
    darkbn_bottleneck_unpack(&g, &packed[0])
    if g.batch * g.out_h * g.out_w == 0:
        return
    with nogil:
        darkbn_bottleneck_run(&g, &workspace[0], threads)


cdef darkbn_bottleneck filters(
    Py_ssize_t c, Py_ssize_t m, Py_ssize_t n, Py_ssize_t size, int expand, int squeeze, int project
) noexcept:
    cdef darkbn_bottleneck g
    g.c, g.m, g.n, g.size, g.squeezed = c, m, n, size, squeeze
    g.expands, g.projects = expand != 0, project != 0
    return g


cdef Py_ssize_t packed_floats(const darkbn_bottleneck* g) noexcept:
    cdef darkbn_bottleneck_parts parts = darkbn_bottleneck_packed(g)
    return parts.expand + parts.depthwise + parts.squeeze + parts.excite + parts.project


cdef int check_packed(str kernel, const float[::1] packed, const darkbn_bottleneck* g) except -1:
    cdef Py_ssize_t needed = packed_floats(g)
    if packed.shape[0] < needed:
        raise ShapeError(f"{kernel}: packed must have at least {needed} floats")
    return 0


cdef darkbn_slice slice_of(const float[:, :, :, :, ::1] x, Py_ssize_t block) noexcept:
    cdef Py_ssize_t plane = x.shape[2] * x.shape[3] * 8
    if x.shape[0] * plane == 0:
        return [NULL, 0, 0]
    return [<float*> &x[0, 0, 0, 0, 0] + block * plane, x.shape[1] * plane, plane]
