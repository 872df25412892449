/* Kernels of darkbn.reference.spatial: values moved between layers and grids. One thread per value that is written. */
#include "grid.cuh"

/* Where two maps meet: every step-th row and column of each, `rows` x `columns` of them, in `channels` channels. */
struct Meeting {
    i64 channels, rows, columns, mine_y, mine_x, their_y, their_x;
};

#define MEETING_PARAMETERS                                                                                        \
    i64 channels, i64 rows, i64 columns, i64 mine_y, i64 mine_x, i64 their_y, i64 their_x
#define MEETING {channels, rows, columns, mine_y, mine_x, their_y, their_x}

/* The value of theirs (c1, h1, w1) that (channel, y, x) of mine meets; -1 where there is none. */
DEVICE i64 met(const Meeting &m, i64 channel, i64 y, i64 x, i64 h1, i64 w1)
{
    const i64 row = y / m.mine_y, column = x / m.mine_x;
    const bool meets = channel < m.channels && y % m.mine_y == 0 && x % m.mine_x == 0 && row < m.rows && column < m.columns;
    return meets ? (channel * h1 + row * m.their_y) * w1 + column * m.their_x : -1;
}

/* out = alpha*x + beta*add where they meet, x elsewhere. */
KERNEL spatial_shortcut(const float *x, const float *add, float *out, i64 b, i64 c, i64 h, i64 w, i64 c1, i64 h1, i64 w1,
                        float alpha, float beta, MEETING_PARAMETERS)
{
    const Meeting m = MEETING;
    FOR_EACH(i, b * c * h * w) {
        const i64 at = met(m, i / (h * w) % c, i / w % h, i % w, h1, w1);
        out[i] = at < 0 ? x[i] : alpha * x[i] + beta * add[i / (c * h * w) * c1 * h1 * w1 + at];
    }
}

/* input_delta += alpha*delta where they met, delta elsewhere. */
KERNEL spatial_shortcut_backward(const float *delta, float *input_delta, i64 b, i64 c, i64 h, i64 w, i64 h1, i64 w1,
                                 float alpha, MEETING_PARAMETERS)
{
    const Meeting m = MEETING;
    FOR_EACH(i, b * c * h * w)
        input_delta[i] += (met(m, i / (h * w) % c, i / w % h, i % w, h1, w1) < 0 ? 1.0f : alpha) * delta[i];
}

/* add_delta += beta*delta where they met. */
KERNEL spatial_shortcut_backward_add(const float *delta, float *add_delta, i64 b, i64 c, i64 h, i64 w, i64 c1, i64 h1,
                                     i64 w1, float beta, MEETING_PARAMETERS)
{
    FOR_EACH(i, b * channels * rows * columns) {
        const i64 column = i % columns, row = i / columns % rows, channel = i / columns / rows % channels;
        const i64 sample = i / columns / rows / channels;
        add_delta[((sample * c1 + channel) * h1 + row * their_y) * w1 + column * their_x] +=
            beta * delta[((sample * c + channel) * h + row * mine_y) * w + column * mine_x];
    }
}

/* A block of every row of a (b, m) array to one of a (b, n) array; added when add is not 0. */
KERNEL spatial_block(const float *source, float *out, i64 b, i64 m, i64 n, i64 source_start, i64 out_start, i64 count,
                     i64 add)
{
    FOR_EACH(i, b * count) {
        float *to = out + i / count * n + out_start + i % count;
        *to = (add ? *to : 0) + source[i / count * m + source_start + i % count];
    }
}

/* out (planes, oh, ow) = scale * the value of x (planes, h, w) whose block it lies in, where there is one. */
KERNEL spatial_repeat(const float *x, float *out, i64 planes, i64 h, i64 w, i64 oh, i64 ow, i64 stride, float scale,
                      i64 add)
{
    FOR_EACH(i, planes * oh * ow) {
        const i64 row = i / ow % oh / stride, column = i % ow / stride;
        if (row >= h || column >= w) continue;
        out[i] = (add ? out[i] : 0) + scale * x[(i / (oh * ow) * h + row) * w + column];
    }
}

/* out (planes, h, w) = scale * the sum of a block of x (planes, xh, xw). */
KERNEL spatial_block_sums(const float *x, float *out, i64 planes, i64 xh, i64 xw, i64 h, i64 w, i64 stride, float scale,
                          i64 add)
{
    FOR_EACH(i, planes * h * w) {
        const float *corner = x + (i / (h * w) * xh + i / w % h * stride) * xw + i % w * stride;
        double sum = 0;
        for (i64 row = 0; row < stride; ++row)
            for (i64 column = 0; column < stride; ++column) sum += corner[row * xw + column];
        out[i] = (float)((add ? out[i] : 0) + scale * sum);
    }
}

/* space (b, c, h, w) to depth (b, stride*stride*c, h/stride, w/stride), or back. */
KERNEL spatial_depth(const float *from, float *to, i64 b, i64 c, i64 h, i64 w, i64 stride, i64 back, i64 add)
{
    FOR_EACH(i, b * c * h * w) {
        const i64 x = i % w, y = i / w % h, k = i / (h * w) % c, sample = i / (c * h * w);
        const i64 channel = (y % stride * stride + x % stride) * c + k;
        const i64 deep = ((sample * stride * stride * c + channel) * (h / stride) + y / stride) * (w / stride) + x / stride;
        const i64 source = back ? deep : i, target = back ? i : deep;
        to[target] = (add ? to[target] : 0) + from[source];
    }
}

/* out[b, i, k] = x[b, k, i] */
KERNEL spatial_flatten(const float *x, float *out, i64 b, i64 c, i64 s, i64 add)
{
    FOR_EACH(i, b * c * s) {
        const i64 k = i % c, at = i / c % s, sample = i / c / s;
        out[i] = (add ? out[i] : 0) + x[(sample * c + k) * s + at];
    }
}
