/* Kernels of darkbn.reference.optimizer. */
#include "optimizer.cuh"

KERNEL optimizer_sgd(float *weights, float *updates, i64 n, float rate, float momentum, float decay)
{
    FOR_EACH(i, n) step_sgd(weights + i, updates + i, rate, momentum, decay);
}

KERNEL optimizer_adam(float *weights, float *updates, float *m, float *v, i64 n, double rate, double beta1, double beta2,
                      double epsilon, double decay, double v_scale)
{
    FOR_EACH(i, n) step_adam(weights + i, updates + i, m + i, v + i, rate, beta1, beta2, epsilon, decay, v_scale);
}

/* averages += (1 - alpha) * (values - averages); rest: 1 - alpha */
KERNEL optimizer_average(const float *values, float *averages, i64 n, float rest)
{
    map(averages, n, [=](float v, float a) { return step_average(v, a, rest); }, values, averages);
}

/* count += how many values are NaN or infinite. */
KERNEL optimizer_nonfinite(const float *values, unsigned long long *count, i64 n)
{
    unsigned long long own = 0;
    FOR_EACH(i, n) own += is_nonfinite(values[i]);
    if (own) atomicAdd(count, own);
}
