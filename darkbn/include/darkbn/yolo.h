/* The [yolo] head: activation and training loss; darkbn/reference/yolo.py tells the formulas. */
#ifndef DARKBN_YOLO_H
#define DARKBN_YOLO_H

#include <float.h>
#include <string.h>

#include "heads.h"

/* Class probability from which AlexeyAB's Darknet lets a well placed prediction go unpunished. */
#define DARKBN_YOLO_LIKELY 0.25f

/* Numbers of an image: see darkbn.reference.yolo.STATISTICS. */
enum {
    DARKBN_COUNT,
    DARKBN_SUM_IOU,
    DARKBN_SUM_GIOU,
    DARKBN_RECALL50,
    DARKBN_RECALL75,
    DARKBN_CATEGORY,
    DARKBN_OBJECTNESS,
    DARKBN_ANY_OBJECTNESS,
    DARKBN_STATISTICS
};

typedef struct {
    float net_w, net_h, ignore_thresh, truth_thresh, iou_thresh;
    int iou_thresh_kind, iou_loss;
    float iou_normalizer, obj_normalizer, cls_normalizer, max_delta, label_smooth_eps;
    int objectness_smooth, focal_loss, new_coords, alexeyab;
} darkbn_yolo_rules;

/* One image of the map (n, e, h, w), its truth (t, k) and what they are compared by. */
typedef struct {
    const float *output, *truth, *anchors, *class_weights;
    const int *mask;
    float *delta;
    ptrdiff_t n, e, h, w, t, k, all_anchors, weighted_classes;
    darkbn_yolo_rules rules;
} darkbn_yolo;

/* The entries of one place: out[entry * stride], delta likewise. */
typedef struct {
    const float *output;
    float *delta;
    ptrdiff_t stride, i, j;
    float anchor_w, anchor_h;
} darkbn_place;

/* out = logistic(x) * scale - (scale - 1) / 2; not for arrays that overlap. */
static inline void darkbn_logistic_spread(const float *restrict x, float *restrict out, ptrdiff_t n, float scale)
{
    const float shift = -0.5f * (scale - 1);
    for (ptrdiff_t i = 0; i < n; ++i) out[i] = darkbn_logistic(x[i]) * scale + shift;
}

/* One entry of one anchor, n values. */
static inline void darkbn_yolo_activate(const float *restrict x, float *restrict out, ptrdiff_t n, ptrdiff_t entry,
                                        float scale, int new_coords)
{
    if (entry == 2 || entry == 3 || (new_coords && entry > 1))
        memcpy(out, x, (size_t)n * sizeof(float));
    else if (new_coords)
        for (ptrdiff_t i = 0; i < n; ++i) out[i] = x[i] * scale - 0.5f * (scale - 1);
    else if (entry < 2)
        darkbn_logistic_spread(x, out, n, scale);
    else
        darkbn_logistic_plane(x, out, n);
}

/* Size relative to the network of the number v of a box. */
DARKBN_INLINE float darkbn_yolo_size(float v, float anchor, float net, int new_coords)
{
    return (new_coords ? v * v * 4 : darkbn_exp(v)) * anchor / net;
}

static inline darkbn_place darkbn_yolo_place(const darkbn_yolo *l, ptrdiff_t n, ptrdiff_t cell)
{
    const ptrdiff_t area = l->h * l->w, first = n * l->e * area + cell;
    const float *anchor = l->anchors + 2 * (ptrdiff_t)l->mask[n];
    const darkbn_place place = {l->output + first, l->delta + first, area,     cell % l->w,
                                cell / l->w,       anchor[0],        anchor[1]};
    return place;
}

static inline darkbn_box darkbn_yolo_box(const darkbn_yolo *l, darkbn_place p)
{
    const darkbn_yolo_rules *r = &l->rules;
    const darkbn_box box = {
        ((float)p.i + p.output[0]) / (float)l->w,
        ((float)p.j + p.output[p.stride]) / (float)l->h,
        darkbn_yolo_size(p.output[2 * p.stride], p.anchor_w, r->net_w, r->new_coords),
        darkbn_yolo_size(p.output[3 * p.stride], p.anchor_h, r->net_h, r->new_coords),
    };
    return box;
}

static inline float darkbn_yolo_objectness(const darkbn_yolo *l, darkbn_place p)
{
    const float value = p.output[4 * p.stride];
    return l->rules.alexeyab && !(value >= -FLT_MAX && value <= FLT_MAX) ? 0 : value;
}

static inline float darkbn_yolo_weight(const darkbn_yolo *l, ptrdiff_t kind)
{
    return l->class_weights && kind < l->weighted_classes ? l->class_weights[kind] : 1;
}

/* The step of a box by the difference of its numbers. */
static inline void darkbn_yolo_difference(const darkbn_yolo *l, darkbn_place p, const float *row, float step[4])
{
    const darkbn_yolo_rules *r = &l->rules;
    const float scale = 2 - row[2] * row[3];
    const float w = row[2] * r->net_w / p.anchor_w, h = row[3] * r->net_h / p.anchor_h;
    const float target[4] = {
        row[0] * (float)l->w - (float)p.i,
        row[1] * (float)l->h - (float)p.j,
        r->new_coords ? sqrtf(w / 4) : (float)log(w),
        r->new_coords ? sqrtf(h / 4) : (float)log(h),
    };
    for (int k = 0; k < 4; ++k) step[k] = scale * (target[k] - p.output[k * p.stride]);
}

static inline float darkbn_bounded(float x, float bound)
{
    if (!(x >= -FLT_MAX && x <= FLT_MAX)) return 0;
    return darkbn_min(darkbn_max(x, -bound), bound);
}

static inline void darkbn_yolo_move_box(const darkbn_yolo *l, darkbn_place p, const float *row, float weight)
{
    const darkbn_yolo_rules *r = &l->rules;
    float step[4];
    if (r->iou_loss == DARKBN_MSE) {
        darkbn_yolo_difference(l, p, row, step);
    } else {
        const darkbn_box truth = {row[0], row[1], row[2], row[3]};
        darkbn_box box = darkbn_yolo_box(l, p);
        if (box.w == 0) box.w = 1;
        if (box.h == 0) box.h = 1;
        darkbn_iou_gradient(box, truth, r->iou_loss, step);
        for (int k = 2; k < 4 && !r->new_coords; ++k) step[k] *= darkbn_exp(p.output[k * p.stride]);
    }
    for (int k = 0; k < 4; ++k) {
        float *delta = p.delta + k * p.stride;
        step[k] *= r->iou_normalizer * weight;
        if (r->iou_loss != DARKBN_MSE) step[k] = darkbn_bounded(step[k], r->max_delta);
        *delta = r->alexeyab ? *delta + step[k] : step[k];
    }
}

static inline void darkbn_yolo_move_class(const darkbn_yolo *l, darkbn_place p, ptrdiff_t kind, float weight)
{
    const darkbn_yolo_rules *r = &l->rules;
    const ptrdiff_t classes = l->e - 5;
    const float *output = p.output + 5 * p.stride;
    float *delta = p.delta + 5 * p.stride;
    const int again = delta[(r->alexeyab ? kind : 0) * p.stride] != 0;
    const float slope = r->focal_loss && !again ? 0.5f * darkbn_focal_slope(output[kind * p.stride]) : 1;
    const float other = 0.5f * r->label_smooth_eps, wanted = 1 - r->label_smooth_eps + other;
    for (ptrdiff_t c = again ? kind : 0; c < (again ? kind + 1 : classes); ++c) {
        const float value = output[c * p.stride];
        float *to = delta + c * p.stride;
        if (r->focal_loss && !again) {
            *to = ((float)(c == kind) - value) * slope;
            continue;
        }
        const float step = (c == kind ? wanted : other) - value;
        if (!r->alexeyab || (step >= -FLT_MAX && step <= FLT_MAX)) *to = step;
        if (c == kind && l->class_weights) *to *= again ? weight : weight * r->cls_normalizer;
    }
}

/* Train a prediction that no truth claimed on a truth that it matches. */
static inline void darkbn_yolo_train_on(const darkbn_yolo *l, darkbn_place p, const float *row, float best)
{
    const darkbn_yolo_rules *r = &l->rules;
    const ptrdiff_t kind = darkbn_truth_class(row, l->e - 5), entry = (5 + kind) * p.stride;
    const float weight = darkbn_yolo_weight(l, kind), target = r->objectness_smooth ? best * best : 1;
    p.delta[4 * p.stride] = r->obj_normalizer * (target - darkbn_yolo_objectness(l, p));
    darkbn_yolo_move_class(l, p, kind, weight);
    if (r->objectness_smooth) p.delta[entry] = weight * (target - p.output[entry]);
    darkbn_yolo_move_box(l, p, row, weight);
}

static inline void darkbn_yolo_boxes(const darkbn_yolo *l, ptrdiff_t n, ptrdiff_t start, int count,
                                     darkbn_cells *restrict cells)
{
    const darkbn_place p = darkbn_yolo_place(l, n, start);
    const darkbn_yolo_rules *r = &l->rules;
    const float *output = p.output;
    darkbn_cell_corners(cells, start, count, l->w);
    for (int i = 0; i < count; ++i) {
        cells->x[i] = (cells->x[i] + output[i]) / (float)l->w;
        cells->y[i] = (cells->y[i] + output[p.stride + i]) / (float)l->h;
        cells->w[i] = darkbn_yolo_size(output[2 * p.stride + i], p.anchor_w, r->net_w, r->new_coords);
        cells->h[i] = darkbn_yolo_size(output[3 * p.stride + i], p.anchor_h, r->net_h, r->new_coords);
    }
}

static inline int darkbn_yolo_likely(const darkbn_yolo *l, darkbn_place p)
{
    for (ptrdiff_t entry = 5; entry < l->e; ++entry)
        if (p.output[entry * p.stride] > DARKBN_YOLO_LIKELY) return 1;
    return 0;
}

/* Delta of `count` cells from `start` on: objectness to 0, except where a prediction matches a truth. */
static inline void darkbn_yolo_punish(const darkbn_yolo *l, ptrdiff_t n, ptrdiff_t start, int count)
{
    const darkbn_yolo_rules *r = &l->rules;
    darkbn_cells cells;
    darkbn_place p = darkbn_yolo_place(l, n, start);
    for (ptrdiff_t entry = 0; entry < l->e; ++entry)
        memset(p.delta + entry * p.stride, 0, (size_t)count * sizeof(float));
    darkbn_yolo_boxes(l, n, start, count, &cells);
    darkbn_best_truths(&cells, count, l->truth, l->t, l->k, l->e - 5);
    for (int i = 0; i < count; ++i) {
        p = darkbn_yolo_place(l, n, start + i);
        const float objectness = darkbn_yolo_objectness(l, p), best = cells.best[i];
        float delta = r->obj_normalizer * (0 - objectness);
        const int unlikely = r->alexeyab && best > r->ignore_thresh && !darkbn_yolo_likely(l, p);
        const float matched = unlikely ? 0 : best;
        if (matched > r->ignore_thresh)
            delta = r->objectness_smooth ? darkbn_max(delta, r->obj_normalizer * (matched - objectness)) : 0;
        p.delta[4 * p.stride] = delta;
        if (best > r->truth_thresh && cells.which[i] >= 0)
            darkbn_yolo_train_on(l, p, l->truth + cells.which[i] * l->k, best);
    }
}

static inline ptrdiff_t darkbn_yolo_slot(const darkbn_yolo *l, ptrdiff_t anchor)
{
    for (ptrdiff_t n = 0; n < l->n; ++n)
        if (l->mask[n] == anchor) return n;
    return -1;
}

/* A truth claims its cell of anchor slot n. */
static inline void darkbn_yolo_claim(const darkbn_yolo *l, const float *row, ptrdiff_t n, double *statistics)
{
    const darkbn_yolo_rules *r = &l->rules;
    const ptrdiff_t kind = darkbn_truth_class(row, l->e - 5);
    const ptrdiff_t cell = darkbn_clip_cell(row[1], l->h) * l->w + darkbn_clip_cell(row[0], l->w);
    const darkbn_place p = darkbn_yolo_place(l, n, cell);
    const darkbn_box truth = {row[0], row[1], row[2], row[3]}, box = darkbn_yolo_box(l, p);
    const float overlap = darkbn_iou(box, truth), objectness = darkbn_yolo_objectness(l, p);
    const float weight = darkbn_yolo_weight(l, kind);
    float *delta = p.delta + 4 * p.stride;
    darkbn_yolo_move_box(l, p, row, weight);
    if (!r->objectness_smooth || *delta == 0) *delta = weight * r->obj_normalizer * (1 - objectness);
    darkbn_yolo_move_class(l, p, kind, weight);
    statistics[DARKBN_COUNT] += 1;
    statistics[DARKBN_SUM_IOU] += overlap;
    statistics[DARKBN_SUM_GIOU] += darkbn_giou(box, truth);
    statistics[DARKBN_RECALL50] += overlap > 0.5f;
    statistics[DARKBN_RECALL75] += overlap > 0.75f;
    statistics[DARKBN_CATEGORY] += p.output[(5 + kind) * p.stride];
    statistics[DARKBN_OBJECTNESS] += objectness;
}

static inline float darkbn_yolo_likeness(const darkbn_yolo *l, const float *row, ptrdiff_t anchor, int kind)
{
    const float *size = l->anchors + 2 * anchor;
    const darkbn_box shape = {0, 0, size[0] / l->rules.net_w, size[1] / l->rules.net_h};
    const darkbn_box truth = {0, 0, row[2], row[3]};
    return darkbn_overlap(shape, truth, kind);
}

/* Each truth of the image claims its places. */
static inline void darkbn_yolo_assign(const darkbn_yolo *l, double *statistics)
{
    for (int k = 0; k < DARKBN_STATISTICS; ++k) statistics[k] = 0;
    for (ptrdiff_t t = 0; t < l->t && l->truth[t * l->k] != 0; ++t) {
        const float *row = l->truth + t * l->k;
        ptrdiff_t best = 0;
        float likeness = 0;
        if (darkbn_truth_class(row, l->e - 5) < 0) continue;
        for (ptrdiff_t anchor = 0; anchor < l->all_anchors; ++anchor) {
            const float found = darkbn_yolo_likeness(l, row, anchor, DARKBN_IOU);
            if (found > likeness) likeness = found, best = anchor;
        }
        ptrdiff_t slot = darkbn_yolo_slot(l, best);
        if (slot >= 0) darkbn_yolo_claim(l, row, slot, statistics);
        for (ptrdiff_t anchor = 0; anchor < l->all_anchors && l->rules.iou_thresh < 1; ++anchor) {
            slot = darkbn_yolo_slot(l, anchor);
            if (anchor == best || slot < 0) continue;
            if (darkbn_yolo_likeness(l, row, anchor, l->rules.iou_thresh_kind) > l->rules.iou_thresh)
                darkbn_yolo_claim(l, row, slot, statistics);
        }
    }
    for (ptrdiff_t n = 0; n < l->n; ++n)
        statistics[DARKBN_ANY_OBJECTNESS] += darkbn_sum(l->output + (n * l->e + 4) * l->h * l->w, l->h * l->w);
}

/* Box deltas of `count` cells, divided by the number of classes that rise in the same place. */
static inline void darkbn_yolo_average(const darkbn_yolo *l, ptrdiff_t n, ptrdiff_t start, int count)
{
    const darkbn_place p = darkbn_yolo_place(l, n, start);
    float rising[DARKBN_CELLS] = {0};
    for (ptrdiff_t entry = 5; entry < l->e; ++entry) {
        const float *delta = p.delta + entry * p.stride;
        for (int i = 0; i < count; ++i) rising[i] += delta[i] > 0 ? 1.0f : 0.0f;
    }
    for (int i = 0; i < count; ++i)
        if (rising[i] > 1 && p.delta[4 * p.stride + i] != 0)
            for (int k = 0; k < 4; ++k) p.delta[k * p.stride + i] /= rising[i];
}

#endif
