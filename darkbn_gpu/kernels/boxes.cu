/* Kernels of darkbn.reference.boxes. */
#include "darkbn/box.h"
#include "grid.cuh"

KERNEL boxes_keep_all(unsigned char *keep, i64 n)
{
    FOR_EACH(i, n) keep[i] = 1;
}

/* One block per segment; its boxes are sorted by falling probability. Each box that is kept so far suppresses those
 * after it, all threads at once. With `distant` the measure is DIoU. */
KERNEL boxes_suppress(const float *boxes, const int *starts, unsigned char *keep, i64 n, float threshold, i64 distant,
                      double exponent)
{
    const i64 first = starts[blockIdx.x] > 0 ? starts[blockIdx.x] : 0;
    const i64 last = starts[blockIdx.x + 1] < n ? starts[blockIdx.x + 1] : n;
    for (i64 best = first; best < last; ++best) {
        const bool kept = keep[best];
        const darkbn_box a = {boxes[best], boxes[n + best], boxes[2 * n + best], boxes[3 * n + best]};
        for (i64 j = best + 1 + threadIdx.x; kept && j < last; j += THREADS) {
            const darkbn_box b = {boxes[j], boxes[n + j], boxes[2 * n + j], boxes[3 * n + j]};
            /* DIoU is never above the IoU: its power is taken of few. */
            bool near = darkbn_iou(a, b) > threshold;
            if (near && distant) near = darkbn_diou(a, b, exponent) > threshold;
            if (near) keep[j] = 0;
        }
        __syncthreads();
    }
}
