/* The register tile of every matrix product: DARKBN_MR x DARKBN_NR results stay in registers while k runs.
 *
 * The left operand comes in panels of MR rows, k major: a[k * MR + row]; the right one in panels of NR columns:
 * b[k * NR + column]. Each result is one chain of multiply-adds over k in order, wherever its tile lies. */
#ifndef DARKBN_GEMM_TILE_H
#define DARKBN_GEMM_TILE_H

#include "darkbn/vector.h"

/* As many accumulators as leave registers for NR / V vectors of b and one value of a. */
#if DARKBN_V == 16
#define DARKBN_MR 14
#define DARKBN_NV 2
#elif defined(__aarch64__)
#define DARKBN_MR 8
#define DARKBN_NV 3
#else
#define DARKBN_MR 6
#define DARKBN_NV 2
#endif
#define DARKBN_NR (DARKBN_NV * DARKBN_V)

/* What becomes of a tile's sums: c = alpha * sum + beta * c + bias. With beta = 0, c is not read. */
typedef struct darkbn_epilogue {
    float alpha, beta;
    const float *bias; /* one per row of the product, or NULL */
} darkbn_epilogue;

/* `rows` must be a constant where this is inlined. c is a full tile's first element, ld the step of its rows. */
DARKBN_INLINE void darkbn_tile_rows(const int rows, ptrdiff_t depth, const float *restrict a, const float *restrict b,
                                    float *restrict c, ptrdiff_t ld, darkbn_epilogue e)
{
    darkbn_vec acc[DARKBN_MR][DARKBN_NV];
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
        for (int x = 0; x < DARKBN_NR; x += 16) __builtin_prefetch(c + i * ld + x, 1);
        __builtin_prefetch(c + i * ld + DARKBN_NR - 1, 1);
#pragma GCC unroll 4
        for (int j = 0; j < DARKBN_NV; ++j) acc[i][j] = darkbn_zero();
    }
#pragma GCC unroll 4
    for (ptrdiff_t p = 0; p < depth; ++p) {
        darkbn_vec right[DARKBN_NV];
#pragma GCC unroll 4
        for (int j = 0; j < DARKBN_NV; ++j) right[j] = darkbn_load(b + p * DARKBN_NR + j * DARKBN_V);
#pragma GCC unroll 16
        for (int i = 0; i < rows; ++i) {
            const float left = a[p * DARKBN_MR + i];
#pragma GCC unroll 4
            for (int j = 0; j < DARKBN_NV; ++j) acc[i][j] += left * right[j];
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
        const float bias = e.bias ? e.bias[i] : 0.0f;
#pragma GCC unroll 4
        for (int j = 0; j < DARKBN_NV; ++j) {
            float *to = c + i * ld + j * DARKBN_V;
            darkbn_vec value = e.alpha * acc[i][j] + bias;
            if (e.beta != 0) value += e.beta * darkbn_load(to);
            darkbn_store(to, value);
        }
    }
}

typedef void (*darkbn_tile_function)(ptrdiff_t, const float *, const float *, float *, ptrdiff_t, darkbn_epilogue);

#define DARKBN_TILE(ROWS)                                                                                         \
    static void darkbn_tile_##ROWS(ptrdiff_t depth, const float *a, const float *b, float *c, ptrdiff_t ld,       \
                                   darkbn_epilogue e)                                                             \
    {                                                                                                             \
        darkbn_tile_rows(ROWS, depth, a, b, c, ld, e);                                                            \
    }
DARKBN_TILE(1)
DARKBN_TILE(2)
DARKBN_TILE(3)
DARKBN_TILE(4)
DARKBN_TILE(5)
DARKBN_TILE(6)
#if DARKBN_MR > 6
DARKBN_TILE(7)
DARKBN_TILE(8)
#endif
#if DARKBN_MR > 8
DARKBN_TILE(9)
DARKBN_TILE(10)
DARKBN_TILE(11)
DARKBN_TILE(12)
DARKBN_TILE(13)
DARKBN_TILE(14)
#endif
#undef DARKBN_TILE

/* By number of rows. */
static const darkbn_tile_function darkbn_tiles[DARKBN_MR + 1] = {
    NULL, darkbn_tile_1, darkbn_tile_2, darkbn_tile_3, darkbn_tile_4, darkbn_tile_5, darkbn_tile_6,
#if DARKBN_MR > 6
    darkbn_tile_7, darkbn_tile_8,
#endif
#if DARKBN_MR > 8
    darkbn_tile_9, darkbn_tile_10, darkbn_tile_11, darkbn_tile_12, darkbn_tile_13, darkbn_tile_14,
#endif
};

#endif
