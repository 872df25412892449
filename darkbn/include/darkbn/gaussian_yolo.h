/* The [Gaussian_yolo] head: activation and training loss; darkbn/reference/gaussian_yolo.py tells the formulas.
 *
 * From objectness on its entries are those of the [yolo] head, so that head's functions work on the last e - 4 entries.
 */
#ifndef DARKBN_GAUSSIAN_YOLO_H
#define DARKBN_GAUSSIAN_YOLO_H

#include <math.h>

#include "yolo.h"

/* Entries of boxes and uncertainties; how many of them come before where a [yolo] head would begin. */
#define DARKBN_GAUSSIAN_BOX 8
#define DARKBN_GAUSSIAN_SKIP 4

#define DARKBN_GAUSSIAN_SIGMA 0.3
#define DARKBN_GAUSSIAN_EPSILON 1e-9
#define DARKBN_ROOT_2_PI 2.50662827463100050242

/* tail: the head from entry 4 on (e counts those); to_center: half widths from the predicted point to the centre. */
typedef struct {
    darkbn_yolo tail;
    float uc_normalizer, to_center;
} darkbn_gaussian;

/* One entry of one anchor, n values. */
static inline void darkbn_gaussian_activate(const float *restrict x, float *restrict out, ptrdiff_t n, ptrdiff_t entry,
                                            float scale)
{
    if (entry == 4 || entry == 6) memcpy(out, x, (size_t)n * sizeof(float));
    else if (entry == 0 || entry == 2) darkbn_logistic_spread(x, out, n, scale);
    else darkbn_logistic_plane(x, out, n);
}

/* The place of a cell, from entry 0 on. */
static inline darkbn_place darkbn_gaussian_place(const darkbn_gaussian *l, ptrdiff_t n, ptrdiff_t cell)
{
    const darkbn_yolo *y = &l->tail;
    const ptrdiff_t area = y->h * y->w, first = n * (y->e + DARKBN_GAUSSIAN_SKIP) * area + cell;
    const float *anchor = y->anchors + 2 * (ptrdiff_t)y->mask[n];
    const darkbn_place place = {y->output + first, y->delta + first, area,     cell % y->w,
                                cell / y->w,       anchor[0],        anchor[1]};
    return place;
}

/* The same place as the functions of the [yolo] head see it. */
static inline darkbn_place darkbn_gaussian_tail(darkbn_place p)
{
    p.output += DARKBN_GAUSSIAN_SKIP * p.stride;
    p.delta += DARKBN_GAUSSIAN_SKIP * p.stride;
    return p;
}

static inline darkbn_box darkbn_gaussian_box(const darkbn_gaussian *l, darkbn_place p)
{
    const darkbn_yolo *y = &l->tail;
    darkbn_box box;
    box.w = darkbn_yolo_size(p.output[4 * p.stride], p.anchor_w, y->rules.net_w, 0);
    box.h = darkbn_yolo_size(p.output[6 * p.stride], p.anchor_h, y->rules.net_h, 0);
    box.x = ((float)p.i + p.output[0]) / (float)y->w + l->to_center * box.w / 2;
    box.y = ((float)p.j + p.output[2 * p.stride]) / (float)y->h + l->to_center * box.h / 2;
    return box;
}

/* The steps of a mean and of its deviation towards a target. */
static inline void darkbn_gaussian_density(float mean, float deviation, float target, float scale, float step[2])
{
    const double sigma = deviation, z = ((double)target - mean) / sigma;
    const double density = exp(-z * z / 2) / (DARKBN_ROOT_2_PI * (sigma + DARKBN_GAUSSIAN_SIGMA));
    const double share = scale / 2 * density / (density + DARKBN_GAUSSIAN_EPSILON);
    step[0] = (float)(share * z / sigma);
    step[1] = (float)(share * (z * z / sigma - 1 / (sigma + DARKBN_GAUSSIAN_SIGMA)));
}

static inline void darkbn_gaussian_overlap(const darkbn_gaussian *l, darkbn_place p, const float *row, float step[4])
{
    const darkbn_box truth = {row[0], row[1], row[2], row[3]};
    darkbn_box box = darkbn_gaussian_box(l, p);
    if (box.w == 0) box.w = 1;
    if (box.h == 0) box.h = 1;
    darkbn_iou_gradient(box, truth, l->tail.rules.iou_loss, step);
    for (int k = 0; k < 2; ++k) {
        step[k + 2] += l->to_center * step[k] / 2;
        step[k + 2] *= darkbn_exp(p.output[(4 + 2 * k) * p.stride]);
    }
}

static inline void darkbn_gaussian_move_box(const darkbn_gaussian *l, darkbn_place p, const float *row, float weight)
{
    const darkbn_yolo_rules *r = &l->tail.rules;
    const float scale = 2 - row[2] * row[3];
    const float target[4] = {
        (row[0] - l->to_center * row[2] / 2) * (float)l->tail.w - (float)p.i,
        (row[1] - l->to_center * row[3] / 2) * (float)l->tail.h - (float)p.j,
        (float)log(row[2] * r->net_w / p.anchor_w),
        (float)log(row[3] * r->net_h / p.anchor_h),
    };
    float overlap[4];
    if (r->iou_loss != DARKBN_MSE) darkbn_gaussian_overlap(l, p, row, overlap);
    for (int k = 0; k < 4; ++k) {
        const ptrdiff_t mean = 2 * k * p.stride, deviation = mean + p.stride;
        float step[2];
        darkbn_gaussian_density(p.output[mean], p.output[deviation], target[k], scale, step);
        if (r->iou_loss != DARKBN_MSE) step[0] = overlap[k];
        p.delta[mean] += darkbn_bounded(step[0] * (r->iou_normalizer * weight), r->max_delta);
        p.delta[deviation] += darkbn_bounded(step[1] * l->uc_normalizer, r->max_delta);
    }
}

static inline void darkbn_gaussian_boxes(const darkbn_gaussian *l, ptrdiff_t n, ptrdiff_t start, int count,
                                         darkbn_cells *restrict cells)
{
    for (int i = 0; i < count; ++i) {
        const darkbn_box box = darkbn_gaussian_box(l, darkbn_gaussian_place(l, n, start + i));
        cells->x[i] = box.x, cells->y[i] = box.y, cells->w[i] = box.w, cells->h[i] = box.h;
    }
}

/* What a prediction that no truth claimed learns from the truth that it overlaps most. */
static inline void darkbn_gaussian_match(const darkbn_gaussian *l, darkbn_place whole, const float *row, float best)
{
    const darkbn_yolo *y = &l->tail;
    const darkbn_yolo_rules *r = &y->rules;
    const darkbn_place p = darkbn_gaussian_tail(whole);
    const ptrdiff_t kind = darkbn_truth_class(row, y->e - 5), entry = (5 + kind) * p.stride;
    const float weight = darkbn_yolo_weight(y, kind), objectness = p.output[4 * p.stride];
    const float target = r->objectness_smooth ? best * best : 1;
    if (best > r->ignore_thresh && darkbn_yolo_likely(y, p)) {
        p.delta[4 * p.stride] = r->objectness_smooth ? r->obj_normalizer * (target - objectness) : 0;
        if (r->objectness_smooth) darkbn_yolo_move_class(y, p, kind, weight);
    }
    if (best > r->truth_thresh) {
        p.delta[4 * p.stride] = r->obj_normalizer * (target - objectness);
        darkbn_yolo_move_class(y, p, kind, weight);
        if (r->objectness_smooth) p.delta[entry] = weight * (target - p.output[entry]);
        darkbn_gaussian_move_box(l, whole, row, weight);
    }
}

/* Delta of `count` cells from `start` on: objectness to 0, except where a prediction matches a truth. */
static inline void darkbn_gaussian_punish(const darkbn_gaussian *l, ptrdiff_t n, ptrdiff_t start, int count)
{
    const darkbn_yolo *y = &l->tail;
    const darkbn_place first = darkbn_gaussian_place(l, n, start);
    const float *objectness = first.output + DARKBN_GAUSSIAN_BOX * first.stride;
    float *delta = first.delta + DARKBN_GAUSSIAN_BOX * first.stride;
    darkbn_cells cells;
    for (ptrdiff_t entry = 0; entry < y->e + DARKBN_GAUSSIAN_SKIP; ++entry)
        memset(first.delta + entry * first.stride, 0, (size_t)count * sizeof(float));
    for (int i = 0; i < count; ++i) delta[i] = y->rules.obj_normalizer * (0 - objectness[i]);
    darkbn_gaussian_boxes(l, n, start, count, &cells);
    darkbn_best_truths(&cells, count, y->truth, y->t, y->k, y->e - 5);
    for (int i = 0; i < count; ++i)
        if (cells.which[i] >= 0)
            darkbn_gaussian_match(l, darkbn_gaussian_place(l, n, start + i), y->truth + cells.which[i] * y->k,
                                  cells.best[i]);
}

/* A truth claims its cell of anchor slot n. */
static inline void darkbn_gaussian_claim(const darkbn_gaussian *l, const float *row, ptrdiff_t n, double *statistics)
{
    const darkbn_yolo *y = &l->tail;
    const ptrdiff_t kind = darkbn_truth_class(row, y->e - 5);
    const ptrdiff_t j = darkbn_clip_cell(row[1] - l->to_center * row[3] / 2, y->h);
    const ptrdiff_t i = darkbn_clip_cell(row[0] - l->to_center * row[2] / 2, y->w);
    const darkbn_place whole = darkbn_gaussian_place(l, n, j * y->w + i), p = darkbn_gaussian_tail(whole);
    const darkbn_box truth = {row[0], row[1], row[2], row[3]}, box = darkbn_gaussian_box(l, whole);
    const float overlap = darkbn_iou(box, truth), weight = darkbn_yolo_weight(y, kind);
    const float objectness = p.output[4 * p.stride];
    darkbn_gaussian_move_box(l, whole, row, weight);
    p.delta[4 * p.stride] = weight * y->rules.obj_normalizer * (1 - objectness);
    darkbn_yolo_move_class(y, p, kind, weight);
    statistics[DARKBN_COUNT] += 1;
    statistics[DARKBN_SUM_IOU] += overlap;
    statistics[DARKBN_SUM_GIOU] += darkbn_giou(box, truth);
    statistics[DARKBN_RECALL50] += overlap > 0.5f;
    statistics[DARKBN_RECALL75] += overlap > 0.75f;
    statistics[DARKBN_CATEGORY] += p.output[(5 + kind) * p.stride];
    statistics[DARKBN_OBJECTNESS] += objectness;
}

/* Each truth of the image claims its places. */
static inline void darkbn_gaussian_assign(const darkbn_gaussian *l, double *statistics)
{
    const darkbn_yolo *y = &l->tail;
    const ptrdiff_t area = y->h * y->w;
    for (int k = 0; k < DARKBN_STATISTICS; ++k) statistics[k] = 0;
    for (ptrdiff_t t = 0; t < y->t && y->truth[t * y->k] != 0; ++t) {
        const float *row = y->truth + t * y->k;
        ptrdiff_t best = 0;
        float likeness = 0;
        if (darkbn_truth_class(row, y->e - 5) < 0) continue;
        for (ptrdiff_t anchor = 0; anchor < y->all_anchors; ++anchor) {
            const float found = darkbn_yolo_likeness(y, row, anchor, DARKBN_IOU);
            if (found > likeness) likeness = found, best = anchor;
        }
        ptrdiff_t slot = darkbn_yolo_slot(y, best);
        if (slot >= 0) darkbn_gaussian_claim(l, row, slot, statistics);
        for (ptrdiff_t anchor = 0; anchor < y->all_anchors && y->rules.iou_thresh < 1; ++anchor) {
            slot = darkbn_yolo_slot(y, anchor);
            if (anchor == best || slot < 0) continue;
            if (darkbn_yolo_likeness(y, row, anchor, y->rules.iou_thresh_kind) > y->rules.iou_thresh)
                darkbn_gaussian_claim(l, row, slot, statistics);
        }
    }
    for (ptrdiff_t n = 0; n < y->n; ++n)
        statistics[DARKBN_ANY_OBJECTNESS] +=
            darkbn_sum(y->output + (n * (y->e + DARKBN_GAUSSIAN_SKIP) + DARKBN_GAUSSIAN_BOX) * area, area);
}

/* Box deltas of `count` cells, divided by the number of classes that rise in the same place. */
static inline void darkbn_gaussian_average(const darkbn_gaussian *l, ptrdiff_t n, ptrdiff_t start, int count)
{
    const darkbn_place p = darkbn_gaussian_place(l, n, start);
    float rising[DARKBN_CELLS] = {0};
    for (ptrdiff_t entry = DARKBN_GAUSSIAN_BOX + 1; entry < l->tail.e + DARKBN_GAUSSIAN_SKIP; ++entry) {
        const float *delta = p.delta + entry * p.stride;
        for (int i = 0; i < count; ++i) rising[i] += delta[i] > 0 ? 1.0f : 0.0f;
    }
    for (int i = 0; i < count; ++i)
        if (rising[i] > 1)
            for (int k = 0; k < DARKBN_GAUSSIAN_BOX; ++k) p.delta[k * p.stride + i] /= rising[i];
}

#endif
