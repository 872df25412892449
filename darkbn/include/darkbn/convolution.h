/* Convolutions: the three passes, as matrix products over gathered columns (gather.h, gemm_product.h), one product
 * per group, or, with few channels and filters in a group, directly (direct.h).
 *
 *     forward            out(n x pixels)       = weights(n x taps) columns(taps x pixels) + biases
 *     backward_weights   updates(n x taps)    += delta(n x pixels) columns^T
 *     backward_input     input_delta          += for each residue of the input position modulo the strides, a
 *                                                 stride-1 convolution of delta with the weights that reach it
 */
#ifndef DARKBN_CONVOLUTION_H
#define DARKBN_CONVOLUTION_H

#include "darkbn/direct.h"
#include "darkbn/gather.h"
#include "darkbn/gemm_product.h"

typedef struct darkbn_geometry {
    ptrdiff_t batch, c, h, w, n, size, out_h, out_w;
    ptrdiff_t groups, stride_y, stride_x, dilation, pad;
} darkbn_geometry;

/* Whether the channels and filters of a group are too few for a product to be worth its packing. */
DARKBN_INLINE int darkbn_is_direct(const darkbn_geometry *g)
{
    return g->groups > 1 && g->c / g->groups <= DARKBN_FEW && g->n / g->groups <= DARKBN_FEW && g->n > 0
           && (g->size - 1) * g->dilation <= DARKBN_REACH && g->stride_y <= 4 && g->stride_x <= 4 && g->size > 0
           && g->out_h > 0 && g->out_w > 0 && g->out_h * g->out_w < 1 << 24 && g->h * g->w > 0 && g->h * g->w < 1 << 24;
}

/* Tables of one pass: of the taps down and across shift, low and high, and the kernel rows and columns they are of. */
enum { DARKBN_TABLES = 8, DARKBN_SMALL_TABLES = DARKBN_TABLES * (DARKBN_REACH + 1) };

static ptrdiff_t darkbn_tables_floats(const darkbn_geometry *g)
{
    return darkbn_round_up(DARKBN_TABLES * g->size, DARKBN_ALIGN);
}

DARKBN_INLINE int32_t *darkbn_kernel_rows(const darkbn_geometry *g, int32_t *tables) { return tables + 6 * g->size; }

DARKBN_INLINE int32_t *darkbn_kernel_columns(const darkbn_geometry *g, int32_t *tables) { return tables + 7 * g->size; }

static darkbn_taps darkbn_place_taps(ptrdiff_t size, int32_t *table)
{
    const darkbn_taps taps = {0, table, table + size, table + 2 * size, 0, 0};
    return taps;
}

/* The columns that forward and backward_weights use. A 1x1 kernel over whole planes sees each plane as one line. */
static darkbn_gather darkbn_forward_columns(const darkbn_geometry *g, const float *x, int32_t *tables)
{
    const ptrdiff_t plane = g->h * g->w;
    darkbn_gather columns = {x, x + g->batch * g->c * plane, g->c / g->groups * plane, g->c * plane, g->h, g->w,
                             g->out_h, g->out_w, g->stride_y, g->stride_x, darkbn_place_taps(g->size, tables),
                             darkbn_place_taps(g->size, tables + 3 * g->size)};
    if (g->size == 1 && g->pad == 0 && g->stride_x == 1 && g->stride_y == 1 && g->h == g->out_h && g->w == g->out_w) {
        columns.width = columns.out_width = plane;
        columns.height = columns.out_height = 1;
    }
    for (ptrdiff_t i = 0; i < g->size; ++i) {
        columns.down.shift[i] = columns.across.shift[i] = (int32_t)(i * g->dilation - g->pad);
        darkbn_kernel_rows(g, tables)[i] = darkbn_kernel_columns(g, tables)[i] = (int32_t)i;
    }
    columns.down.count = columns.across.count = g->size;
    darkbn_taps_limits(&columns.down, columns.stride_y, columns.height, columns.out_height);
    darkbn_taps_limits(&columns.across, columns.stride_x, columns.width, columns.out_width);
    return columns;
}

/* The farthest apart that taps are, in outputs. */
DARKBN_INLINE ptrdiff_t darkbn_reach(const darkbn_taps *taps, ptrdiff_t stride)
{
    return (darkbn_last_shift(taps) - darkbn_first_shift(taps)) / stride;
}

DARKBN_INLINE darkbn_bands darkbn_bands_of(const darkbn_gather *columns, ptrdiff_t sources)
{
    return darkbn_cut_bands(columns, sources, darkbn_reach(&columns->down, columns->stride_y),
                            darkbn_reach(&columns->across, columns->stride_x));
}

static ptrdiff_t darkbn_forward_workspace(const darkbn_geometry *g, int threads)
{
    const ptrdiff_t channels = g->c / g->groups, filters = g->n / g->groups, area = g->size * g->size;
    ptrdiff_t needed;
    if (darkbn_is_direct(g)) {
        int32_t tables[DARKBN_SMALL_TABLES];
        const darkbn_gather columns = darkbn_forward_columns(g, NULL, tables);
        const darkbn_bands bands = darkbn_bands_of(&columns, channels);
        needed = threads * darkbn_direct_local(&bands, channels, filters, area);
    } else {
        needed = darkbn_product_workspace(g->groups, filters, g->batch * g->out_h * g->out_w, channels * area, threads);
    }
    return darkbn_tables_floats(g) + 2 * DARKBN_ALIGN + needed;
}

static void darkbn_convolution_forward(const darkbn_geometry *g, const float *x, const float *weights,
                                       const float *biases, float *out, float *workspace, int threads)
{
    const ptrdiff_t filters = g->n / g->groups, channels = g->c / g->groups, area = g->size * g->size;
    const ptrdiff_t pixels = g->out_h * g->out_w, taps = channels * area;
    int32_t *tables = (int32_t *)darkbn_aligned(workspace);
    float *rest = (float *)tables + darkbn_tables_floats(g);
    const darkbn_gather columns = darkbn_forward_columns(g, x, tables);
    const darkbn_target c = {out, pixels, filters * pixels, g->n * pixels, g->out_h, g->out_w, g->out_w, 1};
    if (darkbn_is_direct(g)) {
        const darkbn_direct direct = {columns, darkbn_bands_of(&columns, channels), g->batch, g->groups, channels,
                                      filters, weights, filters * taps, taps, area, g->size,
                                      darkbn_kernel_rows(g, tables), darkbn_kernel_columns(g, tables), c, 0, biases};
        darkbn_direct_run(&direct, rest, threads);
        return;
    }
    const darkbn_matrix left = {weights, taps, filters * taps, 1};
    const darkbn_product product = {g->groups, filters, g->batch * pixels, taps, darkbn_pack_left, darkbn_pack_pixels,
                                    &left, &columns, c, 1.0f, 0.0f, biases};
    darkbn_multiply(&product, rest, threads);
}

/* Planes of a group as a left operand: lanes are planes, k are the pixels of all images. */
typedef struct darkbn_planes {
    const float *data;
    ptrdiff_t item, image, pixels;
} darkbn_planes;

static void darkbn_pack_planes(const void *operand, ptrdiff_t item, ptrdiff_t first, ptrdiff_t count, ptrdiff_t start,
                               ptrdiff_t depth, float *panels)
{
    const darkbn_planes *planes = operand;
    for (ptrdiff_t done = 0; done < count; done += DARKBN_MR, panels += DARKBN_MR * depth) {
        const ptrdiff_t lanes = darkbn_min(count - done, DARKBN_MR);
        ptrdiff_t b = start / planes->pixels, pixel = start % planes->pixels;
        for (ptrdiff_t p = 0, run; p < depth; p += run, pixel = 0, ++b) {
            run = darkbn_min(planes->pixels - pixel, depth - p);
            const float *x = planes->data + item * planes->item + b * planes->image
                             + (first + done) * planes->pixels + pixel;
            darkbn_pack_along(DARKBN_MR, x, planes->pixels, lanes, run, panels + p * DARKBN_MR);
        }
    }
}

/* Directly, each group is summed up by one thread: there must be some groups for each. */
DARKBN_INLINE int darkbn_weights_are_direct(const darkbn_geometry *g) { return darkbn_is_direct(g) && g->groups >= 8; }

static ptrdiff_t darkbn_backward_weights_workspace(const darkbn_geometry *g, int threads)
{
    const ptrdiff_t channels = g->c / g->groups, filters = g->n / g->groups, area = g->size * g->size;
    ptrdiff_t needed;
    if (darkbn_weights_are_direct(g)) {
        int32_t tables[DARKBN_SMALL_TABLES];
        const darkbn_gather columns = darkbn_forward_columns(g, NULL, tables);
        const darkbn_bands bands = darkbn_bands_of(&columns, channels);
        needed = threads * darkbn_direct_weights_local(&bands, channels, filters, area);
    } else {
        needed = darkbn_product_workspace(g->groups, filters, channels * area, g->batch * g->out_h * g->out_w, threads);
    }
    return darkbn_tables_floats(g) + 2 * DARKBN_ALIGN + needed;
}

static void darkbn_convolution_backward_weights(const darkbn_geometry *g, const float *x, const float *delta,
                                                float *weight_updates, float *workspace, int threads)
{
    const ptrdiff_t filters = g->n / g->groups, channels = g->c / g->groups, taps = channels * g->size * g->size;
    const ptrdiff_t pixels = g->out_h * g->out_w;
    int32_t *tables = (int32_t *)darkbn_aligned(workspace);
    float *rest = (float *)tables + darkbn_tables_floats(g);
    const darkbn_gather columns = darkbn_forward_columns(g, x, tables);
    if (darkbn_weights_are_direct(g)) {
        const darkbn_direct_weights direct = {columns, darkbn_bands_of(&columns, channels), g->batch, g->groups,
                                              channels, filters, delta, weight_updates};
        darkbn_direct_weights_run(&direct, rest, threads);
        return;
    }
    const darkbn_planes left = {delta, filters * pixels, g->n * pixels, pixels};
    const darkbn_target c = {weight_updates, taps, filters * taps, 0, 1, taps, taps, 1};
    const darkbn_product product = {g->groups, filters, taps, g->batch * pixels, darkbn_pack_planes, darkbn_pack_taps,
                                    &left, &columns, c, 1.0f, 1.0f, NULL};
    darkbn_multiply(&product, rest, threads);
}

/* The weights as a left operand of backward_input: lanes are channels, k are (filter, tap of the residue). */
typedef struct darkbn_reaching {
    const float *weights;
    ptrdiff_t filters, channels, size; /* of a group; of the square kernel */
    ptrdiff_t down, across;            /* number of kernel rows and columns that reach the residue */
    const int32_t *rows, *columns;     /* which they are */
} darkbn_reaching;

/* Taps [tap, tap + count) of one filter, `lanes` channels. */
DARKBN_INLINE void darkbn_pack_filter(const darkbn_reaching *r, const float *from, ptrdiff_t lanes, ptrdiff_t tap,
                                      ptrdiff_t count, float *panel)
{
    const ptrdiff_t area = r->size * r->size;
    if (r->down == r->size && r->across == r->size) {
        darkbn_pack_along(DARKBN_MR, from + tap, area, lanes, count, panel);
        return;
    }
    ptrdiff_t i = tap / r->across, j = tap % r->across;
    for (; count > 0; --count, panel += DARKBN_MR) {
        const float *own = from + r->rows[i] * r->size + r->columns[j];
        for (ptrdiff_t lane = 0; lane < DARKBN_MR; ++lane) panel[lane] = lane < lanes ? own[lane * area] : 0.0f;
        if (++j == r->across) {
            j = 0;
            ++i;
        }
    }
}

static void darkbn_pack_reaching(const void *operand, ptrdiff_t item, ptrdiff_t first, ptrdiff_t count, ptrdiff_t start,
                                 ptrdiff_t depth, float *panels)
{
    const darkbn_reaching *r = operand;
    const ptrdiff_t taps = r->down * r->across, area = r->size * r->size;
    const float *weights = r->weights + item * r->filters * r->channels * area + first * area;
    ptrdiff_t filter = start / taps, tap = start % taps;
    for (ptrdiff_t p = 0, some; p < depth; p += some, tap = 0, ++filter) {
        some = darkbn_min(taps - tap, depth - p);
        for (ptrdiff_t done = 0; done < count; done += DARKBN_MR)
            darkbn_pack_filter(r, weights + (filter * r->channels + done) * area, darkbn_min(count - done, DARKBN_MR),
                               tap, some, panels + done * depth + p * DARKBN_MR);
    }
}

/* Number of positions residue, residue + stride, ... below `size`. */
DARKBN_INLINE ptrdiff_t darkbn_positions(ptrdiff_t residue, ptrdiff_t stride, ptrdiff_t size)
{
    return residue < size ? (size - 1 - residue) / stride + 1 : 0;
}

/* The kernel positions that reach inputs of this residue, and at what shift of the output position. */
static void darkbn_reaching_taps(const darkbn_geometry *g, ptrdiff_t residue, ptrdiff_t stride, darkbn_taps *taps,
                                 int32_t *positions)
{
    taps->count = 0;
    for (ptrdiff_t i = 0; i < g->size; ++i) {
        const ptrdiff_t distance = residue + g->pad - i * g->dilation;
        if (distance % stride) continue;
        positions[taps->count] = (int32_t)i;
        taps->shift[taps->count++] = (int32_t)(distance / stride);
    }
}

/* The columns of delta from which inputs (y + i * stride_y, x + j * stride_x) come. */
static darkbn_gather darkbn_backward_columns(const darkbn_geometry *g, const float *delta, int32_t *tables, ptrdiff_t y,
                                             ptrdiff_t x)
{
    const ptrdiff_t plane = g->out_h * g->out_w;
    darkbn_gather columns = {delta, delta + g->batch * g->n * plane, g->n / g->groups * plane, g->n * plane, g->out_h,
                             g->out_w, darkbn_positions(y, g->stride_y, g->h), darkbn_positions(x, g->stride_x, g->w),
                             1, 1, darkbn_place_taps(g->size, tables),
                             darkbn_place_taps(g->size, tables + 3 * g->size)};
    darkbn_reaching_taps(g, y, g->stride_y, &columns.down, darkbn_kernel_rows(g, tables));
    darkbn_reaching_taps(g, x, g->stride_x, &columns.across, darkbn_kernel_columns(g, tables));
    darkbn_taps_limits(&columns.down, 1, g->out_h, columns.out_height);
    darkbn_taps_limits(&columns.across, 1, g->out_w, columns.out_width);
    return columns;
}

/* Number of kernel positions that reach inputs of this residue. */
DARKBN_INLINE ptrdiff_t darkbn_reaching_count(const darkbn_geometry *g, ptrdiff_t residue, ptrdiff_t stride)
{
    ptrdiff_t count = 0;
    for (ptrdiff_t i = 0; i < g->size; ++i) count += (residue + g->pad - i * g->dilation) % stride == 0;
    return count;
}

/* Workspace of one residue, without the tables. */
static ptrdiff_t darkbn_residue_workspace(const darkbn_geometry *g, ptrdiff_t y, ptrdiff_t x, int threads)
{
    const ptrdiff_t filters = g->n / g->groups, channels = g->c / g->groups;
    const ptrdiff_t taps = darkbn_reaching_count(g, y, g->stride_y) * darkbn_reaching_count(g, x, g->stride_x);
    if (taps == 0) return 0;
    if (darkbn_is_direct(g)) {
        int32_t tables[DARKBN_SMALL_TABLES];
        const darkbn_gather columns = darkbn_backward_columns(g, NULL, tables, y, x);
        const darkbn_bands bands = darkbn_bands_of(&columns, filters);
        return threads * darkbn_direct_local(&bands, filters, channels, taps);
    }
    const ptrdiff_t pixels = darkbn_positions(y, g->stride_y, g->h) * darkbn_positions(x, g->stride_x, g->w);
    return darkbn_product_workspace(g->groups, channels, g->batch * pixels, filters * taps, threads);
}

static ptrdiff_t darkbn_backward_input_workspace(const darkbn_geometry *g, int threads)
{
    ptrdiff_t most = 0;
    for (ptrdiff_t y = 0; y < darkbn_min(g->stride_y, g->h); ++y)
        for (ptrdiff_t x = 0; x < darkbn_min(g->stride_x, g->w); ++x)
            most = darkbn_max(most, darkbn_residue_workspace(g, y, x, threads));
    return darkbn_tables_floats(g) + 2 * DARKBN_ALIGN + most;
}

/* input_delta at positions (y + i * stride_y, x + j * stride_x). */
static void darkbn_backward_residue(const darkbn_geometry *g, const float *weights, const float *delta,
                                    float *input_delta, int32_t *tables, ptrdiff_t y, ptrdiff_t x, int threads)
{
    const ptrdiff_t filters = g->n / g->groups, channels = g->c / g->groups, area = g->size * g->size;
    const ptrdiff_t plane = g->h * g->w;
    float *rest = (float *)tables + darkbn_tables_floats(g);
    const int32_t *rows = darkbn_kernel_rows(g, tables), *across = darkbn_kernel_columns(g, tables);
    const darkbn_gather columns = darkbn_backward_columns(g, delta, tables, y, x);
    const ptrdiff_t taps = columns.down.count * columns.across.count;
    if (taps == 0) return;
    const darkbn_target c = {input_delta + y * g->w + x, plane, channels * plane, g->c * plane, columns.out_height,
                             columns.out_width, g->stride_y * g->w, g->stride_x};
    if (darkbn_is_direct(g)) {
        const darkbn_direct direct = {columns, darkbn_bands_of(&columns, filters), g->batch, g->groups, filters,
                                      channels, weights, filters * channels * area, area, channels * area, g->size,
                                      rows, across, c, 1, NULL};
        darkbn_direct_run(&direct, rest, threads);
        return;
    }
    const darkbn_reaching left = {weights, filters, channels, g->size, columns.down.count, columns.across.count, rows,
                                  across};
    const ptrdiff_t pixels = columns.out_height * columns.out_width;
    const darkbn_product product = {g->groups, channels, g->batch * pixels, filters * taps, darkbn_pack_reaching,
                                    darkbn_pack_pixels, &left, &columns, c, 1.0f, 1.0f, NULL};
    darkbn_multiply(&product, rest, threads);
}

static void darkbn_convolution_backward_input(const darkbn_geometry *g, const float *weights, const float *delta,
                                              float *input_delta, float *workspace, int threads)
{
    int32_t *tables = (int32_t *)darkbn_aligned(workspace);
    for (ptrdiff_t y = 0; y < darkbn_min(g->stride_y, g->h); ++y)
        for (ptrdiff_t x = 0; x < darkbn_min(g->stride_x, g->w); ++x)
            darkbn_backward_residue(g, weights, delta, input_delta, tables, y, x, threads);
}

#endif
