/* Products of rows of floats. */
#ifndef DARKBN_PRODUCTS_H
#define DARKBN_PRODUCTS_H

#include <stddef.h>

static inline void darkbn_scale(const float *restrict x, float scale, ptrdiff_t n, float *restrict out)
{
    for (ptrdiff_t i = 0; i < n; ++i) out[i] = x[i] * scale;
}

static inline void darkbn_scale_add(const float *restrict x, float scale, ptrdiff_t n, float *restrict out)
{
    for (ptrdiff_t i = 0; i < n; ++i) out[i] += x[i] * scale;
}

static inline void darkbn_multiply(const float *restrict x, const float *restrict y, ptrdiff_t n, float *restrict out)
{
    for (ptrdiff_t i = 0; i < n; ++i) out[i] = x[i] * y[i];
}

static inline void darkbn_multiply_add(const float *restrict x, const float *restrict y, ptrdiff_t n,
                                       float *restrict out)
{
    for (ptrdiff_t i = 0; i < n; ++i) out[i] += x[i] * y[i];
}

/* Pixels of a map that are worked on together, channel by channel: long enough for the memory, short enough for the
 * first-level cache. */
#define DARKBN_PIXELS 256

/* sums[i] = x * y summed over channels that lie `step` apart, for n <= DARKBN_PIXELS pixels: in floats for 16 channels,
 * then widened. */
static inline void darkbn_pixel_dots(const float *x, const float *y, ptrdiff_t channels, ptrdiff_t step, ptrdiff_t n,
                                     double *restrict sums)
{
    float part[DARKBN_PIXELS];
    for (ptrdiff_t i = 0; i < n; ++i) sums[i] = 0;
    for (ptrdiff_t start = 0; start < channels; start += 16) {
        const ptrdiff_t end = start + 16 < channels ? start + 16 : channels;
        for (ptrdiff_t i = 0; i < n; ++i) part[i] = 0;
        for (ptrdiff_t k = start; k < end; ++k) {
            const float *restrict a = x + k * step, *restrict b = y + k * step;
            for (ptrdiff_t i = 0; i < n; ++i) part[i] += a[i] * b[i];
        }
        for (ptrdiff_t i = 0; i < n; ++i) sums[i] += part[i];
    }
}

/* out += those sums. */
static inline void darkbn_pixel_dots_add(const float *x, const float *y, ptrdiff_t channels, ptrdiff_t step,
                                         ptrdiff_t n, float *restrict out)
{
    double sums[DARKBN_PIXELS];
    darkbn_pixel_dots(x, y, channels, step, n, sums);
    for (ptrdiff_t i = 0; i < n; ++i) out[i] += (float)sums[i];
}

#endif
