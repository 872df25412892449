/* Winograd convolutions of plain maps, for training: the transforms of blocked_winograd.h on strips of plain maps, with
 * filters that are transformed in every pass, because they are others in every step.
 *
 * Forward, and the gradient of the input, which is a forward pass of delta with the filters flipped and channels and
 * filters exchanged. Few filters are transformed once, for all regions of tiles. Many of them (deep layers, small maps)
 * would take more memory traffic than products: there the input is transformed once for many tiles, and each thread
 * transforms a tile of filters, a slice of channels at a time, just before it multiplies by it. */
#ifndef DARKBN_WINOGRAD_H
#define DARKBN_WINOGRAD_H

#include "darkbn/blocked_winograd.h"
#include "darkbn/plain_blocks.h"

#define DARKBN_RUN 32                  /* most tiles of a strip */
#define DARKBN_STRIP_FLOATS ((DARKBN_RUN * 4 + 2) * DARKBN_WINOGRAD_SIDE * DARKBN_BLOCK + DARKBN_STRIP_SPARE)
#define DARKBN_SLICE 16                /* blocks of channels whose filters are transformed at a time */
#define DARKBN_FILTERS_ONCE 1500000    /* most floats of filters that are transformed once */
#define DARKBN_OWN_TILES 64            /* most tiles for which threads transform filters of their own */
#define DARKBN_CHUNK_FLOATS 524288     /* of filters that threads transform together */
#define DARKBN_SHARED_FLOATS 1572864   /* of a region's input then, unless that is fewer tiles than */
#define DARKBN_SHARED_TILES 128

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
    if (m == 2) {
        const darkbn_wide even = 0.5f * (g[0] + g[2]), odd = 0.5f * g[1];
        u[0] = g[0];
        u[1] = even + odd;
        u[2] = even - odd;
        u[3] = g[2];
        return;
    }
    const darkbn_wide even_a = -(2.0f / 3) * (g[0] + 0.5f * g[2]), odd_a = (float)(-2 * DARKBN_WINOGRAD_A / 3) * g[1];
    const darkbn_wide even_b = (1.0f / 6) * (g[0] + 2.0f * g[2]), odd_b = (float)(DARKBN_WINOGRAD_B / 6) * g[1];
    u[0] = g[0];
    u[1] = even_a + odd_a;
    u[2] = even_a - odd_a;
    u[3] = even_b + odd_b;
    u[4] = even_b - odd_b;
    u[5] = g[2];
}

/* G g G^T of eight filters; position p goes to to[p * step]. taps[t * 8 + lane] are g. */
DARKBN_INLINE void darkbn_filters_tile(const int m, const float *taps, int flipped, float *to, ptrdiff_t step)
{
    darkbn_wide half[DARKBN_WINOGRAD_SIDE][3], in[3], out[DARKBN_WINOGRAD_SIDE];
    const ptrdiff_t first = flipped ? 8 * DARKBN_BLOCK : 0, next = flipped ? -DARKBN_BLOCK : DARKBN_BLOCK;
#pragma GCC unroll 3
    for (int j = 0; j < 3; ++j) {
#pragma GCC unroll 3
        for (int i = 0; i < 3; ++i) in[i] = darkbn_wide_load(taps + first + (3 * i + j) * next);
        darkbn_filters_line(m, in, out);
#pragma GCC unroll 8
        for (int i = 0; i < m + 2; ++i) half[i][j] = out[i];
    }
#pragma GCC unroll 8
    for (int i = 0; i < m + 2; ++i) {
        darkbn_filters_line(m, half[i], out);
#pragma GCC unroll 8
        for (int j = 0; j < m + 2; ++j) darkbn_wide_store(to + (i * (m + 2) + j) * step, out[j]);
    }
}

/* Filters [f0, f0 + DARKBN_TILE_FILTERS) of channels [k0, k0 + count), zeros beyond the last ones: position p of
 * channel k and lane l goes to to[p * step + (k - k0) * DARKBN_TILE_FILTERS + l]. */
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

static void darkbn_filters_transform_2(const darkbn_filters *f, ptrdiff_t f0, ptrdiff_t k0, ptrdiff_t count, float *to,
                                       ptrdiff_t step)
{
    darkbn_filters_transform(2, f, f0, k0, count, to, step);
}

static void darkbn_filters_transform_4(const darkbn_filters *f, ptrdiff_t f0, ptrdiff_t k0, ptrdiff_t count, float *to,
                                       ptrdiff_t step)
{
    darkbn_filters_transform(4, f, f0, k0, count, to, step);
}

static void darkbn_transform_filters(ptrdiff_t m, const darkbn_filters *f, ptrdiff_t f0, ptrdiff_t k0, ptrdiff_t count,
                                     float *to, ptrdiff_t step)
{
    (m == 2 ? darkbn_filters_transform_2 : darkbn_filters_transform_4)(f, f0, k0, count, to, step);
}

/* When filters are transformed. */
enum darkbn_filters_when {
    DARKBN_FILTERS_BEFORE,  /* all of them, before everything else */
    DARKBN_FILTERS_OWN,     /* by each thread, a tile of filters at a time, for a region with few tiles */
    DARKBN_FILTERS_TOGETHER /* by all threads, some tiles of filters at a time */
};

/* One pass. `w` has its sizes; w.g is `g`, whose slices are not used. */
typedef struct darkbn_winograd_pass {
    darkbn_blocked g;
    darkbn_winograd w;
    darkbn_filters filters;
    const float *biases;
    darkbn_plain x, out;
    int add; /* to what out holds */
    enum darkbn_filters_when when;
    ptrdiff_t packed, shared, local; /* floats: of biases and filters, of all threads, of each */
    ptrdiff_t filter_step, slice_floats;
} darkbn_winograd_pass;

static void darkbn_winograd_plan(darkbn_winograd_pass *pass, ptrdiff_t m, ptrdiff_t pad, int threads)
{
    const darkbn_plain *x = &pass->x, *out = &pass->out;
    const darkbn_blocked g = {.batch = x->batch, .h = x->h, .w = x->w, .c = x->c, .n = out->c, .size = 3,
                              .out_h = out->h, .out_w = out->w, .groups = 1, .stride_y = 1, .stride_x = 1,
                              .dilation = 1, .pad = pad};
    pass->g = g;
    pass->packed = darkbn_winograd_packed(g.n, g.c, m);
    darkbn_winograd *w = &pass->w;
    *w = darkbn_winograd_of(&pass->g, (int)m, threads);
    darkbn_winograd_whole(w);
    if (pass->packed <= DARKBN_FILTERS_ONCE) {
        pass->when = DARKBN_FILTERS_BEFORE;
        pass->shared = w->shared ? w->local : 0;
        pass->local = w->shared ? 0 : w->local;
        return;
    }
    pass->packed = w->filters * DARKBN_TILE_FILTERS;
    pass->when = w->tiles <= DARKBN_OWN_TILES ? DARKBN_FILTERS_OWN : DARKBN_FILTERS_TOGETHER;
    const ptrdiff_t channels = w->blocks * DARKBN_BLOCK, each = w->positions * channels;
    const ptrdiff_t most = darkbn_most(DARKBN_SHARED_FLOATS / each, DARKBN_SHARED_TILES);
    const ptrdiff_t slice = pass->when == DARKBN_FILTERS_OWN ? darkbn_least(w->blocks, DARKBN_SLICE) : w->blocks;
    w->region = darkbn_rounded(darkbn_parts_of(w->tiles, darkbn_parts_of(w->tiles, most)), DARKBN_TILE_PIXELS);
    pass->filter_step = darkbn_odd_lines(slice * DARKBN_BLOCK * DARKBN_TILE_FILTERS);
    w->chunk = 1;
    if (pass->when == DARKBN_FILTERS_TOGETHER) {
        const ptrdiff_t fit = darkbn_most(DARKBN_CHUNK_FLOATS / (each * DARKBN_TILE_FILTERS), 1);
        w->chunk = darkbn_parts_of(w->filters, darkbn_parts_of(w->filters, fit));
        pass->filter_step = darkbn_odd_lines(w->chunk * channels * DARKBN_TILE_FILTERS);
    }
    w->in_step = darkbn_odd_lines(w->region * channels);
    w->out_step = darkbn_odd_lines(w->region * w->chunk * DARKBN_TILE_FILTERS);
    pass->slice_floats = w->positions * pass->filter_step;
    pass->shared = w->positions * w->in_step;
    pass->local = pass->slice_floats + w->positions * w->out_step;
    if (pass->when == DARKBN_FILTERS_TOGETHER) {
        pass->shared += pass->local;
        pass->local = 0;
    }
}

static ptrdiff_t darkbn_winograd_pass_floats(const darkbn_winograd_pass *pass, int threads)
{
    return darkbn_rounded(pass->packed, DARKBN_LINE) + pass->shared + threads * pass->local + DARKBN_LINE;
}

/* Tiles next to each other in an image. */
typedef struct darkbn_run {
    ptrdiff_t image, y, x, count;
} darkbn_run;

DARKBN_INLINE darkbn_run darkbn_run_from(ptrdiff_t across, ptrdiff_t down, ptrdiff_t tile, ptrdiff_t tiles)
{
    const ptrdiff_t line = tile / across, x = tile % across;
    const darkbn_run run = {line / down, line % down, x,
                            darkbn_least(darkbn_least(across - x, tiles), DARKBN_RUN)};
    return run;
}

/* Tiles [first, first + count) of a block of channels, transformed, in the panels of the region. */
DARKBN_INLINE void darkbn_pass_inputs(const int m, const darkbn_winograd_pass *pass, ptrdiff_t first, ptrdiff_t count,
                                      ptrdiff_t block, float *region)
{
    float strip[DARKBN_STRIP_FLOATS] __attribute__((aligned(64)));
    const darkbn_winograd *w = &pass->w;
    const ptrdiff_t panels = darkbn_panels(count), pad = pass->g.pad;
    ptrdiff_t panel = 0, start = 0, end = darkbn_panel_start(1, panels, count);
    for (ptrdiff_t p = 0; p < count;) {
        const darkbn_run run = darkbn_run_from(w->across, w->down, first + p, count - p);
        const ptrdiff_t columns = run.count * m + 2;
        darkbn_strip_in(&pass->x, run.image, block, run.y * m - pad, m + 2, run.x * m - pad, columns, strip);
        for (ptrdiff_t i = 0; i < run.count; ++i, ++p) {
            if (p == end) {
                start = end;
                end = darkbn_panel_start(++panel + 1, panels, count);
            }
            float *to = region + (panel * w->blocks + block) * DARKBN_PANEL + (p - start) * DARKBN_BLOCK;
            for (int part = 0; part < DARKBN_BLOCK; part += DARKBN_W)
                darkbn_winograd_tile_in(m, strip + i * m * DARKBN_BLOCK + part, columns * DARKBN_BLOCK,
                                        darkbn_winograd_here, to + part, w->in_step);
        }
    }
}

/* The sums of tiles [first, first + count) of a block of filters, transformed back, to their places. */
DARKBN_INLINE void darkbn_pass_outputs(const int m, const darkbn_winograd_pass *pass, ptrdiff_t first, ptrdiff_t count,
                                       ptrdiff_t block, const float *sums)
{
    float strip[DARKBN_STRIP_FLOATS] __attribute__((aligned(64)));
    const darkbn_winograd *w = &pass->w;
    const float *from = sums + block / DARKBN_TILE_BLOCKS % w->chunk * w->region * DARKBN_TILE_FILTERS
                        + block % DARKBN_TILE_BLOCKS * DARKBN_BLOCK;
    for (ptrdiff_t p = 0; p < count;) {
        const darkbn_run run = darkbn_run_from(w->across, w->down, first + p, count - p);
        const ptrdiff_t columns = run.count * m;
        for (ptrdiff_t i = 0; i < run.count; ++i, ++p) {
            const darkbn_winograd_target target = {strip + i * m * DARKBN_BLOCK, NULL, columns * DARKBN_BLOCK, m, m,
                                                   pass->g.packed + block * DARKBN_BLOCK, 1, 1};
            for (int part = 0; part < DARKBN_BLOCK; part += DARKBN_W)
                darkbn_winograd_tile_out(m, 0, from + p * DARKBN_TILE_FILTERS, w->out_step, &target, part);
        }
        darkbn_strip_out(strip, m, columns, &pass->out, run.image, block, run.y * m, run.x * m, pass->add);
    }
}

#define DARKBN_PASS_PHASES(M)                                                                                     \
    static void darkbn_pass_inputs_##M(const darkbn_winograd_pass *pass, ptrdiff_t first, ptrdiff_t count,        \
                                       ptrdiff_t block, float *region)                                            \
    {                                                                                                             \
        darkbn_pass_inputs(M, pass, first, count, block, region);                                                 \
    }                                                                                                             \
    static void darkbn_pass_outputs_##M(const darkbn_winograd_pass *pass, ptrdiff_t first, ptrdiff_t count,       \
                                        ptrdiff_t block, const float *sums)                                       \
    {                                                                                                             \
        darkbn_pass_outputs(M, pass, first, count, block, sums);                                                  \
    }
DARKBN_PASS_PHASES(2)
DARKBN_PASS_PHASES(4)
#undef DARKBN_PASS_PHASES

static void darkbn_pass_in(const darkbn_winograd_pass *pass, ptrdiff_t first, ptrdiff_t count, ptrdiff_t block,
                           float *region)
{
    (pass->w.m == 2 ? darkbn_pass_inputs_2 : darkbn_pass_inputs_4)(pass, first, count, block, region);
}

static void darkbn_pass_out(const darkbn_winograd_pass *pass, ptrdiff_t first, ptrdiff_t count, ptrdiff_t block,
                            const float *sums)
{
    (pass->w.m == 2 ? darkbn_pass_outputs_2 : darkbn_pass_outputs_4)(pass, first, count, block, sums);
}

/* All filters, transformed, as darkbn_winograd_multiply reads them. */
static void darkbn_pass_pack(const darkbn_winograd_pass *pass, float *packed, int threads)
{
    const darkbn_winograd *w = &pass->w;
    const ptrdiff_t channels = w->blocks * DARKBN_BLOCK, padded = w->filters * DARKBN_TILE_FILTERS;
    const ptrdiff_t slices = darkbn_parts_of(w->blocks, DARKBN_SLICE);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (ptrdiff_t task = 0; task < w->filters * slices; ++task) {
        const ptrdiff_t tile = task / slices, k0 = task % slices * DARKBN_SLICE * DARKBN_BLOCK;
        darkbn_transform_filters(w->m, &pass->filters, tile * DARKBN_TILE_FILTERS, k0,
                                 darkbn_least(channels - k0, DARKBN_SLICE * DARKBN_BLOCK),
                                 packed + padded + (tile * channels + k0) * DARKBN_TILE_FILTERS, padded * channels);
    }
}

/* A region by one thread, with filters that were transformed before. */
static void darkbn_pass_region(const darkbn_winograd_pass *pass, ptrdiff_t first, ptrdiff_t count, float *region)
{
    const darkbn_winograd *w = &pass->w;
    const ptrdiff_t out_blocks = darkbn_blocks(pass->g.n);
    const darkbn_winograd_region r = darkbn_winograd_whole_region(w, count, region);
    for (ptrdiff_t block = 0; block < w->blocks; ++block) darkbn_pass_in(pass, first, count, block, region);
    for (ptrdiff_t filter = 0; filter < w->filters; filter += w->chunk) {
        const ptrdiff_t last = darkbn_least(filter + w->chunk, w->filters);
        for (ptrdiff_t position = 0; position < w->positions; ++position)
            for (ptrdiff_t f = filter; f < last; ++f) darkbn_winograd_multiply(w, &r, position, f);
        const ptrdiff_t end = darkbn_least(last * DARKBN_TILE_BLOCKS, out_blocks);
        for (ptrdiff_t block = filter * DARKBN_TILE_BLOCKS; block < end; ++block)
            darkbn_pass_out(pass, first, count, block, region + w->sums);
    }
}

/* A region by all threads, with filters that were transformed before. */
static void darkbn_pass_together(const darkbn_winograd_pass *pass, ptrdiff_t first, ptrdiff_t count, float *region,
                                 int threads)
{
    const darkbn_winograd *w = &pass->w;
    const ptrdiff_t out_blocks = darkbn_blocks(pass->g.n);
    const darkbn_winograd_region r = darkbn_winograd_whole_region(w, count, region);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(dynamic)
        for (ptrdiff_t block = 0; block < w->blocks; ++block) darkbn_pass_in(pass, first, count, block, region);
#pragma omp for schedule(dynamic, 8)
        for (ptrdiff_t i = 0; i < w->positions * w->filters; ++i)
            darkbn_winograd_multiply(w, &r, i / w->filters, i % w->filters);
#pragma omp for schedule(dynamic)
        for (ptrdiff_t block = 0; block < out_blocks; ++block)
            darkbn_pass_out(pass, first, count, block, region + w->sums);
    }
}

/* A tile of filters for all tiles of a region: the filters are transformed here, a slice of channels at a time. */
static void darkbn_pass_filters(const darkbn_winograd_pass *pass, ptrdiff_t first, ptrdiff_t count, ptrdiff_t filter,
                                const float *region, float *local)
{
    const darkbn_winograd *w = &pass->w;
    static const float zeros[DARKBN_TILE_FILTERS] = {0};
    float *sums = local + pass->slice_floats;
    const ptrdiff_t slices = darkbn_parts_of(w->blocks, DARKBN_SLICE), slice = darkbn_parts_of(w->blocks, slices);
    for (ptrdiff_t start = 0; start < w->blocks; start += slice) {
        const ptrdiff_t steps = darkbn_least(slice, w->blocks - start);
        darkbn_transform_filters(w->m, &pass->filters, filter * DARKBN_TILE_FILTERS, start * DARKBN_BLOCK,
                                 steps * DARKBN_BLOCK, local, pass->filter_step);
        for (ptrdiff_t position = 0; position < w->positions; ++position) {
            const darkbn_pixels_at panels = {region + position * w->in_step + start * DARKBN_PANEL,
                                             w->blocks * DARKBN_PANEL, 0, DARKBN_PANEL};
            darkbn_multiply_panels(count, steps, panels, local + position * pass->filter_step, NULL,
                                   sums + position * w->out_step, start > 0 ? NULL : zeros);
        }
    }
    const ptrdiff_t end = darkbn_least((filter + 1) * DARKBN_TILE_BLOCKS, darkbn_blocks(pass->g.n));
    for (ptrdiff_t block = filter * DARKBN_TILE_BLOCKS; block < end; ++block)
        darkbn_pass_out(pass, first, count, block, sums);
}

/* Some tiles of filters, from `filter` on, for all tiles of a region, by all threads, inside a parallel region. The
 * filters of the next ones are transformed while the sums of these are transformed back. */
static void darkbn_pass_chunk(const darkbn_winograd_pass *pass, ptrdiff_t first, ptrdiff_t count, ptrdiff_t filter,
                              const float *region, float *filters, float *sums)
{
    static const float zeros[DARKBN_TILE_FILTERS] = {0};
    const darkbn_winograd *w = &pass->w;
    const ptrdiff_t tiles = darkbn_least(w->chunk, w->filters - filter), channels = w->blocks * DARKBN_BLOCK;
    const ptrdiff_t slices = darkbn_parts_of(w->blocks, DARKBN_SLICE), tile_floats = channels * DARKBN_TILE_FILTERS;
    const ptrdiff_t depth = darkbn_parts_of(w->blocks, darkbn_parts_of(w->blocks, DARKBN_GEMM_STEPS));
#pragma omp for schedule(dynamic)
    for (ptrdiff_t task = 0; task < tiles * slices; ++task) {
        const ptrdiff_t k0 = task % slices * DARKBN_SLICE * DARKBN_BLOCK;
        darkbn_transform_filters(w->m, &pass->filters, (filter + task / slices) * DARKBN_TILE_FILTERS, k0,
                                 darkbn_least(channels - k0, DARKBN_SLICE * DARKBN_BLOCK),
                                 filters + task / slices * tile_floats + k0 * DARKBN_TILE_FILTERS, pass->filter_step);
    }
#pragma omp for schedule(dynamic)
    for (ptrdiff_t position = 0; position < w->positions; ++position)
        for (ptrdiff_t tile = 0; tile < tiles; ++tile)
            for (ptrdiff_t start = 0; start < w->blocks; start += depth) {
                const darkbn_pixels_at panels = {region + position * w->in_step + start * DARKBN_PANEL,
                                                 w->blocks * DARKBN_PANEL, 0, DARKBN_PANEL};
                const float *here = filters + position * pass->filter_step + tile * tile_floats
                                    + start * DARKBN_BLOCK * DARKBN_TILE_FILTERS;
                const ptrdiff_t steps = darkbn_least(depth, w->blocks - start);
                darkbn_multiply_panels(count, steps, panels, here, here + steps * DARKBN_BLOCK * DARKBN_TILE_FILTERS,
                                       sums + position * w->out_step + tile * w->region * DARKBN_TILE_FILTERS,
                                       start > 0 ? NULL : zeros);
            }
    const ptrdiff_t end = darkbn_least((filter + tiles) * DARKBN_TILE_BLOCKS, darkbn_blocks(pass->g.n));
#pragma omp for schedule(dynamic) nowait
    for (ptrdiff_t block = filter * DARKBN_TILE_BLOCKS; block < end; ++block)
        darkbn_pass_out(pass, first, count, block, sums);
}

/* A region by all threads, with filters that are transformed here. */
static void darkbn_pass_shared(const darkbn_winograd_pass *pass, ptrdiff_t first, ptrdiff_t count, float *region,
                               float *local, int threads)
{
    const darkbn_winograd *w = &pass->w;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(dynamic)
        for (ptrdiff_t block = 0; block < w->blocks; ++block) darkbn_pass_in(pass, first, count, block, region);
        if (pass->when == DARKBN_FILTERS_OWN) {
#pragma omp for schedule(dynamic)
            for (ptrdiff_t filter = 0; filter < w->filters; ++filter)
                darkbn_pass_filters(pass, first, count, filter, region, local + DARKBN_THREAD * pass->local);
        } else {
            for (ptrdiff_t filter = 0; filter < w->filters; filter += w->chunk)
                darkbn_pass_chunk(pass, first, count, filter, region, local, local + pass->slice_floats);
        }
    }
}

/* `workspace` has darkbn_winograd_pass_floats() floats. */
static void darkbn_winograd_pass_run(darkbn_winograd_pass *pass, float *workspace, int threads)
{
    const darkbn_winograd *w = &pass->w;
    const int before = pass->when == DARKBN_FILTERS_BEFORE;
    float *packed = darkbn_line_start(workspace), *shared = packed + darkbn_rounded(pass->packed, DARKBN_LINE);
    pass->g.packed = packed;
    darkbn_pack_biases(pass->biases, pass->g.n, w->filters * DARKBN_TILE_FILTERS, packed);
    if (before) darkbn_pass_pack(pass, packed, threads);
    const ptrdiff_t regions = darkbn_parts_of(w->tiles, w->region);
    if (before && !w->shared) {
#pragma omp parallel for schedule(dynamic) num_threads(threads)
        for (ptrdiff_t i = 0; i < regions; ++i)
            darkbn_pass_region(pass, i * w->region, darkbn_least(w->region, w->tiles - i * w->region),
                               shared + pass->shared + DARKBN_THREAD * pass->local);
        return;
    }
    for (ptrdiff_t first = 0; first < w->tiles; first += w->region) {
        const ptrdiff_t count = darkbn_least(w->region, w->tiles - first);
        if (before)
            darkbn_pass_together(pass, first, count, shared, threads);
        else
            darkbn_pass_shared(pass, first, count, shared, shared + w->positions * w->in_step, threads);
    }
}

#endif
