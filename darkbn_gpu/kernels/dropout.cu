/* Kernels of darkbn.reference.dropout. */
#include "grid.cuh"

KERNEL dropout_forward(const float *x, const float *rand, float *out, i64 n, float probability, float scale)
{
    map(out, n, [=](float v, float r) { return r < probability ? 0 : v * scale; }, x, rand);
}

KERNEL dropout_backward(const float *rand, const float *delta, float *out, i64 n, float probability, float scale)
{
    map(out, n, [=](float r, float d, float o) { return o + (r < probability ? 0 : d * scale); }, rand, delta, out);
}
