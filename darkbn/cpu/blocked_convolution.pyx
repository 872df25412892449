"""Kernels of darkbn.reference.blocked_convolution."""

from darkbn.errors import ShapeError
from darkbn.geometry import require_algorithm, require_blocked_convolution, require_slice


cdef extern from "darkbn/blocked_run.h" nogil:
    ctypedef struct darkbn_slice:
        float* data
        Py_ssize_t image, plane

    ctypedef struct darkbn_finish:
        darkbn_slice out, residual
        int activation, residual_activation
        float slope, residual_slope

    ctypedef struct darkbn_blocked:
        darkbn_slice x
        const float* packed
        Py_ssize_t batch, h, w, c, n, size, out_h, out_w, groups, stride_y, stride_x, dilation, pad
        darkbn_finish finish

    int DARKBN_ALGORITHM_FIRST
    float darkbn_slope(int kind)
    Py_ssize_t darkbn_blocks(Py_ssize_t channels)
    Py_ssize_t darkbn_blocked_packed(Py_ssize_t n, Py_ssize_t cg, Py_ssize_t size, Py_ssize_t groups, int algorithm)
    void darkbn_blocked_pack(
        const float* weights, const float* biases, Py_ssize_t n, Py_ssize_t cg, Py_ssize_t size, Py_ssize_t groups,
        int algorithm, float* packed, int threads
    )
    Py_ssize_t darkbn_blocked_workspace(const darkbn_blocked* g, int algorithm, int threads)
    void darkbn_blocked_forward(const darkbn_blocked* g, int algorithm, float* workspace, int threads)


def packed_size(Py_ssize_t n, Py_ssize_t cg, Py_ssize_t size, Py_ssize_t groups, int algorithm):
    require_algorithm("blocked_convolution.packed_size", algorithm, n, cg, size, groups)
    return darkbn_blocked_packed(n, cg, size, groups, algorithm)


def pack(
    const float[:, :, :, ::1] weights, const float[::1] biases, float[::1] packed, Py_ssize_t groups, int algorithm,
    int threads
):
    cdef Py_ssize_t n = weights.shape[0], cg = weights.shape[1], size = weights.shape[2]
    require_algorithm("blocked_convolution.pack", algorithm, n, cg, size, groups)
    check_packed("blocked_convolution.pack", packed, darkbn_blocked_packed(n, cg, size, groups, algorithm))
    cdef const float* shift = NULL
    if biases is not None:
        shift = &biases[0]
    with nogil:
        darkbn_blocked_pack(&weights[0, 0, 0, 0], shift, n, cg, size, groups, algorithm, &packed[0], threads)


def forward_workspace(
    Py_ssize_t b, Py_ssize_t c, Py_ssize_t h, Py_ssize_t w, Py_ssize_t n, Py_ssize_t size, Py_ssize_t oh,
    Py_ssize_t ow, Py_ssize_t groups, Py_ssize_t stride_y, Py_ssize_t stride_x, Py_ssize_t dilation, Py_ssize_t pad,
    int algorithm, int threads
):
    cdef darkbn_blocked g = sizes(b, c, h, w, n, size, oh, ow, groups, stride_y, stride_x, dilation, pad)
    check("blocked_convolution.forward_workspace", &g, algorithm)
    return darkbn_blocked_workspace(&g, algorithm, threads)


def forward(
    const float[:, :, :, :, ::1] x, const float[::1] packed, const float[:, :, :, :, ::1] residual,
    float[:, :, :, :, ::1] out, float[::1] workspace, Py_ssize_t x_block, Py_ssize_t residual_block,
    Py_ssize_t out_block, Py_ssize_t c, Py_ssize_t n, Py_ssize_t size, Py_ssize_t groups, Py_ssize_t stride_y,
    Py_ssize_t stride_x, Py_ssize_t dilation, Py_ssize_t pad, int activation, int residual_activation, int algorithm,
    int threads
):
    cdef darkbn_blocked g = sizes(
        x.shape[0], c, x.shape[2], x.shape[3], n, size, out.shape[2], out.shape[3], groups, stride_y, stride_x,
        dilation, pad
    )
    check("blocked_convolution.forward", &g, algorithm)
    if algorithm == DARKBN_ALGORITHM_FIRST:
        raise ShapeError("blocked_convolution.forward: FIRST takes plain maps, by forward_plain")
    require_slice("blocked_convolution.forward", "x", x_block, darkbn_blocks(c), x.shape[1])
    g.x = slice_of(x, x_block)
    run("blocked_convolution.forward", &g, packed, residual, out, workspace, residual_block, out_block, activation,
        residual_activation, algorithm, threads)


def forward_plain_workspace(
    Py_ssize_t b, Py_ssize_t c, Py_ssize_t h, Py_ssize_t w, Py_ssize_t n, Py_ssize_t size, Py_ssize_t oh,
    Py_ssize_t ow, Py_ssize_t stride_y, Py_ssize_t stride_x, Py_ssize_t dilation, Py_ssize_t pad, int threads
):
    cdef darkbn_blocked g = sizes(b, c, h, w, n, size, oh, ow, 1, stride_y, stride_x, dilation, pad)
    check("blocked_convolution.forward_plain_workspace", &g, DARKBN_ALGORITHM_FIRST)
    return darkbn_blocked_workspace(&g, DARKBN_ALGORITHM_FIRST, threads)


def forward_plain(
    const float[:, :, :, ::1] x, const float[::1] packed, const float[:, :, :, :, ::1] residual,
    float[:, :, :, :, ::1] out, float[::1] workspace, Py_ssize_t residual_block, Py_ssize_t out_block, Py_ssize_t n,
    Py_ssize_t size, Py_ssize_t stride_y, Py_ssize_t stride_x, Py_ssize_t dilation, Py_ssize_t pad, int activation,
    int residual_activation, int threads
):
    cdef darkbn_blocked g = sizes(
        x.shape[0], x.shape[1], x.shape[2], x.shape[3], n, size, out.shape[2], out.shape[3], 1, stride_y, stride_x,
        dilation, pad
    )
    check("blocked_convolution.forward_plain", &g, DARKBN_ALGORITHM_FIRST)
    g.x = [NULL, g.c * g.h * g.w, g.h * g.w]
    if g.batch * g.x.image:
        g.x.data = <float*> &x[0, 0, 0, 0]
    run("blocked_convolution.forward_plain", &g, packed, residual, out, workspace, residual_block, out_block,
        activation, residual_activation, DARKBN_ALGORITHM_FIRST, threads)


cdef int run(
    str kernel, darkbn_blocked* g, const float[::1] packed, const float[:, :, :, :, ::1] residual,
    float[:, :, :, :, ::1] out, float[::1] workspace, Py_ssize_t residual_block, Py_ssize_t out_block, int activation,
    int residual_activation, int algorithm, int threads
) except -1:
    cdef Py_ssize_t needed = darkbn_blocked_workspace(g, algorithm, threads)
    cdef float* room = NULL
    require_slice(kernel, "out", out_block, darkbn_blocks(g.n), out.shape[1])
    check_packed(kernel, packed, darkbn_blocked_packed(g.n, g.c // g.groups, g.size, g.groups, algorithm))
    if needed and (workspace is None or workspace.shape[0] < needed):
        raise ShapeError(f"{kernel}: workspace must have at least {needed} floats")
    if needed:
        room = &workspace[0]
    g.packed = &packed[0]
    g.finish.out = slice_of(out, out_block)
    g.finish.residual.data = NULL
    if residual is not None:
        require_slice(kernel, "residual", residual_block, darkbn_blocks(g.n), residual.shape[1])
        g.finish.residual = slice_of(residual, residual_block)
    g.finish.activation, g.finish.residual_activation = activation, residual_activation
    g.finish.slope, g.finish.residual_slope = darkbn_slope(activation), darkbn_slope(residual_activation)
    if g.batch * g.out_h * g.out_w == 0:
        return 0
    with nogil:
        darkbn_blocked_forward(g, algorithm, room, threads)
    return 0


cdef darkbn_blocked sizes(
    Py_ssize_t b, Py_ssize_t c, Py_ssize_t h, Py_ssize_t w, Py_ssize_t n, Py_ssize_t size, Py_ssize_t oh,
    Py_ssize_t ow, Py_ssize_t groups, Py_ssize_t stride_y, Py_ssize_t stride_x, Py_ssize_t dilation, Py_ssize_t pad
) noexcept:
    cdef darkbn_blocked g
    g.batch, g.c, g.h, g.w, g.n, g.size, g.out_h, g.out_w = b, c, h, w, n, size, oh, ow
    g.groups, g.stride_y, g.stride_x, g.dilation, g.pad = groups, stride_y, stride_x, dilation, pad
    return g


cdef int check(str kernel, const darkbn_blocked* g, int algorithm) except -1:
    require_blocked_convolution(
        kernel, algorithm, (g.c, g.n, g.groups), g.size, (g.stride_y, g.stride_x, g.dilation, g.pad)
    )
    return 0


cdef int check_packed(str kernel, const float[::1] packed, Py_ssize_t needed) except -1:
    if packed.shape[0] < needed:
        raise ShapeError(f"{kernel}: packed must have at least {needed} floats")
    return 0


cdef darkbn_slice slice_of(const float[:, :, :, :, ::1] x, Py_ssize_t block) noexcept:
    cdef Py_ssize_t plane = x.shape[2] * x.shape[3] * 8
    if x.shape[0] * plane == 0:
        return [NULL, 0, 0]
    return [<float*> &x[0, 0, 0, 0, 0] + block * plane, x.shape[1] * plane, plane]
