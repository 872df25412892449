/* Products with at most eight rows (or columns): a few vectors times a matrix, bound by reading the matrix once.
 *
 * result(i, j) = alpha * sum over p of vectors[i * k + p] * matrix(p, j) + beta * result(i, j), and results lie at
 * c[i * step_i + j * step_j], so that few columns are the same as few rows of the transposed product. */
#ifndef DARKBN_GEMM_SKINNY_H
#define DARKBN_GEMM_SKINNY_H

#include "darkbn/gemm_product.h"

enum { DARKBN_SKINNY = 8, DARKBN_DOT_BLOCK = 4096, DARKBN_CHUNK = 512 };

typedef struct darkbn_skinny {
    ptrdiff_t count, n, k; /* of vectors, of results of each, of terms of a sum */
    const float *vectors, *matrix;
    float alpha, beta;
    float *c;
    ptrdiff_t step_i, step_j;
} darkbn_skinny;

DARKBN_INLINE void darkbn_skinny_store(const darkbn_skinny *s, ptrdiff_t i, ptrdiff_t j, double sum)
{
    float *to = s->c + i * s->step_i + j * s->step_j;
    *to = (float)(s->beta == 0 ? s->alpha * sum : s->alpha * sum + (double)s->beta * *to);
}

/* Dot products of all vectors with `columns` lines of a matrix whose lines run along k; both numbers are constants. */
DARKBN_INLINE void darkbn_skinny_dots(const int count, const int columns, const darkbn_skinny *s, ptrdiff_t j)
{
    double total[DARKBN_SKINNY][8];
    for (int i = 0; i < count; ++i)
        for (int c = 0; c < columns; ++c) total[i][c] = 0;
    for (ptrdiff_t start = 0; start < s->k; start += DARKBN_DOT_BLOCK) {
        const ptrdiff_t length = darkbn_min(s->k - start, DARKBN_DOT_BLOCK);
        const float *left = s->vectors + start, *right = s->matrix + j * s->k + start;
        darkbn_vec acc[DARKBN_SKINNY][8];
#pragma GCC unroll 8
        for (int i = 0; i < count; ++i)
#pragma GCC unroll 8
            for (int c = 0; c < columns; ++c) acc[i][c] = darkbn_zero();
        ptrdiff_t p = 0;
        for (; p + DARKBN_V <= length; p += DARKBN_V) {
#pragma GCC unroll 8
            for (int c = 0; c < columns; ++c) {
                const darkbn_vec x = darkbn_load(right + c * s->k + p);
#pragma GCC unroll 8
                for (int i = 0; i < count; ++i) acc[i][c] += x * darkbn_load(left + i * s->k + p);
            }
        }
        for (int i = 0; i < count; ++i)
            for (int c = 0; c < columns; ++c) {
                float rest = darkbn_lanes_sum(acc[i][c]);
                for (ptrdiff_t q = p; q < length; ++q) rest += left[i * s->k + q] * right[c * s->k + q];
                total[i][c] += rest;
            }
    }
    for (int i = 0; i < count; ++i)
        for (int c = 0; c < columns; ++c) darkbn_skinny_store(s, i, j + c, total[i][c]);
}

/* Results [j, j + columns), where columns is at most what darkbn_dot_columns() says. */
static void darkbn_skinny_along(const darkbn_skinny *s, ptrdiff_t j, ptrdiff_t columns)
{
#define DARKBN_DOTS(COUNT, COLUMNS)                                              \
    if (s->count == COUNT) {                                                     \
        if (columns == COLUMNS)                                                  \
            darkbn_skinny_dots(COUNT, COLUMNS, s, j);                            \
        else                                                                     \
            for (ptrdiff_t c = 0; c < columns; ++c) darkbn_skinny_dots(COUNT, 1, s, j + c); \
        return;                                                                  \
    }
    DARKBN_DOTS(1, 8)
    DARKBN_DOTS(2, 4)
    DARKBN_DOTS(3, 2)
    DARKBN_DOTS(4, 2)
    DARKBN_DOTS(5, 1)
    DARKBN_DOTS(6, 1)
    DARKBN_DOTS(7, 1)
    DARKBN_DOTS(8, 1)
#undef DARKBN_DOTS
}

/* Lines of the matrix that are read together: eight sums at a time hide the latency of an addition. */
DARKBN_INLINE ptrdiff_t darkbn_dot_columns(ptrdiff_t count)
{
    return count == 1 ? 8 : count == 2 ? 4 : count <= 4 ? 2 : 1;
}

/* Results [j, j + width) of a matrix whose lines run along j: sums of multiples of pieces of its lines. */
static void darkbn_skinny_across(const darkbn_skinny *s, ptrdiff_t j, ptrdiff_t width)
{
    float total[DARKBN_SKINNY][DARKBN_CHUNK], block[DARKBN_SKINNY][DARKBN_CHUNK];
    for (ptrdiff_t i = 0; i < s->count; ++i) darkbn_clear(total[i], width);
    for (ptrdiff_t start = 0; start < s->k; start += DARKBN_DEPTH) {
        const ptrdiff_t end = darkbn_min(start + DARKBN_DEPTH, s->k);
        for (ptrdiff_t i = 0; i < s->count; ++i) darkbn_clear(block[i], width);
        ptrdiff_t p = start;
        for (; p + 4 <= end; p += 4) {
            const float *x = s->matrix + p * s->n + j;
            for (ptrdiff_t i = 0; i < s->count; ++i) {
                const float *restrict a = s->vectors + i * s->k + p;
                float *restrict to = block[i];
                const float a0 = a[0], a1 = a[1], a2 = a[2], a3 = a[3];
                for (ptrdiff_t c = 0; c < width; ++c) {
                    float sum = to[c];
                    sum += a0 * x[c];
                    sum += a1 * x[c + s->n];
                    sum += a2 * x[c + 2 * s->n];
                    sum += a3 * x[c + 3 * s->n];
                    to[c] = sum;
                }
            }
        }
        for (; p < end; ++p) {
            const float *x = s->matrix + p * s->n + j;
            for (ptrdiff_t i = 0; i < s->count; ++i) {
                float *restrict to = block[i];
                const float a = s->vectors[i * s->k + p];
                for (ptrdiff_t c = 0; c < width; ++c) to[c] += a * x[c];
            }
        }
        for (ptrdiff_t i = 0; i < s->count; ++i)
            for (ptrdiff_t c = 0; c < width; ++c) total[i][c] += block[i][c];
    }
    for (ptrdiff_t i = 0; i < s->count; ++i)
        for (ptrdiff_t c = 0; c < width; ++c) darkbn_skinny_store(s, i, j + c, total[i][c]);
}

/* `along`: the matrix is (n, k), else (k, n). */
static void darkbn_skinny_run(const darkbn_skinny *s, int along, int threads)
{
    if ((double)s->n * s->k < 32768) threads = 1;
    if (along) {
        const ptrdiff_t columns = darkbn_dot_columns(s->count), tasks = darkbn_pieces(s->n, columns);
#pragma omp parallel for schedule(static) num_threads(threads)
        for (ptrdiff_t task = 0; task < tasks; ++task)
            darkbn_skinny_along(s, task * columns, darkbn_min(columns, s->n - task * columns));
        return;
    }
    /* Chunks are whole vectors, so that the loop over the last columns is the same for every number of threads. */
    const ptrdiff_t share = darkbn_round_up(darkbn_pieces(s->n, 2 * (ptrdiff_t)threads), 64);
    const ptrdiff_t width = darkbn_min(share, DARKBN_CHUNK), tasks = darkbn_pieces(s->n, width);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (ptrdiff_t task = 0; task < tasks; ++task)
        darkbn_skinny_across(s, task * width, darkbn_min(width, s->n - task * width));
}

#endif
