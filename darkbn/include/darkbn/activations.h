/* Activation functions and their gradients, one value at a time; for C and CUDA.
 *
 * darkbn_<name>(x) is the activation, darkbn_<name>_gradient(v) its derivative, where v is the output y, or the input x
 * for those whose derivative is no function of the output (swish, mish, hard_mish, gelu).
 * The conditions are written so that NaN stays NaN and infinities give the limits.
 */
#ifndef DARKBN_ACTIVATIONS_H
#define DARKBN_ACTIVATIONS_H

#include "constants.h"
#include "mathf.h"

/* Codes: the same as darkbn.activations.Activation. */
enum darkbn_activation {
    DARKBN_LOGISTIC = 0,
    DARKBN_LOGGY = 1,
    DARKBN_RELU = 2,
    DARKBN_ELU = 3,
    DARKBN_SELU = 4,
    DARKBN_RELIE = 5,
    DARKBN_PLSE = 6,
    DARKBN_HARDTAN = 7,
    DARKBN_LHTAN = 8,
    DARKBN_LINEAR = 9,
    DARKBN_RAMP = 10,
    DARKBN_LEAKY = 11,
    DARKBN_TANH = 12,
    DARKBN_STAIR = 13,
    DARKBN_SWISH = 14,
    DARKBN_MISH = 15,
    DARKBN_HARD_MISH = 16,
    DARKBN_RELU6 = 17,
    DARKBN_GELU = 18,
    DARKBN_REVLEAKY = 19,
    DARKBN_NORMALIZE_CHANNELS = 20,
    DARKBN_NORMALIZE_CHANNELS_SOFTMAX = 21,
    DARKBN_NORMALIZE_CHANNELS_SOFTMAX_MAXVAL = 22
};

/* X(code, name) for every activation that works on single values. */
#define DARKBN_POINTWISE(X) \
    X(DARKBN_LOGISTIC, logistic) \
    X(DARKBN_LOGGY, loggy) \
    X(DARKBN_RELU, relu) \
    X(DARKBN_ELU, elu) \
    X(DARKBN_SELU, selu) \
    X(DARKBN_RELIE, relie) \
    X(DARKBN_PLSE, plse) \
    X(DARKBN_HARDTAN, hardtan) \
    X(DARKBN_LHTAN, lhtan) \
    X(DARKBN_LINEAR, linear) \
    X(DARKBN_RAMP, ramp) \
    X(DARKBN_LEAKY, leaky) \
    X(DARKBN_TANH, tanh) \
    X(DARKBN_STAIR, stair) \
    X(DARKBN_SWISH, swish) \
    X(DARKBN_MISH, mish) \
    X(DARKBN_HARD_MISH, hard_mish) \
    X(DARKBN_RELU6, relu6) \
    X(DARKBN_GELU, gelu) \
    X(DARKBN_REVLEAKY, leaky)

/* Beyond these, functions with exponential tails have reached their limits: keeps infinities out of products with 0. */
#define DARKBN_TAIL 85.0f
#define DARKBN_GELU_TAIL 9.7f /* where the exponent is 83 */

DARKBN_INLINE float darkbn_clamp(float x, float low, float high)
{
    const float below = x > high ? high : x;
    return below < low ? low : below;
}

DARKBN_INLINE float darkbn_logistic_gradient(float y) { return (1.0f - y) * y; }

/* 2 * logistic(x) - 1 */
DARKBN_INLINE float darkbn_loggy(float x) { return darkbn_tanh(0.5f * x); }
DARKBN_INLINE float darkbn_loggy_gradient(float y) { return 0.5f * (1.0f - y) * (1.0f + y); }

DARKBN_INLINE float darkbn_tanh_gradient(float y) { return (1.0f - y) * (1.0f + y); }

DARKBN_INLINE float darkbn_linear(float x) { return x; }
DARKBN_INLINE float darkbn_linear_gradient(float y)
{
    (void)y;
    return 1.0f;
}

DARKBN_INLINE float darkbn_relu(float x) { return x < 0.0f ? 0.0f : x; }
DARKBN_INLINE float darkbn_relu_gradient(float y) { return y > 0.0f ? 1.0f : 0.0f; }

DARKBN_INLINE float darkbn_relu6(float x) { return darkbn_clamp(x, 0.0f, 6.0f); }
DARKBN_INLINE float darkbn_relu6_gradient(float y) { return (y > 0.0f) & (y < 6.0f) ? 1.0f : 0.0f; }

DARKBN_INLINE float darkbn_leaky(float x) { return x > 0.0f ? x : DARKBN_LEAKY_SLOPE * x; }
DARKBN_INLINE float darkbn_leaky_gradient(float y) { return y > 0.0f ? 1.0f : DARKBN_LEAKY_SLOPE; }

DARKBN_INLINE float darkbn_relie(float x) { return x > 0.0f ? x : DARKBN_RELIE_SLOPE * x; }
DARKBN_INLINE float darkbn_relie_gradient(float y) { return y > 0.0f ? 1.0f : DARKBN_RELIE_SLOPE; }

DARKBN_INLINE float darkbn_ramp(float x) { return (x > 0.0f ? x : 0.0f) + DARKBN_LEAKY_SLOPE * x; }
DARKBN_INLINE float darkbn_ramp_gradient(float y) { return (y > 0.0f ? 1.0f : 0.0f) + DARKBN_LEAKY_SLOPE; }

DARKBN_INLINE float darkbn_elu(float x) { return x >= 0.0f ? x : darkbn_exp_1(x > 0.0f ? 0.0f : x); }
DARKBN_INLINE float darkbn_elu_gradient(float y) { return y >= 0.0f ? 1.0f : y + 1.0f; }

DARKBN_INLINE float darkbn_selu(float x)
{
    return x >= 0.0f ? DARKBN_SELU_SCALE * x
                     : DARKBN_SELU_SCALE * DARKBN_SELU_ALPHA * darkbn_exp_1(x > 0.0f ? 0.0f : x);
}
DARKBN_INLINE float darkbn_selu_gradient(float y)
{
    return y >= 0.0f ? DARKBN_SELU_SCALE : y + DARKBN_SELU_SCALE * DARKBN_SELU_ALPHA;
}

/* A line from 0 to 1 between -4 and 4, nearly flat outside. */
DARKBN_INLINE float darkbn_plse(float x)
{
    const float inside = darkbn_clamp(x, -4.0f, 4.0f);
    return DARKBN_PLSE_SLOPE * inside + 0.5f + DARKBN_PLSE_OUTER_SLOPE * (x - inside);
}
DARKBN_INLINE float darkbn_plse_gradient(float y)
{
    return (y < 0.0f) | (y > 1.0f) ? DARKBN_PLSE_OUTER_SLOPE : DARKBN_PLSE_SLOPE;
}

DARKBN_INLINE float darkbn_hardtan(float x) { return darkbn_clamp(x, -1.0f, 1.0f); }
DARKBN_INLINE float darkbn_hardtan_gradient(float y) { return (y > -1.0f) & (y < 1.0f) ? 1.0f : 0.0f; }

/* x between 0 and 1, nearly flat outside. */
DARKBN_INLINE float darkbn_lhtan(float x)
{
    const float inside = darkbn_clamp(x, 0.0f, 1.0f);
    return inside + DARKBN_LHTAN_SLOPE * (x - inside);
}
DARKBN_INLINE float darkbn_lhtan_gradient(float y)
{
    return (y > 0.0f) & (y < 1.0f) ? 1.0f : DARKBN_LHTAN_SLOPE;
}

/* Steps of height 1 and length 2: flat where floor(x) is even, rising where it is odd. */
DARKBN_INLINE float darkbn_stair(float x)
{
    const float below = floorf(x), step = floorf(0.5f * x);
    return below - 2.0f * step == 1.0f ? (x - below) + step : step;
}
DARKBN_INLINE float darkbn_stair_gradient(float y) { return floorf(y) == y ? 0.0f : 1.0f; }

/* d(x * s)/dx = s + x * dz/dx * s * (1 - s) with s = logistic(z), slope = dz/dx; |z| must be at most 87.
 * 1 - s = e^-z * s keeps its digits where s is nearly 1. */
DARKBN_INLINE float darkbn_gated_gradient(float x, float z, float slope)
{
    const float e = darkbn_exp_near(-z), s = 1.0f / (1.0f + e);
    return s + x * slope * (e * s) * s;
}

/* x * logistic(x) */
DARKBN_INLINE float darkbn_swish(float x)
{
    const float low = x < -DARKBN_TAIL ? -DARKBN_TAIL : x;
    return low / (1.0f + darkbn_exp_near(-(low > DARKBN_TAIL ? DARKBN_TAIL : low)));
}
DARKBN_INLINE float darkbn_swish_gradient(float x)
{
    const float c = darkbn_clamp(x, -DARKBN_TAIL, DARKBN_TAIL);
    return darkbn_gated_gradient(c, c, 1.0f);
}

/* x * tanh(log(1 + e^x)) = x * n / (n + 2) with n = e^x * (e^x + 2); the fraction is 1 in floats from x = 9 on. */
DARKBN_INLINE float darkbn_mish(float x)
{
    const float low = x < -DARKBN_TAIL ? -DARKBN_TAIL : x;
    const float e = darkbn_exp_near(low > 20.0f ? 20.0f : low), n = e * (e + 2.0f);
    return low * (n / (n + 2.0f));
}
DARKBN_INLINE float darkbn_mish_gradient(float x)
{
    const float c = darkbn_clamp(x, -DARKBN_TAIL, 20.0f);
    const float e = darkbn_exp_near(c), n = e * (e + 2.0f), inverse = 1.0f / (n + 2.0f);
    return n * inverse + c * (4.0f * e * (e + 1.0f) * inverse) * inverse;
}

/* 0 below -2, x above 0, a parabola between. */
DARKBN_INLINE float darkbn_hard_mish(float x)
{
    const float c = darkbn_clamp(x, -2.0f, 0.0f);
    return x > 0.0f ? x : c * (0.5f * c + 1.0f);
}
DARKBN_INLINE float darkbn_hard_mish_gradient(float x)
{
    return x <= -2.0f ? 0.0f : x > 0.0f ? 1.0f : x + 1.0f;
}

/* x * (1 + tanh(u)) / 2 = x * logistic(2*u), u = x * (linear + cubic*x^2) */
DARKBN_INLINE float darkbn_gelu(float x)
{
    const float low = x < -DARKBN_GELU_TAIL ? -DARKBN_GELU_TAIL : x;
    const float c = low > DARKBN_GELU_TAIL ? DARKBN_GELU_TAIL : low;
    return low / (1.0f + darkbn_exp_near(-2.0f * c * (DARKBN_GELU_LINEAR + DARKBN_GELU_CUBIC * c * c)));
}
DARKBN_INLINE float darkbn_gelu_gradient(float x)
{
    const float c = darkbn_clamp(x, -DARKBN_GELU_TAIL, DARKBN_GELU_TAIL), square = c * c;
    return darkbn_gated_gradient(
        c,
        2.0f * c * (DARKBN_GELU_LINEAR + DARKBN_GELU_CUBIC * square),
        2.0f * (DARKBN_GELU_LINEAR + 3.0f * DARKBN_GELU_CUBIC * square));
}

#endif
