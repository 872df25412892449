/* Softmax and Darknet's channel normalizations, of rows and of tiles of columns. `out` may be `x`.
 *
 * A tile is up to DARKBN_TILE neighbouring columns of an (n, stride) matrix: the channels of some pixels. */
#ifndef DARKBN_SOFTMAX_H
#define DARKBN_SOFTMAX_H

#include <stddef.h>

#include "activations.h"
#include "loops.h"
#include "reduce.h"

#define DARKBN_TILE 128

/* Largest of n > 0 values; NaNs are passed over. */
static inline float darkbn_largest(const float *x, ptrdiff_t n)
{
    float lane[DARKBN_LANES], largest = x[0];
    ptrdiff_t i = 0;
    for (int k = 0; k < DARKBN_LANES; ++k) lane[k] = x[0];
    for (; i + DARKBN_LANES <= n; i += DARKBN_LANES)
        for (int k = 0; k < DARKBN_LANES; ++k) lane[k] = x[i + k] > lane[k] ? x[i + k] : lane[k];
    for (; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
    for (int k = 0; k < DARKBN_LANES; ++k) largest = lane[k] > largest ? lane[k] : largest;
    return largest;
}

/* out = softmax(x / temperature) of n values. */
static inline void darkbn_softmax_row(const float *x, float *out, ptrdiff_t n, float inverse_temperature)
{
    const float largest = darkbn_largest(x, n);
    DARKBN_INDEPENDENT
    for (ptrdiff_t i = 0; i < n; ++i) out[i] = darkbn_exp((x[i] - largest) * inverse_temperature);
    const float scale = (float)(1.0 / darkbn_sum(out, n));
    for (ptrdiff_t i = 0; i < n; ++i) out[i] *= scale;
}

/* The softmax of each of some groups that follow each other. */
static inline void darkbn_softmax_groups(
    const float *x, float *out, const int *sizes, ptrdiff_t groups, float inverse_temperature)
{
    for (ptrdiff_t g = 0; g < groups; x += sizes[g], out += sizes[g], ++g)
        darkbn_softmax_row(x, out, sizes[g], inverse_temperature);
}

static inline void darkbn_largest_of_columns(const float *x, ptrdiff_t n, ptrdiff_t stride, int count, float *largest)
{
    for (int i = 0; i < count; ++i) largest[i] = x[i];
    for (ptrdiff_t k = 1; k < n; ++k) {
        const float *row = x + k * stride;
        for (int i = 0; i < count; ++i) largest[i] = row[i] > largest[i] ? row[i] : largest[i];
    }
}

/* out = exp((x - shift) * factor), divided by epsilon + its sum over the rows. */
static inline void darkbn_exp_columns(
    const float *x, float *out, ptrdiff_t n, ptrdiff_t stride, int count, const float *shift, float factor, double epsilon)
{
    double sum[DARKBN_TILE];
    float scale[DARKBN_TILE];
    for (int i = 0; i < count; ++i) sum[i] = epsilon;
    for (ptrdiff_t k = 0; k < n; ++k) {
        const float *row = x + k * stride;
        float *to = out + k * stride;
        DARKBN_INDEPENDENT
        for (int i = 0; i < count; ++i) to[i] = darkbn_exp((row[i] - shift[i]) * factor);
        for (int i = 0; i < count; ++i) sum[i] += to[i];
    }
    for (int i = 0; i < count; ++i) scale[i] = (float)(1.0 / sum[i]);
    for (ptrdiff_t k = 0; k < n; ++k) {
        float *to = out + k * stride;
        for (int i = 0; i < count; ++i) to[i] *= scale[i];
    }
}

/* out = softmax(x / temperature) over the n rows, for each of count columns. */
static inline void darkbn_softmax_columns(
    const float *x, float *out, ptrdiff_t n, ptrdiff_t stride, int count, float inverse_temperature)
{
    float largest[DARKBN_TILE];
    darkbn_largest_of_columns(x, n, stride, count, largest);
    darkbn_exp_columns(x, out, n, stride, count, largest, inverse_temperature, 0.0);
}

/* out = max(x, 0) / (epsilon + its sum over the rows). */
static inline void darkbn_normalize_channels_columns(
    const float *x, float *out, ptrdiff_t n, ptrdiff_t stride, int count)
{
    double sum[DARKBN_TILE];
    float scale[DARKBN_TILE];
    for (int i = 0; i < count; ++i) sum[i] = DARKBN_CHANNEL_EPSILON;
    for (ptrdiff_t k = 0; k < n; ++k)
        for (int i = 0; i < count; ++i) sum[i] += darkbn_relu(x[k * stride + i]);
    for (int i = 0; i < count; ++i) scale[i] = (float)(1.0 / sum[i]);
    for (ptrdiff_t k = 0; k < n; ++k) {
        DARKBN_INDEPENDENT
        for (int i = 0; i < count; ++i) out[k * stride + i] = scale[i] * darkbn_relu(x[k * stride + i]);
    }
}

/* A channel activation of a tile. */
static inline void darkbn_activate_channels(
    const float *x, float *out, ptrdiff_t n, ptrdiff_t stride, int count, int kind)
{
    float shift[DARKBN_TILE] = {0};
    if (kind == DARKBN_NORMALIZE_CHANNELS) {
        darkbn_normalize_channels_columns(x, out, n, stride, count);
        return;
    }
    if (kind == DARKBN_NORMALIZE_CHANNELS_SOFTMAX_MAXVAL) darkbn_largest_of_columns(x, n, stride, count, shift);
    darkbn_exp_columns(x, out, n, stride, count, shift, 1.0f, DARKBN_CHANNEL_EPSILON);
}

/* y = max(x, 0) / sum: delta <- (delta - sum(delta*y)) / sum where x > 0, else 0. */
static inline void darkbn_normalize_channels_gradient(
    const float *x, float *delta, ptrdiff_t n, ptrdiff_t stride, int count)
{
    double sum[DARKBN_TILE], product[DARKBN_TILE];
    float scale[DARKBN_TILE], common[DARKBN_TILE];
    for (int i = 0; i < count; ++i) {
        sum[i] = DARKBN_CHANNEL_EPSILON;
        product[i] = 0;
    }
    for (ptrdiff_t k = 0; k < n; ++k)
        for (int i = 0; i < count; ++i) {
            const float positive = darkbn_relu(x[k * stride + i]);
            sum[i] += positive;
            product[i] += positive * delta[k * stride + i];
        }
    for (int i = 0; i < count; ++i) {
        scale[i] = (float)(1.0 / sum[i]);
        common[i] = (float)(product[i] / sum[i]);
    }
    for (ptrdiff_t k = 0; k < n; ++k) {
        const float *row = x + k * stride;
        float *to = delta + k * stride;
        DARKBN_INDEPENDENT
        for (int i = 0; i < count; ++i) to[i] = row[i] > 0.0f ? (to[i] - common[i]) * scale[i] : 0.0f;
    }
}

/* y = exp(x - m) / (epsilon + sum): delta <- y * (delta - sum(delta*y)). Where m is the largest x (first of equals), the
 * denominator depends on m through epsilon too: that row also loses sum(delta*y) * epsilon / denominator, and the last
 * factor is 1 - sum(y). */
static inline void darkbn_channels_softmax_gradient(
    const float *y, float *delta, ptrdiff_t n, ptrdiff_t stride, int count, int shifted)
{
    double sum[DARKBN_TILE] = {0}, product[DARKBN_TILE] = {0};
    float common[DARKBN_TILE], largest[DARKBN_TILE];
    int first[DARKBN_TILE] = {0};
    for (int i = 0; i < count; ++i) largest[i] = y[i];
    for (ptrdiff_t k = 0; k < n; ++k) {
        const float *row = y + k * stride, *from = delta + k * stride;
        for (int i = 0; i < count; ++i) {
            sum[i] += row[i];
            product[i] += row[i] * from[i];
            first[i] = row[i] > largest[i] ? (int)k : first[i];
            largest[i] = row[i] > largest[i] ? row[i] : largest[i];
        }
    }
    for (int i = 0; i < count; ++i) common[i] = (float)product[i];
    for (ptrdiff_t k = 0; k < n; ++k) {
        const float *row = y + k * stride;
        float *to = delta + k * stride;
        DARKBN_INDEPENDENT
        for (int i = 0; i < count; ++i) to[i] = row[i] * (to[i] - common[i]);
    }
    for (int i = 0; shifted && i < count; ++i)
        delta[first[i] * stride + i] -= (float)(product[i] * (1.0 - sum[i]));
}

/* delta *= gradient of a channel activation of a tile; values: its input for normalize_channels, else its output. */
static inline void darkbn_channels_gradient(
    const float *values, float *delta, ptrdiff_t n, ptrdiff_t stride, int count, int kind)
{
    if (kind == DARKBN_NORMALIZE_CHANNELS)
        darkbn_normalize_channels_gradient(values, delta, n, stride, count);
    else
        darkbn_channels_softmax_gradient(
            values, delta, n, stride, count, kind == DARKBN_NORMALIZE_CHANNELS_SOFTMAX_MAXVAL);
}

#endif
