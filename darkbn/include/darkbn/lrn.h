/* Normalization over the channels of a block of neighbouring pixels. Channels lie `step` floats apart. */
#ifndef DARKBN_LRN_H
#define DARKBN_LRN_H

#include <math.h>
#include <stddef.h>

#include "darkbn/products.h"

/* out = x^-beta. Quarters up to 2, as the usual 0.75, are roots and products, which vectorize. */
static inline void darkbn_inverse_power(const float *restrict x, ptrdiff_t n, float beta, float *restrict out)
{
    const int quarters = (int)(4 * beta);
    if (quarters != 4 * beta || quarters < 1 || quarters > 8) {
        for (ptrdiff_t i = 0; i < n; ++i) out[i] = powf(x[i], -beta);
        return;
    }
    const int quarter = quarters & 1, half = quarters & 2, whole = quarters >> 2;
    for (ptrdiff_t i = 0; i < n; ++i) {
        const float root = half || quarter ? sqrtf(x[i]) : 1.0f;
        const float power = (half ? root : 1.0f) * (quarter ? sqrtf(root) : 1.0f);
        out[i] = 1.0f / (whole == 2 ? x[i] * x[i] : whole == 1 ? power * x[i] : power);
    }
}

/* The channels first <= j < last of a window of size channels that begins at k - before. */
typedef struct {
    ptrdiff_t first, last;
} darkbn_channel_window;

static inline darkbn_channel_window darkbn_window_of(ptrdiff_t k, ptrdiff_t before, ptrdiff_t size, ptrdiff_t channels)
{
    const ptrdiff_t start = k - before, end = start + size;
    const darkbn_channel_window window = {start < 0 ? 0 : start, end < channels ? end : channels};
    return window;
}

/* sums = x[j]^2 over the window of channel k, without channel size/2 (which is subtracted where it lies outside). */
static inline void darkbn_window_squares(const float *x, ptrdiff_t channels, ptrdiff_t step, ptrdiff_t n, ptrdiff_t k,
                                         ptrdiff_t size, float *restrict sums)
{
    const ptrdiff_t left_out = size / 2;
    const darkbn_channel_window window = darkbn_window_of(k, (size - 1) / 2, size, channels);
    for (ptrdiff_t i = 0; i < n; ++i) sums[i] = 0;
    for (ptrdiff_t j = window.first; j < window.last; ++j) {
        const float *restrict at = x + j * step;
        if (j == left_out) continue;
        for (ptrdiff_t i = 0; i < n; ++i) sums[i] += at[i] * at[i];
    }
    if (left_out < channels && (left_out < window.first || left_out >= window.last)) {
        const float *restrict at = x + left_out * step;
        for (ptrdiff_t i = 0; i < n; ++i) sums[i] -= at[i] * at[i];
    }
}

/* norms may be NULL. */
static inline void darkbn_lrn(const float *x, float *norms, float *out, ptrdiff_t channels, ptrdiff_t step,
                              ptrdiff_t n, ptrdiff_t size, float alpha, float beta, float kappa)
{
    float norm[DARKBN_PIXELS], power[DARKBN_PIXELS];
    for (ptrdiff_t k = 0; k < channels; ++k) {
        const float *restrict at = x + k * step;
        float *restrict target = out + k * step;
        darkbn_window_squares(x, channels, step, n, k, size, norm);
        for (ptrdiff_t i = 0; i < n; ++i) norm[i] = kappa + alpha * norm[i];
        darkbn_inverse_power(norm, n, beta, power);
        for (ptrdiff_t i = 0; i < n; ++i) target[i] = at[i] * power[i];
        if (norms)
            for (ptrdiff_t i = 0; i < n; ++i) norms[k * step + i] = norm[i];
    }
}

/* through: room for channels * DARKBN_PIXELS floats, the change that each channel's norm makes. */
static inline void darkbn_lrn_gradient(const float *x, const float *norms, const float *delta, float *input_delta,
                                       float *through, ptrdiff_t channels, ptrdiff_t step, ptrdiff_t n,
                                       ptrdiff_t size, float alpha, float beta)
{
    double everything[DARKBN_PIXELS] = {0};
    float sums[DARKBN_PIXELS];
    const float factor = 2 * alpha * beta;
    for (ptrdiff_t k = 0; k < channels; ++k) {
        const float *restrict at = x + k * step, *restrict change = delta + k * step;
        const float *restrict norm = norms + k * step;
        float *restrict target = input_delta + k * step, *restrict share = through + k * DARKBN_PIXELS;
        darkbn_inverse_power(norm, n, beta, share);
        for (ptrdiff_t i = 0; i < n; ++i) {
            const float part = change[i] * share[i];
            target[i] += part;
            share[i] = part * at[i] / norm[i];
        }
        for (ptrdiff_t i = 0; i < n; ++i) everything[i] += share[i];
    }
    for (ptrdiff_t j = 0; j < channels; ++j) {
        /* The channels in whose window j lies. */
        const darkbn_channel_window window = darkbn_window_of(j, size / 2, size, channels);
        const float *restrict at = x + j * step;
        float *restrict target = input_delta + j * step;
        for (ptrdiff_t i = 0; i < n; ++i) sums[i] = 0;
        for (ptrdiff_t k = window.first; k < window.last; ++k) {
            const float *restrict share = through + k * DARKBN_PIXELS;
            for (ptrdiff_t i = 0; i < n; ++i) sums[i] += share[i];
        }
        if (j == size / 2)
            for (ptrdiff_t i = 0; i < n; ++i) sums[i] = (float)(sums[i] - everything[i]);
        for (ptrdiff_t i = 0; i < n; ++i) target[i] -= factor * at[i] * sums[i];
    }
}

/* lengths = 1 / length of each pixel's vector, 0 for zero vectors. */
static inline void darkbn_inverse_lengths(const float *x, ptrdiff_t channels, ptrdiff_t step, ptrdiff_t n,
                                          float *restrict lengths)
{
    double sums[DARKBN_PIXELS];
    darkbn_pixel_dots(x, x, channels, step, n, sums);
    for (ptrdiff_t i = 0; i < n; ++i) lengths[i] = (float)(sums[i] > 0 ? 1 / sqrt(sums[i]) : 0);
}

static inline void darkbn_l2norm(const float *x, float *out, ptrdiff_t channels, ptrdiff_t step, ptrdiff_t n)
{
    float inverse[DARKBN_PIXELS];
    darkbn_inverse_lengths(x, channels, step, n, inverse);
    for (ptrdiff_t k = 0; k < channels; ++k) darkbn_multiply(x + k * step, inverse, n, out + k * step);
}

static inline void darkbn_l2norm_gradient(const float *x, const float *delta, float *input_delta, ptrdiff_t channels,
                                          ptrdiff_t step, ptrdiff_t n)
{
    double along[DARKBN_PIXELS];
    float inverse[DARKBN_PIXELS], back[DARKBN_PIXELS];
    darkbn_inverse_lengths(x, channels, step, n, inverse);
    darkbn_pixel_dots(x, delta, channels, step, n, along);
    for (ptrdiff_t i = 0; i < n; ++i) back[i] = (float)along[i] * inverse[i] * inverse[i];
    for (ptrdiff_t k = 0; k < channels; ++k) {
        const float *restrict at = x + k * step, *restrict change = delta + k * step;
        float *restrict target = input_delta + k * step;
        for (ptrdiff_t i = 0; i < n; ++i) target[i] += (change[i] - at[i] * back[i]) * inverse[i];
    }
}

#endif
