/* Kernels of darkbn.reference.gaussian_yolo: what happens in one place is in darkbn/include/darkbn/gaussian_yolo.h. */
#include "darkbn/gaussian_yolo.h"
#include "head.cuh"

KERNEL gaussian_yolo_activate(const float *x, float *out, i64 n, i64 e, i64 area, float scale_x_y)
{
    FOR_EACH(i, n) darkbn_gaussian_activate(x + i, out + i, 1, i / area % e, scale_x_y);
}

#define GAUSSIAN_PARAMETERS                                                                                          \
    const float *output, const float *truth, const float *anchors, const int *mask, const float *class_weights,     \
        float *delta, i64 n, i64 e, i64 h, i64 w, i64 t, i64 k, i64 all_anchors, i64 weighted_classes, float net_w, \
        float net_h, float ignore_thresh, float truth_thresh, float iou_thresh, i64 iou_thresh_kind, i64 iou_loss,  \
        float iou_normalizer, float obj_normalizer, float cls_normalizer, float max_delta, float label_smooth_eps,  \
        i64 objectness_smooth, float uc_normalizer, float to_center
#define GAUSSIAN_RULES                                                                                               \
    {net_w, net_h, ignore_thresh, truth_thresh, iou_thresh, (int)iou_thresh_kind, (int)iou_loss, iou_normalizer,    \
     obj_normalizer, cls_normalizer, max_delta, label_smooth_eps, (int)objectness_smooth, 0, 0, 0}

DEVICE darkbn_gaussian image_of(darkbn_gaussian l, i64 image)
{
    darkbn_yolo *y = &l.tail;
    const i64 size = y->n * y->e * y->h * y->w;
    y->output += image * size, y->delta += image * size, y->truth += image * y->t * y->k;
    y->e -= DARKBN_GAUSSIAN_SKIP; /* the tail counts the entries of a [yolo] head */
    return l;
}

#define GAUSSIAN(image)                                                                                              \
    image_of({{output, truth, anchors, class_weights, mask, delta, n, e, h, w, t, k, all_anchors, weighted_classes, \
               GAUSSIAN_RULES},                                                                                      \
              uc_normalizer, to_center},                                                                             \
             image)

/* One thread per place. */
KERNEL gaussian_yolo_punish(i64 b, GAUSSIAN_PARAMETERS)
{
    FOR_EACH(i, b * n * h * w) {
        const darkbn_gaussian l = GAUSSIAN(i / (n * h * w));
        darkbn_gaussian_punish(&l, i / (h * w) % n, i % (h * w), 1);
    }
}

/* One thread per image: truths claim their places one after the other. */
KERNEL gaussian_yolo_assign(i64 b, double *statistics, GAUSSIAN_PARAMETERS)
{
    FOR_EACH(i, b) {
        const darkbn_gaussian l = GAUSSIAN(i);
        darkbn_gaussian_assign(&l, statistics + i * DARKBN_STATISTICS);
    }
}

KERNEL gaussian_yolo_average(i64 b, GAUSSIAN_PARAMETERS)
{
    FOR_EACH(i, b * n * h * w) {
        const darkbn_gaussian l = GAUSSIAN(i / (n * h * w));
        darkbn_gaussian_average(&l, i / (h * w) % n, i % (h * w), 1);
    }
}

/* One block per image and anchor. */
KERNEL gaussian_yolo_squares(const float *delta, double *squares, i64 size)
{
    const double sum = squares_of(delta + blockIdx.x * size, size);
    if (threadIdx.x == 0) squares[blockIdx.x] = sum;
}
