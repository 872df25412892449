/* Activations of whole rows on the CPU. `out` may be `x`. */
#ifndef DARKBN_ACTIVATION_ROWS_H
#define DARKBN_ACTIVATION_ROWS_H

#include <stddef.h>
#include <string.h>

#include "activations.h"
#include "loops.h"

#define DARKBN_ROWS(code, name) \
    static void darkbn_##name##_row_##code(const float *x, float *out, ptrdiff_t n) \
    { \
        DARKBN_INDEPENDENT \
        for (ptrdiff_t i = 0; i < n; ++i) out[i] = darkbn_##name(x[i]); \
    } \
    static void darkbn_##name##_gradient_row_##code(const float *values, float *delta, ptrdiff_t n) \
    { \
        DARKBN_INDEPENDENT \
        for (ptrdiff_t i = 0; i < n; ++i) delta[i] *= darkbn_##name##_gradient(values[i]); \
    }
DARKBN_POINTWISE(DARKBN_ROWS)

/* out = activation(x) for the pointwise kinds. */
static inline void darkbn_activate(const float *x, float *out, ptrdiff_t n, int kind)
{
    switch (kind) {
#define DARKBN_CASE(code, name) \
    case code: \
        darkbn_##name##_row_##code(x, out, n); \
        return;
        DARKBN_POINTWISE(DARKBN_CASE)
#undef DARKBN_CASE
    default:
        return;
    }
}

/* delta *= gradient of the activation at values. */
static inline void darkbn_activation_gradient(const float *values, float *delta, ptrdiff_t n, int kind)
{
    switch (kind) {
#define DARKBN_CASE(code, name) \
    case code: \
        darkbn_##name##_gradient_row_##code(values, delta, n); \
        return;
        DARKBN_POINTWISE(DARKBN_CASE)
#undef DARKBN_CASE
    default:
        return;
    }
}

#endif
