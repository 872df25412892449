/* Kernels of darkbn.reference.iseg. */
#include "darkbn/iseg.h"
#include "head.cuh"

/* Instances before the end of the list. */
DEVICE i64 listed(const float *truth, i64 m, i64 s)
{
    i64 count = 0;
    while (count < m && truth[count * (s + 1)] > -1) ++count;
    return count;
}

/* One block per sample and instance: means[instance] = its mean embedding, then its number of pixels (0 for what is no
 * instance). */
KERNEL iseg_means(const float *output, const float *truth, double *means, i64 c, i64 m, i64 s, i64 classes)
{
    const i64 sample = blockIdx.x / m, instance = blockIdx.x % m, ids = c - classes;
    const float *rows = truth + sample * m * (s + 1), *row = rows + instance * (s + 1), *mask = row + 1;
    double *to = means + blockIdx.x * (ids + 1);
    const bool is = instance < listed(rows, m, s) && row[0] < (float)classes;
    const double pixels = block_sum_of(is ? s : 0, [=](i64 i) { return mask[i] != 0 ? 1.0f : 0.0f; });
    for (i64 z = 0; z < ids; ++z) {
        const float *values = output + (sample * c + classes + z) * s;
        const double sum = block_sum_of(is ? s : 0, [=](i64 i) { return mask[i] != 0 ? values[i] : 0; });
        if (threadIdx.x == 0) to[z] = pixels > 0 ? sum / pixels : 0;
    }
    if (threadIdx.x == 0) to[ids] = pixels;
}

/* Delta of a class: to the last mask of it, elsewhere to 0. */
DEVICE float class_delta(const float *rows, i64 count, i64 s, i64 kind, i64 pixel, float value)
{
    float wanted = 0;
    for (i64 k = 0; k < count; ++k) {
        const float *row = rows + k * (s + 1);
        if ((i64)row[0] == kind && row[1 + pixel] != 0) wanted = row[1 + pixel];
    }
    return wanted - value;
}

/* One thread per value. */
KERNEL iseg_loss(const float *output, const float *truth, const double *means, float *delta, i64 b, i64 c, i64 m, i64 s,
                 i64 classes)
{
    const i64 ids = c - classes;
    FOR_EACH(i, b * c * s) {
        const i64 pixel = i % s, channel = i / s % c, sample = i / s / c, z = channel - classes;
        const float *rows = truth + sample * m * (s + 1), value = output[i];
        const double *own_means = means + sample * m * (ids + 1);
        const i64 count = listed(rows, m, s);
        if (z < 0) {
            delta[i] = class_delta(rows, count, s, channel, pixel, value);
            continue;
        }
        float change = -DARKBN_ISEG_SHRINK * value;
        for (i64 own = 0; own < count; ++own) {
            if (own_means[own * (ids + 1) + ids] == 0 || rows[own * (s + 1) + 1 + pixel] == 0) continue;
            for (i64 other = 0; other < count; ++other) {
                const double *mean = own_means + other * (ids + 1);
                const float step = own == other ? DARKBN_ISEG_STEP : -DARKBN_ISEG_STEP;
                if (mean[ids] > 0) change += (float)mean[z] - value < 0 ? -step : step;
            }
        }
        delta[i] = DARKBN_ISEG_SCALE * change;
    }
}

/* One block per sample. */
KERNEL iseg_costs(const float *delta, double *costs, i64 size)
{
    const double sum = squares_of(delta + blockIdx.x * size, size);
    if (threadIdx.x == 0) costs[blockIdx.x] = sum;
}
