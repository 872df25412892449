/* Packing of matrices into the panels that gemm_tile.h reads.
 *
 * A panel of width W holds W rows (or columns) of the operand, k major: panel[k * W + lane]. Lanes beyond the operand
 * are zero, so that a tile may compute them and drop the result. */
#ifndef DARKBN_GEMM_PACK_H
#define DARKBN_GEMM_PACK_H

#include "darkbn/gemm_tile.h"

/* One panel of an operand whose k is contiguous: lane i is x[i * ld + k]. `width` must be a constant where inlined. */
DARKBN_INLINE void darkbn_pack_along(const int width, const float *x, ptrdiff_t ld, ptrdiff_t lanes, ptrdiff_t depth,
                                     float *restrict panel)
{
    ptrdiff_t p = 0;
    /* Each store writes DARKBN_V lanes: what goes beyond the width lands in the next k and is overwritten there, so the
     * last k is left to the scalar loop. Groups of lanes run backwards for the same reason. */
    for (; p + DARKBN_V < depth; p += DARKBN_V) {
        for (int first = (width - 1) / DARKBN_V * DARKBN_V; first >= 0; first -= DARKBN_V) {
            darkbn_vec block[DARKBN_V];
#pragma GCC unroll 16
            for (int i = 0; i < DARKBN_V; ++i)
                block[i] = first + i < lanes ? darkbn_load(x + (first + i) * ld + p) : darkbn_zero();
            darkbn_transpose(block);
#pragma GCC unroll 16
            for (int i = 0; i < DARKBN_V; ++i) darkbn_store(panel + (p + i) * width + first, block[i]);
        }
    }
#if DARKBN_V > 4
    for (; p + 4 < depth; p += 4) {
        for (int first = (width - 1) / 4 * 4; first >= 0; first -= 4) {
            darkbn_v4 block[4];
            for (int i = 0; i < 4; ++i) {
                block[i] = (darkbn_v4){0};
                if (first + i < lanes) block[i] = *(const darkbn_v4_unaligned *)(x + (first + i) * ld + p);
            }
            darkbn_transpose_4(block);
            for (int i = 0; i < 4; ++i) *(darkbn_v4_unaligned *)(panel + (p + i) * width + first) = block[i];
        }
    }
#endif
    for (; p < depth; ++p)
        for (int i = 0; i < width; ++i) panel[p * width + i] = i < lanes ? x[i * ld + p] : 0.0f;
}

/* One panel of an operand whose lanes are contiguous: lane i is x[k * ld + i]. */
DARKBN_INLINE void darkbn_pack_across(const int width, const float *x, ptrdiff_t ld, ptrdiff_t lanes, ptrdiff_t depth,
                                      float *restrict panel)
{
    if (lanes >= width) {
        for (ptrdiff_t p = 0; p < depth; ++p) darkbn_copy(panel + p * width, x + p * ld, width);
        return;
    }
    for (ptrdiff_t p = 0; p < depth; ++p) {
        darkbn_copy(panel + p * width, x + p * ld, lanes);
        darkbn_clear(panel + p * width + lanes, width - lanes);
    }
}

/* A row-major matrix as an operand. `along` tells whether its rows run along k (A, or B transposed). */
typedef struct darkbn_matrix {
    const float *data;
    ptrdiff_t ld, item; /* floats from row to row and from product to product */
    int along;
} darkbn_matrix;

/* Packs lanes [first, first + count) and k [start, start + depth) of an operand into count / width panels. */
typedef void (*darkbn_pack_function)(const void *operand, ptrdiff_t item, ptrdiff_t first, ptrdiff_t count,
                                     ptrdiff_t start, ptrdiff_t depth, float *panels);

DARKBN_INLINE void darkbn_pack_matrix(const int width, const void *operand, ptrdiff_t item, ptrdiff_t first,
                                      ptrdiff_t count, ptrdiff_t start, ptrdiff_t depth, float *panels)
{
    const darkbn_matrix *matrix = operand;
    const float *x = matrix->data + item * matrix->item;
    for (ptrdiff_t done = 0; done < count; done += width, panels += width * depth) {
        const ptrdiff_t lanes = count - done < width ? count - done : width;
        if (matrix->along)
            darkbn_pack_along(width, x + (first + done) * matrix->ld + start, matrix->ld, lanes, depth, panels);
        else
            darkbn_pack_across(width, x + start * matrix->ld + first + done, matrix->ld, lanes, depth, panels);
    }
}

static void darkbn_pack_left(const void *operand, ptrdiff_t item, ptrdiff_t first, ptrdiff_t count, ptrdiff_t start,
                             ptrdiff_t depth, float *panels)
{
    darkbn_pack_matrix(DARKBN_MR, operand, item, first, count, start, depth, panels);
}

static void darkbn_pack_right(const void *operand, ptrdiff_t item, ptrdiff_t first, ptrdiff_t count, ptrdiff_t start,
                              ptrdiff_t depth, float *panels)
{
    darkbn_pack_matrix(DARKBN_NR, operand, item, first, count, start, depth, panels);
}

#endif
