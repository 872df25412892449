/* The register tile of the convolutions of blocked maps: DARKBN_TILE_PIXELS pixels times DARKBN_TILE_FILTERS filters.
 *
 * Pixels come as blocks of eight channels, a[step * stride + pixel * 8 + channel]; filters packed by channels,
 * b[(step * 8 + channel) * DARKBN_TILE_FILTERS + filter]. Each sum is one chain of multiply-adds over the channels of a
 * call in order, whatever tile it lies in; the sums of calls are added in order. */
#ifndef DARKBN_BLOCKED_TILE_H
#define DARKBN_BLOCKED_TILE_H

#include "darkbn/blocked.h"

/* As many accumulators as leave registers for two vectors of filters and a pixel. */
#if DARKBN_V == 16
#define DARKBN_TILE_PIXELS 14
#elif defined(__aarch64__)
#define DARKBN_TILE_PIXELS 12
#else
#define DARKBN_TILE_PIXELS 6
#endif
#define DARKBN_TILE_FILTERS (2 * DARKBN_V)
#define DARKBN_TILE_BLOCKS (DARKBN_TILE_FILTERS / DARKBN_BLOCK)
#define DARKBN_PANEL (DARKBN_TILE_PIXELS * DARKBN_BLOCK) /* floats of a packed panel's step */
#define DARKBN_SUMS (DARKBN_TILE_PIXELS * DARKBN_TILE_FILTERS)

#define DARKBN_ASKED 4 /* cache lines that a step asks for */

/* sums = base + `steps` steps of a tile: sums[pixel * DARKBN_TILE_FILTERS + filter]; the pixels of base are `base_step`
 * floats apart: 0 for biases, DARKBN_TILE_FILTERS for earlier sums. `rows` is a constant where inlined.
 * Unless NULL, `ahead` are filters that will be needed next: filters come from memory, and a stream that is read a tile
 * at a time stalls at each. */
DARKBN_INLINE void darkbn_tile_pixels(const int rows, ptrdiff_t steps, const float *restrict a, ptrdiff_t stride,
                                      const float *restrict b, const float *base, ptrdiff_t base_step, float *sums,
                                      const float *ahead)
{
    darkbn_vec acc[DARKBN_TILE_PIXELS][2];
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
        acc[i][0] = darkbn_zero();
        acc[i][1] = darkbn_zero();
    }
    for (ptrdiff_t step = 0; step < steps; ++step) {
        if (ahead) {
#pragma GCC unroll 4
            for (int i = 0; i < DARKBN_ASKED; ++i) __builtin_prefetch(ahead + i * DARKBN_LINE, 0, 2);
            ahead += DARKBN_ASKED * DARKBN_LINE;
        }
#pragma GCC unroll 8
        for (int k = 0; k < DARKBN_BLOCK; ++k) {
            const darkbn_vec low = darkbn_load(b + k * DARKBN_TILE_FILTERS);
            const darkbn_vec high = darkbn_load(b + k * DARKBN_TILE_FILTERS + DARKBN_V);
#pragma GCC unroll 16
            for (int i = 0; i < rows; ++i) {
                const float value = a[i * DARKBN_BLOCK + k];
                acc[i][0] += value * low;
                acc[i][1] += value * high;
            }
        }
        a += stride;
        b += DARKBN_BLOCK * DARKBN_TILE_FILTERS;
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
        const darkbn_vec low = darkbn_load(base + i * base_step), high = darkbn_load(base + i * base_step + DARKBN_V);
        darkbn_store(sums + i * DARKBN_TILE_FILTERS, acc[i][0] + low);
        darkbn_store(sums + i * DARKBN_TILE_FILTERS + DARKBN_V, acc[i][1] + high);
    }
}

typedef void (*darkbn_pixels_function)(ptrdiff_t, const float *, ptrdiff_t, const float *, const float *, ptrdiff_t,
                                       float *, const float *);

#define DARKBN_PIXELS(ROWS)                                                                                       \
    static void darkbn_pixels_##ROWS(ptrdiff_t steps, const float *a, ptrdiff_t stride, const float *b,           \
                                     const float *base, ptrdiff_t base_step, float *sums, const float *ahead)     \
    {                                                                                                             \
        darkbn_tile_pixels(ROWS, steps, a, stride, b, base, base_step, sums, ahead);                              \
    }
DARKBN_PIXELS(1)
DARKBN_PIXELS(2)
DARKBN_PIXELS(3)
DARKBN_PIXELS(4)
DARKBN_PIXELS(5)
DARKBN_PIXELS(6)
#if DARKBN_TILE_PIXELS > 6
DARKBN_PIXELS(7)
DARKBN_PIXELS(8)
DARKBN_PIXELS(9)
DARKBN_PIXELS(10)
DARKBN_PIXELS(11)
DARKBN_PIXELS(12)
#endif
#if DARKBN_TILE_PIXELS > 12
DARKBN_PIXELS(13)
DARKBN_PIXELS(14)
#endif
#undef DARKBN_PIXELS

/* By number of pixels. */
static const darkbn_pixels_function darkbn_pixels[DARKBN_TILE_PIXELS + 1] = {
    NULL, darkbn_pixels_1, darkbn_pixels_2, darkbn_pixels_3, darkbn_pixels_4, darkbn_pixels_5, darkbn_pixels_6,
#if DARKBN_TILE_PIXELS > 6
    darkbn_pixels_7, darkbn_pixels_8, darkbn_pixels_9, darkbn_pixels_10, darkbn_pixels_11, darkbn_pixels_12,
#endif
#if DARKBN_TILE_PIXELS > 12
    darkbn_pixels_13, darkbn_pixels_14,
#endif
};

/* Pixels in panels of nearly equal size: a panel of one pixel would take as long as one of four. Panel i has the pixels
 * from darkbn_panel_start(i) on. */
DARKBN_INLINE ptrdiff_t darkbn_panels(ptrdiff_t pixels) { return darkbn_parts_of(pixels, DARKBN_TILE_PIXELS); }
DARKBN_INLINE ptrdiff_t darkbn_panel_start(ptrdiff_t i, ptrdiff_t panels, ptrdiff_t pixels)
{
    return i * pixels / panels;
}

/* Pixels as the tiles read them: panel i, which begins with pixel p, is at data + i * panel + p * pixel, and its steps
 * are `step` floats apart. */
typedef struct darkbn_pixels_at {
    const float *data;
    ptrdiff_t panel, pixel, step;
} darkbn_pixels_at;

/* sums = biases + pixels times a tile's filters, or where those are NULL sums + ... `next` are the filters of the next
 * call, brought near meanwhile. */
static void darkbn_multiply_panels(ptrdiff_t pixels, ptrdiff_t steps, darkbn_pixels_at a, const float *b,
                                   const float *next, float *sums, const float *biases)
{
    const ptrdiff_t panels = darkbn_panels(pixels), floats = steps * DARKBN_BLOCK * DARKBN_TILE_FILTERS;
    for (ptrdiff_t i = 0, asked = 0; i < panels; ++i) {
        const ptrdiff_t start = darkbn_panel_start(i, panels, pixels);
        const ptrdiff_t rows = darkbn_panel_start(i + 1, panels, pixels) - start;
        const float *ahead = next && asked < floats ? next + asked : NULL;
        asked += steps * DARKBN_ASKED * DARKBN_LINE;
        float *to = sums + start * DARKBN_TILE_FILTERS;
        darkbn_pixels[rows](steps, a.data + i * a.panel + start * a.pixel, a.step, b, biases ? biases : to,
                            biases ? 0 : DARKBN_TILE_FILTERS, to, ahead);
    }
}

#endif
