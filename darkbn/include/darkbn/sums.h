/* Sums of floats and of products, for C (lanes) and for one thread of CUDA. */
#ifndef DARKBN_SUMS_H
#define DARKBN_SUMS_H

#ifndef __CUDACC__
#include "reduce.h"
#else

static __device__ inline double darkbn_sum(const float *x, ptrdiff_t n)
{
    double total = 0;
    for (ptrdiff_t i = 0; i < n; ++i) total += x[i];
    return total;
}

static __device__ inline double darkbn_dot(const float *x, const float *y, ptrdiff_t n)
{
    double total = 0;
    for (ptrdiff_t i = 0; i < n; ++i) total += (double)x[i] * y[i];
    return total;
}

#endif
#endif
