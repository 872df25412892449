/* Winograd convolutions of blocked maps: 3x3, stride 1, in tiles of 2x2 or 4x4 outputs.
 *
 * A tile of m x m outputs takes (m + 2)^2 multiplications a channel and filter instead of 9 m^2 (Lavin and Gray 2015,
 * arXiv:1509.09308). Points: 0, 1, -1, infinity for m = 2; 0, +-sqrt(1/2), +-sqrt(2), infinity for m = 4, with a third
 * of the error of the usual 0, +-1, +-2 (1.3e-6 of max|y| at 128 channels; direct sums have 0.3e-6). Tiles of 6x6 have
 * 7.6e-6 with the best points, too much for a network.
 *
 * Three phases per region of tiles: transform the input, one product of matrices per position, transform back. A large
 * map is cut in regions that fit a core's cache, one thread each; in a small one, and where filters are so many that
 * they should not be read for every region, all threads share every phase. */
#ifndef DARKBN_BLOCKED_WINOGRAD_H
#define DARKBN_BLOCKED_WINOGRAD_H

#include "darkbn/blocked_gemm.h"

#define DARKBN_WINOGRAD_A 0.70710678118654752440 /* A * A = 1/2, B * B = 2, A * B = 1 */
#define DARKBN_WINOGRAD_B 1.41421356237309504880
#define DARKBN_WINOGRAD_FLOATS 98304 /* of a region, so that it stays in the second-level cache */
#define DARKBN_WINOGRAD_SUMS 36864   /* of these, the sums of some filters */
#define DARKBN_WINOGRAD_LARGE 2097152 /* floats of filters from which on reading them again costs more than sharing */
#define DARKBN_WINOGRAD_TOGETHER 4194304 /* floats of a region that all threads share */
#define DARKBN_WINOGRAD_SIDE 6       /* largest side of a transformed tile */

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
    const float a = (float)DARKBN_WINOGRAD_A, b = (float)DARKBN_WINOGRAD_B;
    const darkbn_wide sum_a = s[1] + s[2], difference_a = s[1] - s[2];
    const darkbn_wide sum_b = s[3] + s[4], difference_b = s[3] - s[4];
    y[0] = s[0] + sum_a + sum_b;
    y[1] = a * difference_a + b * difference_b;
    y[2] = 0.5f * sum_a + 2.0f * sum_b;
    y[3] = s[5] + (0.5f * a * difference_a + 2.0f * b * difference_b);
}

/* B^T d B of one block of a tile, whose lines are `line` floats apart; position p goes to to[p * step]. */
DARKBN_INLINE void darkbn_winograd_tile_in(const int m, const float *from, ptrdiff_t line, float *to, ptrdiff_t step)
{
    darkbn_wide half[DARKBN_WINOGRAD_SIDE][DARKBN_WINOGRAD_SIDE], in[DARKBN_WINOGRAD_SIDE], out[DARKBN_WINOGRAD_SIDE];
#pragma GCC unroll 8
    for (int x = 0; x < m + 2; ++x) {
#pragma GCC unroll 8
        for (int y = 0; y < m + 2; ++y) {
            /* The lines are too short for the machine to see where they go. */
            if (x % 2 == 0 && x < m) __builtin_prefetch(from + y * line + (x + 2 * m + 2) * DARKBN_BLOCK);
            in[y] = darkbn_wide_load(from + y * line + x * DARKBN_BLOCK);
        }
        darkbn_winograd_in(m, in, out);
#pragma GCC unroll 8
        for (int y = 0; y < m + 2; ++y) half[y][x] = out[y];
    }
#pragma GCC unroll 8
    for (int y = 0; y < m + 2; ++y) {
        darkbn_winograd_in(m, half[y], out);
#pragma GCC unroll 8
        for (int x = 0; x < m + 2; ++x) darkbn_wide_store(to + (y * (m + 2) + x) * step, out[x]);
    }
}

/* Where a block of a tile goes. */
typedef struct darkbn_winograd_target {
    float *to;
    const float *add; /* residual, or NULL */
    ptrdiff_t line;   /* floats from line to line of both */
    const float *bias;
    float slope, residual_slope;
} darkbn_winograd_target;

/* A^T s A of one block of a tile plus biases, and with `finish` all that follows where the activations are lines. */
DARKBN_INLINE void darkbn_winograd_tile_out(const int m, const int finish, const float *from, ptrdiff_t step,
                                            const darkbn_winograd_target *t, int part)
{
    darkbn_wide half[DARKBN_WINOGRAD_SIDE][DARKBN_WINOGRAD_SIDE], in[DARKBN_WINOGRAD_SIDE], out[DARKBN_WINOGRAD_SIDE];
#pragma GCC unroll 8
    for (int x = 0; x < m + 2; ++x) {
#pragma GCC unroll 8
        for (int y = 0; y < m + 2; ++y) in[y] = darkbn_wide_load(from + (y * (m + 2) + x) * step + part);
        darkbn_winograd_out(m, in, out);
#pragma GCC unroll 8
        for (int y = 0; y < m; ++y) half[y][x] = out[y];
    }
#pragma GCC unroll 8
    for (int y = 0; y < m; ++y) {
        darkbn_winograd_out(m, half[y], out);
#pragma GCC unroll 8
        for (int x = 0; x < m; ++x) out[x] += darkbn_wide_load(t->bias + part);
#pragma GCC unroll 8
        for (int x = 0; finish && x < m; ++x) out[x] = darkbn_bend(out[x], t->slope);
        if (finish && t->add)
#pragma GCC unroll 8
            for (int x = 0; x < m; ++x)
                out[x] = darkbn_bend(out[x] + darkbn_wide_load(t->add + y * t->line + x * DARKBN_BLOCK + part),
                                     t->residual_slope);
#pragma GCC unroll 8
        for (int x = 0; x < m; ++x) darkbn_wide_store(t->to + y * t->line + x * DARKBN_BLOCK + part, out[x]);
    }
}

/* Sizes of a convolution in tiles. */
typedef struct darkbn_winograd {
    const darkbn_blocked *g;
    ptrdiff_t m, positions;
    ptrdiff_t across, down, tiles; /* of all images */
    ptrdiff_t blocks, filters;     /* blocks of channels, tiles of filters */
    ptrdiff_t region;              /* tiles of a region, a multiple of DARKBN_TILE_PIXELS */
    ptrdiff_t in_step, out_step;   /* floats from position to position, of the input and of the sums */
    ptrdiff_t chunk;               /* tiles of filters whose sums are held at a time */
    int shared;                    /* all threads work on the same region */
    ptrdiff_t sums, local;         /* floats of a region: where the sums begin, and all */
} darkbn_winograd;

/* Biases, padded to whole tiles of filters, then the transformed filters: (positions, tiles, channels, filters). */
static ptrdiff_t darkbn_winograd_packed(ptrdiff_t n, ptrdiff_t c, ptrdiff_t m)
{
    const ptrdiff_t padded = darkbn_rounded(n, DARKBN_TILE_FILTERS);
    return padded * (1 + (m + 2) * (m + 2) * darkbn_blocks(c) * DARKBN_BLOCK);
}

/* At least n floats, an odd number of cache lines: positions would otherwise share few sets of a cache. */
DARKBN_INLINE ptrdiff_t darkbn_odd_lines(ptrdiff_t n)
{
    return (darkbn_parts_of(n, DARKBN_LINE) | 1) * DARKBN_LINE;
}

static darkbn_winograd darkbn_winograd_of(const darkbn_blocked *g, ptrdiff_t m, int threads)
{
    darkbn_winograd w = {g, m, (m + 2) * (m + 2), darkbn_parts_of(g->out_w, m), darkbn_parts_of(g->out_h, m)};
    w.tiles = g->batch * w.across * w.down;
    w.blocks = darkbn_blocks(g->c);
    w.filters = darkbn_parts_of(g->n, DARKBN_TILE_FILTERS);
    const ptrdiff_t each = w.positions * (w.blocks * DARKBN_BLOCK + w.filters * DARKBN_TILE_FILTERS);
    const ptrdiff_t most = darkbn_rounded(darkbn_most(DARKBN_WINOGRAD_FLOATS / darkbn_most(each, 1), 24),
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
    w.local = w.sums + w.positions * w.out_step;
    return w;
}

/* u = G g of one line of a filter. */
static void darkbn_winograd_filter(ptrdiff_t m, const double *g, ptrdiff_t step, double *u, ptrdiff_t out_step)
{
    static const double points[2][3] = {{1.0, 0, 0}, {DARKBN_WINOGRAD_A, DARKBN_WINOGRAD_B, 0}};
    const double *p = points[m == 4], g0 = g[0], g1 = g[step], g2 = g[2 * step];
    ptrdiff_t i = 0;
    /* Row of point p: (1, p, p^2) / the product of its distances to the other points; for p = 0 that is 1 (m = 2: -1,
     * with the sign left to darkbn_winograd_in). */
    u[i++ * out_step] = g0;
    for (int k = 0; k < (m == 4 ? 2 : 1); ++k) {
        const double other = m == 4 ? p[1 - k] : 0, square = p[k] * p[k];
        const double scale = 1.0 / (2 * square * (m == 4 ? square - other * other : 1.0));
        u[i++ * out_step] = (g0 + p[k] * g1 + square * g2) * scale;
        u[i++ * out_step] = (g0 - p[k] * g1 + square * g2) * scale;
    }
    u[i * out_step] = g2;
}

static void darkbn_winograd_pack(const float *weights, const float *biases, ptrdiff_t n, ptrdiff_t c, ptrdiff_t m,
                                 float *packed, int threads)
{
    const ptrdiff_t side = m + 2, padded = darkbn_rounded(n, DARKBN_TILE_FILTERS);
    const ptrdiff_t channels = darkbn_blocks(c) * DARKBN_BLOCK;
    darkbn_pack_biases(biases, n, padded, packed);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (ptrdiff_t tile = 0; tile < padded / DARKBN_TILE_FILTERS; ++tile) {
        for (ptrdiff_t k = 0; k < channels; ++k) {
            for (ptrdiff_t lane = 0; lane < DARKBN_TILE_FILTERS; ++lane) {
                const ptrdiff_t f = tile * DARKBN_TILE_FILTERS + lane;
                double g[9] = {0}, half[3 * DARKBN_WINOGRAD_SIDE], u[DARKBN_WINOGRAD_SIDE * DARKBN_WINOGRAD_SIDE];
                if (f < n && k < c)
                    for (int i = 0; i < 9; ++i) g[i] = weights[(f * c + k) * 9 + i];
                for (int j = 0; j < 3; ++j) darkbn_winograd_filter(m, g + j, 3, half + j, 3);
                for (ptrdiff_t i = 0; i < side; ++i) darkbn_winograd_filter(m, half + 3 * i, 1, u + i * side, 1);
                float *to = packed + padded + (tile * channels + k) * DARKBN_TILE_FILTERS + lane;
                for (ptrdiff_t p = 0; p < side * side; ++p) to[p * padded * channels] = (float)u[p];
            }
        }
    }
}

/* Input tile `tile` of block `block`, transformed. */
DARKBN_INLINE void darkbn_winograd_input(const int m, const darkbn_winograd *w, ptrdiff_t tile, ptrdiff_t block,
                                         float *to)
{
    const darkbn_blocked *g = w->g;
    const ptrdiff_t image = tile / (w->across * w->down), y = tile / w->across % w->down * m - g->pad;
    const ptrdiff_t x = tile % w->across * m - g->pad;
    const float *plane = g->x.data + image * g->x.image + block * g->x.plane;
    const float *from = plane + (y * g->w + x) * DARKBN_BLOCK;
    float patch[DARKBN_WINOGRAD_SIDE * DARKBN_WINOGRAD_SIDE * DARKBN_BLOCK];
    ptrdiff_t line = g->w * DARKBN_BLOCK;
    if (y < 0 || x < 0 || y + m + 2 > g->h || x + m + 2 > g->w) {
        memset(patch, 0, sizeof patch);
        const ptrdiff_t left = darkbn_most(-x, 0), right = darkbn_least(g->w - x, m + 2);
        for (ptrdiff_t i = darkbn_most(-y, 0); i < darkbn_least(g->h - y, m + 2); ++i)
            for (ptrdiff_t j = left; j < right; ++j)
                darkbn_copy_block(patch + (i * (m + 2) + j) * DARKBN_BLOCK,
                                  plane + ((y + i) * g->w + x + j) * DARKBN_BLOCK);
        from = patch;
        line = (m + 2) * DARKBN_BLOCK;
    }
    for (int part = 0; part < DARKBN_BLOCK; part += DARKBN_W)
        darkbn_winograd_tile_in(m, from + part, line, to + part, w->in_step);
}

/* Lane `p` of a region, as output tile `tile`, block `block`. */
DARKBN_INLINE void darkbn_winograd_output(const int m, const darkbn_winograd *w, ptrdiff_t tile, ptrdiff_t block,
                                          ptrdiff_t p, const float *sums)
{
    const darkbn_blocked *g = w->g;
    const ptrdiff_t image = tile / (w->across * w->down), y = tile / w->across % w->down * m;
    const ptrdiff_t x = tile % w->across * m, width = darkbn_least(m, g->out_w - x);
    const float *bias = g->packed + block * DARKBN_BLOCK;
    const float *from = sums + (block / DARKBN_TILE_BLOCKS % w->chunk * w->region + p) * DARKBN_TILE_FILTERS
                        + block % DARKBN_TILE_BLOCKS * DARKBN_BLOCK;
    const ptrdiff_t at = (y * g->out_w + x) * DARKBN_BLOCK;
    const darkbn_finish *f = &g->finish;
    float pixels[16 * DARKBN_BLOCK];
    if (width == m && y + m <= g->out_h && f->slope >= 0 && (!f->residual.data || f->residual_slope >= 0)) {
        const darkbn_winograd_target target = {
            f->out.data + image * f->out.image + block * f->out.plane + at,
            f->residual.data ? f->residual.data + image * f->residual.image + block * f->residual.plane + at : NULL,
            g->out_w * DARKBN_BLOCK, bias, f->slope, f->residual_slope};
        for (int part = 0; part < DARKBN_BLOCK; part += DARKBN_W)
            darkbn_winograd_tile_out(m, 1, from, w->out_step, &target, part);
        return;
    }
    const darkbn_winograd_target beside = {pixels, NULL, m * DARKBN_BLOCK, bias, 1, 1};
    for (int part = 0; part < DARKBN_BLOCK; part += DARKBN_W)
        darkbn_winograd_tile_out(m, 0, from, w->out_step, &beside, part);
    darkbn_finish_sums(f, pixels, m * m * DARKBN_BLOCK);
    for (ptrdiff_t i = 0; i < darkbn_least(m, g->out_h - y); ++i)
        darkbn_finish_store(f, image, block, (y + i) * g->out_w + x, width, pixels + i * m * DARKBN_BLOCK,
                            DARKBN_BLOCK);
}

#define DARKBN_WINOGRAD_PHASES(M)                                                                                 \
    static void darkbn_winograd_inputs_##M(const darkbn_winograd *w, ptrdiff_t first, ptrdiff_t count,            \
                                           ptrdiff_t block, float *region)                                        \
    {                                                                                                             \
        const ptrdiff_t panels = darkbn_panels(count);                                                            \
        for (ptrdiff_t i = 0; i < panels; ++i) {                                                                  \
            const ptrdiff_t start = darkbn_panel_start(i, panels, count);                                         \
            const ptrdiff_t rows = darkbn_panel_start(i + 1, panels, count) - start;                              \
            float *panel = region + (i * w->blocks + block) * DARKBN_PANEL;                                       \
            for (ptrdiff_t p = 0; p < rows; ++p)                                                                  \
                darkbn_winograd_input(M, w, first + start + p, block, panel + p * DARKBN_BLOCK);                  \
        }                                                                                                         \
    }                                                                                                             \
    static void darkbn_winograd_outputs_##M(const darkbn_winograd *w, ptrdiff_t first, ptrdiff_t count,           \
                                            ptrdiff_t block, const float *sums)                                   \
    {                                                                                                             \
        for (ptrdiff_t p = 0; p < count; ++p) darkbn_winograd_output(M, w, first + p, block, p, sums);            \
    }
DARKBN_WINOGRAD_PHASES(2)
DARKBN_WINOGRAD_PHASES(4)
#undef DARKBN_WINOGRAD_PHASES

static void darkbn_winograd_inputs(const darkbn_winograd *w, ptrdiff_t first, ptrdiff_t count, ptrdiff_t block,
                                   float *region)
{
    (w->m == 2 ? darkbn_winograd_inputs_2 : darkbn_winograd_inputs_4)(w, first, count, block, region);
}

static void darkbn_winograd_outputs(const darkbn_winograd *w, ptrdiff_t first, ptrdiff_t count, ptrdiff_t block,
                                    const float *sums)
{
    (w->m == 2 ? darkbn_winograd_outputs_2 : darkbn_winograd_outputs_4)(w, first, count, block, sums);
}

/* Products of one position: tile `filter` of the filters times `count` tiles of the region. */
static void darkbn_winograd_multiply(const darkbn_winograd *w, ptrdiff_t count, ptrdiff_t position, ptrdiff_t filter,
                                     float *region)
{
    const ptrdiff_t padded = w->filters * DARKBN_TILE_FILTERS, channels = w->blocks * DARKBN_BLOCK;
    const ptrdiff_t depth = darkbn_parts_of(w->blocks, darkbn_parts_of(w->blocks, DARKBN_GEMM_STEPS));
    const float *b = w->g->packed + padded + (position * w->filters + filter) * channels * DARKBN_TILE_FILTERS;
    const float *a = region + position * w->in_step;
    static const float zeros[DARKBN_TILE_FILTERS] = {0};
    float *sums = region + w->sums + position * w->out_step + filter % w->chunk * w->region * DARKBN_TILE_FILTERS;
    for (ptrdiff_t start = 0; start < w->blocks; start += depth) {
        const ptrdiff_t steps = darkbn_least(depth, w->blocks - start);
        /* In memory the next steps or the next tile of filters follow. */
        const float *here = b + start * DARKBN_BLOCK * DARKBN_TILE_FILTERS;
        const darkbn_pixels_at panels = {a + start * DARKBN_PANEL, w->blocks * DARKBN_PANEL, 0, DARKBN_PANEL};
        darkbn_multiply_panels(count, steps, panels, here, here + steps * DARKBN_BLOCK * DARKBN_TILE_FILTERS,
                               sums, start > 0 ? NULL : zeros);
    }
}

/* A region by one thread. */
static void darkbn_winograd_region(const darkbn_winograd *w, ptrdiff_t first, ptrdiff_t count, float *region)
{
    for (ptrdiff_t block = 0; block < w->blocks; ++block) darkbn_winograd_inputs(w, first, count, block, region);
    for (ptrdiff_t filter = 0; filter < w->filters; filter += w->chunk) {
        const ptrdiff_t last = darkbn_least(filter + w->chunk, w->filters);
        for (ptrdiff_t position = 0; position < w->positions; ++position)
            for (ptrdiff_t f = filter; f < last; ++f) darkbn_winograd_multiply(w, count, position, f, region);
        const ptrdiff_t blocks = darkbn_least(last * DARKBN_TILE_BLOCKS, darkbn_blocks(w->g->n));
        for (ptrdiff_t block = filter * DARKBN_TILE_BLOCKS; block < blocks; ++block)
            darkbn_winograd_outputs(w, first, count, block, region + w->sums);
    }
}

/* A region by all threads. */
static void darkbn_winograd_together(const darkbn_winograd *w, ptrdiff_t first, ptrdiff_t count, float *region,
                                     int threads)
{
    const ptrdiff_t products = w->positions * w->filters, out_blocks = darkbn_blocks(w->g->n);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(dynamic)
        for (ptrdiff_t block = 0; block < w->blocks; ++block) darkbn_winograd_inputs(w, first, count, block, region);
#pragma omp for schedule(dynamic, 8)
        for (ptrdiff_t i = 0; i < products; ++i)
            darkbn_winograd_multiply(w, count, i / w->filters, i % w->filters, region);
#pragma omp for schedule(dynamic)
        for (ptrdiff_t block = 0; block < out_blocks; ++block)
            darkbn_winograd_outputs(w, first, count, block, region + w->sums);
    }
}

static ptrdiff_t darkbn_winograd_floats(const darkbn_blocked *g, ptrdiff_t m, int threads)
{
    const darkbn_winograd w = darkbn_winograd_of(g, m, threads);
    return (w.shared ? 1 : threads) * w.local + DARKBN_LINE;
}

static void darkbn_winograd_run(const darkbn_blocked *g, ptrdiff_t m, float *workspace, int threads)
{
    const darkbn_winograd w = darkbn_winograd_of(g, m, threads);
    const ptrdiff_t regions = darkbn_parts_of(w.tiles, w.region);
    float *local = darkbn_line_start(workspace);
    if (w.shared) {
        for (ptrdiff_t first = 0; first < w.tiles; first += w.region)
            darkbn_winograd_together(&w, first, darkbn_least(w.region, w.tiles - first), local, threads);
        return;
    }
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (ptrdiff_t i = 0; i < regions; ++i)
        darkbn_winograd_region(&w, i * w.region, darkbn_least(w.region, w.tiles - i * w.region),
                               local + DARKBN_THREAD * w.local);
}

#endif
