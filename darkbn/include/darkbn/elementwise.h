/* Element-wise operations on n floats. Arrays that are written may be the same as ones that are read. */
#ifndef DARKBN_ELEMENTWISE_H
#define DARKBN_ELEMENTWISE_H

#include <math.h>
#include <stddef.h>

#include "constants.h"
#include "loops.h"

/* DARKBN_EACH(name, (arguments), statement): a function that does the statement for every i < n. */
#define DARKBN_EACH(name, arguments, ...) \
    static inline void darkbn_##name arguments \
    { \
        DARKBN_INDEPENDENT \
        for (ptrdiff_t i = 0; i < n; ++i) __VA_ARGS__; \
    }

DARKBN_EACH(fill, (float *x, ptrdiff_t n, float value), x[i] = value)
DARKBN_EACH(axpy, (const float *x, float *y, ptrdiff_t n, float alpha), y[i] += alpha * x[i])
DARKBN_EACH(scal_add, (float *x, ptrdiff_t n, float alpha, float beta), x[i] = x[i] * alpha + beta)
DARKBN_EACH(add, (float *x, ptrdiff_t n, float value), x[i] += value)
DARKBN_EACH(scal, (float *x, ptrdiff_t n, float value), x[i] *= value)
DARKBN_EACH(mul, (const float *x, float *y, ptrdiff_t n), y[i] *= x[i])
DARKBN_EACH(pow, (const float *x, float *y, ptrdiff_t n, float alpha), y[i] = powf(x[i], alpha))
DARKBN_EACH(mult_add_into, (const float *x, const float *y, float *z, ptrdiff_t n), z[i] += x[i] * y[i])
DARKBN_EACH(weighted_sum, (const float *a, const float *b, const float *s, float *out, ptrdiff_t n),
            out[i] = s[i] * a[i] + (1 - s[i]) * b[i])
DARKBN_EACH(constrain, (float *x, ptrdiff_t n, float limit), {
    const float below = x[i] > limit ? limit : x[i];
    x[i] = below < -limit ? -limit : below;
})
DARKBN_EACH(binarize, (const float *x, float *out, ptrdiff_t n, float size), out[i] = x[i] > 0 ? size : -size)
DARKBN_EACH(dropout, (const float *x, const float *rand, float *out, ptrdiff_t n, float probability, float scale),
            out[i] = rand[i] < probability ? 0 : x[i] * scale)
DARKBN_EACH(dropout_backward,
            (const float *rand, const float *delta, float *out, ptrdiff_t n, float probability, float scale),
            out[i] += rand[i] < probability ? 0 : delta[i] * scale)

/* Losses: delta points from the prediction to the truth. */
DARKBN_EACH(l2, (const float *pred, const float *truth, float *delta, float *error, ptrdiff_t n), {
    const float difference = truth[i] - pred[i];
    error[i] = difference * difference;
    delta[i] = difference;
})
DARKBN_EACH(l1, (const float *pred, const float *truth, float *delta, float *error, ptrdiff_t n), {
    const float difference = truth[i] - pred[i];
    error[i] = fabsf(difference);
    delta[i] = difference > 0 ? 1.0f : -1.0f;
})
DARKBN_EACH(smooth_l1, (const float *pred, const float *truth, float *delta, float *error, ptrdiff_t n), {
    const float difference = truth[i] - pred[i], size = fabsf(difference);
    error[i] = size < 1 ? difference * difference : 2 * size - 1;
    delta[i] = size < 1 ? difference : copysignf(1.0f, difference);
})
DARKBN_EACH(wgan, (const float *pred, const float *truth, float *delta, float *error, ptrdiff_t n), {
    const float p = pred[i], t = truth[i];
    error[i] = t != 0 ? -p : p;
    delta[i] = t > 0 ? 1.0f : -1.0f;
})
DARKBN_EACH(softmax_x_ent, (const float *pred, const float *truth, float *delta, float *error, ptrdiff_t n), {
    const float p = pred[i], t = truth[i];
    error[i] = t != 0 ? -logf(p) : 0;
    delta[i] = t - p;
})
DARKBN_EACH(logistic_x_ent, (const float *pred, const float *truth, float *delta, float *error, ptrdiff_t n), {
    const float p = pred[i], t = truth[i];
    /* A term whose weight is 0 is 0, also where the logarithm is infinite. */
    error[i] = (t != 0 ? -t * logf(p) : 0) - (t != 1 ? (1 - t) * log1pf(-p) : 0);
    delta[i] = t - p;
})
DARKBN_EACH(scale_where, (const float *mask, float *x, ptrdiff_t n, float value, float factor),
            x[i] = mask[i] == value ? x[i] * factor : x[i])
DARKBN_EACH(fill_where, (const float *mask, float *x, ptrdiff_t n, float value, float number),
            x[i] = mask[i] == value ? number : x[i])
DARKBN_EACH(suppress, (float *x, ptrdiff_t n, float threshold), x[i] = fabsf(x[i]) < threshold ? 0 : x[i])

#undef DARKBN_EACH

/* da += dc*s, db += dc*(1 - s), ds += dc*(a - b); da, db may be NULL. */
static inline void darkbn_weighted_delta(
    const float *a, const float *b, const float *s, float *da, float *db, float *ds, const float *dc, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; da && i < n; ++i) da[i] += dc[i] * s[i];
    for (ptrdiff_t i = 0; db && i < n; ++i) db[i] += dc[i] * (1 - s[i]);
    for (ptrdiff_t i = 0; i < n; ++i) ds[i] += dc[i] * (a[i] - b[i]);
}

/* Each of count <= DARKBN_VECTOR_TILE columns of an (n, stride) matrix divided by its Euclidean length;
 * dx = (1 - x) / length. */
#define DARKBN_VECTOR_TILE 128

static inline void darkbn_l2normalize_columns(float *x, float *dx, ptrdiff_t n, ptrdiff_t stride, int count)
{
    float squares[DARKBN_VECTOR_TILE] = {0}, length[DARKBN_VECTOR_TILE];
    for (ptrdiff_t k = 0; k < n; ++k)
        for (int i = 0; i < count; ++i) squares[i] += x[k * stride + i] * x[k * stride + i];
    for (int i = 0; i < count; ++i) length[i] = sqrtf(squares[i]);
    for (ptrdiff_t k = 0; k < n; ++k) {
        DARKBN_INDEPENDENT
        for (int i = 0; i < count; ++i) {
            const float value = x[k * stride + i] / length[i];
            x[k * stride + i] = value;
            dx[k * stride + i] = (1 - value) / length[i];
        }
    }
}

#endif
