/* Feature maps in blocks of eight channels: (batch, blocks, height, width, 8), and what follows a sum there.
 *
 * The layout is the same on every level. Vectors over a block have DARKBN_W lanes: a whole block, or half of one where
 * registers hold four floats. */
#ifndef DARKBN_BLOCKED_H
#define DARKBN_BLOCKED_H

#include "darkbn/activation_rows.h"
#include "darkbn/vector.h"

#ifdef _OPENMP
#include <omp.h>
#define DARKBN_THREAD omp_get_thread_num()
#else
#define DARKBN_THREAD 0
#endif

#define DARKBN_BLOCK 8
#define DARKBN_W (DARKBN_V < DARKBN_BLOCK ? DARKBN_V : DARKBN_BLOCK)
#if DARKBN_V < 8
typedef float darkbn_wide __attribute__((vector_size(16)));
typedef float darkbn_wide_unaligned __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t darkbn_wide_mask __attribute__((vector_size(16)));
#else
typedef float darkbn_wide __attribute__((vector_size(32)));
typedef float darkbn_wide_unaligned __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t darkbn_wide_mask __attribute__((vector_size(32)));
#endif

DARKBN_INLINE darkbn_wide darkbn_wide_load(const float *x) { return *(const darkbn_wide_unaligned *)x; }
DARKBN_INLINE void darkbn_wide_store(float *x, darkbn_wide v) { *(darkbn_wide_unaligned *)x = v; }

/* mask ? a : b, lane by lane. */
DARKBN_INLINE darkbn_wide darkbn_wide_select(darkbn_wide_mask mask, darkbn_wide a, darkbn_wide b)
{
    return (darkbn_wide)(((darkbn_wide_mask)a & mask) | ((darkbn_wide_mask)b & ~mask));
}

DARKBN_INLINE ptrdiff_t darkbn_blocks(ptrdiff_t channels) { return (channels + DARKBN_BLOCK - 1) / DARKBN_BLOCK; }
DARKBN_INLINE ptrdiff_t darkbn_least(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }
DARKBN_INLINE ptrdiff_t darkbn_most(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }
DARKBN_INLINE ptrdiff_t darkbn_parts_of(ptrdiff_t n, ptrdiff_t size) { return (n + size - 1) / size; }
DARKBN_INLINE ptrdiff_t darkbn_rounded(ptrdiff_t n, ptrdiff_t unit) { return darkbn_parts_of(n, unit) * unit; }

/* The first float of a workspace on a cache line's border; workspaces have DARKBN_LINE floats to spare for it. */
#define DARKBN_LINE 16
DARKBN_INLINE float *darkbn_line_start(float *x)
{
    return (float *)(((uintptr_t)x + 4 * DARKBN_LINE - 1) / (4 * DARKBN_LINE) * (4 * DARKBN_LINE));
}

/* A slice of a blocked map: its first block, and the floats from image to image and from block to block. */
typedef struct darkbn_slice {
    float *data;
    ptrdiff_t image, plane;
} darkbn_slice;

/* What becomes of sums: out = residual_activation(activation(sum + bias) + residual). */
typedef struct darkbn_finish {
    darkbn_slice out, residual; /* residual.data may be NULL */
    int activation, residual_activation;
    float slope, residual_slope; /* of the activations that are two lines through 0, else negative */
} darkbn_finish;

/* The slope below 0 where an activation is x above and a line below; -1 for others. */
static float darkbn_slope(int kind)
{
    switch (kind) {
    case DARKBN_LINEAR:
        return 1.0f;
    case DARKBN_RELU:
        return 0.0f;
    case DARKBN_LEAKY:
    case DARKBN_REVLEAKY:
        return DARKBN_LEAKY_SLOPE;
    case DARKBN_RELIE:
        return DARKBN_RELIE_SLOPE;
    default:
        return -1.0f;
    }
}

DARKBN_INLINE darkbn_wide darkbn_bend(darkbn_wide v, float slope)
{
    return darkbn_wide_select(v > 0, v, slope * v);
}

/* The activation of n sums, biases included, in place, where it is not left to darkbn_finish_store. */
static void darkbn_finish_sums(const darkbn_finish *f, float *sums, ptrdiff_t n)
{
    if (f->slope < 0) darkbn_activate(sums, sums, n, f->activation);
}

/* Sums of one block's pixels, `step` floats apart, to `pixels` pixels of out from `pixel` on. */
static void darkbn_finish_store(const darkbn_finish *f, ptrdiff_t image, ptrdiff_t block, ptrdiff_t pixel,
                                ptrdiff_t pixels, const float *sums, ptrdiff_t step)
{
    float *to = f->out.data + image * f->out.image + block * f->out.plane + pixel * DARKBN_BLOCK;
    const float slope = f->slope >= 0 ? f->slope : 1.0f;
    if (!f->residual.data) {
        for (ptrdiff_t p = 0; p < pixels; ++p)
            for (int part = 0; part < DARKBN_BLOCK; part += DARKBN_W)
                darkbn_wide_store(to + p * DARKBN_BLOCK + part,
                                  darkbn_bend(darkbn_wide_load(sums + p * step + part), slope));
        return;
    }
    const float *add = f->residual.data + image * f->residual.image + block * f->residual.plane + pixel * DARKBN_BLOCK;
    const float second = f->residual_slope >= 0 ? f->residual_slope : 1.0f;
    for (ptrdiff_t p = 0; p < pixels; ++p)
        for (int part = 0; part < DARKBN_BLOCK; part += DARKBN_W) {
            const darkbn_wide value = darkbn_bend(darkbn_wide_load(sums + p * step + part), slope)
                                      + darkbn_wide_load(add + p * DARKBN_BLOCK + part);
            darkbn_wide_store(to + p * DARKBN_BLOCK + part, darkbn_bend(value, second));
        }
    if (f->residual_slope < 0) darkbn_activate(to, to, pixels * DARKBN_BLOCK, f->residual_activation);
}

/* A convolution of blocked maps (x of `first` is plain: plane is h * w there). */
typedef struct darkbn_blocked {
    darkbn_slice x;
    const float *packed;
    ptrdiff_t batch, h, w, c, n, size, out_h, out_w, groups, stride_y, stride_x, dilation, pad;
    darkbn_finish finish;
} darkbn_blocked;

#endif
