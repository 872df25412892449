/* Pixels: positions and rows of the bilinear resize, one bilinear sample, colour formulas. */
#ifndef DARKBN_IMAGE_H
#define DARKBN_IMAGE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__CUDACC__)
#define DARKBN_PIXEL static __host__ __device__ inline
#else
#define DARKBN_PIXEL static inline
#endif

/* Columns whose positions are held on the stack at a time. */
#define DARKBN_COLUMNS 256

/* A place between source pixels `low` and `low + 1`; `weight` belongs to the second. */
typedef struct {
    ptrdiff_t low;
    float weight;
} darkbn_place;

/* at * step, rounded to float. The detour through double keeps compilers from fusing the product into a later sum. */
DARKBN_PIXEL float darkbn_position(int at, float step)
{
    return (float)((double)at * (double)step);
}

/* Where target pixel `at` of `target` lies in a source of `source` > 0 pixels, corners on corners. The position is
 * rounded to float as in Darknet; the last target pixel is exactly the last source pixel. */
DARKBN_PIXEL darkbn_place darkbn_locate(ptrdiff_t at, ptrdiff_t source, ptrdiff_t target)
{
    darkbn_place place = {0, 0};
    if (source == 1) return place;
    place.low = source - 2;
    place.weight = 1;
    if (at == target - 1) return place;
    const float step = (float)(source - 1) / (float)(target - 1);
    const float position = darkbn_position((int)at, step);
    if ((ptrdiff_t)position < place.low) place.low = (ptrdiff_t)position;
    place.weight = position - (float)place.low;
    return place;
}

/* darkbn_locate for target pixels first .. first + count - 1, in a form that vectorizes. */
static inline void darkbn_locate_columns(ptrdiff_t first, int count, ptrdiff_t source, ptrdiff_t target,
                                         int *restrict low, float *restrict weight)
{
    const float step = target > 1 ? (float)(source - 1) / (float)(target - 1) : 0;
    const int start = (int)first, last = source > 1 ? (int)source - 2 : 0;
    for (int i = 0; i < count; ++i) {
        const float position = darkbn_position(start + i, step);
        const int whole = (int)position;
        low[i] = whole < last ? whole : last;
        weight[i] = position - (float)low[i];
    }
    if (first + count == target) {
        low[count - 1] = last;
        weight[count - 1] = source > 1 ? 1 : 0;
    }
}

/* Columns first .. first + count - 1 of one target row from two source rows of one plane. */
static inline void darkbn_resize_columns(const float *restrict upper, const float *restrict lower, float v,
                                         ptrdiff_t source, const int *restrict low, const float *restrict weight,
                                         int count, float *restrict out)
{
    const ptrdiff_t next = source > 1;
    for (int i = 0; i < count; ++i) {
        const float u = weight[i];
        const float *a = upper + low[i], *b = lower + low[i];
        const float above = (1 - u) * a[0] + u * a[next];
        const float below = (1 - u) * b[0] + u * b[next];
        out[i] = (1 - v) * above + v * below;
    }
}

/* The four source pixels round each of `count` places, channel k in bits 8k to 8k + 7: upper left, upper right,
 * lower left, lower right. Gathered first, so that the arithmetic on them vectorizes. */
typedef struct {
    uint32_t at[4][DARKBN_COLUMNS];
} darkbn_pixels;

static inline uint32_t darkbn_three_bytes(const uint8_t *x)
{
    return (uint32_t)x[0] | (uint32_t)x[1] << 8 | (uint32_t)x[2] << 16;
}

static inline uint32_t darkbn_four_bytes(const uint8_t *x)
{
    uint32_t word;
    memcpy(&word, x, sizeof word); /* one load; compilers do not always find it in four */
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap32(word);
#endif
    return word;
}

/* Pixels of three interleaved bytes. The fourth byte of a load belongs to the next pixel, so the last one is put
 * together from three. */
static inline void darkbn_gather_rgb(const uint8_t *restrict upper, const uint8_t *restrict lower, ptrdiff_t source,
                                     const int *restrict low, int count, darkbn_pixels *restrict pixels)
{
    const int next = source > 1 ? 3 : 0;
    int i = 0;
    for (; i < count && low[i] < source - 2; ++i) {
        const uint8_t *a = upper + 3 * (ptrdiff_t)low[i], *b = lower + 3 * (ptrdiff_t)low[i];
        pixels->at[0][i] = darkbn_four_bytes(a);
        pixels->at[1][i] = darkbn_four_bytes(a + 3);
        pixels->at[2][i] = darkbn_four_bytes(b);
        pixels->at[3][i] = darkbn_four_bytes(b + 3);
    }
    for (; i < count; ++i) {
        const uint8_t *a = upper + 3 * (ptrdiff_t)low[i], *b = lower + 3 * (ptrdiff_t)low[i];
        pixels->at[0][i] = darkbn_three_bytes(a);
        pixels->at[1][i] = darkbn_three_bytes(a + next);
        pixels->at[2][i] = darkbn_three_bytes(b);
        pixels->at[3][i] = darkbn_three_bytes(b + next);
    }
}

/* One channel of pixels of `channels` interleaved bytes, into bits 0 to 7. */
static inline void darkbn_gather_one(const uint8_t *restrict upper, const uint8_t *restrict lower, ptrdiff_t source,
                                     ptrdiff_t channels, const int *restrict low, int count,
                                     darkbn_pixels *restrict pixels)
{
    const ptrdiff_t next = source > 1 ? channels : 0;
    for (int i = 0; i < count; ++i) {
        const uint8_t *a = upper + channels * low[i], *b = lower + channels * low[i];
        pixels->at[0][i] = a[0];
        pixels->at[1][i] = a[next];
        pixels->at[2][i] = b[0];
        pixels->at[3][i] = b[next];
    }
}

/* Channel `k` of the gathered pixels, mixed, as 0..1. */
static inline void darkbn_mix(const darkbn_pixels *restrict pixels, int k, float v, const float *restrict weight,
                              int count, float *restrict out)
{
    const int shift = 8 * k;
    for (int i = 0; i < count; ++i) {
        const float u = weight[i];
        const float a = (float)(int)(pixels->at[0][i] >> shift & 255), b = (float)(int)(pixels->at[1][i] >> shift & 255);
        const float c = (float)(int)(pixels->at[2][i] >> shift & 255), d = (float)(int)(pixels->at[3][i] >> shift & 255);
        const float above = a + u * (b - a), below = c + u * (d - c);
        out[i] = (above + v * (below - above)) / 255.0f;
    }
}

/* One row of interleaved bytes to planes of floats. */
static inline void darkbn_row_to_planes(const uint8_t *restrict x, ptrdiff_t count, ptrdiff_t channels,
                                        float *restrict out, ptrdiff_t plane)
{
    if (channels == 3) {
        for (ptrdiff_t i = 0; i < count; ++i) {
            out[i] = (float)x[3 * i] / 255.0f;
            out[plane + i] = (float)x[3 * i + 1] / 255.0f;
            out[2 * plane + i] = (float)x[3 * i + 2] / 255.0f;
        }
        return;
    }
    for (ptrdiff_t k = 0; k < channels; ++k)
        for (ptrdiff_t i = 0; i < count; ++i) out[k * plane + i] = (float)x[channels * i + k] / 255.0f;
}

/* A plane seen at `count` places between pixels: where the four neighbours are, and their weights, 0 outside. */
typedef struct {
    int at[4][DARKBN_COLUMNS];
    float weight[4][DARKBN_COLUMNS];
} darkbn_samples;

static inline int darkbn_floor(float x)
{
    const int whole = (int)x;
    return whole - (x < (float)whole);
}

static inline float darkbn_between(float x, float low, float high)
{
    x = x > low ? x : low;
    return x < high ? x : high;
}

/* Places first .. first + count - 1 on a line through a plane of h x w that starts at (row, column). */
static inline void darkbn_sample_line(int h, int w, double row, double row_step, double column, double column_step,
                                      ptrdiff_t first, int count, darkbn_samples *restrict s)
{
    const int start = (int)first;
    for (int i = 0; i < count; ++i) {
        const float y = darkbn_between((float)(row + (start + i) * row_step), -2, (float)h + 1);
        const float x = darkbn_between((float)(column + (start + i) * column_step), -2, (float)w + 1);
        const int top = darkbn_floor(y), left = darkbn_floor(x);
        const float v = y - (float)top, u = x - (float)left;
        const float upper = top >= 0 && top < h ? 1 - v : 0, lower = top >= -1 && top < h - 1 ? v : 0;
        const float before = left >= 0 && left < w ? 1 - u : 0, after = left >= -1 && left < w - 1 ? u : 0;
        const int r = (upper > 0 ? top : 0) * w, below = (lower > 0 ? top + 1 : 0) * w;
        const int c = before > 0 ? left : 0, next = after > 0 ? left + 1 : 0;
        s->at[0][i] = r + c;
        s->at[1][i] = r + next;
        s->at[2][i] = below + c;
        s->at[3][i] = below + next;
        s->weight[0][i] = upper * before;
        s->weight[1][i] = upper * after;
        s->weight[2][i] = lower * before;
        s->weight[3][i] = lower * after;
    }
}

/* The plane's values at these places. */
static inline void darkbn_sample(const float *restrict x, const darkbn_samples *restrict s, int count,
                                 float *restrict out)
{
    for (int i = 0; i < count; ++i)
        out[i] = s->weight[0][i] * x[s->at[0][i]] + s->weight[1][i] * x[s->at[1][i]] +
                 s->weight[2][i] * x[s->at[2][i]] + s->weight[3][i] * x[s->at[3][i]];
}

/* Hue (0..1), saturation and value of a colour, in place; grey has hue 0. */
DARKBN_PIXEL void darkbn_rgb_to_hsv(float *x, float *y, float *z)
{
    const float r = *x, g = *y, b = *z;
    const float larger = r > g ? r : g, smaller = r < g ? r : g;
    const float value = larger > b ? larger : b, least = smaller < b ? smaller : b;
    const float spread = value - least, divisor = spread == 0 ? 1 : spread;
    float top = r - g, turn = 4;
    top = g == value ? b - r : top;
    turn = g == value ? 2 : turn;
    top = r == value ? g - b : top;
    turn = r == value ? 0 : turn;
    const float sixth = turn + top / divisor;
    *x = spread == 0 ? 0 : (sixth < 0 ? sixth + 6 : sixth) / 6;
    *y = value == 0 ? 0 : spread / (value == 0 ? 1 : value);
    *z = value;
}

/* One channel of a colour: `turn` is 5 for red, 3 for green, 1 for blue; `sixths` the hue in 0..6. */
DARKBN_PIXEL float darkbn_hsv_channel(float turn, float sixths, float saturation, float value)
{
    float k = turn + sixths;
    k = k >= 6 ? k - 6 : k;
    float part = k < 4 - k ? k : 4 - k;
    part = part < 0 ? 0 : part;
    part = part > 1 ? 1 : part;
    return value - value * saturation * part;
}

/* Red, green and blue of a colour, in place, for every hue. */
DARKBN_PIXEL void darkbn_hsv_to_rgb(float *x, float *y, float *z)
{
    const float hue = *x, saturation = *y, value = *z;
    float sixths = hue - (float)(int)hue;
    sixths = 6 * (sixths < 0 ? sixths + 1 : sixths);
    *x = darkbn_hsv_channel(5, sixths, saturation, value);
    *y = darkbn_hsv_channel(3, sixths, saturation, value);
    *z = darkbn_hsv_channel(1, sixths, saturation, value);
}

DARKBN_PIXEL float darkbn_clip(float x)
{
    return x < 0 ? 0 : x > 1 ? 1 : x;
}

static inline void darkbn_rgb_to_hsv_row(float *restrict x, float *restrict y, float *restrict z, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; ++i) darkbn_rgb_to_hsv(x + i, y + i, z + i);
}

static inline void darkbn_hsv_to_rgb_row(float *restrict x, float *restrict y, float *restrict z, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; ++i) darkbn_hsv_to_rgb(x + i, y + i, z + i);
}

static inline void darkbn_distort_row(float *restrict x, float *restrict y, float *restrict z, ptrdiff_t n, float hue,
                                      float saturation, float exposure)
{
    for (ptrdiff_t i = 0; i < n; ++i) {
        float h = x[i], s = y[i], v = z[i];
        darkbn_rgb_to_hsv(&h, &s, &v);
        h += hue;
        s *= saturation;
        v *= exposure;
        darkbn_hsv_to_rgb(&h, &s, &v);
        x[i] = darkbn_clip(h);
        y[i] = darkbn_clip(s);
        z[i] = darkbn_clip(v);
    }
}

#endif
