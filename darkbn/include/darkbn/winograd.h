/* Winograd convolutions of plain maps, for training: forward, and the gradient of the input. With stride 1 that is a
 * forward pass of delta with the filters flipped and channels and filters exchanged; with stride 2 it is the adjoint.
 *
 * Filters are transformed in every pass, because they are others in every step. Few filters are transformed before, and
 * each thread takes regions of tiles that fit its cache. Many filters (deep layers, small maps) would take more memory
 * traffic than products: there the input is transformed for many tiles at once, and filters chunk by chunk: by each
 * thread for itself, just before it multiplies by them, or where tiles are many, by all threads together. */
#ifndef DARKBN_WINOGRAD_H
#define DARKBN_WINOGRAD_H

#include "darkbn/winograd_tiles.h"

#define DARKBN_SLICE 16               /* blocks of channels whose filters are transformed at a time */
#define DARKBN_ALONE_FILTERS 1500000  /* most floats of filters for regions of a thread's own */
#define DARKBN_ALONE_FLOATS 98304     /* of such a region, unless that is fewer tiles than */
#define DARKBN_ALONE_TILES 24
#define DARKBN_ALONE_SUMS 36864       /* of these, the sums of some filters */
#define DARKBN_OWN_TILES 64           /* most tiles for which threads transform filters of their own */
#define DARKBN_CHUNK_FLOATS 524288    /* of filters that threads transform together */
#define DARKBN_SHARED_FLOATS 1572864  /* of a region's input then, unless that is fewer tiles than */
#define DARKBN_SHARED_TILES 128

enum darkbn_winograd_way {
    DARKBN_ALONE,   /* filters before everything else, then a region a thread */
    DARKBN_OWN,     /* all threads on a region; each transforms a tile of filters at a time */
    DARKBN_TOGETHER /* all threads on a region, and on some tiles of filters at a time */
};

/* One pass. */
typedef struct darkbn_winograd_pass {
    darkbn_filters filters;
    const float *biases;
    darkbn_plain x, out;
    int adjoint; /* of the forward pass of the tiles: `out` is its input */
    int add;     /* to what `out` holds */
    darkbn_tiles_of tiles;
    enum darkbn_winograd_way way;
    ptrdiff_t blocks, filter_tiles;            /* blocks of channels of x, tiles of filters */
    ptrdiff_t region, chunk;                   /* tiles of a region; tiles of filters whose sums are held at a time */
    ptrdiff_t in_step, filter_step, out_step;  /* floats from position to position, or from point to point */
    ptrdiff_t before, shared, local;           /* floats: of biases and filters, of all threads, of each */
} darkbn_winograd_pass;

/* Threads with regions of their own. Neighbours in the input of the adjoint overlap: they would write the same map. */
static int darkbn_plan_alone(darkbn_winograd_pass *pass, int threads)
{
    const ptrdiff_t channels = pass->blocks * DARKBN_BLOCK, padded = pass->filter_tiles * DARKBN_TILE_FILTERS;
    const darkbn_tiles_of *t = &pass->tiles;
    const ptrdiff_t filters = t->points * t->points * channels * padded, each = t->positions * (channels + padded);
    const ptrdiff_t most = darkbn_most(DARKBN_ALONE_FLOATS / each, DARKBN_ALONE_TILES);
    if (pass->adjoint || filters > DARKBN_ALONE_FILTERS || t->count <= 2 * most * threads) return 0;
    pass->way = DARKBN_ALONE;
    const ptrdiff_t regions = darkbn_rounded(darkbn_parts_of(t->count, most), threads);
    pass->region = darkbn_rounded(darkbn_parts_of(t->count, regions), DARKBN_TILE_PIXELS);
    const ptrdiff_t fit = darkbn_most(DARKBN_ALONE_SUMS / (t->positions * pass->region * DARKBN_TILE_FILTERS), 1);
    pass->chunk = darkbn_parts_of(pass->filter_tiles, darkbn_parts_of(pass->filter_tiles, fit));
    pass->filter_step = channels * padded;
    pass->in_step = darkbn_odd_lines(pass->region * channels);
    pass->out_step = darkbn_odd_lines(pass->region * pass->chunk * DARKBN_TILE_FILTERS);
    pass->before = padded + filters;
    pass->shared = 0;
    pass->local = t->positions * (pass->in_step + pass->out_step);
    return 1;
}

static void darkbn_winograd_plan(darkbn_winograd_pass *pass, int threads)
{
    const darkbn_tiles_of *t = &pass->tiles;
    pass->blocks = darkbn_blocks(pass->filters.c);
    pass->filter_tiles = darkbn_parts_of(pass->filters.n, DARKBN_TILE_FILTERS);
    if (darkbn_plan_alone(pass, threads)) return;
    const ptrdiff_t channels = pass->blocks * DARKBN_BLOCK, each = t->positions * channels;
    const ptrdiff_t most = darkbn_most(DARKBN_SHARED_FLOATS / each, DARKBN_SHARED_TILES);
    const ptrdiff_t fit = darkbn_most(DARKBN_CHUNK_FLOATS / (each * DARKBN_TILE_FILTERS), 1);
    const int own = t->count <= DARKBN_OWN_TILES;
    const ptrdiff_t slice = own ? darkbn_least(pass->blocks, DARKBN_SLICE) : pass->blocks;
    pass->way = own ? DARKBN_OWN : DARKBN_TOGETHER;
    pass->region = darkbn_rounded(darkbn_parts_of(t->count, darkbn_parts_of(t->count, most)), DARKBN_TILE_PIXELS);
    pass->chunk = own ? 1 : darkbn_parts_of(pass->filter_tiles, darkbn_parts_of(pass->filter_tiles, fit));
    pass->in_step = darkbn_odd_lines(pass->region * channels);
    pass->filter_step = darkbn_odd_lines(pass->chunk * slice * DARKBN_BLOCK * DARKBN_TILE_FILTERS);
    pass->out_step = darkbn_odd_lines(pass->region * pass->chunk * DARKBN_TILE_FILTERS);
    pass->before = pass->filter_tiles * DARKBN_TILE_FILTERS;
    pass->shared = t->positions * pass->in_step;
    pass->local = t->points * t->points * pass->filter_step + t->positions * pass->out_step;
    if (own) return;
    pass->shared += pass->local;
    pass->local = 0;
}

static ptrdiff_t darkbn_winograd_pass_floats(const darkbn_winograd_pass *pass, int threads)
{
    return darkbn_rounded(pass->before, DARKBN_LINE) + pass->shared + threads * pass->local + DARKBN_LINE;
}

#define DARKBN_PASS_PHASES(M)                                                                                     \
    static void darkbn_pass_in_##M(const darkbn_winograd_pass *pass, ptrdiff_t first, ptrdiff_t count,            \
                                   ptrdiff_t block, float *inputs)                                                \
    {                                                                                                             \
        const ptrdiff_t panels = darkbn_panels(count), panel = pass->blocks * DARKBN_PANEL;                       \
        float *to = inputs + block * DARKBN_PANEL;                                                                \
        if (pass->adjoint)                                                                                        \
            darkbn_tiles_in(M, DARKBN_TILE_SPREAD, &pass->tiles, &pass->x, first, count, block, to,               \
                            pass->in_step, panels, panel);                                                        \
        else                                                                                                      \
            darkbn_tiles_in(M, DARKBN_TILE_IN, &pass->tiles, &pass->x, first, count, block, to, pass->in_step,    \
                            panels, panel);                                                                       \
    }                                                                                                             \
    static void darkbn_pass_out_##M(const darkbn_winograd_pass *pass, ptrdiff_t first, ptrdiff_t count,           \
                                    ptrdiff_t block, const float *sums, const float *biases)                      \
    {                                                                                                             \
        const float *from = sums + block / DARKBN_TILE_BLOCKS % pass->chunk * pass->region * DARKBN_TILE_FILTERS  \
                            + block % DARKBN_TILE_BLOCKS * DARKBN_BLOCK;                                          \
        if (M == DARKBN_WINOGRAD_HALF && pass->adjoint)                                                           \
            darkbn_tiles_out(M, DARKBN_TILE_BACK, &pass->tiles, &pass->out, first, count, block, from,            \
                             DARKBN_TILE_FILTERS, pass->out_step, NULL, pass->add);                               \
        else                                                                                                      \
            darkbn_tiles_out(M, DARKBN_TILE_OUT, &pass->tiles, &pass->out, first, count, block, from,             \
                             DARKBN_TILE_FILTERS, pass->out_step, biases + block * DARKBN_BLOCK, pass->add);      \
    }                                                                                                             \
    static void darkbn_pass_filters_##M(const darkbn_winograd_pass *pass, ptrdiff_t filter, ptrdiff_t k0,         \
                                        ptrdiff_t count, float *to)                                               \
    {                                                                                                             \
        darkbn_filters_transform(M, &pass->filters, filter * DARKBN_TILE_FILTERS, k0, count, to,                  \
                                 pass->filter_step);                                                              \
    }
DARKBN_PASS_PHASES(2)
DARKBN_PASS_PHASES(3)
DARKBN_PASS_PHASES(4)
#undef DARKBN_PASS_PHASES

/* Tiles [first, first + count) of a block of channels of x, transformed, in panels. */
static void darkbn_pass_in(const darkbn_winograd_pass *pass, ptrdiff_t first, ptrdiff_t count, ptrdiff_t block,
                           float *inputs)
{
    (pass->tiles.m == 2   ? darkbn_pass_in_2
     : pass->tiles.m == 3 ? darkbn_pass_in_3
                          : darkbn_pass_in_4)(pass, first, count, block, inputs);
}

/* The sums of tiles of filters [filter, last), transformed back, to their places. */
static void darkbn_pass_out(const darkbn_winograd_pass *pass, ptrdiff_t first, ptrdiff_t count, ptrdiff_t block,
                            const float *sums, const float *biases)
{
    (pass->tiles.m == 2   ? darkbn_pass_out_2
     : pass->tiles.m == 3 ? darkbn_pass_out_3
                          : darkbn_pass_out_4)(pass, first, count, block, sums, biases);
}

/* `count` channels of a tile of filters, transformed. */
static void darkbn_pass_filters(const darkbn_winograd_pass *pass, ptrdiff_t filter, ptrdiff_t k0, ptrdiff_t count,
                                float *to)
{
    (pass->tiles.m == 2   ? darkbn_pass_filters_2
     : pass->tiles.m == 3 ? darkbn_pass_filters_3
                          : darkbn_pass_filters_4)(pass, filter, k0, count, to);
}

/* Slice `task` % ... of tile `task` / ... of filters from `filter` on, transformed; tiles are `floats` apart. */
static void darkbn_pass_slice(const darkbn_winograd_pass *pass, ptrdiff_t filter, ptrdiff_t task, float *to)
{
    const ptrdiff_t slices = darkbn_parts_of(pass->blocks, DARKBN_SLICE), channels = pass->blocks * DARKBN_BLOCK;
    const ptrdiff_t k0 = task % slices * DARKBN_SLICE * DARKBN_BLOCK, tile = task / slices;
    darkbn_pass_filters(pass, filter + tile, k0, darkbn_least(channels - k0, DARKBN_SLICE * DARKBN_BLOCK),
                        to + (tile * channels + k0) * DARKBN_TILE_FILTERS);
}

/* sums = (or, unless `first_block` is 0, sums +=) blocks [first_block, first_block + blocks) of the inputs of one
 * position times those of a tile of filters. */
DARKBN_INLINE void darkbn_pass_product(const darkbn_winograd_pass *pass, ptrdiff_t count, ptrdiff_t first_block,
                                       ptrdiff_t blocks, const float *inputs, const float *filters, const float *next,
                                       float *sums)
{
    static const float zeros[DARKBN_TILE_FILTERS] = {0};
    const darkbn_pixels_at panels = {inputs + first_block * DARKBN_PANEL, pass->blocks * DARKBN_PANEL, 0, DARKBN_PANEL};
    darkbn_multiply_panels(count, blocks, panels, filters, next, sums, first_block > 0 ? NULL : zeros);
}

/* All channels of one position, as many at a time as stay in the first-level cache: `tiles` tiles of filters. */
static void darkbn_pass_position(const darkbn_winograd_pass *pass, ptrdiff_t count, ptrdiff_t tiles,
                                 const float *inputs, const float *filters, float *sums)
{
    const ptrdiff_t depth = darkbn_parts_of(pass->blocks, darkbn_parts_of(pass->blocks, DARKBN_GEMM_STEPS));
    const ptrdiff_t unit = DARKBN_BLOCK * DARKBN_TILE_FILTERS;
    for (ptrdiff_t tile = 0; tile < tiles; ++tile)
        for (ptrdiff_t start = 0; start < pass->blocks; start += depth) {
            const ptrdiff_t blocks = darkbn_least(depth, pass->blocks - start);
            const float *here = filters + (tile * pass->blocks + start) * unit;
            darkbn_pass_product(pass, count, start, blocks, inputs, here, here + blocks * unit,
                                sums + tile * pass->region * DARKBN_TILE_FILTERS);
        }
}

/* The output blocks of `tiles` tiles of filters from `filter` on end here. */
DARKBN_INLINE ptrdiff_t darkbn_pass_end(const darkbn_winograd_pass *pass, ptrdiff_t filter, ptrdiff_t tiles)
{
    return darkbn_least((filter + tiles) * DARKBN_TILE_BLOCKS, darkbn_blocks(pass->filters.n));
}

/* A region by one thread. */
static void darkbn_pass_alone(const darkbn_winograd_pass *pass, ptrdiff_t first, ptrdiff_t count, const float *biases,
                              const float *filters, float *inputs)
{
    const darkbn_tiles_of *t = &pass->tiles;
    float *sums = inputs + t->positions * pass->in_step;
    for (ptrdiff_t block = 0; block < pass->blocks; ++block) darkbn_pass_in(pass, first, count, block, inputs);
    for (ptrdiff_t filter = 0; filter < pass->filter_tiles; filter += pass->chunk) {
        const ptrdiff_t tiles = darkbn_least(pass->chunk, pass->filter_tiles - filter);
        for (ptrdiff_t position = 0; position < t->positions; ++position)
            darkbn_pass_position(pass, count, tiles, inputs + position * pass->in_step,
                                 filters + darkbn_point_of(t, position) * pass->filter_step
                                     + filter * pass->blocks * DARKBN_BLOCK * DARKBN_TILE_FILTERS,
                                 sums + position * pass->out_step);
        for (ptrdiff_t block = filter * DARKBN_TILE_BLOCKS; block < darkbn_pass_end(pass, filter, tiles); ++block)
            darkbn_pass_out(pass, first, count, block, sums, biases);
    }
}

/* A tile of filters for all tiles of a region: they are transformed here, a slice of channels at a time. */
static void darkbn_pass_own(const darkbn_winograd_pass *pass, ptrdiff_t first, ptrdiff_t count, const float *biases,
                            ptrdiff_t filter, const float *inputs, float *filters)
{
    const darkbn_tiles_of *t = &pass->tiles;
    const ptrdiff_t slice = darkbn_parts_of(pass->blocks, darkbn_parts_of(pass->blocks, DARKBN_SLICE));
    float *sums = filters + t->points * t->points * pass->filter_step;
    for (ptrdiff_t start = 0; start < pass->blocks; start += slice) {
        const ptrdiff_t blocks = darkbn_least(slice, pass->blocks - start);
        darkbn_pass_filters(pass, filter, start * DARKBN_BLOCK, blocks * DARKBN_BLOCK, filters);
        for (ptrdiff_t position = 0; position < t->positions; ++position)
            darkbn_pass_product(pass, count, start, blocks, inputs + position * pass->in_step,
                                filters + darkbn_point_of(t, position) * pass->filter_step, NULL,
                                sums + position * pass->out_step);
    }
    for (ptrdiff_t block = filter * DARKBN_TILE_BLOCKS; block < darkbn_pass_end(pass, filter, 1); ++block)
        darkbn_pass_out(pass, first, count, block, sums, biases);
}

/* A chunk of filters, from `filter` on, for all tiles of a region, inside of a parallel region. The next chunk is
 * transformed while the sums of this one are transformed back. */
static void darkbn_pass_chunk(const darkbn_winograd_pass *pass, ptrdiff_t first, ptrdiff_t count, const float *biases,
                              ptrdiff_t filter, const float *inputs, float *filters)
{
    const darkbn_tiles_of *t = &pass->tiles;
    const ptrdiff_t tiles = darkbn_least(pass->chunk, pass->filter_tiles - filter);
    const ptrdiff_t slices = darkbn_parts_of(pass->blocks, DARKBN_SLICE), end = darkbn_pass_end(pass, filter, tiles);
    float *sums = filters + t->points * t->points * pass->filter_step;
#pragma omp for schedule(dynamic)
    for (ptrdiff_t task = 0; task < tiles * slices; ++task) darkbn_pass_slice(pass, filter, task, filters);
#pragma omp for schedule(dynamic)
    for (ptrdiff_t position = 0; position < t->positions; ++position)
        darkbn_pass_position(pass, count, tiles, inputs + position * pass->in_step,
                             filters + darkbn_point_of(t, position) * pass->filter_step,
                             sums + position * pass->out_step);
#pragma omp for schedule(dynamic) nowait
    for (ptrdiff_t block = filter * DARKBN_TILE_BLOCKS; block < end; ++block)
        darkbn_pass_out(pass, first, count, block, sums, biases);
}

/* A region by all threads. */
static void darkbn_pass_shared(const darkbn_winograd_pass *pass, ptrdiff_t first, ptrdiff_t count, const float *biases,
                               float *inputs, int threads)
{
    float *rest = inputs + pass->tiles.positions * pass->in_step;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(dynamic)
        for (ptrdiff_t block = 0; block < pass->blocks; ++block) darkbn_pass_in(pass, first, count, block, inputs);
        if (pass->way == DARKBN_OWN) {
#pragma omp for schedule(dynamic)
            for (ptrdiff_t filter = 0; filter < pass->filter_tiles; ++filter)
                darkbn_pass_own(pass, first, count, biases, filter, inputs, rest + DARKBN_THREAD * pass->local);
        } else {
            for (ptrdiff_t filter = 0; filter < pass->filter_tiles; filter += pass->chunk)
                darkbn_pass_chunk(pass, first, count, biases, filter, inputs, rest);
        }
    }
}

/* `workspace` has darkbn_winograd_pass_floats() floats. */
static void darkbn_winograd_pass_run(const darkbn_winograd_pass *pass, float *workspace, int threads)
{
    const ptrdiff_t padded = pass->filter_tiles * DARKBN_TILE_FILTERS, tiles = pass->tiles.count;
    float *biases = darkbn_line_start(workspace), *rest = biases + darkbn_rounded(pass->before, DARKBN_LINE);
    darkbn_pack_biases(pass->biases, pass->filters.n, padded, biases);
    if (pass->way != DARKBN_ALONE) {
        for (ptrdiff_t first = 0; first < tiles; first += pass->region)
            darkbn_pass_shared(pass, first, darkbn_least(pass->region, tiles - first), biases, rest, threads);
        return;
    }
    const ptrdiff_t slices = darkbn_parts_of(pass->blocks, DARKBN_SLICE);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (ptrdiff_t task = 0; task < pass->filter_tiles * slices; ++task)
            darkbn_pass_slice(pass, 0, task, biases + padded);
#pragma omp for schedule(dynamic)
        for (ptrdiff_t first = 0; first < tiles; first += pass->region)
            darkbn_pass_alone(pass, first, darkbn_least(pass->region, tiles - first), biases, biases + padded,
                              rest + DARKBN_THREAD * pass->local);
    }
}

#endif
