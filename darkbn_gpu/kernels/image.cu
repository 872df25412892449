/* Kernels of darkbn.reference.image: positions and colours are in darkbn/include/darkbn/image.h. */
#include "darkbn/image.h"
#include "grid.cuh"

/* Where a picture of h x w, scaled to (height, width), goes: its corner is at (top, left) of oh x ow. */
struct Frame {
    i64 h, w, oh, ow, left, top, width, height;
};

#define FRAME_PARAMETERS i64 h, i64 w, i64 oh, i64 ow, i64 left, i64 top, i64 width, i64 height
#define FRAME {h, w, oh, ow, left, top, width, height}

/* Value of the scaled picture at a pixel of the target; pixel(row, column) reads the source. */
template <typename F>
DEVICE float scaled(const Frame &g, i64 i, i64 j, float fill, F pixel)
{
    const i64 row = i - g.top, column = j - g.left;
    if (row < 0 || row >= g.height || column < 0 || column >= g.width) return fill;
    const darkbn_place y = darkbn_locate(row, g.h, g.height), x = darkbn_locate(column, g.w, g.width);
    const i64 below = g.h > 1, right = g.w > 1;
    const float upper = (1 - x.weight) * pixel(y.low, x.low) + x.weight * pixel(y.low, x.low + right);
    const float lower = (1 - x.weight) * pixel(y.low + below, x.low) + x.weight * pixel(y.low + below, x.low + right);
    return (1 - y.weight) * upper + y.weight * lower;
}

KERNEL image_resize(const float *x, float *out, i64 c, FRAME_PARAMETERS, float fill)
{
    const Frame g = FRAME;
    FOR_EACH(o, c * oh * ow) {
        const float *plane = x + o / (oh * ow) * h * w;
        out[o] = scaled(g, o / ow % oh, o % ow, fill, [=](i64 row, i64 column) { return plane[row * w + column]; });
    }
}

/* From interleaved bytes. */
KERNEL image_resize_bytes(const unsigned char *x, float *out, i64 c, FRAME_PARAMETERS, float fill)
{
    const Frame g = FRAME;
    FOR_EACH(o, c * oh * ow) {
        const i64 channel = o / (oh * ow);
        out[o] = scaled(g, o / ow % oh, o % ow, fill, [=](i64 row, i64 column) {
            return (float)x[(row * w + column) * c + channel] / 255.0f;
        });
    }
}

KERNEL image_planes_from_bytes(const unsigned char *x, float *out, i64 c, i64 area)
{
    FOR_EACH(o, c * area) out[o] = (float)x[o % area * c + o / area] / 255.0f;
}

KERNEL image_rotate_crop(const float *x, float *out, i64 c, i64 h, i64 w, i64 oh, i64 ow, double angle, double scale,
                         double dx, double dy, double aspect)
{
    const double cosine = cos(angle), sine = sin(angle);
    FOR_EACH(o, c * oh * ow) {
        const i64 i = o / ow % oh, j = o % ow;
        const double across = (j - ow / 2.0) / scale * aspect + dx / scale * aspect, down = (i - oh / 2.0) / scale + dy / scale;
        const float column = darkbn_between((float)(cosine * across - sine * down + w / 2.0), -2, (float)w + 1);
        const float row = darkbn_between((float)(sine * across + cosine * down + h / 2.0), -2, (float)h + 1);
        const i64 top = darkbn_floor(row), left = darkbn_floor(column);
        const float v = row - (float)top, u = column - (float)left, *plane = x + o / (oh * ow) * h * w;
        float sum = 0;
        for (int k = 0; k < 4; ++k) {
            const i64 y = top + (k >> 1), z = left + (k & 1);
            if (y >= 0 && y < h && z >= 0 && z < w) sum += (k >> 1 ? v : 1 - v) * (k & 1 ? u : 1 - u) * plane[y * w + z];
        }
        out[o] = sum;
    }
}

KERNEL image_rgb_to_hsv(float *x, i64 s)
{
    FOR_EACH(i, s) darkbn_rgb_to_hsv(x + i, x + s + i, x + 2 * s + i);
}

KERNEL image_hsv_to_rgb(float *x, i64 s)
{
    FOR_EACH(i, s) darkbn_hsv_to_rgb(x + i, x + s + i, x + 2 * s + i);
}

KERNEL image_distort(float *x, i64 s, float hue, float saturation, float exposure)
{
    FOR_EACH(i, s) darkbn_distort_row(x + i, x + s + i, x + 2 * s + i, 1, hue, saturation, exposure);
}
