/* Matrix products out of convolutions: out(m, p) = sum over k of panel(k, m) * x(k, p), p a pixel of the result.
 *
 * A block of 256 threads makes a tile of 16*TM rows and 16*TN pixels from slices of DEPTH values of k, which lie in shared
 * memory twice: while one slice is multiplied, the next is on its way from memory into registers. Operands have three
 * forms there (`Float`, `Tf32`, `Half`): words of 32 bits that hold one value of k, or two of them as halves.
 *
 * The panel is the left operand with k outside, made by `pack_panel`: rows of `step` words, zero beyond the matrix.
 */
#ifndef DARKBN_PRODUCT_CUH
#define DARKBN_PRODUCT_CUH

#include "activation.cuh"
#include "mma.cuh"

#define DEPTH 16
#define PAD 8 /* words between rows of a slice: those of a fragment lie in 32 different banks */

/* Sizes of a convolution and of its product. The transposed one (gradient of the input) reads a pixel where
 * y*stride_y + i*dilation - pad is a multiple of up_y. */
struct Product {
    i64 b, c, h, w, n, k, oh, ow, groups, stride_y, stride_x, up_y, up_x, dilation, pad;
    i64 depth, step, splits, chunk; /* k of a group, words of a panel's row, parts of k and their size */
    i64 cg, ng, taps, area, pixels;
};

/* What happens to a sum: out = residual_activation(activation(sum + bias) + residual), or out += sum. */
struct Finish {
    const float *biases, *residual;
    float *out;
    i64 activation, residual_activation, adds;
};

#define PRODUCT_PARAMETERS                                                                                           \
    const unsigned *panel, const float *x, const float *biases, const float *residual, float *out, float *partial,   \
        i64 b, i64 c, i64 h, i64 w, i64 n, i64 k, i64 oh, i64 ow, i64 groups, i64 stride_y, i64 stride_x, i64 up_y,  \
        i64 up_x, i64 dilation, i64 pad, i64 depth, i64 step, i64 splits, i64 chunk, i64 activation,                 \
        i64 residual_activation, i64 adds
#define PRODUCT                                                                                                      \
    {b, c, h, w, n, k, oh, ow, groups, stride_y, stride_x, up_y, up_x, dilation, pad, depth, step, splits, chunk,    \
     c / groups, n / groups, k * k, oh * ow, b * oh * ow}
#define FINISH {biases, residual, out, activation, residual_activation, adds}

/* -- the forms of operands in shared memory: rows of a slice, and words from values of neighbouring k */

struct Float {
    static const int rows = DEPTH, pack = 1;
    static DEVICE_MEMBER unsigned word(const float *v) { return __float_as_uint(v[0]); }
};
struct Tf32 {
    static const int rows = DEPTH, pack = 1;
    static DEVICE_MEMBER unsigned word(const float *v) { return to_tf32(v[0]); }
};
struct Half {
    static const int rows = DEPTH / 2, pack = 2;
    static DEVICE_MEMBER unsigned word(const float *v) { return to_halves(v[0], v[1]); }
};

DEVICE void load4(const float *from, bool vector, float *to)
{
    if (vector) {
        const float4 q = *(const float4 *)from;
        to[0] = q.x, to[1] = q.y, to[2] = q.z, to[3] = q.w;
    } else {
        for (int i = 0; i < 4; ++i) to[i] = from[i];
    }
}

DEVICE void store4(unsigned *to, const unsigned *from)
{
    *(uint4 *)to = make_uint4(from[0], from[1], from[2], from[3]);
}

/* -- the left operand: 16*T columns of a panel */
template <typename Form, int T>
struct PanelTile {
    static const int quads = 4 * T, count = (Form::rows * quads + THREADS - 1) / THREADS;
    const unsigned *from;
    i64 step;
    bool active, vector;
    int row, column;
    unsigned held[count][4];

    DEVICE_MEMBER PanelTile(const Product &l, const unsigned *panel, i64 group, i64 row0)
        : step(l.step), vector(aligned(panel) && l.step % 4 == 0)
    {
        const int t = threadIdx.x;
        column = 4 * (t % quads), row = t / quads * count;
        active = row < Form::rows && row0 + column < l.step;
        from = panel + (group * l.depth / Form::pack + row) * l.step + row0 + column;
    }

    DEVICE_MEMBER void fetch(i64 k)
    {
#pragma unroll
        for (int i = 0; i < count; ++i) {
            float values[4] = {0, 0, 0, 0};
            if (active) load4((const float *)from + (k / Form::pack + i) * step, vector, values);
#pragma unroll
            for (int j = 0; j < 4; ++j) held[i][j] = __float_as_uint(values[j]);
        }
    }

    DEVICE_MEMBER void put(unsigned (*slice)[16 * T + PAD]) const
    {
        if (row >= Form::rows) return;
#pragma unroll
        for (int i = 0; i < count; ++i) store4(&slice[row + i][column], held[i]);
    }
};

/* -- the right operand: what 16*T pixels of the result read, any kernel */
template <typename Form, int T, bool TRANSPOSED>
struct GatherTile {
    static const int count = DEPTH * T / 16; /* values of k of a thread, neighbours */
    const float *first;
    i64 image;
    unsigned channels, size, taps;
    int y, x, h, w, dilation, up_y, up_x, column, k0;
    bool inside;
    float held[count];

    DEVICE_MEMBER GatherTile(const Product &l, const float *from, i64 group, int column0)
        : image(l.h * l.w), channels((unsigned)l.cg), size((unsigned)l.k), taps((unsigned)l.taps), h((int)l.h),
          w((int)l.w), dilation((int)l.dilation), up_y((int)l.up_y), up_x((int)l.up_x)
    {
        const int t = threadIdx.x;
        column = t % (16 * T), k0 = t / (16 * T) * count;
        const unsigned pixel = column0 + column, area = (unsigned)l.area, sample = pixel / area, at = pixel % area;
        inside = pixel < l.pixels;
        first = from + (sample * l.c + group * l.cg) * image;
        y = (int)(at / (unsigned)l.ow * l.stride_y - l.pad), x = (int)(at % (unsigned)l.ow * l.stride_x - l.pad);
    }

    DEVICE_MEMBER float at(const float *plane, int row, int column) const
    {
        if (TRANSPOSED) {
            if (row % up_y || column % up_x) return 0;
            row /= up_y, column /= up_x;
        }
        return (unsigned)row < (unsigned)h && (unsigned)column < (unsigned)w ? plane[row * w + column] : 0;
    }

    DEVICE_MEMBER void fetch(i64 k)
    {
        const unsigned start = (unsigned)k + k0;
        unsigned channel = start / taps, tap = start - channel * taps, i = tap / size, j = tap - i * size;
        const float *plane = first + channel * image;
#pragma unroll
        for (int e = 0; e < count; ++e) {
            held[e] = inside && channel < channels ? at(plane, y + (int)i * dilation, x + (int)j * dilation) : 0;
            if (++j == size) {
                j = 0;
                if (++i == size) i = 0, ++channel, plane += image;
            }
        }
    }

    DEVICE_MEMBER void put(unsigned (*slice)[16 * T + PAD]) const
    {
#pragma unroll
        for (int e = 0; e < count; e += Form::pack) slice[(k0 + e) / Form::pack][column] = Form::word(held + e);
    }
};

/* The same for kernels of one tap with stride 1 and without padding, maps of a multiple of four pixels: 16 bytes at a time. */
template <typename Form, int T>
struct PointTile {
    static const int quads = 4 * T, count = DEPTH * quads / THREADS;
    const float *first;
    i64 plane, channels;
    int column, k0;
    bool inside, vector;
    float held[count][4];

    DEVICE_MEMBER PointTile(const Product &l, const float *from, i64 group, int column0)
        : plane(l.area), channels(l.cg), vector(aligned(from))
    {
        const int t = threadIdx.x;
        column = 4 * (t % quads), k0 = t / quads * count;
        const unsigned pixel = column0 + column, area = (unsigned)l.area;
        inside = pixel < l.pixels;
        first = from + (pixel / area * l.c + group * l.cg) * l.area + pixel % area;
    }

    DEVICE_MEMBER void fetch(i64 k)
    {
#pragma unroll
        for (int e = 0; e < count; ++e) {
#pragma unroll
            for (int j = 0; j < 4; ++j) held[e][j] = 0;
            if (inside && k + k0 + e < channels) load4(first + (k + k0 + e) * plane, vector, held[e]);
        }
    }

    DEVICE_MEMBER void put(unsigned (*slice)[16 * T + PAD]) const
    {
        static_assert(count % Form::pack == 0, "a thread has all values of a word");
#pragma unroll
        for (int e = 0; e < count; e += Form::pack) {
            unsigned words[4];
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const float values[2] = {held[e][j], held[e + Form::pack - 1][j]};
                words[j] = Form::word(values);
            }
            store4(&slice[(k0 + e) / Form::pack][column], words);
        }
    }
};

/* -- what becomes of sums */

static __device__ __noinline__ float activate_any(float x, i64 kind) { return activate(x, kind); }

DEVICE float finished(float x, i64 kind)
{
    if (kind == DARKBN_LINEAR) return x;
    if (kind == DARKBN_LEAKY) return x > 0 ? x : 0.1f * x;
    if (kind == DARKBN_RELU) return x > 0 ? x : 0;
    return activate_any(x, kind);
}

/* One result; `at` is its place in out. */
DEVICE void finish(const Finish &f, i64 filter, i64 at, float sum)
{
    if (f.adds) {
        f.out[at] += sum;
        return;
    }
    if (f.biases) sum += f.biases[filter];
    sum = finished(sum, f.activation);
    if (f.residual) sum = finished(sum + f.residual[at], f.residual_activation);
    f.out[at] = sum;
}

/* Where the sums of one column of a tile go: parts of k to `partial`, whole sums to the finish. */
struct Store {
    const Product &l;
    const Finish &f;
    float *partial; /* of this part of k; null when there is one part */
    i64 group;

    /* The place of the column in the group's first row. */
    DEVICE_MEMBER i64 begin(int column) const
    {
        const unsigned area = (unsigned)l.area, sample = (unsigned)column / area, at = (unsigned)column % area;
        return (sample * l.n + group * l.ng) * l.area + at;
    }

    DEVICE_MEMBER void put(i64 first, i64 m, float sum) const
    {
        const i64 at = first + m * l.area;
        if (partial) partial[at] = sum;
        else finish(f, group * l.ng + m, at, sum);
    }
};

/* -- tiles of 16*TM x 16*TN: each thread makes TM x TN of them, in groups of four neighbours */
template <int T>
DEVICE int place(int lane, int r)
{
    return T < 4 ? T * lane + r : r / 4 * 64 + 4 * lane + r % 4;
}

template <int T>
DEVICE void read_words(const unsigned *row, int lane, float *v)
{
    if constexpr (T < 4) {
#pragma unroll
        for (int r = 0; r < T; ++r) v[r] = __uint_as_float(row[T * lane + r]);
    } else {
#pragma unroll
        for (int r = 0; r < T; r += 4) {
            const float4 q = *(const float4 *)&row[place<T>(lane, r)];
            v[r] = q.x, v[r + 1] = q.y, v[r + 2] = q.z, v[r + 3] = q.w;
        }
    }
}

/* Sums in floats: over 128 values of k, and over these sums, so that rounding grows slowly with k. */
template <int TM, int TN>
struct FloatSums {
    float total[TM][TN] = {}, sum[TM][TN] = {};
    int slices = 0;

    DEVICE_MEMBER void add(unsigned (*left)[16 * TM + PAD], unsigned (*right)[16 * TN + PAD])
    {
        const int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
#pragma unroll
        for (int i = 0; i < DEPTH; ++i) {
            float a[TM], b[TN];
            read_words<TM>(left[i], ty, a);
            read_words<TN>(right[i], tx, b);
#pragma unroll
            for (int r = 0; r < TM; ++r)
#pragma unroll
                for (int s = 0; s < TN; ++s) sum[r][s] += a[r] * b[s];
        }
        if (++slices == 128 / DEPTH) widen();
    }

    DEVICE_MEMBER void widen()
    {
        slices = 0;
#pragma unroll
        for (int r = 0; r < TM; ++r)
#pragma unroll
            for (int s = 0; s < TN; ++s) total[r][s] += sum[r][s], sum[r][s] = 0;
    }

    /* Rows 32*pass to 32*pass + 31 of the tile into shared memory. */
    DEVICE_MEMBER void stage(int pass, float *to) const
    {
        const int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
#pragma unroll
        for (int r = 0; r < TM; ++r) {
            const int row = place<TM>(ty, r) - 32 * pass;
            if (row < 0 || row >= 32) continue;
#pragma unroll
            for (int s = 0; s < TN; ++s) to[row * 16 * TN + place<TN>(tx, s)] = total[r][s];
        }
    }
};

/* The same by the units for small matrices: eight warps make 8*TM x 32 each, sums in floats. */
template <typename Form, int TM>
struct UnitSums {
    float sum[TM / 2][4][4] = {};

    DEVICE_MEMBER void add(unsigned (*left)[16 * TM + PAD], unsigned (*right)[128 + PAD])
    {
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
        const int m0 = warp / 4 * 8 * TM, n0 = warp % 4 * 32;
#pragma unroll
        for (int k = 0; k < Form::rows; k += 8) {
            unsigned a[TM / 2][4], b[4][2];
#pragma unroll
            for (int r = 0; r < TM / 2; ++r)
#pragma unroll
                for (int e = 0; e < 4; ++e) a[r][e] = left[k + t + e / 2 * 4][m0 + 16 * r + g + e % 2 * 8];
#pragma unroll
            for (int s = 0; s < 4; ++s)
#pragma unroll
                for (int e = 0; e < 2; ++e) b[s][e] = right[k + t + 4 * e][n0 + 8 * s + g];
#pragma unroll
            for (int r = 0; r < TM / 2; ++r)
#pragma unroll
                for (int s = 0; s < 4; ++s) {
                    if constexpr (Form::pack == 2) mma_half(sum[r][s], a[r], b[s]);
                    else mma_tf32(sum[r][s], a[r], b[s]);
                }
        }
    }

    DEVICE_MEMBER void widen() {}

    DEVICE_MEMBER void stage(int pass, float *to) const
    {
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
        for (int r = 0; r < TM / 2; ++r) {
            const int row = warp / 4 * 8 * TM + 16 * r - 32 * pass;
            if (row < 0 || row >= 32) continue;
#pragma unroll
            for (int s = 0; s < 4; ++s)
#pragma unroll
                for (int e = 0; e < 4; ++e)
                    to[(row + g + e / 2 * 8) * 128 + warp % 4 * 32 + 8 * s + 2 * t + e % 2] = sum[r][s][e];
        }
    }
};

/* The loop over slices: both operands know how to fetch the slice at k and to put it into shared memory. Then the sums go
 * through that memory, 32 rows at a time, so that neighbouring threads store neighbours: each has one column. */
template <int TM, int TN, typename A, typename B, typename Sums, typename S>
DEVICE void multiply(A &a, B &b, Sums &sums, i64 first, i64 last, i64 rows, i64 row0, int columns, int column0,
                     const S &to)
{
    typedef unsigned(*Left)[16 * TM + PAD];
    typedef unsigned(*Right)[16 * TN + PAD];
    __shared__ __align__(16) unsigned memory[2 * DEPTH * (16 * TM + 16 * TN + 2 * PAD)];
    const Left left = (Left)memory;
    const Right right = (Right)(memory + 2 * DEPTH * (16 * TM + PAD));
    a.fetch(first), b.fetch(first);
    a.put(left), b.put(right);
    __syncthreads();
    int now = 0;
#pragma unroll 1
    for (i64 k = first; k < last; k += DEPTH, now ^= DEPTH) {
        const bool more = k + DEPTH < last;
        if (more) a.fetch(k + DEPTH), b.fetch(k + DEPTH);
        sums.add(left + now, right + now);
        if (more) a.put(left + (now ^ DEPTH)), b.put(right + (now ^ DEPTH));
        __syncthreads();
    }
    sums.widen();
    const int column = threadIdx.x % (16 * TN), mine = column0 + column;
    const auto place = to.begin(mine < columns ? mine : 0);
#pragma unroll
    for (int pass = 0; pass < (TM + 1) / 2; ++pass) {
        sums.stage(pass, (float *)memory);
        __syncthreads();
#pragma unroll 1
        for (int row = threadIdx.x / (16 * TN); row < 32; row += THREADS / (16 * TN)) {
            const i64 m = row0 + 32 * pass + row;
            if (m < rows && mine < columns) to.put(place, m, ((float *)memory)[row * 16 * TN + column]);
        }
        __syncthreads();
    }
}

/* A block's tile: of a part of k, of a group. Neighbouring blocks share pixels, so that these come from the cache. */
template <int TM, int TN, typename Form, typename B, typename Sums>
DEVICE void product(const Product &l, const Finish &f, const unsigned *panel, const float *x, float *partial)
{
    const i64 down = (l.ng + 16 * TM - 1) / (16 * TM), across = (l.pixels + 16 * TN - 1) / (16 * TN);
    const i64 tile = blockIdx.x % (down * across), rest = blockIdx.x / (down * across);
    const i64 group = rest % l.groups, split = rest / l.groups;
    const i64 row0 = tile % down * (16 * TM);
    const int column0 = (int)(tile / down * (16 * TN));
    const i64 first = split * l.chunk, last = first + l.chunk < l.depth ? first + l.chunk : l.depth;
    PanelTile<Form, TM> a(l, panel, group, row0);
    B b(l, x, group, column0);
    Sums sums;
    float *part = l.splits > 1 ? partial + split * l.n * l.pixels : nullptr;
    const Store to = {l, f, part, group};
    multiply<TM, TN>(a, b, sums, first, last, l.ng, row0, (int)l.pixels, column0, to);
}

#endif
