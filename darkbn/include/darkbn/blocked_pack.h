/* Filters next to each other, as the register tiles want them: what every packing is made of. */
#ifndef DARKBN_BLOCKED_PACK_H
#define DARKBN_BLOCKED_PACK_H

#include "darkbn/blocked_tile.h"

#define DARKBN_PACK_FLOATS 64 /* of each filter at a time: with those of a tile they stay in the first-level cache */

DARKBN_INLINE void darkbn_pack_biases(const float *biases, ptrdiff_t filters, ptrdiff_t padded, float *to)
{
    for (ptrdiff_t f = 0; f < padded; ++f) to[f] = biases && f < filters ? biases[f] : 0.0f;
}

/* Floats [start, start + count) of the filters [first, first + DARKBN_TILE_FILTERS) of n, `length` floats each:
 * to[i * DARKBN_TILE_FILTERS + filter], zeros where there are none. */
DARKBN_INLINE void darkbn_pack_tile(const float *filters, ptrdiff_t n, ptrdiff_t length, ptrdiff_t first,
                                    ptrdiff_t start, ptrdiff_t count, float *to)
{
    for (ptrdiff_t at = 0; at < count; at += DARKBN_PACK_FLOATS) {
        const ptrdiff_t here = darkbn_least(DARKBN_PACK_FLOATS, count - at);
        for (ptrdiff_t lane = 0; lane < DARKBN_TILE_FILTERS; ++lane) {
            const ptrdiff_t left = first + lane < n ? darkbn_most(length - start - at, 0) : 0;
            const float *from = filters + (first + lane) * length + start + at;
            float *column = to + at * DARKBN_TILE_FILTERS + lane;
            for (ptrdiff_t i = 0; i < darkbn_least(here, left); ++i) column[i * DARKBN_TILE_FILTERS] = from[i];
            for (ptrdiff_t i = left; i < here; ++i) column[i * DARKBN_TILE_FILTERS] = 0.0f;
        }
    }
}

/* n filters of `length` floats: (tiles, padded, DARKBN_TILE_FILTERS). */
static void darkbn_pack_filters(const float *filters, ptrdiff_t n, ptrdiff_t length, ptrdiff_t padded, float *to,
                                int threads)
{
    const ptrdiff_t tiles = darkbn_parts_of(n, DARKBN_TILE_FILTERS);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (ptrdiff_t tile = 0; tile < tiles; ++tile)
        darkbn_pack_tile(filters, n, length, tile * DARKBN_TILE_FILTERS, 0, padded,
                         to + tile * padded * DARKBN_TILE_FILTERS);
}

#endif
