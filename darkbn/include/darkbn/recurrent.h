/* Gates of recurrent layers.
 *
 * darkbn_<kernel>(arrays, start, n, ...) works on values start to start + n of the kernel's arrays, which `arrays` holds
 * in the order of its arguments, NULL for those that are None. n is at most DARKBN_GATE_ROW, so that what one loop writes
 * is still in the first cache when the next one reads it.
 */
#ifndef DARKBN_RECURRENT_H
#define DARKBN_RECURRENT_H

#include <stddef.h>
#include <string.h>

#include "activation_rows.h"

#define DARKBN_GATE_ROW 1024

static inline float *darkbn_row(float *const *arrays, int index, ptrdiff_t start)
{
    return arrays[index] ? arrays[index] + start : NULL;
}

/* out = activation(w + u + v); w and v may be NULL. */
static inline void darkbn_gate(
    const float *restrict w, const float *restrict u, const float *restrict v, float *restrict out, ptrdiff_t n, int kind)
{
    const float *restrict other = w ? w : v;
    if (w && v)
        for (ptrdiff_t k = 0; k < n; ++k) out[k] = (w[k] + u[k]) + v[k];
    else if (other)
        for (ptrdiff_t k = 0; k < n; ++k) out[k] = other[k] + u[k];
    else
        memcpy(out, u, (size_t)n * sizeof(float));
    darkbn_activate(out, out, n, kind);
}

/* out = a * b * logistic'(gate), copied to the other targets that are not NULL. */
static inline void darkbn_gate_delta(
    const float *restrict a, const float *restrict b, const float *restrict gate, float *restrict out, float *restrict w,
    float *restrict v, ptrdiff_t n)
{
    for (ptrdiff_t k = 0; k < n; ++k) out[k] = a[k] * b[k] * darkbn_logistic_gradient(gate[k]);
    if (w) memcpy(w, out, (size_t)n * sizeof(float));
    if (v) memcpy(v, out, (size_t)n * sizeof(float));
}

/* out += a * b; out may be NULL. */
static inline void darkbn_add_product(
    const float *restrict a, const float *restrict b, float *restrict out, ptrdiff_t n)
{
    if (out)
        for (ptrdiff_t k = 0; k < n; ++k) out[k] += a[k] * b[k];
}

#define DARKBN_IN(name, index) const float *restrict name = darkbn_row(arrays, index, start)
#define DARKBN_OUT(name, index) float *restrict name = darkbn_row(arrays, index, start)

static inline void darkbn_next_state(float *const *arrays, ptrdiff_t start, ptrdiff_t n)
{
    DARKBN_IN(a, 0);
    DARKBN_IN(b, 1);
    DARKBN_IN(previous, 2);
    DARKBN_OUT(state, 3);
    darkbn_gate(b, a, previous, state, n, DARKBN_LINEAR);
}

static inline void darkbn_accumulate(float *const *arrays, ptrdiff_t start, ptrdiff_t n, float scale)
{
    DARKBN_IN(x, 0);
    DARKBN_OUT(out, 1);
    for (ptrdiff_t k = 0; k < n; ++k) out[k] += scale * x[k];
}

static inline void darkbn_gru_gates(float *const *arrays, ptrdiff_t start, ptrdiff_t n)
{
    DARKBN_IN(state, 4);
    DARKBN_OUT(z, 5);
    DARKBN_OUT(r, 6);
    DARKBN_OUT(forgot_state, 7);
    darkbn_gate(darkbn_row(arrays, 1, start), darkbn_row(arrays, 0, start), NULL, z, n, DARKBN_LOGISTIC);
    darkbn_gate(darkbn_row(arrays, 3, start), darkbn_row(arrays, 2, start), NULL, r, n, DARKBN_LOGISTIC);
    for (ptrdiff_t k = 0; k < n; ++k) forgot_state[k] = r[k] * state[k];
}

static inline void darkbn_gru_output(float *const *arrays, ptrdiff_t start, ptrdiff_t n, int kind)
{
    DARKBN_IN(z, 2);
    DARKBN_IN(state, 3);
    DARKBN_OUT(candidate, 4);
    DARKBN_OUT(output, 5);
    darkbn_gate(darkbn_row(arrays, 1, start), darkbn_row(arrays, 0, start), NULL, candidate, n, kind);
    for (ptrdiff_t k = 0; k < n; ++k) output[k] = z[k] * state[k] + (1.0f - z[k]) * candidate[k];
}

static inline void darkbn_gru_backward_output(float *const *arrays, ptrdiff_t start, ptrdiff_t n, int kind)
{
    DARKBN_IN(delta, 0);
    DARKBN_IN(z, 1);
    DARKBN_IN(candidate, 2);
    DARKBN_IN(state, 3);
    DARKBN_OUT(uz_delta, 4);
    DARKBN_OUT(uh_delta, 6);
    for (ptrdiff_t k = 0; k < n; ++k) {
        uz_delta[k] = delta[k] * (state[k] - candidate[k]) * darkbn_logistic_gradient(z[k]);
        uh_delta[k] = delta[k] * (1.0f - z[k]);
    }
    darkbn_activation_gradient(candidate, uh_delta, n, kind);
    memcpy(darkbn_row(arrays, 5, start), uz_delta, (size_t)n * sizeof(float));
    memcpy(darkbn_row(arrays, 7, start), uh_delta, (size_t)n * sizeof(float));
    darkbn_add_product(delta, z, darkbn_row(arrays, 8, start), n);
}

static inline void darkbn_gru_backward_gates(float *const *arrays, ptrdiff_t start, ptrdiff_t n)
{
    DARKBN_IN(forgot_delta, 0);
    DARKBN_IN(r, 1);
    DARKBN_IN(state, 2);
    darkbn_gate_delta(
        forgot_delta, state, r, darkbn_row(arrays, 3, start), darkbn_row(arrays, 4, start), NULL, n);
    darkbn_add_product(forgot_delta, r, darkbn_row(arrays, 5, start), n);
}

static inline void darkbn_lstm_cell(float *const *arrays, ptrdiff_t start, ptrdiff_t n, int kind)
{
    DARKBN_IN(previous_cell, 8);
    DARKBN_OUT(f, 9);
    DARKBN_OUT(i, 10);
    DARKBN_OUT(g, 11);
    DARKBN_OUT(cell, 12);
    float *row[8];
    for (int k = 0; k < 8; ++k) row[k] = darkbn_row(arrays, k, start);
    darkbn_gate(row[0], row[1], row[2], f, n, DARKBN_LOGISTIC);
    darkbn_gate(row[3], row[4], row[5], i, n, DARKBN_LOGISTIC);
    darkbn_gate(row[6], row[7], NULL, g, n, kind);
    for (ptrdiff_t k = 0; k < n; ++k) cell[k] = f[k] * previous_cell[k] + i[k] * g[k];
}

static inline void darkbn_lstm_output(float *const *arrays, ptrdiff_t start, ptrdiff_t n, int kind, float constrain)
{
    DARKBN_OUT(o, 3);
    DARKBN_OUT(cell, 4);
    DARKBN_OUT(output, 5);
    darkbn_gate(
        darkbn_row(arrays, 0, start), darkbn_row(arrays, 1, start), darkbn_row(arrays, 2, start), o, n, DARKBN_LOGISTIC);
    darkbn_activate(cell, output, n, kind);
    for (ptrdiff_t k = 0; k < n; ++k) output[k] *= o[k];
    if (constrain != 0.0f)
        for (ptrdiff_t k = 0; k < n; ++k) cell[k] = darkbn_clamp(cell[k], -constrain, constrain);
}

static inline void darkbn_lstm_backward_output(
    float *const *arrays, ptrdiff_t start, ptrdiff_t n, int kind, float constrain)
{
    DARKBN_IN(delta, 0);
    DARKBN_IN(f, 1);
    DARKBN_IN(i, 2);
    DARKBN_IN(g, 3);
    DARKBN_IN(o, 4);
    DARKBN_IN(previous_cell, 5);
    DARKBN_OUT(cell_delta, 6);
    DARKBN_OUT(cell, 7);
    float c[DARKBN_GATE_ROW], y[DARKBN_GATE_ROW], part[DARKBN_GATE_ROW];
    for (ptrdiff_t k = 0; k < n; ++k) c[k] = f[k] * previous_cell[k] + i[k] * g[k];
    if (cell) memcpy(cell, c, (size_t)n * sizeof(float));
    darkbn_activate(c, y, n, kind);
    darkbn_gate_delta(
        delta, y, o, darkbn_row(arrays, 9, start), darkbn_row(arrays, 8, start), darkbn_row(arrays, 10, start), n);
    for (ptrdiff_t k = 0; k < n; ++k) part[k] = delta[k] * o[k];
    darkbn_activation_gradient(y, part, n, kind);
    if (constrain != 0.0f)
        for (ptrdiff_t k = 0; k < n; ++k) cell_delta[k] = fabsf(c[k]) <= constrain ? cell_delta[k] : 0.0f;
    for (ptrdiff_t k = 0; k < n; ++k) cell_delta[k] += part[k];
}

static inline void darkbn_lstm_backward_cell(float *const *arrays, ptrdiff_t start, ptrdiff_t n, int kind)
{
    DARKBN_IN(f, 0);
    DARKBN_IN(i, 1);
    DARKBN_IN(g, 2);
    DARKBN_IN(previous_cell, 3);
    DARKBN_OUT(cell_delta, 4);
    DARKBN_OUT(wg_delta, 11);
    DARKBN_OUT(ug_delta, 12);
    float *row[11];
    for (int k = 5; k < 11; ++k) row[k] = darkbn_row(arrays, k, start);
    darkbn_gate_delta(cell_delta, previous_cell, f, row[6], row[5], row[7], n);
    darkbn_gate_delta(cell_delta, g, i, row[9], row[8], row[10], n);
    for (ptrdiff_t k = 0; k < n; ++k) ug_delta[k] = cell_delta[k] * i[k];
    darkbn_activation_gradient(g, ug_delta, n, kind);
    if (wg_delta) memcpy(wg_delta, ug_delta, (size_t)n * sizeof(float));
    for (ptrdiff_t k = 0; k < n; ++k) cell_delta[k] *= f[k];
}

#undef DARKBN_IN
#undef DARKBN_OUT

#endif
