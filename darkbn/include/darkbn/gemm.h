/* C(m x n) = alpha * op(A) op(B) + beta * C on row-major matrices. */
#ifndef DARKBN_GEMM_H
#define DARKBN_GEMM_H

#include "darkbn/gemm_product.h"
#include "darkbn/gemm_skinny.h"

/* Whether one side is at most DARKBN_SKINNY long, and the other long enough to be shared out. */
DARKBN_INLINE int darkbn_is_skinny(ptrdiff_t m, ptrdiff_t n)
{
    return darkbn_min(m, n) <= DARKBN_SKINNY && darkbn_max(m, n) >= 64;
}

/* The transpose of a matrix of k rows and a few columns. */
DARKBN_INLINE const float *darkbn_few_rows(const float *x, ptrdiff_t k, ptrdiff_t few, float *to)
{
    for (ptrdiff_t i = 0; i < few; ++i)
        for (ptrdiff_t p = 0; p < k; ++p) to[i * k + p] = x[p * few + i];
    return to;
}

static void darkbn_gemm(int trans_a, int trans_b, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, float alpha, const float *a,
                        const float *b, float beta, float *c, float *workspace, int threads)
{
    if (darkbn_is_skinny(m, n) && m <= n) {
        const float *rows = trans_a ? darkbn_few_rows(a, k, m, workspace) : a;
        const darkbn_skinny skinny = {m, n, k, rows, b, alpha, beta, c, n, 1};
        darkbn_skinny_run(&skinny, trans_b, threads);
        return;
    }
    if (darkbn_is_skinny(m, n)) {
        const float *rows = trans_b ? b : darkbn_few_rows(b, k, n, workspace);
        const darkbn_skinny skinny = {n, m, k, rows, a, alpha, beta, c, 1, n};
        darkbn_skinny_run(&skinny, !trans_a, threads);
        return;
    }
    const darkbn_matrix left = {a, trans_a ? m : k, 0, !trans_a}, right = {b, trans_b ? k : n, 0, trans_b};
    const darkbn_target target = {c, n, 0, 0, 1, n, n, 1};
    const darkbn_product product = {1, m, n, k, darkbn_pack_left, darkbn_pack_right, &left, &right, target, alpha, beta,
                                    NULL};
    darkbn_multiply(&product, workspace, threads);
}

static ptrdiff_t darkbn_gemm_workspace(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, int threads)
{
    return darkbn_is_skinny(m, n) ? darkbn_min(m, n) * k + DARKBN_ALIGN : darkbn_product_workspace(1, m, n, k, threads);
}

#endif
