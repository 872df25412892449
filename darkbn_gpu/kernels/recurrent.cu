/* Kernels of darkbn.reference.recurrent: element by element passes. Arrays that may be NULL count as zeros. */
#include "activation.cuh"

DEVICE float at(const float *x, i64 i) { return x ? x[i] : 0; }

DEVICE float gate(const float *w, const float *u, const float *v, i64 i)
{
    return darkbn_logistic(at(w, i) + u[i] + at(v, i));
}

DEVICE void give(float value, i64 i, float *a, float *b, float *c)
{
    if (a) a[i] = value;
    if (b) b[i] = value;
    if (c) c[i] = value;
}

KERNEL recurrent_next_state(const float *a, const float *b, const float *previous, float *state, i64 n)
{
    FOR_EACH(i, n) state[i] = a[i] + b[i] + at(previous, i);
}

KERNEL recurrent_accumulate(const float *x, float *out, i64 n, float scale)
{
    map(out, n, [=](float v, float o) { return o + scale * v; }, x, out);
}

KERNEL recurrent_gru_gates(const float *uz, const float *wz, const float *ur, const float *wr, const float *state,
                           float *z, float *r, float *forgot_state, i64 n)
{
    FOR_EACH(i, n) {
        z[i] = gate(wz, uz, NULL, i);
        const float reset = gate(wr, ur, NULL, i);
        r[i] = reset;
        forgot_state[i] = reset * state[i];
    }
}

KERNEL recurrent_gru_output(const float *uh, const float *wh, const float *z, const float *state, float *candidate,
                            float *output, i64 n, i64 kind)
{
    FOR_EACH(i, n) {
        const float next = activate(uh[i] + wh[i], kind);
        candidate[i] = next;
        output[i] = z[i] * state[i] + (1 - z[i]) * next;
    }
}

KERNEL recurrent_gru_backward_output(const float *delta, const float *z, const float *candidate, const float *state,
                                     float *uz_delta, float *wz_delta, float *uh_delta, float *wh_delta,
                                     float *state_delta, i64 n, i64 kind)
{
    FOR_EACH(i, n) {
        const float d = delta[i], update = z[i], next = candidate[i];
        give(d * (state[i] - next) * darkbn_logistic_gradient(update), i, uz_delta, wz_delta, NULL);
        give(d * (1 - update) * slope(next, kind), i, uh_delta, wh_delta, NULL);
        if (state_delta) state_delta[i] += d * update;
    }
}

KERNEL recurrent_gru_backward_gates(const float *forgot_delta, const float *r, const float *state, float *ur_delta,
                                    float *wr_delta, float *state_delta, i64 n)
{
    FOR_EACH(i, n) {
        const float d = forgot_delta[i];
        give(d * state[i] * darkbn_logistic_gradient(r[i]), i, ur_delta, wr_delta, NULL);
        if (state_delta) state_delta[i] += d * r[i];
    }
}

KERNEL recurrent_lstm_cell(const float *wf, const float *uf, const float *vf, const float *wi, const float *ui,
                           const float *vi, const float *wg, const float *ug, const float *previous_cell, float *f,
                           float *i, float *g, float *cell, i64 n, i64 kind)
{
    FOR_EACH(k, n) {
        const float forget = gate(wf, uf, vf, k), write = gate(wi, ui, vi, k), next = activate(at(wg, k) + ug[k], kind);
        f[k] = forget, i[k] = write, g[k] = next;
        cell[k] = forget * previous_cell[k] + write * next;
    }
}

KERNEL recurrent_lstm_output(const float *wo, const float *uo, const float *vo, float *o, float *cell, float *output,
                             i64 n, i64 kind, float constrain)
{
    FOR_EACH(k, n) {
        const float read = gate(wo, uo, vo, k), c = cell[k];
        o[k] = read;
        output[k] = read * activate(c, kind);
        if (constrain != 0) cell[k] = darkbn_clamp(c, -constrain, constrain);
    }
}

KERNEL recurrent_lstm_backward_output(const float *delta, const float *f, const float *i, const float *g, const float *o,
                                      const float *previous_cell, float *cell_delta, float *cell, float *wo_delta,
                                      float *uo_delta, float *vo_delta, i64 n, i64 kind, float constrain)
{
    FOR_EACH(k, n) {
        const float c = f[k] * previous_cell[k] + i[k] * g[k], y = activate(c, kind);
        if (cell) cell[k] = c;
        give(delta[k] * y * darkbn_logistic_gradient(o[k]), k, wo_delta, uo_delta, vo_delta);
        const float kept = constrain != 0 && !(fabsf(c) <= constrain) ? 0 : cell_delta[k];
        cell_delta[k] = kept + delta[k] * o[k] * slope(y, kind);
    }
}

KERNEL recurrent_lstm_backward_cell(const float *f, const float *i, const float *g, const float *previous_cell,
                                    float *cell_delta, float *wf_delta, float *uf_delta, float *vf_delta,
                                    float *wi_delta, float *ui_delta, float *vi_delta, float *wg_delta, float *ug_delta,
                                    i64 n, i64 kind)
{
    FOR_EACH(k, n) {
        const float d = cell_delta[k];
        give(d * previous_cell[k] * darkbn_logistic_gradient(f[k]), k, wf_delta, uf_delta, vf_delta);
        give(d * g[k] * darkbn_logistic_gradient(i[k]), k, wi_delta, ui_delta, vi_delta);
        give(d * i[k] * slope(g[k], kind), k, wg_delta, ug_delta, NULL);
        cell_delta[k] = d * f[k];
    }
}
