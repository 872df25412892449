/* Convolutions of plain maps of few channels, as a network's first layer, into blocked maps.
 *
 * A task copies the lines that some lines of outputs need, with zeros around them; tiles then read pixels straight from
 * there. */
#ifndef DARKBN_BLOCKED_FIRST_H
#define DARKBN_BLOCKED_FIRST_H

#include "darkbn/blocked_gemm.h"

#define DARKBN_FIRST_LINES 8    /* lines of outputs of a task */
#define DARKBN_FIRST_PIXELS 96  /* whose sums are finished together; a multiple of every tile's pixels but 14 */
#define DARKBN_FIRST_SUMS (DARKBN_FIRST_PIXELS / DARKBN_TILE_PIXELS * DARKBN_TILE_PIXELS)

/* Biases, then filters: (tiles, channels, size, size, DARKBN_TILE_FILTERS). */
static ptrdiff_t darkbn_first_packed(ptrdiff_t n, ptrdiff_t c, ptrdiff_t size)
{
    return darkbn_rounded(n, DARKBN_TILE_FILTERS) * (1 + c * size * size);
}

static void darkbn_first_pack(const float *weights, const float *biases, ptrdiff_t n, ptrdiff_t c, ptrdiff_t size,
                              float *packed)
{
    const ptrdiff_t padded = darkbn_rounded(n, DARKBN_TILE_FILTERS), taps = c * size * size;
    darkbn_pack_biases(biases, n, padded, packed);
    darkbn_pack_filters(weights, n, taps, taps, packed + padded, 1);
}

/* Floats of a copied line, of its channel, and of a thread. */
typedef struct darkbn_first_room {
    ptrdiff_t pitch, lines, channel, local;
} darkbn_first_room;

static darkbn_first_room darkbn_first_room_of(const darkbn_blocked *g)
{
    darkbn_first_room room;
    const ptrdiff_t reach = g->dilation * (g->size - 1) + 1;
    room.pitch = darkbn_rounded((darkbn_rounded(g->out_w, DARKBN_TILE_PIXELS) - 1) * g->stride_x + reach, DARKBN_LINE);
    room.lines = (darkbn_least(DARKBN_FIRST_LINES, g->out_h) - 1) * g->stride_y + reach;
    room.channel = room.lines * room.pitch;
    room.local = darkbn_rounded(g->c * room.channel + DARKBN_FIRST_SUMS * DARKBN_TILE_FILTERS, DARKBN_LINE);
    return room;
}

static ptrdiff_t darkbn_first_floats(const darkbn_blocked *g, int threads)
{
    return threads * darkbn_first_room_of(g).local + DARKBN_LINE;
}

/* The lines under outputs from y0 on, zeros outside the map. */
static void darkbn_first_copy(const darkbn_blocked *g, const darkbn_first_room *room, ptrdiff_t image, ptrdiff_t y0,
                              float *to)
{
    const ptrdiff_t pad = darkbn_least(g->pad, room->pitch), width = darkbn_least(g->w, room->pitch - pad);
    for (ptrdiff_t c = 0; c < g->c; ++c)
        for (ptrdiff_t i = 0; i < room->lines; ++i, to += room->pitch) {
            const ptrdiff_t y = y0 * g->stride_y - g->pad + i;
            if (y < 0 || y >= g->h) {
                darkbn_clear(to, room->pitch);
                continue;
            }
            darkbn_clear(to, pad);
            darkbn_copy(to + pad, g->x.data + image * g->x.image + c * g->x.plane + y * g->w, width);
            darkbn_clear(to + pad + width, room->pitch - pad - width);
        }
}

/* A tile: pixels `stride` floats apart from `from` on. `fixed` is the stride where it is a constant, else 0. */
DARKBN_INLINE void darkbn_first_tile(const int fixed, const darkbn_blocked *g, const darkbn_first_room *room,
                                     const float *from, const float *restrict b, const float *bias, float *sums)
{
    darkbn_vec acc[DARKBN_TILE_PIXELS][2];
    const ptrdiff_t stride = fixed ? fixed : g->stride_x;
#pragma GCC unroll 16
    for (int i = 0; i < DARKBN_TILE_PIXELS; ++i) {
        acc[i][0] = darkbn_load(bias);
        acc[i][1] = darkbn_load(bias + DARKBN_V);
    }
    for (ptrdiff_t c = 0; c < g->c; ++c, from += room->channel)
        for (ptrdiff_t y = 0; y < g->size; ++y) {
            const float *a = from + y * g->dilation * room->pitch;
            for (ptrdiff_t x = 0; x < g->size; ++x, a += g->dilation, b += DARKBN_TILE_FILTERS) {
                const darkbn_vec low = darkbn_load(b), high = darkbn_load(b + DARKBN_V);
#pragma GCC unroll 16
                for (int i = 0; i < DARKBN_TILE_PIXELS; ++i) {
                    const float value = a[i * stride];
                    acc[i][0] += value * low;
                    acc[i][1] += value * high;
                }
            }
        }
#pragma GCC unroll 16
    for (int i = 0; i < DARKBN_TILE_PIXELS; ++i) {
        darkbn_store(sums + i * DARKBN_TILE_FILTERS, acc[i][0]);
        darkbn_store(sums + i * DARKBN_TILE_FILTERS + DARKBN_V, acc[i][1]);
    }
}

static void darkbn_first_tiles(const darkbn_blocked *g, const darkbn_first_room *room, const float *from,
                               ptrdiff_t pixels, const float *b, const float *bias, float *sums)
{
    for (ptrdiff_t p = 0; p < pixels; p += DARKBN_TILE_PIXELS) {
        float *to = sums + p * DARKBN_TILE_FILTERS;
        if (g->stride_x == 1)
            darkbn_first_tile(1, g, room, from + p, b, bias, to);
        else if (g->stride_x == 2)
            darkbn_first_tile(2, g, room, from + 2 * p, b, bias, to);
        else
            darkbn_first_tile(0, g, room, from + p * g->stride_x, b, bias, to);
    }
}

/* Lines [y0, y0 + lines) of outputs. */
static void darkbn_first_band(const darkbn_blocked *g, const darkbn_first_room *room, ptrdiff_t image, ptrdiff_t y0,
                              float *local)
{
    const ptrdiff_t padded = darkbn_rounded(g->n, DARKBN_TILE_FILTERS), taps = g->c * g->size * g->size;
    const ptrdiff_t blocks = darkbn_blocks(g->n), lines = darkbn_least(DARKBN_FIRST_LINES, g->out_h - y0);
    float *sums = local + g->c * room->channel;
    darkbn_first_copy(g, room, image, y0, local);
    for (ptrdiff_t t = 0; t < padded / DARKBN_TILE_FILTERS; ++t) {
        const float *bias = g->packed + t * DARKBN_TILE_FILTERS;
        const float *filters = g->packed + padded + t * taps * DARKBN_TILE_FILTERS;
        for (ptrdiff_t y = 0; y < lines; ++y)
            for (ptrdiff_t x = 0; x < g->out_w; x += DARKBN_FIRST_SUMS) {
                const ptrdiff_t pixels = darkbn_least(DARKBN_FIRST_SUMS, g->out_w - x);
                darkbn_first_tiles(g, room, local + y * g->stride_y * room->pitch + x * g->stride_x, pixels, filters,
                                   bias, sums);
                darkbn_finish_tile(&g->finish, image, t * DARKBN_TILE_BLOCKS, blocks - t * DARKBN_TILE_BLOCKS,
                                   (y0 + y) * g->out_w + x, pixels, sums);
            }
    }
}

static void darkbn_first_run(const darkbn_blocked *g, float *workspace, int threads)
{
    const darkbn_first_room room = darkbn_first_room_of(g);
    const ptrdiff_t bands = darkbn_parts_of(g->out_h, DARKBN_FIRST_LINES);
    float *local = darkbn_line_start(workspace);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (ptrdiff_t task = 0; task < g->batch * bands; ++task)
        darkbn_first_band(g, &room, task / bands, task % bands * DARKBN_FIRST_LINES,
                          local + DARKBN_THREAD * room.local);
}

#endif
