/* The [region] head: activation and training loss; darkbn/reference/region.py tells the formulas. */
#ifndef DARKBN_REGION_H
#define DARKBN_REGION_H

#include <string.h>

#include "heads.h"
#ifndef __CUDACC__
#include "softmax.h"
#endif

/* Cells of a block that is transposed. */
#define DARKBN_TRANSPOSED 16

#define DARKBN_EARLY_SCALE 0.01f

/* Coordinate from which a truth has a class but no box. */
#define DARKBN_CLASS_ONLY 100000.0f

/* Numbers of an image: see darkbn.reference.region.STATISTICS. */
#define DARKBN_REGION_STATISTICS 7

typedef struct {
    float thresh, coord_scale, object_scale, noobject_scale, class_scale;
    int bias_match, rescore, early;
    int background, keep_classes;     /* of `loss` */
    int cells, classfix, focal_loss;  /* of `loss_cells`: x and y of the output are before the logistic function */
} darkbn_region_rules;

/* One image: its output with the strides of entry, cell and anchor, its delta (n, e, h, w), its truth (t, k). */
typedef struct {
    const float *output, *truth, *anchors;
    const int *tree;  /* (e - 5, 3): parent, first class and number of classes of the own group; NULL: no hierarchy */
    float *delta;
    ptrdiff_t n, e, h, w, t, k, entry_stride, cell_stride, anchor_stride;
    darkbn_region_rules rules;
} darkbn_region;

/* The entries of one place: output[entry * stride], delta[entry * area]. */
typedef struct {
    const float *output;
    float *delta;
    ptrdiff_t stride, area;
} darkbn_spot;

/* The sizes of the groups of a class hierarchy; sizes is NULL without one. */
typedef struct {
    const int *sizes;
    ptrdiff_t count;
} darkbn_groups;

#ifndef __CUDACC__ /* CUDA takes the values of a place with a thread, not in rows */

/* Softmax over `count` entries of n values each. */
static inline void darkbn_softmax_planes(const float *restrict x, float *restrict out, ptrdiff_t count, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i += DARKBN_TILE) {
        const int columns = (int)(n - i < DARKBN_TILE ? n - i : DARKBN_TILE);
        darkbn_softmax_columns(x + i, out + i, count, n, columns, 1.0f);
    }
}

/* The entries of one anchor, (e, n) values. */
static inline void darkbn_region_activate(const float *restrict x, float *restrict out, ptrdiff_t n, ptrdiff_t e,
                                          darkbn_groups groups, int background, int softmax)
{
    const ptrdiff_t first = background ? 4 : 5;
    darkbn_logistic_plane(x, out, 2 * n);
    memcpy(out + 2 * n, x + 2 * n, (size_t)(3 * n) * sizeof(float));
    if (!background) darkbn_logistic_plane(x + 4 * n, out + 4 * n, n);
    if (groups.sizes) {
        ptrdiff_t entry = 5;
        for (ptrdiff_t g = 0; g < groups.count; entry += groups.sizes[g++])
            darkbn_softmax_planes(x + entry * n, out + entry * n, groups.sizes[g], n);
    }
    else if (softmax)
        darkbn_softmax_planes(x + first * n, out + first * n, e - first, n);
    else
        darkbn_logistic_plane(x + 5 * n, out + 5 * n, (e - 5) * n);
}

/* `count` cells from x (f, area) to out (count, f) with f = n * e values per cell; activated there. */
static inline void darkbn_region_activate_cells(const float *restrict x, float *restrict out, ptrdiff_t area,
                                                int count, ptrdiff_t n, ptrdiff_t e, darkbn_groups groups,
                                                int softmax)
{
    const ptrdiff_t f = n * e;
    for (ptrdiff_t k = 0; k < f; ++k)
        for (int i = 0; i < count; ++i) out[i * f + k] = x[k * area + i];
    for (ptrdiff_t place = 0; place < count * n; ++place) {
        float *entries = out + place * e;
        entries[4] = darkbn_logistic(entries[4]);
        if (groups.sizes)
            darkbn_softmax_groups(entries + 5, entries + 5, groups.sizes, groups.count, 1.0f);
        else if (softmax)
            darkbn_softmax_row(entries + 5, entries + 5, e - 5, 1.0f);
    }
}

#endif

static inline darkbn_spot darkbn_region_spot(const darkbn_region *l, ptrdiff_t n, ptrdiff_t cell)
{
    const ptrdiff_t area = l->h * l->w;
    const darkbn_spot spot = {
        l->output + n * l->anchor_stride + cell * l->cell_stride,
        l->delta + n * l->e * area + cell,
        l->entry_stride,
        area,
    };
    return spot;
}

/* Number k of a box: 0, 1 = place in the cell, 2, 3 = log size. */
static inline float darkbn_region_coordinate(const darkbn_region *l, darkbn_spot p, int k)
{
    const float value = p.output[k * p.stride];
    return k < 2 && l->rules.cells ? darkbn_logistic(value) : value;
}

static inline darkbn_box darkbn_region_box(const darkbn_region *l, ptrdiff_t n, ptrdiff_t cell)
{
    const darkbn_spot p = darkbn_region_spot(l, n, cell);
    const darkbn_box box = {
        ((float)(cell % l->w) + darkbn_region_coordinate(l, p, 0)) / (float)l->w,
        ((float)(cell / l->w) + darkbn_region_coordinate(l, p, 1)) / (float)l->h,
        darkbn_exp(p.output[2 * p.stride]) * l->anchors[2 * n] / (float)l->w,
        darkbn_exp(p.output[3 * p.stride]) * l->anchors[2 * n + 1] / (float)l->h,
    };
    return box;
}

/* Derivative of the logistic function by its value, where the dialect multiplies by it. */
static inline float darkbn_region_slope(const darkbn_region *l, float value)
{
    return l->rules.cells ? (1 - value) * value : 1;
}

/* Delta of x, y, w, h towards target. */
static inline void darkbn_region_move_box(const darkbn_region *l, darkbn_spot p, const float target[4], float scale)
{
    for (int k = 0; k < 4; ++k) {
        const float value = darkbn_region_coordinate(l, p, k);
        p.delta[k * p.area] = scale * (target[k] - value) * (k < 2 ? darkbn_region_slope(l, value) : 1);
    }
}

/* Probability of a class at a place, from those given their parents in a hierarchy. */
static inline float darkbn_region_probability(const darkbn_region *l, darkbn_spot p, ptrdiff_t kind)
{
    float product = p.output[(5 + kind) * p.stride];
    for (kind = l->tree ? l->tree[3 * kind] : -1; kind >= 0; kind = l->tree[3 * kind])
        product *= p.output[(5 + kind) * p.stride];
    return product;
}

/* Delta of the groups of a class and of all classes above it. */
static inline void darkbn_region_move_path(const darkbn_region *l, darkbn_spot p, ptrdiff_t kind, float scale)
{
    const float *output = p.output + 5 * p.stride;
    float *delta = p.delta + 5 * p.area;
    for (; kind >= 0; kind = l->tree[3 * kind]) {
        const ptrdiff_t first = l->tree[3 * kind + 1], end = first + l->tree[3 * kind + 2];
        for (ptrdiff_t c = first; c < end; ++c)
            delta[c * p.area] = scale * ((float)(c == kind) - output[c * p.stride]);
    }
}

static inline void darkbn_region_move_class(const darkbn_region *l, darkbn_spot p, ptrdiff_t kind, float scale)
{
    const float *output = p.output + 5 * p.stride;
    float *delta = p.delta + 5 * p.area;
    if (l->tree) {
        darkbn_region_move_path(l, p, kind, scale);
        return;
    }
    if (l->rules.focal_loss) scale *= 0.5f * darkbn_focal_slope(output[kind * p.stride]);
    if (l->rules.keep_classes && delta[0] != 0) {
        delta[kind * p.area] = scale * (1 - output[kind * p.stride]);
        return;
    }
    for (ptrdiff_t c = 0; c < l->e - 5; ++c)
        delta[c * p.area] = scale * ((float)(c == kind) - output[c * p.stride]);
}

static inline void darkbn_region_boxes(const darkbn_region *l, ptrdiff_t n, ptrdiff_t start, int count,
                                       darkbn_cells *restrict cells)
{
    for (int i = 0; i < count; ++i) {
        const darkbn_box box = darkbn_region_box(l, n, start + i);
        cells->x[i] = box.x, cells->y[i] = box.y, cells->w[i] = box.w, cells->h[i] = box.h;
    }
}

/* The class of the first truth that has no box; -1 for none. */
static inline ptrdiff_t darkbn_region_class_only(const darkbn_region *l)
{
    for (ptrdiff_t t = 0; l->tree && t < l->t && l->truth[t * l->k] != 0; ++t) {
        const float *row = l->truth + t * l->k;
        const ptrdiff_t kind = darkbn_truth_class(row, l->e - 5);
        if (kind >= 0 && row[0] > DARKBN_CLASS_ONLY && row[1] > DARKBN_CLASS_ONLY) return kind;
    }
    return -1;
}

/* The part of `punish` in an image that has a class without a box. */
static inline void darkbn_region_punish_all(const darkbn_region *l, darkbn_spot p, ptrdiff_t cell_stride, int count)
{
    for (int i = 0; i < count && !l->rules.cells; ++i)
        p.delta[4 * p.area + i] = l->rules.noobject_scale * (0 - p.output[4 * p.stride + i * cell_stride]);
}

/* A class without a box is learned where it is most probable. */
static inline void darkbn_region_learn_class(const darkbn_region *l, ptrdiff_t kind, double *statistics)
{
    ptrdiff_t best_n = 0, best_cell = 0;
    float most = 0;
    for (ptrdiff_t n = 0; n < l->n; ++n)
        for (ptrdiff_t cell = 0; cell < l->h * l->w; ++cell) {
            const darkbn_spot p = darkbn_region_spot(l, n, cell);
            const float found = p.output[4 * p.stride] * darkbn_region_probability(l, p, kind);
            if (found > most) most = found, best_n = n, best_cell = cell;
        }
    const darkbn_spot p = darkbn_region_spot(l, best_n, best_cell);
    p.delta[4 * p.area] = 0;
    darkbn_region_move_class(l, p, kind, l->rules.class_scale);
    statistics[3] = darkbn_region_probability(l, p, kind);
    statistics[6] = 1;
}

/* Delta of `count` cells from `start` on: objectness to 0, except where a prediction matches a truth. */
static inline void darkbn_region_punish(const darkbn_region *l, ptrdiff_t n, ptrdiff_t start, int count)
{
    static const float middle[4] = {0.5f, 0.5f, 0, 0};
    const darkbn_region_rules *r = &l->rules;
    darkbn_cells cells;
    darkbn_spot p = darkbn_region_spot(l, n, start);
    for (ptrdiff_t entry = 0; entry < l->e; ++entry)
        memset(p.delta + entry * p.area, 0, (size_t)count * sizeof(float));
    if (darkbn_region_class_only(l) >= 0) {
        darkbn_region_punish_all(l, p, l->cell_stride, count);
        return;
    }
    darkbn_region_boxes(l, n, start, count, &cells);
    darkbn_best_truths(&cells, count, l->truth, l->t, l->k, l->e - 5);
    for (int i = 0; i < count; ++i) {
        p = darkbn_region_spot(l, n, start + i);
        const float objectness = p.output[4 * p.stride], best = cells.best[i];
        const float target = r->classfix == -1 ? best : (float)(r->background != 0);
        const int matched = r->classfix != -1 && best > r->thresh;
        const float delta = r->noobject_scale * (target - objectness) * darkbn_region_slope(l, objectness);
        p.delta[4 * p.area] = matched ? 0 : delta;
        if (matched && r->classfix > 0 && cells.which[i] >= 0) {
            const ptrdiff_t kind = darkbn_truth_class(l->truth + cells.which[i] * l->k, l->e - 5);
            darkbn_region_move_class(l, p, kind, r->class_scale * (r->classfix == 2 ? objectness : 1));
        }
        if (r->early) darkbn_region_move_box(l, p, middle, DARKBN_EARLY_SCALE);
    }
}

/* The anchor of a cell that is most like a truth in shape. */
static inline ptrdiff_t darkbn_region_match(const darkbn_region *l, ptrdiff_t cell, const float *row)
{
    const darkbn_box truth = {0, 0, row[2], row[3]};
    ptrdiff_t best = 0;
    float likeness = 0;
    for (ptrdiff_t n = 0; n < l->n; ++n) {
        darkbn_box shape = darkbn_region_box(l, n, cell);
        shape.x = shape.y = 0;
        if (l->rules.bias_match) {
            shape.w = l->anchors[2 * n] / (float)l->w;
            shape.h = l->anchors[2 * n + 1] / (float)l->h;
        }
        const float found = darkbn_iou(shape, truth);
        if (found > likeness) likeness = found, best = n;
    }
    return best;
}

/* A truth claims a place; statistics: see darkbn.reference.region.STATISTICS. */
static inline void darkbn_region_claim(const darkbn_region *l, const float *row, double *statistics)
{
    const darkbn_region_rules *r = &l->rules;
    const ptrdiff_t kind = darkbn_truth_class(row, l->e - 5);
    const ptrdiff_t i = darkbn_clip_cell(row[0], l->w), j = darkbn_clip_cell(row[1], l->h), cell = j * l->w + i;
    const ptrdiff_t n = darkbn_region_match(l, cell, row);
    const darkbn_spot p = darkbn_region_spot(l, n, cell);
    const darkbn_box truth = {row[0], row[1], row[2], row[3]};
    const float overlap = darkbn_iou(darkbn_region_box(l, n, cell), truth), objectness = p.output[4 * p.stride];
    const float target[4] = {
        row[0] * (float)l->w - (float)i,
        row[1] * (float)l->h - (float)j,
        (float)log(row[2] * (float)l->w / l->anchors[2 * n]),
        (float)log(row[3] * (float)l->h / l->anchors[2 * n + 1]),
    };
    const float wanted = r->background ? 0 : r->rescore ? overlap : 1;
    darkbn_region_move_box(l, p, target, r->coord_scale * (r->cells ? 1 : 2 - row[2] * row[3]));
    p.delta[4 * p.area] = r->object_scale * (wanted - objectness) * darkbn_region_slope(l, objectness);
    darkbn_region_move_class(l, p, kind, r->class_scale);
    statistics[0] += 1;
    statistics[1] += overlap;
    statistics[2] += overlap > 0.5f;
    statistics[3] += darkbn_region_probability(l, p, kind);
    statistics[4] += objectness;
    statistics[6] += 1;
}

/* Each truth of the image claims its place. */
static inline void darkbn_region_assign(const darkbn_region *l, double *statistics)
{
    for (int k = 0; k < DARKBN_REGION_STATISTICS; ++k) statistics[k] = 0;
    const ptrdiff_t alone = darkbn_region_class_only(l);
    if (alone >= 0) {
        darkbn_region_learn_class(l, alone, statistics);
        return;
    }
    for (ptrdiff_t t = 0; t < l->t && l->truth[t * l->k] != 0; ++t)
        if (darkbn_truth_class(l->truth + t * l->k, l->e - 5) >= 0)
            darkbn_region_claim(l, l->truth + t * l->k, statistics);
    for (ptrdiff_t n = 0; n < l->n; ++n)
        for (ptrdiff_t cell = 0; cell < l->h * l->w; ++cell)
            statistics[5] += l->output[n * l->anchor_stride + cell * l->cell_stride + 4 * l->entry_stride];
}

/* One place as x, y, w, h, objectness, objectness * class probabilities, where those exceed the threshold. */
static inline void darkbn_region_decode(const darkbn_region *l, ptrdiff_t n, ptrdiff_t cell, float threshold,
                                        int sure, float *row)
{
    const darkbn_spot p = darkbn_region_spot(l, n, cell);
    const darkbn_box box = darkbn_region_box(l, n, cell);
    float objectness = l->rules.background ? 1 : p.output[4 * p.stride];
    if (l->rules.cells ? sure && objectness < 0.5f : !(objectness > threshold)) objectness = 0;
    row[0] = box.x, row[1] = box.y, row[2] = box.w, row[3] = box.h, row[4] = objectness;
    for (ptrdiff_t entry = 5; entry < l->e; ++entry) {
        const float product = objectness * p.output[entry * p.stride];
        row[entry] = product > threshold ? product : 0;
    }
}

#endif
