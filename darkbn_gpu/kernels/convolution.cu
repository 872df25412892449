/* Kernels of darkbn.reference.convolution.
 *
 * Each of the three products is an implicit matrix product: the pixels that a tap reads are gathered while slices of the
 * operands are loaded, so no columns are written to memory. Where a group has few filters (depthwise convolutions)
 * tiles would be nearly empty: then one thread makes one result.
 */
#include "matrix.cuh"

struct Convolution {
    i64 b, c, h, w, n, k, oh, ow, groups, stride_y, stride_x, dilation, pad;
    i64 cg, ng, taps; /* channels and filters of a group, weights of a filter's channel */
};

#define CONVOLUTION_PARAMETERS                                                                                       \
    i64 b, i64 c, i64 h, i64 w, i64 n, i64 k, i64 oh, i64 ow, i64 groups, i64 stride_y, i64 stride_x, i64 dilation, \
        i64 pad
#define CONVOLUTION                                                                                              \
    {b, c, h, w, n, k, oh, ow, groups, stride_y, stride_x, dilation, pad, c / groups, n / groups, k * k}

/* The pixel of channel `channel` that tap `tap` reads for output (y, x); 0 outside. plane: the channel's. */
DEVICE float tapped(const Convolution &l, const float *plane, i64 tap, i64 y, i64 x)
{
    const i64 row = y * l.stride_y + tap / l.k * l.dilation - l.pad;
    const i64 column = x * l.stride_x + tap % l.k * l.dilation - l.pad;
    return row >= 0 && row < l.h && column >= 0 && column < l.w ? plane[row * l.w + column] : 0;
}

/* The delta of the output that reads pixel (y, x) with tap `tap`; 0 where there is none. plane: the filter's. */
DEVICE float reading(const Convolution &l, const float *plane, i64 tap, i64 y, i64 x)
{
    const i64 row = y + l.pad - tap / l.k * l.dilation, column = x + l.pad - tap % l.k * l.dilation;
    if (row < 0 || column < 0 || row % l.stride_y || column % l.stride_x) return 0;
    const i64 oy = row / l.stride_y, ox = column / l.stride_x;
    return oy < l.oh && ox < l.ow ? plane[oy * l.ow + ox] : 0;
}

/* One block per tile of (filters of a group) x (pixels of all samples). */
KERNEL convolution_forward(const float *x, const float *weights, const float *biases, float *out,
                           CONVOLUTION_PARAMETERS)
{
    const Convolution l = CONVOLUTION;
    const i64 area = oh * ow, pixels = b * area, depth = l.cg * l.taps;
    const i64 across = (pixels + TILE - 1) / TILE, down = (l.ng + TILE - 1) / TILE;
    const i64 group = blockIdx.x / (across * down), tile = blockIdx.x % (across * down);
    const float *own = weights + group * l.ng * depth;
    tile_product(
        l.ng, pixels, 0, depth, tile / across * TILE, tile % across * TILE,
        [=](i64 filter, i64 i) { return own[filter * depth + i]; },
        [=](i64 i, i64 pixel) {
            const i64 sample = pixel / area, at = pixel % area;
            const float *plane = x + (sample * l.c + group * l.cg + i / l.taps) * l.h * l.w;
            return tapped(l, plane, i % l.taps, at / l.ow, at % l.ow);
        },
        [=](i64 filter, i64 pixel, float sum) {
            const i64 f = group * l.ng + filter;
            out[(pixel / area * l.n + f) * area + pixel % area] = biases ? sum + biases[f] : sum;
        });
}

/* One thread per output. */
KERNEL convolution_forward_direct(const float *x, const float *weights, const float *biases, float *out,
                                  CONVOLUTION_PARAMETERS)
{
    const Convolution l = CONVOLUTION;
    const i64 area = oh * ow, depth = l.cg * l.taps;
    FOR_EACH(i, b * n * area) {
        const i64 f = i / area % n, sample = i / area / n, at = i % area;
        const float *plane = x + (sample * c + f / l.ng * l.cg) * h * w, *own = weights + f * depth;
        float sum = 0;
        for (i64 channel = 0; channel < l.cg; ++channel)
            for (i64 tap = 0; tap < l.taps; ++tap)
                sum += own[channel * l.taps + tap] * tapped(l, plane + channel * h * w, tap, at / ow, at % ow);
        out[i] = biases ? sum + biases[f] : sum;
    }
}

/* partial[part][filter][channel][tap] over a part of the outputs of all samples; parts * groups * tiles blocks. */
KERNEL convolution_backward_weights(const float *x, const float *delta, float *partial, i64 parts,
                                    CONVOLUTION_PARAMETERS)
{
    const Convolution l = CONVOLUTION;
    const i64 area = oh * ow, pixels = b * area, depth = l.cg * l.taps;
    const i64 across = (depth + TILE - 1) / TILE, down = (l.ng + TILE - 1) / TILE;
    const i64 tile = blockIdx.x % (across * down), rest = blockIdx.x / (across * down);
    const i64 group = rest % groups, part = rest / groups, share = (pixels + parts - 1) / parts;
    const i64 last = (part + 1) * share < pixels ? (part + 1) * share : pixels;
    float *to = partial + (part * n + group * l.ng) * depth;
    tile_product(
        l.ng, depth, part * share, last, tile / across * TILE, tile % across * TILE,
        [=](i64 filter, i64 pixel) {
            return delta[(pixel / area * l.n + group * l.ng + filter) * area + pixel % area];
        },
        [=](i64 pixel, i64 i) {
            const i64 sample = pixel / area, at = pixel % area;
            const float *plane = x + (sample * l.c + group * l.cg + i / l.taps) * l.h * l.w;
            return tapped(l, plane, i % l.taps, at / l.ow, at % l.ow);
        },
        [=](i64 filter, i64 i, float sum) { to[filter * depth + i] = sum; });
}

KERNEL convolution_join_weights(const float *partial, float *weight_updates, i64 size, i64 parts)
{
    FOR_EACH(i, size) {
        double sum = 0;
        for (i64 part = 0; part < parts; ++part) sum += partial[part * size + i];
        weight_updates[i] = (float)(weight_updates[i] + sum);
    }
}

/* One block per weight. */
KERNEL convolution_backward_weights_direct(const float *x, const float *delta, float *weight_updates,
                                           CONVOLUTION_PARAMETERS)
{
    const Convolution l = CONVOLUTION;
    const i64 area = oh * ow, i = blockIdx.x, tap = i % l.taps, f = i / l.taps / l.cg;
    const i64 channel = f / l.ng * l.cg + i / l.taps % l.cg;
    const double sum = block_sum_of(b * area, [=](i64 pixel) {
        const i64 sample = pixel / area, at = pixel % area;
        return delta[(sample * l.n + f) * area + at]
            * tapped(l, x + (sample * l.c + channel) * l.h * l.w, tap, at / l.ow, at % l.ow);
    });
    if (threadIdx.x == 0) weight_updates[i] = (float)(weight_updates[i] + sum);
}

/* One block per tile of (channels of a group) x (input pixels of all samples). */
KERNEL convolution_backward_input(const float *weights, const float *delta, float *input_delta,
                                  CONVOLUTION_PARAMETERS)
{
    const Convolution l = CONVOLUTION;
    const i64 image = h * w, pixels = b * image, depth = l.ng * l.taps;
    const i64 across = (pixels + TILE - 1) / TILE, down = (l.cg + TILE - 1) / TILE;
    const i64 group = blockIdx.x / (across * down), tile = blockIdx.x % (across * down);
    tile_product(
        l.cg, pixels, 0, depth, tile / across * TILE, tile % across * TILE,
        [=](i64 channel, i64 i) {
            return weights[((group * l.ng + i / l.taps) * l.cg + channel) * l.taps + i % l.taps];
        },
        [=](i64 i, i64 pixel) {
            const i64 sample = pixel / image, at = pixel % image;
            const float *plane = delta + (sample * l.n + group * l.ng + i / l.taps) * l.oh * l.ow;
            return reading(l, plane, i % l.taps, at / l.w, at % l.w);
        },
        [=](i64 channel, i64 pixel, float sum) {
            input_delta[(pixel / image * l.c + group * l.cg + channel) * image + pixel % image] += sum;
        });
}

/* One thread per input pixel. */
KERNEL convolution_backward_input_direct(const float *weights, const float *delta, float *input_delta,
                                         CONVOLUTION_PARAMETERS)
{
    const Convolution l = CONVOLUTION;
    const i64 image = h * w;
    FOR_EACH(i, b * c * image) {
        const i64 channel = i / image % c, sample = i / image / c, at = i % image, group = channel / l.cg;
        float sum = 0;
        for (i64 filter = group * l.ng; filter < (group + 1) * l.ng; ++filter)
            for (i64 tap = 0; tap < l.taps; ++tap)
                sum += weights[(filter * l.cg + channel % l.cg) * l.taps + tap]
                    * reading(l, delta + (sample * n + filter) * oh * ow, tap, at / w, at % w);
        input_delta[i] += sum;
    }
}

KERNEL convolution_im2col(const float *im, float *col, CONVOLUTION_PARAMETERS)
{
    const Convolution l = CONVOLUTION;
    const i64 area = oh * ow;
    FOR_EACH(i, c * l.taps * area) {
        const i64 at = i % area, tap = i / area % l.taps, channel = i / area / l.taps;
        col[i] = tapped(l, im + channel * h * w, tap, at / ow, at % ow);
    }
}

KERNEL convolution_col2im(const float *col, float *im, CONVOLUTION_PARAMETERS)
{
    const Convolution l = CONVOLUTION;
    FOR_EACH(i, c * h * w) {
        const i64 at = i % (h * w), channel = i / (h * w);
        float sum = 0;
        for (i64 tap = 0; tap < l.taps; ++tap)
            sum += reading(l, col + (channel * l.taps + tap) * oh * ow, tap, at / w, at % w);
        im[i] += sum;
    }
}
