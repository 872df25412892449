/* A register tile of a 1x1 convolution that finishes in registers: bias, activation and a residual before anything is
 * stored. For small products: few channels, where sums that wait in memory would cost as much as the multiplications.
 *
 * Filters are packed by tiles of DARKBN_TILE_FILTERS, filters[(step * 8 + channel) * DARKBN_TILE_FILTERS + filter]; the
 * last tile is a vector wide where that holds the rest. Each sum is one chain of multiply-adds over all channels. */
#ifndef DARKBN_BLOCKED_POINT_H
#define DARKBN_BLOCKED_POINT_H

#include "darkbn/blocked_tile.h"

/* Pixels of a tile that is one vector wide: as many chains as the full tile has, where there is such a tile. */
#if DARKBN_V == 8
#define DARKBN_NARROW 12
#elif DARKBN_V == 16
#define DARKBN_NARROW DARKBN_TILE_PIXELS
#else
#define DARKBN_NARROW 0
#endif
#define DARKBN_SPREAD (DARKBN_V / DARKBN_W) /* blocks that a vector holds; or 1 */

DARKBN_INLINE darkbn_wide darkbn_part(darkbn_vec v, int part)
{
#if DARKBN_V == 16
    const union {
        darkbn_vec whole;
        darkbn_wide parts[DARKBN_SPREAD];
    } halves = {v};
    return halves.parts[part];
#else
    (void)part;
    return v;
#endif
}

/* Activations that are two lines through 0, the upper one cut off: min(max(v, slope * v), most). */
typedef struct darkbn_bounds {
    float slope, most;
} darkbn_bounds;

static int darkbn_is_bounded(int kind) { return darkbn_slope(kind) >= 0 || kind == DARKBN_RELU6; }

/* The activation where it is of that kind, else none. */
static darkbn_bounds darkbn_bounds_of(int kind)
{
    darkbn_bounds b = {darkbn_is_bounded(kind) ? darkbn_slope(kind) : 1.0f, INFINITY};
    if (kind == DARKBN_RELU6) {
        b.slope = 0.0f;
        b.most = 6.0f;
    }
    return b;
}

/* The greater and the lesser of two values, b where one is NaN. GCC makes a comparison and a choice of what C can say. */
#if defined(__AVX__)
DARKBN_INLINE darkbn_wide darkbn_wide_greater(darkbn_wide a, darkbn_wide b) { return __builtin_ia32_maxps256(a, b); }
DARKBN_INLINE darkbn_wide darkbn_wide_lesser(darkbn_wide a, darkbn_wide b) { return __builtin_ia32_minps256(a, b); }
#else
DARKBN_INLINE darkbn_wide darkbn_wide_greater(darkbn_wide a, darkbn_wide b) { return darkbn_wide_select(a > b, a, b); }
DARKBN_INLINE darkbn_wide darkbn_wide_lesser(darkbn_wide a, darkbn_wide b) { return darkbn_wide_select(a < b, a, b); }
#endif

/* NaN stays NaN, and infinity, whose product with a slope of 0 is NaN, stays what it is. */
DARKBN_INLINE darkbn_wide darkbn_bounded(darkbn_wide v, darkbn_bounds b)
{
    return darkbn_wide_lesser((darkbn_wide){0} + b.most, darkbn_wide_greater(b.slope * v, v));
}

/* What a tile's sums become: blocks of pixels, `plane` floats from block to block. add may be NULL, or `to`. */
typedef struct darkbn_point_end {
    darkbn_bounds first, second; /* before and after the residual */
    float *to;
    const float *add;
    ptrdiff_t plane, add_plane;
} darkbn_point_end;

/* `rows` pixels times `vectors` vectors of filters; `rows` and `vectors` are constants where inlined. */
DARKBN_INLINE void darkbn_point_tile(const int rows, const int vectors, ptrdiff_t steps, const float *restrict a,
                                     ptrdiff_t step, const float *restrict b, const float *bias,
                                     const darkbn_point_end *end, ptrdiff_t pixel, ptrdiff_t blocks)
{
    darkbn_vec acc[DARKBN_TILE_PIXELS > DARKBN_NARROW ? DARKBN_TILE_PIXELS : DARKBN_NARROW][2];
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) acc[i][v] = darkbn_load(bias + v * DARKBN_V);
    for (ptrdiff_t s = 0; s < steps; ++s, a += step, b += DARKBN_BLOCK * vectors * DARKBN_V) {
#pragma GCC unroll 8
        for (int k = 0; k < DARKBN_BLOCK; ++k) {
            darkbn_vec filters[2];
#pragma GCC unroll 2
            for (int v = 0; v < vectors; ++v) filters[v] = darkbn_load(b + (k * vectors + v) * DARKBN_V);
#pragma GCC unroll 16
            for (int i = 0; i < rows; ++i) {
                const float value = a[i * DARKBN_BLOCK + k];
#pragma GCC unroll 2
                for (int v = 0; v < vectors; ++v) acc[i][v] += value * filters[v];
            }
        }
    }
    const darkbn_bounds first = end->first, second = end->second;
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v)
#pragma GCC unroll 2
        for (int part = 0; part < DARKBN_SPREAD; ++part) {
            const ptrdiff_t lane = (v * DARKBN_SPREAD + part) * DARKBN_W, block = lane / DARKBN_BLOCK;
            if (block >= blocks) continue;
            float *to = end->to + block * end->plane + pixel * DARKBN_BLOCK + lane % DARKBN_BLOCK;
            if (end->add) {
                const float *add = end->add + block * end->add_plane + pixel * DARKBN_BLOCK + lane % DARKBN_BLOCK;
#pragma GCC unroll 16
                for (int i = 0; i < rows; ++i) {
                    const darkbn_wide value = darkbn_bounded(darkbn_part(acc[i][v], part), first);
                    darkbn_wide_store(to + i * DARKBN_BLOCK,
                                      darkbn_bounded(value + darkbn_wide_load(add + i * DARKBN_BLOCK), second));
                }
            } else {
#pragma GCC unroll 16
                for (int i = 0; i < rows; ++i)
                    darkbn_wide_store(to + i * DARKBN_BLOCK, darkbn_bounded(darkbn_part(acc[i][v], part), first));
            }
        }
}

typedef void (*darkbn_point_function)(ptrdiff_t, const float *, ptrdiff_t, const float *, const float *,
                                      const darkbn_point_end *, ptrdiff_t, ptrdiff_t);

#define DARKBN_POINT(ROWS, VECTORS)                                                                              \
    static void darkbn_point_##VECTORS##_##ROWS(ptrdiff_t steps, const float *a, ptrdiff_t step, const float *b, \
                                                const float *bias, const darkbn_point_end *end, ptrdiff_t pixel, \
                                                ptrdiff_t blocks)                                                \
    {                                                                                                            \
        darkbn_point_tile(ROWS, VECTORS, steps, a, step, b, bias, end, pixel, blocks);                           \
    }
#define DARKBN_POINTS_6(X, V) X(1, V) X(2, V) X(3, V) X(4, V) X(5, V) X(6, V)
#define DARKBN_POINTS_12(X, V) DARKBN_POINTS_6(X, V) X(7, V) X(8, V) X(9, V) X(10, V) X(11, V) X(12, V)
#define DARKBN_POINTS_14(X, V) DARKBN_POINTS_12(X, V) X(13, V) X(14, V)
#if DARKBN_TILE_PIXELS == 14
#define DARKBN_POINTS_FULL DARKBN_POINTS_14
#elif DARKBN_TILE_PIXELS == 12
#define DARKBN_POINTS_FULL DARKBN_POINTS_12
#else
#define DARKBN_POINTS_FULL DARKBN_POINTS_6
#endif
#define DARKBN_POINT_NAME(ROWS, VECTORS) darkbn_point_##VECTORS##_##ROWS,
DARKBN_POINTS_FULL(DARKBN_POINT, 2)
static const darkbn_point_function darkbn_points_full[] = {NULL, DARKBN_POINTS_FULL(DARKBN_POINT_NAME, 2)};
#if DARKBN_NARROW == 12
#define DARKBN_POINTS_NARROW DARKBN_POINTS_12
#elif DARKBN_NARROW == 14
#define DARKBN_POINTS_NARROW DARKBN_POINTS_14
#endif
#if DARKBN_NARROW
DARKBN_POINTS_NARROW(DARKBN_POINT, 1)
static const darkbn_point_function darkbn_points_narrow[] = {NULL, DARKBN_POINTS_NARROW(DARKBN_POINT_NAME, 1)};
#endif

/* Filters of tile t of n: DARKBN_TILE_FILTERS, or a vector's where it holds all that are left. */
DARKBN_INLINE ptrdiff_t darkbn_point_width(ptrdiff_t t, ptrdiff_t n)
{
    return DARKBN_NARROW && n - t * DARKBN_TILE_FILTERS <= DARKBN_V ? DARKBN_V : DARKBN_TILE_FILTERS;
}

/* Floats of packed filters: biases, padded to whole tiles, then the tiles. */
static ptrdiff_t darkbn_point_packed(ptrdiff_t c, ptrdiff_t n)
{
    return darkbn_rounded(n, DARKBN_NARROW ? DARKBN_V : DARKBN_TILE_FILTERS) * (1 + darkbn_blocks(c) * DARKBN_BLOCK);
}

static void darkbn_point_pack(const float *weights, const float *biases, ptrdiff_t c, ptrdiff_t n, float *packed)
{
    const ptrdiff_t padded = darkbn_rounded(n, DARKBN_NARROW ? DARKBN_V : DARKBN_TILE_FILTERS);
    const ptrdiff_t channels = darkbn_blocks(c) * DARKBN_BLOCK;
    for (ptrdiff_t f = 0; f < padded; ++f) *packed++ = f < n ? biases[f] : 0.0f;
    for (ptrdiff_t t = 0; t * DARKBN_TILE_FILTERS < n; ++t) {
        const ptrdiff_t width = darkbn_point_width(t, n);
        for (ptrdiff_t i = 0; i < channels * width; ++i) {
            const ptrdiff_t f = t * DARKBN_TILE_FILTERS + i % width, channel = i / width;
            *packed++ = f < n && channel < c ? weights[f * c + channel] : 0.0f;
        }
    }
}

/* Tile t of a 1x1 convolution of c channels to n filters: `pixels` pixels from a on, whose steps are `step` floats
 * apart. end->to and end->add are those of the tile's first block and the first pixel. */
static void darkbn_point_pixels(const float *packed, ptrdiff_t c, ptrdiff_t n, ptrdiff_t t, const float *a,
                                ptrdiff_t step, ptrdiff_t pixels, const darkbn_point_end *end)
{
    const ptrdiff_t padded = darkbn_rounded(n, DARKBN_NARROW ? DARKBN_V : DARKBN_TILE_FILTERS);
    const ptrdiff_t steps = darkbn_blocks(c), width = darkbn_point_width(t, n), from = t * DARKBN_TILE_FILTERS;
    const ptrdiff_t blocks = darkbn_blocks(n) - t * DARKBN_TILE_BLOCKS;
    const float *filters = packed + padded + from * steps * DARKBN_BLOCK;
    const darkbn_point_function *functions = darkbn_points_full;
    ptrdiff_t most = DARKBN_TILE_PIXELS;
#if DARKBN_NARROW
    if (width == DARKBN_V) {
        functions = darkbn_points_narrow;
        most = DARKBN_NARROW;
    }
#endif
    const ptrdiff_t panels = darkbn_parts_of(pixels, most);
    for (ptrdiff_t i = 0; i < panels; ++i) {
        const ptrdiff_t first = darkbn_panel_start(i, panels, pixels);
        const ptrdiff_t rows = darkbn_panel_start(i + 1, panels, pixels) - first;
        functions[rows](steps, a + first * DARKBN_BLOCK, step, filters, packed + from, end, first, blocks);
    }
}

#endif
