/* Batch normalization of channels. Two layouts are worked through:
 *
 * plane:  one channel, `batch` rows of `spatial` values that are `step` apart;
 * tile:   up to DARKBN_COLUMNS neighbouring columns of a (batch, step) matrix, several channels of small images.
 */
#ifndef DARKBN_BATCHNORM_H
#define DARKBN_BATCHNORM_H

#include <math.h>
#include <stddef.h>

#include "lanes.h"
#include "loops.h"
#include "reduce.h"

#define DARKBN_COLUMNS 128
#define DARKBN_ROWS_PER_BLOCK 64

/* Number of values, their mean, sum of squared deviations from it. */
typedef struct {
    double count, mean, squares;
} darkbn_moments;

/* Moments of two sets together. */
static inline darkbn_moments darkbn_join(darkbn_moments a, darkbn_moments b)
{
    const double count = a.count + b.count, difference = b.mean - a.mean;
    const double part = count > 0 ? b.count / count : 0;
    const darkbn_moments both = {
        count, a.mean + difference * part, a.squares + b.squares + difference * difference * a.count * part};
    return both;
}

/* Moments of rows of n values, from the sums of x - shift. */
static inline darkbn_moments darkbn_block_moments(
    const float *x, ptrdiff_t rows, ptrdiff_t step, ptrdiff_t n, float shift)
{
    darkbn_lanes sum = {{{0}}}, squares = {{{0}}};
    const double count = (double)(rows * n);
    for (ptrdiff_t row = 0; row < rows; ++row) {
        const float *v = x + row * step;
        ptrdiff_t i = 0;
        for (; i + DARKBN_LANES <= n; i += DARKBN_LANES)
            for (int p = 0; p < DARKBN_PARTS; ++p) {
                const darkbn_vec d = DARKBN_LOAD(v + i, p) - shift;
                sum.part[p] += d;
                squares.part[p] += d * d;
            }
        if (i < n) {
            const darkbn_lanes rest = darkbn_load_rest(v + i, n - i, shift);
            for (int p = 0; p < DARKBN_PARTS; ++p) {
                const darkbn_vec d = rest.part[p] - shift;
                sum.part[p] += d;
                squares.part[p] += d * d;
            }
        }
    }
    const double total = darkbn_sum_lanes(sum), mean = total / count;
    const double rest = darkbn_sum_lanes(squares) - total * mean;
    const darkbn_moments block = {count, shift + mean, rest > 0 ? rest : 0};
    return block;
}

/* Moments of a channel, block by block of about DARKBN_BLOCK values. A block's sums are those of x - shift, with the
 * mean so far as shift: one sweep. Where the block's mean is far from it, digits would cancel: then the block, which is
 * in the first cache, is swept again with its own mean. */
static inline darkbn_moments darkbn_plane_moments(
    const float *x, ptrdiff_t batch, ptrdiff_t step, ptrdiff_t spatial)
{
    darkbn_moments all = {0, 0, 0};
    if (batch < 1 || spatial < 1) return all;
    const ptrdiff_t rows = spatial < DARKBN_BLOCK ? (DARKBN_BLOCK - 1) / spatial + 1 : 1;
    float shift = x[0];
    for (ptrdiff_t row = 0; row < batch; row += rows)
        for (ptrdiff_t start = 0; start < spatial; start += DARKBN_BLOCK) {
            const float *from = x + row * step + start;
            const ptrdiff_t height = batch - row < rows ? batch - row : rows;
            const ptrdiff_t width = spatial - start < DARKBN_BLOCK ? spatial - start : DARKBN_BLOCK;
            darkbn_moments block = darkbn_block_moments(from, height, step, width, shift);
            const double off = block.mean - shift;
            if (off * off * block.count > 4 * block.squares)
                block = darkbn_block_moments(from, height, step, width, (float)block.mean);
            all = darkbn_join(all, block);
            shift = (float)all.mean;
        }
    return all;
}

/* Moments of each column of a tile: blocks of rows, about the block's own column means. */
static inline void darkbn_tile_moments(
    const float *x, ptrdiff_t batch, ptrdiff_t step, int columns, darkbn_moments *moments)
{
    double mean[DARKBN_COLUMNS] = {0}, squares[DARKBN_COLUMNS] = {0};
    for (ptrdiff_t start = 0; start < batch; start += DARKBN_ROWS_PER_BLOCK) {
        const ptrdiff_t rows = batch - start < DARKBN_ROWS_PER_BLOCK ? batch - start : DARKBN_ROWS_PER_BLOCK;
        float center[DARKBN_COLUMNS] = {0}, sum[DARKBN_COLUMNS] = {0}, square[DARKBN_COLUMNS] = {0};
        for (ptrdiff_t row = start; row < start + rows; ++row)
            for (int i = 0; i < columns; ++i) center[i] += x[row * step + i];
        for (int i = 0; i < columns; ++i) center[i] /= (float)rows;
        for (ptrdiff_t row = start; row < start + rows; ++row)
            for (int i = 0; i < columns; ++i) {
                const float d = x[row * step + i] - center[i];
                sum[i] += d;
                square[i] += d * d;
            }
        const double part = (double)rows / (double)(start + rows);
        for (int i = 0; i < columns; ++i) {
            const double own_mean = center[i] + (double)sum[i] / rows, difference = own_mean - mean[i];
            squares[i] += square[i] - (double)sum[i] * sum[i] / rows + difference * difference * start * part;
            mean[i] += difference * part;
        }
    }
    for (int i = 0; i < columns; ++i) {
        const darkbn_moments column = {(double)batch, mean[i], squares[i]};
        moments[i] = column;
    }
}

/* out = (x - center) * scale + offset */
static inline void darkbn_affine_row(
    const float *x, float *out, ptrdiff_t n, float center, float scale, float offset)
{
    DARKBN_INDEPENDENT
    for (ptrdiff_t i = 0; i < n; ++i) out[i] = (x[i] - center) * scale + offset;
}

static inline void darkbn_affine_columns(
    const float *x, float *out, int n, const float *center, const float *scale, const float *offset)
{
    DARKBN_INDEPENDENT
    for (int i = 0; i < n; ++i) out[i] = (x[i] - center[i]) * scale[i] + offset[i];
}

/* Sum of delta, and of delta * (x - center). */
typedef struct {
    double delta, product;
} darkbn_products;

static inline darkbn_products darkbn_plane_products(
    const float *x, const float *delta, float center, ptrdiff_t batch, ptrdiff_t step, ptrdiff_t spatial)
{
    darkbn_products all = {0, 0};
    const ptrdiff_t rows = spatial < DARKBN_BLOCK ? (DARKBN_BLOCK - 1) / (spatial < 1 ? 1 : spatial) + 1 : 1;
    for (ptrdiff_t first = 0; first < batch; first += rows)
        for (ptrdiff_t start = 0; start < spatial; start += DARKBN_BLOCK) {
            const ptrdiff_t last = batch - first < rows ? batch : first + rows;
            const ptrdiff_t n = spatial - start < DARKBN_BLOCK ? spatial - start : DARKBN_BLOCK;
            darkbn_lanes sum = {{{0}}}, product = {{{0}}};
            for (ptrdiff_t row = first; row < last; ++row) {
                const float *d = delta + row * step + start, *v = x + row * step + start;
                ptrdiff_t i = 0;
                for (; i + DARKBN_LANES <= n; i += DARKBN_LANES)
                    for (int p = 0; p < DARKBN_PARTS; ++p) {
                        sum.part[p] += DARKBN_LOAD(d + i, p);
                        product.part[p] += DARKBN_LOAD(d + i, p) * (DARKBN_LOAD(v + i, p) - center);
                    }
                if (i < n) {
                    const darkbn_lanes left = darkbn_load_rest(d + i, n - i, 0.0f);
                    const darkbn_lanes values = darkbn_load_rest(v + i, n - i, 0.0f);
                    for (int p = 0; p < DARKBN_PARTS; ++p) {
                        sum.part[p] += left.part[p];
                        product.part[p] += left.part[p] * (values.part[p] - center);
                    }
                }
            }
            all.delta += darkbn_sum_lanes(sum);
            all.product += darkbn_sum_lanes(product);
        }
    return all;
}

static inline void darkbn_tile_products(
    const float *x, const float *delta, const float *center, ptrdiff_t batch, ptrdiff_t step, int columns,
    darkbn_products *products)
{
    for (int i = 0; i < columns; ++i) products[i].delta = products[i].product = 0;
    for (ptrdiff_t start = 0; start < batch; start += DARKBN_ROWS_PER_BLOCK) {
        const ptrdiff_t end = batch - start < DARKBN_ROWS_PER_BLOCK ? batch : start + DARKBN_ROWS_PER_BLOCK;
        float sum[DARKBN_COLUMNS] = {0}, product[DARKBN_COLUMNS] = {0};
        for (ptrdiff_t row = start; row < end; ++row)
            for (int i = 0; i < columns; ++i) {
                sum[i] += delta[row * step + i];
                product[i] += delta[row * step + i] * (x[row * step + i] - center[i]);
            }
        for (int i = 0; i < columns; ++i) {
            products[i].delta += sum[i];
            products[i].product += product[i];
        }
    }
}

/* delta = delta * scale + (x - center) * slope + offset */
static inline void darkbn_gradient_row(
    const float *x, float *delta, ptrdiff_t n, float center, float scale, float slope, float offset)
{
    DARKBN_INDEPENDENT
    for (ptrdiff_t i = 0; i < n; ++i) delta[i] = delta[i] * scale + ((x[i] - center) * slope + offset);
}

static inline void darkbn_gradient_columns(
    const float *x, float *delta, int n, const float *center, const float *scale, const float *slope,
    const float *offset)
{
    DARKBN_INDEPENDENT
    for (int i = 0; i < n; ++i) delta[i] = delta[i] * scale[i] + ((x[i] - center[i]) * slope[i] + offset[i]);
}

/* 1 / sqrt(variance + epsilon), or 1 / (sqrt(variance) + epsilon). */
static inline double darkbn_inverse_root(double variance, double epsilon, int outside)
{
    return outside ? 1 / (sqrt(variance) + epsilon) : 1 / sqrt(variance + epsilon);
}

/* Its derivative. With epsilon outside it has none at 0; there x is the mean everywhere and any number will do. */
static inline double darkbn_inverse_root_slope(double variance, double epsilon, int outside)
{
    const double inverse = darkbn_inverse_root(variance, epsilon, outside);
    if (!outside) return -0.5 * inverse * inverse * inverse;
    return variance > 0 ? -0.5 * inverse * inverse / sqrt(variance) : 0;
}

#endif
