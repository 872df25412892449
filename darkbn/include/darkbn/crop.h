/* Windows cut out of pictures, and changed colours. */
#ifndef DARKBN_CROP_H
#define DARKBN_CROP_H

#include <math.h>
#include <stddef.h>

/* A window on pictures of one size: corner, whether mirrored, whether and by how much turned round the centre. */
typedef struct {
    ptrdiff_t h, w, oh, ow, top, left;
    int mirrored, turned;
    double sine, cosine;
} darkbn_window;

static inline ptrdiff_t darkbn_window_column(const darkbn_window *g, ptrdiff_t j)
{
    return g->mirrored ? g->w - g->left - 1 - j : g->left + j;
}

/* The four pixels round a turned position (-1: outside of the picture) and their weights. */
typedef struct {
    ptrdiff_t pixel[4];
    float weight[4];
} darkbn_taps;

static inline darkbn_taps darkbn_turned(const darkbn_window *g, ptrdiff_t i, ptrdiff_t j)
{
    const double across = darkbn_window_column(g, j) - g->w / 2.0, down = g->top + i - g->h / 2.0;
    const double column = g->cosine * across - g->sine * down + g->w / 2.0;
    const double row = g->sine * across + g->cosine * down + g->h / 2.0;
    const ptrdiff_t left = (ptrdiff_t)floor(column), top = (ptrdiff_t)floor(row);
    const double u = column - left, v = row - top;
    darkbn_taps taps;
    for (int k = 0; k < 4; ++k) {
        const ptrdiff_t y = top + (k >> 1), x = left + (k & 1);
        const int inside = y >= 0 && y < g->h && x >= 0 && x < g->w;
        taps.pixel[k] = inside ? y * g->w + x : -1;
        taps.weight[k] = (float)((k >> 1 ? v : 1 - v) * (k & 1 ? u : 1 - u));
    }
    return taps;
}

/* One row of a window of one channel: scale * x + shift inside the picture, else 0. */
static inline void darkbn_window_row(const darkbn_window *g, const float *x, ptrdiff_t i, float scale, float shift,
                                     float *restrict out)
{
    if (g->turned) {
        for (ptrdiff_t j = 0; j < g->ow; ++j) {
            const darkbn_taps taps = darkbn_turned(g, i, j);
            float sum = 0;
            for (int k = 0; k < 4; ++k)
                if (taps.pixel[k] >= 0) sum += taps.weight[k] * (x[taps.pixel[k]] * scale + shift);
            out[j] = sum;
        }
        return;
    }
    const ptrdiff_t row = g->top + i;
    const int outside = row < 0 || row >= g->h;
    const float *line = x + (outside ? 0 : row) * g->w;
    for (ptrdiff_t j = 0; j < g->ow; ++j) {
        const ptrdiff_t column = darkbn_window_column(g, j);
        out[j] = outside || column < 0 || column >= g->w ? 0 : line[column] * scale + shift;
    }
}

/* The gradient of darkbn_window_row: delta goes to where the values came from. */
static inline void darkbn_window_row_gradient(const darkbn_window *g, const float *delta, ptrdiff_t i, float scale,
                                              float *x)
{
    const ptrdiff_t row = g->top + i;
    if (!g->turned && (row < 0 || row >= g->h)) return;
    for (ptrdiff_t j = 0; j < g->ow; ++j) {
        const float change = delta[j] * scale;
        if (g->turned) {
            const darkbn_taps taps = darkbn_turned(g, i, j);
            for (int k = 0; k < 4; ++k)
                if (taps.pixel[k] >= 0) x[taps.pixel[k]] += taps.weight[k] * change;
        } else {
            const ptrdiff_t column = darkbn_window_column(g, j);
            if (column >= 0 && column < g->w) x[row * g->w + column] += change;
        }
    }
}

static inline float darkbn_brightest(float r, float g, float b)
{
    const float more = r > g ? r : g;
    return more > b ? more : b;
}

static inline float darkbn_level(float value, float colour, float saturation, float exposure)
{
    return exposure * (value - saturation * (value - colour));
}

/* Saturation and value of n pixels, whose colours lie `step` apart. */
static inline void darkbn_levels(const float *x, ptrdiff_t step, ptrdiff_t n, float saturation, float exposure,
                                 float *out)
{
    for (int channel = 0; channel < 3; ++channel) {
        const float *restrict r = x, *restrict g = x + step, *restrict b = x + 2 * step;
        const float *restrict colour = x + channel * step;
        float *restrict target = out + channel * step;
        for (ptrdiff_t i = 0; i < n; ++i) {
            const float level = darkbn_level(darkbn_brightest(r[i], g[i], b[i]), colour[i], saturation, exposure);
            const float below = level > 1 ? 1 : level;
            target[i] = below < 0 ? 0 : below;
        }
    }
}

static inline void darkbn_levels_gradient(const float *x, const float *delta, ptrdiff_t step, ptrdiff_t n,
                                          float saturation, float exposure, float *input_delta)
{
    for (ptrdiff_t i = 0; i < n; ++i) {
        const float r = x[i], g = x[step + i], b = x[2 * step + i], value = darkbn_brightest(r, g, b);
        float live[3], sum = 0;
        for (int k = 0; k < 3; ++k) {
            const float level = darkbn_level(value, x[k * step + i], saturation, exposure);
            live[k] = level >= 0 && level <= 1 ? delta[k * step + i] * exposure : 0;
            sum += live[k];
        }
        const int greatest = r == value ? 0 : g == value ? 1 : 2;
        for (int k = 0; k < 3; ++k)
            input_delta[k * step + i] += saturation * live[k] + (k == greatest ? (1 - saturation) * sum : 0);
    }
}

#endif
