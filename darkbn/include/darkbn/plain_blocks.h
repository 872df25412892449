/* Parts of plain maps (batch, channel, row, column) as blocks of eight channels (blocked.h) beside a computation: lines
 * are transposed in registers on their way into and out of a strip that stays in the first-level cache. */
#ifndef DARKBN_PLAIN_BLOCKS_H
#define DARKBN_PLAIN_BLOCKS_H

#include "darkbn/blocked.h"

/* A plain map. */
typedef struct darkbn_plain {
    float *data;
    ptrdiff_t batch, c, h, w;
} darkbn_plain;

#define DARKBN_STRIP_SPARE (DARKBN_BLOCK * DARKBN_BLOCK) /* floats that a strip has behind its end */

#if DARKBN_V == 8
/* Transpose eight vectors of eight floats in place. */
DARKBN_INLINE void darkbn_transpose_8(darkbn_vec r[8])
{
    darkbn_vec a[8], b[8];
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        a[i] = DARKBN_SHUFFLE(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        a[i + 1] = DARKBN_SHUFFLE(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
        b[i] = DARKBN_SHUFFLE(a[i], a[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
        b[i + 1] = DARKBN_SHUFFLE(a[i], a[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        b[i + 2] = DARKBN_SHUFFLE(a[i + 1], a[i + 3], 0, 1, 8, 9, 4, 5, 12, 13);
        b[i + 3] = DARKBN_SHUFFLE(a[i + 1], a[i + 3], 2, 3, 10, 11, 6, 7, 14, 15);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        r[i] = DARKBN_SHUFFLE(b[i], b[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        r[i + 4] = DARKBN_SHUFFLE(b[i], b[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}
#endif

/* to[p * 8 + i] = from[i * step + p] for eight p; zero for i >= lanes. */
DARKBN_INLINE void darkbn_square_in(const float *from, ptrdiff_t step, ptrdiff_t lanes, float *to)
{
#if DARKBN_V == 8
    darkbn_vec r[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) r[i] = i < lanes ? darkbn_load(from + i * step) : darkbn_zero();
    darkbn_transpose_8(r);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) darkbn_store(to + 8 * i, r[i]);
#else
    for (int y = 0; y < 8; y += 4)
        for (int x = 0; x < 8; x += 4) {
            darkbn_v4 r[4];
            for (int i = 0; i < 4; ++i) {
                r[i] = (darkbn_v4){0};
                if (y + i < lanes) r[i] = *(const darkbn_v4_unaligned *)(from + (y + i) * step + x);
            }
            darkbn_transpose_4(r);
            for (int i = 0; i < 4; ++i) *(darkbn_v4_unaligned *)(to + (x + i) * 8 + y) = r[i];
        }
#endif
}

/* to[i * step + p] = from[p * 8 + i] for eight p and i < lanes, or added to what is there. */
DARKBN_INLINE void darkbn_square_out(const float *from, ptrdiff_t step, ptrdiff_t lanes, int add, float *to)
{
#if DARKBN_V == 8
    darkbn_vec r[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) r[i] = darkbn_load(from + 8 * i);
    darkbn_transpose_8(r);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i)
        if (i < lanes) darkbn_store(to + i * step, add ? darkbn_load(to + i * step) + r[i] : r[i]);
#else
    for (int y = 0; y < 8; y += 4)
        for (int x = 0; x < 8; x += 4) {
            darkbn_v4 r[4];
            for (int i = 0; i < 4; ++i) r[i] = *(const darkbn_v4_unaligned *)(from + (x + i) * 8 + y);
            darkbn_transpose_4(r);
            for (int i = 0; i < 4 && y + i < lanes; ++i) {
                darkbn_v4_unaligned *at = (darkbn_v4_unaligned *)(to + (y + i) * step + x);
                const darkbn_v4 old = *at;
                *at = add ? old + r[i] : r[i];
            }
        }
#endif
}

/* n pixels of a line of `lanes` planes, `step` floats apart, to a strip; may write eight pixels. Reads nothing at or
 * beyond `end`. */
DARKBN_INLINE void darkbn_line_in(const float *from, ptrdiff_t step, ptrdiff_t lanes, ptrdiff_t n, const float *end,
                                  float *to)
{
    ptrdiff_t p = 0;
    for (; p + DARKBN_BLOCK <= n; p += DARKBN_BLOCK) darkbn_square_in(from + p, step, lanes, to + p * DARKBN_BLOCK);
    if (p == n) return;
    if (n >= DARKBN_BLOCK) {
        p = n - DARKBN_BLOCK;
        darkbn_square_in(from + p, step, lanes, to + p * DARKBN_BLOCK);
        return;
    }
    if (end - from >= (lanes - 1) * step + DARKBN_BLOCK) {
        darkbn_square_in(from, step, lanes, to);
        return;
    }
    for (; p < n; ++p)
        for (ptrdiff_t i = 0; i < DARKBN_BLOCK; ++i) to[p * DARKBN_BLOCK + i] = i < lanes ? from[i * step + p] : 0.0f;
}

/* n pixels of a strip to a line of planes. */
DARKBN_INLINE void darkbn_line_out(const float *from, ptrdiff_t step, ptrdiff_t lanes, ptrdiff_t n, int add, float *to)
{
    ptrdiff_t p = 0;
    for (; p + DARKBN_BLOCK <= n; p += DARKBN_BLOCK)
        darkbn_square_out(from + p * DARKBN_BLOCK, step, lanes, add, to + p);
    if (p == n) return;
    float rest[DARKBN_BLOCK * DARKBN_BLOCK];
    darkbn_square_out(from + p * DARKBN_BLOCK, DARKBN_BLOCK, DARKBN_BLOCK, 0, rest);
    for (ptrdiff_t i = 0; i < lanes; ++i)
        for (ptrdiff_t x = p; x < n; ++x) {
            const float value = rest[i * DARKBN_BLOCK + x - p];
            to[i * step + x] = add ? to[i * step + x] + value : value;
        }
}

/* Lines [y, y + lines) and columns [x, x + columns) of a block of channels, zeros outside of the map, to
 * strip[(line * columns + column) * 8 + channel]. Writes up to DARKBN_STRIP_SPARE floats behind. */
static void darkbn_strip_in(const darkbn_plain *map, ptrdiff_t image, ptrdiff_t block, ptrdiff_t y, ptrdiff_t lines,
                            ptrdiff_t x, ptrdiff_t columns, float *strip)
{
    const ptrdiff_t plane = map->h * map->w, lanes = darkbn_least(map->c - block * DARKBN_BLOCK, DARKBN_BLOCK);
    const float *first = map->data + (image * map->c + block * DARKBN_BLOCK) * plane;
    const float *end = map->data + map->batch * map->c * plane;
    const ptrdiff_t left = darkbn_least(darkbn_most(-x, 0), columns);
    const ptrdiff_t right = darkbn_most(darkbn_least(map->w - x, columns), left);
    for (ptrdiff_t row = y; row < y + lines; ++row, strip += columns * DARKBN_BLOCK) {
        if (row < 0 || row >= map->h || right == left) {
            darkbn_clear(strip, columns * DARKBN_BLOCK);
            continue;
        }
        darkbn_line_in(first + row * map->w + x + left, plane, lanes, right - left, end, strip + left * DARKBN_BLOCK);
        darkbn_clear(strip, left * DARKBN_BLOCK);
        darkbn_clear(strip + right * DARKBN_BLOCK, (columns - right) * DARKBN_BLOCK);
    }
}

/* A strip to lines from y and columns from x on; what is outside of the map is dropped. */
static void darkbn_strip_out(const float *strip, ptrdiff_t lines, ptrdiff_t columns, const darkbn_plain *map,
                             ptrdiff_t image, ptrdiff_t block, ptrdiff_t y, ptrdiff_t x, int add)
{
    const ptrdiff_t plane = map->h * map->w, lanes = darkbn_least(map->c - block * DARKBN_BLOCK, DARKBN_BLOCK);
    float *first = map->data + (image * map->c + block * DARKBN_BLOCK) * plane;
    const ptrdiff_t left = darkbn_most(-x, 0), width = darkbn_least(columns, map->w - x) - left;
    const ptrdiff_t bottom = darkbn_least(lines, map->h - y);
    if (width <= 0) return;
    for (ptrdiff_t i = darkbn_most(-y, 0); i < bottom; ++i)
        darkbn_line_out(strip + (i * columns + left) * DARKBN_BLOCK, plane, lanes, width, add,
                        first + (y + i) * map->w + x + left);
}

#endif
