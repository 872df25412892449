/* Winograd convolutions of blocked maps, 3x3: stride 1 in tiles of 2x2 or 4x4 outputs, stride 2 in tiles of 3x3.
 *
 * A tile of m x m outputs takes (m + 2)^2 multiplications a channel and filter instead of 9 m^2 (Lavin and Gray 2015,
 * arXiv:1509.09308). Points: 0, 1, -1, infinity for m = 2; 0, +-sqrt(1/2), +-sqrt(2), infinity for m = 4, with a third
 * of the error of the usual 0, +-1, +-2 (1.3e-6 of max|y| at 128 channels; direct sums have 0.3e-6). Tiles of 6x6 have
 * 7.6e-6 with the best points, too much for a network.
 *
 * With stride 2, y[i] = g[0] e[i] + g[2] e[i + 1] + g[1] o[i] where e are the even and o the odd values: two taps with
 * stride 1, of which three outputs take four points (0, 1, -1, infinity), and three products that all have the filter
 * g[1]. In both directions these are 49 products for 9 outputs instead of 81, and 25 different filters.
 *
 * What a line of a tile becomes are its slots; each belongs to a point, which is a filter. Only the last output needs
 * the point infinity (and, with stride 2, the last odd value): where a map is no multiple of m, some tiles have m - 1
 * outputs and lack those slots (13 = 4 + 3 + 3 + 3 takes 441 products instead of 576).
 *
 * Three phases per region of tiles: transform the input, one product of matrices per slot, transform back. A large
 * map is cut in regions that fit a core's cache, one thread each; in a small one, and where filters are so many that
 * they should not be read for every region, all threads share every phase. */
#ifndef DARKBN_BLOCKED_WINOGRAD_H
#define DARKBN_BLOCKED_WINOGRAD_H

#include "darkbn/blocked_gemm.h"
#include "darkbn/blocked_winograd_filters.h"

#define DARKBN_WINOGRAD_FLOATS 98304 /* of a region, so that it stays in the second-level cache */
#define DARKBN_WINOGRAD_SUMS 36864   /* of these, the sums of some filters */
#define DARKBN_WINOGRAD_LEAST 12     /* tiles of a region, however many floats they have */
#define DARKBN_WINOGRAD_LARGE 2097152 /* floats of filters from which on reading them again costs more than sharing */
#define DARKBN_WINOGRAD_TOGETHER 4194304 /* floats of a region that all threads share */
#define DARKBN_WINOGRAD_SIDE 7       /* most slots of a line */

/* Slots of a line, and as many values are read for it. */
DARKBN_INLINE int darkbn_winograd_slots(int m) { return m == DARKBN_WINOGRAD_HALF ? 7 : m + 2; }
DARKBN_INLINE int darkbn_winograd_stride(int m) { return m == DARKBN_WINOGRAD_HALF ? 2 : 1; }

/* The first slot of a point of a line: with stride 2, point 0 stands for the odd values. */
DARKBN_INLINE int darkbn_winograd_slot(int m, int point)
{
    return m == DARKBN_WINOGRAD_HALF && point > 0 ? point + 2 : point;
}

/* Whether only tiles with all outputs have a slot. */
DARKBN_INLINE int darkbn_winograd_last(int m, int slot)
{
    return slot == darkbn_winograd_slots(m) - 1 || (m == DARKBN_WINOGRAD_HALF && slot == m - 1);
}

/* Which tiles have a position: all (0), those with all lines (1), with all columns (2), with both (3). */
DARKBN_INLINE int darkbn_winograd_class(int m, int y, int x)
{
    return darkbn_winograd_last(m, y) + 2 * darkbn_winograd_last(m, x);
}

/* v = B^T d of one line of a tile. */
DARKBN_INLINE void darkbn_winograd_in(const int m, const darkbn_wide *d, darkbn_wide *v)
{
    if (m == 2) {
        v[0] = d[0] - d[2];
        v[1] = d[2] + d[1];
        v[2] = d[2] - d[1];
        v[3] = d[3] - d[1];
        return;
    }
    if (m == DARKBN_WINOGRAD_HALF) {
        v[0] = d[1];
        v[1] = d[3];
        v[2] = d[5];
        v[3] = d[0] - d[4];
        v[4] = d[4] + d[2];
        v[5] = d[4] - d[2];
        v[6] = d[6] - d[2];
        return;
    }
    const float a = (float)DARKBN_WINOGRAD_A, b = (float)DARKBN_WINOGRAD_B;
    const darkbn_wide even_a = d[4] - 2.0f * d[2], odd_a = d[3] - 2.0f * d[1];
    const darkbn_wide even_b = d[4] - 0.5f * d[2], odd_b = d[3] - 0.5f * d[1];
    v[0] = d[4] + (d[0] - 2.5f * d[2]);
    v[1] = even_a + a * odd_a;
    v[2] = even_a - a * odd_a;
    v[3] = even_b + b * odd_b;
    v[4] = even_b - b * odd_b;
    v[5] = d[5] + (d[1] - 2.5f * d[3]);
}

/* y = A^T s of one line of a tile. */
DARKBN_INLINE void darkbn_winograd_out(const int m, const darkbn_wide *s, darkbn_wide *y)
{
    if (m == 2) {
        y[0] = s[0] + s[1] + s[2];
        y[1] = s[1] - s[2] + s[3];
        return;
    }
    if (m == DARKBN_WINOGRAD_HALF) {
        const darkbn_wide sum = s[4] + s[5];
        y[0] = s[0] + (s[3] + sum);
        y[1] = s[1] + (s[4] - s[5]);
        y[2] = s[2] + (s[6] + sum);
        return;
    }
    const float a = (float)DARKBN_WINOGRAD_A, b = (float)DARKBN_WINOGRAD_B;
    const darkbn_wide sum_a = s[1] + s[2], difference_a = s[1] - s[2];
    const darkbn_wide sum_b = s[3] + s[4], difference_b = s[3] - s[4];
    y[0] = s[0] + sum_a + sum_b;
    y[1] = a * difference_a + b * difference_b;
    y[2] = 0.5f * sum_a + 2.0f * sum_b;
    y[3] = s[5] + (0.5f * a * difference_a + 2.0f * b * difference_b);
}

/* A tile of a region. */
typedef struct darkbn_winograd_place {
    int32_t image, y, x;   /* its first output */
    int32_t rows, columns; /* outputs inside the map */
    int32_t at[4];         /* by class of positions: floats from the start of a position's panels, -1 without */
} darkbn_winograd_place;

/* darkbn_winograd_place.at of a tile that has all positions at the same place. */
static const int32_t darkbn_winograd_here[4] = {0};

/* B^T d B of one block of a tile, whose lines are `line` floats apart; position p goes to to[p * step + at]. The loops
 * over lines stay loops: unrolled, most instructions would compute addresses. */
DARKBN_INLINE void darkbn_winograd_tile_in(const int m, const float *from, ptrdiff_t line, const int32_t *at, float *to,
                                           ptrdiff_t step)
{
    const int slots = darkbn_winograd_slots(m), ahead = m * darkbn_winograd_stride(m);
    darkbn_wide half[DARKBN_WINOGRAD_SIDE][DARKBN_WINOGRAD_SIDE], in[DARKBN_WINOGRAD_SIDE], out[DARKBN_WINOGRAD_SIDE];
#pragma GCC unroll 1
    for (int x = 0; x < slots; ++x) {
#pragma GCC unroll 8
        for (int y = 0; y < slots; ++y) {
            /* The lines are too short for the machine to see where they go. */
            __builtin_prefetch(from + y * line + (x + ahead) * DARKBN_BLOCK);
            in[y] = darkbn_wide_load(from + y * line + x * DARKBN_BLOCK);
        }
        darkbn_winograd_in(m, in, out);
#pragma GCC unroll 8
        for (int y = 0; y < slots; ++y) half[y][x] = out[y];
    }
#pragma GCC unroll 1
    for (int y = 0; y < slots; ++y) {
        const ptrdiff_t inner = at[darkbn_winograd_class(m, y, 0)], edge = at[darkbn_winograd_class(m, y, slots - 1)];
        float *row = to + y * slots * step;
        if (inner < 0) continue;
        darkbn_winograd_in(m, half[y], out);
#pragma GCC unroll 8
        for (int x = 0; x < slots; ++x) {
            if (!darkbn_winograd_last(m, x))
                darkbn_wide_store(row + inner + x * step, out[x]);
            else if (edge >= 0)
                darkbn_wide_store(row + edge + x * step, out[x]);
        }
    }
}

/* Where a block of a tile goes. */
typedef struct darkbn_winograd_target {
    float *to;
    const float *add; /* residual, or NULL */
    ptrdiff_t line;   /* floats from line to line of both */
    ptrdiff_t rows, columns;
    const float *bias;
    float slope, residual_slope;
} darkbn_winograd_target;

/* A^T s A of one block of a tile plus biases, and with `finish` all that follows where the activations are lines. What
 * is in positions that the tile lacks matters only to outputs that it has not. */
DARKBN_INLINE void darkbn_winograd_tile_out(const int m, const int finish, const float *from, ptrdiff_t step,
                                            const darkbn_winograd_target *t, int part)
{
    const int slots = darkbn_winograd_slots(m);
    darkbn_wide half[DARKBN_WINOGRAD_SIDE][DARKBN_WINOGRAD_SIDE], in[DARKBN_WINOGRAD_SIDE], out[DARKBN_WINOGRAD_SIDE];
#pragma GCC unroll 1
    for (int x = 0; x < slots; ++x) {
#pragma GCC unroll 8
        for (int y = 0; y < slots; ++y) in[y] = darkbn_wide_load(from + (y * slots + x) * step + part);
        darkbn_winograd_out(m, in, out);
#pragma GCC unroll 8
        for (int y = 0; y < m; ++y) half[y][x] = out[y];
    }
#pragma GCC unroll 1
    for (int y = 0; y < t->rows; ++y) {
        darkbn_winograd_out(m, half[y], out);
#pragma GCC unroll 8
        for (int x = 0; x < m; ++x) {
            if (x >= t->columns) break;
            const ptrdiff_t at = y * t->line + x * DARKBN_BLOCK + part;
            darkbn_wide value = out[x] + darkbn_wide_load(t->bias + part);
            if (finish) value = darkbn_bend(value, t->slope);
            if (finish && t->add) value = darkbn_bend(value + darkbn_wide_load(t->add + at), t->residual_slope);
            darkbn_wide_store(t->to + at, value);
        }
    }
}

/* Sizes of a convolution in tiles. */
typedef struct darkbn_winograd {
    const darkbn_blocked *g;
    int m, slots, points;
    ptrdiff_t positions;            /* slots of both directions */
    ptrdiff_t across, down;         /* tiles of a line and of a column */
    ptrdiff_t narrow, low;          /* of these, tiles of m - 1 columns or lines: the last ones */
    ptrdiff_t tiles, start[5];      /* of all images: low ones are behind the others, and within ... see _place */
    ptrdiff_t blocks, filters;      /* blocks of channels, tiles of filters */
    ptrdiff_t region;               /* tiles of a region */
    ptrdiff_t in_step, out_step;    /* floats from position to position, of the input and of the sums */
    ptrdiff_t chunk;                /* tiles of filters whose sums are held at a time */
    int shared;                     /* all threads work on the same region */
    ptrdiff_t sums, places, local;  /* floats of a region: where sums and places begin, and all */
} darkbn_winograd;

/* Some tiles, and where they are. The tiles of a class of positions are rows [low, high) of the region. */
typedef struct darkbn_winograd_region {
    ptrdiff_t count, low[4], high[4];
    darkbn_winograd_place *places;
    float *inputs, *sums;
} darkbn_winograd_region;

/* Biases, padded to whole tiles of filters, then the transformed filters: (points, tiles, channels, filters). */
static ptrdiff_t darkbn_winograd_packed(ptrdiff_t n, ptrdiff_t c, int m)
{
    const ptrdiff_t padded = darkbn_rounded(n, DARKBN_TILE_FILTERS), points = darkbn_winograd_points(m);
    return padded * (1 + points * points * darkbn_blocks(c) * DARKBN_BLOCK);
}

/* At least n floats, an odd number of cache lines: positions would otherwise share few sets of a cache. */
DARKBN_INLINE ptrdiff_t darkbn_odd_lines(ptrdiff_t n)
{
    return (darkbn_parts_of(n, DARKBN_LINE) | 1) * DARKBN_LINE;
}

/* Tiles in both directions. Those with all lines come first, and among them those with all columns last; then come
 * those with fewer lines, and among them those with all columns first: so each class of positions has neighbours. */
static void darkbn_winograd_tiles(darkbn_winograd *w)
{
    const darkbn_blocked *g = w->g;
    w->across = darkbn_parts_of(g->out_w, w->m);
    w->down = darkbn_parts_of(g->out_h, w->m);
    w->narrow = darkbn_least(w->across * w->m - g->out_w, w->across);
    w->low = darkbn_least(w->down * w->m - g->out_h, w->down);
    const ptrdiff_t wide = w->across - w->narrow, high = w->down - w->low;
    const ptrdiff_t counts[4] = {high * w->narrow, high * wide, w->low * wide, w->low * w->narrow};
    w->start[0] = 0;
    for (int i = 0; i < 4; ++i) w->start[i + 1] = w->start[i] + g->batch * counts[i];
    w->tiles = w->start[4];
}

/* The same with whole tiles only, which reach beyond the map: in the order of images, lines and columns. */
DARKBN_INLINE void darkbn_winograd_whole(darkbn_winograd *w)
{
    w->narrow = w->low = 0;
    for (int i = 0; i < 5; ++i) w->start[i] = i < 2 ? 0 : w->tiles;
}

/* Floats of the table of a region's tiles. */
DARKBN_INLINE ptrdiff_t darkbn_winograd_places(const darkbn_winograd *w)
{
    return darkbn_rounded(w->region * (ptrdiff_t)(sizeof(darkbn_winograd_place) / sizeof(float)), DARKBN_LINE);
}

static darkbn_winograd darkbn_winograd_of(const darkbn_blocked *g, int m, int threads)
{
    darkbn_winograd w = {g, m, darkbn_winograd_slots(m), darkbn_winograd_points(m)};
    darkbn_winograd_tiles(&w);
    w.positions = w.slots * w.slots;
    w.blocks = darkbn_blocks(g->c);
    w.filters = darkbn_parts_of(g->n, DARKBN_TILE_FILTERS);
    const ptrdiff_t each = w.positions * (w.blocks * DARKBN_BLOCK + w.filters * DARKBN_TILE_FILTERS);
    const ptrdiff_t most = darkbn_rounded(darkbn_most(DARKBN_WINOGRAD_FLOATS / darkbn_most(each, 1), DARKBN_WINOGRAD_LEAST),
                                          DARKBN_TILE_PIXELS);
    const int small = w.tiles <= 2 * most * threads;
    w.shared = small || darkbn_winograd_packed(g->n, g->c, m) > DARKBN_WINOGRAD_LARGE;
    const ptrdiff_t together = darkbn_most(DARKBN_WINOGRAD_TOGETHER / darkbn_most(each, 1), most);
    const ptrdiff_t regions = small      ? 1
                              : w.shared ? darkbn_parts_of(w.tiles, together)
                                         : darkbn_rounded(darkbn_parts_of(w.tiles, most), threads);
    w.region = darkbn_rounded(darkbn_most(darkbn_parts_of(w.tiles, regions), 1), DARKBN_TILE_PIXELS);
    w.chunk = DARKBN_WINOGRAD_SUMS / (w.positions * w.region * DARKBN_TILE_FILTERS);
    if (w.shared || w.chunk > w.filters) w.chunk = w.filters;
    w.chunk = darkbn_most(darkbn_parts_of(w.filters, darkbn_parts_of(w.filters, darkbn_most(w.chunk, 1))), 1);
    w.in_step = darkbn_odd_lines(w.region * w.blocks * DARKBN_BLOCK);
    w.out_step = darkbn_odd_lines(w.region * w.chunk * DARKBN_TILE_FILTERS);
    w.sums = w.positions * w.in_step;
    w.places = w.sums + w.positions * w.out_step;
    w.local = w.places + darkbn_winograd_places(&w);
    return w;
}

#define DARKBN_WINOGRAD_PACKED 32 /* channels whose filters are transformed at a time */

static void darkbn_winograd_pack(const float *weights, const float *biases, ptrdiff_t n, ptrdiff_t c, int m,
                                 float *packed, int threads)
{
    const ptrdiff_t padded = darkbn_rounded(n, DARKBN_TILE_FILTERS), channels = darkbn_blocks(c) * DARKBN_BLOCK;
    darkbn_pack_biases(biases, n, padded, packed);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (ptrdiff_t tile = 0; tile < padded / DARKBN_TILE_FILTERS; ++tile) {
        float taps[DARKBN_WINOGRAD_PACKED * DARKBN_TAPS * DARKBN_TILE_FILTERS];
        for (ptrdiff_t k = 0; k < channels; k += DARKBN_WINOGRAD_PACKED) {
            const ptrdiff_t here = darkbn_least(DARKBN_WINOGRAD_PACKED, channels - k);
            float *to = packed + padded + (tile * channels + k) * DARKBN_TILE_FILTERS;
            darkbn_pack_tile(weights, n, c * DARKBN_TAPS, tile * DARKBN_TILE_FILTERS, k * DARKBN_TAPS,
                             here * DARKBN_TAPS, taps);
            darkbn_taps_transform(m, taps, here, to, padded * channels);
        }
    }
}

/* Tile `tile` of all. */
static void darkbn_winograd_find(const darkbn_winograd *w, ptrdiff_t tile, darkbn_winograd_place *place)
{
    int kind = 0;
    while (tile >= w->start[kind + 1]) ++kind;
    const int low = kind >= 2, narrow = kind == 0 || kind == 3;
    const ptrdiff_t wide = w->across - w->narrow, high = w->down - w->low;
    const ptrdiff_t rows = low ? w->low : high, columns = narrow ? w->narrow : wide, m = w->m;
    const ptrdiff_t at = tile - w->start[kind], y = at / columns % rows, x = at % columns;
    place->image = (int32_t)(at / (rows * columns));
    place->y = (int32_t)(low ? high * m + y * (m - 1) : y * m);
    place->x = (int32_t)(narrow ? wide * m + x * (m - 1) : x * m);
    place->rows = (int32_t)darkbn_least(m - low, w->g->out_h - place->y);
    place->columns = (int32_t)darkbn_least(m - narrow, w->g->out_w - place->x);
    for (int i = 0; i < 4; ++i) place->at[i] = -1;
}

/* Tiles [first, first + count) with the memory of a region. */
static darkbn_winograd_region darkbn_winograd_region_of(const darkbn_winograd *w, ptrdiff_t first, ptrdiff_t count,
                                                        float *memory)
{
    static const int from[4] = {0, 0, 1, 1}, to[4] = {4, 2, 3, 2};
    darkbn_winograd_region r = {count};
    r.inputs = memory;
    r.sums = memory + w->sums;
    r.places = (darkbn_winograd_place *)(memory + w->places);
    for (ptrdiff_t i = 0; i < count; ++i) darkbn_winograd_find(w, first + i, r.places + i);
    for (int class = 0; class < 4; ++class) {
        r.low[class] = darkbn_least(darkbn_most(w->start[from[class]] - first, 0), count);
        r.high[class] = darkbn_least(darkbn_most(w->start[to[class]] - first, 0), count);
        const ptrdiff_t rows = r.high[class] - r.low[class], panels = darkbn_panels(rows);
        for (ptrdiff_t i = 0; i < panels; ++i) {
            const ptrdiff_t start = darkbn_panel_start(i, panels, rows), end = darkbn_panel_start(i + 1, panels, rows);
            for (ptrdiff_t row = start; row < end; ++row)
                r.places[r.low[class] + row].at[class] =
                    (int32_t)(i * w->blocks * DARKBN_PANEL + (row - start) * DARKBN_BLOCK);
        }
    }
    return r;
}

/* `count` whole tiles, without a table of where they are. */
DARKBN_INLINE darkbn_winograd_region darkbn_winograd_whole_region(const darkbn_winograd *w, ptrdiff_t count,
                                                                  float *memory)
{
    const darkbn_winograd_region r = {
        count, {0, 0, 0, 0}, {count, count, count, count}, NULL, memory, memory + w->sums};
    return r;
}

/* Block `block` of an input tile, transformed. */
DARKBN_INLINE void darkbn_winograd_input(const int m, const darkbn_winograd *w, const darkbn_winograd_place *place,
                                         ptrdiff_t block, float *to)
{
    const darkbn_blocked *g = w->g;
    const int slots = darkbn_winograd_slots(m), stride = darkbn_winograd_stride(m);
    const ptrdiff_t y = place->y * stride - g->pad, x = place->x * stride - g->pad;
    const float *plane = g->x.data + place->image * g->x.image + block * g->x.plane;
    const float *from = plane + (y * g->w + x) * DARKBN_BLOCK;
    float patch[DARKBN_WINOGRAD_SIDE * DARKBN_WINOGRAD_SIDE * DARKBN_BLOCK];
    ptrdiff_t line = g->w * DARKBN_BLOCK;
    if (y < 0 || x < 0 || y + slots > g->h || x + slots > g->w) {
        memset(patch, 0, (size_t)(slots * slots * DARKBN_BLOCK) * sizeof(float));
        const ptrdiff_t left = darkbn_most(-x, 0), right = darkbn_least(g->w - x, slots);
        for (ptrdiff_t i = darkbn_most(-y, 0); i < darkbn_least(g->h - y, slots); ++i)
            for (ptrdiff_t j = left; j < right; ++j)
                darkbn_copy_block(patch + (i * slots + j) * DARKBN_BLOCK,
                                  plane + ((y + i) * g->w + x + j) * DARKBN_BLOCK);
        from = patch;
        line = slots * DARKBN_BLOCK;
    }
    for (int part = 0; part < DARKBN_BLOCK; part += DARKBN_W)
        darkbn_winograd_tile_in(m, from + part, line, place->at, to + part, w->in_step);
}

/* Block `block` of an output tile, whose sums are at `from`. */
DARKBN_INLINE void darkbn_winograd_output(const int m, const darkbn_winograd *w, const darkbn_winograd_place *place,
                                          ptrdiff_t block, const float *from)
{
    const darkbn_blocked *g = w->g;
    const darkbn_finish *f = &g->finish;
    const float *bias = g->packed + block * DARKBN_BLOCK;
    const ptrdiff_t at = (place->y * g->out_w + place->x) * DARKBN_BLOCK;
    float pixels[16 * DARKBN_BLOCK];
    if (f->slope >= 0 && (!f->residual.data || f->residual_slope >= 0)) {
        const float *add = f->residual.data;
        if (add) add += place->image * f->residual.image + block * f->residual.plane + at;
        const darkbn_winograd_target target = {f->out.data + place->image * f->out.image + block * f->out.plane + at,
                                               add, g->out_w * DARKBN_BLOCK, place->rows, place->columns, bias,
                                               f->slope, f->residual_slope};
        for (int part = 0; part < DARKBN_BLOCK; part += DARKBN_W)
            darkbn_winograd_tile_out(m, 1, from, w->out_step, &target, part);
        return;
    }
    const darkbn_winograd_target beside = {pixels, NULL, m * DARKBN_BLOCK, m, m, bias, 1, 1};
    for (int part = 0; part < DARKBN_BLOCK; part += DARKBN_W)
        darkbn_winograd_tile_out(m, 0, from, w->out_step, &beside, part);
    darkbn_finish_sums(f, pixels, m * m * DARKBN_BLOCK);
    for (ptrdiff_t i = 0; i < place->rows; ++i)
        darkbn_finish_store(f, place->image, block, (place->y + i) * g->out_w + place->x, place->columns,
                            pixels + i * m * DARKBN_BLOCK, DARKBN_BLOCK);
}

#define DARKBN_WINOGRAD_PHASES(M)                                                                                 \
    static void darkbn_winograd_inputs_##M(const darkbn_winograd *w, const darkbn_winograd_region *r,             \
                                           ptrdiff_t block)                                                       \
    {                                                                                                             \
        for (ptrdiff_t i = 0; i < r->count; ++i)                                                                  \
            darkbn_winograd_input(M, w, r->places + i, block, r->inputs + block * DARKBN_PANEL);                  \
    }                                                                                                             \
    static void darkbn_winograd_outputs_##M(const darkbn_winograd *w, const darkbn_winograd_region *r,            \
                                            ptrdiff_t filter, ptrdiff_t first, ptrdiff_t last)                    \
    {                                                                                                             \
        const ptrdiff_t block = filter * DARKBN_TILE_BLOCKS;                                                      \
        const ptrdiff_t blocks = darkbn_least(darkbn_blocks(w->g->n) - block, DARKBN_TILE_BLOCKS);                \
        const float *sums = r->sums + filter % w->chunk * w->region * DARKBN_TILE_FILTERS;                        \
        for (ptrdiff_t i = first; i < last; ++i)                                                                  \
            for (ptrdiff_t j = 0; j < blocks; ++j)                                                                \
                darkbn_winograd_output(M, w, r->places + i, block + j,                                            \
                                       sums + i * DARKBN_TILE_FILTERS + j * DARKBN_BLOCK);                        \
    }
DARKBN_WINOGRAD_PHASES(2)
DARKBN_WINOGRAD_PHASES(3)
DARKBN_WINOGRAD_PHASES(4)
#undef DARKBN_WINOGRAD_PHASES

/* Block `block` of all input tiles of a region. */
static void darkbn_winograd_inputs(const darkbn_winograd *w, const darkbn_winograd_region *r, ptrdiff_t block)
{
    (w->m == 2   ? darkbn_winograd_inputs_2
     : w->m == 3 ? darkbn_winograd_inputs_3
                 : darkbn_winograd_inputs_4)(w, r, block);
}

/* Tile `filter` of filters, output tiles [first, last) of a region. */
static void darkbn_winograd_outputs(const darkbn_winograd *w, const darkbn_winograd_region *r, ptrdiff_t filter,
                                    ptrdiff_t first, ptrdiff_t last)
{
    (w->m == 2   ? darkbn_winograd_outputs_2
     : w->m == 3 ? darkbn_winograd_outputs_3
                 : darkbn_winograd_outputs_4)(w, r, filter, first, last);
}

/* Steps [start, start + steps) of the product at one position with filters b; `next` as of darkbn_multiply_panels. */
DARKBN_INLINE void darkbn_winograd_position(const darkbn_winograd *w, const darkbn_winograd_region *r, int y, int x,
                                            ptrdiff_t filter, ptrdiff_t start, ptrdiff_t steps, const float *b,
                                            const float *next)
{
    static const float zeros[DARKBN_TILE_FILTERS] = {0};
    const ptrdiff_t position = y * w->slots + x;
    const int class = darkbn_winograd_class(w->m, y, x);
    const float *a = r->inputs + position * w->in_step + start * DARKBN_PANEL;
    const darkbn_pixels_at panels = {a, w->blocks * DARKBN_PANEL, 0, DARKBN_PANEL};
    float *sums = r->sums + position * w->out_step
                  + (filter % w->chunk * w->region + r->low[class]) * DARKBN_TILE_FILTERS;
    darkbn_multiply_panels(r->high[class] - r->low[class], steps, panels, b, next, sums, start > 0 ? NULL : zeros);
}

/* Products of one point, at all its positions: tile `filter` of the filters times the tiles of the region. */
static void darkbn_winograd_multiply(const darkbn_winograd *w, const darkbn_winograd_region *r, ptrdiff_t point,
                                     ptrdiff_t filter)
{
    const ptrdiff_t padded = w->filters * DARKBN_TILE_FILTERS, unit = DARKBN_BLOCK * DARKBN_TILE_FILTERS;
    const ptrdiff_t depth = darkbn_parts_of(w->blocks, darkbn_parts_of(w->blocks, DARKBN_GEMM_STEPS));
    const float *b = w->g->packed + padded + (point * w->filters + filter) * w->blocks * unit;
    const int down = (int)(point / w->points), across = (int)(point % w->points), m = w->m;
    for (ptrdiff_t start = 0; start < w->blocks; start += depth) {
        const ptrdiff_t steps = darkbn_least(depth, w->blocks - start);
        const float *here = b + start * unit;
        /* In memory the next steps or the next tile of filters follow. */
        const float *next = here + steps * unit;
        for (int y = darkbn_winograd_slot(m, down); y < darkbn_winograd_slot(m, down + 1); ++y)
            for (int x = darkbn_winograd_slot(m, across); x < darkbn_winograd_slot(m, across + 1); ++x) {
                darkbn_winograd_position(w, r, y, x, filter, start, steps, here, next);
                next = NULL;
            }
    }
}

/* A region by one thread. */
static void darkbn_winograd_alone(const darkbn_winograd *w, const darkbn_winograd_region *r)
{
    for (ptrdiff_t block = 0; block < w->blocks; ++block) darkbn_winograd_inputs(w, r, block);
    for (ptrdiff_t filter = 0; filter < w->filters; filter += w->chunk) {
        const ptrdiff_t last = darkbn_least(filter + w->chunk, w->filters);
        for (ptrdiff_t point = 0; point < w->points * w->points; ++point)
            for (ptrdiff_t f = filter; f < last; ++f) darkbn_winograd_multiply(w, r, point, f);
        for (ptrdiff_t f = filter; f < last; ++f) darkbn_winograd_outputs(w, r, f, 0, r->count);
    }
}

#define DARKBN_WINOGRAD_PART 8 /* output tiles of a task */

/* A region by all threads. */
static void darkbn_winograd_together(const darkbn_winograd *w, const darkbn_winograd_region *r, int threads)
{
    const ptrdiff_t products = w->points * w->points * w->filters, parts = darkbn_parts_of(r->count, DARKBN_WINOGRAD_PART);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(dynamic)
        for (ptrdiff_t block = 0; block < w->blocks; ++block) darkbn_winograd_inputs(w, r, block);
#pragma omp for schedule(dynamic, 8)
        for (ptrdiff_t i = 0; i < products; ++i) darkbn_winograd_multiply(w, r, i / w->filters, i % w->filters);
#pragma omp for schedule(dynamic)
        for (ptrdiff_t i = 0; i < w->filters * parts; ++i) {
            const ptrdiff_t first = i % parts * DARKBN_WINOGRAD_PART;
            darkbn_winograd_outputs(w, r, i / parts, first, darkbn_least(first + DARKBN_WINOGRAD_PART, r->count));
        }
    }
}

static ptrdiff_t darkbn_winograd_floats(const darkbn_blocked *g, int m, int threads)
{
    const darkbn_winograd w = darkbn_winograd_of(g, m, threads);
    return (w.shared ? 1 : threads) * w.local + DARKBN_LINE;
}

static void darkbn_winograd_run(const darkbn_blocked *g, int m, float *workspace, int threads)
{
    const darkbn_winograd w = darkbn_winograd_of(g, m, threads);
    const ptrdiff_t regions = darkbn_parts_of(w.tiles, w.region);
    float *local = darkbn_line_start(workspace);
    if (w.shared) {
        for (ptrdiff_t first = 0; first < w.tiles; first += w.region) {
            const ptrdiff_t count = darkbn_least(w.region, w.tiles - first);
            const darkbn_winograd_region r = darkbn_winograd_region_of(&w, first, count, local);
            darkbn_winograd_together(&w, &r, threads);
        }
        return;
    }
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (ptrdiff_t i = 0; i < regions; ++i) {
        const ptrdiff_t first = i * w.region, count = darkbn_least(w.region, w.tiles - first);
        const darkbn_winograd_region r =
            darkbn_winograd_region_of(&w, first, count, local + DARKBN_THREAD * w.local);
        darkbn_winograd_alone(&w, &r);
    }
}

#endif
