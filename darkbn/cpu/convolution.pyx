"""Kernels of darkbn.reference.convolution."""

from cython.parallel cimport prange

from darkbn.errors import ShapeError
from darkbn.geometry import require_plain_algorithm


cdef extern from "darkbn/convolution_run.h" nogil:
    ctypedef struct darkbn_geometry:
        Py_ssize_t batch, c, h, w, n, size, out_h, out_w, groups, stride_y, stride_x, dilation, pad

    Py_ssize_t darkbn_run_forward_workspace(const darkbn_geometry* g, int algorithm, int threads)
    Py_ssize_t darkbn_run_backward_weights_workspace(const darkbn_geometry* g, int algorithm, int threads)
    Py_ssize_t darkbn_run_backward_input_workspace(const darkbn_geometry* g, int algorithm, int threads)
    void darkbn_run_forward(
        const darkbn_geometry* g, const float* x, const float* weights, const float* biases, float* out,
        float* workspace, int algorithm, int threads
    )
    void darkbn_run_backward_weights(
        const darkbn_geometry* g, const float* x, const float* delta, float* weight_updates, float* workspace,
        int algorithm, int threads
    )
    void darkbn_run_backward_input(
        const darkbn_geometry* g, const float* weights, const float* delta, float* input_delta, float* workspace,
        int algorithm, int threads
    )

cdef extern from "darkbn/im2col.h" nogil:
    ctypedef struct darkbn_window:
        Py_ssize_t h, w, size, out_h, out_w, stride_y, stride_x, dilation, pad

    void darkbn_im2col_tap(const darkbn_window* window, Py_ssize_t tap, const float* im, float* col)
    void darkbn_col2im_tap(const darkbn_window* window, Py_ssize_t tap, const float* col, float* im)


def forward_workspace(
    Py_ssize_t b, Py_ssize_t c, Py_ssize_t h, Py_ssize_t w, Py_ssize_t n, Py_ssize_t k, Py_ssize_t oh, Py_ssize_t ow,
    Py_ssize_t groups, Py_ssize_t stride_y, Py_ssize_t stride_x, Py_ssize_t dilation, Py_ssize_t pad, int algorithm,
    int threads
):
    cdef darkbn_geometry g = [b, c, h, w, n, k, oh, ow, groups, stride_y, stride_x, dilation, pad]
    check("forward", &g, c // max(groups, 1), algorithm)
    return darkbn_run_forward_workspace(&g, algorithm, threads)


def forward(
    const float[:, :, :, ::1] x, const float[:, :, :, ::1] weights, const float[::1] biases, float[:, :, :, ::1] out,
    float[::1] workspace, Py_ssize_t groups, Py_ssize_t stride_y, Py_ssize_t stride_x, Py_ssize_t dilation,
    Py_ssize_t pad, int algorithm, int threads
):
    cdef darkbn_geometry g = geometry(x, weights, out, groups, stride_y, stride_x, dilation, pad)
    check("forward", &g, weights.shape[1], algorithm)
    check_workspace("forward", workspace, darkbn_run_forward_workspace(&g, algorithm, threads))
    with nogil:
        darkbn_run_forward(
            &g, data(x), data(weights), &biases[0] if biases is not None and g.n > 0 else NULL, <float*> data(out),
            &workspace[0], algorithm, threads
        )


def backward_weights_workspace(
    Py_ssize_t b, Py_ssize_t c, Py_ssize_t h, Py_ssize_t w, Py_ssize_t n, Py_ssize_t k, Py_ssize_t oh, Py_ssize_t ow,
    Py_ssize_t groups, Py_ssize_t stride_y, Py_ssize_t stride_x, Py_ssize_t dilation, Py_ssize_t pad, int algorithm,
    int threads
):
    cdef darkbn_geometry g = [b, c, h, w, n, k, oh, ow, groups, stride_y, stride_x, dilation, pad]
    check("backward_weights", &g, c // max(groups, 1), algorithm)
    return darkbn_run_backward_weights_workspace(&g, algorithm, threads)


def backward_weights(
    const float[:, :, :, ::1] x, const float[:, :, :, ::1] delta, float[:, :, :, ::1] weight_updates,
    float[::1] workspace, Py_ssize_t groups, Py_ssize_t stride_y, Py_ssize_t stride_x, Py_ssize_t dilation,
    Py_ssize_t pad, int algorithm, int threads
):
    cdef darkbn_geometry g = geometry(x, weight_updates, delta, groups, stride_y, stride_x, dilation, pad)
    check("backward_weights", &g, weight_updates.shape[1], algorithm)
    check_workspace("backward_weights", workspace, darkbn_run_backward_weights_workspace(&g, algorithm, threads))
    with nogil:
        darkbn_run_backward_weights(
            &g, data(x), data(delta), <float*> data(weight_updates), &workspace[0], algorithm, threads
        )


def backward_input_workspace(
    Py_ssize_t b, Py_ssize_t c, Py_ssize_t h, Py_ssize_t w, Py_ssize_t n, Py_ssize_t k, Py_ssize_t oh, Py_ssize_t ow,
    Py_ssize_t groups, Py_ssize_t stride_y, Py_ssize_t stride_x, Py_ssize_t dilation, Py_ssize_t pad, int algorithm,
    int threads
):
    cdef darkbn_geometry g = [b, c, h, w, n, k, oh, ow, groups, stride_y, stride_x, dilation, pad]
    check("backward_input", &g, c // max(groups, 1), algorithm)
    return darkbn_run_backward_input_workspace(&g, algorithm, threads)


def backward_input(
    const float[:, :, :, ::1] weights, const float[:, :, :, ::1] delta, float[:, :, :, ::1] input_delta,
    float[::1] workspace, Py_ssize_t groups, Py_ssize_t stride_y, Py_ssize_t stride_x, Py_ssize_t dilation,
    Py_ssize_t pad, int algorithm, int threads
):
    cdef darkbn_geometry g = geometry(input_delta, weights, delta, groups, stride_y, stride_x, dilation, pad)
    check("backward_input", &g, weights.shape[1], algorithm)
    check_workspace("backward_input", workspace, darkbn_run_backward_input_workspace(&g, algorithm, threads))
    with nogil:
        darkbn_run_backward_input(
            &g, data(weights), data(delta), <float*> data(input_delta), &workspace[0], algorithm, threads
        )


def im2col(
    const float[:, :, ::1] im, float[:, :, :, :, ::1] col, Py_ssize_t stride_y, Py_ssize_t stride_x,
    Py_ssize_t dilation, Py_ssize_t pad, int threads
):
    cdef darkbn_window window = [
        im.shape[1], im.shape[2], col.shape[1], col.shape[3], col.shape[4], stride_y, stride_x, dilation, pad
    ]
    cdef Py_ssize_t taps = col.shape[1] * col.shape[2], pixels = col.shape[3] * col.shape[4], row
    check_steps("im2col", stride_y, stride_x, dilation, pad)
    if pixels == 0:
        return
    for row in prange(im.shape[0] * taps, nogil=True, num_threads=threads, schedule="static"):
        darkbn_im2col_tap(
            &window, row % taps, &im[0, 0, 0] + row // taps * window.h * window.w, &col[0, 0, 0, 0, 0] + row * pixels
        )


def col2im(
    const float[:, :, :, :, ::1] col, float[:, :, ::1] im, Py_ssize_t stride_y, Py_ssize_t stride_x,
    Py_ssize_t dilation, Py_ssize_t pad, int threads
):
    cdef darkbn_window window = [
        im.shape[1], im.shape[2], col.shape[1], col.shape[3], col.shape[4], stride_y, stride_x, dilation, pad
    ]
    cdef Py_ssize_t taps = col.shape[1] * col.shape[2], pixels = col.shape[3] * col.shape[4], channel, tap
    check_steps("col2im", stride_y, stride_x, dilation, pad)
    if pixels == 0:
        return
    for channel in prange(im.shape[0], nogil=True, num_threads=threads, schedule="static"):
        for tap in range(taps):
            darkbn_col2im_tap(
                &window, tap, &col[0, 0, 0, 0, 0] + (channel * taps + tap) * pixels,
                &im[0, 0, 0] + channel * window.h * window.w
            )


cdef darkbn_geometry geometry(
    const float[:, :, :, ::1] x, const float[:, :, :, ::1] weights, const float[:, :, :, ::1] out, Py_ssize_t groups,
    Py_ssize_t stride_y, Py_ssize_t stride_x, Py_ssize_t dilation, Py_ssize_t pad
) noexcept:
    return [
        x.shape[0], x.shape[1], x.shape[2], x.shape[3], weights.shape[0], weights.shape[2], out.shape[2], out.shape[3],
        groups, stride_y, stride_x, dilation, pad
    ]


cdef int check_steps(
    str kernel, Py_ssize_t stride_y, Py_ssize_t stride_x, Py_ssize_t dilation, Py_ssize_t pad
) except -1:
    if min(stride_y, stride_x, dilation) < 1 or pad < 0:
        raise ShapeError(
            f"convolution.{kernel}: strides ({stride_y}, {stride_x}) and dilation {dilation} must be at least 1,"
            f" pad {pad} at least 0"
        )
    return 0


cdef int check(str kernel, const darkbn_geometry* g, Py_ssize_t group_channels, int algorithm) except -1:
    check_steps(kernel, g.stride_y, g.stride_x, g.dilation, g.pad)
    if g.groups < 1 or g.n % g.groups or group_channels * g.groups != g.c:
        raise ShapeError(
            f"convolution.{kernel}: {g.n} filters of {group_channels} channels in {g.groups} groups do not fit"
            f" {g.c} input channels"
        )
    require_plain_algorithm(
        f"convolution.{kernel}", algorithm, g.size, (g.stride_y, g.stride_x), g.dilation, g.groups
    )
    return 0


cdef int check_workspace(str kernel, float[::1] workspace, Py_ssize_t needed) except -1:
    if workspace is None or workspace.shape[0] < needed:
        raise ShapeError(f"convolution.{kernel}: workspace must have at least {needed} floats")
    return 0


cdef inline const float* data(const float[:, :, :, ::1] x) noexcept nogil:
    return &x[0, 0, 0, 0] if x.shape[0] * x.shape[1] * x.shape[2] * x.shape[3] > 0 else NULL
