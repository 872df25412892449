/* Kernels of darkbn.reference.optimizer. */
#include "grid.cuh"

/* updates -= decay*weights; weights += rate*updates; updates *= momentum */
KERNEL optimizer_sgd(float *weights, float *updates, i64 n, float rate, float momentum, float decay)
{
    FOR_EACH(i, n) {
        const float update = updates[i] - decay * weights[i];
        weights[i] += rate * update;
        updates[i] = momentum * update;
    }
}

/* rate: divided by 1 - beta1^t; v_scale: 1 / (1 - beta2^t). The updates start anew. */
KERNEL optimizer_adam(float *weights, float *updates, float *m, float *v, i64 n, double rate, double beta1, double beta2,
                      double epsilon, double decay, double v_scale)
{
    FOR_EACH(i, n) {
        const double update = updates[i] - decay * weights[i];
        const double first = m[i] + (1 - beta1) * (update - m[i]);
        const double second = v[i] + (1 - beta2) * (update * update - v[i]);
        m[i] = (float)first;
        v[i] = (float)second;
        weights[i] = (float)(weights[i] + rate * first / (sqrt(second * v_scale) + epsilon));
        updates[i] = 0;
    }
}

/* averages += (1 - alpha) * (values - averages); rest: 1 - alpha */
KERNEL optimizer_average(const float *values, float *averages, i64 n, float rest)
{
    map(averages, n, [=](float v, float a) { return a + rest * (v - a); }, values, averages);
}

/* count += how many values are NaN or infinite. */
KERNEL optimizer_nonfinite(const float *values, unsigned long long *count, i64 n)
{
    unsigned long long own = 0;
    FOR_EACH(i, n) own += !(fabsf(values[i]) <= 3.402823466e+38f);
    if (own) atomicAdd(count, own);
}
