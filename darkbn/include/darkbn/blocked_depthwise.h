/* Convolutions of blocked maps where each filter sees one channel of its own. */
#ifndef DARKBN_BLOCKED_DEPTHWISE_H
#define DARKBN_BLOCKED_DEPTHWISE_H

#include "darkbn/blocked_gemm.h"

#define DARKBN_DEPTHWISE_PIXELS 128 /* whose sums are finished together */

/* Biases, then filters: (blocks, taps, 8). */
static ptrdiff_t darkbn_depthwise_packed(ptrdiff_t n, ptrdiff_t size)
{
    return darkbn_blocks(n) * DARKBN_BLOCK * (1 + size * size);
}

static void darkbn_depthwise_pack(const float *weights, const float *biases, ptrdiff_t n, ptrdiff_t size, float *packed)
{
    const ptrdiff_t padded = darkbn_blocks(n) * DARKBN_BLOCK, taps = size * size;
    darkbn_pack_biases(biases, n, padded, packed);
    for (ptrdiff_t i = 0; i < padded * taps; ++i) {
        const ptrdiff_t f = i / (DARKBN_BLOCK * taps) * DARKBN_BLOCK + i % DARKBN_BLOCK;
        packed[padded + i] = f < n ? weights[f * taps + i / DARKBN_BLOCK % taps] : 0.0f;
    }
}

/* Rows of taps that count for a line of outputs, all columns inside. `size`, `stride` (or 0: g's) are constants. */
DARKBN_INLINE void darkbn_depthwise_inner(const int fixed_size, const int fixed_stride, const darkbn_blocked *g,
                                          ptrdiff_t rows, const float *from, const float *filter, darkbn_wide bias,
                                          ptrdiff_t pixels, float *sums)
{
    const ptrdiff_t size = fixed_size ? fixed_size : g->size, dilation = fixed_size ? 1 : g->dilation;
    const ptrdiff_t stride = (fixed_stride ? fixed_stride : g->stride_x) * DARKBN_BLOCK;
    const ptrdiff_t line = dilation * g->w * DARKBN_BLOCK;
    ptrdiff_t p = 0;
    for (; p + 4 <= pixels; p += 4, from += 4 * stride) {
        darkbn_wide acc[4] = {bias, bias, bias, bias};
        for (ptrdiff_t i = 0; i < rows; ++i)
#pragma GCC unroll 5
            for (ptrdiff_t j = 0; j < size; ++j) {
                const darkbn_wide weight = darkbn_wide_load(filter + (i * size + j) * DARKBN_BLOCK);
#pragma GCC unroll 4
                for (int k = 0; k < 4; ++k)
                    acc[k] += weight * darkbn_wide_load(from + i * line + k * stride + j * dilation * DARKBN_BLOCK);
            }
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) darkbn_wide_store(sums + (p + k) * DARKBN_BLOCK, acc[k]);
    }
    for (; p < pixels; ++p, from += stride) {
        darkbn_wide acc = bias;
        for (ptrdiff_t i = 0; i < rows; ++i)
            for (ptrdiff_t j = 0; j < size; ++j)
                acc += darkbn_wide_load(filter + (i * size + j) * DARKBN_BLOCK)
                       * darkbn_wide_load(from + i * line + j * dilation * DARKBN_BLOCK);
        darkbn_wide_store(sums + p * DARKBN_BLOCK, acc);
    }
}

/* Outputs [x0, x0 + pixels) of a line, some of whose taps may lie outside. The order of sums is that of the inner. */
static void darkbn_depthwise_edge(const darkbn_blocked *g, ptrdiff_t rows, const float *line, const float *filter,
                                  darkbn_wide bias, ptrdiff_t x0, ptrdiff_t pixels, float *sums)
{
    for (ptrdiff_t p = 0; p < pixels; ++p) {
        darkbn_wide acc = bias;
        for (ptrdiff_t i = 0; i < rows; ++i)
            for (ptrdiff_t j = 0; j < g->size; ++j) {
                const ptrdiff_t x = (x0 + p) * g->stride_x - g->pad + j * g->dilation;
                if (x >= 0 && x < g->w)
                    acc += darkbn_wide_load(filter + (i * g->size + j) * DARKBN_BLOCK)
                           * darkbn_wide_load(line + (i * g->dilation * g->w + x) * DARKBN_BLOCK);
            }
        darkbn_wide_store(sums + p * DARKBN_BLOCK, acc);
    }
}

static void darkbn_depthwise_pixels(const darkbn_blocked *g, ptrdiff_t rows, const float *from, const float *filter,
                                    darkbn_wide bias, ptrdiff_t pixels, float *sums)
{
    if (g->size == 3 && g->dilation == 1 && g->stride_x == 1)
        darkbn_depthwise_inner(3, 1, g, rows, from, filter, bias, pixels, sums);
    else if (g->size == 3 && g->dilation == 1 && g->stride_x == 2)
        darkbn_depthwise_inner(3, 2, g, rows, from, filter, bias, pixels, sums);
    else if (g->size == 5 && g->dilation == 1)
        darkbn_depthwise_inner(5, 0, g, rows, from, filter, bias, pixels, sums);
    else
        darkbn_depthwise_inner(0, 0, g, rows, from, filter, bias, pixels, sums);
}

/* One line of outputs of one block. */
static void darkbn_depthwise_line(const darkbn_blocked *g, ptrdiff_t image, ptrdiff_t block, ptrdiff_t y)
{
    float sums[DARKBN_DEPTHWISE_PIXELS * DARKBN_BLOCK] __attribute__((aligned(64)));
    const ptrdiff_t taps = g->size * g->size, top = y * g->stride_y - g->pad;
    const float *filter = g->packed + (darkbn_blocks(g->n) + block * taps) * DARKBN_BLOCK;
    /* Rows of taps inside the map, and columns of outputs whose taps are all inside. */
    const ptrdiff_t first = top < 0 ? darkbn_parts_of(-top, g->dilation) : 0;
    const ptrdiff_t last = top < g->h ? darkbn_least(g->size, darkbn_parts_of(g->h - top, g->dilation)) : 0;
    const ptrdiff_t rows = darkbn_most(last - first, 0), reach = g->dilation * (g->size - 1);
    const ptrdiff_t inner = darkbn_least(darkbn_parts_of(g->pad, g->stride_x), g->out_w);
    ptrdiff_t outer = g->w + g->pad - reach - 1;
    outer = outer < 0 ? 0 : outer / g->stride_x + 1;
    outer = darkbn_most(darkbn_least(outer, g->out_w), inner);
    const float *line = g->x.data + image * g->x.image + block * g->x.plane
                        + (rows ? top + first * g->dilation : 0) * g->w * DARKBN_BLOCK;
    filter += first * g->size * DARKBN_BLOCK;
    for (ptrdiff_t x = 0; x < g->out_w;) {
        const ptrdiff_t limit = x < inner ? inner : x < outer ? outer : g->out_w;
        const ptrdiff_t pixels = darkbn_least(limit - x, DARKBN_DEPTHWISE_PIXELS);
        for (int part = 0; part < DARKBN_BLOCK; part += DARKBN_W) {
            const darkbn_wide bias = darkbn_wide_load(g->packed + block * DARKBN_BLOCK + part);
            if (x >= inner && x < outer)
                darkbn_depthwise_pixels(g, rows, line + (x * g->stride_x - g->pad) * DARKBN_BLOCK + part, filter + part,
                                        bias, pixels, sums + part);
            else
                darkbn_depthwise_edge(g, rows, line + part, filter + part, bias, x, pixels, sums + part);
        }
        darkbn_finish_sums(&g->finish, sums, pixels * DARKBN_BLOCK);
        darkbn_finish_store(&g->finish, image, block, y * g->out_w + x, pixels, sums, DARKBN_BLOCK);
        x += pixels;
    }
}

static void darkbn_depthwise_run(const darkbn_blocked *g, int threads)
{
    const ptrdiff_t blocks = darkbn_blocks(g->n), bands = darkbn_parts_of(g->out_h, 16);
    const ptrdiff_t tasks = g->batch * blocks * bands;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (ptrdiff_t task = 0; task < tasks; ++task) {
        const ptrdiff_t image = task / (blocks * bands), block = task / bands % blocks, y0 = task % bands * 16;
        for (ptrdiff_t y = y0; y < darkbn_least(y0 + 16, g->out_h); ++y) darkbn_depthwise_line(g, image, block, y);
    }
}

#endif
