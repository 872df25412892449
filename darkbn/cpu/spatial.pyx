"""Kernels of darkbn.reference.spatial."""

from cython.parallel cimport prange
from libc.string cimport memcpy, memset

from darkbn.geometry import require_blocks, require_depth, require_range


cdef extern from "darkbn/spatial.h" nogil:
    void darkbn_repeat_row(const float* x, Py_ssize_t n, Py_ssize_t stride, float scale, bint add, float* out)
    void darkbn_sum_blocks(
        const float* x, Py_ssize_t pitch, Py_ssize_t n, Py_ssize_t stride, float scale, bint add, float* out)
    void darkbn_unzip_row(const float* x, Py_ssize_t n, Py_ssize_t stride, Py_ssize_t step, bint add, float* out)
    void darkbn_zip_row(const float* x, Py_ssize_t n, Py_ssize_t stride, Py_ssize_t step, bint add, float* out)


cdef enum:
    CHUNK = 8192  # values that a thread takes at a time of a long sample
    TILE = 16  # edge of the squares that a transposition goes by: both sides stay in cache


# How two images meet: in their first `channels` channels; there, pixel (y*row_step, x*column_step) of the one meets
# (y*other_row_step, x*other_column_step) of the other for y < rows, x < columns. `flat`: every pixel meets its own.
cdef struct Meeting:
    Py_ssize_t channels, rows, columns
    Py_ssize_t width, row_step, column_step
    Py_ssize_t other_width, other_row_step, other_column_step
    bint flat


def shortcut(
    const float[:, :, :, ::1] x,
    const float[:, :, :, ::1] add,
    float[:, :, :, ::1] out,
    float alpha,
    float beta,
    int threads,
):
    cdef Py_ssize_t channels = out.shape[1], spatial = out.shape[2] * out.shape[3], plane, k
    cdef Py_ssize_t other = add.shape[1], other_spatial = add.shape[2] * add.shape[3]
    cdef const float* row
    cdef float* target
    if out.shape[0] * channels * spatial == 0:
        return
    cdef const float* source = &x[0, 0, 0, 0]
    cdef const float* added = &add[0, 0, 0, 0] if other * other_spatial else NULL
    cdef float* result = &out[0, 0, 0, 0]
    cdef Meeting m = meeting(channels, out.shape[2], out.shape[3], other, add.shape[2], add.shape[3])
    for plane in prange(out.shape[0] * channels, nogil=True, num_threads=threads, schedule="static"):
        k = plane % channels
        row = added + (plane // channels * other + k) * other_spatial
        target = result + plane * spatial
        if k < m.channels and m.flat:
            blend(target, source + plane * spatial, row, spatial, alpha, beta)
        else:
            memcpy(target, source + plane * spatial, spatial * sizeof(float))
            if k < m.channels:
                blend_grid(target, row, &m, alpha, beta)


def shortcut_add(
    const float[:, :, :, ::1] add, float[:, :, :, ::1] out, float alpha, float beta, int threads
):
    cdef Py_ssize_t channels = out.shape[1], spatial = out.shape[2] * out.shape[3], plane, sample, k
    cdef Py_ssize_t other = add.shape[1], other_spatial = add.shape[2] * add.shape[3]
    cdef const float* row
    cdef float* target
    cdef Meeting m = meeting(channels, out.shape[2], out.shape[3], other, add.shape[2], add.shape[3])
    if out.shape[0] * m.channels * m.rows * m.columns == 0:
        return
    cdef const float* added = &add[0, 0, 0, 0]
    cdef float* result = &out[0, 0, 0, 0]
    for plane in prange(out.shape[0] * m.channels, nogil=True, num_threads=threads, schedule="static"):
        sample = plane // m.channels
        k = plane % m.channels
        row = added + (sample * other + k) * other_spatial
        target = result + (sample * channels + k) * spatial
        if m.flat:
            blend(target, target, row, spatial, alpha, beta)
        else:
            blend_grid(target, row, &m, alpha, beta)


def shortcut_backward(
    const float[:, :, :, ::1] delta,
    float[:, :, :, ::1] input_delta,
    float[:, :, :, ::1] add_delta,
    float alpha,
    float beta,
    bint accumulate,
    bint add_accumulate,
    int threads,
):
    cdef Py_ssize_t channels = delta.shape[1], spatial = delta.shape[2] * delta.shape[3], plane, k
    cdef Py_ssize_t other = add_delta.shape[1], other_spatial = add_delta.shape[2] * add_delta.shape[3]
    cdef const float* row
    cdef bint wanted = input_delta is not None and channels * spatial > 0
    if delta.shape[0] == 0:
        return
    cdef const float* source = &delta[0, 0, 0, 0] if channels * spatial else NULL
    cdef float* result = &input_delta[0, 0, 0, 0] if wanted else NULL
    cdef float* added = &add_delta[0, 0, 0, 0] if other * other_spatial else NULL
    cdef Meeting m = meeting(channels, delta.shape[2], delta.shape[3], other, add_delta.shape[2], add_delta.shape[3])
    if added != NULL and not add_accumulate and not (m.flat and other == channels):
        for plane in prange(delta.shape[0] * other, nogil=True, num_threads=threads, schedule="static"):
            memset(added + plane * other_spatial, 0, other_spatial * sizeof(float))
        add_accumulate = True
    for plane in prange(delta.shape[0] * channels, nogil=True, num_threads=threads, schedule="static"):
        k = plane % channels
        row = source + plane * spatial
        if wanted and k < m.channels and m.flat:
            put(result + plane * spatial, row, spatial, alpha, accumulate)
        elif wanted:
            put(result + plane * spatial, row, spatial, 1, accumulate)
            if k < m.channels and alpha != 1:
                scale_grid(result + plane * spatial, row, &m, alpha - 1)
        if k < m.channels and m.flat:
            put(added + (plane // channels * other + k) * other_spatial, row, spatial, beta, add_accumulate)
        elif k < m.channels:
            accumulate_grid(added + (plane // channels * other + k) * other_spatial, row, &m, beta)


def copy_block(
    const float[:, ::1] source,
    float[:, ::1] out,
    Py_ssize_t source_start,
    Py_ssize_t out_start,
    Py_ssize_t count,
    int threads,
):
    cdef Py_ssize_t chunks = (count + CHUNK - 1) // CHUNK, item, sample, start
    require_range("spatial.copy_block", "source", source_start, count, source.shape[1])
    require_range("spatial.copy_block", "out", out_start, count, out.shape[1])
    if out.shape[0] * count == 0:
        return
    cdef const float* a = &source[0, 0] + source_start
    cdef float* b = &out[0, 0] + out_start
    for item in prange(out.shape[0] * chunks, nogil=True, num_threads=threads, schedule="static"):
        sample = item // chunks
        start = item % chunks * CHUNK
        memcpy(
            b + sample * out.shape[1] + start,
            a + sample * source.shape[1] + start,
            min(count - start, <Py_ssize_t>CHUNK) * sizeof(float),
        )


def add_block(
    const float[:, ::1] source,
    float[:, ::1] out,
    Py_ssize_t source_start,
    Py_ssize_t out_start,
    Py_ssize_t count,
    int threads,
):
    cdef Py_ssize_t chunks = (count + CHUNK - 1) // CHUNK, item, sample, start
    require_range("spatial.add_block", "source", source_start, count, source.shape[1])
    require_range("spatial.add_block", "out", out_start, count, out.shape[1])
    if out.shape[0] * count == 0:
        return
    cdef const float* a = &source[0, 0] + source_start
    cdef float* b = &out[0, 0] + out_start
    for item in prange(out.shape[0] * chunks, nogil=True, num_threads=threads, schedule="static"):
        sample = item // chunks
        start = item % chunks * CHUNK
        put(
            b + sample * out.shape[1] + start,
            a + sample * source.shape[1] + start,
            min(count - start, <Py_ssize_t>CHUNK),
            1,
            True,
        )


def upsample(const float[:, :, :, ::1] x, float[:, :, :, ::1] out, Py_ssize_t stride, float scale, int threads):
    repeat("spatial.upsample", x, out, stride, scale, False, threads)


def upsample_backward(
    const float[:, :, :, ::1] delta, float[:, :, :, ::1] input_delta, Py_ssize_t stride, float scale, int threads
):
    sum_blocks("spatial.upsample_backward", delta, input_delta, stride, scale, True, threads)


def downsample(const float[:, :, :, ::1] x, float[:, :, :, ::1] out, Py_ssize_t stride, float scale, int threads):
    sum_blocks("spatial.downsample", x, out, stride, scale, False, threads)


def downsample_backward(
    const float[:, :, :, ::1] delta, float[:, :, :, ::1] input_delta, Py_ssize_t stride, float scale, int threads
):
    repeat("spatial.downsample_backward", delta, input_delta, stride, scale, True, threads)


def space_to_depth(const float[:, :, :, ::1] x, float[:, :, :, ::1] out, Py_ssize_t stride, int threads):
    to_depth("spatial.space_to_depth", x, out, stride, False, threads)


def space_to_depth_add(const float[:, :, :, ::1] x, float[:, :, :, ::1] out, Py_ssize_t stride, int threads):
    to_depth("spatial.space_to_depth_add", x, out, stride, True, threads)


def depth_to_space(const float[:, :, :, ::1] x, float[:, :, :, ::1] out, Py_ssize_t stride, int threads):
    to_space("spatial.depth_to_space", x, out, stride, False, threads)


def depth_to_space_add(const float[:, :, :, ::1] x, float[:, :, :, ::1] out, Py_ssize_t stride, int threads):
    to_space("spatial.depth_to_space_add", x, out, stride, True, threads)


def flatten(const float[:, :, ::1] x, float[:, :, ::1] out, int threads):
    transpose(x, out, False, threads)


def flatten_add(const float[:, :, ::1] x, float[:, :, ::1] out, int threads):
    transpose(x, out, True, threads)


cdef Meeting meeting(
    Py_ssize_t c, Py_ssize_t h, Py_ssize_t w, Py_ssize_t other_c, Py_ssize_t other_h, Py_ssize_t other_w
) noexcept nogil:
    cdef Meeting m
    m.channels = min(c, other_c)
    m.rows, m.columns = min(h, other_h), min(w, other_w)
    m.width, m.other_width = w, other_w
    m.row_step, m.other_row_step = max(h // max(other_h, 1), 1), max(other_h // max(h, 1), 1)
    m.column_step, m.other_column_step = max(w // max(other_w, 1), 1), max(other_w // max(w, 1), 1)
    m.flat = h == other_h and w == other_w
    return m


cdef inline void blend(
    float* out, const float* a, const float* b, Py_ssize_t n, float alpha, float beta
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = alpha * a[i] + beta * b[i]


cdef inline void put(float* out, const float* a, Py_ssize_t n, float alpha, bint add) noexcept nogil:
    """out = alpha*a, or out += alpha*a."""
    cdef Py_ssize_t i
    if not add:
        for i in range(n):
            out[i] = alpha * a[i]
        return
    for i in range(n):
        out[i] = out[i] + alpha * a[i]


cdef void blend_grid(float* out, const float* other, const Meeting* m, float alpha, float beta) noexcept nogil:
    """out = alpha*out + beta*other in one plane, where they meet."""
    cdef Py_ssize_t y, x
    cdef float* a
    cdef const float* b
    for y in range(m.rows):
        a = out + y * m.row_step * m.width
        b = other + y * m.other_row_step * m.other_width
        for x in range(m.columns):
            a[x * m.column_step] = alpha * a[x * m.column_step] + beta * b[x * m.other_column_step]


cdef void accumulate_grid(float* other, const float* delta, const Meeting* m, float beta) noexcept nogil:
    """other += beta*delta in one plane, where they meet."""
    cdef Py_ssize_t y, x
    cdef const float* a
    cdef float* b
    for y in range(m.rows):
        a = delta + y * m.row_step * m.width
        b = other + y * m.other_row_step * m.other_width
        for x in range(m.columns):
            b[x * m.other_column_step] += beta * a[x * m.column_step]


cdef void scale_grid(float* out, const float* delta, const Meeting* m, float alpha) noexcept nogil:
    """out += alpha*delta in one plane, at the pixels of the meeting."""
    cdef Py_ssize_t y, x, at
    for y in range(m.rows):
        for x in range(m.columns):
            at = y * m.row_step * m.width + x * m.column_step
            out[at] += alpha * delta[at]


cdef int repeat(
    str kernel,
    const float[:, :, :, ::1] x,
    float[:, :, :, ::1] out,
    Py_ssize_t stride,
    float scale,
    bint add,
    int threads,
) except -1:
    """Each pixel of x over a block of out. A gradient, which is added, may leave pixels without a block."""
    cdef Py_ssize_t planes = x.shape[0] * x.shape[1], h = x.shape[2], w = x.shape[3], plane, y, k
    cdef Py_ssize_t out_h = out.shape[2], out_w = out.shape[3]
    cdef const float* values
    cdef float* row
    require_blocks(kernel, (out_h, out_w), (h, w), stride, rest=add)
    if planes * h * w == 0:
        return 0
    cdef const float* source = &x[0, 0, 0, 0]
    cdef float* result = &out[0, 0, 0, 0]
    for plane in prange(planes, nogil=True, num_threads=threads, schedule="static"):
        for y in range(h):
            values = source + (plane * h + y) * w
            row = result + (plane * out_h + y * stride) * out_w
            darkbn_repeat_row(values, w, stride, scale, add, row)
            for k in range(1, stride):
                if add:
                    darkbn_repeat_row(values, w, stride, scale, add, row + k * out_w)
                else:
                    memcpy(row + k * out_w, row, w * stride * sizeof(float))
    return 0


cdef int sum_blocks(
    str kernel,
    const float[:, :, :, ::1] x,
    float[:, :, :, ::1] out,
    Py_ssize_t stride,
    float scale,
    bint add,
    int threads,
) except -1:
    """Each block of x into one pixel of out. Unless this is a gradient, pixels may be left over."""
    cdef Py_ssize_t planes = x.shape[0] * x.shape[1], h = x.shape[2], w = x.shape[3], plane, y
    cdef Py_ssize_t out_h = out.shape[2], out_w = out.shape[3]
    require_blocks(kernel, (h, w), (out_h, out_w), stride, rest=not add)
    if planes * out_h * out_w == 0:
        return 0
    cdef const float* source = &x[0, 0, 0, 0]
    cdef float* result = &out[0, 0, 0, 0]
    for plane in prange(planes, nogil=True, num_threads=threads, schedule="static"):
        for y in range(out_h):
            darkbn_sum_blocks(
                source + (plane * h + y * stride) * w, w, out_w, stride, scale, add,
                result + (plane * out_h + y) * out_w)
    return 0


cdef int to_depth(
    str kernel, const float[:, :, :, ::1] x, float[:, :, :, ::1] out, Py_ssize_t stride, bint add, int threads
) except -1:
    cdef Py_ssize_t c = x.shape[1], h = out.shape[2], w = out.shape[3], plane, y, dy
    cdef Py_ssize_t block = c * h * w
    cdef float* target
    require_depth(kernel, (c, x.shape[2], x.shape[3]), (out.shape[1], h, w), stride)
    if x.shape[0] * block == 0:
        return 0
    cdef const float* source = &x[0, 0, 0, 0]
    cdef float* result = &out[0, 0, 0, 0]
    for plane in prange(x.shape[0] * c, nogil=True, num_threads=threads, schedule="static"):
        # Channel 0 of the blocks of this plane: (sample * stride * stride) * c + channel, rows of w.
        target = result + (plane // c * stride * stride * c + plane % c) * h * w
        for y in range(h):
            for dy in range(stride):
                darkbn_unzip_row(
                    source + ((plane * h + y) * stride + dy) * w * stride, w, stride, block, add,
                    target + dy * stride * block + y * w)
    return 0


cdef int to_space(
    str kernel, const float[:, :, :, ::1] x, float[:, :, :, ::1] out, Py_ssize_t stride, bint add, int threads
) except -1:
    cdef Py_ssize_t c = out.shape[1], h = x.shape[2], w = x.shape[3], plane, y, dy
    cdef Py_ssize_t block = c * h * w
    cdef const float* origin
    require_depth(kernel, (c, out.shape[2], out.shape[3]), (x.shape[1], h, w), stride)
    if x.shape[0] * block == 0:
        return 0
    cdef const float* source = &x[0, 0, 0, 0]
    cdef float* result = &out[0, 0, 0, 0]
    for plane in prange(x.shape[0] * c, nogil=True, num_threads=threads, schedule="static"):
        origin = source + (plane // c * stride * stride * c + plane % c) * h * w
        for y in range(h):
            for dy in range(stride):
                darkbn_zip_row(
                    origin + dy * stride * block + y * w, w, stride, block, add,
                    result + ((plane * h + y) * stride + dy) * w * stride)
    return 0


cdef int transpose(const float[:, :, ::1] x, float[:, :, ::1] out, bint add, int threads) except -1:
    cdef Py_ssize_t c = x.shape[1], s = x.shape[2], strips = (s + TILE - 1) // TILE, item, sample, strip
    if x.shape[0] * c * s == 0:
        return 0
    cdef const float* source = &x[0, 0, 0]
    cdef float* result = &out[0, 0, 0]
    for item in prange(x.shape[0] * strips, nogil=True, num_threads=threads, schedule="static"):
        sample = item // strips
        strip = item % strips * TILE
        transpose_strip(
            source + sample * c * s + strip, result + (sample * s + strip) * c, c, s,
            min(s - strip, <Py_ssize_t>TILE), add)
    return 0


cdef void transpose_strip(
    const float* x, float* out, Py_ssize_t c, Py_ssize_t s, Py_ssize_t n, bint add
) noexcept nogil:
    """n columns of x (c, s) into as many rows of out (s, c)."""
    cdef Py_ssize_t tile, i, k
    for tile in range((c + TILE - 1) // TILE):
        for i in range(n):
            for k in range(tile * TILE, min(c, (tile + 1) * TILE)):
                out[i * c + k] = (out[i * c + k] if add else 0) + x[k * s + i]
