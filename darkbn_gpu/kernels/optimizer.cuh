/* One value's step of the optimizer, for one parameter (optimizer.cu) and for all of a network (together.cu). */
#ifndef DARKBN_OPTIMIZER_CUH
#define DARKBN_OPTIMIZER_CUH

#include "grid.cuh"

/* update -= decay*weight; weight += rate*update; update *= momentum */
DEVICE void step_sgd(float *weight, float *update, float rate, float momentum, float decay)
{
    const float u = *update - decay * *weight;
    *weight += rate * u;
    *update = momentum * u;
}

/* rate: divided by 1 - beta1^t; v_scale: 1 / (1 - beta2^t). The update starts anew. */
DEVICE void step_adam(float *weight, float *update, float *m, float *v, double rate, double beta1, double beta2,
                      double epsilon, double decay, double v_scale)
{
    const double u = *update - decay * *weight;
    const double first = *m + (1 - beta1) * (u - *m);
    const double second = *v + (1 - beta2) * (u * u - *v);
    *m = (float)first;
    *v = (float)second;
    *weight = (float)(*weight + rate * first / (sqrt(second * v_scale) + epsilon));
    *update = 0;
}

/* rest: 1 - alpha */
DEVICE float step_average(float value, float average, float rest) { return average + rest * (value - average); }

DEVICE bool is_nonfinite(float value) { return !(fabsf(value) <= 3.402823466e+38f); }

DEVICE float bounded(float value, float limit)
{
    const float below = value > limit ? limit : value;
    return below < -limit ? -limit : below;
}

#endif
