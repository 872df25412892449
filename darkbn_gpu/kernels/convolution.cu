/* Kernels of darkbn.reference.convolution.
 *
 * All three passes are implicit matrix products: the pixels that a tap reads are gathered while slices of the operands are
 * loaded, so no columns are written to memory. The gradient of the input is a convolution of the delta with turned
 * filters. Where a group has few filters (depthwise convolutions) tiles would be nearly empty: then one thread makes
 * one result.
 */
#include "product.cuh"

struct Convolution {
    i64 b, c, h, w, n, k, oh, ow, groups, stride_y, stride_x, dilation, pad;
    i64 cg, ng, taps; /* channels and filters of a group, weights of a filter's channel */
};

#define CONVOLUTION_PARAMETERS                                                                                       \
    i64 b, i64 c, i64 h, i64 w, i64 n, i64 k, i64 oh, i64 ow, i64 groups, i64 stride_y, i64 stride_x, i64 dilation, \
        i64 pad
#define CONVOLUTION                                                                                              \
    {b, c, h, w, n, k, oh, ow, groups, stride_y, stride_x, dilation, pad, c / groups, n / groups, k * k}

/* -- forward, and the gradient of the input: tiles of 16*TM filters x 16*TN pixels, of single values of x (gather), of
 * four (points), of deltas with strides (strided) */
template <int TM, int TN, typename B>
DEVICE void float_product(const Product &l, const Finish &f, const unsigned *panel, const float *x, float *partial)
{
    product<TM, TN, Float, B, FloatSums<TM, TN>>(l, f, panel, x, partial);
}

#define RUN(TM, TN, ...)                                                           \
    {                                                                              \
        const Product l = PRODUCT;                                                 \
        const Finish f = FINISH;                                                   \
        float_product<TM, TN, __VA_ARGS__>(l, f, panel, x, partial);               \
    }

KERNEL convolution_gather_128x128(PRODUCT_PARAMETERS) RUN(8, 8, GatherTile<Float, 8, false>)
KERNEL convolution_gather_64x128(PRODUCT_PARAMETERS) RUN(4, 8, GatherTile<Float, 8, false>)
KERNEL convolution_gather_32x128(PRODUCT_PARAMETERS) RUN(2, 8, GatherTile<Float, 8, false>)
KERNEL convolution_gather_64x64(PRODUCT_PARAMETERS) RUN(4, 4, GatherTile<Float, 4, false>)
KERNEL convolution_points_128x128(PRODUCT_PARAMETERS) RUN(8, 8, PointTile<Float, 8>)
KERNEL convolution_points_64x128(PRODUCT_PARAMETERS) RUN(4, 8, PointTile<Float, 8>)
KERNEL convolution_points_32x128(PRODUCT_PARAMETERS) RUN(2, 8, PointTile<Float, 8>)
KERNEL convolution_points_64x64(PRODUCT_PARAMETERS) RUN(4, 4, PointTile<Float, 4>)
KERNEL convolution_strided_128x128(PRODUCT_PARAMETERS) RUN(8, 8, GatherTile<Float, 8, true>)
KERNEL convolution_strided_64x128(PRODUCT_PARAMETERS) RUN(4, 8, GatherTile<Float, 8, true>)
KERNEL convolution_strided_32x128(PRODUCT_PARAMETERS) RUN(2, 8, GatherTile<Float, 8, true>)
KERNEL convolution_strided_64x64(PRODUCT_PARAMETERS) RUN(4, 4, GatherTile<Float, 4, true>)

/* The panels of all groups: word (k, m) of a group, rows of `step` words, `depth` values of k, zeros where there are no
 * weights. turned: of the gradient of the input: m a channel, k a filter and a tap from behind. form: floats, tf32, pairs
 * of halves. */
KERNEL convolution_panel(const float *weights, unsigned *panel, i64 n, i64 cg, i64 taps, i64 groups, i64 depth, i64 step,
                         i64 turned, i64 form)
{
    const i64 ng = n / groups, pack = form == 2 ? 2 : 1, rows = depth / pack;
    const i64 wide = turned ? cg : ng, deep = (turned ? ng : cg) * taps;
    FOR_EACH(i, groups * rows * step) {
        const i64 m = i % step, row = i / step % rows, group = i / step / rows;
        float v[2] = {0, 0};
        for (i64 e = 0; e < pack; ++e) {
            const i64 k = row * pack + e, outer = k / taps, tap = k % taps;
            if (m >= wide || k >= deep) continue;
            v[e] = turned ? weights[((group * ng + outer) * cg + m) * taps + taps - 1 - tap]
                          : weights[((group * ng + m) * cg + outer) * taps + tap];
        }
        panel[i] = form == 2 ? to_halves(v[0], v[1]) : form == 1 ? to_tf32(v[0]) : __float_as_uint(v[0]);
    }
}

/* Sums of the parts of k, in their order, and what becomes of them. size: of out; area: of a plane of it. */
KERNEL convolution_join(const float *partial, const float *biases, const float *residual, float *out, i64 size, i64 n,
                        i64 area, i64 splits, i64 activation, i64 residual_activation, i64 adds)
{
    const Finish f = FINISH;
    FOR_EACH(i, size) {
        double sum = 0;
        for (i64 split = 0; split < splits; ++split) sum += partial[split * size + i];
        finish(f, i / area % n, i, (float)sum);
    }
}

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

/* One thread per output. */
KERNEL convolution_forward_direct(const float *weights, const float *x, const float *biases, const float *residual,
                                  float *out, CONVOLUTION_PARAMETERS, i64 activation, i64 residual_activation)
{
    const Convolution l = CONVOLUTION;
    const Finish f = {biases, residual, out, activation, residual_activation, 0};
    const i64 area = oh * ow, depth = l.cg * l.taps;
    FOR_EACH(i, b * n * area) {
        const i64 filter = i / area % n, sample = i / area / n, at = i % area, y = at / ow, column = at % ow;
        const float *plane = x + (sample * c + filter / l.ng * l.cg) * h * w, *own = weights + filter * depth;
        const i64 row0 = y * stride_y - pad, column0 = column * stride_x - pad;
        float sum = 0;
        for (i64 channel = 0; channel < l.cg; ++channel, plane += h * w)
            for (i64 r = 0; r < k; ++r)
                for (i64 s = 0; s < k; ++s, ++own) {
                    const i64 row = row0 + r * dilation, at_column = column0 + s * dilation;
                    if (row >= 0 && row < h && at_column >= 0 && at_column < w) sum += *own * plane[row * w + at_column];
                }
        finish(f, filter, i, sum);
    }
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

/* -- gradient of the weights: filters of a group x (channel, tap), k the outputs of all samples. A thread has one output
 * of a slice and takes every 16th row of a tile, so that neighbours read neighbours. */
template <int T>
struct DeltaTile {
    const Product &l;
    const float *from;
    int row, k0;
    i64 rows; /* that there are from `from` on */
    float held[T];

    DEVICE_MEMBER DeltaTile(const Product &l, const float *delta, i64 group, i64 row0) : l(l), rows(l.ng - row0)
    {
        row = threadIdx.x / DEPTH, k0 = threadIdx.x % DEPTH;
        from = delta + (group * l.ng + row0) * l.area;
    }

    DEVICE_MEMBER void fetch(i64 k)
    {
        const unsigned pixel = (unsigned)k + k0, area = (unsigned)l.area;
        const bool inside = pixel < l.pixels;
        const float *own = from + pixel / area * (l.n * l.area) + pixel % area;
#pragma unroll
        for (int e = 0; e < T; ++e)
            held[e] = inside && row + 16 * e < rows ? own[(row + 16 * e) * l.area] : 0;
    }

    DEVICE_MEMBER void put(unsigned (*slice)[16 * T + PAD]) const
    {
#pragma unroll
        for (int e = 0; e < T; ++e) slice[k0][row + 16 * e] = __float_as_uint(held[e]);
    }
};

template <int T>
struct InputTile {
    const Product &l;
    const float *from;
    int column, k0, y[T], x[T]; /* of a tap; y is out of reach where there is no such column */
    i64 plane[T];
    float held[T];

    DEVICE_MEMBER InputTile(const Product &l, const float *input, i64 group, int column0) : l(l)
    {
        column = threadIdx.x / DEPTH, k0 = threadIdx.x % DEPTH;
        from = input + group * l.cg * l.h * l.w;
#pragma unroll
        for (int e = 0; e < T; ++e) {
            const unsigned i = column0 + column + 16 * e, channel = i / (unsigned)l.taps, tap = i % (unsigned)l.taps;
            const bool there = channel < l.cg;
            y[e] = there ? (int)(tap / (unsigned)l.k * l.dilation - l.pad) : -(1 << 30);
            x[e] = (int)(tap % (unsigned)l.k * l.dilation - l.pad);
            plane[e] = there ? channel * l.h * l.w : 0;
        }
    }

    DEVICE_MEMBER void fetch(i64 k)
    {
        const unsigned pixel = (unsigned)k + k0, area = (unsigned)l.area, at = pixel % area;
        const bool inside = pixel < l.pixels;
        const float *own = from + pixel / area * (l.c * l.h * l.w);
        const int row0 = (int)(at / (unsigned)l.ow * l.stride_y), column0 = (int)(at % (unsigned)l.ow * l.stride_x);
#pragma unroll
        for (int e = 0; e < T; ++e) {
            const int row = row0 + y[e], at_column = column0 + x[e];
            const bool read = inside && (unsigned)row < (unsigned)l.h && (unsigned)at_column < (unsigned)l.w;
            held[e] = read ? own[plane[e] + row * l.w + at_column] : 0;
        }
    }

    DEVICE_MEMBER void put(unsigned (*slice)[16 * T + PAD]) const
    {
#pragma unroll
        for (int e = 0; e < T; ++e) slice[k0][column + 16 * e] = __float_as_uint(held[e]);
    }
};

struct WeightStore {
    float *to; /* of the group; a part of k's, or the updates */
    int columns;
    bool adds;

    DEVICE_MEMBER int begin(int column) const { return column; }

    DEVICE_MEMBER void put(int column, i64 m, float sum) const
    {
        float *own = to + m * columns + column;
        *own = adds ? *own + sum : sum;
    }
};

template <int TM, int TN>
DEVICE void weights_product(const Product &l, const float *x, const float *delta, float *partial, float *updates)
{
    const int columns = (int)(l.cg * l.taps);
    const i64 down = (l.ng + 16 * TM - 1) / (16 * TM), across = (columns + 16 * TN - 1) / (16 * TN);
    const i64 tile = blockIdx.x % (down * across), rest = blockIdx.x / (down * across);
    const i64 group = rest % l.groups, split = rest / l.groups, row0 = tile % down * (16 * TM);
    const int column0 = (int)(tile / down * (16 * TN));
    const i64 first = split * l.chunk, last = first + l.chunk < l.depth ? first + l.chunk : l.depth;
    DeltaTile<TM> a(l, delta, group, row0);
    InputTile<TN> b(l, x, group, column0);
    FloatSums<TM, TN> sums;
    float *whole = l.splits > 1 ? partial + split * l.n * columns : updates;
    const WeightStore to = {whole + group * l.ng * columns, columns, l.splits == 1};
    multiply<TM, TN>(a, b, sums, first, last, l.ng, row0, columns, column0, to);
}

#define WEIGHTS_PARAMETERS                                                                                       \
    const float *x, const float *delta, float *partial, float *weight_updates, CONVOLUTION_PARAMETERS, i64 depth, \
        i64 splits, i64 chunk
#define RUN_WEIGHTS(TM, TN)                                                                                          \
    {                                                                                                                \
        const Product l = {b, c, h, w, n, k, oh, ow, groups, stride_y, stride_x, 1, 1, dilation, pad, depth, 0,      \
                           splits, chunk, c / groups, n / groups, k * k, oh * ow, b * oh * ow};                      \
        weights_product<TM, TN>(l, x, delta, partial, weight_updates);                                               \
    }

/* parts of k * groups * tiles blocks */
KERNEL convolution_weights_128x64(WEIGHTS_PARAMETERS) RUN_WEIGHTS(8, 4)
KERNEL convolution_weights_64x64(WEIGHTS_PARAMETERS) RUN_WEIGHTS(4, 4)
KERNEL convolution_weights_32x64(WEIGHTS_PARAMETERS) RUN_WEIGHTS(2, 4)

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
