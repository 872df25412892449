/* What is known about kinds of activations, for kernels that compute some of them in passing; for C and CUDA. */
#ifndef DARKBN_ACTIVATION_KINDS_H
#define DARKBN_ACTIVATION_KINDS_H

#include "activations.h"

/* Whether an activation is x above 0 and darkbn_slope_below * x elsewhere. */
DARKBN_INLINE int darkbn_is_two_lines(long long kind)
{
    return kind == DARKBN_LINEAR || kind == DARKBN_RELU || kind == DARKBN_LEAKY || kind == DARKBN_REVLEAKY ||
        kind == DARKBN_RELIE;
}

DARKBN_INLINE float darkbn_slope_below(long long kind)
{
    if (kind == DARKBN_RELU) return 0.0f;
    if (kind == DARKBN_RELIE) return DARKBN_RELIE_SLOPE;
    return kind == DARKBN_LEAKY || kind == DARKBN_REVLEAKY ? DARKBN_LEAKY_SLOPE : 1.0f;
}

/* Whether the derivative is computed from the input, not from the output (darkbn.activations.needs_input). */
DARKBN_INLINE int darkbn_gradient_needs_input(long long kind)
{
    return kind == DARKBN_SWISH || kind == DARKBN_MISH || kind == DARKBN_HARD_MISH || kind == DARKBN_GELU;
}

#endif
