/* The column matrix of one image, and its adjoint. */
#ifndef DARKBN_IM2COL_H
#define DARKBN_IM2COL_H

#include "darkbn/gather.h"

typedef struct darkbn_window {
    ptrdiff_t h, w, size, out_h, out_w, stride_y, stride_x, dilation, pad;
} darkbn_window;

/* One tap's gather from (or scatter to) one channel; `limits` has room for six numbers. */
static darkbn_gather darkbn_one_tap(const darkbn_window *window, ptrdiff_t tap, const float *im, int32_t *limits)
{
    const darkbn_taps down = {1, limits, limits + 1, limits + 2, 0, 0};
    const darkbn_taps across = {1, limits + 3, limits + 4, limits + 5, 0, 0};
    darkbn_gather g = {im, im + window->h * window->w, 0, 0, window->h, window->w, window->out_h, window->out_w,
                       window->stride_y, window->stride_x, down, across};
    limits[0] = (int32_t)(tap / window->size * window->dilation - window->pad);
    limits[3] = (int32_t)(tap % window->size * window->dilation - window->pad);
    darkbn_taps_limits(&g.down, g.stride_y, g.height, g.out_height);
    darkbn_taps_limits(&g.across, g.stride_x, g.width, g.out_width);
    return g;
}

/* All output pixels of tap (tap / size, tap % size) of one channel. */
static void darkbn_im2col_tap(const darkbn_window *window, ptrdiff_t tap, const float *im, float *col)
{
    int32_t limits[6];
    const darkbn_gather g = darkbn_one_tap(window, tap, im, limits);
    const ptrdiff_t pixels = window->out_h * window->out_w;
    darkbn_gather_block(&g, 0, 0, 1, 0, pixels, col, 0, pixels, 0);
}

/* Add all output pixels of one tap to the pixels of the channel that they came from. */
static void darkbn_col2im_tap(const darkbn_window *window, ptrdiff_t tap, const float *col, float *im)
{
    int32_t limits[6];
    const darkbn_gather g = darkbn_one_tap(window, tap, im, limits);
    for (ptrdiff_t y = *g.down.low; y < *g.down.high; ++y) {
        const float *from = col + y * window->out_w;
        float *to = im + (y * window->stride_y + *g.down.shift) * window->w + *g.across.shift;
        if (window->stride_x == 1)
            for (ptrdiff_t x = *g.across.low; x < *g.across.high; ++x) to[x] += from[x];
        else
            for (ptrdiff_t x = *g.across.low; x < *g.across.high; ++x) to[x * window->stride_x] += from[x];
    }
}

#endif
