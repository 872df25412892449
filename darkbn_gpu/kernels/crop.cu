/* Kernels of darkbn.reference.crop: the formulas are in darkbn/include/darkbn/crop.h. */
#include "darkbn/crop.h"
#include "grid.cuh"

/* The window of a sample; angles may be NULL. */
DEVICE darkbn_window window_of(const int *places, const float *angles, i64 sample, i64 h, i64 w, i64 oh, i64 ow)
{
    const double angle = angles ? angles[sample] : 0;
    const int *place = places + 3 * sample;
    return {h, w, oh, ow, place[0], place[1], place[2], angle != 0, sin(angle), cos(angle)};
}

/* The pixel behind place (i, j) of a window that is not turned; -1 outside of the picture. */
DEVICE i64 straight(const darkbn_window &g, i64 i, i64 j)
{
    const i64 row = g.top + i, column = darkbn_window_column(&g, j);
    return row >= 0 && row < g.h && column >= 0 && column < g.w ? row * g.w + column : -1;
}

/* One thread per value of the windows; angles and shifts may be NULL. */
KERNEL crop_window(const float *x, const int *places, const float *angles, const float *shifts, float *out, i64 b, i64 c,
                   i64 h, i64 w, i64 oh, i64 ow, float scale, float translate)
{
    FOR_EACH(o, b * c * oh * ow) {
        const i64 j = o % ow, i = o / ow % oh, channel = o / (oh * ow) % c, sample = o / (oh * ow) / c;
        const darkbn_window g = window_of(places, angles, sample, h, w, oh, ow);
        const float *plane = x + (sample * c + channel) * h * w, shift = translate + (shifts ? shifts[channel] : 0);
        float sum = 0;
        if (g.turned) {
            const darkbn_taps taps = darkbn_turned(&g, i, j);
            for (int k = 0; k < 4; ++k)
                if (taps.pixel[k] >= 0) sum += taps.weight[k] * (plane[taps.pixel[k]] * scale + shift);
        } else {
            const i64 at = straight(g, i, j);
            if (at >= 0) sum = plane[at] * scale + shift;
        }
        out[o] = sum;
    }
}

/* Where the windows are not turned every pixel is seen once: one thread per value of delta. */
KERNEL crop_window_backward(const float *delta, const int *places, const float *angles, float *input_delta, i64 b, i64 c,
                            i64 h, i64 w, i64 oh, i64 ow, float scale)
{
    FOR_EACH(o, b * c * oh * ow) {
        const i64 sample = o / (oh * ow) / c;
        const darkbn_window g = window_of(places, angles, sample, h, w, oh, ow);
        const i64 at = g.turned ? -1 : straight(g, o / ow % oh, o % ow);
        if (at >= 0) input_delta[o / (oh * ow) * h * w + at] += delta[o] * scale;
    }
}

/* Where they are turned: one thread per pixel collects from the places near where it is seen. Turning keeps distances, so
 * these lie at most 2 rows and columns away. */
KERNEL crop_turned_backward(const float *delta, const int *places, const float *angles, float *input_delta, i64 b, i64 c,
                            i64 h, i64 w, i64 oh, i64 ow, float scale)
{
    FOR_EACH(o, b * c * h * w) {
        const i64 pixel = o % (h * w), sample = o / (h * w) / c;
        const darkbn_window g = window_of(places, angles, sample, h, w, oh, ow);
        if (!g.turned) continue;
        const double across = pixel % w - w / 2.0, down = pixel / w - h / 2.0;
        const double column = g.cosine * across + g.sine * down + w / 2.0;
        const double row = -g.sine * across + g.cosine * down + h / 2.0;
        const i64 near_i = (i64)floor(row + 0.5) - g.top;
        const i64 near_column = (i64)floor(column + 0.5);
        const i64 near_j = g.mirrored ? w - g.left - 1 - near_column : near_column - g.left;
        const float *plane = delta + o / (h * w) * oh * ow;
        float sum = 0;
        for (i64 i = near_i - 2; i <= near_i + 2; ++i)
            for (i64 j = near_j - 2; j <= near_j + 2; ++j) {
                if (i < 0 || i >= oh || j < 0 || j >= ow) continue;
                const darkbn_taps taps = darkbn_turned(&g, i, j);
                for (int k = 0; k < 4; ++k)
                    if (taps.pixel[k] == pixel) sum += taps.weight[k] * (plane[i * ow + j] * scale);
            }
        input_delta[o] += sum;
    }
}

/* One thread per pixel. */
KERNEL crop_levels(const float *x, const float *factors, float *out, i64 b, i64 s)
{
    FOR_EACH(i, b * s) {
        const i64 sample = i / s, first = sample * 3 * s + i % s;
        darkbn_levels(x + first, s, 1, factors[2 * sample], factors[2 * sample + 1], out + first);
    }
}

KERNEL crop_levels_backward(const float *x, const float *factors, const float *delta, float *input_delta, i64 b, i64 s)
{
    FOR_EACH(i, b * s) {
        const i64 sample = i / s, first = sample * 3 * s + i % s;
        darkbn_levels_gradient(x + first, delta + first, s, 1, factors[2 * sample], factors[2 * sample + 1],
                               input_delta + first);
    }
}
