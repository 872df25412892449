/* Supervised contrastive learning: see darkbn/reference/contrastive.py. */
#ifndef DARKBN_CONTRASTIVE_H
#define DARKBN_CONTRASTIVE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "sums.h"

#define DARKBN_CERTAIN 0.9999

/* m embeddings of d values. similar: m*m cosines, with the lengths in the diagonal, then m doubles: sums of powers. */
typedef struct {
    const float *z;
    const int32_t *labels, *classes, *steps;
    float *similar;
    ptrdiff_t m, d, most;
    double temperature;
    int detection;
} darkbn_contrast;

static inline int darkbn_partners(const darkbn_contrast *g, ptrdiff_t i, ptrdiff_t j)
{
    return i != j && g->classes[i] == g->classes[j] && g->steps[i] == g->steps[j];
}

static inline void darkbn_contrast_length(const darkbn_contrast *g, ptrdiff_t i)
{
    const float *z = g->z + i * g->d;
    g->similar[i * g->m + i] = (float)sqrt(darkbn_dot(z, z, g->d));
}

static inline void darkbn_contrast_angles(const darkbn_contrast *g, ptrdiff_t i)
{
    for (ptrdiff_t j = 0; j < g->m; ++j) {
        const double lengths = (double)g->similar[i * g->m + i] * g->similar[j * g->m + j];
        if (j == i) continue;
        g->similar[i * g->m + j] =
            (float)(lengths > 0 ? darkbn_dot(g->z + i * g->d, g->z + j * g->d, g->d) / lengths : 0);
    }
}

static inline double darkbn_contrast_power(const darkbn_contrast *g, ptrdiff_t i, ptrdiff_t j)
{
    return darkbn_partners(g, i, j) ? exp(g->similar[i * g->m + j] / g->temperature) : 0;
}

/* Sum of the powers of all partners of j. */
static inline void darkbn_contrast_total(const darkbn_contrast *g, ptrdiff_t j)
{
    double total = 0;
    for (ptrdiff_t k = 0; k < g->m; ++k) total += darkbn_contrast_power(g, k, j);
    memcpy(g->similar + g->m * g->m + 2 * j, &total, sizeof total);
}

/* p(i, j) of a pair. */
static inline double darkbn_contrast_probability(const darkbn_contrast *g, ptrdiff_t i, ptrdiff_t j)
{
    const double power = darkbn_contrast_power(g, i, j);
    double total, probability;
    int alone = 1;
    for (ptrdiff_t k = 0; k < g->m && alone; ++k) alone = k == i || !darkbn_partners(g, k, j);
    memcpy(&total, g->similar + g->m * g->m + 2 * j, sizeof total);
    probability = alone ? DARKBN_CERTAIN : power / (total - power);
    return g->detection && probability > 1 ? DARKBN_CERTAIN : probability;
}

/* delta += weight * (z[j] - cosine * z[i]); the part along z[i] is collected. */
static inline void darkbn_contrast_pull(const darkbn_contrast *g, ptrdiff_t i, ptrdiff_t j, double weight,
                                        float *restrict delta, double *along)
{
    const float *restrict z = g->z + j * g->d;
    const float factor = (float)weight;
    for (ptrdiff_t k = 0; k < g->d; ++k) delta[k] += factor * z[k];
    *along += weight * g->similar[i * g->m + j];
}

/* The negative partners of i that count with the positive one j; returns whether that is all that count. Candidates
 * that are no partners count as seen, but do not end the list. */
static inline int darkbn_contrast_push(const darkbn_contrast *g, ptrdiff_t i, ptrdiff_t j, ptrdiff_t *seen,
                                       float *delta, double *along)
{
    for (ptrdiff_t k = 0; k < g->m; ++k) {
        if (k == i || k == j) continue;
        if (g->detection && (g->labels[k] == g->labels[i] || g->classes[j] != g->classes[k])) continue;
        ++*seen;
        if (!darkbn_partners(g, i, k)) continue;
        darkbn_contrast_pull(g, i, k, -darkbn_contrast_probability(g, i, k), delta, along);
        if (g->detection && *seen >= g->most) return 1;
    }
    return 0;
}

/* delta of one embedding; returns whether its nearest partner is of its label, -1 when there are not both kinds. */
static inline int darkbn_contrast_loss(const darkbn_contrast *g, ptrdiff_t i, float *delta)
{
    const float length = g->similar[i * g->m + i], *z = g->z + i * g->d;
    float nearest[2] = {-2, -2};
    double along = 0;
    ptrdiff_t positives = 0, seen = 0;
    int full = 0;
    for (ptrdiff_t k = 0; k < g->d; ++k) delta[k] = 0;
    for (ptrdiff_t j = 0; j < g->m; ++j) {
        const int alike = g->labels[i] == g->labels[j];
        const float cosine = g->similar[i * g->m + j];
        if (darkbn_partners(g, i, j) && cosine > nearest[alike]) nearest[alike] = cosine;
        positives += alike && i != j;
    }
    for (ptrdiff_t j = 0; j < g->m && length > 0; ++j) {
        if (i == j || g->labels[i] != g->labels[j]) continue;
        if (darkbn_partners(g, i, j))
            darkbn_contrast_pull(g, i, j, 1 - darkbn_contrast_probability(g, i, j), delta, &along);
        full = full || darkbn_contrast_push(g, i, j, &seen, delta, &along);
    }
    const float factor = positives && length > 0 ? (float)(1 / ((double)positives * g->temperature * length)) : 0;
    for (ptrdiff_t k = 0; k < g->d; ++k) delta[k] = (delta[k] - (float)along * z[k]) * factor;
    return nearest[0] > -2 && nearest[1] > -2 ? nearest[1] > nearest[0] : -1;
}

#endif
