/* Kernels of darkbn.reference.bias: one value per channel. */
#include "channel.cuh"

KERNEL bias_add(float *x, const float *biases, i64 n, i64 c, i64 s)
{
    FOR_EACH(i, n) x[i] += biases[i / s % c];
}

KERNEL bias_scale(float *x, const float *scales, i64 n, i64 c, i64 s)
{
    FOR_EACH(i, n) x[i] *= scales[i / s % c];
}

/* partial[block]: sum of a part of a channel. */
KERNEL bias_sums(const float *delta, double *partial, i64 b, i64 c, i64 s, i64 parts)
{
    const float *d = delta + blockIdx.x / parts * s;
    const double sum = channel_sum(b, c, s, blockIdx.x % parts, parts, [=](i64 i) { return d[i]; });
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

KERNEL bias_join(const double *partial, float *bias_updates, i64 c, i64 parts)
{
    FOR_EACH(k, c) bias_updates[k] = (float)(bias_updates[k] + joined(partial + k * parts, parts, 1));
}
