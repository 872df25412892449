/* The three passes of a convolution, by algorithm. */
#ifndef DARKBN_CONVOLUTION_RUN_H
#define DARKBN_CONVOLUTION_RUN_H

#include "darkbn/convolution.h"
#include "darkbn/winograd.h"
#include "darkbn/winograd_weights.h"

/* The codes of darkbn.algorithms.Algorithm that plain maps know. */
enum {
    DARKBN_PLAIN_GEMM = 0,
    DARKBN_PLAIN_WINOGRAD_2 = 1,
    DARKBN_PLAIN_WINOGRAD_4 = 2,
    DARKBN_PLAIN_WINOGRAD_STRIDE_2 = 7
};

/* The side of Winograd's tiles of outputs; 0: another algorithm, or nothing to do. */
static int darkbn_tile_side(const darkbn_geometry *g, int algorithm)
{
    if (algorithm == DARKBN_PLAIN_GEMM || g->batch * g->c * g->h * g->w * g->n * g->out_h * g->out_w == 0) return 0;
    return algorithm == DARKBN_PLAIN_WINOGRAD_2   ? 2
           : algorithm == DARKBN_PLAIN_WINOGRAD_4 ? 4
                                                  : DARKBN_WINOGRAD_HALF;
}

/* The two maps. Nothing is written to those that a pass takes as const. */
DARKBN_INLINE darkbn_plain darkbn_inputs_of(const darkbn_geometry *g, const float *x)
{
    const darkbn_plain map = {(float *)x, g->batch, g->c, g->h, g->w};
    return map;
}

DARKBN_INLINE darkbn_plain darkbn_outputs_of(const darkbn_geometry *g, const float *out)
{
    const darkbn_plain map = {(float *)out, g->batch, g->n, g->out_h, g->out_w};
    return map;
}

static void darkbn_plan_forward(darkbn_winograd_pass *pass, const darkbn_geometry *g, int m, const float *x,
                                const float *weights, const float *biases, float *out, int threads)
{
    const darkbn_filters filters = {weights, g->n, g->c, 9 * g->c, 9, 0};
    pass->filters = filters;
    pass->biases = biases;
    pass->x = darkbn_inputs_of(g, x);
    pass->out = darkbn_outputs_of(g, out);
    pass->adjoint = pass->add = 0;
    pass->tiles = darkbn_tile_map(m, &pass->out, g->pad);
    darkbn_winograd_plan(pass, threads);
}

/* With stride 1 input_delta[y] takes delta[y + pad - i] * weights[i]: delta[y + j - (2 - pad)] * weights[2 - j]. */
static void darkbn_plan_backward_input(darkbn_winograd_pass *pass, const darkbn_geometry *g, int m,
                                       const float *weights, const float *delta, float *input_delta, int threads)
{
    const int adjoint = m == DARKBN_WINOGRAD_HALF;
    const darkbn_filters filters = {weights, g->c, g->n, 9, 9 * g->c, !adjoint};
    pass->filters = filters;
    pass->biases = NULL;
    pass->x = darkbn_outputs_of(g, delta);
    pass->out = darkbn_inputs_of(g, input_delta);
    pass->adjoint = adjoint;
    pass->add = 1;
    pass->tiles = adjoint ? darkbn_tile_map(m, &pass->x, g->pad) : darkbn_tile_map(m, &pass->out, 2 - g->pad);
    darkbn_winograd_plan(pass, threads);
}

static void darkbn_plan_backward_weights(darkbn_weights_pass *pass, const darkbn_geometry *g, int m,
                                         const float *x, const float *delta, float *weight_updates)
{
    pass->x = darkbn_inputs_of(g, x);
    pass->delta = darkbn_outputs_of(g, delta);
    pass->updates = weight_updates;
    pass->tiles = darkbn_tile_map(m, &pass->delta, g->pad);
    darkbn_weights_plan(pass);
}

static ptrdiff_t darkbn_run_forward_workspace(const darkbn_geometry *g, int algorithm, int threads)
{
    const int m = darkbn_tile_side(g, algorithm);
    darkbn_winograd_pass pass;
    if (!m) return darkbn_forward_workspace(g, threads);
    darkbn_plan_forward(&pass, g, m, NULL, NULL, NULL, NULL, threads);
    return darkbn_winograd_pass_floats(&pass, threads);
}

static void darkbn_run_forward(const darkbn_geometry *g, const float *x, const float *weights, const float *biases,
                               float *out, float *workspace, int algorithm, int threads)
{
    const int m = darkbn_tile_side(g, algorithm);
    darkbn_winograd_pass pass;
    if (!m) {
        darkbn_convolution_forward(g, x, weights, biases, out, workspace, threads);
        return;
    }
    darkbn_plan_forward(&pass, g, m, x, weights, biases, out, threads);
    darkbn_winograd_pass_run(&pass, workspace, threads);
}

static ptrdiff_t darkbn_run_backward_weights_workspace(const darkbn_geometry *g, int algorithm, int threads)
{
    const int m = darkbn_tile_side(g, algorithm);
    darkbn_weights_pass pass;
    if (!m) return darkbn_backward_weights_workspace(g, threads);
    darkbn_plan_backward_weights(&pass, g, m, NULL, NULL, NULL);
    return darkbn_weights_pass_floats(&pass, threads);
}

static void darkbn_run_backward_weights(const darkbn_geometry *g, const float *x, const float *delta,
                                        float *weight_updates, float *workspace, int algorithm, int threads)
{
    const int m = darkbn_tile_side(g, algorithm);
    darkbn_weights_pass pass;
    if (!m) {
        darkbn_convolution_backward_weights(g, x, delta, weight_updates, workspace, threads);
        return;
    }
    darkbn_plan_backward_weights(&pass, g, m, x, delta, weight_updates);
    darkbn_weights_pass_run(&pass, workspace, threads);
}

static ptrdiff_t darkbn_run_backward_input_workspace(const darkbn_geometry *g, int algorithm, int threads)
{
    const int m = darkbn_tile_side(g, algorithm);
    darkbn_winograd_pass pass;
    if (!m) return darkbn_backward_input_workspace(g, threads);
    darkbn_plan_backward_input(&pass, g, m, NULL, NULL, NULL, threads);
    return darkbn_winograd_pass_floats(&pass, threads);
}

static void darkbn_run_backward_input(const darkbn_geometry *g, const float *weights, const float *delta,
                                      float *input_delta, float *workspace, int algorithm, int threads)
{
    const int m = darkbn_tile_side(g, algorithm);
    darkbn_winograd_pass pass;
    if (!m) {
        darkbn_convolution_backward_input(g, weights, delta, input_delta, workspace, threads);
        return;
    }
    darkbn_plan_backward_input(&pass, g, m, weights, delta, input_delta, threads);
    darkbn_winograd_pass_run(&pass, workspace, threads);
}

#endif
