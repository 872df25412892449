/* Convolutions of blocked maps, by algorithm. */
#ifndef DARKBN_BLOCKED_RUN_H
#define DARKBN_BLOCKED_RUN_H

#include "darkbn/blocked_depthwise.h"
#include "darkbn/blocked_first.h"
#include "darkbn/blocked_winograd_taps.h"

/* The codes of darkbn.algorithms.Algorithm. */
enum darkbn_algorithm {
    DARKBN_ALGORITHM_GEMM = 0,
    DARKBN_ALGORITHM_WINOGRAD_2 = 1,
    DARKBN_ALGORITHM_WINOGRAD_4 = 2,
    DARKBN_ALGORITHM_DEPTHWISE = 3,
    DARKBN_ALGORITHM_FIRST = 4,
    DARKBN_ALGORITHM_WINOGRAD_2_TAPS = 5,
    DARKBN_ALGORITHM_WINOGRAD_4_TAPS = 6,
    DARKBN_ALGORITHM_WINOGRAD_STRIDE_2 = 7
};

/* Height and width of the tiles of outputs. */
DARKBN_INLINE int darkbn_winograd_side(int algorithm)
{
    if (algorithm == DARKBN_ALGORITHM_WINOGRAD_STRIDE_2) return DARKBN_WINOGRAD_HALF;
    return algorithm == DARKBN_ALGORITHM_WINOGRAD_2 || algorithm == DARKBN_ALGORITHM_WINOGRAD_2_TAPS ? 2 : 4;
}

static ptrdiff_t darkbn_blocked_packed(ptrdiff_t n, ptrdiff_t cg, ptrdiff_t size, ptrdiff_t groups, int algorithm)
{
    const darkbn_gemm_sizes s = darkbn_sizes_of(n, cg, size, groups);
    switch (algorithm) {
    case DARKBN_ALGORITHM_GEMM:
        return darkbn_gemm_packed(&s);
    case DARKBN_ALGORITHM_DEPTHWISE:
        return darkbn_depthwise_packed(n, size);
    case DARKBN_ALGORITHM_FIRST:
        return darkbn_first_packed(n, cg, size);
    case DARKBN_ALGORITHM_WINOGRAD_2_TAPS:
    case DARKBN_ALGORITHM_WINOGRAD_4_TAPS:
        return darkbn_taps_packed(n, cg);
    default:
        return darkbn_winograd_packed(n, cg, darkbn_winograd_side(algorithm));
    }
}

static void darkbn_blocked_pack(const float *weights, const float *biases, ptrdiff_t n, ptrdiff_t cg, ptrdiff_t size,
                                ptrdiff_t groups, int algorithm, float *packed, int threads)
{
    const darkbn_gemm_sizes s = darkbn_sizes_of(n, cg, size, groups);
    switch (algorithm) {
    case DARKBN_ALGORITHM_GEMM:
        darkbn_gemm_pack(&s, weights, biases, packed, threads);
        return;
    case DARKBN_ALGORITHM_DEPTHWISE:
        darkbn_depthwise_pack(weights, biases, n, size, packed);
        return;
    case DARKBN_ALGORITHM_FIRST:
        darkbn_first_pack(weights, biases, n, cg, size, packed);
        return;
    case DARKBN_ALGORITHM_WINOGRAD_2_TAPS:
    case DARKBN_ALGORITHM_WINOGRAD_4_TAPS:
        darkbn_taps_pack(weights, biases, n, cg, packed, threads);
        return;
    default:
        darkbn_winograd_pack(weights, biases, n, cg, darkbn_winograd_side(algorithm), packed, threads);
    }
}

static ptrdiff_t darkbn_blocked_workspace(const darkbn_blocked *g, int algorithm, int threads)
{
    const darkbn_gemm_sizes s = darkbn_sizes_of(g->n, g->c / g->groups, g->size, g->groups);
    switch (algorithm) {
    case DARKBN_ALGORITHM_GEMM:
        return darkbn_gemm_floats(&s, g->batch, g->out_h * g->out_w, threads);
    case DARKBN_ALGORITHM_DEPTHWISE:
        return 0;
    case DARKBN_ALGORITHM_FIRST:
        return darkbn_first_floats(g, threads);
    case DARKBN_ALGORITHM_WINOGRAD_2_TAPS:
    case DARKBN_ALGORITHM_WINOGRAD_4_TAPS:
        return darkbn_taps_floats(g, darkbn_winograd_side(algorithm), threads);
    default:
        return darkbn_winograd_floats(g, darkbn_winograd_side(algorithm), threads);
    }
}

static void darkbn_blocked_forward(const darkbn_blocked *g, int algorithm, float *workspace, int threads)
{
    switch (algorithm) {
    case DARKBN_ALGORITHM_GEMM:
        darkbn_gemm_run(g, workspace, threads);
        return;
    case DARKBN_ALGORITHM_DEPTHWISE:
        darkbn_depthwise_run(g, threads);
        return;
    case DARKBN_ALGORITHM_FIRST:
        darkbn_first_run(g, workspace, threads);
        return;
    case DARKBN_ALGORITHM_WINOGRAD_2_TAPS:
    case DARKBN_ALGORITHM_WINOGRAD_4_TAPS:
        darkbn_taps_run(g, darkbn_winograd_side(algorithm), workspace, threads);
        return;
    default:
        darkbn_winograd_run(g, darkbn_winograd_side(algorithm), workspace, threads);
    }
}

#endif
