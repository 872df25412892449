/* Kernels of darkbn.reference.batchnorm.
 *
 * A channel is shared by `parts` blocks, more when channels are few. What the blocks of a channel find is joined by a
 * second kernel in a fixed order. Training takes two sweeps forward (moments, then values) and two backward (sums,
 * then values); a channel that fits into shared memory takes one sweep forward.
 *
 * The moments of a thread come from packs of 16 values, each swept twice in registers: digits do not cancel however
 * far the mean is from 0. Means are kept as the sum of two floats where they are subtracted.
 *
 * Activations of two lines (leaky, relu) are part of the sweeps: `below` is their slope where the normalized value is not
 * above 0, 1 for none. Others have a kernel of their own on the way back, batchnorm_activation_gradient.
 */
#include "darkbn/activation_kinds.h"
#include "channel.cuh"

/* Values of a channel that fit into a block's shared memory. */
#define SMALL 4096

struct Moments {
    double count, mean, squares; /* squares: sum of squared deviations from the mean */
};

/* Moments of two sets together. */
DEVICE Moments join(const Moments &a, const Moments &b)
{
    const double count = a.count + b.count, difference = b.mean - a.mean, part = count > 0 ? b.count / count : 0;
    return {count, a.mean + difference * part, a.squares + b.squares + difference * difference * a.count * part};
}

DEVICE Moments block_moments(Moments own)
{
    __shared__ double part[3 * (THREADS / 32)];
    for (int step = 16; step > 0; step >>= 1) {
        Moments other;
        other.count = __shfl_down_sync(0xffffffffu, own.count, step);
        other.mean = __shfl_down_sync(0xffffffffu, own.mean, step);
        other.squares = __shfl_down_sync(0xffffffffu, own.squares, step);
        own = join(own, other);
    }
    if (threadIdx.x % 32 == 0) {
        double *mine = part + 3 * (threadIdx.x / 32);
        mine[0] = own.count, mine[1] = own.mean, mine[2] = own.squares;
    }
    __syncthreads();
    own = {0, 0, 0};
    for (int i = 0; i < THREADS / 32; ++i) own = join(own, {part[3 * i], part[3 * i + 1], part[3 * i + 2]});
    __syncthreads();
    return own;
}

/* Moments of the first `count` of 16 values, the rest being 0. */
DEVICE Moments moments_of(const float (&v)[16], int count)
{
    float sum = 0, squares = 0, off = 0;
#pragma unroll
    for (int k = 0; k < 16; ++k) sum += v[k];
    const float mean = sum / (float)count;
#pragma unroll
    for (int k = 0; k < 16; ++k) {
        const float d = k < count ? v[k] - mean : 0;
        off += d;
        squares += d * d;
    }
    /* The float mean is rounded; what it is off by is the mean of the deviations. */
    const double shift = (double)off / count;
    return {(double)count, mean + shift, squares - off * shift};
}

template <int WIDTH>
DEVICE Moments thread_moments(const float *x, Walk w)
{
    Moments own = {0, 0, 0};
    while (going(w)) {
        float v[16];
        int count = 0;
#pragma unroll
        for (int k = 0; k < 16 / WIDTH; ++k) {
            Pack<WIDTH> pack = {};
            if (going(w)) {
                pack = load<WIDTH>(x + offset(w));
                count += WIDTH;
                step(w);
            }
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) v[k * WIDTH + i] = pack.v[i];
        }
        own = join(own, moments_of(v, count));
    }
    return own;
}

/* 1 / root of the variance; epsilon is added to the root where it is outside. */
DEVICE double inverse_root(double variance, float epsilon, i64 outside)
{
    return outside ? 1 / (sqrt(variance) + epsilon) : 1 / sqrt(variance + epsilon);
}

/* Derivative of inverse_root by the variance; 0 where there is none. */
DEVICE double inverse_root_slope(double variance, float epsilon, i64 outside)
{
    const double inverse = inverse_root(variance, epsilon, outside), root = sqrt(variance);
    if (!outside) return -inverse * inverse * inverse / 2;
    return root > 0 ? -inverse * inverse / 2 / root : 0;
}

/* out = ((x - high) - low) * factor + bias */
struct Affine {
    float high, low, factor, bias;
};

DEVICE float affine(const Affine &a, float x) { return ((x - a.high) - a.low) * a.factor + a.bias; }

/* z where it is above 0, below * z elsewhere. */
DEVICE float two_lines(float z, float below) { return z > 0.0f ? z : below * z; }

DEVICE Affine affine_of(double mean, double factor, float bias)
{
    const float high = (float)mean;
    return {high, (float)(mean - high), (float)factor, bias};
}

/* What the statistics of a batch make: mean, variance, rolling statistics, and how values are normalized. */
struct Channel {
    float *mean, *variance, *rolling_mean, *rolling_variance;
    const float *scales, *biases;
    float decay, epsilon;
    i64 ddof, rolling_ddof, outside;
};

DEVICE Affine finish_channel(const Channel &l, i64 c, const Moments &all, bool write)
{
    const double variance = all.squares / (all.count - l.ddof);
    if (write) {
        const double rest = 1 - (double)l.decay;
        l.mean[c] = (float)all.mean;
        l.variance[c] = (float)variance;
        l.rolling_mean[c] = (float)(l.decay * (double)l.rolling_mean[c] + rest * all.mean);
        l.rolling_variance[c] =
            (float)(l.decay * (double)l.rolling_variance[c] + rest * all.squares / (all.count - l.rolling_ddof));
    }
    return affine_of(all.mean, l.scales[c] * inverse_root(variance, l.epsilon, l.outside), l.biases[c]);
}

#define CHANNEL_PARAMETERS                                                                              \
    float *mean, float *variance, float *rolling_mean, float *rolling_variance, const float *scales, \
        const float *biases, float decay, i64 ddof, i64 rolling_ddof, float epsilon, i64 outside
#define CHANNEL                                                                                     \
    {mean, variance, rolling_mean, rolling_variance, scales, biases, decay, epsilon, ddof, rolling_ddof, outside}

/* One block per channel of at most SMALL values: one sweep. */
KERNEL batchnorm_forward_small(const float *x, float *out, i64 b, i64 c, i64 s, CHANNEL_PARAMETERS, float below)
{
    __shared__ float values[SMALL];
    const Channel l = CHANNEL;
    const i64 channel = blockIdx.x;
    i64 kept = threadIdx.x;
    for (Walk w = walk_part(b, c, s, 1, 0, 1); going(w); step(w), kept += THREADS)
        values[kept] = x[channel * s + offset(w)];
    Moments own = {0, 0, 0};
    for (i64 i = threadIdx.x; i < b * s;) {
        float v[16];
        int count = 0;
#pragma unroll
        for (int k = 0; k < 16; ++k) {
            v[k] = i < b * s ? values[i] : 0;
            count += i < b * s;
            i += THREADS;
        }
        own = join(own, moments_of(v, count));
    }
    const Affine a = finish_channel(l, channel, block_moments(own), threadIdx.x == 0);
    kept = threadIdx.x;
    for (Walk w = walk_part(b, c, s, 1, 0, 1); going(w); step(w), kept += THREADS)
        out[channel * s + offset(w)] = two_lines(affine(a, values[kept]), below);
}

/* partial[(channel * parts + part) * 3]: moments of a part of a channel. */
KERNEL batchnorm_moments(const float *x, double *partial, i64 b, i64 c, i64 s, i64 parts, i64 wide)
{
    const i64 channel = blockIdx.x / parts, part = blockIdx.x % parts;
    const float *from = x + channel * s;
    const Moments all = block_moments(
        wide ? thread_moments<4>(from, walk_part(b, c, s, 4, part, parts))
             : thread_moments<1>(from, walk_part(b, c, s, 1, part, parts)));
    if (threadIdx.x == 0) {
        double *to = partial + 3 * (i64)blockIdx.x;
        to[0] = all.count, to[1] = all.mean, to[2] = all.squares;
    }
}

DEVICE Moments joined_moments(const double *partial, i64 channel, i64 parts)
{
    Moments all = {0, 0, 0};
    for (i64 k = 0; k < parts; ++k) {
        const double *one = partial + 3 * (channel * parts + k);
        all = join(all, {one[0], one[1], one[2]});
    }
    return all;
}

/* affines[channel]: what batchnorm_apply does. */
KERNEL batchnorm_finish(const double *partial, float4 *affines, i64 c, i64 parts, CHANNEL_PARAMETERS)
{
    const Channel l = CHANNEL;
    FOR_EACH(channel, c) {
        const Affine a = finish_channel(l, channel, joined_moments(partial, channel, parts), true);
        affines[channel] = make_float4(a.high, a.low, a.factor, a.bias);
    }
}

/* Packs that a thread reads before it writes the first: a single one leaves the memory idle. */
#define AHEAD 4

template <int WIDTH>
DEVICE void apply(const float *x, float *out, Walk w, const Affine &a, float below)
{
    while (going(w)) {
        Pack<WIDTH> packs[AHEAD];
        i64 places[AHEAD];
        int count = 0;
#pragma unroll
        for (int k = 0; k < AHEAD; ++k) {
            if (!going(w)) continue;
            places[k] = offset(w), packs[k] = load<WIDTH>(x + places[k]);
            step(w), ++count;
        }
#pragma unroll
        for (int k = 0; k < AHEAD; ++k) {
            if (k >= count) continue;
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) packs[k].v[i] = two_lines(affine(a, packs[k].v[i]), below);
            store(out + places[k], packs[k]);
        }
    }
}

KERNEL batchnorm_apply(const float *x, float *out, const float4 *affines, i64 b, i64 c, i64 s, i64 parts, i64 wide,
                       float below)
{
    const i64 channel = blockIdx.x / parts, part = blockIdx.x % parts;
    const float4 four = affines[channel];
    const Affine a = {four.x, four.y, four.z, four.w};
    const float *from = x + channel * s;
    float *to = out + channel * s;
    if (wide) apply<4>(from, to, walk_part(b, c, s, 4, part, parts), a, below);
    else apply<1>(from, to, walk_part(b, c, s, 1, part, parts), a, below);
}

/* With given statistics; scales and biases may be NULL (1 and 0). */
KERNEL batchnorm_forward(const float *x, float *out, const float *mean, const float *variance, const float *scales,
                         const float *biases, i64 b, i64 c, i64 s, i64 parts, i64 wide, float epsilon, i64 outside)
{
    const i64 channel = blockIdx.x / parts, part = blockIdx.x % parts;
    const double root = inverse_root(variance[channel], epsilon, outside);
    const Affine a = affine_of(mean[channel], scales ? scales[channel] * root : root, biases ? biases[channel] : 0);
    const float *from = x + channel * s;
    float *to = out + channel * s;
    if (wide) apply<4>(from, to, walk_part(b, c, s, 4, part, parts), a, 1.0f);
    else apply<1>(from, to, walk_part(b, c, s, 1, part, parts), a, 1.0f);
}

/* How delta goes back through two lines of z = (x - mean) * factor + bias. */
struct Gate {
    float factor, bias, below;
};

DEVICE Gate gate_of(const float *variance, const float *scales, const float *biases, i64 channel, float epsilon,
                    i64 outside, float below)
{
    if (below == 1.0f) return {0, 0, 1};
    return {(float)(scales[channel] * inverse_root(variance[channel], epsilon, outside)), biases[channel], below};
}

/* delta, d being x - mean. */
DEVICE float gated(const Gate &g, float delta, float d) { return d * g.factor + g.bias > 0.0f ? delta : delta * g.below; }

#define GATE_PARAMETERS \
    const float *variance, const float *scales, const float *biases, float epsilon, i64 outside, float below
#define GATE gate_of(variance, scales, biases, channel, epsilon, outside, below)

/* Sums over part of a channel of delta and of delta * (x - mean), delta gone back through the gate; x and mean may be
 * NULL, then only the first. */
template <int WIDTH>
DEVICE void delta_sums(const float *x, const float *delta, float mean, const Gate &gate, Walk w, double &total,
                       double &product)
{
    while (going(w)) {
        float sum = 0, products = 0;
#pragma unroll
        for (int k = 0; k < 16 / WIDTH; ++k) {
            if (!going(w)) break;
            const Pack<WIDTH> d = load<WIDTH>(delta + offset(w));
            const Pack<WIDTH> v = x ? load<WIDTH>(x + offset(w)) : d;
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) {
                const float off = v.v[i] - mean, own = gated(gate, d.v[i], off);
                sum += own;
                products += own * off;
            }
            step(w);
        }
        total += sum;
        product += products;
    }
}

/* partial[(channel * parts + part) * 2]: the two sums. */
KERNEL batchnorm_sums(const float *x, const float *delta, const float *mean, double *partial, i64 b, i64 c, i64 s,
                      i64 parts, i64 wide, GATE_PARAMETERS)
{
    const i64 channel = blockIdx.x / parts, part = blockIdx.x % parts;
    const float *v = x ? x + channel * s : NULL, *d = delta + channel * s, m = mean ? mean[channel] : 0;
    const Gate gate = GATE;
    double total = 0, product = 0;
    if (wide) delta_sums<4>(v, d, m, gate, walk_part(b, c, s, 4, part, parts), total, product);
    else delta_sums<1>(v, d, m, gate, walk_part(b, c, s, 1, part, parts), total, product);
    total = block_sum(total);
    product = block_sum(product);
    if (threadIdx.x == 0) {
        partial[2 * (i64)blockIdx.x] = total;
        partial[2 * (i64)blockIdx.x + 1] = product;
    }
}

/* gradients[channel]: delta = delta * x + (x - mean) * y + z, as batchnorm_gradient does it. */
KERNEL batchnorm_finish_gradient(const double *partial, float4 *gradients, const float *variance, const float *scales,
                                 float *scale_updates, float *bias_updates, float *mean_delta, float *variance_delta,
                                 i64 size, i64 c, i64 parts, float epsilon, i64 outside, float gradient_epsilon,
                                 i64 gradient_outside, float statistics_epsilon, i64 statistics_outside, i64 ddof)
{
    FOR_EACH(k, c) {
        const double total = joined(partial + 2 * k * parts, parts, 2), product = joined(partial + 2 * k * parts + 1, parts, 2);
        const double v = variance[k], scale = scales[k];
        const double by_mean = -scale * total * inverse_root(v, statistics_epsilon, statistics_outside);
        const double by_variance = scale * product * inverse_root_slope(v, statistics_epsilon, statistics_outside);
        if (bias_updates) bias_updates[k] = (float)(bias_updates[k] + total);
        if (scale_updates) scale_updates[k] = (float)(scale_updates[k] + product * inverse_root(v, epsilon, outside));
        mean_delta[k] = (float)by_mean;
        variance_delta[k] = (float)by_variance;
        gradients[k] = make_float4((float)(scale * inverse_root(v, gradient_epsilon, gradient_outside)),
                                   (float)(by_variance * 2 / (size - ddof)), (float)(by_mean / size), 0);
    }
}

template <int WIDTH>
DEVICE void move_delta(const float *x, float *delta, float mean, const float4 &g, const Gate &gate, Walk w)
{
    for (; going(w); step(w)) {
        const Pack<WIDTH> v = load<WIDTH>(x + offset(w));
        Pack<WIDTH> d = load<WIDTH>(delta + offset(w));
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            const float off = v.v[i] - mean;
            d.v[i] = gated(gate, d.v[i], off) * g.x + (off * g.y + g.z);
        }
        store(delta + offset(w), d);
    }
}

KERNEL batchnorm_gradient(const float *x, float *delta, const float *mean, const float4 *gradients, i64 b, i64 c, i64 s,
                          i64 parts, i64 wide, GATE_PARAMETERS)
{
    const i64 channel = blockIdx.x / parts, part = blockIdx.x % parts;
    const float4 g = gradients[channel];
    const float *v = x + channel * s, m = mean[channel];
    float *d = delta + channel * s;
    const Gate gate = GATE;
    if (wide) move_delta<4>(v, d, m, g, gate, walk_part(b, c, s, 4, part, parts));
    else move_delta<1>(v, d, m, g, gate, walk_part(b, c, s, 1, part, parts));
}

#define DARKBN_CASE_BACK(code, name)                                                \
    case code:                                                                      \
        for (; going(w); step(w)) {                                                 \
            const float z = affine(a, v[offset(w)]);                                \
            d[offset(w)] *= darkbn_##name##_gradient(input ? z : darkbn_##name(z)); \
        }                                                                           \
        break;

/* delta *= derivative of an activation at the normalized values. */
KERNEL batchnorm_activation_gradient(const float *x, float *delta, const float *mean, const float *variance,
                                     const float *scales, const float *biases, i64 b, i64 c, i64 s, i64 parts,
                                     float epsilon, i64 outside, i64 kind)
{
    const i64 channel = blockIdx.x / parts, part = blockIdx.x % parts;
    const double root = inverse_root(variance[channel], epsilon, outside);
    const Affine a = affine_of(mean[channel], scales[channel] * root, biases[channel]);
    const float *v = x + channel * s;
    float *d = delta + channel * s;
    const bool input = darkbn_gradient_needs_input(kind);
    Walk w = walk_part(b, c, s, 1, part, parts);
    switch (kind) { DARKBN_POINTWISE(DARKBN_CASE_BACK) }
}

/* gradients from the given deltas of the statistics, for batchnorm_gradient. */
KERNEL batchnorm_given_gradient(float4 *gradients, const float *variance, const float *mean_delta,
                                const float *variance_delta, i64 size, i64 c, float epsilon, i64 outside, i64 ddof)
{
    FOR_EACH(k, c)
        gradients[k] = make_float4((float)inverse_root(variance[k], epsilon, outside),
                                   (float)((double)variance_delta[k] * 2 / (size - ddof)),
                                   (float)((double)mean_delta[k] / size), 0);
}

/* Sum of squared deviations from the given means, left in partial[2 * block + 1]. */
KERNEL batchnorm_squares(const float *x, const float *mean, double *partial, i64 b, i64 c, i64 s, i64 parts)
{
    const i64 channel = blockIdx.x / parts, part = blockIdx.x % parts;
    const float *v = x + channel * s, m = mean[channel];
    const double sum = channel_sum(b, c, s, part, parts, [=](i64 i) { return (v[i] - m) * (v[i] - m); });
    if (threadIdx.x == 0) partial[2 * (i64)blockIdx.x + 1] = sum;
}

/* Sum of delta * x_norm, left in partial[2 * block + 1]. */
KERNEL batchnorm_products(const float *x_norm, const float *delta, double *partial, i64 b, i64 c, i64 s, i64 parts)
{
    const i64 channel = blockIdx.x / parts, part = blockIdx.x % parts;
    const float *v = x_norm + channel * s, *d = delta + channel * s;
    const double sum = channel_sum(b, c, s, part, parts, [=](i64 i) { return v[i] * d[i]; });
    if (threadIdx.x == 0) partial[2 * (i64)blockIdx.x + 1] = sum;
}

/* What the joined sums become, by `what`; which = 0: sum, 1: product. */
enum { DIVIDED, ADDED, TIMES_MINUS_ROOT, TIMES_SLOPE };

KERNEL batchnorm_join(const double *partial, float *out, const float *variance, i64 c, i64 parts, i64 which, i64 what,
                      i64 divisor, float epsilon, i64 outside)
{
    FOR_EACH(k, c) {
        const double sum = joined(partial + 2 * k * parts + which, parts, 2);
        if (what == DIVIDED) out[k] = (float)(sum / divisor);
        else if (what == ADDED) out[k] = (float)(out[k] + sum);
        else if (what == TIMES_MINUS_ROOT) out[k] = (float)(-sum * inverse_root(variance[k], epsilon, outside));
        else out[k] = (float)(sum * inverse_root_slope(variance[k], epsilon, outside));
    }
}
