/* exp, exp - 1, log, logistic and tanh of floats without branches or tables, so that loops over them vectorize.
 *
 * Within 2 ulp (exp_1 and tanh also relative to results near 0). NaN stays NaN, infinities have their limits. Results of
 * exp below 2.5e-38 are 0: denormal numbers cost hundreds of cycles.
 * Each polynomial is the minimax one of its interval (Remez), rounded to float.
 */
#ifndef DARKBN_MATHF_H
#define DARKBN_MATHF_H

#include "function.h"

#ifdef __CUDACC__

DARKBN_INLINE float darkbn_exp(float x) { return expf(x); }
DARKBN_INLINE float darkbn_exp_1(float x) { return expm1f(x); }
DARKBN_INLINE float darkbn_tanh(float x) { return tanhf(x); }
DARKBN_INLINE float darkbn_exp_near(float x) { return expf(x); }

#else

#include <math.h>
#include <stdint.h>

typedef union {
    float number;
    uint32_t bits;
} darkbn_float_bits;

/* x = n*ln(2) + r with |r| <= ln(2)/2. Returns r and stores 2^(n-1) in half_scale; x must be in [-87.3, 89]. */
static inline float darkbn_reduce_exponent(float x, float *half_scale)
{
    /* Adding 1.5*2^23 leaves the nearest integer in the low bits. */
    const float shift = 12582912.0f;
    darkbn_float_bits shifted, scale;
    shifted.number = x * 1.44269504f + shift;
    const float n = shifted.number - shift;
    /* n - 1 + 127 shifted into the exponent's place: 0 for n = -126, infinity is out of reach. */
    scale.bits = (shifted.bits - 0x4B400000u + 126u) << 23;
    *half_scale = scale.number;
    /* ln(2) in two parts; the first times n is exact. */
    return (x - n * 0.693359375f) + n * 2.12194440e-4f;
}

/* (exp(r) - 1 - r) / r^2 for |r| <= ln(2)/2. */
static inline float darkbn_exp_tail(float r)
{
    return 4.999999337e-01f
        + r * (1.666651952e-01f + r * (4.166840108e-02f + r * (8.368851066e-03f + r * 1.381432056e-03f)));
}

/* exp(x) for -87 <= x <= 87. */
static inline float darkbn_exp_near(float x)
{
    float half_scale;
    const float r = darkbn_reduce_exponent(x, &half_scale);
    const float power = 1.0f + (r + r * r * darkbn_exp_tail(r));
    return (power + power) * half_scale;
}

static inline float darkbn_exp(float x)
{
    const float below = x > 89.0f ? 89.0f : x;
    return darkbn_exp_near(below < -87.3f ? -87.3f : below);
}

/* exp(x) - 1 for x <= 0. */
static inline float darkbn_exp_1(float x)
{
    float half_scale;
    const float clamped = x < -80.0f ? -80.0f : x;
    const float r = darkbn_reduce_exponent(clamped, &half_scale);
    const float scale = half_scale + half_scale;
    return scale * (r + r * r * darkbn_exp_tail(r)) + (scale - 1.0f);
}

static inline float darkbn_tanh(float x)
{
    const float a = fabsf(x), z = a * a;
    const float series = a
        + a * z
            * (-3.333328194e-01f
                + z * (1.333144220e-01f + z * (-5.373971512e-02f + z * (2.063908736e-02f + z * -5.704987129e-03f))));
    const float bounded = a > 10.0f ? 10.0f : a; /* the result is 1 in floats from 9.1 on */
    const float saturated = 1.0f - 2.0f / (darkbn_exp_near(bounded + bounded) + 1.0f);
    return copysignf(a < 0.625f ? series : saturated, x);
}

#endif

DARKBN_INLINE float darkbn_logistic(float x) { return 1.0f / (1.0f + darkbn_exp(-x)); }

#endif
