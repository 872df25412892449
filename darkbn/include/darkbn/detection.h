/* The YOLOv1 head: one sample. See darkbn/reference/detection.py for the layout. */
#ifndef DARKBN_DETECTION_H
#define DARKBN_DETECTION_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "darkbn/box.h"

typedef struct {
    ptrdiff_t side, n, classes;
    float object_scale, noobject_scale, class_scale, coord_scale;
    int sqrt, rescore, forced;
} darkbn_detection;

static inline void darkbn_softmax_row(const float *x, ptrdiff_t n, float *restrict out)
{
    float greatest = x[0];
    double sum = 0;
    for (ptrdiff_t i = 1; i < n; ++i) greatest = x[i] > greatest ? x[i] : greatest;
    for (ptrdiff_t i = 0; i < n; ++i) {
        out[i] = expf(x[i] - greatest);
        sum += out[i];
    }
    for (ptrdiff_t i = 0; i < n; ++i) out[i] = (float)(out[i] / sum);
}

/* A predicted or true box in parts of the picture. */
static inline darkbn_box darkbn_detection_box(const float *values, ptrdiff_t side, int square)
{
    const darkbn_box box = {values[0] / side, values[1] / side, square ? values[2] * values[2] : values[2],
                            square ? values[3] * values[3] : values[3]};
    return box;
}

static inline float darkbn_square(float x) { return x * x; }

/* The box with the greatest IoU or, where none overlaps, the nearest one. */
static inline ptrdiff_t darkbn_responsible(const darkbn_detection *g, const float *boxes, const float *place)
{
    const darkbn_box truth = darkbn_detection_box(place, g->side, 0);
    ptrdiff_t best = 0, nearest = 0;
    float most = 0, least = INFINITY;
    for (ptrdiff_t j = 0; j < g->n; ++j) {
        const darkbn_box box = darkbn_detection_box(boxes + 4 * j, g->side, g->sqrt);
        const float overlap = darkbn_iou(box, truth);
        const float distance = darkbn_square(box.x - truth.x) + darkbn_square(box.y - truth.y)
            + darkbn_square(box.w - truth.w) + darkbn_square(box.h - truth.h);
        if (overlap > most) most = overlap, best = j;
        if (distance < least) least = distance, nearest = j;
    }
    return most > 0 ? best : nearest;
}

/* Deltas of one cell with an object. row: classes and box of the truth; chosen: the responsible box, or below 0. */
static inline void darkbn_detection_object(const darkbn_detection *g, const float *classes, const float *confidences,
                                           const float *boxes, const float *row, int32_t chosen,
                                           float *class_delta, float *confidence_delta, float *box_delta)
{
    const float *place = row + g->classes;
    ptrdiff_t best;
    if (chosen >= 0) best = chosen;
    else if (g->forced) best = place[2] * place[3] < 0.1f && g->n > 1 ? 1 : 0;
    else best = darkbn_responsible(g, boxes, place);
    const float *box = boxes + 4 * best;
    const float goal = g->rescore ? darkbn_iou(darkbn_detection_box(box, g->side, g->sqrt),
                                               darkbn_detection_box(place, g->side, 0))
                                  : 1.0f;
    for (ptrdiff_t k = 0; k < g->classes; ++k) class_delta[k] = g->class_scale * (row[k] - classes[k]);
    confidence_delta[best] = g->object_scale * (goal - confidences[best]);
    for (int k = 0; k < 4; ++k) {
        const float aim = k > 1 && g->sqrt ? sqrtf(place[k]) : place[k];
        box_delta[4 * best + k] = g->coord_scale * (aim - box[k]);
    }
}

/* Deltas of one sample; returns the sum of their squares. choices may be NULL. */
static inline double darkbn_detection_loss(const darkbn_detection *g, const float *output, const float *truth,
                                           const int32_t *choices, float *delta)
{
    const ptrdiff_t cells = g->side * g->side, confidences = cells * g->classes, boxes = confidences + cells * g->n;
    const ptrdiff_t size = boxes + 4 * cells * g->n;
    double cost = 0;
    for (ptrdiff_t i = 0; i < size; ++i) delta[i] = 0;
    for (ptrdiff_t i = confidences; i < boxes; ++i) delta[i] = g->noobject_scale * -output[i];
    for (ptrdiff_t cell = 0; cell < cells; ++cell) {
        const float *row = truth + cell * (1 + g->classes + 4);
        const ptrdiff_t c = cell * g->classes, p = confidences + cell * g->n, b = boxes + 4 * cell * g->n;
        if (row[0] > -1 && row[0] < 1) continue;
        darkbn_detection_object(g, output + c, output + p, output + b, row + 1, choices ? choices[cell] : -1,
                                delta + c, delta + p, delta + b);
    }
    for (ptrdiff_t i = 0; i < size; ++i) cost += (double)delta[i] * delta[i];
    return cost;
}

#endif
