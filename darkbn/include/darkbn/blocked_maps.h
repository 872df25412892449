/* What inference does to blocked maps besides convolutions. One call works on one plane (a block of one image). */
#ifndef DARKBN_BLOCKED_MAPS_H
#define DARKBN_BLOCKED_MAPS_H

#include <float.h>

#include "darkbn/blocked.h"

#define DARKBN_COLUMNS_AT_ONCE 1280 /* columns of a pooling line; more than the largest window */

/* `lanes` plain planes, `plane` floats apart, to one block; the other lanes become zero. */
static void darkbn_join_planes(const float *x, ptrdiff_t plane, ptrdiff_t lanes, ptrdiff_t pixels, float *to)
{
    for (ptrdiff_t p = 0; p < pixels; ++p)
        for (ptrdiff_t i = 0; i < DARKBN_BLOCK; ++i) to[p * DARKBN_BLOCK + i] = i < lanes ? x[i * plane + p] : 0.0f;
}

/* The first lanes of a block to plain planes. */
static void darkbn_split_planes(const float *x, ptrdiff_t plane, ptrdiff_t lanes, ptrdiff_t pixels, float *to)
{
    for (ptrdiff_t i = 0; i < lanes; ++i)
        for (ptrdiff_t p = 0; p < pixels; ++p) to[i * plane + p] = x[p * DARKBN_BLOCK + i];
}

/* Lane `from_lane` of x's pixels to lane `to_lane`, and `lanes` - 1 more. */
static void darkbn_move_lanes(const float *x, ptrdiff_t from_lane, float *to, ptrdiff_t to_lane, ptrdiff_t lanes,
                              ptrdiff_t pixels)
{
    if (lanes == DARKBN_BLOCK) {
        memcpy(to, x, (size_t)(pixels * DARKBN_BLOCK) * sizeof(float));
        return;
    }
    for (ptrdiff_t p = 0; p < pixels * DARKBN_BLOCK; p += DARKBN_BLOCK)
        for (ptrdiff_t i = 0; i < lanes; ++i) to[p + to_lane + i] = x[p + from_lane + i];
}

/* The geometry of windows; what lies `before` the first pixel of a line or column belongs to no image. */
typedef struct darkbn_pool {
    ptrdiff_t h, w, oh, ow, size, stride_y, stride_x, before;
} darkbn_pool;

/* The greater of two values; NaN never wins, as in Darknet. */
DARKBN_INLINE darkbn_wide darkbn_greater(darkbn_wide best, darkbn_wide x)
{
    return darkbn_wide_select(x > best, x, best);
}

/* One line of maxima: down the columns first, then along. */
static void darkbn_maxpool_line(const darkbn_pool *g, const float *plane, ptrdiff_t y, float *out)
{
    float columns[DARKBN_COLUMNS_AT_ONCE * DARKBN_BLOCK];
    const ptrdiff_t most = (DARKBN_COLUMNS_AT_ONCE - g->size) / g->stride_x + 1, line = g->w * DARKBN_BLOCK;
    const ptrdiff_t top = darkbn_most(y * g->stride_y - g->before, 0);
    const ptrdiff_t bottom = darkbn_least(y * g->stride_y - g->before + g->size, g->h);
    for (ptrdiff_t x0 = 0; x0 < g->ow; x0 += most) {
        const ptrdiff_t count = darkbn_least(most, g->ow - x0), start = x0 * g->stride_x - g->before;
        const ptrdiff_t left = darkbn_most(start, 0);
        const ptrdiff_t right = darkbn_least(start + (count - 1) * g->stride_x + g->size, g->w);
        for (ptrdiff_t x = left * DARKBN_BLOCK; x < right * DARKBN_BLOCK; x += DARKBN_W) {
            darkbn_wide best = (darkbn_wide){0} - FLT_MAX;
            for (ptrdiff_t i = top; i < bottom; ++i)
                best = darkbn_greater(best, darkbn_wide_load(plane + i * line + x));
            darkbn_wide_store(columns + x - left * DARKBN_BLOCK, best);
        }
        for (ptrdiff_t p = 0; p < count; ++p) {
            const ptrdiff_t first = darkbn_most(start + p * g->stride_x, left);
            const ptrdiff_t last = darkbn_least(start + p * g->stride_x + g->size, right);
            for (ptrdiff_t part = 0; part < DARKBN_BLOCK; part += DARKBN_W) {
                darkbn_wide best = (darkbn_wide){0} - FLT_MAX;
                for (ptrdiff_t j = first; j < last; ++j)
                    best = darkbn_greater(best, darkbn_wide_load(columns + (j - left) * DARKBN_BLOCK + part));
                darkbn_wide_store(out + (x0 + p) * DARKBN_BLOCK + part, best);
            }
        }
    }
}

/* The mean of each lane. */
static void darkbn_mean_lanes(const float *plane, ptrdiff_t pixels, float *out)
{
    double total[DARKBN_BLOCK] = {0};
    for (ptrdiff_t p = 0; p < pixels;) {
        const ptrdiff_t last = darkbn_least(p + 64, pixels);
        float sum[DARKBN_BLOCK] = {0};
        for (; p < last; ++p)
            for (int i = 0; i < DARKBN_BLOCK; ++i) sum[i] += plane[p * DARKBN_BLOCK + i];
        for (int i = 0; i < DARKBN_BLOCK; ++i) total[i] += sum[i];
    }
    for (int i = 0; i < DARKBN_BLOCK; ++i) out[i] = (float)(total[i] / (double)darkbn_most(pixels, 1));
}

/* One line of the source to `stride` lines of out. */
static void darkbn_upsample_line(const float *from, ptrdiff_t width, ptrdiff_t stride, float scale, float *out)
{
    const ptrdiff_t floats = width * stride * DARKBN_BLOCK;
    for (ptrdiff_t p = 0; p < width; ++p)
        for (ptrdiff_t part = 0; part < DARKBN_BLOCK; part += DARKBN_W) {
            const darkbn_wide value = scale * darkbn_wide_load(from + p * DARKBN_BLOCK + part);
            for (ptrdiff_t j = 0; j < stride; ++j)
                darkbn_wide_store(out + (p * stride + j) * DARKBN_BLOCK + part, value);
        }
    for (ptrdiff_t i = 1; i < stride; ++i) memcpy(out + i * floats, out, (size_t)floats * sizeof(float));
}

/* out = activation(x + y); out may be x or y. */
static void darkbn_add_pixels(const float *x, const float *y, float *out, ptrdiff_t pixels, int kind)
{
    const float slope = darkbn_slope(kind);
    for (ptrdiff_t i = 0; i < pixels * DARKBN_BLOCK; i += DARKBN_W) {
        const darkbn_wide sum = darkbn_wide_load(x + i) + darkbn_wide_load(y + i);
        darkbn_wide_store(out + i, slope >= 0 ? darkbn_bend(sum, slope) : sum);
    }
    if (slope < 0) darkbn_activate(out, out, pixels * DARKBN_BLOCK, kind);
}

/* How two maps of unequal sizes meet: every step-th line and column of one with every step-th of the other. */
typedef struct darkbn_meeting {
    ptrdiff_t rows, columns, row_step, column_step, other_row_step, other_column_step;
} darkbn_meeting;

static darkbn_meeting darkbn_meeting_of(ptrdiff_t h, ptrdiff_t w, ptrdiff_t other_h, ptrdiff_t other_w)
{
    darkbn_meeting m = {darkbn_least(h, other_h), darkbn_least(w, other_w), 1, 1, 1, 1};
    if (m.rows * m.columns == 0) return m;
    m.row_step = darkbn_most(h / other_h, 1);
    m.column_step = darkbn_most(w / other_w, 1);
    m.other_row_step = darkbn_most(other_h / h, 1);
    m.other_column_step = darkbn_most(other_w / w, 1);
    return m;
}

/* One line of out = activation(x), with alpha * x + beta * y in the first `lanes` lanes where y, a line that meets x or
 * NULL, has a pixel. out may be x. */
static void darkbn_meet_line(const darkbn_meeting *m, const float *x, const float *y, float *out, ptrdiff_t width,
                             ptrdiff_t lanes, float alpha, float beta, int kind)
{
    if (out != x) memcpy(out, x, (size_t)(width * DARKBN_BLOCK) * sizeof(float));
    for (ptrdiff_t p = 0; y && p < m->columns; ++p) {
        float *to = out + p * m->column_step * DARKBN_BLOCK;
        const float *from = y + p * m->other_column_step * DARKBN_BLOCK;
        for (ptrdiff_t i = 0; i < lanes; ++i) to[i] = alpha * to[i] + beta * from[i];
    }
    darkbn_activate(out, out, width * DARKBN_BLOCK, kind);
}

/* out = activation(x * scales), a scale a lane; out may be x. */
static void darkbn_scale_pixels(const float *x, const float *scales, float *out, ptrdiff_t pixels, int kind)
{
    const float slope = darkbn_slope(kind);
    for (ptrdiff_t part = 0; part < DARKBN_BLOCK; part += DARKBN_W) {
        const darkbn_wide scale = darkbn_wide_load(scales + part);
        for (ptrdiff_t i = part; i < pixels * DARKBN_BLOCK; i += DARKBN_BLOCK) {
            const darkbn_wide value = scale * darkbn_wide_load(x + i);
            darkbn_wide_store(out + i, slope >= 0 ? darkbn_bend(value, slope) : value);
        }
    }
    if (slope < 0) darkbn_activate(out, out, pixels * DARKBN_BLOCK, kind);
}

#endif
