/* Instance segmentation: one sample. See darkbn/reference/iseg.py. */
#ifndef DARKBN_ISEG_H
#define DARKBN_ISEG_H

#include <stddef.h>

#define DARKBN_ISEG_SHRINK 0.1f
#define DARKBN_ISEG_STEP 0.1f
#define DARKBN_ISEG_SCALE 0.01f

/* channels = classes + ids; instances rows of truth, each a class and a mask of `spatial` values. */
typedef struct {
    ptrdiff_t channels, classes, spatial, instances;
} darkbn_iseg;

/* How many instances the list has before its end (a class below 0). */
static inline ptrdiff_t darkbn_iseg_count(const darkbn_iseg *g, const float *truth)
{
    ptrdiff_t count = 0;
    while (count < g->instances && truth[count * (g->spatial + 1)] > -1) ++count;
    return count;
}

/* Writes the class deltas of one instance and its mean embedding; returns its number of pixels. */
static inline ptrdiff_t darkbn_iseg_instance(const darkbn_iseg *g, const float *output, const float *row, float *delta,
                                             float *restrict mean)
{
    const ptrdiff_t ids = g->channels - g->classes, kind = (ptrdiff_t)row[0];
    const float *restrict mask = row + 1;
    ptrdiff_t count = 0;
    if (!(row[0] < g->classes)) return 0;
    for (ptrdiff_t i = 0; i < g->spatial; ++i) {
        if (mask[i] == 0) continue;
        ++count;
        delta[kind * g->spatial + i] = mask[i] - output[kind * g->spatial + i];
    }
    for (ptrdiff_t z = 0; z < ids; ++z) {
        const float *restrict values = output + (g->classes + z) * g->spatial;
        double sum = 0;
        for (ptrdiff_t i = 0; i < g->spatial; ++i) sum += mask[i] != 0 ? values[i] : 0;
        mean[z] = (float)(count ? sum / count : 0);
    }
    return count;
}

/* Adds to one embedding channel the pull towards (or, with -STEP, away from) a mean inside of a mask. */
static inline void darkbn_iseg_pull(const float *restrict mask, const float *restrict values, ptrdiff_t n, float mean,
                                    float step, float *restrict delta)
{
    for (ptrdiff_t i = 0; i < n; ++i) {
        const float direction = mean - values[i] < 0 ? -step : step;
        delta[i] += mask[i] != 0 ? direction : 0;
    }
}

/* Deltas of one sample; returns the sum of their squares. room: (ids + 1) floats for each instance. */
static inline double darkbn_iseg_loss(const darkbn_iseg *g, const float *output, const float *truth, float *delta,
                                      float *room)
{
    const ptrdiff_t ids = g->channels - g->classes, count = darkbn_iseg_count(g, truth), spatial = g->spatial;
    float *present = room + ids * g->instances;
    double cost = 0;
    for (ptrdiff_t i = 0; i < g->classes * spatial; ++i) delta[i] = -output[i];
    for (ptrdiff_t i = g->classes * spatial; i < g->channels * spatial; ++i) delta[i] = -DARKBN_ISEG_SHRINK * output[i];
    for (ptrdiff_t m = 0; m < count; ++m)
        present[m] = darkbn_iseg_instance(g, output, truth + m * (spatial + 1), delta, room + m * ids) > 0;
    for (ptrdiff_t own = 0; own < count; ++own) {
        const float *mask = truth + own * (spatial + 1) + 1;
        for (ptrdiff_t other = 0; other < count && present[own] > 0; ++other) {
            const float step = own == other ? DARKBN_ISEG_STEP : -DARKBN_ISEG_STEP;
            if (present[other] == 0) continue;
            for (ptrdiff_t z = 0; z < ids; ++z)
                darkbn_iseg_pull(mask, output + (g->classes + z) * spatial, spatial, room[other * ids + z], step,
                                 delta + (g->classes + z) * spatial);
        }
    }
    for (ptrdiff_t i = g->classes * spatial; i < g->channels * spatial; ++i) delta[i] *= DARKBN_ISEG_SCALE;
    for (ptrdiff_t i = 0; i < g->channels * spatial; ++i) cost += (double)delta[i] * delta[i];
    return cost;
}

#endif
