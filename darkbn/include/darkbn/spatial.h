/* Rows that are spread, gathered or merged in steps of `stride`. Stride 2, the common one, is written out with the step
 * as a constant: only then do the loops become shuffles of whole vectors. */
#ifndef DARKBN_SPATIAL_H
#define DARKBN_SPATIAL_H

#include <stddef.h>

/* out[i*stride + k] = scale * x[i] for every k < stride; added to out when `add`. */
static void darkbn_repeat_row(const float *restrict x, ptrdiff_t n, ptrdiff_t stride, float scale, int add,
                              float *restrict out)
{
    if (stride == 2 && add) {
        for (ptrdiff_t i = 0; i < n; ++i) {
            const float value = scale * x[i];
            out[2 * i] += value;
            out[2 * i + 1] += value;
        }
    } else if (stride == 2) {
        for (ptrdiff_t i = 0; i < n; ++i) out[2 * i] = out[2 * i + 1] = scale * x[i];
    } else {
        for (ptrdiff_t i = 0; i < n; ++i)
            for (ptrdiff_t k = 0; k < stride; ++k)
                out[i * stride + k] = (add ? out[i * stride + k] : 0) + scale * x[i];
    }
}

/* out[i] = scale * the sum of block i: `stride` rows, `pitch` apart, of `stride` values; added to out when `add`. */
static void darkbn_sum_blocks(const float *restrict x, ptrdiff_t pitch, ptrdiff_t n, ptrdiff_t stride, float scale,
                              int add, float *restrict out)
{
    if (stride == 2 && add) {
        for (ptrdiff_t i = 0; i < n; ++i)
            out[i] += scale * ((x[2 * i] + x[2 * i + 1]) + (x[pitch + 2 * i] + x[pitch + 2 * i + 1]));
    } else if (stride == 2) {
        for (ptrdiff_t i = 0; i < n; ++i)
            out[i] = scale * ((x[2 * i] + x[2 * i + 1]) + (x[pitch + 2 * i] + x[pitch + 2 * i + 1]));
    } else {
        for (ptrdiff_t i = 0; i < n; ++i) {
            double sum = 0;
            for (ptrdiff_t row = 0; row < stride; ++row)
                for (ptrdiff_t k = 0; k < stride; ++k) sum += x[row * pitch + i * stride + k];
            out[i] = (add ? out[i] : 0) + scale * (float)sum;
        }
    }
}

/* Row k of out, `step` apart, = every stride-th value of x from k on; added to out when `add`. */
static void darkbn_unzip_row(const float *restrict x, ptrdiff_t n, ptrdiff_t stride, ptrdiff_t step, int add,
                             float *restrict out)
{
    if (stride == 2 && add) {
        for (ptrdiff_t i = 0; i < n; ++i) out[i] += x[2 * i];
        for (ptrdiff_t i = 0; i < n; ++i) out[step + i] += x[2 * i + 1];
    } else if (stride == 2) {
        for (ptrdiff_t i = 0; i < n; ++i) out[i] = x[2 * i];
        for (ptrdiff_t i = 0; i < n; ++i) out[step + i] = x[2 * i + 1];
    } else {
        for (ptrdiff_t k = 0; k < stride; ++k)
            for (ptrdiff_t i = 0; i < n; ++i)
                out[k * step + i] = (add ? out[k * step + i] : 0) + x[i * stride + k];
    }
}

/* Every stride-th value of out from k on = row k of x, `step` apart; added to out when `add`. */
static void darkbn_zip_row(const float *restrict x, ptrdiff_t n, ptrdiff_t stride, ptrdiff_t step, int add,
                           float *restrict out)
{
    if (stride == 2 && add) {
        for (ptrdiff_t i = 0; i < n; ++i) {
            out[2 * i] += x[i];
            out[2 * i + 1] += x[step + i];
        }
    } else if (stride == 2) {
        for (ptrdiff_t i = 0; i < n; ++i) {
            out[2 * i] = x[i];
            out[2 * i + 1] = x[step + i];
        }
    } else {
        for (ptrdiff_t k = 0; k < stride; ++k)
            for (ptrdiff_t i = 0; i < n; ++i)
                out[i * stride + k] = (add ? out[i * stride + k] : 0) + x[k * step + i];
    }
}

#endif
