/* Convolutions of few channels to few filters (depthwise ones above all), computed without packing.
 *
 * A band of output lines is computed from a copy of the source that has zeros round it and is cut by position modulo
 * the strides, all lines `pitch` floats apart. There, output (y, x) is element y * pitch + x, and a tap is a constant
 * distance: all of a band is one loop over contiguous floats. The elements between the end of one output line and the
 * start of the next are computed in vain. */
#ifndef DARKBN_DIRECT_H
#define DARKBN_DIRECT_H

#include "darkbn/gather.h"
#include "darkbn/gemm_product.h"

/* How the output is cut into bands, and the layout of the copy. */
typedef struct darkbn_bands {
    ptrdiff_t lines, count;     /* output lines of a band; number of bands of an image */
    ptrdiff_t reach_y, reach_x; /* largest distance between the taps, in outputs */
    ptrdiff_t pitch, plane;     /* floats of a line, of a channel's positions of one residue */
    ptrdiff_t channel;          /* floats of a channel */
} darkbn_bands;

enum { DARKBN_BAND = 16384, DARKBN_REACH = 64, DARKBN_FEW = 8 };

static darkbn_bands darkbn_cut_bands(const darkbn_gather *g, ptrdiff_t sources, ptrdiff_t reach_y, ptrdiff_t reach_x)
{
    darkbn_bands bands;
    const ptrdiff_t residues = g->stride_y * g->stride_x;
    bands.reach_y = reach_y;
    bands.reach_x = reach_x;
    bands.pitch = g->out_width + reach_x;
    const ptrdiff_t fit = DARKBN_BAND / (sources * residues * bands.pitch) - reach_y;
    bands.lines = darkbn_even(g->out_height, darkbn_max(fit, darkbn_max(4, reach_y)), 1);
    bands.count = darkbn_pieces(g->out_height, bands.lines);
    bands.plane = (bands.lines + reach_y) * bands.pitch;
    bands.channel = residues * bands.plane;
    return bands;
}

/* Smallest and largest shift. */
DARKBN_INLINE ptrdiff_t darkbn_first_shift(const darkbn_taps *taps)
{
    ptrdiff_t first = taps->shift[0];
    for (ptrdiff_t i = 1; i < taps->count; ++i) first = darkbn_min(first, taps->shift[i]);
    return first;
}

DARKBN_INLINE ptrdiff_t darkbn_last_shift(const darkbn_taps *taps)
{
    ptrdiff_t last = taps->shift[0];
    for (ptrdiff_t i = 1; i < taps->count; ++i) last = darkbn_max(last, taps->shift[i]);
    return last;
}

/* Whether some tap reads positions of this residue. */
DARKBN_INLINE int darkbn_reads(const darkbn_taps *taps, ptrdiff_t first, ptrdiff_t stride, ptrdiff_t residue)
{
    for (ptrdiff_t i = 0; i < taps->count; ++i)
        if ((taps->shift[i] - first) % stride == residue) return 1;
    return 0;
}

/* The lines that outputs [y0, y0 + lines) of one channel read, into its part of the copy. Writes DARKBN_V zeros behind
 * the last line of each residue. */
static void darkbn_copy_band(const darkbn_gather *g, const darkbn_bands *bands, const float *channel, ptrdiff_t y0,
                             ptrdiff_t lines, float *to)
{
    const ptrdiff_t first_y = darkbn_first_shift(&g->down), first_x = darkbn_first_shift(&g->across);
    const ptrdiff_t sx = g->stride_x, pitch = bands->pitch;
    for (ptrdiff_t ry = 0; ry < g->stride_y; ++ry)
        for (ptrdiff_t rx = 0; rx < sx; ++rx, to += bands->plane) {
            if (!darkbn_reads(&g->down, first_y, g->stride_y, ry)) continue;
            if (!darkbn_reads(&g->across, first_x, sx, rx)) continue;
            const ptrdiff_t shift = first_x + rx;
            ptrdiff_t low = shift < 0 ? (-shift + sx - 1) / sx : 0;
            ptrdiff_t high = shift < g->width ? (g->width - shift + sx - 1) / sx : 0;
            low = darkbn_min(low, pitch);
            high = darkbn_max(darkbn_min(high, pitch), low);
            float *line = to;
            for (ptrdiff_t y = 0; y < lines + bands->reach_y; ++y, line += pitch) {
                const ptrdiff_t row = (y0 + y) * g->stride_y + first_y + ry;
                if (row < 0 || row >= g->height || high == low) {
                    darkbn_clear(line, pitch);
                    continue;
                }
                darkbn_clear(line, low);
                darkbn_copy_strided(line + low, channel + row * g->width + low * sx + shift, high - low, sx, g->end);
                darkbn_clear(line + high, pitch - high);
            }
            darkbn_clear(line, DARKBN_V);
        }
}

/* How far tap (i, j) of source s lies from the output's element in the copy, in the order of the weights. */
static void darkbn_tap_offsets(const darkbn_gather *g, const darkbn_bands *bands, ptrdiff_t sources, int32_t *offsets)
{
    const ptrdiff_t first_y = darkbn_first_shift(&g->down), first_x = darkbn_first_shift(&g->across);
    for (ptrdiff_t s = 0; s < sources; ++s)
        for (ptrdiff_t i = 0; i < g->down.count; ++i)
            for (ptrdiff_t j = 0; j < g->across.count; ++j) {
                const ptrdiff_t y = g->down.shift[i] - first_y, x = g->across.shift[j] - first_x;
                const ptrdiff_t residue = y % g->stride_y * g->stride_x + x % g->stride_x;
                *offsets++ = (int32_t)(s * bands->channel + residue * bands->plane
                                       + y / g->stride_y * bands->pitch + x / g->stride_x);
            }
}

/* One convolution: of `sources` channels to `targets` filters in every group. */
typedef struct darkbn_direct {
    darkbn_gather source;
    darkbn_bands bands;
    ptrdiff_t batch, groups, sources, targets;
    const float *weights;
    ptrdiff_t weight_group, weight_target, weight_source; /* floats from one to the next */
    ptrdiff_t size;
    const int32_t *rows, *columns; /* tap (i, j) is at kernel position (rows[i], columns[j]) */
    darkbn_target c;
    int add; /* to what c holds */
    const float *bias;
} darkbn_direct;

/* Floats of a thread: the copy, a tile's overrun, offsets and weights. */
DARKBN_INLINE ptrdiff_t darkbn_direct_local(const darkbn_bands *bands, ptrdiff_t sources, ptrdiff_t targets,
                                            ptrdiff_t taps)
{
    return darkbn_round_up(sources * bands->channel, DARKBN_ALIGN) + 8 * DARKBN_V
           + darkbn_round_up(sources * taps, DARKBN_ALIGN) + darkbn_round_up(sources * taps * targets, DARKBN_ALIGN);
}

/* Sums of `vectors` vectors of neighbouring outputs for `rows` targets, both constants where inlined. */
DARKBN_INLINE void darkbn_direct_tile(const int rows, const int vectors, ptrdiff_t taps,
                                      const int32_t *restrict offsets, const float *restrict weights,
                                      ptrdiff_t targets, const float *restrict from, const float *bias,
                                      float *restrict sums)
{
    darkbn_vec acc[4][8];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) acc[r][v] = darkbn_zero() + (bias ? bias[r] : 0.0f);
    for (ptrdiff_t t = 0; t < taps; ++t) {
        const float *x = from + offsets[t];
        darkbn_vec right[8];
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) right[v] = darkbn_load(x + v * DARKBN_V);
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r) {
            const float left = weights[t * targets + r];
#pragma GCC unroll 8
            for (int v = 0; v < vectors; ++v) acc[r][v] += left * right[v];
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) darkbn_store(sums + (r * vectors + v) * DARKBN_V, acc[r][v]);
}

/* Elements [first, first + count) of a band that starts at output line y0, to their places. */
static void darkbn_direct_store(const darkbn_direct *d, ptrdiff_t y0, ptrdiff_t first, ptrdiff_t count,
                                const float *sums, float *plane)
{
    const ptrdiff_t pitch = d->bands.pitch, width = d->source.out_width, step = d->c.step_x;
    ptrdiff_t y = first / pitch, x = first - y * pitch;
    for (; count > 0; ++y, x = 0) {
        const ptrdiff_t run = darkbn_min(width - x, count);
        float *to = plane + (y0 + y) * d->c.step_y + x * step;
        if (run > 0 && step != 1)
            for (ptrdiff_t i = 0; i < run; ++i) to[i * step] = d->add ? to[i * step] + sums[i] : sums[i];
        else if (run > 0 && d->add)
            for (ptrdiff_t i = 0; i < run; ++i) to[i] += sums[i];
        else if (run > 0)
            darkbn_copy(to, sums, run);
        sums += pitch - x;
        count -= pitch - x;
    }
}

/* One band of one group of one image. */
static void darkbn_direct_band(const darkbn_direct *d, ptrdiff_t b, ptrdiff_t group, ptrdiff_t band, float *local)
{
    const darkbn_gather *g = &d->source;
    const ptrdiff_t taps = g->down.count * g->across.count * d->sources, targets = d->targets;
    const ptrdiff_t y0 = band * d->bands.lines, lines = darkbn_min(d->bands.lines, g->out_height - y0);
    int32_t *offsets = (int32_t *)(local + darkbn_round_up(d->sources * d->bands.channel, DARKBN_ALIGN) + 8 * DARKBN_V);
    float *weights = (float *)offsets + darkbn_round_up(taps, DARKBN_ALIGN), *packed = weights;
    darkbn_tap_offsets(g, &d->bands, d->sources, offsets);
    for (ptrdiff_t s = 0; s < d->sources; ++s) {
        const float *own = d->weights + group * d->weight_group + s * d->weight_source;
        for (ptrdiff_t i = 0; i < g->down.count; ++i)
            for (ptrdiff_t j = 0; j < g->across.count; ++j)
                for (ptrdiff_t t = 0; t < targets; ++t)
                    *packed++ = own[t * d->weight_target + d->rows[i] * d->size + d->columns[j]];
        darkbn_copy_band(g, &d->bands, g->data + b * g->image + group * g->item + s * g->height * g->width, y0, lines,
                         local + s * d->bands.channel);
    }
    float sums[8 * DARKBN_V] __attribute__((aligned(64)));
    const ptrdiff_t total = (lines - 1) * d->bands.pitch + g->out_width;
    float *plane = d->c.data + b * d->c.image + group * d->c.item;
    for (ptrdiff_t t = 0, rows; t < targets; t += rows, plane += rows * d->c.row) {
        rows = targets - t >= 4 ? 4 : targets - t >= 2 ? 2 : 1;
        const float *bias = d->bias ? d->bias + group * targets + t : NULL;
        for (ptrdiff_t v = 0, wide; v < total; v += wide) {
            /* The last elements in a narrower tile. */
            const int few = total - v <= 2 * DARKBN_V;
#define DARKBN_TILE(ROWS, VECTORS)                                                                                   \
    darkbn_direct_tile(ROWS, VECTORS, taps, offsets, weights + t, targets, local + v, bias, sums);                   \
    wide = VECTORS * DARKBN_V
            if (rows == 4) {
                DARKBN_TILE(4, 2);
            } else if (rows == 2 && !few) {
                DARKBN_TILE(2, 4);
            } else if (rows == 2) {
                DARKBN_TILE(2, 2);
            } else if (!few) {
                DARKBN_TILE(1, 8);
            } else {
                DARKBN_TILE(1, 2);
            }
#undef DARKBN_TILE
            for (ptrdiff_t r = 0; r < rows; ++r)
                darkbn_direct_store(d, y0, v, darkbn_min(wide, total - v), sums + r * wide, plane + r * d->c.row);
        }
    }
}

/* `local` has darkbn_direct_local() floats for each thread. */
static void darkbn_direct_run(const darkbn_direct *d, float *local, int threads)
{
    const ptrdiff_t taps = d->source.down.count * d->source.across.count, bands = d->bands.count;
    const ptrdiff_t own = darkbn_direct_local(&d->bands, d->sources, d->targets, taps);
    const ptrdiff_t tasks = d->batch * d->groups * bands;
    const int chunk = (int)darkbn_max(darkbn_min(tasks / (8 * (ptrdiff_t)threads), 64), 1);
#pragma omp parallel for schedule(dynamic, chunk) num_threads(threads)
    for (ptrdiff_t task = 0; task < tasks; ++task)
        darkbn_direct_band(d, task / (d->groups * bands), task / bands % d->groups, task % bands,
                           local + DARKBN_THREAD * own);
}

/* Gradients of the weights: a delta and a copy of its source with the same pitch are one dot product per tap. */
typedef struct darkbn_direct_weights {
    darkbn_gather source;
    darkbn_bands bands;
    ptrdiff_t batch, groups, sources, targets;
    const float *delta;
    float *updates; /* (groups, targets, sources, taps) */
} darkbn_direct_weights;

/* Floats of a band's delta. */
DARKBN_INLINE ptrdiff_t darkbn_band_floats(const darkbn_bands *bands)
{
    return darkbn_round_up(bands->lines * bands->pitch, DARKBN_ALIGN);
}

/* Floats of a thread: the copy, a vector's overrun, the deltas, offsets, sums in double. */
DARKBN_INLINE ptrdiff_t darkbn_direct_weights_local(const darkbn_bands *bands, ptrdiff_t sources, ptrdiff_t targets,
                                                    ptrdiff_t taps)
{
    return darkbn_direct_local(bands, sources, 0, taps) + targets * darkbn_band_floats(bands)
           + darkbn_round_up(2 * sources * taps * targets, DARKBN_ALIGN);
}

/* totals[t] += sum of delta[i] * x[offsets[t] + i] for `taps` taps, a constant where inlined. */
DARKBN_INLINE void darkbn_dot_taps(const int taps, ptrdiff_t n, const float *restrict delta, const float *restrict x,
                                   const int32_t *restrict offsets, double *restrict totals)
{
    darkbn_vec acc[9];
#pragma GCC unroll 9
    for (int t = 0; t < taps; ++t) acc[t] = darkbn_zero();
    for (ptrdiff_t i = 0; i < n; i += DARKBN_V) {
        const darkbn_vec left = darkbn_load(delta + i);
#pragma GCC unroll 9
        for (int t = 0; t < taps; ++t) acc[t] += left * darkbn_load(x + offsets[t] + i);
    }
#pragma GCC unroll 9
    for (int t = 0; t < taps; ++t) totals[t] += darkbn_lanes_sum(acc[t]);
}

/* The updates of one group, over all images and bands in order. */
static void darkbn_direct_weights_group(const darkbn_direct_weights *d, ptrdiff_t group, float *local)
{
    const darkbn_gather *g = &d->source;
    const darkbn_bands *bands = &d->bands;
    const ptrdiff_t taps = g->down.count * g->across.count * d->sources, pixels = g->out_height * g->out_width;
    const ptrdiff_t size = darkbn_band_floats(bands);
    float *deltas = local + darkbn_round_up(d->sources * bands->channel, DARKBN_ALIGN) + 8 * DARKBN_V;
    double *totals = (double *)(deltas + d->targets * size);
    int32_t *offsets = (int32_t *)((float *)totals + darkbn_round_up(2 * taps * d->targets, DARKBN_ALIGN));
    darkbn_tap_offsets(g, bands, d->sources, offsets);
    for (ptrdiff_t i = 0; i < taps * d->targets; ++i) totals[i] = 0;
    for (ptrdiff_t task = 0; task < d->batch * bands->count; ++task) {
        const ptrdiff_t b = task / bands->count, y0 = task % bands->count * bands->lines;
        const ptrdiff_t lines = darkbn_min(bands->lines, g->out_height - y0);
        const ptrdiff_t total = (lines - 1) * bands->pitch + g->out_width;
        for (ptrdiff_t s = 0; s < d->sources; ++s)
            darkbn_copy_band(g, bands, g->data + b * g->image + group * g->item + s * g->height * g->width, y0, lines,
                             local + s * bands->channel);
        for (ptrdiff_t t = 0; t < d->targets; ++t) {
            const float *from = d->delta + ((b * d->groups + group) * d->targets + t) * pixels + y0 * g->out_width;
            float *to = deltas + t * size;
            for (ptrdiff_t y = 0; y < lines; ++y) {
                darkbn_copy(to + y * bands->pitch, from + y * g->out_width, g->out_width);
                darkbn_clear(to + y * bands->pitch + g->out_width, bands->reach_x);
            }
            darkbn_clear(to + lines * bands->pitch, size - lines * bands->pitch);
            double *own = totals + t * taps;
            ptrdiff_t tap = 0;
            for (; tap + 9 <= taps; tap += 9) darkbn_dot_taps(9, total, to, local, offsets + tap, own + tap);
            for (; tap + 3 <= taps; tap += 3) darkbn_dot_taps(3, total, to, local, offsets + tap, own + tap);
            for (; tap < taps; ++tap) darkbn_dot_taps(1, total, to, local, offsets + tap, own + tap);
        }
    }
    for (ptrdiff_t i = 0; i < taps * d->targets; ++i)
        d->updates[group * taps * d->targets + i] += (float)totals[i];
}

/* `local` has darkbn_direct_weights_local() floats for each thread. */
static void darkbn_direct_weights_run(const darkbn_direct_weights *d, float *local, int threads)
{
    const ptrdiff_t taps = d->source.down.count * d->source.across.count;
    const ptrdiff_t own = darkbn_direct_weights_local(&d->bands, d->sources, d->targets, taps);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (ptrdiff_t group = 0; group < d->groups; ++group)
        darkbn_direct_weights_group(d, group, local + DARKBN_THREAD * own);
}

#endif
