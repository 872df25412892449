/* Optimizer steps over one block of parameters. */
#ifndef DARKBN_OPTIMIZER_H
#define DARKBN_OPTIMIZER_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Parameters that one thread takes at a time: both arrays of a block stay in the first-level cache. */
#define DARKBN_STEP_BLOCK 2048

static inline void darkbn_sgd(float *restrict weights, float *restrict updates, ptrdiff_t n, float rate,
                              float momentum, float decay)
{
    for (ptrdiff_t i = 0; i < n; ++i) {
        const float update = updates[i] - decay * weights[i];
        weights[i] += rate * update;
        updates[i] = momentum * update;
    }
}

/* m_scale = rate / (1 - beta1^t), v_scale = 1 / (1 - beta2^t); one_minus: 1 - beta, computed in double. */
static inline void darkbn_adam(float *restrict weights, float *restrict updates, float *restrict m, float *restrict v,
                               ptrdiff_t n, float one_minus_beta1, float one_minus_beta2, float m_scale, float v_scale,
                               float epsilon, float decay)
{
    for (ptrdiff_t i = 0; i < n; ++i) {
        const float update = updates[i] - decay * weights[i];
        m[i] += one_minus_beta1 * (update - m[i]);
        v[i] += one_minus_beta2 * (update * update - v[i]);
        weights[i] += m_scale * m[i] / (sqrtf(v_scale * v[i]) + epsilon);
        updates[i] = 0;
    }
}

static inline void darkbn_average(const float *restrict values, float *restrict averages, ptrdiff_t n,
                                  float one_minus_alpha)
{
    for (ptrdiff_t i = 0; i < n; ++i)
        averages[i] += one_minus_alpha * (values[i] - averages[i]);
}

/* By the bits, since compilers may assume that there are no NaN: all of the exponent is set. */
static inline ptrdiff_t darkbn_nonfinite(const float *restrict values, ptrdiff_t n)
{
    int32_t count = 0;
    for (ptrdiff_t i = 0; i < n; ++i) {
        uint32_t bits;
        memcpy(&bits, values + i, sizeof bits);
        count += (bits & 0x7f800000u) == 0x7f800000u;
    }
    return count;
}

#endif
