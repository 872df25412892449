/* Matrix products in blocks that fit the caches, on several threads.
 *
 * A product is C(m x n) = alpha * A(m x k) B(k x n) + beta * C + bias, `items` times with the same sizes. Where the
 * operands come from (a matrix, an image gathered on the fly) is behind a packing function, where the columns of C lie
 * is a darkbn_target. The order of every sum follows from the sizes alone: k runs in blocks of plan.depth, parts of k
 * are added in order at the end; threads only share out tiles. */
#ifndef DARKBN_GEMM_PRODUCT_H
#define DARKBN_GEMM_PRODUCT_H

#include "darkbn/gemm_pack.h"

#ifdef _OPENMP
#include <omp.h>
#define DARKBN_THREAD omp_get_thread_num()
#else
#define DARKBN_THREAD 0
#endif

/* Columns of C: column j is pixel (y, x) of image b, j = (b * height + y) * width + x. */
typedef struct darkbn_target {
    float *data;
    ptrdiff_t row, item, image; /* floats from row to row, product to product, image to image */
    ptrdiff_t height, width;
    ptrdiff_t step_y, step_x;
} darkbn_target;

typedef struct darkbn_product {
    ptrdiff_t items, m, n, k;
    darkbn_pack_function pack_a, pack_b;
    const void *a, *b;
    darkbn_target c;
    float alpha, beta;
    const float *bias; /* items * m, or NULL */
} darkbn_product;

enum darkbn_sharing { DARKBN_SHARE_A, DARKBN_SHARE_B, DARKBN_SHARE_NONE };

/* How a product is cut. */
typedef struct darkbn_plan {
    enum darkbn_sharing sharing; /* the operand that is packed once, for all tasks */
    ptrdiff_t depth;             /* k of a block */
    ptrdiff_t parts, part;       /* number of parts of k, each with sums of its own, and k of a part */
    ptrdiff_t rows, columns;     /* of a task: multiples of MR and NR */
    ptrdiff_t shared, local;     /* floats of workspace: for all threads, and for each */
} darkbn_plan;

#define DARKBN_DEPTH 256         /* NR * depth floats stay in the first-level cache */
#define DARKBN_TASK_ROWS 252          /* MR multiples; rows * depth and columns * depth floats stay in the second level */
#define DARKBN_COLUMNS 256
#define DARKBN_PART 8192         /* longest k that is summed up in float */
#define DARKBN_ALIGN 16          /* floats */

DARKBN_INLINE ptrdiff_t darkbn_min(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }
DARKBN_INLINE ptrdiff_t darkbn_max(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }
DARKBN_INLINE ptrdiff_t darkbn_pieces(ptrdiff_t n, ptrdiff_t size) { return (n + size - 1) / size; }
DARKBN_INLINE ptrdiff_t darkbn_round_up(ptrdiff_t n, ptrdiff_t unit) { return darkbn_pieces(n, unit) * unit; }

/* The size of equal pieces of n, in multiples of unit, none larger than most. */
DARKBN_INLINE ptrdiff_t darkbn_even(ptrdiff_t n, ptrdiff_t most, ptrdiff_t unit)
{
    const ptrdiff_t pieces = darkbn_max(darkbn_pieces(n, darkbn_max(most, 1)), 1);
    return darkbn_max(darkbn_round_up(darkbn_pieces(n, pieces), unit), unit);
}

static darkbn_plan darkbn_plan_product(ptrdiff_t items, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, int threads)
{
    darkbn_plan plan;
    const ptrdiff_t tiles = items * darkbn_pieces(m, DARKBN_MR) * darkbn_pieces(n, DARKBN_NR);
    /* Parts follow from the sizes only: they decide the order of the sums. */
    const ptrdiff_t few = darkbn_min(darkbn_pieces(128, darkbn_max(tiles, 1)), k / 1024);
    plan.parts = darkbn_max(darkbn_max(darkbn_pieces(k, DARKBN_PART), few), 1);
    plan.part = darkbn_even(k, darkbn_pieces(k, plan.parts), 8);
    plan.parts = darkbn_max(darkbn_pieces(k, plan.part), 1);
    plan.depth = darkbn_even(plan.part, DARKBN_DEPTH, 8);
    const ptrdiff_t wanted = 4 * (ptrdiff_t)threads; /* tasks, to share the work evenly */
    const ptrdiff_t most_rows = darkbn_round_up(DARKBN_TASK_ROWS - DARKBN_MR + 1, DARKBN_MR);
    if (plan.parts > 1) {
        plan.sharing = DARKBN_SHARE_NONE;
        plan.rows = darkbn_even(m, most_rows, DARKBN_MR);
        plan.columns = darkbn_even(n, DARKBN_COLUMNS, DARKBN_NR);
    } else if (n <= m && n <= 1024) {
        plan.sharing = DARKBN_SHARE_B;
        plan.columns = darkbn_round_up(n, DARKBN_NR);
        const ptrdiff_t pieces = darkbn_pieces(wanted, darkbn_max(items, 1));
        const ptrdiff_t share = darkbn_max(darkbn_pieces(m, pieces), 4 * DARKBN_MR);
        plan.rows = darkbn_even(m, darkbn_min(most_rows, share), DARKBN_MR);
    } else {
        plan.sharing = DARKBN_SHARE_A;
        plan.rows = darkbn_round_up(m, DARKBN_MR);
        const ptrdiff_t pieces = darkbn_pieces(wanted, darkbn_max(items, 1));
        const ptrdiff_t share = darkbn_max(darkbn_pieces(n, pieces), 4 * DARKBN_NR);
        plan.columns = darkbn_even(n, darkbn_min(DARKBN_COLUMNS, share), DARKBN_NR);
    }
    plan.columns = darkbn_max(plan.columns, DARKBN_NR);
    plan.rows = darkbn_max(plan.rows, DARKBN_MR);
    plan.shared = plan.sharing == DARKBN_SHARE_A   ? items * darkbn_round_up(m, DARKBN_MR) * k
                  : plan.sharing == DARKBN_SHARE_B ? items * darkbn_round_up(n, DARKBN_NR) * k
                                                   : 0;
    if (plan.parts > 1) plan.shared = plan.parts * items * m * n;
    plan.shared = darkbn_round_up(plan.shared, DARKBN_ALIGN);
    plan.local = 0;
    if (plan.sharing != DARKBN_SHARE_A) plan.local += darkbn_min(plan.rows, most_rows) * plan.depth;
    if (plan.sharing != DARKBN_SHARE_B) plan.local += plan.columns * plan.depth;
    plan.local = darkbn_round_up(plan.local, DARKBN_ALIGN);
    return plan;
}

/* Floats of workspace that the product takes. */
static ptrdiff_t darkbn_product_workspace(ptrdiff_t items, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, int threads)
{
    const darkbn_plan plan = darkbn_plan_product(items, m, n, k, threads);
    return plan.shared + threads * plan.local + DARKBN_ALIGN;
}

/* The first aligned float of a workspace. */
DARKBN_INLINE float *darkbn_aligned(float *workspace)
{
    const uintptr_t bytes = 4 * DARKBN_ALIGN;
    return (float *)(((uintptr_t)workspace + bytes - 1) / bytes * bytes);
}

/* Where column j of row 0 lies, and in *run how many columns follow it at the distance step_x. */
DARKBN_INLINE float *darkbn_column(const darkbn_target *c, ptrdiff_t j, ptrdiff_t *run)
{
    const ptrdiff_t line = j / c->width, x = j - line * c->width;
    const ptrdiff_t b = line / c->height, y = line - b * c->height;
    *run = c->width - x;
    return c->data + b * c->image + y * c->step_y + x * c->step_x;
}

/* A tile that does not lie in C as a whole: computed beside it and added piece by piece. */
static void darkbn_tile_in_pieces(const darkbn_target *c, ptrdiff_t offset, int rows, ptrdiff_t j, ptrdiff_t columns,
                                  ptrdiff_t depth, const float *a, const float *b, darkbn_epilogue e)
{
    float sums[DARKBN_MR * DARKBN_NR] __attribute__((aligned(64)));
    const darkbn_epilogue plain = {1.0f, 0.0f, NULL};
    darkbn_tiles[rows](depth, a, b, sums, DARKBN_NR, plain);
    for (ptrdiff_t done = 0, run; done < columns; done += run) {
        float *first = darkbn_column(c, j + done, &run) + offset;
        run = darkbn_min(run, columns - done);
        for (int i = 0; i < rows; ++i) {
            const float *from = sums + i * DARKBN_NR + done;
            float *to = first + i * c->row;
            const float bias = e.bias ? e.bias[i] : 0.0f;
            const ptrdiff_t step = c->step_x;
            if (e.beta == 0)
                for (ptrdiff_t x = 0; x < run; ++x) to[x * step] = e.alpha * from[x] + bias;
            else
                for (ptrdiff_t x = 0; x < run; ++x) to[x * step] = e.alpha * from[x] + bias + e.beta * to[x * step];
        }
    }
}

/* The tiles of rows [i0, i0 + rows) in one panel of columns, from column j on. */
DARKBN_INLINE void darkbn_panel(const darkbn_target *c, ptrdiff_t item, ptrdiff_t i0, ptrdiff_t rows, ptrdiff_t j,
                                ptrdiff_t columns, ptrdiff_t depth, const float *a, const float *b, darkbn_epilogue e)
{
    ptrdiff_t run;
    const ptrdiff_t width = darkbn_min(columns, DARKBN_NR);
    float *first = darkbn_column(c, j, &run);
    const int whole = width == DARKBN_NR && run >= DARKBN_NR && c->step_x == 1;
    for (ptrdiff_t i = 0; i < rows; i += DARKBN_MR) {
        const int height = (int)darkbn_min(rows - i, DARKBN_MR);
        const ptrdiff_t offset = item * c->item + (i0 + i) * c->row;
        darkbn_epilogue own = e;
        if (own.bias) own.bias += i0 + i;
        if (whole)
            darkbn_tiles[height](depth, a + i * depth, b, first + offset, c->row, own);
        else
            darkbn_tile_in_pieces(c, offset, height, j, width, depth, a + i * depth, b, own);
    }
}

/* Packed block of A times packed block of B, into rows [i0, i0 + rows) and columns [j0, j0 + columns) of C. */
static void darkbn_block(const darkbn_target *c, ptrdiff_t item, ptrdiff_t i0, ptrdiff_t rows, ptrdiff_t j0,
                         ptrdiff_t columns, ptrdiff_t depth, const float *a, const float *b, darkbn_epilogue e)
{
    /* With few terms C is most of what moves: go along its rows. Else keep each panel of b in the first cache. */
    const ptrdiff_t step = depth < 32 ? DARKBN_MR : darkbn_max(rows, 1);
    for (ptrdiff_t i = 0; i < rows; i += step)
        for (ptrdiff_t j = 0; j < columns; j += DARKBN_NR)
            darkbn_panel(c, item, i0 + i, darkbn_min(step, rows - i), j0 + j, columns - j, depth, a + i * depth,
                         b + j * depth, e);
}

/* One task: rows [i0, i0 + rows) and columns [j0, j0 + columns) over part `part` of k. */
static void darkbn_task(const darkbn_product *product, const darkbn_plan *plan, const darkbn_target *c,
                        darkbn_epilogue last, ptrdiff_t item, ptrdiff_t part, ptrdiff_t i0, ptrdiff_t rows,
                        ptrdiff_t j0, ptrdiff_t columns, const float *shared, float *local)
{
    const ptrdiff_t begin = part * plan->part, end = darkbn_min(begin + plan->part, product->k);
    const ptrdiff_t all_rows = darkbn_round_up(product->m, DARKBN_MR);
    const ptrdiff_t all_columns = darkbn_round_up(product->n, DARKBN_NR);
    const ptrdiff_t most_rows = darkbn_round_up(DARKBN_TASK_ROWS - DARKBN_MR + 1, DARKBN_MR);
    float *own_a = local, *own_b = local;
    if (plan->sharing == DARKBN_SHARE_NONE) own_b += darkbn_min(plan->rows, most_rows) * plan->depth;
    ptrdiff_t k0 = begin;
    do {
        const ptrdiff_t depth = darkbn_min(plan->depth, end - k0);
        const float *b = own_b;
        if (plan->sharing == DARKBN_SHARE_B)
            b = shared + item * all_columns * product->k + k0 * all_columns + j0 * depth;
        else if (depth > 0)
            product->pack_b(product->b, item, j0, columns, k0, depth, own_b);
        darkbn_epilogue e = last;
        if (k0 > begin) {
            e.beta = 1;
            e.bias = NULL;
        }
        for (ptrdiff_t i = 0; i < rows; i += most_rows) {
            const ptrdiff_t some = darkbn_min(rows - i, most_rows);
            const float *a = own_a;
            if (plan->sharing == DARKBN_SHARE_A)
                a = shared + item * all_rows * product->k + k0 * all_rows + (i0 + i) * depth;
            else if (depth > 0)
                product->pack_a(product->a, item, i0 + i, some, k0, depth, own_a);
            darkbn_block(c, item, i0 + i, some, j0, columns, depth, a, b, e);
        }
        k0 += depth;
    } while (k0 < end);
}

/* Pack the shared operand of a product: one task per item, block of k and range of lanes. */
static void darkbn_pack_shared(const darkbn_product *product, const darkbn_plan *plan, float *shared, int threads)
{
    const int left = plan->sharing == DARKBN_SHARE_A;
    const ptrdiff_t width = left ? DARKBN_MR : DARKBN_NR, lanes = left ? product->m : product->n;
    const ptrdiff_t all = darkbn_round_up(lanes, width), range = 8 * width, ranges = darkbn_pieces(lanes, range);
    const ptrdiff_t blocks = darkbn_pieces(product->k, plan->depth), tasks = product->items * blocks * ranges;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (ptrdiff_t task = 0; task < tasks; ++task) {
        const ptrdiff_t item = task / (blocks * ranges), first = task % ranges * range;
        const ptrdiff_t k0 = task / ranges % blocks * plan->depth, depth = darkbn_min(plan->depth, product->k - k0);
        float *to = shared + item * all * product->k + k0 * all + first * depth;
        (left ? product->pack_a : product->pack_b)(left ? product->a : product->b, item, first,
                                                   darkbn_min(range, lanes - first), k0, depth, to);
    }
}

/* C = alpha * the sum of the parts + beta * C + bias. */
static void darkbn_add_parts(const darkbn_product *product, const darkbn_plan *plan, const float *sums, int threads)
{
    const ptrdiff_t rows = product->items * product->m, size = rows * product->n;
    const darkbn_target *c = &product->c;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (ptrdiff_t row = 0; row < rows; ++row) {
        const float bias = product->bias ? product->bias[row] : 0.0f;
        float *first = c->data + row / product->m * c->item + row % product->m * c->row;
        for (ptrdiff_t j = 0, run; j < product->n; j += run) {
            float *to = darkbn_column(c, j, &run) - c->data + first;
            run = darkbn_min(run, product->n - j);
            for (ptrdiff_t x = 0; x < run; ++x, to += c->step_x) {
                const float *sum = sums + row * product->n + j + x;
                double total = 0;
                for (ptrdiff_t part = 0; part < plan->parts; ++part) total += sum[part * size];
                const float value = (float)(product->alpha * total + bias);
                *to = product->beta == 0 ? value : value + product->beta * *to;
            }
        }
    }
}

/* Compute a product. The workspace has darkbn_product_workspace() floats. */
static void darkbn_multiply(const darkbn_product *product, float *workspace, int threads)
{
    const darkbn_plan plan = darkbn_plan_product(product->items, product->m, product->n, product->k, threads);
    float *shared = darkbn_aligned(workspace), *local = shared + plan.shared;
    const ptrdiff_t across = darkbn_pieces(product->n, plan.columns), down = darkbn_pieces(product->m, plan.rows);
    const ptrdiff_t tasks = product->items * plan.parts * across * down;
    /* Starting threads costs more than a small product. */
    if ((double)product->items * product->m * product->n * product->k < 32768) threads = 1;
    darkbn_epilogue last = {product->alpha, product->beta, product->bias};
    darkbn_target c = product->c;
    if (plan.parts > 1) {
        const darkbn_target sums = {shared, product->n, product->m * product->n, 0, 1, product->n, 0, 1};
        const darkbn_epilogue plain = {1.0f, 0.0f, NULL};
        c = sums;
        last = plain;
    } else {
        darkbn_pack_shared(product, &plan, shared, threads);
        /* Whole images in one run of columns, where nothing lies between their rows. */
        if (c.step_x == 1 && c.step_y == c.width) {
            c.width *= c.height;
            c.height = 1;
        }
    }
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (ptrdiff_t task = 0; task < tasks; ++task) {
        const ptrdiff_t j0 = task % across * plan.columns, i0 = task / across % down * plan.rows;
        const ptrdiff_t part = task / (across * down) % plan.parts, item = task / (across * down * plan.parts);
        darkbn_target own = c;
        darkbn_epilogue e = last;
        if (plan.parts > 1) own.data += part * product->items * product->m * product->n;
        if (e.bias) e.bias += item * product->m;
        darkbn_task(product, &plan, &own, e, item, part, i0, darkbn_min(plan.rows, product->m - i0), j0,
                    darkbn_min(plan.columns, product->n - j0), shared, local + DARKBN_THREAD * plan.local);
    }
    if (plan.parts > 1) darkbn_add_parts(product, &plan, shared, threads);
}

#endif
