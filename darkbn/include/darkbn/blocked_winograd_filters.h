/* The filters of Winograd's convolutions, transformed: G g G^T, on vectors of filters.
 *
 * Row of G of a point p: (1, p, p^2) / the product of its distances to the other points; for p = 0 that is 1 (m < 4: -1,
 * with the sign left to darkbn_winograd_in). With stride 2 the odd tap stands alone, and the others are those of x^0 and
 * x^1. */
#ifndef DARKBN_BLOCKED_WINOGRAD_FILTERS_H
#define DARKBN_BLOCKED_WINOGRAD_FILTERS_H

#include "darkbn/blocked_pack.h"

#define DARKBN_WINOGRAD_A 0.70710678118654752440 /* A * A = 1/2, B * B = 2, A * B = 1 */
#define DARKBN_WINOGRAD_B 1.41421356237309504880
#define DARKBN_WINOGRAD_HALF 3   /* m of the tiles with stride 2 */
#define DARKBN_WINOGRAD_POINTS 6 /* most points of a line */
#define DARKBN_TAPS 9

/* Points of a line. */
DARKBN_INLINE int darkbn_winograd_points(int m) { return m == DARKBN_WINOGRAD_HALF ? 5 : m + 2; }

/* u = G g of one line of filters. */
DARKBN_INLINE void darkbn_taps_line(const int m, darkbn_vec g0, darkbn_vec g1, darkbn_vec g2, darkbn_vec *u)
{
    if (m == DARKBN_WINOGRAD_HALF) {
        u[0] = g1;
        u[1] = g0;
        u[2] = 0.5f * (g0 + g2);
        u[3] = 0.5f * (g0 - g2);
        u[4] = g2;
        return;
    }
    u[0] = g0;
    u[m + 1] = g2;
    if (m == 2) {
        const darkbn_vec even = 0.5f * (g0 + g2), odd = 0.5f * g1;
        u[1] = even + odd;
        u[2] = even - odd;
        return;
    }
    const darkbn_vec even_a = (float)(-2 / 3.0) * g0 + (float)(-1 / 3.0) * g2;
    const darkbn_vec even_b = (float)(1 / 6.0) * g0 + (float)(1 / 3.0) * g2;
    const darkbn_vec odd_a = (float)(-2 / 3.0 * DARKBN_WINOGRAD_A) * g1;
    const darkbn_vec odd_b = (float)(1 / 6.0 * DARKBN_WINOGRAD_B) * g1;
    u[1] = even_a + odd_a;
    u[2] = even_a - odd_a;
    u[3] = even_b + odd_b;
    u[4] = even_b - odd_b;
}

/* G g G^T of `channels` channels of a tile of filters, taps[(channel * 9 + tap) * DARKBN_TILE_FILTERS + filter]; position
 * p goes to to[p * step + channel * DARKBN_TILE_FILTERS + filter]. */
DARKBN_INLINE void darkbn_taps_tile(const int m, const float *taps, ptrdiff_t channels, float *to, ptrdiff_t step)
{
    const int points = darkbn_winograd_points(m);
    for (ptrdiff_t part = 0; part < channels * DARKBN_TILE_FILTERS; part += DARKBN_V) {
        const ptrdiff_t channel = part / DARKBN_TILE_FILTERS, lane = part % DARKBN_TILE_FILTERS;
        const float *g = taps + channel * DARKBN_TAPS * DARKBN_TILE_FILTERS + lane;
        darkbn_vec half[3][DARKBN_WINOGRAD_POINTS], u[DARKBN_WINOGRAD_POINTS];
#pragma GCC unroll 3
        for (int j = 0; j < 3; ++j, g += DARKBN_TILE_FILTERS)
            darkbn_taps_line(m, darkbn_load(g), darkbn_load(g + 3 * DARKBN_TILE_FILTERS),
                                darkbn_load(g + 6 * DARKBN_TILE_FILTERS), half[j]);
#pragma GCC unroll 8
        for (int i = 0; i < points; ++i) {
            darkbn_taps_line(m, half[0][i], half[1][i], half[2][i], u);
#pragma GCC unroll 8
            for (int j = 0; j < points; ++j) darkbn_store(to + (i * points + j) * step + part, u[j]);
        }
    }
}

static void darkbn_taps_transform(int m, const float *taps, ptrdiff_t channels, float *to, ptrdiff_t step)
{
    if (m == 2)
        darkbn_taps_tile(2, taps, channels, to, step);
    else if (m == DARKBN_WINOGRAD_HALF)
        darkbn_taps_tile(DARKBN_WINOGRAD_HALF, taps, channels, to, step);
    else
        darkbn_taps_tile(4, taps, channels, to, step);
}

#endif
