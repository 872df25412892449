/* Convolutions of blocked maps as products of matrices: any size, stride, dilation, padding and groups.
 *
 * A task packs the pixels that some outputs need, tap by tap, into panels that stay in the second-level cache, and runs
 * the register tile over them: the matrix of im2col never exists. Groups whose channels do not fill blocks are merged
 * until they do, with zeros between them. */
#ifndef DARKBN_BLOCKED_GEMM_H
#define DARKBN_BLOCKED_GEMM_H

#include "darkbn/blocked_pack.h"

#define DARKBN_GEMM_PANELS (96 / DARKBN_TILE_PIXELS) /* most panels of a task */
#define DARKBN_GEMM_PIXELS (DARKBN_GEMM_PANELS * DARKBN_TILE_PIXELS)
#define DARKBN_GEMM_STEPS 32                         /* steps whose filters stay in the first-level cache */
#define DARKBN_GEMM_TILES (256 / DARKBN_TILE_FILTERS) /* most tiles of filters whose sums wait for further steps */

/* Sizes that follow from a convolution. */
typedef struct darkbn_gemm_sizes {
    ptrdiff_t groups, channels, filters;        /* after merging; channels and filters per group */
    ptrdiff_t merged, blocks, taps, steps, tiles;
} darkbn_gemm_sizes;

static darkbn_gemm_sizes darkbn_sizes_of(ptrdiff_t n, ptrdiff_t cg, ptrdiff_t size, ptrdiff_t groups)
{
    darkbn_gemm_sizes s;
    const ptrdiff_t ng = n / darkbn_most(groups, 1);
    s.merged = 1;
    while (s.merged < groups && (s.merged * cg % DARKBN_BLOCK || s.merged * ng % DARKBN_BLOCK)) s.merged *= 2;
    if (s.merged > groups || groups % s.merged) s.merged = groups;
    s.groups = groups / darkbn_most(s.merged, 1);
    s.channels = cg * s.merged;
    s.filters = ng * s.merged;
    s.blocks = darkbn_blocks(s.channels);
    s.taps = size * size;
    s.steps = s.blocks * s.taps;
    s.tiles = darkbn_parts_of(s.filters, DARKBN_TILE_FILTERS);
    return s;
}

/* Biases, padded to whole tiles, then filters: (groups, tiles, steps, 8, DARKBN_TILE_FILTERS). */
static ptrdiff_t darkbn_gemm_packed(const darkbn_gemm_sizes *s)
{
    return s->groups * s->tiles * DARKBN_TILE_FILTERS * (1 + s->steps * DARKBN_BLOCK);
}

/* Channels [first, first + channels) of each filter's own, of a tile of filters whose steps begin at `to`. */
static void darkbn_gemm_pack_channels(const darkbn_gemm_sizes *s, const float *weights, ptrdiff_t filter,
                                      ptrdiff_t first, ptrdiff_t channels, float *to)
{
    const ptrdiff_t cg = s->channels / s->merged, ng = s->filters / s->merged;
    const ptrdiff_t last = darkbn_least(filter + DARKBN_TILE_FILTERS, s->filters);
    for (ptrdiff_t f = filter; f < last; ++f) {
        const float *from = weights + (f * cg + first) * s->taps;
        for (ptrdiff_t k = f / ng * cg + first; k < f / ng * cg + first + channels; ++k, from += s->taps) {
            const ptrdiff_t at = k / DARKBN_BLOCK * s->taps * DARKBN_BLOCK + k % DARKBN_BLOCK;
            float *column = to + at * DARKBN_TILE_FILTERS + f - filter;
            for (ptrdiff_t tap = 0; tap < s->taps; ++tap)
                column[tap * DARKBN_BLOCK * DARKBN_TILE_FILTERS] = from[tap];
        }
    }
}

static void darkbn_gemm_pack(const darkbn_gemm_sizes *s, const float *weights, const float *biases, float *packed,
                             int threads)
{
    const ptrdiff_t padded = s->tiles * DARKBN_TILE_FILTERS, cg = s->channels / s->merged;
    const ptrdiff_t tile_floats = s->steps * DARKBN_BLOCK * DARKBN_TILE_FILTERS;
    const int gaps = s->merged > 1 || s->channels % DARKBN_BLOCK || s->filters % DARKBN_TILE_FILTERS;
    for (ptrdiff_t g = 0; g < s->groups; ++g)
        darkbn_pack_biases(biases ? biases + g * s->filters : NULL, s->filters, padded, packed + g * padded);
    float *first = packed + s->groups * padded;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (ptrdiff_t tile = 0; tile < s->groups * s->tiles; ++tile) {
        float *to = first + tile * tile_floats;
        const float *group = weights + tile / s->tiles * s->filters * cg * s->taps;
        if (gaps) memset(to, 0, (size_t)tile_floats * sizeof *to);
        for (ptrdiff_t c = 0; c < cg; c += DARKBN_BLOCK)
            darkbn_gemm_pack_channels(s, group, tile % s->tiles * DARKBN_TILE_FILTERS, c,
                                      darkbn_least(DARKBN_BLOCK, cg - c), to);
    }
}

/* How the work is cut. Sums do not depend on it. */
typedef struct darkbn_gemm_cut {
    ptrdiff_t panels, pixels;       /* of an image: tasks, and most pixels of each */
    ptrdiff_t chunks, tiles;        /* of the filters: tasks, and tiles of each */
    ptrdiff_t depth;                /* steps at a time */
    ptrdiff_t sums, offsets, local; /* floats of a thread: where these begin, and all */
} darkbn_gemm_cut;

/* Tiles of filters of a task, so that the last tasks keep no thread waiting: at least `least` tasks for the filters of
 * each of `items` pieces of the pixels. */
static ptrdiff_t darkbn_gemm_chunk(ptrdiff_t tiles, ptrdiff_t items, ptrdiff_t least, int threads)
{
    ptrdiff_t best = darkbn_most(darkbn_parts_of(tiles, darkbn_most(least, 1)), 1), most = PTRDIFF_MAX;
    for (ptrdiff_t chunk = best; chunk > 0; --chunk) {
        const ptrdiff_t longest = darkbn_parts_of(items * darkbn_parts_of(tiles, chunk), threads) * chunk;
        if (longest >= most) continue;
        most = longest;
        best = chunk;
    }
    return best;
}

static darkbn_gemm_cut darkbn_cut_gemm(const darkbn_gemm_sizes *s, ptrdiff_t batch, ptrdiff_t pixels, int threads)
{
    darkbn_gemm_cut cut;
    const ptrdiff_t panels = darkbn_most(darkbn_parts_of(pixels, DARKBN_TILE_PIXELS), 1);
    const ptrdiff_t rounds = darkbn_most(darkbn_parts_of(s->steps, DARKBN_GEMM_STEPS), 1);
    const ptrdiff_t items = darkbn_most(batch * s->groups, 1), wanted = threads > 1 ? 4 * (ptrdiff_t)threads : 1;
    cut.depth = darkbn_most(darkbn_parts_of(s->steps, rounds), 1);
    cut.panels = darkbn_parts_of(panels, DARKBN_GEMM_PANELS);
    cut.chunks = rounds > 1 ? darkbn_parts_of(s->tiles, DARKBN_GEMM_TILES) : 1;
    cut.chunks = darkbn_most(cut.chunks, darkbn_least(darkbn_parts_of(wanted, items * cut.panels), s->tiles));
    cut.tiles = darkbn_gemm_chunk(s->tiles, items * cut.panels, cut.chunks, threads);
    cut.chunks = darkbn_parts_of(s->tiles, cut.tiles);
    cut.pixels = darkbn_parts_of(panels, darkbn_most(cut.panels, 1)) * DARKBN_TILE_PIXELS;
    cut.sums = cut.pixels * cut.depth * DARKBN_BLOCK;
    cut.offsets = cut.sums + cut.pixels * DARKBN_TILE_FILTERS * (rounds > 1 ? cut.tiles : 1);
    cut.local = darkbn_rounded(cut.offsets + s->taps * cut.pixels, DARKBN_LINE);
    return cut;
}

static ptrdiff_t darkbn_gemm_floats(const darkbn_gemm_sizes *s, ptrdiff_t batch, ptrdiff_t pixels, int threads)
{
    return threads * darkbn_cut_gemm(s, batch, pixels, threads).local + DARKBN_LINE;
}

/* offsets[tap * pixels + p]: the pixel of a plane that output p of `first`... reads at that tap, -1 outside. */
static void darkbn_pixel_offsets(const darkbn_blocked *g, ptrdiff_t first, ptrdiff_t pixels, int32_t *offsets)
{
    ptrdiff_t out_y = first / g->out_w, out_x = first % g->out_w;
    for (ptrdiff_t p = 0; p < pixels; ++p) {
        const ptrdiff_t y = out_y * g->stride_y - g->pad, x = out_x * g->stride_x - g->pad;
        if (++out_x == g->out_w) {
            out_x = 0;
            ++out_y;
        }
        for (ptrdiff_t i = 0; i < g->size; ++i) {
            const ptrdiff_t row = y + i * g->dilation;
            for (ptrdiff_t j = 0; j < g->size; ++j) {
                const ptrdiff_t column = x + j * g->dilation;
                const int inside = row >= 0 && row < g->h && column >= 0 && column < g->w;
                offsets[(i * g->size + j) * pixels + p] = inside ? (int32_t)(row * g->w + column) : -1;
            }
        }
    }
}

DARKBN_INLINE void darkbn_copy_block(float *to, const float *from)
{
    for (int part = 0; part < DARKBN_BLOCK; part += DARKBN_W)
        darkbn_wide_store(to + part, darkbn_wide_load(from + part));
}

/* Steps [start, start + depth) of `pixels` pixels: panel[(step * DARKBN_TILE_PIXELS + pixel) * 8 + channel]. */
static void darkbn_pack_panels(const darkbn_blocked *g, const darkbn_gemm_sizes *s, const float *x, ptrdiff_t pixels,
                               ptrdiff_t start, ptrdiff_t depth, const int32_t *offsets, float *to)
{
    static const float zeros[DARKBN_BLOCK] = {0};
    const ptrdiff_t panels = darkbn_panels(pixels);
    for (ptrdiff_t step = start; step < start + depth; ++step) {
        const float *plane = x + step / s->taps * g->x.plane;
        const int32_t *at = offsets + step % s->taps * pixels;
        for (ptrdiff_t i = 0; i < panels; ++i) {
            float *panel = to + (i * depth + step - start) * DARKBN_PANEL;
            const ptrdiff_t last = darkbn_panel_start(i + 1, panels, pixels);
            for (ptrdiff_t p = darkbn_panel_start(i, panels, pixels); p < last; ++p, panel += DARKBN_BLOCK)
                darkbn_copy_block(panel, at[p] < 0 ? zeros : plane + at[p] * (ptrdiff_t)DARKBN_BLOCK);
        }
    }
}

/* The sums of a tile of filters to out: block `block` is the tile's first, `blocks` of its group follow from there. */
DARKBN_INLINE void darkbn_finish_tile(const darkbn_finish *f, ptrdiff_t image, ptrdiff_t block, ptrdiff_t blocks,
                                      ptrdiff_t pixel, ptrdiff_t pixels, float *sums)
{
    darkbn_finish_sums(f, sums, pixels * DARKBN_TILE_FILTERS);
    for (ptrdiff_t i = 0; i < darkbn_least(blocks, DARKBN_TILE_BLOCKS); ++i)
        darkbn_finish_store(f, image, block + i, pixel, pixels, sums + i * DARKBN_BLOCK, DARKBN_TILE_FILTERS);
}

/* The first pixel of piece `i`: whole panels, as many in each piece but one. */
DARKBN_INLINE ptrdiff_t darkbn_gemm_first(ptrdiff_t i, ptrdiff_t pieces, ptrdiff_t pixels)
{
    const ptrdiff_t panels = darkbn_parts_of(pixels, DARKBN_TILE_PIXELS);
    return darkbn_least(i * panels / pieces * DARKBN_TILE_PIXELS, pixels);
}

static void darkbn_gemm_task(const darkbn_blocked *g, const darkbn_gemm_sizes *s, const darkbn_gemm_cut *cut,
                             ptrdiff_t image, ptrdiff_t group, ptrdiff_t piece, ptrdiff_t tile0, float *local)
{
    const ptrdiff_t all = g->out_h * g->out_w, first = darkbn_gemm_first(piece, cut->panels, all);
    const ptrdiff_t pixels = darkbn_gemm_first(piece + 1, cut->panels, all) - first;
    const ptrdiff_t tiles = darkbn_least(cut->tiles, s->tiles - tile0);
    const ptrdiff_t tile_floats = s->steps * DARKBN_BLOCK * DARKBN_TILE_FILTERS;
    const ptrdiff_t group_blocks = darkbn_blocks(s->filters);
    const float *x = g->x.data + image * g->x.image + group * s->blocks * g->x.plane;
    const float *bias = g->packed + group * s->tiles * DARKBN_TILE_FILTERS;
    const float *filters = g->packed + s->groups * s->tiles * DARKBN_TILE_FILTERS + group * s->tiles * tile_floats;
    int32_t *offsets = (int32_t *)(local + cut->offsets);
    /* Each output reads the pixel at its own place: nothing is packed. */
    const int in_place = s->taps == 1 && g->stride_y == 1 && g->stride_x == 1 && g->pad == 0 && g->h == g->out_h
                      && g->w == g->out_w;
    if (!in_place) darkbn_pixel_offsets(g, first, pixels, offsets);
    for (ptrdiff_t start = 0; start < s->steps; start += cut->depth) {
        const ptrdiff_t depth = darkbn_least(cut->depth, s->steps - start);
        darkbn_pixels_at a = {local, depth * DARKBN_PANEL, 0, DARKBN_PANEL};
        if (in_place) {
            const darkbn_pixels_at there = {x + start * g->x.plane + first * DARKBN_BLOCK, 0, DARKBN_BLOCK, g->x.plane};
            a = there;
        } else {
            darkbn_pack_panels(g, s, x, pixels, start, depth, offsets, local);
        }
        for (ptrdiff_t t = tile0; t < tile0 + tiles; ++t) {
            const int several = cut->depth < s->steps;
            float *sums = local + cut->sums + (several ? (t - tile0) * cut->pixels * DARKBN_TILE_FILTERS : 0);
            const float *b = filters + t * tile_floats + start * DARKBN_BLOCK * DARKBN_TILE_FILTERS;
            darkbn_multiply_panels(pixels, depth, a, b, t + 1 < tile0 + tiles ? b + tile_floats : NULL, sums,
                                   start > 0 ? NULL : bias + t * DARKBN_TILE_FILTERS);
            if (start + depth == s->steps)
                darkbn_finish_tile(&g->finish, image, group * group_blocks + t * DARKBN_TILE_BLOCKS,
                                   group_blocks - t * DARKBN_TILE_BLOCKS, first, pixels, sums);
        }
    }
}

static void darkbn_gemm_run(const darkbn_blocked *g, float *workspace, int threads)
{
    const darkbn_gemm_sizes s = darkbn_sizes_of(g->n, g->c / g->groups, g->size, g->groups);
    const darkbn_gemm_cut cut = darkbn_cut_gemm(&s, g->batch, g->out_h * g->out_w, threads);
    const ptrdiff_t tasks = g->batch * s.groups * cut.panels * cut.chunks;
    float *local = darkbn_line_start(workspace);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (ptrdiff_t task = 0; task < tasks; ++task) {
        const ptrdiff_t tile = task % cut.chunks * cut.tiles, piece = task / cut.chunks % cut.panels;
        const ptrdiff_t item = task / (cut.chunks * cut.panels);
        darkbn_gemm_task(g, &s, &cut, item / s.groups, item % s.groups, piece, tile, local + DARKBN_THREAD * cut.local);
    }
}

#endif
