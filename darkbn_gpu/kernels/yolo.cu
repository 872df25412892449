/* Kernels of darkbn.reference.yolo: what happens in one place is in darkbn/include/darkbn/yolo.h. */
#include "darkbn/yolo.h"
#include "grid.cuh"
#include "head.cuh"

KERNEL yolo_activate(const float *x, float *out, i64 n, i64 e, i64 area, float scale_x_y, i64 new_coords)
{
    FOR_EACH(i, n) darkbn_yolo_activate(x + i, out + i, 1, i / area % e, scale_x_y, (int)new_coords);
}

/* One block per image; the candidates of 256 places at a time find their places by votes. */
KERNEL yolo_candidates(const float *output, int *places, int *counts, i64 n, i64 e, i64 area, float threshold)
{
    __shared__ unsigned votes[THREADS / 32];
    const float *objectness = output + (blockIdx.x * n * e + 4) * area;
    int *to = places + blockIdx.x * n * area;
    const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    i64 found = 0;
    for (i64 start = 0; start < n * area; start += THREADS) {
        const i64 place = start + threadIdx.x;
        const bool is = place < n * area && objectness[place % n * e * area + place / n] > threshold;
        const unsigned vote = __ballot_sync(0xffffffffu, is);
        if (lane == 0) votes[warp] = vote;
        __syncthreads();
        i64 before = found;
        for (unsigned k = 0; k < THREADS / 32; ++k) {
            if (k < warp) before += __popc(votes[k]);
            found += __popc(votes[k]);
        }
        if (is) to[before + __popc(vote & ((1u << lane) - 1))] = (int)place;
        __syncthreads();
    }
    for (i64 i = found + threadIdx.x; i < n * area; i += THREADS) to[i] = -1;
    if (threadIdx.x == 0) counts[blockIdx.x] = (int)found;
}

/* One thread per entry of a detection. */
KERNEL yolo_decode(const float *output, const int *places, const float *anchors, float *rows, i64 m, i64 n, i64 e, i64 h,
                   i64 w, float net_w, float net_h, float threshold, i64 new_coords)
{
    const i64 area = h * w;
    FOR_EACH(i, m * e) {
        i64 place = places[i / e];
        place = place < 0 ? 0 : place < area * n ? place : area * n - 1;
        const i64 anchor = place % n, cell = place / n, entry = i % e;
        const float *from = output + anchor * e * area + cell;
        const float value = from[entry * area], product = from[4 * area] * value;
        if (entry == 0) rows[i] = ((float)(cell % w) + value) / (float)w;
        else if (entry == 1) rows[i] = ((float)(cell / w) + value) / (float)h;
        else if (entry == 2) rows[i] = darkbn_yolo_size(value, anchors[2 * anchor], net_w, (int)new_coords);
        else if (entry == 3) rows[i] = darkbn_yolo_size(value, anchors[2 * anchor + 1], net_h, (int)new_coords);
        else if (entry == 4) rows[i] = value;
        else rows[i] = product > threshold ? product : 0;
    }
}

#define YOLO_PARAMETERS                                                                                              \
    const float *output, const float *truth, const float *anchors, const int *mask, const float *class_weights,     \
        float *delta, i64 n, i64 e, i64 h, i64 w, i64 t, i64 k, i64 all_anchors, i64 weighted_classes, float net_w, \
        float net_h, float ignore_thresh, float truth_thresh, float iou_thresh, i64 iou_thresh_kind, i64 iou_loss,  \
        float iou_normalizer, float obj_normalizer, float cls_normalizer, float max_delta, float label_smooth_eps,  \
        i64 objectness_smooth, i64 focal_loss, i64 new_coords, i64 alexeyab
#define YOLO_RULES                                                                                                   \
    {net_w, net_h, ignore_thresh, truth_thresh, iou_thresh, (int)iou_thresh_kind, (int)iou_loss, iou_normalizer,    \
     obj_normalizer, cls_normalizer, max_delta, label_smooth_eps, (int)objectness_smooth, (int)focal_loss,          \
     (int)new_coords, (int)alexeyab}

DEVICE darkbn_yolo image_of(darkbn_yolo l, i64 image)
{
    const i64 size = l.n * l.e * l.h * l.w;
    l.output += image * size, l.delta += image * size, l.truth += image * l.t * l.k;
    return l;
}

#define YOLO(image)                                                                                                  \
    image_of({output, truth, anchors, class_weights, mask, delta, n, e, h, w, t, k, all_anchors, weighted_classes,  \
              YOLO_RULES},                                                                                           \
             image)

/* One thread per place. */
KERNEL yolo_punish(i64 b, YOLO_PARAMETERS)
{
    FOR_EACH(i, b * n * h * w) {
        const darkbn_yolo l = YOLO(i / (n * h * w));
        darkbn_yolo_punish(&l, i / (h * w) % n, i % (h * w), 1);
    }
}

/* One thread per image: truths claim their places one after the other. */
KERNEL yolo_assign(i64 b, double *statistics, YOLO_PARAMETERS)
{
    FOR_EACH(i, b) {
        const darkbn_yolo l = YOLO(i);
        darkbn_yolo_assign(&l, statistics + i * DARKBN_STATISTICS);
    }
}

KERNEL yolo_average(i64 b, YOLO_PARAMETERS)
{
    FOR_EACH(i, b * n * h * w) {
        const darkbn_yolo l = YOLO(i / (n * h * w));
        darkbn_yolo_average(&l, i / (h * w) % n, i % (h * w), 1);
    }
}

/* One block per image and anchor: squares of the boxes' deltas, and of the others'. */
KERNEL yolo_squares(const float *delta, double *squares, i64 e, i64 area)
{
    const float *from = delta + blockIdx.x * e * area;
    const double boxes = squares_of(from, 4 * area), rest = squares_of(from + 4 * area, (e - 4) * area);
    if (threadIdx.x == 0) squares[2 * blockIdx.x] = boxes, squares[2 * blockIdx.x + 1] = rest;
}
