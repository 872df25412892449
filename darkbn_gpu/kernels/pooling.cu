/* Kernels of darkbn.reference.pooling. A maximum starts from the lowest float; greater values only replace it. */
#include "grid.cuh"

struct Pooling {
    i64 planes, h, w, oh, ow, size, stride_y, stride_x, padding;
};

#define POOLING_PARAMETERS                                                                                         \
    i64 planes, i64 h, i64 w, i64 oh, i64 ow, i64 size, i64 stride_y, i64 stride_x, i64 padding
#define POOLING {planes, h, w, oh, ow, size, stride_y, stride_x, padding}

/* Positions first <= i < last of a window of `size` from `start`, inside an axis. */
struct Range {
    i64 first, last;
};

DEVICE Range inside(i64 start, i64 size, i64 length)
{
    const i64 last = start + size < length ? start + size : length;
    return {start > 0 ? start : 0, last > 0 ? last : 0};
}

DEVICE i64 length_of(Range r) { return r.last > r.first ? r.last - r.first : 0; }

/* indexes may be NULL. */
KERNEL pooling_maxpool(const float *x, float *out, int *indexes, POOLING_PARAMETERS)
{
    FOR_EACH(i, planes * oh * ow) {
        const float *plane = x + i / (oh * ow) * h * w;
        const Range rows = inside(i / ow % oh * stride_y - padding / 2, size, h);
        const Range columns = inside(i % ow * stride_x - padding / 2, size, w);
        float largest = -FLT_MAX;
        i64 where = -1;
        for (i64 row = rows.first; row < rows.last; ++row)
            for (i64 column = columns.first; column < columns.last; ++column) {
                const float value = plane[row * w + column];
                if (value > largest) largest = value, where = row * w + column;
            }
        out[i] = largest;
        if (indexes) indexes[i] = (int)where;
    }
}

/* One block per plane. A thread adds to every 256th pixel only, and meets the deltas in order: no two threads write to
 * one pixel, and its sum has one order. */
KERNEL pooling_maxpool_backward(const float *delta, const int *indexes, float *input_delta, i64 area, i64 pooled)
{
    const float *from = delta + blockIdx.x * pooled;
    const int *index = indexes + blockIdx.x * pooled;
    float *to = input_delta + blockIdx.x * area;
    for (i64 i = 0; i < pooled; ++i) {
        const int at = index[i];
        if (at >= 0 && at < area && at % THREADS == (int)threadIdx.x) to[at] += from[i];
    }
}

/* One block per plane. */
KERNEL pooling_avgpool(const float *x, float *out, i64 s)
{
    const float *plane = x + blockIdx.x * s;
    const double sum = block_sum_of(s, [=](i64 i) { return plane[i]; });
    if (threadIdx.x == 0) out[blockIdx.x] = (float)(sum / (s > 0 ? s : 1));
}

KERNEL pooling_avgpool_backward(const float *delta, float *input_delta, i64 n, i64 s)
{
    const float share = 1.0f / (float)s;
    FOR_EACH(i, n) input_delta[i] += delta[i / s] * share;
}

KERNEL pooling_local_avgpool(const float *x, float *out, POOLING_PARAMETERS)
{
    FOR_EACH(i, planes * oh * ow) {
        const float *plane = x + i / (oh * ow) * h * w;
        const Range rows = inside(i / ow % oh * stride_y - padding / 2, size, h);
        const Range columns = inside(i % ow * stride_x - padding / 2, size, w);
        const i64 count = length_of(rows) * length_of(columns);
        double sum = 0;
        for (i64 row = rows.first; row < rows.last; ++row)
            for (i64 column = columns.first; column < columns.last; ++column) sum += plane[row * w + column];
        out[i] = (float)(sum / (count > 0 ? count : 1));
    }
}

/* The windows that contain position `at`. */
DEVICE Range windows_round(i64 at, i64 size, i64 stride, i64 padding, i64 count)
{
    const i64 shifted = at + padding / 2, first = shifted - size + 1;
    const i64 last = shifted / stride + 1;
    return {first > 0 ? (first + stride - 1) / stride : 0, last < count ? last : count};
}

/* One thread per input pixel: it collects from the windows round it. */
KERNEL pooling_local_avgpool_backward(const float *delta, float *input_delta, POOLING_PARAMETERS)
{
    FOR_EACH(i, planes * h * w) {
        const float *plane = delta + i / (h * w) * oh * ow;
        const Range rows = windows_round(i / w % h, size, stride_y, padding, oh);
        const Range columns = windows_round(i % w, size, stride_x, padding, ow);
        double sum = 0;
        for (i64 row = rows.first; row < rows.last; ++row)
            for (i64 column = columns.first; column < columns.last; ++column) {
                const i64 height = length_of(inside(row * stride_y - padding / 2, size, h));
                const i64 width = length_of(inside(column * stride_x - padding / 2, size, w));
                sum += (double)plane[row * ow + column] / (height * width);
            }
        input_delta[i] = (float)(input_delta[i] + sum);
    }
}

/* out[b, g] = maximum over the channels g, g + n, ... of each pixel. */
KERNEL pooling_maxpool_depth(const float *x, float *out, int *indexes, i64 b, i64 c, i64 n, i64 s)
{
    FOR_EACH(i, b * n * s) {
        const i64 pixel = i % s, group = i / s % n, sample = i / s / n;
        float largest = -FLT_MAX;
        i64 where = -1;
        for (i64 k = group; k < c; k += n) {
            const float value = x[(sample * c + k) * s + pixel];
            if (value > largest) largest = value, where = k;
        }
        out[i] = largest;
        if (indexes) indexes[i] = (int)where;
    }
}

/* The channels of a group belong to no other group: no two threads add to one place. */
KERNEL pooling_maxpool_depth_backward(const float *delta, const int *indexes, float *input_delta, i64 b, i64 c, i64 n,
                                      i64 s)
{
    FOR_EACH(i, b * n * s) {
        const i64 pixel = i % s, group = i / s % n, sample = i / s / n, k = indexes[i];
        if (k >= 0 && k < c && k % n == group) input_delta[(sample * c + k) * s + pixel] += delta[i];
    }
}
