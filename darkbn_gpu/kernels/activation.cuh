/* An activation by its code, for kernels that do more than activate. */
#ifndef DARKBN_ACTIVATION_CUH
#define DARKBN_ACTIVATION_CUH

#include "darkbn/activations.h"
#include "grid.cuh"

#define DARKBN_CASE_VALUE(code, name) \
    case code: return darkbn_##name(x);
#define DARKBN_CASE_SLOPE(code, name) \
    case code: return darkbn_##name##_gradient(v);

static __device__ float activate(float x, i64 kind)
{
    switch (kind) { DARKBN_POINTWISE(DARKBN_CASE_VALUE) }
    return x;
}

/* The derivative at v: the output, or the input for the kinds whose derivative is a function of that. */
static __device__ float slope(float v, i64 kind)
{
    switch (kind) { DARKBN_POINTWISE(DARKBN_CASE_SLOPE) }
    return 1;
}

#endif
