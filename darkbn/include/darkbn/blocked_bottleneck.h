/* A convolution with a filter a channel between two 1x1 convolutions, in one pass: what lies between them stays in the
 * caches.
 *
 * A task is a band of output rows and some tiles of the middle channels. Row by row and tile by tile, it makes the rows of
 * the expanded map that are new, in a ring of as many rows as a filter has, with zeros round them, and from these a row
 * of the depthwise convolution. Strips of these rows are projected when all their channels are there.
 *
 * Squeeze and excitation need the means of all pixels: all threads work on one image, make its middle map, then the
 * scales of its channels, then project strips of the scaled map. */
#ifndef DARKBN_BLOCKED_BOTTLENECK_H
#define DARKBN_BLOCKED_BOTTLENECK_H

#include "darkbn/blocked_depthwise.h"
#include "darkbn/blocked_point.h"

#define DARKBN_STRIP_PIXELS 64          /* outputs of a strip, about */
#define DARKBN_STRIP_FLOATS (48 * 1024) /* a band with so many in the middle is one strip: its tiles share a ring */
#define DARKBN_NEAR_FLOATS (24 * 1024)  /* an input of so many may be read for each tile, which share a ring then */

typedef struct darkbn_bottleneck {
    darkbn_slice x, out, residual; /* residual.data may be NULL */
    const float *expand, *depthwise, *squeeze, *excite, *project; /* packed; NULL where there is none */
    ptrdiff_t batch, h, w, c, m, n, size, out_h, out_w, stride_y, stride_x, pad;
    ptrdiff_t squeezed; /* channels, 0 without squeeze and excitation */
    int expands, projects;
    int expand_activation, depthwise_activation, project_activation, residual_activation;
    int squeeze_activation, excite_activation, scale_activation;
} darkbn_bottleneck;

/* Floats of the packed parts, one behind the other. */
typedef struct darkbn_bottleneck_parts {
    ptrdiff_t expand, depthwise, squeeze, excite, project;
} darkbn_bottleneck_parts;

static darkbn_bottleneck_parts darkbn_bottleneck_packed(const darkbn_bottleneck *g)
{
    const darkbn_bottleneck_parts parts = {g->expands ? darkbn_point_packed(g->c, g->m) : 0,
                                           darkbn_depthwise_packed(g->m, g->size),
                                           g->squeezed ? darkbn_point_packed(g->m, g->squeezed) : 0,
                                           g->squeezed ? darkbn_point_packed(g->squeezed, g->m) : 0,
                                           g->projects ? darkbn_point_packed(g->m, g->n) : 0};
    return parts;
}

/* Where the parts lie. */
static void darkbn_bottleneck_unpack(darkbn_bottleneck *g, const float *packed)
{
    const darkbn_bottleneck_parts parts = darkbn_bottleneck_packed(g);
    g->expand = packed;
    g->depthwise = g->expand + parts.expand;
    g->squeeze = g->depthwise + parts.depthwise;
    g->excite = g->squeeze + parts.squeeze;
    g->project = g->excite + parts.excite;
}

/* weights: (m, c) where it expands, (m, size, size), (squeezed, m) and (m, squeezed) where it squeezes, (n, m) where it
 * projects; biases likewise. */
static void darkbn_bottleneck_pack(const darkbn_bottleneck *g, const float *weights, const float *biases, float *packed)
{
    const darkbn_bottleneck_parts parts = darkbn_bottleneck_packed(g);
    if (g->expands) {
        darkbn_point_pack(weights, biases, g->c, g->m, packed);
        weights += g->m * g->c;
        biases += g->m;
        packed += parts.expand;
    }
    darkbn_depthwise_pack(weights, biases, g->m, g->size, packed);
    weights += g->m * g->size * g->size;
    biases += g->m;
    packed += parts.depthwise;
    if (g->squeezed) {
        darkbn_point_pack(weights, biases, g->m, g->squeezed, packed);
        darkbn_point_pack(weights + g->m * g->squeezed, biases + g->squeezed, g->squeezed, g->m, packed + parts.squeeze);
        weights += 2 * g->m * g->squeezed;
        biases += g->squeezed + g->m;
        packed += parts.squeeze + parts.excite;
    }
    if (g->projects) darkbn_point_pack(weights, biases, g->m, g->n, packed);
}

/* How the work is cut. Results do not depend on it. */
typedef struct darkbn_bottleneck_cut {
    ptrdiff_t bands, band;                /* of an image, and rows of each */
    ptrdiff_t chunks, chunk;              /* of the tiles of middle channels, and tiles of each */
    ptrdiff_t strip;                      /* rows of a strip of a band */
    ptrdiff_t strips, pixels;             /* with squeeze and excitation, of an image, and pixels of each */
    ptrdiff_t pitch;                      /* pixels of a row with the zeros round it */
    ptrdiff_t ring_tiles;                 /* tiles that have a ring */
    ptrdiff_t ring_plane, strip_plane, middle_plane; /* floats of a block */
    ptrdiff_t strip_at, sums_at, local;   /* in a thread's room, and all of it */
    ptrdiff_t middle_at, rows_at, means_at, squeezed_at, scales_at, shared; /* in the room of all */
} darkbn_bottleneck_cut;

/* Bands and chunks with the least for the thread that has most to do. Bands repeat the rows that two of them read. */
static void darkbn_cut_tasks(const darkbn_bottleneck *g, int threads, darkbn_bottleneck_cut *cut)
{
    const ptrdiff_t tiles = darkbn_parts_of(g->m, DARKBN_TILE_FILTERS);
    const ptrdiff_t images = g->squeezed ? 1 : g->batch, rows = darkbn_most(g->out_h, 1);
    const ptrdiff_t repeated = g->expands ? darkbn_most(g->size - g->stride_y, 0) : 0;
    ptrdiff_t least = PTRDIFF_MAX;
    cut->bands = cut->chunks = 1;
    for (ptrdiff_t chunks = 1; chunks <= 4 * threads && chunks <= tiles; chunks *= 2) {
        if (chunks > 1 && g->projects && !g->squeezed) break;
        for (int several = 0; several < 2; ++several) {
            const ptrdiff_t bands = several ? darkbn_parts_of(threads, chunks) : 1;
            const ptrdiff_t band = darkbn_parts_of(rows, bands);
            const ptrdiff_t rounds = darkbn_parts_of(images * chunks * darkbn_parts_of(rows, band), threads);
            const ptrdiff_t work = rounds * darkbn_parts_of(tiles, chunks) * (band * g->stride_y + (bands > 1) * repeated);
            if (work >= least) continue;
            least = work;
            cut->bands = bands;
            cut->chunks = chunks;
        }
    }
    cut->band = darkbn_parts_of(rows, cut->bands);
    cut->bands = darkbn_parts_of(rows, cut->band);
    cut->chunk = darkbn_parts_of(tiles, cut->chunks);
    cut->chunks = darkbn_parts_of(tiles, cut->chunk);
}

/* What every thread, and all of them, have room for. */
static void darkbn_cut_room(const darkbn_bottleneck *g, int threads, darkbn_bottleneck_cut *cut)
{
    const ptrdiff_t blocks = darkbn_blocks(g->m), width = darkbn_most(g->out_w, 1), rows = darkbn_most(g->out_h, 1);
    const ptrdiff_t copied = g->projects ? blocks : 0;
    const ptrdiff_t kept = g->squeezed ? blocks * DARKBN_BLOCK : 0;
    cut->pitch = darkbn_most((width - 1) * g->stride_x + g->size, g->w + g->pad);
    cut->ring_plane = g->size * cut->pitch * DARKBN_BLOCK;
    cut->strip_plane = (g->squeezed ? cut->pixels : cut->strip * width) * DARKBN_BLOCK;
    cut->middle_plane = rows * width * DARKBN_BLOCK;
    cut->strip_at = darkbn_rounded(cut->ring_tiles * DARKBN_TILE_BLOCKS * cut->ring_plane, DARKBN_LINE);
    cut->sums_at = cut->strip_at + darkbn_rounded(copied * cut->strip_plane, DARKBN_LINE);
    cut->local = cut->sums_at + darkbn_rounded((g->projects ? DARKBN_TILE_BLOCKS : 0) * cut->strip_plane, DARKBN_LINE);
    cut->middle_at = threads * cut->local;
    cut->rows_at = cut->middle_at + darkbn_rounded(kept * rows * width, DARKBN_LINE);
    cut->means_at = cut->rows_at + darkbn_rounded(kept * rows, DARKBN_LINE);
    cut->squeezed_at = cut->means_at + darkbn_rounded(kept, DARKBN_LINE);
    cut->scales_at = cut->squeezed_at + darkbn_rounded(darkbn_blocks(g->squeezed) * DARKBN_BLOCK, DARKBN_LINE);
    cut->shared = cut->scales_at + darkbn_rounded(kept, DARKBN_LINE);
}

static darkbn_bottleneck_cut darkbn_cut_bottleneck(const darkbn_bottleneck *g, int threads)
{
    darkbn_bottleneck_cut cut;
    const ptrdiff_t blocks = darkbn_blocks(g->m), width = darkbn_most(g->out_w, 1), rows = darkbn_most(g->out_h, 1);
    const ptrdiff_t pixels = rows * width;
    darkbn_cut_tasks(g, threads, &cut);
    const int whole = g->projects && !g->squeezed ? cut.band * width * blocks * DARKBN_BLOCK <= DARKBN_STRIP_FLOATS
                                                  : g->c * g->h * g->w <= DARKBN_NEAR_FLOATS;
    cut.strip = whole ? cut.band : darkbn_least(cut.band, darkbn_parts_of(DARKBN_STRIP_PIXELS, width));
    cut.ring_tiles = whole ? 1 : cut.chunk;
    const ptrdiff_t turns = (pixels + threads * DARKBN_STRIP_PIXELS) / (threads * 2 * DARKBN_STRIP_PIXELS);
    cut.pixels = darkbn_parts_of(pixels, threads * darkbn_most(turns, 1));
    cut.strips = darkbn_parts_of(pixels, cut.pixels);
    darkbn_cut_room(g, threads, &cut);
    return cut;
}

static ptrdiff_t darkbn_bottleneck_floats(const darkbn_bottleneck *g, int threads)
{
    return darkbn_cut_bottleneck(g, threads).shared + DARKBN_LINE;
}

/* What a task works on. */
typedef struct darkbn_bottleneck_task {
    const darkbn_bottleneck *g;
    const darkbn_bottleneck_cut *cut;
    ptrdiff_t image;
    float *local, *shared;
} darkbn_bottleneck_task;

/* The ring of the first block of a tile. */
DARKBN_INLINE float *darkbn_ring_of(const darkbn_bottleneck_task *task, ptrdiff_t tile)
{
    return task->local + tile % task->cut->ring_tiles * DARKBN_TILE_BLOCKS * task->cut->ring_plane;
}

/* Where row y of the input, y >= -pad, lies in a ring. */
DARKBN_INLINE ptrdiff_t darkbn_ring_row(const darkbn_bottleneck_task *task, ptrdiff_t y)
{
    return (y + task->g->pad) % task->g->size * task->cut->pitch * DARKBN_BLOCK;
}

/* Zeros on both sides of every row of the rings. */
static void darkbn_ring_sides(const darkbn_bottleneck_task *task)
{
    const darkbn_bottleneck *g = task->g;
    const ptrdiff_t rows = task->cut->ring_tiles * DARKBN_TILE_BLOCKS * task->g->size;
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
    if (!darkbn_is_bounded(g->depthwise_activation))
        darkbn_activate(to, to, g->out_w * DARKBN_BLOCK, g->depthwise_activation);
}

/* A strip of the middle channels, `plane` floats from block to block, to `pixels` pixels of the output from `first` on. */
static void darkbn_strip_project(const darkbn_bottleneck_task *task, const float *strip, ptrdiff_t plane,
                                 ptrdiff_t first, ptrdiff_t pixels)
{
    const darkbn_bottleneck *g = task->g;
    const int direct = darkbn_is_bounded(g->project_activation)
                       && (!g->residual.data || darkbn_is_bounded(g->residual_activation));
    const darkbn_finish finish = {g->out, g->residual, g->project_activation, g->residual_activation,
                                  darkbn_slope(g->project_activation), darkbn_slope(g->residual_activation)};
    for (ptrdiff_t tile = 0; tile * DARKBN_TILE_FILTERS < g->n; ++tile) {
        const ptrdiff_t block = tile * DARKBN_TILE_BLOCKS;
        const ptrdiff_t blocks = darkbn_least(darkbn_blocks(g->n) - block, DARKBN_TILE_BLOCKS);
        const darkbn_bounds none = {1.0f, INFINITY};
        darkbn_point_end end = {none, none, task->local + task->cut->sums_at, NULL, task->cut->strip_plane, 0};
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
        darkbn_point_pixels(g->project, g->m, g->n, tile, strip, plane, pixels, &end);
        for (ptrdiff_t i = 0; i < blocks && !direct; ++i) {
            float *sums = end.to + i * end.plane;
            darkbn_finish_sums(&finish, sums, pixels * DARKBN_BLOCK);
            darkbn_finish_store(&finish, task->image, block + i, first, pixels, sums, DARKBN_BLOCK);
        }
    }
}

/* The sum of a row's pixels, lane by lane. */
static void darkbn_row_sum(const float *row, ptrdiff_t pixels, float *to)
{
    for (int part = 0; part < DARKBN_BLOCK; part += DARKBN_W) {
        darkbn_wide sum[2] = {{0}, {0}};
        for (ptrdiff_t p = 0; p < pixels; ++p) sum[p % 2] += darkbn_wide_load(row + p * DARKBN_BLOCK + part);
        darkbn_wide_store(to + part, sum[0] + sum[1]);
    }
}

/* Row y of the middle map, the blocks of one tile, whose rows of the band before are there unless y is the `first`.
 * It belongs to the strip that begins with row y0. */
static void darkbn_middle_row(const darkbn_bottleneck_task *task, ptrdiff_t tile, ptrdiff_t y, int first, ptrdiff_t y0)
{
    const darkbn_bottleneck *g = task->g;
    const darkbn_bottleneck_cut *cut = task->cut;
    const ptrdiff_t top = y * g->stride_y - g->pad, block = tile * DARKBN_TILE_BLOCKS;
    const ptrdiff_t there = first ? top : darkbn_most(top, top - g->stride_y + g->size);
    const ptrdiff_t last = darkbn_least(block + DARKBN_TILE_BLOCKS, darkbn_blocks(g->m));
    for (ptrdiff_t i = there; i < top + g->size; ++i) darkbn_ring_fill(task, tile, i);
    for (ptrdiff_t b = block; b < last; ++b) {
        float *to;
        if (!g->projects)
            to = g->out.data + task->image * g->out.image + b * g->out.plane + y * g->out_w * DARKBN_BLOCK;
        else if (g->squeezed)
            to = task->shared + cut->middle_at + b * cut->middle_plane + y * g->out_w * DARKBN_BLOCK;
        else
            to = task->local + cut->strip_at + b * cut->strip_plane + (y - y0) * g->out_w * DARKBN_BLOCK;
        darkbn_ring_window(task, darkbn_ring_of(task, tile) + (b - block) * cut->ring_plane, b, y, to);
        if (g->squeezed) darkbn_row_sum(to, g->out_w, task->shared + cut->rows_at + (b * g->out_h + y) * DARKBN_BLOCK);
    }
}

/* Task `index` of an image: a band of rows of some tiles. */
static void darkbn_bottleneck_band(const darkbn_bottleneck_task *task, ptrdiff_t index)
{
    const darkbn_bottleneck *g = task->g;
    const darkbn_bottleneck_cut *cut = task->cut;
    const ptrdiff_t y0 = index / cut->chunks * cut->band, y1 = darkbn_least(y0 + cut->band, g->out_h);
    const ptrdiff_t tile0 = index % cut->chunks * cut->chunk;
    const ptrdiff_t tile1 = darkbn_least(tile0 + cut->chunk, darkbn_parts_of(g->m, DARKBN_TILE_FILTERS));
    darkbn_ring_sides(task);
    for (ptrdiff_t y = y0; y < y1; y += cut->strip) {
        const ptrdiff_t rows = darkbn_least(cut->strip, y1 - y);
        for (ptrdiff_t tile = tile0; tile < tile1; ++tile)
            for (ptrdiff_t i = y; i < y + rows; ++i) darkbn_middle_row(task, tile, i, i == y0, y);
        if (g->projects && !g->squeezed)
            darkbn_strip_project(task, task->local + cut->strip_at, cut->strip_plane, y * g->out_w, rows * g->out_w);
    }
}

/* The mean of a block's pixels, from the sums of its rows. */
static void darkbn_squeeze_mean(const darkbn_bottleneck_task *task, ptrdiff_t block)
{
    const darkbn_bottleneck *g = task->g;
    const float *rows = task->shared + task->cut->rows_at + block * g->out_h * DARKBN_BLOCK;
    float *means = task->shared + task->cut->means_at + block * DARKBN_BLOCK;
    for (int i = 0; i < DARKBN_BLOCK; ++i) {
        double sum = 0;
        for (ptrdiff_t y = 0; y < g->out_h; ++y) sum += rows[y * DARKBN_BLOCK + i];
        means[i] = (float)(sum / (double)(g->out_h * g->out_w));
    }
}

/* A tile of a 1x1 convolution of one pixel, c channels to n, blocks side by side. */
static void darkbn_single_point(const float *packed, ptrdiff_t c, ptrdiff_t n, ptrdiff_t tile, const float *x, float *to,
                                int kind)
{
    const darkbn_bounds bounds = darkbn_bounds_of(kind);
    const darkbn_point_end end = {bounds, bounds, to + tile * DARKBN_TILE_FILTERS, NULL, DARKBN_BLOCK, 0};
    const ptrdiff_t left = darkbn_blocks(n) * DARKBN_BLOCK - tile * DARKBN_TILE_FILTERS;
    darkbn_point_pixels(packed, c, n, tile, x, DARKBN_BLOCK, 1, &end);
    if (!darkbn_is_bounded(kind)) darkbn_activate(end.to, end.to, darkbn_least(left, DARKBN_TILE_FILTERS), kind);
}

/* Pixels of the middle map from `first` on, scaled, to the strip of this thread. */
static void darkbn_scale_strip(const darkbn_bottleneck_task *task, ptrdiff_t first, ptrdiff_t pixels)
{
    const darkbn_bottleneck *g = task->g;
    const darkbn_bottleneck_cut *cut = task->cut;
    const darkbn_bounds bounds = darkbn_bounds_of(g->scale_activation);
    const ptrdiff_t floats = pixels * DARKBN_BLOCK;
    for (ptrdiff_t b = 0; b < darkbn_blocks(g->m); ++b) {
        const float *from = task->shared + cut->middle_at + b * cut->middle_plane + first * DARKBN_BLOCK;
        const float *scales = task->shared + cut->scales_at + b * DARKBN_BLOCK;
        float *to = task->local + cut->strip_at + b * cut->strip_plane;
        for (int part = 0; part < DARKBN_BLOCK; part += DARKBN_W) {
            const darkbn_wide scale = darkbn_wide_load(scales + part);
            for (ptrdiff_t i = part; i < floats; i += DARKBN_BLOCK)
                darkbn_wide_store(to + i, darkbn_bounded(scale * darkbn_wide_load(from + i), bounds));
        }
        if (!darkbn_is_bounded(g->scale_activation)) darkbn_activate(to, to, floats, g->scale_activation);
    }
}

/* Strip `index` of the middle map to the output. */
static void darkbn_scaled_strip(const darkbn_bottleneck_task *task, ptrdiff_t index)
{
    const darkbn_bottleneck_cut *cut = task->cut;
    const ptrdiff_t first = index * cut->pixels;
    const ptrdiff_t pixels = darkbn_least(cut->pixels, task->g->out_h * task->g->out_w - first);
    darkbn_scale_strip(task, first, pixels);
    darkbn_strip_project(task, task->local + cut->strip_at, cut->strip_plane, first, pixels);
}

/* The scales of the channels, by all threads of the region that this is called in. */
static void darkbn_squeeze_excite(const darkbn_bottleneck_task *task)
{
    const darkbn_bottleneck *g = task->g;
    float *means = task->shared + task->cut->means_at, *squeezed = task->shared + task->cut->squeezed_at;
    float *scales = task->shared + task->cut->scales_at;
#pragma omp for schedule(static)
    for (ptrdiff_t i = 0; i < darkbn_blocks(g->m); ++i) darkbn_squeeze_mean(task, i);
#pragma omp for schedule(static)
    for (ptrdiff_t i = 0; i < darkbn_parts_of(g->squeezed, DARKBN_TILE_FILTERS); ++i)
        darkbn_single_point(g->squeeze, g->m, g->squeezed, i, means, squeezed, g->squeeze_activation);
#pragma omp for schedule(static)
    for (ptrdiff_t i = 0; i < darkbn_parts_of(g->m, DARKBN_TILE_FILTERS); ++i)
        darkbn_single_point(g->excite, g->squeezed, g->m, i, squeezed, scales, g->excite_activation);
}

/* One image with squeeze and excitation, by all threads of the region that this is called in. */
static void darkbn_squeezed_image(const darkbn_bottleneck_task *task)
{
    const darkbn_bottleneck_cut *cut = task->cut;
#pragma omp for schedule(dynamic)
    for (ptrdiff_t i = 0; i < cut->bands * cut->chunks; ++i) darkbn_bottleneck_band(task, i);
    darkbn_squeeze_excite(task);
#pragma omp for schedule(dynamic)
    for (ptrdiff_t i = 0; i < cut->strips; ++i) darkbn_scaled_strip(task, i);
}

static void darkbn_bottleneck_run(const darkbn_bottleneck *g, float *workspace, int threads)
{
    const darkbn_bottleneck_cut cut = darkbn_cut_bottleneck(g, threads);
    const ptrdiff_t tasks = cut.bands * cut.chunks;
    float *room = darkbn_line_start(workspace);
    if (g->squeezed) {
#pragma omp parallel num_threads(threads)
        for (ptrdiff_t image = 0; image < g->batch; ++image) {
            const darkbn_bottleneck_task task = {g, &cut, image, room + DARKBN_THREAD * cut.local, room};
            darkbn_squeezed_image(&task);
        }
        return;
    }
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (ptrdiff_t i = 0; i < g->batch * tasks; ++i) {
        const darkbn_bottleneck_task task = {g, &cut, i / tasks, room + DARKBN_THREAD * cut.local, room};
        darkbn_bottleneck_band(&task, i % tasks);
    }
}

#endif
