/* Kernels of darkbn.reference.activation: formulas in darkbn/include/darkbn/activations.h. */
#include "activation.cuh"

/* The kind is the same for all threads: the choice among formulas costs nothing beside the memory, and each formula is
 * compiled once, not once for every loop. */

/* out = activation(x); out may be x. */
KERNEL activation_forward(const float *x, float *out, i64 n, i64 kind)
{
    map(out, n, [=](float v) { return activate(v, kind); }, x);
}

KERNEL activation_forward_saved(float *x, float *saved, i64 n, i64 kind)
{
    FOR_EACH(i, n) {
        const float v = x[i];
        saved[i] = v;
        x[i] = activate(v, kind);
    }
}

KERNEL activation_gradient(const float *values, float *delta, i64 n, i64 kind)
{
    map(delta, n, [=](float v, float d) { return d * slope(v, kind); }, values, delta);
}

/* What the normalized channels of a pixel are in proportion to. */
DEVICE float channel_part(float x, float largest, i64 kind)
{
    if (kind == DARKBN_NORMALIZE_CHANNELS) return x > 0.0f ? x : 0.0f;
    return darkbn_exp(x - largest);
}

/* One thread per pixel, its channels lie s apart. */
KERNEL activation_forward_channels(const float *x, float *out, i64 b, i64 c, i64 s, i64 kind)
{
    FOR_EACH(pixel, b * s) {
        const float *from = x + pixel / s * c * s + pixel % s;
        float *to = out + pixel / s * c * s + pixel % s;
        float largest = 0;
        double sum = 0;
        if (kind == DARKBN_NORMALIZE_CHANNELS_SOFTMAX_MAXVAL)
            for (i64 k = 0; k < c; ++k) largest = k == 0 || from[k * s] > largest ? from[k * s] : largest;
        for (i64 k = 0; k < c; ++k) sum += channel_part(from[k * s], largest, kind);
        const float scale = (float)(1 / (DARKBN_CHANNEL_EPSILON + sum));
        for (i64 k = 0; k < c; ++k) to[k * s] = channel_part(from[k * s], largest, kind) * scale;
    }
}

KERNEL activation_gradient_channels(const float *values, float *delta, i64 b, i64 c, i64 s, i64 kind)
{
    FOR_EACH(pixel, b * s) {
        const i64 first = pixel / s * c * s + pixel % s;
        const float *v = values + first;
        float *d = delta + first;
        double sum = 0, common = 0;
        i64 largest = 0;
        for (i64 k = 0; k < c; ++k) {
            const float part = kind == DARKBN_NORMALIZE_CHANNELS && !(v[k * s] > 0) ? 0 : v[k * s];
            sum += part;
            common += (double)d[k * s] * part;
            if (v[k * s] > v[largest * s]) largest = k;
        }
        if (kind == DARKBN_NORMALIZE_CHANNELS) {
            const double total = DARKBN_CHANNEL_EPSILON + sum;
            for (i64 k = 0; k < c; ++k)
                d[k * s] = v[k * s] > 0 ? (float)((d[k * s] - common / total) / total) : 0;
            continue;
        }
        for (i64 k = 0; k < c; ++k) d[k * s] = (float)(v[k * s] * (d[k * s] - common));
        /* The subtracted maximum scales exp(x) but not the epsilon: its share of the denominator is 1 - sum. */
        if (kind == DARKBN_NORMALIZE_CHANNELS_SOFTMAX_MAXVAL && c > 0)
            d[largest * s] = (float)(d[largest * s] - common * (1 - sum));
    }
}
