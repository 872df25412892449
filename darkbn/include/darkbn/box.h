/* Overlap of boxes in centre form (x, y, w, h): the formulas of darkbn/boxes.py for one pair of boxes. */
#ifndef DARKBN_BOX_H
#define DARKBN_BOX_H

#include "mathf.h"

/* Numbers of darkbn.boxes.IOU_KINDS. */
enum { DARKBN_MSE, DARKBN_IOU, DARKBN_GIOU, DARKBN_DIOU, DARKBN_CIOU };

#define DARKBN_DIOU_EXPONENT 0.6
#define DARKBN_PI 3.14159265358979323846

typedef struct {
    float x, y, w, h;
} darkbn_box;

/* Not fminf and fmaxf: those must look for NaN and so keep loops from being vectorized. */
DARKBN_INLINE float darkbn_min(float a, float b) { return a < b ? a : b; }
DARKBN_INLINE float darkbn_max(float a, float b) { return a > b ? a : b; }

/* Length that two intervals given by centre and length share; negative when they are apart. */
DARKBN_INLINE float darkbn_shared(float x1, float w1, float x2, float w2)
{
    return darkbn_min(x1 + w1 / 2, x2 + w2 / 2) - darkbn_max(x1 - w1 / 2, x2 - w2 / 2);
}

/* Length of the smallest interval round both. */
DARKBN_INLINE float darkbn_enclosing(float x1, float w1, float x2, float w2)
{
    return darkbn_max(x1 + w1 / 2, x2 + w2 / 2) - darkbn_min(x1 - w1 / 2, x2 - w2 / 2);
}

DARKBN_INLINE float darkbn_intersection(darkbn_box a, darkbn_box b)
{
    const float w = darkbn_shared(a.x, a.w, b.x, b.w), h = darkbn_shared(a.y, a.h, b.y, b.h);
    return w < 0 || h < 0 ? 0 : w * h;
}

DARKBN_INLINE float darkbn_union(darkbn_box a, darkbn_box b)
{
    return a.w * a.h + b.w * b.h - darkbn_intersection(a, b);
}

DARKBN_INLINE float darkbn_iou(darkbn_box a, darkbn_box b)
{
    const float shared = darkbn_intersection(a, b), covered = a.w * a.h + b.w * b.h - shared;
    return shared == 0 || covered == 0 ? 0 : shared / covered;
}

DARKBN_INLINE float darkbn_giou(darkbn_box a, darkbn_box b)
{
    const float outer = darkbn_enclosing(a.x, a.w, b.x, b.w) * darkbn_enclosing(a.y, a.h, b.y, b.h);
    const float overlap = darkbn_iou(a, b);
    return outer == 0 ? overlap : overlap - (outer - darkbn_union(a, b)) / outer;
}

/* Squared centre distance over the squared diagonal of the enclosing box; 0 where that is a point. */
DARKBN_INLINE float darkbn_distance(darkbn_box a, darkbn_box b)
{
    const float w = darkbn_enclosing(a.x, a.w, b.x, b.w), h = darkbn_enclosing(a.y, a.h, b.y, b.h);
    const float diagonal = w * w + h * h, dx = a.x - b.x, dy = a.y - b.y;
    return diagonal == 0 ? 0 : (dx * dx + dy * dy) / diagonal;
}

DARKBN_INLINE float darkbn_diou(darkbn_box a, darkbn_box b, double exponent)
{
    return darkbn_iou(a, b) - (float)pow((double)darkbn_distance(a, b), exponent);
}

/* atan(w/h) of b minus that of a; an empty box counts as angle 0. */
DARKBN_INLINE double darkbn_angle_difference(darkbn_box a, darkbn_box b)
{
    return atan2(b.w, b.h) - atan2(a.w, a.h);
}

DARKBN_INLINE float darkbn_ciou(darkbn_box a, darkbn_box b)
{
    const double angle = darkbn_angle_difference(a, b);
    const float overlap = darkbn_iou(a, b), aspect = (float)(4 / (DARKBN_PI * DARKBN_PI) * angle * angle);
    const float weight = (float)(aspect / (1 - overlap + aspect + 0.000001));
    if (darkbn_enclosing(a.x, a.w, b.x, b.w) == 0 && darkbn_enclosing(a.y, a.h, b.y, b.h) == 0) return overlap;
    return overlap - (darkbn_distance(a, b) + weight * aspect);
}

/* The measure of that kind; DARKBN_MSE stands for the IoU. */
DARKBN_INLINE float darkbn_overlap(darkbn_box a, darkbn_box b, int kind)
{
    if (kind == DARKBN_GIOU) return darkbn_giou(a, b);
    if (kind == DARKBN_DIOU) return darkbn_diou(a, b, DARKBN_DIOU_EXPONENT);
    if (kind == DARKBN_CIOU) return darkbn_ciou(a, b);
    return darkbn_iou(a, b);
}

/* One axis of a predicted and a true box: what the gradients need. */
typedef struct {
    float low, high, inner, outer; /* predicted sides (sorted), signed length shared, length of the enclosing box */
    float inside[2], outside[2];   /* whether the low and the high side lies inside of the true one, or beyond it */
    int flat;                      /* the predicted box has no length */
} darkbn_axis;

DARKBN_INLINE darkbn_axis darkbn_make_axis(float x, float w, float truth_x, float truth_w)
{
    const float first = x - w / 2, second = x + w / 2;
    const float truth_low = truth_x - truth_w / 2, truth_high = truth_x + truth_w / 2;
    darkbn_axis axis;
    axis.low = darkbn_min(first, second);
    axis.high = darkbn_max(first, second);
    axis.inner = darkbn_min(axis.high, truth_high) - darkbn_max(axis.low, truth_low);
    axis.outer = darkbn_max(axis.high, truth_high) - darkbn_min(axis.low, truth_low);
    axis.inside[0] = axis.low > truth_low, axis.inside[1] = axis.high < truth_high;
    axis.outside[0] = axis.low < truth_low, axis.outside[1] = axis.high > truth_high;
    axis.flat = !(first < second);
    return axis;
}

/* Gradient of IoU (and of GIoU's term) with respect to the low and the high side along `axis`. */
DARKBN_INLINE void darkbn_side_gradient(darkbn_axis axis, darkbn_axis other, float covered, int giou, float side[2])
{
    const float shared = axis.inner * other.inner, outer = axis.outer * other.outer;
    const int apart = axis.inner <= 0 || other.inner <= 0;
    float term[2];
    for (int k = 0; k < 2; ++k) {
        const float sign = k ? 1.0f : -1.0f;
        const float d_shared = sign * axis.inside[k] * other.inner;
        const float d_covered = sign * (other.high - other.low) - d_shared;
        const float d_outer = sign * axis.outside[k] * other.outer;
        side[k] = covered > 0 ? (covered * d_shared - shared * d_covered) / (covered * covered) : 0;
        term[k] = giou && outer > 0 ? (outer * d_covered - covered * d_outer) / (outer * outer) : 0;
    }
    if (axis.flat) side[0] = side[1];
    for (int k = 0; k < 2; ++k) side[k] = giou && apart ? term[k] : side[k] + term[k];
}

/* Gradient of minus the squared relative centre distance with respect to place and size along `axis`. */
DARKBN_INLINE void darkbn_centre_gradient(darkbn_axis axis, float offset, float diagonal, float distance,
                                            float *place, float *size)
{
    const float d_place = 2 * axis.outer * (axis.outside[1] - axis.outside[0]);
    const float d_size = 2 * axis.outer * (0.5f * axis.outside[1] + 0.5f * axis.outside[0]);
    *place = diagonal > 0 ? (2 * offset * diagonal - d_place * distance) / (diagonal * diagonal) : 0;
    *size = diagonal > 0 ? d_size * distance / (diagonal * diagonal) : 0;
}

/* Gradient of the measure with respect to x, y, w, h of the predicted box, as darkbn.boxes.iou_gradient defines it. */
DARKBN_INLINE void darkbn_iou_gradient(darkbn_box predicted, darkbn_box truth, int kind, float gradient[4])
{
    const darkbn_axis x = darkbn_make_axis(predicted.x, predicted.w, truth.x, truth.w);
    const darkbn_axis y = darkbn_make_axis(predicted.y, predicted.h, truth.y, truth.h);
    const float shared = x.inner * y.inner;
    const float covered = (x.high - x.low) * (y.high - y.low) + truth.w * truth.h - shared;
    float side_x[2], side_y[2];
    darkbn_side_gradient(x, y, covered, kind == DARKBN_GIOU, side_x);
    darkbn_side_gradient(y, x, covered, kind == DARKBN_GIOU, side_y);
    gradient[0] = side_x[0] + side_x[1];
    gradient[1] = side_y[0] + side_y[1];
    gradient[2] = side_x[1] - side_x[0];
    gradient[3] = side_y[1] - side_y[0];
    if (kind != DARKBN_DIOU && kind != DARKBN_CIOU) return;

    const float dx = truth.x - predicted.x, dy = truth.y - predicted.y;
    const float diagonal = x.outer * x.outer + y.outer * y.outer, distance = dx * dx + dy * dy;
    const int apart = x.inner <= 0 || y.inner <= 0;
    float centre[4];
    darkbn_centre_gradient(x, dx, diagonal, distance, &centre[0], &centre[2]);
    darkbn_centre_gradient(y, dy, diagonal, distance, &centre[1], &centre[3]);
    if (kind == DARKBN_CIOU && diagonal > 0) {
        const double angle = darkbn_angle_difference(predicted, truth), scale = 4 / (DARKBN_PI * DARKBN_PI);
        const double aspect = scale * angle * angle, overlap = covered != 0 ? shared / covered : 0;
        const double change = 2 * scale * angle * aspect / (1 - overlap + aspect + 0.000001);
        centre[2] += (float)(change * predicted.h);
        centre[3] -= (float)(change * predicted.w);
    }
    for (int k = 0; k < 4; ++k) gradient[k] = apart ? centre[k] : gradient[k] + centre[k];
}

#endif
