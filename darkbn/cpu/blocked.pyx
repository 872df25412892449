"""Kernels of darkbn.reference.blocked."""

from cython.parallel cimport prange

from darkbn.geometry import require_blocks, require_range, require_slice, require_window


cdef extern from "darkbn/blocked_maps.h" nogil:
    ctypedef struct darkbn_pool:
        Py_ssize_t h, w, oh, ow, size, stride_y, stride_x, before

    void darkbn_join_planes(const float* x, Py_ssize_t plane, Py_ssize_t lanes, Py_ssize_t pixels, float* to)
    void darkbn_split_planes(const float* x, Py_ssize_t plane, Py_ssize_t lanes, Py_ssize_t pixels, float* to)
    void darkbn_move_lanes(
        const float* x, Py_ssize_t from_lane, float* to, Py_ssize_t to_lane, Py_ssize_t lanes, Py_ssize_t pixels
    )
    void darkbn_maxpool_line(const darkbn_pool* g, const float* plane, Py_ssize_t y, float* out)
    void darkbn_mean_lanes(const float* plane, Py_ssize_t pixels, float* out)
    void darkbn_upsample_line(const float* source, Py_ssize_t width, Py_ssize_t stride, float scale, float* out)
    void darkbn_add_pixels(const float* x, const float* y, float* out, Py_ssize_t pixels, int kind)
    ctypedef struct darkbn_meeting:
        Py_ssize_t rows, columns, row_step, column_step, other_row_step, other_column_step

    darkbn_meeting darkbn_meeting_of(Py_ssize_t h, Py_ssize_t w, Py_ssize_t other_h, Py_ssize_t other_w)
    void darkbn_meet_line(
        const darkbn_meeting* m, const float* x, const float* y, float* out, Py_ssize_t width, Py_ssize_t lanes,
        float alpha, float beta, int kind
    )
    void darkbn_scale_pixels(const float* x, const float* scales, float* out, Py_ssize_t pixels, int kind)
    void darkbn_activate(const float* x, float* out, Py_ssize_t n, int kind)

cdef enum:
    BLOCK = 8
    # Pixels of a plane that one thread takes at a time: small enough that few planes still keep every core busy.
    PIXELS = 2048


# A slice: its first float, the floats from image to image, those of a plane.
cdef struct Slice:
    float* data
    Py_ssize_t image, plane


def from_plain(const float[:, :, :, ::1] x, float[:, :, :, :, ::1] out, Py_ssize_t out_block, int threads):
    cdef Py_ssize_t c = x.shape[1], pixels = x.shape[2] * x.shape[3], blocks = (c + BLOCK - 1) // BLOCK, i, b, block
    require_slice("blocked.from_plain", "out", out_block, blocks, out.shape[1])
    cdef Slice target = slice_of(out, out_block)
    if x.shape[0] * c * pixels == 0:
        return
    cdef const float* source = &x[0, 0, 0, 0]
    for i in prange(x.shape[0] * blocks, nogil=True, num_threads=threads, schedule="static"):
        b, block = i // blocks, i % blocks
        darkbn_join_planes(
            source + (b * c + block * BLOCK) * pixels, pixels, min(c - block * BLOCK, BLOCK), pixels,
            target.data + b * target.image + block * target.plane
        )


def to_plain(const float[:, :, :, :, ::1] x, float[:, :, :, ::1] out, Py_ssize_t x_block, int threads):
    cdef Py_ssize_t c = out.shape[1], pixels = x.shape[2] * x.shape[3], blocks = (c + BLOCK - 1) // BLOCK, i, b, block
    require_slice("blocked.to_plain", "x", x_block, blocks, x.shape[1])
    cdef Slice source = slice_of(x, x_block)
    if x.shape[0] * c * pixels == 0:
        return
    cdef float* target = &out[0, 0, 0, 0]
    for i in prange(x.shape[0] * blocks, nogil=True, num_threads=threads, schedule="static"):
        b, block = i // blocks, i % blocks
        darkbn_split_planes(
            source.data + b * source.image + block * source.plane, pixels, min(c - block * BLOCK, BLOCK), pixels,
            target + (b * c + block * BLOCK) * pixels
        )


def copy_channels(
    const float[:, :, :, :, ::1] x, float[:, :, :, :, ::1] out, Py_ssize_t x_channel, Py_ssize_t out_channel,
    Py_ssize_t channels, int threads
):
    cdef Py_ssize_t pixels = x.shape[2] * x.shape[3], b, i, blocks
    require_range("blocked.copy_channels", "x", x_channel, channels, x.shape[1] * BLOCK)
    require_range("blocked.copy_channels", "out", out_channel, channels, out.shape[1] * BLOCK)
    cdef Slice source = slice_of(x, 0), target = slice_of(out, 0)
    if x.shape[0] * channels * pixels == 0:
        return
    # One task per block of out that channels go to.
    blocks = (out_channel + channels - 1) // BLOCK - out_channel // BLOCK + 1
    for i in prange(x.shape[0] * blocks, nogil=True, num_threads=threads, schedule="static"):
        b = i // blocks
        fill_block(
            source.data + b * source.image, target.data + b * target.image, out_channel // BLOCK + i % blocks,
            x_channel, out_channel, channels, pixels
        )


cdef void fill_block(
    const float* x, float* out, Py_ssize_t block, Py_ssize_t x_channel, Py_ssize_t out_channel, Py_ssize_t channels,
    Py_ssize_t pixels
) noexcept nogil:
    """The channels that go to one block of out, in one piece or two."""
    cdef Py_ssize_t channel = max(out_channel, block * BLOCK)
    cdef Py_ssize_t end = min(out_channel + channels, (block + 1) * BLOCK), source, lanes
    while channel < end:
        source = channel - out_channel + x_channel
        lanes = min(end - channel, BLOCK - source % BLOCK)
        darkbn_move_lanes(
            x + source // BLOCK * pixels * BLOCK, source % BLOCK, out + block * pixels * BLOCK, channel % BLOCK, lanes,
            pixels
        )
        channel += lanes


def maxpool(
    const float[:, :, :, :, ::1] x, float[:, :, :, :, ::1] out, Py_ssize_t x_block, Py_ssize_t out_block,
    Py_ssize_t blocks, Py_ssize_t size, Py_ssize_t stride_y, Py_ssize_t stride_x, Py_ssize_t padding, int threads
):
    cdef Py_ssize_t lines = out.shape[2], i, b, block, y
    cdef darkbn_pool g = [
        x.shape[2], x.shape[3], out.shape[2], out.shape[3], size, stride_y, stride_x, padding // 2
    ]
    require_window("blocked.maxpool", size, stride_y, stride_x, padding)
    check_slices("maxpool", blocks, x.shape[1], x_block, out.shape[1], out_block)
    cdef Slice source = slice_of(x, x_block), target = slice_of(out, out_block)
    if out.shape[0] * out.shape[3] == 0:
        return
    for i in prange(out.shape[0] * blocks * lines, nogil=True, num_threads=threads, schedule="static"):
        b, block, y = i // (blocks * lines), i // lines % blocks, i % lines
        darkbn_maxpool_line(
            &g, source.data + b * source.image + block * source.plane, y,
            target.data + b * target.image + block * target.plane + y * g.ow * BLOCK
        )


def avgpool(
    const float[:, :, :, :, ::1] x, float[:, :, :, :, ::1] out, Py_ssize_t x_block, Py_ssize_t out_block,
    Py_ssize_t blocks, int threads
):
    cdef Py_ssize_t pixels = x.shape[2] * x.shape[3], i, b, block
    check_slices("avgpool", blocks, x.shape[1], x_block, out.shape[1], out_block)
    cdef Slice source = slice_of(x, x_block), target = slice_of(out, out_block)
    for i in prange(out.shape[0] * blocks, nogil=True, num_threads=threads, schedule="static"):
        b, block = i // blocks, i % blocks
        darkbn_mean_lanes(
            source.data + b * source.image + block * source.plane, pixels,
            target.data + b * target.image + block * target.plane
        )


def upsample(
    const float[:, :, :, :, ::1] x, float[:, :, :, :, ::1] out, Py_ssize_t x_block, Py_ssize_t out_block,
    Py_ssize_t blocks, Py_ssize_t stride, float scale, int threads
):
    cdef Py_ssize_t lines = x.shape[2], width = x.shape[3], i, b, block, y
    require_blocks(
        "blocked.upsample", (out.shape[2], out.shape[3]), (x.shape[2], x.shape[3]), stride, rest=False
    )
    check_slices("upsample", blocks, x.shape[1], x_block, out.shape[1], out_block)
    cdef Slice source = slice_of(x, x_block), target = slice_of(out, out_block)
    if x.shape[0] * width == 0:
        return
    for i in prange(x.shape[0] * blocks * lines, nogil=True, num_threads=threads, schedule="static"):
        b, block, y = i // (blocks * lines), i // lines % blocks, i % lines
        darkbn_upsample_line(
            source.data + b * source.image + block * source.plane + y * width * BLOCK, width, stride, scale,
            target.data + b * target.image + block * target.plane + y * stride * stride * width * BLOCK
        )


def shortcut(
    const float[:, :, :, :, ::1] x, const float[:, :, :, :, ::1] residual, float[:, :, :, :, ::1] out,
    Py_ssize_t x_block, Py_ssize_t residual_block, Py_ssize_t out_block, Py_ssize_t blocks, int activation, int threads
):
    cdef Py_ssize_t pixels = x.shape[2] * x.shape[3], parts = (pixels + PIXELS - 1) // PIXELS, i, b, at
    check_slices("shortcut", blocks, x.shape[1], x_block, out.shape[1], out_block)
    require_slice("blocked.shortcut", "residual", residual_block, blocks, residual.shape[1])
    cdef Slice source = slice_of(x, x_block), other = slice_of(residual, residual_block)
    cdef Slice target = slice_of(out, out_block)
    for i in prange(out.shape[0] * blocks * parts, nogil=True, num_threads=threads, schedule="static"):
        b, at = i // (blocks * parts), i // parts % blocks * source.plane + i % parts * PIXELS * BLOCK
        darkbn_add_pixels(
            source.data + b * source.image + at, other.data + b * other.image + at,
            target.data + b * target.image + at, min(pixels - i % parts * PIXELS, PIXELS), activation
        )


def shortcut_unequal(
    const float[:, :, :, :, ::1] x, const float[:, :, :, :, ::1] residual, float[:, :, :, :, ::1] out,
    Py_ssize_t x_block, Py_ssize_t residual_block, Py_ssize_t out_block, Py_ssize_t blocks, Py_ssize_t channels,
    float alpha, float beta, int activation, int threads
):
    cdef Py_ssize_t lines = x.shape[2], i, b, block, y, met, line = x.shape[3] * BLOCK
    cdef Py_ssize_t other_line = residual.shape[3] * BLOCK
    cdef darkbn_meeting m = darkbn_meeting_of(x.shape[2], x.shape[3], residual.shape[2], residual.shape[3])
    cdef const float* addend
    check_slices("shortcut_unequal", blocks, x.shape[1], x_block, out.shape[1], out_block)
    require_range("blocked.shortcut_unequal", "x", 0, channels, blocks * BLOCK)
    require_slice(
        "blocked.shortcut_unequal", "residual", residual_block, (channels + BLOCK - 1) // BLOCK, residual.shape[1]
    )
    cdef Slice source = slice_of(x, x_block), other = slice_of(residual, residual_block)
    cdef Slice target = slice_of(out, out_block)
    for i in prange(out.shape[0] * blocks * lines, nogil=True, num_threads=threads, schedule="static"):
        b, block, y = i // (blocks * lines), i // lines % blocks, i % lines
        met = y // m.row_step
        addend = NULL
        if y % m.row_step == 0 and met < m.rows and block * BLOCK < channels:
            addend = other.data + b * other.image + block * other.plane + met * m.other_row_step * other_line
        darkbn_meet_line(
            &m, source.data + b * source.image + block * source.plane + y * line, addend,
            target.data + b * target.image + block * target.plane + y * line, x.shape[3],
            min(channels - block * BLOCK, BLOCK), alpha, beta, activation
        )


def activation(
    const float[:, :, :, :, ::1] x, float[:, :, :, :, ::1] out, Py_ssize_t x_block, Py_ssize_t out_block,
    Py_ssize_t blocks, int activation, int threads
):
    cdef Py_ssize_t pixels = x.shape[2] * x.shape[3], parts = (pixels + PIXELS - 1) // PIXELS, i, b, at
    check_slices("activation", blocks, x.shape[1], x_block, out.shape[1], out_block)
    cdef Slice source = slice_of(x, x_block), target = slice_of(out, out_block)
    for i in prange(out.shape[0] * blocks * parts, nogil=True, num_threads=threads, schedule="static"):
        b, at = i // (blocks * parts), i // parts % blocks * source.plane + i % parts * PIXELS * BLOCK
        darkbn_activate(
            source.data + b * source.image + at, target.data + b * target.image + at,
            min(pixels - i % parts * PIXELS, PIXELS) * BLOCK, activation
        )


def scale_channels(
    const float[:, :, :, :, ::1] x, const float[:, :, :, :, ::1] scales, float[:, :, :, :, ::1] out,
    Py_ssize_t x_block, Py_ssize_t scale_block, Py_ssize_t out_block, Py_ssize_t blocks, int activation, int threads
):
    cdef Py_ssize_t pixels = x.shape[2] * x.shape[3], parts = (pixels + PIXELS - 1) // PIXELS, i, b, block, at
    check_slices("scale_channels", blocks, x.shape[1], x_block, out.shape[1], out_block)
    require_slice("blocked.scale_channels", "scales", scale_block, blocks, scales.shape[1])
    cdef Slice source = slice_of(x, x_block), factor = slice_of(scales, scale_block)
    cdef Slice target = slice_of(out, out_block)
    for i in prange(out.shape[0] * blocks * parts, nogil=True, num_threads=threads, schedule="static"):
        b, block = i // (blocks * parts), i // parts % blocks
        at = block * source.plane + i % parts * PIXELS * BLOCK
        darkbn_scale_pixels(
            source.data + b * source.image + at, factor.data + b * factor.image + block * BLOCK,
            target.data + b * target.image + at, min(pixels - i % parts * PIXELS, PIXELS), activation
        )


cdef Slice slice_of(const float[:, :, :, :, ::1] x, Py_ssize_t block) noexcept:
    cdef Py_ssize_t plane = x.shape[2] * x.shape[3] * BLOCK
    if x.shape[0] * x.shape[1] * plane == 0:
        return [NULL, 0, 0]
    return [<float*> &x[0, 0, 0, 0, 0] + block * plane, x.shape[1] * plane, plane]


cdef int check_slices(
    str kernel, Py_ssize_t blocks, Py_ssize_t x_blocks, Py_ssize_t x_block, Py_ssize_t out_blocks, Py_ssize_t out_block
) except -1:
    require_slice(f"blocked.{kernel}", "x", x_block, blocks, x_blocks)
    require_slice(f"blocked.{kernel}", "out", out_block, blocks, out_blocks)
    return 0
