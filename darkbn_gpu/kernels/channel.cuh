/* A channel of a (b, c, s) array, b rows of s values that lie c*s apart: walked through without divisions. */
#ifndef DARKBN_CHANNEL_CUH
#define DARKBN_CHANNEL_CUH

#include "grid.cuh"

/* A pack is `width` neighbouring values; `width` divides s. */
struct Walk {
    i64 row, column;             /* where the walk is, in packs */
    i64 rows, packs;             /* of the channel: rows, packs of a row */
    i64 row_step, column_step;   /* one step of the walk */
    i64 c, s;
    int width;
};

/* Every `step`-th pack of a channel from pack `start` on. */
DEVICE Walk walk_channel(i64 b, i64 c, i64 s, int width, i64 start, i64 step)
{
    Walk w;
    w.packs = s / width, w.rows = w.packs > 0 ? b : 0;
    w.row = w.packs > 0 ? start / w.packs : 0;
    w.column = start - w.row * w.packs;
    w.row_step = w.packs > 0 ? step / w.packs : 0;
    w.column_step = step - w.row_step * w.packs;
    w.c = c, w.s = s, w.width = width;
    return w;
}

/* The packs of a channel that this thread takes when gridDim.x blocks share it out, or a part of them does. */
DEVICE Walk walk_part(i64 b, i64 c, i64 s, int width, i64 part, i64 parts)
{
    return walk_channel(b, c, s, width, part * THREADS + threadIdx.x, parts * THREADS);
}

DEVICE bool going(const Walk &w) { return w.row < w.rows; }

/* Where the pack begins, from the channel's first value. */
DEVICE i64 offset(const Walk &w) { return w.row * w.c * w.s + w.column * w.width; }

DEVICE void step(Walk &w)
{
    w.row += w.row_step;
    w.column += w.column_step;
    if (w.column >= w.packs) {
        w.column -= w.packs;
        ++w.row;
    }
}

/* Four neighbouring values, or one, read and written at once. */
template <int WIDTH>
struct Pack {
    float v[WIDTH];
};

template <int WIDTH>
DEVICE Pack<WIDTH> load(const float *x)
{
    Pack<WIDTH> pack;
    if constexpr (WIDTH == 4) {
        const float4 q = *(const float4 *)x;
        pack.v[0] = q.x, pack.v[1] = q.y, pack.v[2] = q.z, pack.v[3] = q.w;
    } else {
        pack.v[0] = *x;
    }
    return pack;
}

template <int WIDTH>
DEVICE void store(float *x, const Pack<WIDTH> &pack)
{
    if constexpr (WIDTH == 4) *(float4 *)x = make_float4(pack.v[0], pack.v[1], pack.v[2], pack.v[3]);
    else *x = pack.v[0];
}

/* Sum of f(offset) over a part of a channel, in all threads of the block: floats over 16 values, then doubles. */
template <typename F>
DEVICE double channel_sum(i64 b, i64 c, i64 s, i64 part, i64 parts, F f)
{
    double total = 0;
    for (Walk w = walk_part(b, c, s, 1, part, parts); going(w);) {
        float sum = 0;
        for (int k = 0; k < 16 && going(w); ++k, step(w)) sum += f(offset(w));
        total += sum;
    }
    return block_sum(total);
}

/* Sum of the `parts` numbers that blocks left for a channel, `stride` apart; in a fixed order. */
DEVICE double joined(const double *partial, i64 parts, i64 stride)
{
    double total = 0;
    for (i64 k = 0; k < parts; ++k) total += partial[k * stride];
    return total;
}

#endif
