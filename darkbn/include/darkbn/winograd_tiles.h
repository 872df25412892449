/* Winograd's tiles of plain maps, for training: the transforms of blocked_winograd.h and their adjoints, between strips
 * of plain maps (plain_blocks.h) and positions, and those of filters, which are others in every step.
 *
 * Written as Y = A^T [(G g G^T) * (B^T d B)] A, with * position by position, the forward pass needs B^T d B of inputs and
 * A^T s A of sums, the adjoint ones A y A^T of deltas, and B s B^T or G^T s G of sums. */
#ifndef DARKBN_WINOGRAD_TILES_H
#define DARKBN_WINOGRAD_TILES_H

#include "darkbn/blocked_winograd.h"
#include "darkbn/plain_blocks.h"

#define DARKBN_RUN 20 /* most tiles of a strip */
#define DARKBN_STRIP_FLOATS ((DARKBN_RUN * 6 + 2) * DARKBN_WINOGRAD_SIDE * DARKBN_BLOCK + DARKBN_STRIP_SPARE)

/* How lines of tiles change: B^T d, A y, A^T s and B s. */
enum darkbn_change { DARKBN_TILE_IN, DARKBN_TILE_SPREAD, DARKBN_TILE_OUT, DARKBN_TILE_BACK };

/* Values of a line before and after. */
DARKBN_INLINE int darkbn_change_from(const int m, const enum darkbn_change change)
{
    return change == DARKBN_TILE_SPREAD ? m : darkbn_winograd_slots(m);
}
DARKBN_INLINE int darkbn_change_to(const int m, const enum darkbn_change change)
{
    return change == DARKBN_TILE_OUT ? m : darkbn_winograd_slots(m);
}

/* s = A y of one line. */
DARKBN_INLINE void darkbn_winograd_spread(const int m, const darkbn_wide *y, darkbn_wide *s)
{
    if (m == 2) {
        s[0] = y[0];
        s[1] = y[0] + y[1];
        s[2] = y[0] - y[1];
        s[3] = y[1];
        return;
    }
    if (m == DARKBN_WINOGRAD_HALF) {
        const darkbn_wide even = y[0] + y[2];
        s[0] = s[3] = y[0];
        s[1] = y[1];
        s[2] = s[6] = y[2];
        s[4] = even + y[1];
        s[5] = even - y[1];
        return;
    }
    const float a = (float)DARKBN_WINOGRAD_A, b = (float)DARKBN_WINOGRAD_B;
    const darkbn_wide even_a = y[0] + 0.5f * y[2], odd_a = a * (y[1] + 0.5f * y[3]);
    const darkbn_wide even_b = y[0] + 2.0f * y[2], odd_b = b * (y[1] + 2.0f * y[3]);
    s[0] = y[0];
    s[1] = even_a + odd_a;
    s[2] = even_a - odd_a;
    s[3] = even_b + odd_b;
    s[4] = even_b - odd_b;
    s[5] = y[3];
}

/* d = B s of one line of a tile with stride 2: passes with stride 1 go backwards as forward passes. */
DARKBN_INLINE void darkbn_winograd_back(const darkbn_wide *s, darkbn_wide *d)
{
    d[0] = s[3];
    d[1] = s[0];
    d[2] = s[4] - s[5] - s[6];
    d[3] = s[1];
    d[4] = s[4] + s[5] - s[3];
    d[5] = s[2];
    d[6] = s[6];
}

DARKBN_INLINE void darkbn_change_line(const int m, const enum darkbn_change change, const darkbn_wide *from,
                                      darkbn_wide *to)
{
    if (change == DARKBN_TILE_IN) darkbn_winograd_in(m, from, to);
    if (change == DARKBN_TILE_SPREAD) darkbn_winograd_spread(m, from, to);
    if (change == DARKBN_TILE_OUT) darkbn_winograd_out(m, from, to);
    if (change == DARKBN_TILE_BACK) darkbn_winograd_back(from, to);
}

/* Floats from line to line and from column to column of a tile. */
typedef struct darkbn_steps {
    ptrdiff_t line, column;
} darkbn_steps;

/* A tile, changed in both directions; then `bias` is added unless it is NULL, and with `joined` the first column of the
 * result to what is there. The loop over columns stays a loop: unrolled, most instructions would compute addresses. */
DARKBN_INLINE void darkbn_change_tile(const int m, const enum darkbn_change change, const float *from, darkbn_steps own,
                                      float *to, darkbn_steps other, const float *bias, int joined)
{
    const int before = darkbn_change_from(m, change), after = darkbn_change_to(m, change);
    darkbn_wide half[DARKBN_WINOGRAD_SIDE][DARKBN_WINOGRAD_SIDE], in[DARKBN_WINOGRAD_SIDE], out[DARKBN_WINOGRAD_SIDE];
#pragma GCC unroll 1
    for (int x = 0; x < before; ++x) {
#pragma GCC unroll 8
        for (int y = 0; y < before; ++y) in[y] = darkbn_wide_load(from + y * own.line + x * own.column);
        darkbn_change_line(m, change, in, out);
#pragma GCC unroll 8
        for (int y = 0; y < after; ++y) half[y][x] = out[y];
    }
    const darkbn_wide base = bias ? darkbn_wide_load(bias) : (darkbn_wide){0};
#pragma GCC unroll 1
    for (int y = 0; y < after; ++y) {
        darkbn_change_line(m, change, half[y], out);
        if (joined) out[0] += darkbn_wide_load(to + y * other.line);
#pragma GCC unroll 8
        for (int x = 0; x < after; ++x)
            darkbn_wide_store(to + y * other.line + x * other.column,
                              change == DARKBN_TILE_OUT ? out[x] + base : out[x]);
    }
}

/* The tiles of a pass: of the maps that the convolution writes forward. */
typedef struct darkbn_tiles_of {
    ptrdiff_t m, slots, points, positions, across, down, count; /* across a map, down a map, of all images */
    ptrdiff_t step, pad; /* of tiles in the input; lines and columns of it before the first tile begins */
} darkbn_tiles_of;

static darkbn_tiles_of darkbn_tile_map(int m, const darkbn_plain *out, ptrdiff_t pad)
{
    const ptrdiff_t slots = darkbn_winograd_slots(m);
    const ptrdiff_t across = darkbn_parts_of(out->w, m), down = darkbn_parts_of(out->h, m);
    const darkbn_tiles_of tiles = {m, slots, darkbn_winograd_points(m), slots * slots, across, down,
                                   out->batch * across * down, m * darkbn_winograd_stride(m), pad};
    return tiles;
}

/* The filter that a position is multiplied by. */
DARKBN_INLINE ptrdiff_t darkbn_point_of(const darkbn_tiles_of *t, ptrdiff_t position)
{
    const ptrdiff_t more = t->slots - t->points; /* slots that have the first point as well */
    const ptrdiff_t y = darkbn_most(position / t->slots - more, 0), x = darkbn_most(position % t->slots - more, 0);
    return y * t->points + x;
}

/* Tiles next to each other in an image, and their strip: its first line and column, its size. */
typedef struct darkbn_run {
    ptrdiff_t image, count, y, x, lines, columns, step;
} darkbn_run;

/* The run that begins with `tile`, of up to `tiles` tiles. `wide`: its strip is of the input, not of the output. */
DARKBN_INLINE darkbn_run darkbn_run_from(const int m, const darkbn_tiles_of *t, ptrdiff_t tile, ptrdiff_t tiles,
                                         const int wide)
{
    const ptrdiff_t line = tile / t->across, x = tile % t->across, y = line % t->down;
    const ptrdiff_t count = darkbn_least(darkbn_least(t->across - x, tiles), DARKBN_RUN);
    const int slots = darkbn_winograd_slots(m), step = m * darkbn_winograd_stride(m);
    const darkbn_run in = {line / t->down, count, y * step - t->pad, x * step - t->pad, slots,
                           (count - 1) * step + slots, step};
    const darkbn_run out = {line / t->down, count, y * m, x * m, m, count * m, m};
    return wide ? in : out;
}

/* 3x3 filters as a pass reads them: element (f, c, i, j) of its sums is weights[f * filter + c * channel + i * 3 + j],
 * or with the last two counted backwards. */
typedef struct darkbn_filters {
    const float *weights;
    ptrdiff_t n, c, filter, channel;
    int flipped;
} darkbn_filters;

/* u = G g of one line of eight filters. */
DARKBN_INLINE void darkbn_filters_line(const int m, const darkbn_wide *g, darkbn_wide *u)
{
    if (m == DARKBN_WINOGRAD_HALF) {
        u[0] = g[1];
        u[1] = g[0];
        u[2] = 0.5f * (g[0] + g[2]);
        u[3] = 0.5f * (g[0] - g[2]);
        u[4] = g[2];
        return;
    }
    u[0] = g[0];
    u[m + 1] = g[2];
    if (m == 2) {
        const darkbn_wide even = 0.5f * (g[0] + g[2]), odd = 0.5f * g[1];
        u[1] = even + odd;
        u[2] = even - odd;
        return;
    }
    const darkbn_wide even_a = -(2.0f / 3) * (g[0] + 0.5f * g[2]), odd_a = (float)(-2 * DARKBN_WINOGRAD_A / 3) * g[1];
    const darkbn_wide even_b = (1.0f / 6) * (g[0] + 2.0f * g[2]), odd_b = (float)(DARKBN_WINOGRAD_B / 6) * g[1];
    u[1] = even_a + odd_a;
    u[2] = even_a - odd_a;
    u[3] = even_b + odd_b;
    u[4] = even_b - odd_b;
}

/* g = G^T s of one line. */
DARKBN_INLINE void darkbn_winograd_gather(const int m, const darkbn_wide *s, darkbn_wide *g)
{
    if (m == DARKBN_WINOGRAD_HALF) {
        g[0] = s[1] + 0.5f * (s[2] + s[3]);
        g[1] = s[0];
        g[2] = s[4] + 0.5f * (s[2] - s[3]);
        return;
    }
    if (m == 2) {
        const darkbn_wide even = 0.5f * (s[1] + s[2]);
        g[0] = s[0] + even;
        g[1] = 0.5f * (s[1] - s[2]);
        g[2] = s[3] + even;
        return;
    }
    const darkbn_wide even_a = -(2.0f / 3) * (s[1] + s[2]), even_b = (1.0f / 6) * (s[3] + s[4]);
    g[0] = s[0] + (even_a + even_b);
    g[1] = (float)(-2 * DARKBN_WINOGRAD_A / 3) * (s[1] - s[2]) + (float)(DARKBN_WINOGRAD_B / 6) * (s[3] - s[4]);
    g[2] = s[5] + (0.5f * even_a + 2.0f * even_b);
}

/* G g G^T of eight filters; point p goes to to[p * step]. taps[t * 8 + lane] are g. */
DARKBN_INLINE void darkbn_filters_tile(const int m, const float *taps, int flipped, float *to, ptrdiff_t step)
{
    const int points = darkbn_winograd_points(m);
    darkbn_wide half[DARKBN_WINOGRAD_POINTS][3], in[3], out[DARKBN_WINOGRAD_POINTS];
    const ptrdiff_t first = flipped ? 8 * DARKBN_BLOCK : 0, next = flipped ? -DARKBN_BLOCK : DARKBN_BLOCK;
#pragma GCC unroll 3
    for (int j = 0; j < 3; ++j) {
#pragma GCC unroll 3
        for (int i = 0; i < 3; ++i) in[i] = darkbn_wide_load(taps + first + (3 * i + j) * next);
        darkbn_filters_line(m, in, out);
#pragma GCC unroll 8
        for (int i = 0; i < points; ++i) half[i][j] = out[i];
    }
#pragma GCC unroll 8
    for (int i = 0; i < points; ++i) {
        darkbn_filters_line(m, half[i], out);
#pragma GCC unroll 8
        for (int j = 0; j < points; ++j) darkbn_wide_store(to + (i * points + j) * step, out[j]);
    }
}

/* Filters [f0, f0 + DARKBN_TILE_FILTERS) of channels [k0, k0 + count), zeros beyond the last ones: point p of channel k
 * and lane l goes to to[p * step + (k - k0) * DARKBN_TILE_FILTERS + l]. */
DARKBN_INLINE void darkbn_filters_transform(const int m, const darkbn_filters *f, ptrdiff_t f0, ptrdiff_t k0,
                                            ptrdiff_t count, float *to, ptrdiff_t step)
{
    float taps[9 * DARKBN_BLOCK] __attribute__((aligned(64)));
    for (ptrdiff_t k = k0; k < k0 + count; ++k, to += DARKBN_TILE_FILTERS)
        for (ptrdiff_t lane = 0; lane < DARKBN_TILE_FILTERS; lane += DARKBN_BLOCK) {
            const ptrdiff_t lanes = k < f->c ? darkbn_least(f->n - f0 - lane, DARKBN_BLOCK) : 0;
            if (lanes <= 0) {
                memset(taps, 0, sizeof taps);
            } else {
                const float *from = f->weights + (f0 + lane) * f->filter + k * f->channel;
                darkbn_square_in(from, f->filter, lanes, taps);
                for (ptrdiff_t i = 0; i < DARKBN_BLOCK; ++i)
                    taps[8 * DARKBN_BLOCK + i] = i < lanes ? from[i * f->filter + 8] : 0.0f;
            }
            for (int part = 0; part < DARKBN_BLOCK; part += DARKBN_W)
                darkbn_filters_tile(m, taps + part, f->flipped, to + lane + part, step);
        }
}

/* Tiles [first, first + count) of a block of a map, changed by B^T d B (`change` DARKBN_TILE_IN) or A y A^T; position p
 * of tile t goes to to[p * step + t * DARKBN_BLOCK], counted from `first`, or where `panels` has tiles in panels of
 * `panel` floats (darkbn_panel_start). */
DARKBN_INLINE void darkbn_tiles_in(const int m, const enum darkbn_change change, const darkbn_tiles_of *t,
                                   const darkbn_plain *map, ptrdiff_t first, ptrdiff_t count, ptrdiff_t block, float *to,
                                   ptrdiff_t step, ptrdiff_t panels, ptrdiff_t panel)
{
    float strip[DARKBN_STRIP_FLOATS] __attribute__((aligned(64)));
    ptrdiff_t start = 0, next = 0, end = panels > 1 ? darkbn_panel_start(++next, panels, count) : count;
    for (ptrdiff_t p = 0; p < count;) {
        const darkbn_run run = darkbn_run_from(m, t, first + p, count - p, change == DARKBN_TILE_IN);
        const darkbn_steps from = {run.columns * DARKBN_BLOCK, DARKBN_BLOCK};
        const darkbn_steps positions = {darkbn_winograd_slots(m) * step, step};
        darkbn_strip_in(map, run.image, block, run.y, run.lines, run.x, run.columns, strip);
        for (ptrdiff_t i = 0; i < run.count; ++i, ++p) {
            if (p == end) {
                start = end;
                to += panel;
                end = darkbn_panel_start(++next, panels, count);
            }
            for (int part = 0; part < DARKBN_BLOCK; part += DARKBN_W)
                darkbn_change_tile(m, change, strip + i * run.step * DARKBN_BLOCK + part, from,
                                   to + (p - start) * DARKBN_BLOCK + part, positions, NULL, 0);
        }
    }
}

/* The sums of those tiles, tiles `next` and positions `step` floats apart, changed by A^T s A plus `bias` (`change`
 * DARKBN_TILE_OUT) or by B s B^T, to a block of the map, or added to it. */
DARKBN_INLINE void darkbn_tiles_out(const int m, const enum darkbn_change change, const darkbn_tiles_of *t,
                                    const darkbn_plain *map, ptrdiff_t first, ptrdiff_t count, ptrdiff_t block,
                                    const float *sums, ptrdiff_t next, ptrdiff_t step, const float *bias, int add)
{
    float strip[DARKBN_STRIP_FLOATS] __attribute__((aligned(64)));
    for (ptrdiff_t p = 0; p < count;) {
        const darkbn_run run = darkbn_run_from(m, t, first + p, count - p, change == DARKBN_TILE_BACK);
        const darkbn_steps positions = {darkbn_winograd_slots(m) * step, step};
        const darkbn_steps to = {run.columns * DARKBN_BLOCK, DARKBN_BLOCK};
        for (ptrdiff_t i = 0; i < run.count; ++i, ++p)
            for (int part = 0; part < DARKBN_BLOCK; part += DARKBN_W)
                darkbn_change_tile(m, change, sums + p * next + part, positions,
                                   strip + i * run.step * DARKBN_BLOCK + part, to, bias ? bias + part : NULL,
                                   change == DARKBN_TILE_BACK && i > 0);
        darkbn_strip_out(strip, run.lines, run.columns, map, run.image, block, run.y, run.x, add);
    }
}

#endif
