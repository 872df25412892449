/* Greedy suppression of overlapping boxes. */
#ifndef DARKBN_SUPPRESS_H
#define DARKBN_SUPPRESS_H

#include <stddef.h>

#include "box.h"

#define DARKBN_SUPPRESS_BLOCK 256

/* Suppress those of count boxes that overlap a by more than threshold; x, y, w, h and keep point to the first. With
 * `distant` the measure is DIoU with that exponent, which is never above the IoU: its power is taken of few. */
static inline void darkbn_suppress_block(darkbn_box a, const float *restrict x, const float *restrict y,
                                         const float *restrict w, const float *restrict h,
                                         unsigned char *restrict keep, ptrdiff_t count, float threshold, int distant,
                                         double exponent)
{
    unsigned char near[DARKBN_SUPPRESS_BLOCK];
    for (ptrdiff_t j = 0; j < count; ++j) {
        const darkbn_box b = {x[j], y[j], w[j], h[j]};
        near[j] = darkbn_iou(a, b) > threshold;
    }
    if (distant) {
        for (ptrdiff_t j = 0; j < count; ++j) {
            const darkbn_box b = {x[j], y[j], w[j], h[j]};
            if (near[j] && keep[j]) near[j] = darkbn_diou(a, b, exponent) > threshold;
        }
    }
    for (ptrdiff_t j = 0; j < count; ++j) keep[j] &= (unsigned char)!near[j];
}

/* The boxes start to end of n, sorted by falling probability: keep[j] = 0 where one before overlaps too much.
 * `boxes` are rows x, y, w, h. */
static inline void darkbn_suppress(const float *boxes, unsigned char *keep, ptrdiff_t n, ptrdiff_t start,
                                   ptrdiff_t end, float threshold, int distant, double exponent)
{
    const float *x = boxes, *y = boxes + n, *w = boxes + 2 * n, *h = boxes + 3 * n;
    for (ptrdiff_t i = start; i < end; ++i) {
        if (!keep[i]) continue;
        const darkbn_box a = {x[i], y[i], w[i], h[i]};
        for (ptrdiff_t j = i + 1; j < end; j += DARKBN_SUPPRESS_BLOCK) {
            const ptrdiff_t count = end - j < DARKBN_SUPPRESS_BLOCK ? end - j : DARKBN_SUPPRESS_BLOCK;
            darkbn_suppress_block(a, x + j, y + j, w + j, h + j, keep + j, count, threshold, distant, exponent);
        }
    }
}

#endif
