/* Pooling of rows of one plane: maximum (with or without its place) and mean over windows.
 *
 * Planes are done in tiles on the stack: image rows are copied in between borders, and all loops run over the tile,
 * contiguously and without tests. Planes of deep layers are narrow (7, 13, 19), so these loops run on to whole vectors,
 * into the slack behind the tile; only copies in and out keep to the exact length. */
#ifndef DARKBN_POOLING_H
#define DARKBN_POOLING_H

#include <float.h>
#include <stddef.h>
#include <stdint.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "darkbn/vector.h"

#define DARKBN_POOL_TILE 4096              /* floats of a tile */
#define DARKBN_POOL_PLACES 2048            /* floats of a tile whose maxima have places */
#define DARKBN_POOL_ROW 2048               /* floats of a padded row, twice the largest window (geometry.MAX_WINDOW) */
#define DARKBN_POOL_SMALL 16               /* largest window whose image rows are kept in a tile */
#define DARKBN_POOL_SLACK (4 * DARKBN_V)   /* floats behind a tile that loops may read or write */
#define DARKBN_POOL_CLEARED 2048           /* floats that are cleared ahead of a gradient */
#define DARKBN_POOL_LOWEST (-FLT_MAX)

typedef int32_t darkbn_int_vec __attribute__((vector_size(4 * DARKBN_V)));
typedef int32_t darkbn_int_vec_unaligned __attribute__((vector_size(4 * DARKBN_V), aligned(4), may_alias));

/* A plane of h x w, its output of oh x ow, and the windows: output (i, j) sees the pixels from
 * (i*stride_y - before, j*stride_x - before). */
typedef struct {
    ptrdiff_t h, w, oh, ow, size, stride_y, stride_x, before;
} darkbn_windows;

static inline ptrdiff_t darkbn_pool_clamp(ptrdiff_t value, ptrdiff_t low, ptrdiff_t high)
{
    return value < low ? low : value > high ? high : value;
}

static inline ptrdiff_t darkbn_pool_smaller(ptrdiff_t a, ptrdiff_t b)
{
    return a < b ? a : b;
}

static inline ptrdiff_t darkbn_pool_whole(ptrdiff_t n)
{
    return (n + DARKBN_V - 1) / DARKBN_V * DARKBN_V;
}

/* Output columns of a strip whose padded row has at most `room` floats. */
static inline ptrdiff_t darkbn_pool_strip(const darkbn_windows *g, ptrdiff_t room)
{
    return darkbn_pool_clamp((room - g->size) / g->stride_x + 1, 1, g->ow);
}

DARKBN_INLINE darkbn_vec darkbn_pool_all(float value)
{
    return (darkbn_vec){0} + value;
}

/* value > best ? value : best, as Darknet compares: equal values and NaN change nothing. */
DARKBN_INLINE darkbn_vec darkbn_pool_greater(darkbn_vec best, darkbn_vec value)
{
#if defined(__AVX512F__)
    return (darkbn_vec)_mm512_max_ps((__m512)value, (__m512)best);
#elif defined(__AVX__)
    return (darkbn_vec)_mm256_max_ps((__m256)value, (__m256)best);
#elif defined(__SSE2__)
    return (darkbn_vec)_mm_max_ps((__m128)value, (__m128)best);
#else
    const darkbn_int_vec greater = value > best;
    return (darkbn_vec)((greater & (darkbn_int_vec)value) | (~greater & (darkbn_int_vec)best));
#endif
}

/* Maximum of a and b, a first; LOWEST where neither is greater. */
DARKBN_INLINE darkbn_vec darkbn_pool_max(darkbn_vec a, darkbn_vec b)
{
    return darkbn_pool_greater(darkbn_pool_greater(darkbn_pool_all(DARKBN_POOL_LOWEST), a), b);
}

static inline float darkbn_pool_max_one(float a, float b)
{
    const float best = a > DARKBN_POOL_LOWEST ? a : DARKBN_POOL_LOWEST;
    return b > best ? b : best;
}

DARKBN_INLINE void darkbn_pool_fill(float *scratch, ptrdiff_t n, float value)
{
    for (ptrdiff_t i = 0; i < n; i += DARKBN_V) darkbn_store(scratch + i, darkbn_pool_all(value));
}

/* Image rows y0 <= y < y1 into rows of scratch, `length` columns from `start` each, LOWEST where there is no pixel. */
static inline void darkbn_pool_load(const darkbn_windows *g, const float *plane, ptrdiff_t y0, ptrdiff_t y1,
                                    ptrdiff_t start, ptrdiff_t length, float *rows, ptrdiff_t pitch)
{
    const ptrdiff_t from = darkbn_pool_clamp(-start, 0, length);
    const ptrdiff_t to = darkbn_pool_clamp(g->w - start, from, length);
    for (ptrdiff_t y = y0; y < y1; ++y, rows += pitch) {
        if (y < 0 || y >= g->h || from == to) {
            darkbn_pool_fill(rows, length, DARKBN_POOL_LOWEST);
            continue;
        }
        /* The borders may spill into what is written after them, never into pixels. */
        darkbn_pool_fill(rows, from, DARKBN_POOL_LOWEST);
        darkbn_copy(rows + from, plane + y * g->w + start + from, to - from);
        darkbn_pool_fill(rows + to, length - to, DARKBN_POOL_LOWEST);
    }
}

/* One row of scratch: maximum over the image rows y0 <= y < y1. */
static void darkbn_pool_tall(const darkbn_windows *g, const float *plane, ptrdiff_t y0, ptrdiff_t y1,
                             ptrdiff_t start, ptrdiff_t length, float *restrict row)
{
    const ptrdiff_t from = darkbn_pool_clamp(-start, 0, length);
    const ptrdiff_t to = darkbn_pool_clamp(g->w - start, from, length);
    const ptrdiff_t top = darkbn_pool_clamp(y0, 0, g->h), bottom = darkbn_pool_clamp(y1, top, g->h);
    darkbn_pool_fill(row, length, DARKBN_POOL_LOWEST);
    for (ptrdiff_t y = top; y < bottom; ++y)
        for (ptrdiff_t i = from; i < to; ++i) row[i] = darkbn_pool_max_one(row[i], plane[y * g->w + start + i]);
}

/* Scratch x[i] = maximum of x[i] and x[i + d]; values ahead are still the old ones. */
DARKBN_INLINE void darkbn_pool_fold(float *x, ptrdiff_t n, ptrdiff_t d)
{
    for (ptrdiff_t i = 0; i < n; i += DARKBN_V)
        darkbn_store(x + i, darkbn_pool_max(darkbn_load(x + i), darkbn_load(x + i + d)));
}

/* Folds n values until each holds the maximum of `width` values in steps of `step`, with width < size <= 2*width: a
 * window of 13 takes 4 folds (2, 4, 8, 13) instead of 12 comparisons. Returns how far the last, overlapping fold
 * reaches. What runs over the end of x spoils only values whose window does so too. */
DARKBN_INLINE ptrdiff_t darkbn_pool_folds(float *x, ptrdiff_t n, ptrdiff_t size, ptrdiff_t step)
{
    ptrdiff_t width = 1;
    for (; 2 * width < size; width *= 2) darkbn_pool_fold(x, n - width * step, width * step);
    return (size - width) * step;
}

/* m rows of scratch, each the maximum of `size` rows from every stride-th on, in place: a row is written when its old
 * values have been used. Rows are whole vectors apart when the stride is not 1. */
DARKBN_INLINE void darkbn_pool_down(float *rows, ptrdiff_t m, ptrdiff_t pitch, ptrdiff_t size, ptrdiff_t stride)
{
    if (stride == 1) {
        const ptrdiff_t reach = darkbn_pool_folds(rows, (m + size - 1) * pitch, size, pitch);
        darkbn_pool_fold(rows, m * pitch, reach);
        return;
    }
    for (ptrdiff_t r = 0; r < m; ++r) {
        const float *window = rows + r * stride * pitch;
        for (ptrdiff_t i = 0; i < pitch; i += DARKBN_V) {
            darkbn_vec best = darkbn_pool_all(DARKBN_POOL_LOWEST);
            for (ptrdiff_t k = 0; k < size; ++k)
                best = darkbn_pool_greater(best, darkbn_load(window + k * pitch + i));
            darkbn_store(rows + r * pitch + i, best);
        }
    }
}

/* out[j] = the larger of row[j * stride] and row[j * stride + reach]. */
DARKBN_INLINE void darkbn_pool_pick(const float *row, ptrdiff_t n, ptrdiff_t stride, ptrdiff_t reach, float *out)
{
    if (stride != 2) {
        for (ptrdiff_t j = 0; j < n; ++j) out[j] = darkbn_pool_max_one(row[j * stride], row[j * stride + reach]);
    } else if (n < DARKBN_V) {
        float few[DARKBN_V];
        darkbn_store(few, darkbn_pool_max(darkbn_load_even(row), darkbn_load_even(row + reach)));
        darkbn_copy(out, few, n);
    } else {
        for (ptrdiff_t j = 0; j < n; j += DARKBN_V) {
            const ptrdiff_t at = darkbn_pool_smaller(j, n - DARKBN_V);
            darkbn_store(out + at, darkbn_pool_max(darkbn_load_even(row + 2 * at),
                                                   darkbn_load_even(row + 2 * at + reach)));
        }
    }
}

/* n outputs of each of m rows of scratch. Folds run over row ends, which spoils only the last size - 1 columns. */
DARKBN_INLINE void darkbn_pool_across(float *rows, ptrdiff_t m, ptrdiff_t pitch, ptrdiff_t n, ptrdiff_t size,
                                      ptrdiff_t stride, float *out, ptrdiff_t out_pitch)
{
    const ptrdiff_t reach = darkbn_pool_folds(rows, m * pitch, size, 1);
    if (stride == 1) darkbn_pool_fold(rows, m * pitch - reach, reach);
    for (ptrdiff_t r = 0; r < m; ++r, rows += pitch, out += out_pitch) {
        if (stride == 1) darkbn_copy(out, rows, n);
        else darkbn_pool_pick(rows, n, stride, reach, out);
    }
}

/* Output rows first <= i < last of a plane. */
static void darkbn_maxpool_rows(const darkbn_windows *g, const float *plane, float *out, ptrdiff_t first,
                                ptrdiff_t last)
{
    float tile[DARKBN_POOL_TILE + DARKBN_POOL_SLACK];
    const int small = g->size <= DARKBN_POOL_SMALL;
    const ptrdiff_t strip = darkbn_pool_strip(g, small ? DARKBN_POOL_TILE / (2 * g->size) : DARKBN_POOL_ROW);
    for (ptrdiff_t j = 0; j < g->ow; j += strip) {
        const ptrdiff_t n = darkbn_pool_smaller(strip, g->ow - j), start = j * g->stride_x - g->before;
        const ptrdiff_t length = (n - 1) * g->stride_x + g->size;
        const ptrdiff_t pitch = g->stride_y == 1 ? length : darkbn_pool_whole(length);
        const ptrdiff_t room = DARKBN_POOL_TILE / pitch, rows = small ? (room - g->size) / g->stride_y + 1 : room;
        for (ptrdiff_t i = first; i < last; i += rows) {
            const ptrdiff_t m = darkbn_pool_smaller(rows, last - i), top = i * g->stride_y - g->before;
            if (small) {
                darkbn_pool_load(g, plane, top, top + (m - 1) * g->stride_y + g->size, start, length, tile, pitch);
                darkbn_pool_down(tile, m, pitch, g->size, g->stride_y);
            } else {
                for (ptrdiff_t r = 0, y = top; r < m; ++r, y += g->stride_y)
                    darkbn_pool_tall(g, plane, y, y + g->size, start, length, tile + r * pitch);
            }
            darkbn_pool_across(tile, m, pitch, n, g->size, g->stride_x, out + i * g->ow + j, g->ow);
        }
    }
}

DARKBN_INLINE darkbn_int_vec darkbn_pool_int_load(const int32_t *x)
{
    return *(const darkbn_int_vec_unaligned *)x;
}

DARKBN_INLINE void darkbn_pool_int_store(int32_t *x, darkbn_int_vec v)
{
    *(darkbn_int_vec_unaligned *)x = v;
}

/* Maxima so far and their places: a greater value takes over, with its place. */
DARKBN_INLINE void darkbn_pool_take(darkbn_vec *best, darkbn_int_vec *place, darkbn_vec value,
                                    darkbn_int_vec value_place)
{
    const darkbn_int_vec greater = value > *best;
    *place = (greater & value_place) | (~greater & *place);
    *best = darkbn_pool_greater(*best, value);
}

/* Maximum of each window along one padded row, and the image column it is in. */
DARKBN_INLINE void darkbn_pool_along(const float *row, ptrdiff_t n, ptrdiff_t size, ptrdiff_t stride,
                                     ptrdiff_t start, float *best, int32_t *column)
{
    if (stride > 2) {
        for (ptrdiff_t j = 0; j < n; ++j) {
            best[j] = DARKBN_POOL_LOWEST;
            for (ptrdiff_t k = j * stride; k < j * stride + size; ++k)
                if (row[k] > best[j]) {
                    best[j] = row[k];
                    column[j] = (int32_t)(start + k);
                }
        }
        return;
    }
    int32_t steps[DARKBN_V];
    for (int32_t lane = 0; lane < DARKBN_V; ++lane) steps[lane] = lane * (int32_t)stride;
    const darkbn_int_vec lanes = darkbn_pool_int_load(steps);
    for (ptrdiff_t j = 0; j < n; j += DARKBN_V) {
        const float *x = row + j * stride;
        darkbn_vec value = darkbn_pool_all(DARKBN_POOL_LOWEST);
        darkbn_int_vec place = {0}, at = lanes + (int32_t)(start + j * stride);
        for (ptrdiff_t k = 0; k < size; ++k, at += 1)
            darkbn_pool_take(&value, &place, stride == 1 ? darkbn_load(x + k) : darkbn_load_even(x + k), at);
        darkbn_store(best + j, value);
        darkbn_pool_int_store(column + j, place);
    }
}

/* One output row from the maxima along `size` image rows, the first of which starts at `line` of the plane. */
DARKBN_INLINE void darkbn_pool_places_down(const darkbn_windows *g, const float *best, const int32_t *column,
                                           ptrdiff_t pitch, ptrdiff_t n, ptrdiff_t line, float *out,
                                           int32_t *indexes)
{
    for (ptrdiff_t j = 0; j < n; j += DARKBN_V) {
        darkbn_vec value = darkbn_pool_all(DARKBN_POOL_LOWEST);
        darkbn_int_vec place = (darkbn_int_vec){0} - 1;
        for (ptrdiff_t k = 0; k < g->size; ++k)
            darkbn_pool_take(&value, &place, darkbn_load(best + k * pitch + j),
                             darkbn_pool_int_load(column + k * pitch + j) + (int32_t)(line + k * g->w));
        if (j + DARKBN_V <= n) {
            darkbn_store(out + j, value);
            darkbn_pool_int_store(indexes + j, place);
        } else {
            memcpy(out + j, &value, (size_t)(n - j) * sizeof(float));
            memcpy(indexes + j, &place, (size_t)(n - j) * sizeof(int32_t));
        }
    }
}

/* Large windows with places, an output row at a time: each image row of the window is searched along, then taken. */
static void darkbn_maxpool_places_large(const darkbn_windows *g, const float *plane, float *out, int32_t *indexes,
                                        ptrdiff_t first, ptrdiff_t last)
{
    float row[DARKBN_POOL_ROW + DARKBN_POOL_SLACK], best[DARKBN_POOL_ROW], value[DARKBN_POOL_ROW];
    int32_t column[DARKBN_POOL_ROW], place[DARKBN_POOL_ROW];
    const ptrdiff_t strip = darkbn_pool_strip(g, DARKBN_POOL_ROW);
    for (ptrdiff_t i = first; i < last; ++i)
        for (ptrdiff_t j = 0; j < g->ow; j += strip) {
            const ptrdiff_t n = darkbn_pool_smaller(strip, g->ow - j), start = j * g->stride_x - g->before;
            const ptrdiff_t length = (n - 1) * g->stride_x + g->size, whole = darkbn_pool_whole(n);
            const ptrdiff_t top = darkbn_pool_clamp(i * g->stride_y - g->before, 0, g->h);
            const ptrdiff_t bottom = darkbn_pool_clamp(i * g->stride_y - g->before + g->size, top, g->h);
            for (ptrdiff_t k = 0; k < whole; ++k) {
                value[k] = DARKBN_POOL_LOWEST;
                place[k] = -1;
            }
            for (ptrdiff_t y = top; y < bottom; ++y) {
                darkbn_pool_load(g, plane, y, y + 1, start, length, row, length);
                darkbn_pool_along(row, n, g->size, g->stride_x, start, best, column);
                for (ptrdiff_t k = 0; k < n; ++k)
                    if (best[k] > value[k]) {
                        value[k] = best[k];
                        place[k] = (int32_t)(y * g->w) + column[k];
                    }
            }
            memcpy(out + i * g->ow + j, value, (size_t)n * sizeof(float));
            memcpy(indexes + i * g->ow + j, place, (size_t)n * sizeof(int32_t));
        }
}

/* Output rows first <= i < last of a plane with the place row*w + column of each maximum: along the rows first, then
 * down, so that the first of equal values in row-major order stays. */
static void darkbn_maxpool_places(const darkbn_windows *g, const float *plane, float *out, int32_t *indexes,
                                  ptrdiff_t first, ptrdiff_t last)
{
    float tile[DARKBN_POOL_PLACES + DARKBN_POOL_SLACK], best[DARKBN_POOL_PLACES];
    int32_t column[DARKBN_POOL_PLACES];
    const ptrdiff_t strip = darkbn_pool_strip(g, DARKBN_POOL_PLACES / (2 * g->size));
    for (ptrdiff_t j = 0; j < g->ow; j += strip) {
        const ptrdiff_t n = darkbn_pool_smaller(strip, g->ow - j), start = j * g->stride_x - g->before;
        const ptrdiff_t length = (n - 1) * g->stride_x + g->size, pitch = darkbn_pool_whole(n);
        const ptrdiff_t room = DARKBN_POOL_PLACES / (length > pitch ? length : pitch);
        const ptrdiff_t rows = (room - g->size) / g->stride_y + 1;
        for (ptrdiff_t i = first; i < last; i += rows) {
            const ptrdiff_t m = darkbn_pool_smaller(rows, last - i), top = i * g->stride_y - g->before;
            const ptrdiff_t height = (m - 1) * g->stride_y + g->size;
            darkbn_pool_load(g, plane, top, top + height, start, length, tile, length);
            for (ptrdiff_t y = 0; y < height; ++y)
                darkbn_pool_along(tile + y * length, n, g->size, g->stride_x, start, best + y * pitch,
                                  column + y * pitch);
            for (ptrdiff_t r = 0; r < m; ++r)
                darkbn_pool_places_down(g, best + r * g->stride_y * pitch, column + r * g->stride_y * pitch, pitch, n,
                                        (top + r * g->stride_y) * g->w, out + (i + r) * g->ow + j,
                                        indexes + (i + r) * g->ow + j);
        }
    }
}

/* Odd floats of the 2 * DARKBN_V from x on. */
DARKBN_INLINE darkbn_vec darkbn_pool_load_odd(const float *x)
{
    const darkbn_vec a = darkbn_load(x), b = darkbn_load(x + DARKBN_V);
#if DARKBN_V == 16
    return DARKBN_SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
#elif DARKBN_V == 8
    return DARKBN_SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
#else
    return DARKBN_SHUFFLE(a, b, 1, 3, 5, 7);
#endif
}

/* One window of 2 x 2 from pixel (y, x) on, of which pixels may be missing. */
static inline void darkbn_pool_quad(const darkbn_windows *g, const float *plane, ptrdiff_t y, ptrdiff_t x, float *out,
                                    int32_t *place)
{
    *out = DARKBN_POOL_LOWEST;
    *place = -1;
    for (ptrdiff_t i = y; i < y + 2 && i < g->h; ++i)
        for (ptrdiff_t j = x; j < x + 2 && j < g->w; ++j)
            if (plane[i * g->w + j] > *out) {
                *out = plane[i * g->w + j];
                *place = (int32_t)(i * g->w + j);
            }
}

/* Windows of 2 x 2 that do not overlap, most of them whole: straight from the image, without a tile. */
static void darkbn_maxpool_quads(const darkbn_windows *g, const float *plane, float *out, int32_t *indexes,
                                 ptrdiff_t first, ptrdiff_t last)
{
    const ptrdiff_t whole = darkbn_pool_smaller(g->ow, g->w / 2);
    int32_t steps[DARKBN_V];
    for (int32_t lane = 0; lane < DARKBN_V; ++lane) steps[lane] = 2 * lane;
    const darkbn_int_vec lanes = darkbn_pool_int_load(steps);
    for (ptrdiff_t i = first; i < last; ++i) {
        const ptrdiff_t line = 2 * i * g->w, n = 2 * i + 1 < g->h && whole >= DARKBN_V ? whole : 0;
        for (ptrdiff_t j = 0; j < n; j += DARKBN_V) {
            const ptrdiff_t at = darkbn_pool_smaller(j, n - DARKBN_V);
            const float *above = plane + line + 2 * at, *below = above + g->w;
            const darkbn_int_vec here = lanes + (int32_t)(line + 2 * at), under = here + (int32_t)g->w;
            darkbn_vec best = darkbn_pool_all(DARKBN_POOL_LOWEST);
            darkbn_int_vec place = (darkbn_int_vec){0} - 1;
            darkbn_pool_take(&best, &place, darkbn_load_even(above), here);
            darkbn_pool_take(&best, &place, darkbn_pool_load_odd(above), here + 1);
            darkbn_pool_take(&best, &place, darkbn_load_even(below), under);
            darkbn_pool_take(&best, &place, darkbn_pool_load_odd(below), under + 1);
            darkbn_store(out + i * g->ow + at, best);
            darkbn_pool_int_store(indexes + i * g->ow + at, place);
        }
        for (ptrdiff_t j = n; j < g->ow; ++j)
            darkbn_pool_quad(g, plane, 2 * i, 2 * j, out + i * g->ow + j, indexes + i * g->ow + j);
    }
}

static void darkbn_maxpool_indexed(const darkbn_windows *g, const float *plane, float *out, int32_t *indexes,
                                   ptrdiff_t first, ptrdiff_t last)
{
    if (g->size == 2 && g->stride_y == 2 && g->stride_x == 2 && g->before == 0)
        darkbn_maxpool_quads(g, plane, out, indexes, first, last);
    else if (g->size <= DARKBN_POOL_SMALL) darkbn_maxpool_places(g, plane, out, indexes, first, last);
    else darkbn_maxpool_places_large(g, plane, out, indexes, first, last);
}

/* plane[places[i]] += delta[i]. One comparison: -1 (a window without maximum) is huge as an unsigned number. */
static inline void darkbn_pool_scatter(const float *restrict delta, const int32_t *restrict places, ptrdiff_t n,
                                       float *restrict plane, ptrdiff_t size)
{
    for (ptrdiff_t i = 0; i < n; ++i)
        if ((size_t)places[i] < (size_t)size) plane[places[i]] += delta[i];
}

/* The same into a plane that counts as zeros: it is cleared a piece at a time before the places get there, so that it
 * comes into the cache once. */
static inline void darkbn_pool_scatter_into(const float *restrict delta, const int32_t *restrict places, ptrdiff_t n,
                                            float *restrict plane, ptrdiff_t size)
{
    ptrdiff_t cleared = 0;
    for (ptrdiff_t i = 0; i < n; ++i) {
        if ((size_t)places[i] >= (size_t)size) continue;
        if (places[i] >= cleared) {
            const ptrdiff_t end = darkbn_pool_smaller(places[i] + DARKBN_POOL_CLEARED, size);
            memset(plane + cleared, 0, (size_t)(end - cleared) * sizeof(float));
            cleared = end;
        }
        plane[places[i]] += delta[i];
    }
    memset(plane + cleared, 0, (size_t)(size - cleared) * sizeof(float));
}

/* Maximum over the channels group, group + n, ... of a sample, per pixel; indexes may be NULL. */
static void darkbn_maxpool_depth(const float *restrict sample, ptrdiff_t channels, ptrdiff_t group, ptrdiff_t n,
                                 ptrdiff_t spatial, float *restrict out, int32_t *restrict indexes)
{
    for (ptrdiff_t i = 0; i < spatial; ++i) out[i] = DARKBN_POOL_LOWEST;
    if (indexes)
        for (ptrdiff_t i = 0; i < spatial; ++i) indexes[i] = -1;
    for (ptrdiff_t k = group; k < channels; k += n) {
        const float *row = sample + k * spatial;
        if (!indexes) {
            for (ptrdiff_t i = 0; i < spatial; ++i) out[i] = darkbn_pool_max_one(out[i], row[i]);
            continue;
        }
        for (ptrdiff_t i = 0; i < spatial; ++i) {
            const int greater = row[i] > out[i];
            indexes[i] = greater ? (int32_t)k : indexes[i];
            out[i] = greater ? row[i] : out[i];
        }
    }
}

/* How many of `size` positions from start lie in 0 <= position < length, as a divisor: at least 1. */
static inline float darkbn_pool_inside(int32_t start, int32_t size, int32_t length)
{
    const int32_t from = start > 0 ? start : 0, stop = start + size < length ? start + size : length;
    return (float)(stop - from > 1 ? stop - from : 1);
}

/* values[k] /= the pixels that window k of a row counts, of `high` rows each. */
static inline void darkbn_pool_divide(const darkbn_windows *g, float *restrict values, int32_t n, int32_t start,
                                      float high)
{
    const int32_t stride = (int32_t)g->stride_x, size = (int32_t)g->size, w = (int32_t)g->w;
    for (int32_t k = 0; k < n; ++k) values[k] /= high * darkbn_pool_inside(start + k * stride, size, w);
}

/* Output rows first <= i < last of the mean over the pixels inside the image. */
static void darkbn_local_avgpool_rows(const darkbn_windows *g, const float *plane, float *restrict out,
                                      ptrdiff_t first, ptrdiff_t last)
{
    float row[DARKBN_POOL_ROW + DARKBN_POOL_SLACK];
    const ptrdiff_t strip = darkbn_pool_strip(g, DARKBN_POOL_ROW);
    for (ptrdiff_t i = first; i < last; ++i) {
        const ptrdiff_t top = i * g->stride_y - g->before;
        const ptrdiff_t y0 = darkbn_pool_clamp(top, 0, g->h), y1 = darkbn_pool_clamp(top + g->size, y0, g->h);
        const float high = darkbn_pool_inside((int32_t)top, (int32_t)g->size, (int32_t)g->h);
        for (ptrdiff_t j = 0; j < g->ow; j += strip) {
            const ptrdiff_t n = g->ow - j < strip ? g->ow - j : strip, start = j * g->stride_x - g->before;
            const ptrdiff_t length = (n - 1) * g->stride_x + g->size;
            const ptrdiff_t from = darkbn_pool_clamp(-start, 0, length);
            const ptrdiff_t to = darkbn_pool_clamp(g->w - start, from, length);
            float *target = out + i * g->ow + j;
            darkbn_pool_fill(row, length, 0);
            for (ptrdiff_t y = y0; y < y1; ++y) {
                const float *pixel = plane + y * g->w + start;
                for (ptrdiff_t k = from; k < to; ++k) row[k] += pixel[k];
            }
            darkbn_clear(target, n);
            for (ptrdiff_t m = 0; m < g->size; ++m)
                for (ptrdiff_t k = 0; k < n; ++k) target[k] += row[k * g->stride_x + m];
            darkbn_pool_divide(g, target, (int32_t)n, (int32_t)start, high);
        }
    }
}

/* Adds the gradient of the mean to a whole plane: each delta, divided by the pixels of its window, goes to a padded
 * row first, and this row to every image row of the window. */
static void darkbn_local_avgpool_gradient(const darkbn_windows *g, const float *restrict delta,
                                          float *restrict plane)
{
    float share[DARKBN_POOL_ROW + DARKBN_POOL_SLACK], row[DARKBN_POOL_ROW + DARKBN_POOL_SLACK];
    const ptrdiff_t strip = darkbn_pool_strip(g, DARKBN_POOL_ROW);
    for (ptrdiff_t i = 0; i < g->oh; ++i) {
        const ptrdiff_t top = i * g->stride_y - g->before;
        const ptrdiff_t y0 = darkbn_pool_clamp(top, 0, g->h), y1 = darkbn_pool_clamp(top + g->size, y0, g->h);
        const float high = darkbn_pool_inside((int32_t)top, (int32_t)g->size, (int32_t)g->h);
        for (ptrdiff_t j = 0; j < g->ow; j += strip) {
            const ptrdiff_t n = g->ow - j < strip ? g->ow - j : strip, start = j * g->stride_x - g->before;
            const ptrdiff_t length = (n - 1) * g->stride_x + g->size;
            const ptrdiff_t from = darkbn_pool_clamp(-start, 0, length);
            const ptrdiff_t to = darkbn_pool_clamp(g->w - start, from, length);
            for (ptrdiff_t k = 0; k < n; ++k) share[k] = delta[i * g->ow + j + k];
            darkbn_pool_divide(g, share, (int32_t)n, (int32_t)start, high);
            darkbn_pool_fill(row, length, 0);
            for (ptrdiff_t m = 0; m < g->size; ++m)
                for (ptrdiff_t k = 0; k < n; ++k) row[k * g->stride_x + m] += share[k];
            for (ptrdiff_t y = y0; y < y1; ++y) {
                float *pixel = plane + y * g->w + start;
                for (ptrdiff_t k = from; k < to; ++k) pixel[k] += row[k];
            }
        }
    }
}

#endif
