/* A convolution with a filter a channel between two 1x1 convolutions, in one pass: what lies between them stays in the
 * caches.
 *
 * A task is a band of output rows. It goes through the band in strips of a few rows; of these, tile by tile of the
 * middle channels, it makes the rows of the expanded map that are not there yet, in a ring of rows with zeros round
 * them, and from them the strip of the depthwise convolution. Then all channels of the strip are projected. */
#ifndef DARKBN_BLOCKED_BOTTLENECK_H
#define DARKBN_BLOCKED_BOTTLENECK_H

#include "darkbn/blocked_depthwise.h"
#include "darkbn/blocked_point.h"

#define DARKBN_STRIP_PIXELS 64                /* outputs of a strip, about */
#define DARKBN_STRIP_FLOATS (48 * 1024)       /* a band of so many is one strip: its ring serves all tiles */

typedef struct darkbn_bottleneck {
    darkbn_slice x, out, residual; /* residual.data may be NULL */
    const float *expand, *depthwise, *project; /* packed; the first and the last may be NULL */
    ptrdiff_t batch, h, w, c, m, n, size, out_h, out_w, stride_y, stride_x, pad;
    int expands, projects;
    int expand_activation, depthwise_activation, project_activation, residual_activation;
} darkbn_bottleneck;

/* Floats of the three packed parts, one behind the other. */
typedef struct darkbn_bottleneck_parts {
    ptrdiff_t expand, depthwise, project;
} darkbn_bottleneck_parts;

static darkbn_bottleneck_parts darkbn_bottleneck_packed(const darkbn_bottleneck *g)
{
    const darkbn_bottleneck_parts parts = {g->expands ? darkbn_point_packed(g->c, g->m) : 0,
                                           darkbn_depthwise_packed(g->m, g->size),
                                           g->projects ? darkbn_point_packed(g->m, g->n) : 0};
    return parts;
}

/* weights: (m, c) where it expands, (m, size, size), (n, m) where it projects; biases likewise. */
static void darkbn_bottleneck_pack(const darkbn_bottleneck *g, const float *weights, const float *biases, float *packed)
{
    const darkbn_bottleneck_parts parts = darkbn_bottleneck_packed(g);
    if (g->expands) {
        darkbn_point_pack(weights, biases, g->c, g->m, packed);
        weights += g->m * g->c;
        biases += g->m;
    }
    darkbn_depthwise_pack(weights, biases, g->m, g->size, packed + parts.expand);
    if (g->projects)
        darkbn_point_pack(weights + g->m * g->size * g->size, biases + g->m, g->m, g->n,
                          packed + parts.expand + parts.depthwise);
}

/* How the work is cut. Results do not depend on it. */
typedef struct darkbn_bottleneck_cut {
    ptrdiff_t bands, band;   /* of an image, and rows of each */
    ptrdiff_t strip;         /* rows of a strip */
    ptrdiff_t ring, pitch;   /* rows of the ring, pixels of a row with the zeros round it */
    ptrdiff_t ring_tiles;    /* tiles of middle channels that have a ring */
    ptrdiff_t ring_plane, strip_plane, strips, sums, local; /* floats of a block; where strips and sums begin; all */
} darkbn_bottleneck_cut;

static darkbn_bottleneck_cut darkbn_cut_bottleneck(const darkbn_bottleneck *g, int threads)
{
    darkbn_bottleneck_cut cut;
    const ptrdiff_t blocks = darkbn_blocks(g->m), tiles = darkbn_parts_of(blocks, DARKBN_TILE_BLOCKS);
    const ptrdiff_t rows = darkbn_most(g->out_h, 1), width = darkbn_most(g->out_w, 1);
    cut.bands = g->batch % threads ? threads : 1;
    cut.band = darkbn_parts_of(rows, cut.bands);
    cut.bands = darkbn_parts_of(rows, cut.band);
    const int whole = cut.band * width * blocks * DARKBN_BLOCK <= DARKBN_STRIP_FLOATS;
    cut.strip = whole ? cut.band : darkbn_least(cut.band, darkbn_parts_of(DARKBN_STRIP_PIXELS, width));
    cut.ring = (cut.strip - 1) * g->stride_y + g->size;
    cut.pitch = darkbn_most((width - 1) * g->stride_x + g->size, g->w + g->pad);
    cut.ring_tiles = whole ? 1 : tiles;
    cut.ring_plane = cut.ring * cut.pitch * DARKBN_BLOCK;
    cut.strip_plane = cut.strip * width * DARKBN_BLOCK;
    cut.strips = darkbn_rounded(cut.ring_tiles * DARKBN_TILE_BLOCKS * cut.ring_plane, DARKBN_LINE);
    cut.sums = cut.strips + (g->projects ? darkbn_rounded(blocks * cut.strip_plane, DARKBN_LINE) : 0);
    cut.local = cut.sums + (g->projects ? darkbn_rounded(DARKBN_TILE_BLOCKS * cut.strip_plane, DARKBN_LINE) : 0);
    return cut;
}

static ptrdiff_t darkbn_bottleneck_floats(const darkbn_bottleneck *g, int threads)
{
    return threads * darkbn_cut_bottleneck(g, threads).local + DARKBN_LINE;
}

/* What a task works on. */
typedef struct darkbn_bottleneck_task {
    const darkbn_bottleneck *g;
    const darkbn_bottleneck_cut *cut;
    ptrdiff_t image;
    float *local;
} darkbn_bottleneck_task;

/* The ring of the first block of a tile. */
DARKBN_INLINE float *darkbn_ring_of(const darkbn_bottleneck_task *task, ptrdiff_t tile)
{
    return task->local + tile % task->cut->ring_tiles * DARKBN_TILE_BLOCKS * task->cut->ring_plane;
}

/* Where row y of the input, y >= -pad, lies in a ring. */
DARKBN_INLINE ptrdiff_t darkbn_ring_row(const darkbn_bottleneck_task *task, ptrdiff_t y)
{
    return (y + task->g->pad) % task->cut->ring * task->cut->pitch * DARKBN_BLOCK;
}

/* Zeros on both sides of every row of the rings. */
static void darkbn_ring_sides(const darkbn_bottleneck_task *task)
{
    const darkbn_bottleneck *g = task->g;
    const ptrdiff_t rows = task->cut->ring_tiles * DARKBN_TILE_BLOCKS * task->cut->ring;
    const ptrdiff_t inside = g->pad + g->w;
    for (ptrdiff_t i = 0; i < rows; ++i) {
        float *row = task->local + i * task->cut->pitch * DARKBN_BLOCK;
        darkbn_clear(row, g->pad * DARKBN_BLOCK);
        darkbn_clear(row + inside * DARKBN_BLOCK, (task->cut->pitch - inside) * DARKBN_BLOCK);
    }
}

/* Row y of the input of the depthwise convolution, the blocks of one tile. */
static void darkbn_ring_fill(const darkbn_bottleneck_task *task, ptrdiff_t tile, ptrdiff_t y)
{
    const darkbn_bottleneck *g = task->g;
    const ptrdiff_t block = tile * DARKBN_TILE_BLOCKS, floats = g->w * DARKBN_BLOCK;
    const ptrdiff_t blocks = darkbn_least(darkbn_blocks(g->m) - block, DARKBN_TILE_BLOCKS);
    float *row = darkbn_ring_of(task, tile) + darkbn_ring_row(task, y) + g->pad * DARKBN_BLOCK;
    const float *x = g->x.data + task->image * g->x.image + y * floats;
    if (y < 0 || y >= g->h) {
        for (ptrdiff_t i = 0; i < blocks; ++i) darkbn_clear(row + i * task->cut->ring_plane, floats);
        return;
    }
    if (!g->expands) {
        for (ptrdiff_t i = 0; i < blocks; ++i)
            darkbn_copy(row + i * task->cut->ring_plane, x + (block + i) * g->x.plane, floats);
        return;
    }
    const darkbn_bounds bounds = darkbn_bounds_of(g->expand_activation);
    const darkbn_point_end end = {bounds, bounds, row, NULL, task->cut->ring_plane, 0};
    darkbn_point_pixels(g->expand, g->c, g->m, tile, x, g->x.plane, g->w, &end);
    if (darkbn_is_bounded(g->expand_activation)) return;
    for (ptrdiff_t i = 0; i < blocks; ++i) {
        float *values = row + i * task->cut->ring_plane;
        darkbn_activate(values, values, floats, g->expand_activation);
    }
}

/* `pixels` outputs of a row of one block: pixel p, tap (i, j) at lines[i] + (p * stride + j) * 8. Constants where
 * inlined: size and stride, or 0, and how many pixels at a time. */
DARKBN_INLINE void darkbn_window_pixels(const int fixed, const int fixed_stride, const int at_once,
                                        const darkbn_bottleneck *g, const float *const *lines, ptrdiff_t first,
                                        const float *filter, darkbn_wide bias, darkbn_bounds bounds, float *to)
{
    const ptrdiff_t size = fixed ? fixed : g->size;
    const ptrdiff_t stride = (fixed_stride ? fixed_stride : g->stride_x) * DARKBN_BLOCK;
    darkbn_wide acc[8];
#pragma GCC unroll 8
    for (int p = 0; p < at_once; ++p) acc[p] = bias;
#pragma GCC unroll 5
    for (ptrdiff_t i = 0; i < size; ++i) {
        const float *from = lines[i] + first * stride;
#pragma GCC unroll 5
        for (ptrdiff_t j = 0; j < size; ++j) {
            const darkbn_wide weight = darkbn_wide_load(filter + (i * size + j) * DARKBN_BLOCK);
#pragma GCC unroll 8
            for (int p = 0; p < at_once; ++p) acc[p] += weight * darkbn_wide_load(from + p * stride + j * DARKBN_BLOCK);
        }
    }
#pragma GCC unroll 8
    for (int p = 0; p < at_once; ++p) darkbn_wide_store(to + p * DARKBN_BLOCK, darkbn_bounded(acc[p], bounds));
}

DARKBN_INLINE void darkbn_window_row(const int fixed, const int stride, const darkbn_bottleneck *g,
                                     const float *const *lines, const float *filter, darkbn_wide bias,
                                     darkbn_bounds bounds, float *to)
{
    ptrdiff_t p = 0;
    for (; p + 6 <= g->out_w; p += 6)
        darkbn_window_pixels(fixed, stride, 6, g, lines, p, filter, bias, bounds, to + p * DARKBN_BLOCK);
    for (; p + 2 <= g->out_w; p += 2)
        darkbn_window_pixels(fixed, stride, 2, g, lines, p, filter, bias, bounds, to + p * DARKBN_BLOCK);
    for (; p < g->out_w; ++p)
        darkbn_window_pixels(fixed, stride, 1, g, lines, p, filter, bias, bounds, to + p * DARKBN_BLOCK);
}

#define DARKBN_WINDOW_MOST 64 /* largest size */

/* Row y of the depthwise convolution, block `block`, whose ring is given. */
static void darkbn_ring_window(const darkbn_bottleneck_task *task, const float *ring, ptrdiff_t block, ptrdiff_t y,
                               float *to)
{
    const darkbn_bottleneck *g = task->g;
    const ptrdiff_t taps = g->size * g->size;
    const float *filter = g->depthwise + (darkbn_blocks(g->m) + block * taps) * DARKBN_BLOCK;
    const darkbn_bounds bounds = darkbn_bounds_of(g->depthwise_activation);
    const float *lines[DARKBN_WINDOW_MOST];
    for (int part = 0; part < DARKBN_BLOCK; part += DARKBN_W) {
        const darkbn_wide bias = darkbn_wide_load(g->depthwise + block * DARKBN_BLOCK + part);
        for (ptrdiff_t i = 0; i < g->size; ++i)
            lines[i] = ring + darkbn_ring_row(task, y * g->stride_y - g->pad + i) + part;
        if (g->size == 3 && g->stride_x == 1)
            darkbn_window_row(3, 1, g, lines, filter + part, bias, bounds, to + part);
        else if (g->size == 3 && g->stride_x == 2)
            darkbn_window_row(3, 2, g, lines, filter + part, bias, bounds, to + part);
        else if (g->size == 5)
            darkbn_window_row(5, 0, g, lines, filter + part, bias, bounds, to + part);
        else
            darkbn_window_row(0, 0, g, lines, filter + part, bias, bounds, to + part);
    }
    if (!darkbn_is_bounded(g->depthwise_activation)) darkbn_activate(to, to, g->out_w * DARKBN_BLOCK, g->depthwise_activation);
}

/* A strip of the middle channels, pixels from row y on, to the tiles of the output. */
static void darkbn_strip_project(const darkbn_bottleneck_task *task, ptrdiff_t y, ptrdiff_t rows)
{
    const darkbn_bottleneck *g = task->g;
    const ptrdiff_t pixels = rows * g->out_w, first = y * g->out_w;
    const int direct = darkbn_is_bounded(g->project_activation)
                       && (!g->residual.data || darkbn_is_bounded(g->residual_activation));
    const darkbn_finish finish = {g->out, g->residual, g->project_activation, g->residual_activation,
                                  darkbn_slope(g->project_activation), darkbn_slope(g->residual_activation)};
    for (ptrdiff_t tile = 0; tile * DARKBN_TILE_FILTERS < g->n; ++tile) {
        const ptrdiff_t block = tile * DARKBN_TILE_BLOCKS;
        const ptrdiff_t blocks = darkbn_least(darkbn_blocks(g->n) - block, DARKBN_TILE_BLOCKS);
        const darkbn_bounds none = {1.0f, INFINITY};
        darkbn_point_end end = {none, none, task->local + task->cut->sums, NULL, task->cut->strip_plane, 0};
        if (direct) {
            end.first = darkbn_bounds_of(g->project_activation);
            end.second = darkbn_bounds_of(g->residual_activation);
            end.to = g->out.data + task->image * g->out.image + block * g->out.plane + first * DARKBN_BLOCK;
            end.plane = g->out.plane;
            end.add_plane = g->residual.plane;
            if (g->residual.data)
                end.add = g->residual.data + task->image * g->residual.image + block * g->residual.plane
                          + first * DARKBN_BLOCK;
        }
        darkbn_point_pixels(g->project, g->m, g->n, tile, task->local + task->cut->strips, task->cut->strip_plane,
                            pixels, &end);
        for (ptrdiff_t i = 0; i < blocks && !direct; ++i) {
            float *sums = end.to + i * end.plane;
            darkbn_finish_sums(&finish, sums, pixels * DARKBN_BLOCK);
            darkbn_finish_store(&finish, task->image, block + i, first, pixels, sums, DARKBN_BLOCK);
        }
    }
}

/* Rows [y0, y1) of the outputs. */
static void darkbn_bottleneck_band(const darkbn_bottleneck_task *task, ptrdiff_t y0, ptrdiff_t y1)
{
    const darkbn_bottleneck *g = task->g;
    const darkbn_bottleneck_cut *cut = task->cut;
    const ptrdiff_t all = darkbn_blocks(g->m);
    ptrdiff_t filled = y0 * g->stride_y - g->pad;
    darkbn_ring_sides(task);
    for (ptrdiff_t y = y0; y < y1; y += cut->strip) {
        const ptrdiff_t rows = darkbn_least(cut->strip, y1 - y);
        const ptrdiff_t top = darkbn_most(filled, y * g->stride_y - g->pad);
        filled = (y + rows - 1) * g->stride_y - g->pad + g->size;
        for (ptrdiff_t tile = 0; tile * DARKBN_TILE_BLOCKS < all; ++tile) {
            const ptrdiff_t block = tile * DARKBN_TILE_BLOCKS, last = darkbn_least(block + DARKBN_TILE_BLOCKS, all);
            for (ptrdiff_t i = top; i < filled; ++i) darkbn_ring_fill(task, tile, i);
            for (ptrdiff_t b = block; b < last; ++b) {
                float *to = g->projects ? task->local + cut->strips + b * cut->strip_plane
                                        : g->out.data + task->image * g->out.image + b * g->out.plane
                                              + y * g->out_w * DARKBN_BLOCK;
                const float *ring = darkbn_ring_of(task, tile) + (b - block) * cut->ring_plane;
                for (ptrdiff_t i = 0; i < rows; ++i)
                    darkbn_ring_window(task, ring, b, y + i, to + i * g->out_w * DARKBN_BLOCK);
            }
        }
        if (g->projects) darkbn_strip_project(task, y, rows);
    }
}

static void darkbn_bottleneck_run(const darkbn_bottleneck *g, float *workspace, int threads)
{
    const darkbn_bottleneck_cut cut = darkbn_cut_bottleneck(g, threads);
    float *local = darkbn_line_start(workspace);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (ptrdiff_t task = 0; task < g->batch * cut.bands; ++task) {
        const darkbn_bottleneck_task t = {g, &cut, task / cut.bands, local + DARKBN_THREAD * cut.local};
        const ptrdiff_t y0 = task % cut.bands * cut.band;
        darkbn_bottleneck_band(&t, y0, darkbn_least(y0 + cut.band, g->out_h));
    }
}

#endif
