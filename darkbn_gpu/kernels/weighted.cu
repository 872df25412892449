/* Kernels of darkbn.reference.weighted: sums with learned weights. */
#include "channel.cuh"

enum { NONE, RELU, SOFTMAX };

#define EPSILON 1e-4

/* The weights of a channel, n of them c apart. */
struct Column {
    const float *weights;
    i64 n, c, kind;
};

DEVICE i64 greatest(const Column &w)
{
    i64 best = 0;
    for (i64 i = 1; i < w.n; ++i)
        if (w.weights[i * w.c] > w.weights[best * w.c]) best = i;
    return best;
}

/* What the normalized weight is in proportion to. */
DEVICE double part_of(const Column &w, i64 i, float largest)
{
    const float weight = w.weights[i * w.c];
    return w.kind == RELU ? (weight > 0 ? weight : 0) : expf(weight - largest);
}

DEVICE double total_of(const Column &w, float largest)
{
    double total = EPSILON;
    for (i64 i = 0; i < w.n; ++i) total += part_of(w, i, largest);
    return total;
}

/* One thread per channel. */
KERNEL weighted_normalize(const float *weights, float *normalized, i64 n, i64 c, i64 kind)
{
    FOR_EACH(k, c) {
        const Column w = {weights + k, n, c, kind};
        const float largest = w.weights[greatest(w) * c];
        const double total = kind == NONE ? 1 : total_of(w, largest);
        for (i64 i = 0; i < n; ++i)
            normalized[i * c + k] = kind == NONE ? w.weights[i * c] : (float)(part_of(w, i, largest) / total);
    }
}

KERNEL weighted_normalize_backward(const float *weights, const float *gradient, float *weight_updates, i64 n, i64 c,
                                   i64 kind)
{
    FOR_EACH(k, c) {
        const Column w = {weights + k, n, c, kind};
        const float *g = gradient + k;
        float *to = weight_updates + k;
        const i64 best = greatest(w);
        const float largest = w.weights[best * c];
        const double total = kind == NONE ? 1 : total_of(w, largest);
        double mean = 0, all = 0;
        for (i64 i = 0; i < n && kind != NONE; ++i) mean += g[i * c] * part_of(w, i, largest) / total;
        for (i64 i = 0; i < n; ++i) {
            const double share = part_of(w, i, largest) / total;
            double change = g[i * c];
            if (kind == RELU) change = w.weights[i * c] > 0 ? (g[i * c] - mean) / total : 0;
            if (kind == SOFTMAX) change = share * (g[i * c] - mean), all += change;
            to[i * c] = (float)(to[i * c] + change);
        }
        /* exp(w - greatest): what every exponential gains by w, the greatest loses for all of them. */
        if (kind == SOFTMAX) to[best * c] = (float)(to[best * c] - all);
    }
}

/* out (b, c, s) = weights * x (b, c1, s) in the first `common` channels; added when add is not 0. */
KERNEL weighted_scale(const float *x, const float *weights, float *out, i64 b, i64 c1, i64 c, i64 s, i64 common, i64 add)
{
    FOR_EACH(i, b * common * s) {
        const i64 at = i % s, k = i / s % common, sample = i / s / common;
        float *to = out + (sample * c + k) * s + at;
        *to = (add ? *to : 0) + weights[k] * x[(sample * c1 + k) * s + at];
    }
}

/* One block per channel. */
KERNEL weighted_dot_add(const float *x, const float *delta, float *sums, i64 b, i64 c1, i64 c, i64 s)
{
    const i64 k = blockIdx.x;
    const double sum = block_sum_of(b * s, [=](i64 i) {
        return x[(i / s * c1 + k) * s + i % s] * delta[(i / s * c + k) * s + i % s];
    });
    if (threadIdx.x == 0) sums[k] = (float)(sums[k] + sum);
}
