/* A matrix product whose operands are read, and whose result is stored, by functions: one block of 256 threads makes
 * TILE x TILE results, 4 x 4 each, from slices of DEPTH columns of a and rows of b in shared memory.
 *
 * Products are summed in floats over slices of 128, and these sums again, so that rounding grows slowly with k.
 */
#ifndef DARKBN_MATRIX_CUH
#define DARKBN_MATRIX_CUH

#include "grid.cuh"

#define TILE 64
#define DEPTH 16
#define SLICES 8 /* slices between two widenings of the sums */

/* c(row, column, sum) for every row < m and column < n of this block's tile; a(row, i), b(i, column) for i in
 * [first, last). */
template <typename A, typename B, typename C>
DEVICE void tile_product(i64 m, i64 n, i64 first, i64 last, i64 row0, i64 column0, A a, B b, C c)
{
    __shared__ float left[DEPTH][TILE + 4], right[DEPTH][TILE + 4];
    const int t = threadIdx.x, ty = t / 16, tx = t % 16;
    float total[4][4] = {}, sum[4][4] = {};
    int slices = 0;
    for (i64 k = first; k < last; k += DEPTH) {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
            const int row = t / DEPTH + 16 * r, i = t % DEPTH;
            left[i][row] = row0 + row < m && k + i < last ? a(row0 + row, k + i) : 0;
            const int column = t % TILE, j = t / TILE + 4 * r;
            right[j][column] = column0 + column < n && k + j < last ? b(k + j, column0 + column) : 0;
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < DEPTH; ++i) {
            float x[4], y[4];
#pragma unroll
            for (int r = 0; r < 4; ++r) x[r] = left[i][4 * ty + r], y[r] = right[i][4 * tx + r];
#pragma unroll
            for (int r = 0; r < 4; ++r)
#pragma unroll
                for (int s = 0; s < 4; ++s) sum[r][s] += x[r] * y[s];
        }
        if (++slices == SLICES) {
            slices = 0;
#pragma unroll
            for (int r = 0; r < 16; ++r) total[r / 4][r % 4] += sum[r / 4][r % 4], sum[r / 4][r % 4] = 0;
        }
        __syncthreads();
    }
#pragma unroll
    for (int r = 0; r < 4; ++r)
#pragma unroll
        for (int s = 0; s < 4; ++s)
            if (row0 + 4 * ty + r < m && column0 + 4 * tx + s < n)
                c(row0 + 4 * ty + r, column0 + 4 * tx + s, total[r][s] + sum[r][s]);
}

#endif
