/* Kernels of darkbn.reference.cost: losses of single values. */
#include "grid.cuh"

enum { L2, L1, SMOOTH_L1, WGAN, LOGISTIC };

struct Loss {
    float error, delta;
};

DEVICE Loss loss_of(float p, float t, i64 kind)
{
    const float difference = t - p, size = fabsf(difference);
    switch (kind) {
    case L2: return {difference * difference, difference};
    case L1: return {size, difference > 0 ? 1.0f : -1.0f};
    case SMOOTH_L1:
        return {size < 1 ? difference * difference : 2 * size - 1,
                size < 1 ? difference : copysignf(1.0f, difference)};
    case WGAN: return {t != 0 ? -p : p, t > 0 ? 1.0f : -1.0f};
    default:
        /* A term whose weight is 0 is 0, also where the logarithm is infinite. */
        return {(t != 0 ? -t * logf(p) : 0) - (t != 1 ? (1 - t) * log1pf(-p) : 0), difference};
    }
}

KERNEL cost_loss(const float *predicted, const float *truth, float *delta, float *error, i64 n, i64 kind)
{
    FOR_EACH(i, n) {
        const Loss loss = loss_of(predicted[i], truth[i], kind);
        error[i] = loss.error;
        delta[i] = loss.delta;
    }
}

KERNEL cost_scale_where(const float *mask, float *x, i64 n, float value, float factor)
{
    map(x, n, [=](float m, float v) { return m == value ? v * factor : v; }, mask, x);
}

KERNEL cost_fill_where(const float *mask, float *x, i64 n, float value, float number)
{
    map(x, n, [=](float m, float v) { return m == value ? number : v; }, mask, x);
}

KERNEL cost_suppress(float *x, i64 n, float threshold)
{
    map(x, n, [=](float v) { return fabsf(v) < threshold ? 0 : v; }, x);
}
