/* Kernels of darkbn.reference.gemm. */
#include "matrix.cuh"

/* c = alpha * op(a) @ op(b) + beta * c; a_step, b_step: length of a row. One block per tile, rows of tiles first. */
KERNEL gemm_gemm(const float *a, const float *b, float *c, i64 m, i64 n, i64 k, i64 a_step, i64 b_step, i64 trans_a,
                 i64 trans_b, float alpha, float beta)
{
    const i64 tiles = (n + TILE - 1) / TILE;
    tile_product(
        m, n, 0, k, blockIdx.x / tiles * TILE, blockIdx.x % tiles * TILE,
        [=](i64 row, i64 i) { return trans_a ? a[i * a_step + row] : a[row * a_step + i]; },
        [=](i64 i, i64 column) { return trans_b ? b[column * b_step + i] : b[i * b_step + column]; },
        [=](i64 row, i64 column, float sum) {
            float *to = c + row * n + column;
            *to = beta == 0 ? alpha * sum : alpha * sum + beta * *to;
        });
}
