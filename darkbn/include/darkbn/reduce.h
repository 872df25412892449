/* Sums that do not depend on the number of threads: sixteen float lanes over blocks of 1024 values, each block widened
 * to double. */
#ifndef DARKBN_REDUCE_H
#define DARKBN_REDUCE_H

#include <stddef.h>

#include "lanes.h"

#define DARKBN_BLOCK 1024

/* Sum of n floats. */
static inline double darkbn_sum(const float *x, ptrdiff_t n)
{
    double total = 0;
    for (ptrdiff_t start = 0; start < n; start += DARKBN_BLOCK) {
        const ptrdiff_t count = n - start < DARKBN_BLOCK ? n - start : DARKBN_BLOCK;
        const float *block = x + start;
        darkbn_lanes sum = {{{0}}};
        ptrdiff_t i = 0;
        for (; i + DARKBN_LANES <= count; i += DARKBN_LANES)
            for (int p = 0; p < DARKBN_PARTS; ++p) sum.part[p] += DARKBN_LOAD(block + i, p);
        if (i < count) {
            const darkbn_lanes rest = darkbn_load_rest(block + i, count - i, 0.0f);
            for (int p = 0; p < DARKBN_PARTS; ++p) sum.part[p] += rest.part[p];
        }
        total += darkbn_sum_lanes(sum);
    }
    return total;
}

/* Sum of the products of n pairs of floats. */
static inline double darkbn_dot(const float *x, const float *y, ptrdiff_t n)
{
    double total = 0;
    for (ptrdiff_t start = 0; start < n; start += DARKBN_BLOCK) {
        const ptrdiff_t count = n - start < DARKBN_BLOCK ? n - start : DARKBN_BLOCK;
        darkbn_lanes sum = {{{0}}};
        ptrdiff_t i = start;
        for (; i + DARKBN_LANES <= start + count; i += DARKBN_LANES)
            for (int p = 0; p < DARKBN_PARTS; ++p) sum.part[p] += DARKBN_LOAD(x + i, p) * DARKBN_LOAD(y + i, p);
        if (i < start + count) {
            const ptrdiff_t left = start + count - i;
            const darkbn_lanes a = darkbn_load_rest(x + i, left, 0.0f), b = darkbn_load_rest(y + i, left, 0.0f);
            for (int p = 0; p < DARKBN_PARTS; ++p) sum.part[p] += a.part[p] * b.part[p];
        }
        total += darkbn_sum_lanes(sum);
    }
    return total;
}

#define DARKBN_SUM_COLUMNS 128

/* Sums of up to DARKBN_SUM_COLUMNS columns of a (rows, step) matrix: floats over 64 rows, widened to double. */
static inline void darkbn_sum_columns(const float *x, ptrdiff_t rows, ptrdiff_t step, int columns, double *sums)
{
    for (int i = 0; i < columns; ++i) sums[i] = 0;
    for (ptrdiff_t start = 0; start < rows; start += 64) {
        const ptrdiff_t end = rows - start < 64 ? rows : start + 64;
        float sum[DARKBN_SUM_COLUMNS] = {0};
        for (ptrdiff_t row = start; row < end; ++row)
            for (int i = 0; i < columns; ++i) sum[i] += x[row * step + i];
        for (int i = 0; i < columns; ++i) sums[i] += sum[i];
    }
}

#endif
