/* Convolutions with weights of their own at every place: what is done at one place.
 *
 * A patch is the c*k*k pixels under the window of one sample; the patches of all samples lie one after the other.
 */
#ifndef DARKBN_LOCAL_H
#define DARKBN_LOCAL_H

#include <stddef.h>
#include <string.h>

#include "darkbn/reduce.h"

/* Sizes of a layer, and the corner of a window, which may lie outside the image. */
typedef struct {
    ptrdiff_t c, h, w, k, n, places, top, left;
} darkbn_local;

/* The pixels that the window covers, zeros outside the image. */
static inline void darkbn_local_gather(const darkbn_local *g, const float *x, float *restrict patch)
{
    const ptrdiff_t from = g->left < 0 ? -g->left : 0, room = g->w - g->left;
    const ptrdiff_t to = room < g->k ? room : g->k;
    for (ptrdiff_t channel = 0; channel < g->c; ++channel) {
        for (ptrdiff_t i = 0; i < g->k; ++i, patch += g->k) {
            const ptrdiff_t row = g->top + i;
            if (row < 0 || row >= g->h) {
                memset(patch, 0, (size_t)g->k * sizeof *patch);
                continue;
            }
            const float *line = x + (channel * g->h + row) * g->w + g->left;
            for (ptrdiff_t j = 0; j < g->k; ++j) patch[j] = j >= from && j < to ? line[j] : 0;
        }
    }
}

/* Adds a patch of `channels` channels to the pixels it covers; those outside the image are dropped. */
static inline void darkbn_local_scatter(const darkbn_local *g, ptrdiff_t channels, const float *patch, float *x)
{
    const ptrdiff_t from = g->left < 0 ? -g->left : 0, room = g->w - g->left;
    const ptrdiff_t to = room < g->k ? room : g->k;
    for (ptrdiff_t channel = 0; channel < channels; ++channel) {
        for (ptrdiff_t i = 0; i < g->k; ++i, patch += g->k) {
            const ptrdiff_t row = g->top + i;
            if (row < 0 || row >= g->h) continue;
            float *line = x + (channel * g->h + row) * g->w + g->left;
            for (ptrdiff_t j = from; j < to; ++j) line[j] += patch[j];
        }
    }
}

/* Scalar products of one row with four patches that lie `step` apart, each as darkbn_dot computes it. */
static inline void darkbn_dot4(const float *row, const float *patch, ptrdiff_t step, ptrdiff_t n, double total[4])
{
    for (int s = 0; s < 4; ++s) total[s] = 0;
    for (ptrdiff_t start = 0; start < n; start += DARKBN_BLOCK) {
        const ptrdiff_t end = n - start < DARKBN_BLOCK ? n : start + DARKBN_BLOCK;
        darkbn_lanes sum[4] = {{{{0}}}};
        ptrdiff_t i = start;
        for (; i + DARKBN_LANES <= end; i += DARKBN_LANES)
            for (int s = 0; s < 4; ++s)
                for (int p = 0; p < DARKBN_PARTS; ++p)
                    sum[s].part[p] += DARKBN_LOAD(row + i, p) * DARKBN_LOAD(patch + s * step + i, p);
        if (i < end) {
            const darkbn_lanes a = darkbn_load_rest(row + i, end - i, 0.0f);
            for (int s = 0; s < 4; ++s) {
                const darkbn_lanes b = darkbn_load_rest(patch + s * step + i, end - i, 0.0f);
                for (int p = 0; p < DARKBN_PARTS; ++p) sum[s].part[p] += a.part[p] * b.part[p];
            }
        }
        for (int s = 0; s < 4; ++s) total[s] += darkbn_sum_lanes(sum[s]);
    }
}

/* out of one place for every sample: its biases plus weights (n, c*k*k) times the patches. Each row of weights is read
 * once from memory. `out` and `biases` point to the place in the first map. */
static inline void darkbn_local_forward(const darkbn_local *g, ptrdiff_t batch, const float *weights,
                                        const float *biases, const float *patches, float *out)
{
    const ptrdiff_t length = g->c * g->k * g->k, sample = g->n * g->places;
    for (ptrdiff_t filter = 0; filter < g->n; ++filter) {
        const float *row = weights + filter * length;
        const double bias = biases[filter * g->places];
        float *target = out + filter * g->places;
        ptrdiff_t b = 0;
        for (; b + 4 <= batch; b += 4) {
            double total[4];
            darkbn_dot4(row, patches + b * length, length, length, total);
            for (int s = 0; s < 4; ++s) target[(b + s) * sample] = (float)(bias + total[s]);
        }
        for (; b < batch; ++b) target[b * sample] = (float)(bias + darkbn_dot(row, patches + b * length, length));
    }
}

/* row += factors times four rows that lie `step` apart. */
static inline void darkbn_axpy4(const float factor[4], const float *rows, ptrdiff_t step, ptrdiff_t n,
                                float *restrict row)
{
    const float *r0 = rows, *r1 = rows + step, *r2 = rows + 2 * step, *r3 = rows + 3 * step;
    const float f0 = factor[0], f1 = factor[1], f2 = factor[2], f3 = factor[3];
    for (ptrdiff_t i = 0; i < n; ++i) row[i] += (f0 * r0[i] + f1 * r1[i]) + (f2 * r2[i] + f3 * r3[i]);
}

/* row += the sum of count rows that lie `step` apart, times factors that lie `skip` apart. */
static inline void darkbn_combine(const float *factors, ptrdiff_t skip, const float *rows, ptrdiff_t step,
                                  ptrdiff_t count, ptrdiff_t n, float *restrict row)
{
    ptrdiff_t m = 0;
    for (; m + 4 <= count; m += 4) {
        const float four[4] = {factors[m * skip], factors[(m + 1) * skip], factors[(m + 2) * skip],
                               factors[(m + 3) * skip]};
        darkbn_axpy4(four, rows + m * step, step, n, row);
    }
    for (; m < count; ++m) {
        const float factor = factors[m * skip], *from = rows + m * step;
        for (ptrdiff_t i = 0; i < n; ++i) row[i] += factor * from[i];
    }
}

/* Updates of the weights of one place. `delta` points to the place in the first map. */
static inline void darkbn_local_weights(const darkbn_local *g, ptrdiff_t batch, const float *delta,
                                        const float *patches, float *updates)
{
    const ptrdiff_t length = g->c * g->k * g->k;
    for (ptrdiff_t filter = 0; filter < g->n; ++filter)
        darkbn_combine(delta + filter * g->places, g->n * g->places, patches, length, batch, length,
                       updates + filter * length);
}

#endif
