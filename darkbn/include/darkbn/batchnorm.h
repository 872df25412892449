/* Batch normalization of channels. Two layouts are worked through:
 *
 * plane:  one channel, `batch` rows of `spatial` values that are `step` apart, cut into pieces fixed by the shape;
 * tile:   up to DARKBN_COLUMNS neighbouring columns of a (batch, step) matrix, several channels of small images.
 *
 * Both passes need two sums of one sweep: of d = x - shift and d * d, or of delta and delta * (x - mean). With the
 * mean of a few values as shift, hardly a digit of the variance cancels; where the guess was bad (darkbn_is_far), the
 * sweep is made again with the mean.
 *
 * Activations of two lines (leaky, relu) are part of both passes: `below` is their slope where the normalized value z is
 * not above 0, 1 for none. Of others, the values are made of the output, and delta multiplied by the derivative, a piece
 * at a time while it is in the cache. The backward pass computes z again from x. */
#ifndef DARKBN_BATCHNORM_H
#define DARKBN_BATCHNORM_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "activation_kinds.h"
#include "activation_rows.h"
#include "loops.h"
#include "stream.h"

#define DARKBN_COLUMNS 128
/* Values that are summed in float before their sum goes on in double: of a row, of a column. */
#define DARKBN_SWEEP 2048
#define DARKBN_ROWS_PER_BLOCK 64
/* Lanes of a sum, enough to hide the latency of additions, and the vectors that hold them. */
#define DARKBN_SUM_LANES 32
#define DARKBN_SUM_PARTS (DARKBN_SUM_LANES / DARKBN_V)
/* Before a loop over the parts: GCC keeps an array of vectors in registers when the loop is gone early. */
#define DARKBN_UNROLL _Pragma("GCC unroll 8")

/* Number of values, their mean, sum of squared deviations from it. */
typedef struct {
    double count, mean, squares;
} darkbn_moments;

/* Sum of a, and of a * b. */
typedef struct {
    double first, second;
} darkbn_sums;

typedef double darkbn_doubles __attribute__((vector_size(8 * DARKBN_V)));
typedef int32_t darkbn_ints __attribute__((vector_size(4 * DARKBN_V)));

/* How delta goes back through two lines: z = (x - mean) * scale + offset. `kind` is that of any other activation, LINEAR
 * otherwise. */
typedef struct {
    float scale, offset, below;
    int kind;
} darkbn_gate;

/* Moments from the sums of x - shift and of its square. */
static inline darkbn_moments darkbn_shifted_moments(darkbn_sums sums, double count, double shift)
{
    const double mean = sums.first / count, squares = sums.second - sums.first * mean;
    const darkbn_moments m = {count, shift + mean, squares > 0 ? squares : 0};
    return m;
}

/* Whether a shift was so far from the mean that digits of the variance were lost. */
static inline int darkbn_is_far(darkbn_moments m, float shift)
{
    const double off = m.mean - shift;
    return off * off * m.count > 4 * m.squares;
}

/* Moments of two sets together. */
static inline darkbn_moments darkbn_join(darkbn_moments a, darkbn_moments b)
{
    const double count = a.count + b.count, difference = b.mean - a.mean;
    const double part = count > 0 ? b.count / count : 0;
    const darkbn_moments both = {
        count, a.mean + difference * part, a.squares + b.squares + difference * difference * a.count * part};
    return both;
}

/* --------------------------------------------------------------------------------------------- element by element */

/* z where it is above 0, below * z elsewhere. */
DARKBN_INLINE float darkbn_two_lines(float z, float below) { return z > 0.0f ? z : below * z; }

DARKBN_INLINE darkbn_vec darkbn_select(darkbn_ints mask, darkbn_vec yes, darkbn_vec no)
{
    return (darkbn_vec)((mask & (darkbn_ints)yes) | (~mask & (darkbn_ints)no));
}

/* out = two lines of z = (x - center) * scale + offset */
static inline void darkbn_affine_row(
    const float *x, float *out, ptrdiff_t n, float center, float scale, float offset, float below)
{
    DARKBN_INDEPENDENT
    for (ptrdiff_t i = 0; i < n; ++i) out[i] = darkbn_two_lines((x[i] - center) * scale + offset, below);
}

/* The same past the caches; darkbn_stream_end follows when all is done, it waits for the memory. */
static inline void darkbn_affine_stream(
    const float *x, float *out, ptrdiff_t n, float center, float scale, float offset, float below)
{
    ptrdiff_t i = darkbn_to_line(out) < n ? darkbn_to_line(out) : n;
    __builtin_prefetch(out + n, 1); /* the incomplete line there is stored to in the ordinary way */
    darkbn_affine_row(x, out, i, center, scale, offset, below);
    for (; i + 16 <= n; i += 16)
        for (int k = 0; k < 16; k += DARKBN_V) {
            const darkbn_vec z = (darkbn_load(x + i + k) - center) * scale + offset;
            darkbn_stream(out + i + k, darkbn_select(z > 0.0f, z, below * z));
        }
    darkbn_affine_row(x + i, out + i, n - i, center, scale, offset, below);
}

static inline void darkbn_affine_columns(
    const float *x, float *out, int n, const float *center, const float *scale, const float *offset)
{
    DARKBN_INDEPENDENT
    for (int i = 0; i < n; ++i) out[i] = (x[i] - center[i]) * scale[i] + offset[i];
}

/* delta = delta * (gradient of two lines) * scale + (x - center) * slope + offset */
static inline void darkbn_gradient_row(
    const float *x, float *delta, ptrdiff_t n, float center, float scale, float slope, float offset,
    const darkbn_gate *gate)
{
    const float z_scale = gate->scale, z_offset = gate->offset, below = gate->below;
    DARKBN_INDEPENDENT
    for (ptrdiff_t i = 0; i < n; ++i) {
        const float d = x[i] - center;
        delta[i] = delta[i] * (d * z_scale + z_offset > 0.0f ? 1.0f : below) * scale + (d * slope + offset);
    }
}

static inline void darkbn_gradient_columns(
    const float *x, float *delta, int n, const float *center, const float *scale, const float *slope,
    const float *offset)
{
    DARKBN_INDEPENDENT
    for (int i = 0; i < n; ++i) delta[i] = delta[i] * scale[i] + ((x[i] - center[i]) * slope[i] + offset[i]);
}

/* ------------------------------------------------------------------------------------------------- sums of planes */

/* The last n % DARKBN_V of n values, less shift, in the last lanes, and zeros before them. */
DARKBN_INLINE darkbn_vec darkbn_load_end(const float *x, ptrdiff_t n, float shift)
{
    static const int32_t masks[32] = {[16 ... 31] = -1};
    const ptrdiff_t rest = n % DARKBN_V;
    if (n < DARKBN_V) {
        float values[DARKBN_V] = {0};
        for (ptrdiff_t i = 0; i < n; ++i) values[i] = x[i] - shift;
        return darkbn_load(values);
    }
    darkbn_ints mask;
    memcpy(&mask, masks + 16 - DARKBN_V + rest, sizeof mask);
    return (darkbn_vec)((darkbn_ints)(darkbn_load(x + n - DARKBN_V) - shift) & mask);
}

static inline double darkbn_sum_doubles(const darkbn_doubles *v)
{
    double x[DARKBN_V];
    memcpy(x, v, sizeof x);
    for (int half = DARKBN_V / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) x[i] += x[i + half];
    return x[0];
}

/* What is done to a channel while the next one is swept for its sums: its values are in the cache, where the sweep left
 * them, so that reading the one and writing the other keep both directions of the memory busy. */
enum { DARKBN_NOTHING, DARKBN_AFFINE, DARKBN_AFFINE_STREAM, DARKBN_GRADIENT };

/* out = two lines of (x - center) * scale + offset, then the activation of gate.kind;
 * for the gradient out = out * (gradient of two lines) * scale + ((x - center) * slope + offset). */
typedef struct {
    int kind;
    const float *x;
    float *out;
    float center, scale, slope, offset;
    darkbn_gate gate;
} darkbn_work;

/* The work on n values from `offset` on. */
static inline void darkbn_work_row(const darkbn_work *w, ptrdiff_t offset, ptrdiff_t n)
{
    if (w->kind == DARKBN_AFFINE_STREAM)
        darkbn_affine_stream(w->x + offset, w->out + offset, n, w->center, w->scale, w->offset, w->gate.below);
    else if (w->kind == DARKBN_AFFINE)
        darkbn_affine_row(w->x + offset, w->out + offset, n, w->center, w->scale, w->offset, w->gate.below);
    else if (w->kind == DARKBN_GRADIENT)
        darkbn_gradient_row(w->x + offset, w->out + offset, n, w->center, w->scale, w->slope, w->offset, &w->gate);
}

/* delta back through two lines, d = x - mean. */
DARKBN_INLINE darkbn_vec darkbn_gated(darkbn_vec delta, darkbn_vec d, const darkbn_gate *gate)
{
    return darkbn_select(d * gate->scale + gate->offset > 0.0f, delta, delta * gate->below);
}

/* The same on one vector. Streams need `out + offset` on a vector's boundary. */
DARKBN_INLINE void darkbn_work_vector(const darkbn_work *w, int kind, ptrdiff_t offset)
{
    const darkbn_vec d = darkbn_load(w->x + offset) - w->center;
    float *out = w->out + offset;
    if (kind == DARKBN_GRADIENT) {
        darkbn_store(out, darkbn_gated(darkbn_load(out), d, &w->gate) * w->scale + (d * w->slope + w->offset));
        return;
    }
    const darkbn_vec z = d * w->scale + w->offset, y = darkbn_select(z > 0.0f, z, w->gate.below * z);
    if (kind == DARKBN_AFFINE_STREAM)
        darkbn_stream(out, y);
    else
        darkbn_store(out, y);
}

/* How many floats before they are needed the values of a sweep are fetched while other work is done: the processor's
 * own prefetching does not reach as far with three arrays under way. */
#define DARKBN_AHEAD 512

DARKBN_INLINE void darkbn_fetch_lanes(const float *x)
{
    __builtin_prefetch(x);
    __builtin_prefetch(x + 16);
}

/* Sums of rows of n values, with a - a_shift for a and b - b_shift for b, and work (of that kind) at the same places of
 * another channel. With a gate, a is a delta that goes back through it. */
DARKBN_INLINE darkbn_sums darkbn_sweep(
    const float *a, float a_shift, const float *b, float b_shift, ptrdiff_t rows, ptrdiff_t step, ptrdiff_t n,
    const darkbn_gate *own, const darkbn_work *given, int kind)
{
    const darkbn_work work = kind ? *given : (darkbn_work){0};
    const darkbn_gate gate = own ? *own : (darkbn_gate){0};
    darkbn_doubles first_total = {0}, second_total = {0};
    darkbn_vec first[DARKBN_SUM_PARTS], second[DARKBN_SUM_PARTS];
    ptrdiff_t pending = 0;
#define DARKBN_ADD(part, left, right)    \
    do {                                 \
        const darkbn_vec r = (right), l = (left), d = own ? darkbn_gated(l, r, &gate) : l; \
        first[part] += d;                \
        second[part] += d * r;           \
    } while (0)
#define DARKBN_ADD_AT(part, at) \
    DARKBN_ADD(part, darkbn_load(u + (at)) - a_shift, darkbn_load(v + (at)) - b_shift)
#define DARKBN_FLUSH                                                                    \
    DARKBN_UNROLL                                                                       \
    for (int p = 0; p < DARKBN_SUM_PARTS; ++p) {                                        \
        first_total += __builtin_convertvector(first[p], darkbn_doubles);               \
        second_total += __builtin_convertvector(second[p], darkbn_doubles);             \
    }
#define DARKBN_CLEAR \
    DARKBN_UNROLL    \
    for (int p = 0; p < DARKBN_SUM_PARTS; ++p) first[p] = second[p] = darkbn_zero();
    DARKBN_CLEAR
    for (ptrdiff_t row = 0; row < rows; ++row)
        for (ptrdiff_t start = 0; start < n; start += DARKBN_SWEEP) {
            const ptrdiff_t offset = row * step + start, width = n - start < DARKBN_SWEEP ? n - start : DARKBN_SWEEP;
            const float *u = a + offset, *v = b + offset;
            const ptrdiff_t line = kind == DARKBN_AFFINE_STREAM ? darkbn_to_line(work.out + offset) : 0;
            const ptrdiff_t head = line < width ? line : width;
            ptrdiff_t i = 0;
            if (pending + width > DARKBN_SWEEP) {
                DARKBN_FLUSH
                DARKBN_CLEAR
                pending = 0;
            }
            pending += width;
            const ptrdiff_t next = start + width < n ? width : step - start; /* where the next run begins */
            if (kind == DARKBN_AFFINE_STREAM) {
                /* Ordinary stores to the incomplete lines at both ends: the streams would wait for them. */
                __builtin_prefetch(work.out + offset + width - 1, 1);
                __builtin_prefetch(work.out + offset + next, 1);
            }
            if (head)
                darkbn_affine_row(
                    work.x + offset, work.out + offset, head, work.center, work.scale, work.offset, work.gate.below);
            for (; i + head + DARKBN_SUM_LANES <= width; i += DARKBN_SUM_LANES) {
                if (kind) {
                    const ptrdiff_t ahead = i + DARKBN_AHEAD < width ? i + DARKBN_AHEAD : i + DARKBN_AHEAD - width + next;
                    darkbn_fetch_lanes(u + ahead);
                    if (a != b) darkbn_fetch_lanes(v + ahead);
                }
                DARKBN_UNROLL
                for (int p = 0; p < DARKBN_SUM_PARTS; ++p) {
                    DARKBN_ADD_AT(p, i + p * DARKBN_V);
                    if (kind) darkbn_work_vector(&work, kind, offset + head + i + p * DARKBN_V);
                }
            }
            if (kind) darkbn_work_row(&work, offset + head + i, width - head - i);
            for (; i + DARKBN_SUM_LANES <= width; i += DARKBN_SUM_LANES)
                DARKBN_UNROLL
                for (int p = 0; p < DARKBN_SUM_PARTS; ++p) DARKBN_ADD_AT(p, i + p * DARKBN_V);
            DARKBN_UNROLL
            for (int p = 0; p + 1 < DARKBN_SUM_PARTS; ++p)
                if ((p + 1) * DARKBN_V <= width - i) DARKBN_ADD_AT(p, i + p * DARKBN_V);
            if (width % DARKBN_V)
                DARKBN_ADD(
                    DARKBN_SUM_PARTS - 1, darkbn_load_end(u, width, a_shift), darkbn_load_end(v, width, b_shift));
        }
    DARKBN_FLUSH
#undef DARKBN_ADD
#undef DARKBN_ADD_AT
#undef DARKBN_FLUSH
#undef DARKBN_CLEAR
    const darkbn_sums sums = {darkbn_sum_doubles(&first_total), darkbn_sum_doubles(&second_total)};
    return sums;
}

/* Sums of x - shift and of its square. */
static darkbn_sums darkbn_square_sums(
    const float *x, ptrdiff_t rows, ptrdiff_t step, ptrdiff_t n, float shift, const darkbn_work *work)
{
    if (!work) return darkbn_sweep(x, shift, x, shift, rows, step, n, 0, 0, DARKBN_NOTHING);
    if (work->kind == DARKBN_AFFINE) return darkbn_sweep(x, shift, x, shift, rows, step, n, 0, work, DARKBN_AFFINE);
    return darkbn_sweep(x, shift, x, shift, rows, step, n, 0, work, DARKBN_AFFINE_STREAM);
}

/* Sums of delta, gone back through the gate, and of it times x - center. */
static darkbn_sums darkbn_product_sums(
    const float *x, const float *delta, ptrdiff_t rows, ptrdiff_t step, ptrdiff_t n, float center,
    const darkbn_gate *gate, const darkbn_work *work)
{
    if (gate && gate->below != 1.0f) {
        if (!work) return darkbn_sweep(delta, 0.0f, x, center, rows, step, n, gate, 0, DARKBN_NOTHING);
        return darkbn_sweep(delta, 0.0f, x, center, rows, step, n, gate, work, DARKBN_GRADIENT);
    }
    if (!work) return darkbn_sweep(delta, 0.0f, x, center, rows, step, n, 0, 0, DARKBN_NOTHING);
    return darkbn_sweep(delta, 0.0f, x, center, rows, step, n, 0, work, DARKBN_GRADIENT);
}

/* delta *= gradient of an activation of normalized values; the first-level cache holds a block of them. */
#define DARKBN_GATE_BLOCK 1024
static void darkbn_activation_backward(const float *x, float *delta, ptrdiff_t n, float center, const darkbn_gate *gate)
{
    float z[DARKBN_GATE_BLOCK];
    for (ptrdiff_t i = 0; i < n; i += DARKBN_GATE_BLOCK) {
        const ptrdiff_t count = n - i < DARKBN_GATE_BLOCK ? n - i : DARKBN_GATE_BLOCK;
        darkbn_affine_row(x + i, z, count, center, gate->scale, gate->offset, 1.0f);
        if (!darkbn_gradient_needs_input(gate->kind)) darkbn_activate(z, z, count, gate->kind);
        darkbn_activation_gradient(z, delta + i, count, gate->kind);
    }
}

/* A shift for a channel: the mean of a few values, taken all over it. */
static inline float darkbn_guess(const float *x, ptrdiff_t batch, ptrdiff_t step, ptrdiff_t spatial)
{
    const ptrdiff_t n = spatial < 32 ? spatial : 32;
    double total = 0;
    for (int k = 0; k < 8; ++k) {
        const float *from = x + batch * k / 8 * step + (spatial - n) * k / 8;
        float sum = 0;
        for (ptrdiff_t i = 0; i < n; ++i) sum += from[i] - x[0];
        total += sum;
    }
    return (float)(x[0] + total / (8.0 * (double)n));
}

/* Pieces of a channel, so that several threads can work on it; their number follows from the shape alone. */
#define DARKBN_PIECE 16384
#define DARKBN_MAX_PIECES 128

/* Rows of the batch, and columns of each. */
typedef struct {
    ptrdiff_t row, rows, column, columns;
} darkbn_piece;

static inline int darkbn_pieces(ptrdiff_t batch, ptrdiff_t spatial)
{
    const double wanted = (double)batch * (double)spatial / DARKBN_PIECE;
    const ptrdiff_t n = wanted > 64 ? 64 : wanted < 1 ? 1 : (ptrdiff_t)wanted;
    return (int)(n <= batch ? n : batch * ((n + batch - 1) / batch));
}

static inline darkbn_piece darkbn_piece_of(ptrdiff_t batch, ptrdiff_t spatial, int pieces, ptrdiff_t index)
{
    darkbn_piece p = {batch * index / pieces, 1, 0, spatial};
    if (pieces <= batch) {
        p.rows = batch * (index + 1) / pieces - p.row;
        return p;
    }
    const ptrdiff_t parts = pieces / batch, part = index % parts;
    p.row = index / parts;
    p.column = spatial / DARKBN_SUM_LANES * part / parts * DARKBN_SUM_LANES;
    if (part + 1 < parts)
        p.columns = spatial / DARKBN_SUM_LANES * (part + 1) / parts * DARKBN_SUM_LANES - p.column;
    else
        p.columns = spatial - p.column;
    return p;
}

static inline darkbn_sums darkbn_add_sums(const darkbn_sums *sums, int n)
{
    darkbn_sums all = {0, 0};
    for (int i = 0; i < n; ++i) {
        all.first += sums[i].first;
        all.second += sums[i].second;
    }
    return all;
}

/* The activation of what was normalized, where it is not two lines. */
static inline void darkbn_piece_activate(const darkbn_work *work, ptrdiff_t step, darkbn_piece p)
{
    if (work->kind != DARKBN_AFFINE || work->gate.kind == DARKBN_LINEAR) return;
    for (ptrdiff_t row = p.row; row < p.row + p.rows; ++row) {
        float *out = work->out + row * step + p.column;
        darkbn_activate(out, out, p.columns, work->gate.kind);
    }
}

/* What is done to a channel, on one piece of it. */
static inline void darkbn_piece_work(const darkbn_work *work, ptrdiff_t step, darkbn_piece p)
{
    for (ptrdiff_t row = p.row; row < p.row + p.rows; ++row) darkbn_work_row(work, row * step + p.column, p.columns);
    darkbn_piece_activate(work, step, p);
    if (work->kind == DARKBN_AFFINE_STREAM) darkbn_stream_end();
}

/* Sums of piece `index` of a channel: of x - shift and its square, or with delta of delta and delta * (x - shift).
 * With a gate, delta goes back through it; of an activation that is not two lines, delta becomes the gradient.
 * Meanwhile the work, unless NULL, is done on the same piece of another channel. */
static inline darkbn_sums darkbn_piece_sums(
    const float *x, float *delta, ptrdiff_t batch, ptrdiff_t step, ptrdiff_t spatial, float shift,
    const darkbn_gate *gate, const darkbn_work *work, int pieces, ptrdiff_t index)
{
    const darkbn_piece p = darkbn_piece_of(batch, spatial, pieces, index);
    const ptrdiff_t offset = p.row * step + p.column;
    darkbn_work here;
    darkbn_sums sums;
    if (gate && gate->kind != DARKBN_LINEAR)
        for (ptrdiff_t row = p.row; row < p.row + p.rows; ++row) {
            const ptrdiff_t at = row * step + p.column;
            darkbn_activation_backward(x + at, delta + at, p.columns, shift, gate);
        }
    if (work) {
        here = *work;
        here.x += offset;
        here.out += offset;
        work = &here;
    }
    if (delta)
        sums = darkbn_product_sums(x + offset, delta + offset, p.rows, step, p.columns, shift, gate, work);
    else
        sums = darkbn_square_sums(x + offset, p.rows, step, p.columns, shift, work);
    if (work) darkbn_piece_activate(work, step, (darkbn_piece){0, p.rows, 0, p.columns});
    return sums;
}

/* The same of the whole channel. */
static inline darkbn_sums darkbn_plane_sums(
    const float *x, float *delta, ptrdiff_t batch, ptrdiff_t step, ptrdiff_t spatial, float shift,
    const darkbn_gate *gate, const darkbn_work *work)
{
    darkbn_sums sums[DARKBN_MAX_PIECES];
    const int pieces = darkbn_pieces(batch, spatial);
    for (int i = 0; i < pieces; ++i)
        sums[i] = darkbn_piece_sums(x, delta, batch, step, spatial, shift, gate, work, pieces, i);
    if (work && work->kind == DARKBN_AFFINE_STREAM) darkbn_stream_end();
    return darkbn_add_sums(sums, pieces);
}

/* Moments of a channel; the work as above. */
static inline darkbn_moments darkbn_plane_moments(
    const float *x, ptrdiff_t batch, ptrdiff_t step, ptrdiff_t spatial, const darkbn_work *work)
{
    const darkbn_moments none = {0, 0, 0};
    if (batch < 1 || spatial < 1) return none;
    const double count = (double)batch * (double)spatial;
    float shift = darkbn_guess(x, batch, step, spatial);
    darkbn_moments m = darkbn_shifted_moments(
        darkbn_plane_sums(x, 0, batch, step, spatial, shift, 0, work), count, shift);
    if (!darkbn_is_far(m, shift)) return m;
    shift = (float)m.mean;
    return darkbn_shifted_moments(darkbn_plane_sums(x, 0, batch, step, spatial, shift, 0, 0), count, shift);
}

/* ------------------------------------------------------------------------------------------------- sums of tiles */

/* Sums of DARKBN_SUM_LANES columns, added to `sums`. */
DARKBN_INLINE void darkbn_strip_sums(
    const float *a, const float *a_shift, const float *b, const float *b_shift, ptrdiff_t rows, ptrdiff_t step,
    darkbn_sums *sums)
{
    darkbn_vec first[DARKBN_SUM_PARTS], second[DARKBN_SUM_PARTS], left[DARKBN_SUM_PARTS], right[DARKBN_SUM_PARTS];
    for (int p = 0; p < DARKBN_SUM_PARTS; ++p) {
        first[p] = second[p] = darkbn_zero();
        left[p] = a_shift ? darkbn_load(a_shift + p * DARKBN_V) : darkbn_zero();
        right[p] = darkbn_load(b_shift + p * DARKBN_V);
    }
    for (ptrdiff_t row = 0; row < rows; ++row)
        for (int p = 0; p < DARKBN_SUM_PARTS; ++p) {
            const darkbn_vec d = darkbn_load(a + row * step + p * DARKBN_V) - left[p];
            first[p] += d;
            second[p] += d * (darkbn_load(b + row * step + p * DARKBN_V) - right[p]);
        }
    for (int p = 0; p < DARKBN_SUM_PARTS; ++p)
        for (int k = 0; k < DARKBN_V; ++k) {
            sums[p * DARKBN_V + k].first += first[p][k];
            sums[p * DARKBN_V + k].second += second[p][k];
        }
}

/* Sums of each column of a tile; a_shift may be NULL for zeros. */
DARKBN_INLINE void darkbn_column_sums(
    const float *a, const float *a_shift, const float *b, const float *b_shift, ptrdiff_t batch, ptrdiff_t step,
    int columns, darkbn_sums *sums)
{
    for (int i = 0; i < columns; ++i) sums[i].first = sums[i].second = 0;
    for (ptrdiff_t start = 0; start < batch; start += DARKBN_ROWS_PER_BLOCK) {
        const ptrdiff_t rows = batch - start < DARKBN_ROWS_PER_BLOCK ? batch - start : DARKBN_ROWS_PER_BLOCK;
        const float *u = a + start * step, *v = b + start * step;
        int i = 0;
        for (; i + DARKBN_SUM_LANES <= columns; i += DARKBN_SUM_LANES)
            darkbn_strip_sums(u + i, a_shift ? a_shift + i : 0, v + i, b_shift + i, rows, step, sums + i);
        for (; i < columns; ++i) {
            float first = 0, second = 0;
            for (ptrdiff_t row = 0; row < rows; ++row) {
                const float d = u[row * step + i] - (a_shift ? a_shift[i] : 0.0f);
                first += d;
                second += d * (v[row * step + i] - b_shift[i]);
            }
            sums[i].first += first;
            sums[i].second += second;
        }
    }
}

/* Moments of each column of a tile. */
static inline void darkbn_tile_moments(
    const float *x, ptrdiff_t batch, ptrdiff_t step, int columns, darkbn_moments *moments)
{
    darkbn_sums sums[DARKBN_COLUMNS];
    float shift[DARKBN_COLUMNS];
    const ptrdiff_t few = batch < 8 ? batch : 8;
    for (int i = 0; i < columns; ++i) shift[i] = 0;
    for (ptrdiff_t row = 0; row < few; ++row)
        for (int i = 0; i < columns; ++i) shift[i] += x[row * step + i] / (float)few;
    for (int turn = 0; turn < 2; ++turn) {
        int far = 0;
        darkbn_column_sums(x, shift, x, shift, batch, step, columns, sums);
        for (int i = 0; i < columns; ++i) {
            moments[i] = darkbn_shifted_moments(sums[i], (double)batch, shift[i]);
            far |= darkbn_is_far(moments[i], shift[i]);
        }
        if (!far) return;
        for (int i = 0; i < columns; ++i) shift[i] = (float)moments[i].mean;
    }
}

/* delta *= gradient of any activation of normalized values, in a row of a tile. */
static inline void darkbn_columns_backward(
    const float *x, float *delta, int n, const float *center, const float *scale, const float *offset, int kind)
{
    float z[DARKBN_COLUMNS];
    darkbn_affine_columns(x, z, n, center, scale, offset);
    if (!darkbn_gradient_needs_input(kind)) darkbn_activate(z, z, n, kind);
    darkbn_activation_gradient(z, delta, n, kind);
}

static inline void darkbn_tile_products(
    const float *x, const float *delta, const float *center, ptrdiff_t batch, ptrdiff_t step, int columns,
    darkbn_sums *products)
{
    darkbn_column_sums(delta, 0, x, center, batch, step, columns, products);
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
