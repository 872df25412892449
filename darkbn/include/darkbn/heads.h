/* What the detection heads share. */
#ifndef DARKBN_HEADS_H
#define DARKBN_HEADS_H

#include <stddef.h>

#include "box.h"
#include "sums.h"

/* Cells that are looked at together: by a loop that vectorizes, or by a thread. */
#ifndef __CUDACC__
#define DARKBN_CELLS 128
#else
#define DARKBN_CELLS 1
#endif

/* out = logistic(x); not for arrays that overlap. */
static inline void darkbn_logistic_plane(const float *restrict x, float *restrict out, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; ++i) out[i] = darkbn_logistic(x[i]);
}

/* The class of a row of truth, or -1 when it does not exist. */
static inline ptrdiff_t darkbn_truth_class(const float *row, ptrdiff_t classes)
{
    return row[4] > -1 && row[4] < (float)classes ? (ptrdiff_t)row[4] : -1;
}

static inline ptrdiff_t darkbn_clip_cell(float x, ptrdiff_t cells)
{
    const float place = x * (float)cells;
    return place > 0 ? (place < (float)cells ? (ptrdiff_t)place : cells - 1) : 0;
}

/* Derivative of the focal loss of a class of that probability, over that of the cross entropy. */
static inline float darkbn_focal_slope(float probability)
{
    const float certain = probability + 1e-15f;
    return -(1 - certain) * (2 * certain * logf(certain) + certain - 1);
}

/* Boxes of neighbouring cells, and the best IoU of each with a truth. */
typedef struct {
    float x[DARKBN_CELLS], y[DARKBN_CELLS], w[DARKBN_CELLS], h[DARKBN_CELLS];
    float best[DARKBN_CELLS];
    int which[DARKBN_CELLS];
} darkbn_cells;

/* best and which = the largest IoU with a truth, and that truth's row; 0 and -1 when nothing overlaps. */
static inline void darkbn_best_truths(darkbn_cells *cells, int count, const float *truth, ptrdiff_t t, ptrdiff_t k,
                                      ptrdiff_t classes)
{
    for (int i = 0; i < count; ++i) {
        cells->best[i] = 0;
        cells->which[i] = -1;
    }
    for (ptrdiff_t row = 0; row < t && truth[row * k] != 0; ++row) {
        const float *numbers = truth + row * k;
        if (darkbn_truth_class(numbers, classes) < 0) continue;
        const darkbn_box b = {numbers[0], numbers[1], numbers[2], numbers[3]};
        for (int i = 0; i < count; ++i) {
            const darkbn_box a = {cells->x[i], cells->y[i], cells->w[i], cells->h[i]};
            const float overlap = darkbn_iou(a, b);
            cells->which[i] = overlap > cells->best[i] ? (int)row : cells->which[i];
            cells->best[i] = overlap > cells->best[i] ? overlap : cells->best[i];
        }
    }
}

/* The columns and rows of neighbouring cells of a map of width w. */
static inline void darkbn_cell_corners(darkbn_cells *cells, ptrdiff_t start, int count, ptrdiff_t w)
{
    ptrdiff_t column = start % w, row = start / w;
    for (int i = 0; i < count; ++i) {
        cells->x[i] = (float)column;
        cells->y[i] = (float)row;
        if (++column == w) column = 0, ++row;
    }
}

#endif
