/* Kernels of darkbn.reference.local: convolutions with weights of their own at every place. */
#include "grid.cuh"

struct Local {
    i64 b, c, h, w, n, k, oh, ow, stride, pad;
};

#define LOCAL_PARAMETERS i64 b, i64 c, i64 h, i64 w, i64 n, i64 k, i64 oh, i64 ow, i64 stride, i64 pad
#define LOCAL {b, c, h, w, n, k, oh, ow, stride, pad}

/* The pixel of a plane that tap (i, j) reads at place (y, x); 0 outside. */
DEVICE float pixel_of(const Local &l, const float *plane, i64 y, i64 x, i64 i, i64 j)
{
    const i64 row = y * l.stride + i - l.pad, column = x * l.stride + j - l.pad;
    return row >= 0 && row < l.h && column >= 0 && column < l.w ? plane[row * l.w + column] : 0;
}

/* One thread per output. */
KERNEL local_forward(const float *x, const float *weights, const float *biases, float *out, LOCAL_PARAMETERS)
{
    const Local l = LOCAL;
    const i64 area = oh * ow;
    FOR_EACH(o, b * n * area) {
        const i64 place = o % area, filter = o / area % n, sample = o / area / n;
        const float *own = weights + (place * n + filter) * c * k * k;
        double sum = 0;
        for (i64 channel = 0; channel < c; ++channel)
            for (i64 tap = 0; tap < k * k; ++tap)
                sum += own[channel * k * k + tap]
                    * pixel_of(l, x + (sample * c + channel) * h * w, place / ow, place % ow, tap / k, tap % k);
        out[o] = (float)(sum + biases[filter * area + place]);
    }
}

/* One thread per weight. */
KERNEL local_backward_weights(const float *x, const float *delta, float *weight_updates, LOCAL_PARAMETERS)
{
    const Local l = LOCAL;
    const i64 area = oh * ow, taps = k * k;
    FOR_EACH(i, area * n * c * taps) {
        const i64 tap = i % taps, channel = i / taps % c, filter = i / taps / c % n, place = i / taps / c / n;
        double sum = 0;
        for (i64 sample = 0; sample < b; ++sample)
            sum += delta[(sample * n + filter) * area + place]
                * pixel_of(l, x + (sample * c + channel) * h * w, place / ow, place % ow, tap / k, tap % k);
        weight_updates[i] = (float)(weight_updates[i] + sum);
    }
}

/* One thread per input pixel: it collects from the places that read it. */
KERNEL local_backward_input(const float *weights, const float *delta, float *input_delta, LOCAL_PARAMETERS)
{
    const i64 area = oh * ow, taps = k * k;
    FOR_EACH(o, b * c * h * w) {
        const i64 at = o % (h * w), channel = o / (h * w) % c, sample = o / (h * w) / c;
        double sum = 0;
        for (i64 tap = 0; tap < taps; ++tap) {
            const i64 row = at / w + pad - tap / k, column = at % w + pad - tap % k;
            if (row < 0 || column < 0 || row % stride || column % stride) continue;
            if (row / stride >= oh || column / stride >= ow) continue;
            const i64 place = row / stride * ow + column / stride;
            for (i64 filter = 0; filter < n; ++filter)
                sum += (double)weights[((place * n + filter) * c + channel) * taps + tap]
                    * delta[(sample * n + filter) * area + place];
        }
        input_delta[o] = (float)(input_delta[o] + sum);
    }
}
