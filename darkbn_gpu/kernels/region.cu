/* Kernels of darkbn.reference.region: what happens in one place is in darkbn/include/darkbn/region.h. */
#include "darkbn/region.h"
#include "head.cuh"

/* out = softmax of n entries that lie from_step and to_step apart. */
DEVICE void softmax_entries(const float *from, float *to, i64 n, i64 from_step, i64 to_step)
{
    float largest = -INFINITY;
    double sum = 0;
    for (i64 k = 0; k < n; ++k) largest = from[k * from_step] > largest ? from[k * from_step] : largest;
    for (i64 k = 0; k < n; ++k) sum += darkbn_exp(from[k * from_step] - largest);
    for (i64 k = 0; k < n; ++k) to[k * to_step] = (float)(darkbn_exp(from[k * from_step] - largest) / sum);
}

/* The same for the classes: each group of a hierarchy by itself where there is one. */
DEVICE void softmax_classes(const float *from, float *to, i64 n, i64 from_step, i64 to_step, const int *groups, i64 count)
{
    if (!groups) softmax_entries(from, to, n, from_step, to_step);
    for (i64 g = 0, first = 0; groups && g < count; first += groups[g++])
        softmax_entries(from + first * from_step, to + first * to_step, groups[g], from_step, to_step);
}

/* One thread per place. */
KERNEL region_forward(const float *x, float *out, const int *groups, i64 count, i64 b, i64 n, i64 e, i64 s,
                      i64 background, i64 softmax)
{
    FOR_EACH(i, b * n * s) {
        const float *from = x + i / s * e * s + i % s;
        float *to = out + i / s * e * s + i % s;
        const i64 first = background && !groups ? 4 : 5;
        for (i64 k = 0; k < 5; ++k) {
            const bool logistic = k < 2 || (k == 4 && !background);
            to[k * s] = logistic ? darkbn_logistic(from[k * s]) : from[k * s];
        }
        if (groups || softmax) softmax_classes(from + first * s, to + first * s, e - first, s, s, groups, count);
        else
            for (i64 k = 5; k < e; ++k) to[k * s] = darkbn_logistic(from[k * s]);
    }
}

KERNEL region_forward_cells(const float *x, float *out, const int *groups, i64 count, i64 b, i64 n, i64 e, i64 s,
                            i64 softmax)
{
    FOR_EACH(i, b * s * n) {
        const i64 anchor = i % n, cell = i / n % s, sample = i / n / s;
        const float *from = x + (sample * n + anchor) * e * s + cell;
        float *to = out + i * e;
        for (i64 k = 0; k < e; ++k) to[k] = k == 4 ? darkbn_logistic(from[k * s]) : from[k * s];
        if (groups || softmax) softmax_classes(from + 5 * s, to + 5, e - 5, s, 1, groups, count);
    }
}

/* Where the entries of a place are, in maps and in cells. */
DEVICE void stride_head(darkbn_region &l)
{
    const i64 area = l.h * l.w;
    l.cell_stride = l.rules.cells ? l.n * l.e : 1;
    l.entry_stride = l.rules.cells ? 1 : area;
    l.anchor_stride = l.rules.cells ? l.e : l.e * area;
}

/* One thread per place. */
KERNEL region_decode(const float *output, const float *anchors, float *rows, i64 n, i64 e, i64 h, i64 w, float threshold,
                     i64 background, i64 cells, i64 sure)
{
    darkbn_region l = {};
    l.output = output, l.anchors = anchors, l.n = n, l.e = e, l.h = h, l.w = w;
    l.rules.background = (int)background, l.rules.cells = (int)cells;
    stride_head(l);
    FOR_EACH(i, h * w * n) darkbn_region_decode(&l, i % n, i / n, threshold, (int)sure, rows + i * e);
}

#define REGION_PARAMETERS                                                                                            \
    const float *output, const float *truth, const float *anchors, const int *tree, float *delta, i64 n, i64 e, i64 h, \
        i64 w, i64 t, i64 k, float thresh, float coord_scale, float object_scale, float noobject_scale,             \
        float class_scale, i64 bias_match, i64 rescore, i64 early, i64 background, i64 keep_classes, i64 cells,     \
        i64 classfix, i64 focal_loss
#define REGION_RULES                                                                                                 \
    {thresh, coord_scale, object_scale, noobject_scale, class_scale, (int)bias_match, (int)rescore, (int)early,     \
     (int)background, (int)keep_classes, (int)cells, (int)classfix, (int)focal_loss}

DEVICE darkbn_region image_of(darkbn_region l, i64 image)
{
    const i64 size = l.n * l.e * l.h * l.w;
    l.output += image * size, l.delta += image * size, l.truth += image * l.t * l.k;
    stride_head(l);
    return l;
}

#define REGION(image) \
    image_of({output, truth, anchors, tree, delta, n, e, h, w, t, k, 0, 0, 0, REGION_RULES}, image)

KERNEL region_punish(i64 b, REGION_PARAMETERS)
{
    FOR_EACH(i, b * n * h * w) {
        const darkbn_region l = REGION(i / (n * h * w));
        darkbn_region_punish(&l, i / (h * w) % n, i % (h * w), 1);
    }
}

/* One thread per image: truths claim their places one after the other. */
KERNEL region_assign(i64 b, double *statistics, REGION_PARAMETERS)
{
    FOR_EACH(i, b) {
        const darkbn_region l = REGION(i);
        darkbn_region_assign(&l, statistics + i * DARKBN_REGION_STATISTICS);
    }
}

/* One block per image and anchor. */
KERNEL region_squares(const float *delta, double *squares, i64 size)
{
    const double sum = squares_of(delta + blockIdx.x * size, size);
    if (threadIdx.x == 0) squares[blockIdx.x] = sum;
}
