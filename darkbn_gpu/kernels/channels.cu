/* Kernels of darkbn.reference.channels: maps times what belongs to their channels or pixels. */
#include "grid.cuh"

/* out = x * scales, one per map of s values; added to out when add is not 0. */
KERNEL channels_scale(const float *x, const float *scales, float *out, i64 n, i64 s, i64 add)
{
    FOR_EACH(i, n) out[i] = (add ? out[i] : 0) + x[i] * scales[i / s];
}

/* The same, one per pixel of c maps. */
KERNEL channels_scale_pixels(const float *x, const float *scales, float *out, i64 n, i64 c, i64 s, i64 add)
{
    FOR_EACH(i, n) out[i] = (add ? out[i] : 0) + x[i] * scales[i / (c * s) * s + i % s];
}

/* One block per map. */
KERNEL channels_dot_add(const float *x, const float *y, float *sums, i64 s)
{
    const float *a = x + blockIdx.x * s, *b = y + blockIdx.x * s;
    const double sum = block_sum_of(s, [=](i64 i) { return a[i] * b[i]; });
    if (threadIdx.x == 0) sums[blockIdx.x] = (float)(sums[blockIdx.x] + sum);
}

/* One thread per pixel. */
KERNEL channels_dot_pixels_add(const float *x, const float *y, float *sums, i64 b, i64 c, i64 s)
{
    FOR_EACH(pixel, b * s) {
        const i64 first = pixel / s * c * s + pixel % s;
        double sum = 0;
        for (i64 k = 0; k < c; ++k) sum += x[first + k * s] * y[first + k * s];
        sums[pixel] = (float)(sums[pixel] + sum);
    }
}

KERNEL channels_multiply(const float *x, const float *y, float *out, i64 n, i64 add)
{
    if (add) map(out, n, [](float a, float b, float o) { return o + a * b; }, x, y, out);
    else map(out, n, [](float a, float b) { return a * b; }, x, y);
}
