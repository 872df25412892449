/* Kernels of darkbn.reference.softmax. */
#include "grid.cuh"

/* One block per row of n neighbouring values. */
KERNEL softmax_rows(const float *x, float *out, i64 n, float temperature)
{
    const float *from = x + blockIdx.x * n;
    float *to = out + blockIdx.x * n;
    float largest = -INFINITY;
    FOR_BLOCK(i, n) largest = from[i] > largest ? from[i] : largest;
    largest = block_max(largest);
    const double sum = block_sum_of(n, [=](i64 i) { return expf((from[i] - largest) / temperature); });
    FOR_BLOCK(i, n) to[i] = (float)(expf((from[i] - largest) / temperature) / sum);
}

/* One thread per pixel; its n values lie s apart. */
KERNEL softmax_columns(const float *x, float *out, i64 b, i64 n, i64 s, float temperature)
{
    FOR_EACH(pixel, b * s) {
        const i64 first = pixel / s * n * s + pixel % s;
        const float *from = x + first;
        float *to = out + first;
        float largest = -INFINITY;
        double sum = 0;
        for (i64 k = 0; k < n; ++k) largest = from[k * s] > largest ? from[k * s] : largest;
        for (i64 k = 0; k < n; ++k) sum += expf((from[k * s] - largest) / temperature);
        for (i64 k = 0; k < n; ++k) to[k * s] = (float)(expf((from[k * s] - largest) / temperature) / sum);
    }
}

KERNEL softmax_cross_entropy(const float *predicted, const float *truth, float *delta, float *error, i64 n)
{
    FOR_EACH(i, n) {
        const float p = predicted[i], t = truth[i];
        error[i] = t != 0 ? -logf(p) : 0;
        delta[i] = t - p;
    }
}

/* One block per row; its groups follow each other. */
KERNEL softmax_groups(const float *x, float *out, const int *sizes, i64 n, i64 groups, float temperature)
{
    const float *from = x + blockIdx.x * n;
    float *to = out + blockIdx.x * n;
    for (i64 g = 0; g < groups; ++g) {
        const i64 size = sizes[g];
        float largest = -INFINITY;
        FOR_BLOCK(i, size) largest = from[i] > largest ? from[i] : largest;
        largest = block_max(largest);
        const double sum = block_sum_of(size, [=](i64 i) { return expf((from[i] - largest) / temperature); });
        FOR_BLOCK(i, size) to[i] = (float)(expf((from[i] - largest) / temperature) / sum);
        from += size;
        to += size;
    }
}
