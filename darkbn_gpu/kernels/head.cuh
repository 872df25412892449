/* What the heads' kernels share. */
#ifndef DARKBN_HEAD_CUH
#define DARKBN_HEAD_CUH

#include "grid.cuh"

/* Sum of the squares of n values over one block, in all its threads. */
DEVICE double squares_of(const float *x, i64 n)
{
    return block_sum_of(n, [=](i64 i) { return x[i] * x[i]; });
}

#endif
