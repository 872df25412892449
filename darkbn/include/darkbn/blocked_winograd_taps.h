/* Winograd convolutions whose filters stay as they are, nine taps each, and are transformed where they are needed.
 *
 * Transformed filters have 36 floats for nine taps. Where there are many filters and few tiles, reading those from
 * memory takes longer than computing with them, and they are most of what a network takes. Here a task has a tile of
 * filters and all tiles of a region: it transforms the taps of a few channels into the second-level cache, multiplies at every
 * position, goes on with the next channels, and at last transforms the sums back. With 16 tiles (a map of 13x13) the
 * filters' transform takes a sixth of the time of the products, and a quarter of the bytes comes from memory. */
#ifndef DARKBN_BLOCKED_WINOGRAD_TAPS_H
#define DARKBN_BLOCKED_WINOGRAD_TAPS_H

#include "darkbn/blocked_winograd.h"

#define DARKBN_TAPS_STEPS 16       /* most steps of eight channels that are transformed at a time */
#define DARKBN_TAPS_REGION 1048576 /* floats of a transformed region, which all tasks read again */

/* Biases, then taps: (tiles, channels, 9, DARKBN_TILE_FILTERS). */
static ptrdiff_t darkbn_taps_packed(ptrdiff_t n, ptrdiff_t c)
{
    return darkbn_rounded(n, DARKBN_TILE_FILTERS) * (1 + darkbn_blocks(c) * DARKBN_BLOCK * DARKBN_TAPS);
}

static void darkbn_taps_pack(const float *weights, const float *biases, ptrdiff_t n, ptrdiff_t c, float *packed,
                             int threads)
{
    const ptrdiff_t padded = darkbn_rounded(n, DARKBN_TILE_FILTERS);
    darkbn_pack_biases(biases, n, padded, packed);
    darkbn_pack_filters(weights, n, c * DARKBN_TAPS, darkbn_blocks(c) * DARKBN_BLOCK * DARKBN_TAPS, packed + padded,
                        threads);
}

/* The convolution in tiles, and the room of a thread: sums, then transformed filters. */
typedef struct darkbn_taps {
    darkbn_winograd w;
    ptrdiff_t depth; /* steps that are transformed at a time */
    ptrdiff_t step;  /* floats from position to position of transformed filters */
    ptrdiff_t local;
} darkbn_taps;

static darkbn_taps darkbn_taps_of(const darkbn_blocked *g, int m, int threads)
{
    darkbn_taps t = {darkbn_winograd_of(g, m, threads)};
    darkbn_winograd *w = &t.w;
    const ptrdiff_t each = darkbn_most(w->positions * w->blocks * DARKBN_BLOCK, 1);
    const ptrdiff_t regions = darkbn_parts_of(w->tiles, darkbn_most(DARKBN_TAPS_REGION / each, 1));
    w->region = darkbn_rounded(darkbn_most(darkbn_parts_of(w->tiles, darkbn_most(regions, 1)), 1), DARKBN_TILE_PIXELS);
    w->chunk = 1;
    w->in_step = darkbn_odd_lines(w->region * w->blocks * DARKBN_BLOCK);
    w->out_step = darkbn_odd_lines(w->region * DARKBN_TILE_FILTERS);
    w->sums = w->places = w->positions * w->in_step; /* each thread has sums of its own */
    w->local = w->places + darkbn_winograd_places(w);
    t.depth = darkbn_parts_of(w->blocks, darkbn_parts_of(w->blocks, DARKBN_TAPS_STEPS));
    t.step = darkbn_odd_lines(t.depth * DARKBN_BLOCK * DARKBN_TILE_FILTERS);
    t.local = w->positions * (w->out_step + t.step);
    return t;
}

/* A tile of filters: all positions of the region, and their outputs. */
static void darkbn_taps_task(const darkbn_taps *t, const darkbn_winograd_region *r, ptrdiff_t filter)
{
    const darkbn_winograd *w = &t->w;
    const ptrdiff_t unit = DARKBN_BLOCK * DARKBN_TILE_FILTERS;
    const float *taps = w->g->packed + w->filters * DARKBN_TILE_FILTERS + filter * w->blocks * unit * DARKBN_TAPS;
    float *u = r->sums + w->positions * w->out_step;
    for (ptrdiff_t start = 0; start < w->blocks; start += t->depth) {
        const ptrdiff_t steps = darkbn_least(t->depth, w->blocks - start);
        darkbn_taps_transform(w->m, taps, steps * DARKBN_BLOCK, u, t->step);
        taps += steps * unit * DARKBN_TAPS;
        for (int position = 0; position < w->positions; ++position) {
            /* The taps of the next channels are asked for meanwhile, a ninth at each of the first positions. */
            const float *next = position < DARKBN_TAPS ? taps + position * steps * unit : NULL;
            darkbn_winograd_position(w, r, position / w->slots, position % w->slots, filter, start, steps,
                                     u + position * t->step, next);
        }
    }
    darkbn_winograd_outputs(w, r, filter, 0, r->count);
}

static ptrdiff_t darkbn_taps_floats(const darkbn_blocked *g, int m, int threads)
{
    const darkbn_taps t = darkbn_taps_of(g, m, threads);
    return t.w.local + threads * t.local + DARKBN_LINE;
}

static void darkbn_taps_run(const darkbn_blocked *g, int m, float *workspace, int threads)
{
    const darkbn_taps t = darkbn_taps_of(g, m, threads);
    const darkbn_winograd *w = &t.w;
    float *shared = darkbn_line_start(workspace), *local = shared + w->local;
    for (ptrdiff_t first = 0; first < w->tiles; first += w->region) {
        const darkbn_winograd_region all =
            darkbn_winograd_region_of(w, first, darkbn_least(w->region, w->tiles - first), shared);
#pragma omp parallel num_threads(threads)
        {
            darkbn_winograd_region r = all;
            r.sums = local + DARKBN_THREAD * t.local;
#pragma omp for schedule(dynamic)
            for (ptrdiff_t block = 0; block < w->blocks; ++block) darkbn_winograd_inputs(w, &r, block);
#pragma omp for schedule(dynamic)
            for (ptrdiff_t filter = 0; filter < w->filters; ++filter) darkbn_taps_task(&t, &r, filter);
        }
    }
}

#endif
