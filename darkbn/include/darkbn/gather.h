/* The columns of a convolution, gathered from the images on the fly (im2col without the matrix).
 *
 * Row (channel * down + i) * across + j of the column matrix belongs to tap (i, j) of a channel, its columns are the
 * output pixels of all images in order: out pixel (y, x) reads source pixel
 * (y * stride_y + down.shift[i], x * stride_x + across.shift[j]), or zero outside the source. */
#ifndef DARKBN_GATHER_H
#define DARKBN_GATHER_H

#include "darkbn/gemm_pack.h"

/* Taps along one axis: `shift[i]` is added to the scaled output position; outputs [low[i], high[i]) then fall inside
 * the source, outputs [inner_low, inner_high) do so for every tap. */
typedef struct darkbn_taps {
    ptrdiff_t count;
    int32_t *shift, *low, *high;
    ptrdiff_t inner_low, inner_high;
} darkbn_taps;

typedef struct darkbn_gather {
    const float *data, *end; /* of all images; nothing at or beyond `end` is read */
    ptrdiff_t item, image;   /* floats from group to group and from image to image */
    ptrdiff_t height, width;
    ptrdiff_t out_height, out_width, stride_y, stride_x;
    darkbn_taps down, across;
} darkbn_gather;

/* Fill in the limits from the shifts: where 0 <= out * stride + shift < size. */
static void darkbn_taps_limits(darkbn_taps *taps, ptrdiff_t stride, ptrdiff_t size, ptrdiff_t out)
{
    taps->inner_low = 0;
    taps->inner_high = out;
    for (ptrdiff_t i = 0; i < taps->count; ++i) {
        const ptrdiff_t shift = taps->shift[i];
        ptrdiff_t low = shift < 0 ? (-shift + stride - 1) / stride : 0;
        ptrdiff_t high = shift < size ? (size - shift + stride - 1) / stride : 0;
        if (low > out) low = out;
        if (high > out) high = out;
        if (high < low) high = low;
        taps->low[i] = (int32_t)low;
        taps->high[i] = (int32_t)high;
        if (low > taps->inner_low) taps->inner_low = low;
        if (high < taps->inner_high) taps->inner_high = high;
    }
}

/* Output pixels next to each other in one line, and one panel of the destination. */
typedef struct darkbn_piece {
    ptrdiff_t from, to; /* offsets: of the source pixel at no shift in channel 0, of the first row's destination */
    int32_t y, x, count, inner;
} darkbn_piece;

/* n floats at distance `stride`, reading nothing at or beyond `end`. */
DARKBN_INLINE void darkbn_copy_strided(float *to, const float *from, ptrdiff_t n, ptrdiff_t stride, const float *end)
{
    ptrdiff_t i = 0;
    if (stride == 1) {
        darkbn_copy(to, from, n);
        return;
    }
    if (stride == 2)
        for (; i + DARKBN_V <= n && from + 2 * (i + DARKBN_V) <= end; i += DARKBN_V)
            darkbn_store(to + i, darkbn_load_even(from + 2 * i));
    for (; i < n; ++i) to[i] = from[i * stride];
}

/* Tap (i, j) of a piece, zeros outside the source. */
DARKBN_INLINE void darkbn_gather_edge(const darkbn_gather *g, const float *channel, const darkbn_piece *piece,
                                      ptrdiff_t i, ptrdiff_t j, float *to)
{
    const ptrdiff_t count = piece->count;
    if (piece->y < g->down.low[i] || piece->y >= g->down.high[i]) {
        darkbn_clear(to, count);
        return;
    }
    ptrdiff_t begin = g->across.low[j] - piece->x, end = g->across.high[j] - piece->x;
    begin = begin < 0 ? 0 : begin > count ? count : begin;
    end = end < begin ? begin : end > count ? count : end;
    darkbn_clear(to, begin);
    if (end > begin)
        darkbn_copy_strided(to + begin,
                            channel + piece->from + g->down.shift[i] * g->width + g->across.shift[j]
                                + begin * g->stride_x,
                            end - begin, g->stride_x, g->end);
    darkbn_clear(to + end, count - end);
}

/* Taps [first, last) of one channel for one piece; `to` is the destination of tap `first`. */
DARKBN_INLINE void darkbn_gather_piece(const darkbn_gather *g, const float *channel, const darkbn_piece *piece,
                                       ptrdiff_t first, ptrdiff_t last, float *to, ptrdiff_t ld)
{
    const ptrdiff_t across = g->across.count;
    ptrdiff_t i = first / across, j = first - i * across;
    const float *from = channel + piece->from;
    const int whole = piece->count == DARKBN_NR && g->stride_x == 1;
    for (ptrdiff_t tap = first; tap < last; ++i, j = 0) {
        const ptrdiff_t stop = last - tap < across - j ? j + last - tap : across;
        tap += stop - j;
        if (!piece->inner) {
            for (; j < stop; ++j, to += ld) darkbn_gather_edge(g, channel, piece, i, j, to);
            continue;
        }
        const float *line = from + g->down.shift[i] * g->width;
        if (whole)
            for (; j < stop; ++j, to += ld)
                for (int v = 0; v < DARKBN_NR; v += DARKBN_V)
                    darkbn_store(to + v, darkbn_load(line + g->across.shift[j] + v));
        else
            for (; j < stop; ++j, to += ld)
                darkbn_copy_strided(to, line + g->across.shift[j], piece->count, g->stride_x, g->end);
    }
}

enum { DARKBN_PIECES = 256 };

/* Cut pixels [pixel, pixel + pixels) at the ends of lines and of panels of `width` columns, `step` floats apart. The
 * first pixel goes to column `column`. Returns the number of pieces. */
static int darkbn_cut(const darkbn_gather *g, ptrdiff_t item, ptrdiff_t pixel, ptrdiff_t pixels, ptrdiff_t column,
                      ptrdiff_t width, ptrdiff_t step, darkbn_piece *pieces)
{
    ptrdiff_t line = pixel / g->out_width, x = pixel - line * g->out_width;
    ptrdiff_t b = line / g->out_height, y = line - b * g->out_height;
    ptrdiff_t panel = column / width * step, lane = column % width;
    int count = 0;
    while (pixels > 0) {
        ptrdiff_t run = g->out_width - x;
        if (run > width - lane) run = width - lane;
        if (run > pixels) run = pixels;
        darkbn_piece *piece = pieces + count++;
        piece->from = b * g->image + item * g->item + y * g->stride_y * g->width + x * g->stride_x;
        piece->to = panel + lane;
        piece->y = (int32_t)y;
        piece->x = (int32_t)x;
        piece->count = (int32_t)run;
        piece->inner = y >= g->down.inner_low && y < g->down.inner_high && x >= g->across.inner_low
                       && x + run <= g->across.inner_high;
        pixels -= run;
        lane += run;
        x += run;
        if (lane == width) {
            lane = 0;
            panel += step;
        }
        if (x == g->out_width) {
            x = 0;
            if (++y == g->out_height) {
                y = 0;
                ++b;
            }
        }
    }
    return count;
}

/* Rows [first, first + rows) and pixels [pixel, pixel + pixels) of the column matrix of one group. Row r, column p of
 * the result goes to to[p / width * step + r * ld + p % width]. */
static void darkbn_gather_block(const darkbn_gather *g, ptrdiff_t item, ptrdiff_t first, ptrdiff_t rows,
                                ptrdiff_t pixel, ptrdiff_t pixels, float *to, ptrdiff_t ld, ptrdiff_t width,
                                ptrdiff_t step)
{
    darkbn_piece pieces[DARKBN_PIECES];
    const ptrdiff_t taps = g->down.count * g->across.count;
    for (ptrdiff_t done = 0; done < pixels; done += DARKBN_PIECES) {
        const ptrdiff_t some = pixels - done < DARKBN_PIECES ? pixels - done : DARKBN_PIECES;
        const int count = darkbn_cut(g, item, pixel + done, some, done, width, step, pieces);
        ptrdiff_t channel = first / taps, tap = first % taps;
        for (ptrdiff_t row = 0; row < rows; ++channel, tap = 0) {
            const ptrdiff_t last = rows - row < taps - tap ? tap + rows - row : taps;
            const float *plane = g->data + channel * g->height * g->width;
            for (int p = 0; p < count; ++p)
                darkbn_gather_piece(g, plane, pieces + p, tap, last, to + pieces[p].to + row * ld, ld);
            row += last - tap;
        }
    }
}

/* The column matrix as a right operand: lanes are pixels, k are its rows. */
static void darkbn_pack_pixels(const void *operand, ptrdiff_t item, ptrdiff_t first, ptrdiff_t count, ptrdiff_t start,
                               ptrdiff_t depth, float *panels)
{
    darkbn_gather_block(operand, item, start, depth, first, count, panels, DARKBN_NR, DARKBN_NR, DARKBN_NR * depth);
    const ptrdiff_t lanes = count % DARKBN_NR;
    float *last = panels + count / DARKBN_NR * DARKBN_NR * depth;
    if (lanes)
        for (ptrdiff_t p = 0; p < depth; ++p) darkbn_clear(last + p * DARKBN_NR + lanes, DARKBN_NR - lanes);
}

/* The column matrix transposed, as a right operand: lanes are its rows, k are pixels. */
static void darkbn_pack_taps(const void *operand, ptrdiff_t item, ptrdiff_t first, ptrdiff_t count, ptrdiff_t start,
                             ptrdiff_t depth, float *panels)
{
    enum { CHUNK = 128 };
    float rows[DARKBN_NR * CHUNK] __attribute__((aligned(64)));
    for (ptrdiff_t done = 0; done < count; done += DARKBN_NR, panels += DARKBN_NR * depth) {
        const ptrdiff_t lanes = count - done < DARKBN_NR ? count - done : DARKBN_NR;
        for (ptrdiff_t p = 0; p < depth; p += CHUNK) {
            const ptrdiff_t pixels = depth - p < CHUNK ? depth - p : CHUNK;
            darkbn_gather_block(operand, item, first + done, lanes, start + p, pixels, rows, CHUNK, CHUNK, 0);
            darkbn_pack_along(DARKBN_NR, rows, CHUNK, lanes, pixels, panels + p * DARKBN_NR);
        }
    }
}

#endif
