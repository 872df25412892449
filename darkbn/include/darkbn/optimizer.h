/* Optimizer steps over one block of parameters. */
#ifndef DARKBN_OPTIMIZER_H
#define DARKBN_OPTIMIZER_H

#include <stddef.h>

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

#endif
