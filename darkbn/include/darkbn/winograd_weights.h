/* The gradient of 3x3 weights, by the adjoint of Winograd's forward pass: with V = B^T x B of every input tile and
 * D = A delta A^T of every tile of delta, the gradient is G^T (sum over tiles of D * V, position by position) G. The
 * sums are products of matrices, filters by channels, over the tiles of all images; positions that have the same filter
 * forward are summed up, too.
 *
 * Tiles are taken in regions, so that V and D stay near. Where all tiles are one region, a task sums up all positions
 * of some filters and channels beside it and transforms them at once; else sums of all positions wait for the
 * last region. */
#ifndef DARKBN_WINOGRAD_WEIGHTS_H
#define DARKBN_WINOGRAD_WEIGHTS_H

#include "darkbn/winograd_tiles.h"

#define DARKBN_OUTER_REGION 192      /* most tiles of a region */
#define DARKBN_OUTER_FLOATS 2097152  /* of a region, unless that is fewer than 128 tiles */
#define DARKBN_OUTER_FILTERS 5       /* blocks of filters and of channels of a task: its sums fit the second level */
#define DARKBN_OUTER_CHANNELS 6
#define DARKBN_SQUARE (DARKBN_BLOCK * DARKBN_BLOCK)

/* The register tile: DARKBN_OUTER_ROWS filters of a block times the channels of up to DARKBN_OUTER_BLOCKS blocks. */
#if DARKBN_V == 16
#define DARKBN_OUTER_ROWS 8
#define DARKBN_OUTER_BLOCKS 3
#elif DARKBN_V == 8 || defined(__aarch64__)
#define DARKBN_OUTER_ROWS 4
#define DARKBN_OUTER_BLOCKS 3
#else
#define DARKBN_OUTER_ROWS 4
#define DARKBN_OUTER_BLOCKS 1
#endif
#define DARKBN_OUTER_VECTORS (DARKBN_OUTER_BLOCKS * DARKBN_BLOCK / DARKBN_W)

typedef struct darkbn_weights_pass {
    darkbn_plain x, delta;
    float *updates;
    darkbn_tiles_of tiles;
    ptrdiff_t channels, filters; /* in blocks */
    ptrdiff_t region, x_step, delta_step; /* tiles; floats from position to position */
    ptrdiff_t filter_tasks, filter_blocks, channel_tasks, channel_blocks;
    int single;                  /* all tiles are one region */
    ptrdiff_t sums, local;       /* floats of all sums, of a thread's */
} darkbn_weights_pass;

static void darkbn_weights_plan(darkbn_weights_pass *pass)
{
    const darkbn_tiles_of *t = &pass->tiles;
    pass->channels = darkbn_blocks(pass->x.c);
    pass->filters = darkbn_blocks(pass->delta.c);
    const ptrdiff_t each = t->positions * (pass->channels + pass->filters) * DARKBN_BLOCK;
    const ptrdiff_t fit = darkbn_most(DARKBN_OUTER_FLOATS / darkbn_most(each, 1), 128);
    const ptrdiff_t regions = darkbn_parts_of(t->count, darkbn_least(fit, DARKBN_OUTER_REGION));
    pass->single = regions <= 1;
    pass->region = darkbn_most(darkbn_parts_of(t->count, darkbn_most(regions, 1)), 1);
    pass->x_step = darkbn_odd_lines(pass->region * pass->channels * DARKBN_BLOCK);
    pass->delta_step = darkbn_odd_lines(pass->region * pass->filters * DARKBN_BLOCK);
    pass->filter_tasks = darkbn_parts_of(pass->filters, DARKBN_OUTER_FILTERS);
    pass->channel_tasks = darkbn_parts_of(pass->channels, DARKBN_OUTER_CHANNELS);
    pass->filter_blocks = darkbn_least(DARKBN_OUTER_FILTERS, pass->filters);
    pass->channel_blocks = darkbn_least(DARKBN_OUTER_CHANNELS, pass->channels);
    pass->sums = pass->single ? 0 : t->points * t->points * pass->filters * pass->channels * DARKBN_SQUARE;
    const ptrdiff_t task = pass->filter_blocks * pass->channel_blocks * DARKBN_SQUARE;
    pass->local = pass->single ? t->points * t->points * task : 0;
}

static ptrdiff_t darkbn_weights_pass_floats(const darkbn_weights_pass *pass, int threads)
{
    return pass->tiles.positions * (pass->x_step + pass->delta_step) + pass->sums + threads * pass->local + DARKBN_LINE;
}

/* Adds to sums (or, unless `add`, overwrites) the products over `tiles` tiles of DARKBN_OUTER_ROWS filters from `d` on
 * and `blocks` blocks of channels from `v` on, which are `v_step` floats apart. `blocks` is a constant where inlined;
 * sums of a block of channels are DARKBN_SQUARE floats from those of the one before. */
DARKBN_INLINE void darkbn_outer(const int blocks, ptrdiff_t tiles, const float *restrict d, const float *restrict v,
                                ptrdiff_t v_step, float *restrict sums, int add)
{
    enum { PER_BLOCK = DARKBN_BLOCK / DARKBN_W };
    const int vectors = blocks * PER_BLOCK;
    darkbn_wide acc[DARKBN_OUTER_ROWS][DARKBN_OUTER_VECTORS];
#pragma GCC unroll 8
    for (int i = 0; i < DARKBN_OUTER_ROWS; ++i)
#pragma GCC unroll 8
        for (int j = 0; j < vectors; ++j) acc[i][j] = (darkbn_wide){0};
#pragma GCC unroll 4
    for (ptrdiff_t t = 0; t < tiles; ++t) {
        darkbn_wide right[DARKBN_OUTER_VECTORS];
#pragma GCC unroll 8
        for (int j = 0; j < vectors; ++j)
            right[j] = darkbn_wide_load(v + j / PER_BLOCK * v_step + t * DARKBN_BLOCK + j % PER_BLOCK * DARKBN_W);
#pragma GCC unroll 8
        for (int i = 0; i < DARKBN_OUTER_ROWS; ++i) {
            const float left = d[t * DARKBN_BLOCK + i];
#pragma GCC unroll 8
            for (int j = 0; j < vectors; ++j) acc[i][j] += left * right[j];
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < DARKBN_OUTER_ROWS; ++i)
#pragma GCC unroll 8
        for (int j = 0; j < vectors; ++j) {
            float *to = sums + j / PER_BLOCK * DARKBN_SQUARE + i * DARKBN_BLOCK + j % PER_BLOCK * DARKBN_W;
            darkbn_wide_store(to, add ? darkbn_wide_load(to) + acc[i][j] : acc[i][j]);
        }
}

typedef void (*darkbn_outer_function)(ptrdiff_t, const float *, const float *, ptrdiff_t, float *, int);

#define DARKBN_OUTER(BLOCKS)                                                                                      \
    static void darkbn_outer_##BLOCKS(ptrdiff_t tiles, const float *d, const float *v, ptrdiff_t v_step,          \
                                      float *sums, int add)                                                       \
    {                                                                                                             \
        darkbn_outer(BLOCKS, tiles, d, v, v_step, sums, add);                                                     \
    }
DARKBN_OUTER(1)
#if DARKBN_OUTER_BLOCKS > 1
DARKBN_OUTER(2)
DARKBN_OUTER(3)
#endif
#undef DARKBN_OUTER

/* By number of blocks of channels. */
static const darkbn_outer_function darkbn_outers[DARKBN_OUTER_BLOCKS + 1] = {
    NULL, darkbn_outer_1,
#if DARKBN_OUTER_BLOCKS > 1
    darkbn_outer_2, darkbn_outer_3,
#endif
};

/* Products of one position. d, v and sums begin at the first block of each; sums of a block of filters are
 * `across` blocks of channels wide. */
static void darkbn_outer_blocks(const darkbn_weights_pass *pass, ptrdiff_t count, ptrdiff_t filters,
                                ptrdiff_t channels, const float *d, const float *v, float *sums, ptrdiff_t across,
                                int add)
{
    const ptrdiff_t step = pass->region * DARKBN_BLOCK;
    for (ptrdiff_t c = 0, some; c < channels; c += some) {
        some = darkbn_least(channels - c, DARKBN_OUTER_BLOCKS);
        if (channels - c == DARKBN_OUTER_BLOCKS + 1 && DARKBN_OUTER_BLOCKS == 3) some = 2;
        const darkbn_outer_function outer = darkbn_outers[some];
        for (ptrdiff_t f = 0; f < filters; ++f)
            for (ptrdiff_t row = 0; row < DARKBN_BLOCK; row += DARKBN_OUTER_ROWS)
                outer(count, d + f * step + row, v + c * step, step,
                      sums + (f * across + c) * DARKBN_SQUARE + row * DARKBN_BLOCK, add);
    }
}

/* Sums of one filter and eight channels, points `step` floats apart, transformed back and added to the updates of
 * `lanes` of the channels. */
DARKBN_INLINE void darkbn_weights_back(const int m, const float *sums, ptrdiff_t step, ptrdiff_t lanes, float *updates)
{
    const int points = darkbn_winograd_points(m);
    float taps[9 * DARKBN_BLOCK] __attribute__((aligned(64)));
    for (int part = 0; part < DARKBN_BLOCK; part += DARKBN_W) {
        darkbn_wide half[3][DARKBN_WINOGRAD_POINTS], in[DARKBN_WINOGRAD_POINTS], out[3];
#pragma GCC unroll 8
        for (int x = 0; x < points; ++x) {
#pragma GCC unroll 8
            for (int y = 0; y < points; ++y) in[y] = darkbn_wide_load(sums + (y * points + x) * step + part);
            darkbn_winograd_gather(m, in, out);
            for (int i = 0; i < 3; ++i) half[i][x] = out[i];
        }
#pragma GCC unroll 3
        for (int i = 0; i < 3; ++i) {
            darkbn_winograd_gather(m, half[i], out);
            for (int j = 0; j < 3; ++j) darkbn_wide_store(taps + (3 * i + j) * DARKBN_BLOCK + part, out[j]);
        }
    }
    darkbn_square_out(taps, 9, lanes, 1, updates);
    for (ptrdiff_t i = 0; i < lanes; ++i) updates[9 * i + 8] += taps[8 * DARKBN_BLOCK + i];
}

/* All filters of a block and all channels of one. */
DARKBN_INLINE void darkbn_weights_square(const int m, const darkbn_weights_pass *pass, const float *sums,
                                         ptrdiff_t step, ptrdiff_t filter, ptrdiff_t channel)
{
    const ptrdiff_t rows = darkbn_least(pass->delta.c - filter * DARKBN_BLOCK, DARKBN_BLOCK);
    const ptrdiff_t lanes = darkbn_least(pass->x.c - channel * DARKBN_BLOCK, DARKBN_BLOCK);
    for (ptrdiff_t i = 0; i < rows; ++i)
        darkbn_weights_back(m, sums + i * DARKBN_BLOCK, step, lanes,
                            pass->updates
                                + ((filter * DARKBN_BLOCK + i) * pass->x.c + channel * DARKBN_BLOCK) * 9);
}

#define DARKBN_WEIGHTS_PHASES(M)                                                                                  \
    static void darkbn_weights_x_##M(const darkbn_weights_pass *pass, ptrdiff_t first, ptrdiff_t count,           \
                                     ptrdiff_t block, float *to)                                                  \
    {                                                                                                             \
        darkbn_tiles_in(M, DARKBN_TILE_IN, &pass->tiles, &pass->x, first, count, block, to, pass->x_step, 1, 0);                                  \
    }                                                                                                             \
    static void darkbn_weights_delta_##M(const darkbn_weights_pass *pass, ptrdiff_t first, ptrdiff_t count,       \
                                         ptrdiff_t block, float *to)                                              \
    {                                                                                                             \
        darkbn_tiles_in(M, DARKBN_TILE_SPREAD, &pass->tiles, &pass->delta, first, count, block, to, pass->delta_step, 1, 0);                              \
    }                                                                                                             \
    static void darkbn_weights_square_##M(const darkbn_weights_pass *pass, const float *sums, ptrdiff_t step,     \
                                          ptrdiff_t filter, ptrdiff_t channel)                                    \
    {                                                                                                             \
        darkbn_weights_square(M, pass, sums, step, filter, channel);                                              \
    }
DARKBN_WEIGHTS_PHASES(2)
DARKBN_WEIGHTS_PHASES(3)
DARKBN_WEIGHTS_PHASES(4)
#undef DARKBN_WEIGHTS_PHASES

/* Block `block` of x, or, counted on, of delta, into a region: first x, then delta. */
static void darkbn_weights_transform(const darkbn_weights_pass *pass, ptrdiff_t first, ptrdiff_t count,
                                     ptrdiff_t block, float *region)
{
    const ptrdiff_t size = pass->region * DARKBN_BLOCK, m = pass->tiles.m;
    if (block < pass->channels) {
        (m == 2   ? darkbn_weights_x_2
         : m == 3 ? darkbn_weights_x_3
                  : darkbn_weights_x_4)(pass, first, count, block, region + block * size);
        return;
    }
    block -= pass->channels;
    float *to = region + pass->tiles.positions * pass->x_step + block * size;
    (m == 2   ? darkbn_weights_delta_2
     : m == 3 ? darkbn_weights_delta_3
              : darkbn_weights_delta_4)(pass, first, count, block, to);
}

static void darkbn_weights_back_square(const darkbn_weights_pass *pass, const float *sums, ptrdiff_t step,
                                       ptrdiff_t filter, ptrdiff_t channel)
{
    (pass->tiles.m == 2   ? darkbn_weights_square_2
     : pass->tiles.m == 3 ? darkbn_weights_square_3
                          : darkbn_weights_square_4)(pass, sums, step, filter, channel);
}

/* Sums of one point over its positions. v, d and sums begin at the first block of each, v and d at position 0. */
static void darkbn_weights_point(const darkbn_weights_pass *pass, ptrdiff_t point, ptrdiff_t count, ptrdiff_t filters,
                                 ptrdiff_t channels, const float *d, const float *v, float *sums, ptrdiff_t across,
                                 int add)
{
    const darkbn_tiles_of *t = &pass->tiles;
    for (ptrdiff_t p = 0; p < t->positions; ++p) {
        if (darkbn_point_of(t, p) != point) continue;
        darkbn_outer_blocks(pass, count, filters, channels, d + p * pass->delta_step, v + p * pass->x_step, sums, across,
                            add);
        add = 1;
    }
}

/* All points of some filters and channels, in one go. */
static void darkbn_weights_whole(const darkbn_weights_pass *pass, ptrdiff_t task, const float *region, float *sums)
{
    const darkbn_tiles_of *t = &pass->tiles;
    const ptrdiff_t f0 = task % pass->filter_tasks * pass->filter_blocks;
    const ptrdiff_t c0 = task / pass->filter_tasks * pass->channel_blocks, size = pass->region * DARKBN_BLOCK;
    const ptrdiff_t filters = darkbn_least(pass->filter_blocks, pass->filters - f0);
    const ptrdiff_t channels = darkbn_least(pass->channel_blocks, pass->channels - c0);
    const ptrdiff_t step = filters * channels * DARKBN_SQUARE;
    const float *v = region + c0 * size, *d = region + t->positions * pass->x_step + f0 * size;
    for (ptrdiff_t point = 0; point < t->points * t->points; ++point)
        darkbn_weights_point(pass, point, t->count, filters, channels, d, v, sums + point * step, channels, 0);
    for (ptrdiff_t f = 0; f < filters; ++f)
        for (ptrdiff_t c = 0; c < channels; ++c)
            darkbn_weights_back_square(pass, sums + (f * channels + c) * DARKBN_SQUARE, step, f0 + f, c0 + c);
}

/* One point of some filters and all channels. */
static void darkbn_weights_some(const darkbn_weights_pass *pass, ptrdiff_t task, ptrdiff_t count, const float *region,
                                float *sums, int add)
{
    const ptrdiff_t point = task / pass->filter_tasks, f0 = task % pass->filter_tasks * pass->filter_blocks;
    const ptrdiff_t plane = pass->filters * pass->channels * DARKBN_SQUARE;
    const float *d = region + pass->tiles.positions * pass->x_step + f0 * pass->region * DARKBN_BLOCK;
    darkbn_weights_point(pass, point, count, darkbn_least(pass->filter_blocks, pass->filters - f0), pass->channels, d,
                         region, sums + point * plane + f0 * pass->channels * DARKBN_SQUARE, pass->channels, add);
}

/* `workspace` has darkbn_weights_pass_floats() floats. */
static void darkbn_weights_pass_run(const darkbn_weights_pass *pass, float *workspace, int threads)
{
    float *region = darkbn_line_start(workspace);
    float *sums = region + pass->tiles.positions * (pass->x_step + pass->delta_step);
    const ptrdiff_t blocks = pass->channels + pass->filters, tiles = pass->tiles.count;
    const ptrdiff_t points = pass->tiles.points * pass->tiles.points;
    const ptrdiff_t plane = pass->filters * pass->channels * DARKBN_SQUARE;
#pragma omp parallel num_threads(threads)
    {
        for (ptrdiff_t first = 0; first < tiles; first += pass->region) {
            const ptrdiff_t count = darkbn_least(pass->region, tiles - first);
#pragma omp for schedule(dynamic)
            for (ptrdiff_t block = 0; block < blocks; ++block)
                darkbn_weights_transform(pass, first, count, block, region);
            if (pass->single) {
#pragma omp for schedule(dynamic)
                for (ptrdiff_t task = 0; task < pass->filter_tasks * pass->channel_tasks; ++task)
                    darkbn_weights_whole(pass, task, region, sums + DARKBN_THREAD * pass->local);
            } else {
#pragma omp for schedule(dynamic)
                for (ptrdiff_t task = 0; task < points * pass->filter_tasks; ++task)
                    darkbn_weights_some(pass, task, count, region, sums, first > 0);
            }
        }
        if (!pass->single) {
#pragma omp for schedule(static)
            for (ptrdiff_t i = 0; i < pass->filters * pass->channels; ++i)
                darkbn_weights_back_square(pass, sums + i * DARKBN_SQUARE, plane, i / pass->channels,
                                           i % pass->channels);
        }
    }
}

#endif
