/* Kernels of darkbn.reference.detection: what happens in a cell with an object is in darkbn/include/darkbn/detection.h. */
#include "darkbn/detection.h"
#include "head.cuh"

KERNEL detection_activate(const float *x, float *out, i64 b, i64 m, i64 cells, i64 classes, i64 softmax)
{
    const i64 scores = softmax ? cells * classes : 0, rest = m - scores;
    FOR_EACH(i, b * rest) {
        const i64 at = i / rest * m + scores + i % rest;
        out[at] = x[at];
    }
    FOR_EACH(i, softmax && classes > 0 ? b * cells : 0) {
        const i64 at = i / cells * m + i % cells * classes;
        darkbn_softmax_row(x + at, classes, out + at);
    }
}

/* One thread per cell. */
KERNEL detection_loss(const float *output, const float *truth, const int *choices, float *delta, i64 b, i64 side, i64 n,
                      i64 classes, float object_scale, float noobject_scale, float class_scale, float coord_scale,
                      i64 sqrt, i64 rescore, i64 forced)
{
    const darkbn_detection g = {side,        n,           classes,   object_scale, noobject_scale,
                                class_scale, coord_scale, (int)sqrt, (int)rescore, (int)forced};
    const i64 cells = side * side, size = cells * (classes + 5 * n), truths = 1 + classes + 4;
    FOR_EACH(i, b * cells) {
        const i64 cell = i % cells, sample = i / cells;
        const i64 c = sample * size + cell * classes, p = sample * size + cells * classes + cell * n;
        const i64 boxes = sample * size + cells * (classes + n) + 4 * cell * n;
        const float *row = truth + i * truths;
        for (i64 k = 0; k < classes; ++k) delta[c + k] = 0;
        for (i64 k = 0; k < n; ++k) delta[p + k] = noobject_scale * -output[p + k];
        for (i64 k = 0; k < 4 * n; ++k) delta[boxes + k] = 0;
        if (row[0] > -1 && row[0] < 1) continue;
        darkbn_detection_object(&g, output + c, output + p, output + boxes, row + 1, choices ? choices[i] : -1, delta + c,
                                delta + p, delta + boxes);
    }
}

/* One block per sample. */
KERNEL detection_costs(const float *delta, double *costs, i64 size)
{
    const double sum = squares_of(delta + blockIdx.x * size, size);
    if (threadIdx.x == 0) costs[blockIdx.x] = sum;
}
