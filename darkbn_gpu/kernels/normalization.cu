/* Kernels of darkbn.reference.normalization: normalization over the channels of a pixel. */
#include "grid.cuh"

/* x^-beta */
DEVICE float inverse_power(float x, float beta)
{
    if (beta == 0.75f) { /* the usual one: 1 / (sqrt(x) * sqrt(sqrt(x))) */
        const float root = sqrtf(x);
        return 1.0f / (root * sqrtf(root));
    }
    return powf(x, -beta);
}

/* One thread per value; norms may be NULL. Channel size/2 is in no sum, and subtracted where it is not in the window. */
KERNEL normalization_lrn(const float *x, float *norms, float *out, i64 b, i64 c, i64 s, i64 size, float alpha,
                         float beta, float kappa)
{
    FOR_EACH(i, b * c * s) {
        const i64 k = i / s % c, skipped = size / 2;
        const float *pixel = x + i / (c * s) * c * s + i % s;
        const i64 first = k - (size - 1) / 2 > 0 ? k - (size - 1) / 2 : 0;
        const i64 last = k + size / 2 < c - 1 ? k + size / 2 : c - 1;
        float sum = 0;
        for (i64 j = first; j <= last; ++j)
            if (j != skipped) sum += pixel[j * s] * pixel[j * s];
        if (skipped < c && (skipped < first || skipped > last)) sum -= pixel[skipped * s] * pixel[skipped * s];
        const float norm = kappa + alpha * sum;
        out[i] = x[i] * inverse_power(norm, beta);
        if (norms) norms[i] = norm;
    }
}

/* shares[b, k, s]: what the norm of a channel changes, delta * x * norms^(-beta - 1). */
KERNEL normalization_lrn_shares(const float *x, const float *norms, const float *delta, float *shares, i64 n, float beta)
{
    map(shares, n, [=](float v, float norm, float d) { return d * inverse_power(norm, beta) * v / norm; }, x, norms, delta);
}

KERNEL normalization_lrn_backward(const float *x, const float *norms, const float *delta, const float *shares,
                                  float *input_delta, i64 b, i64 c, i64 s, i64 size, float alpha, float beta)
{
    FOR_EACH(i, b * c * s) {
        const i64 j = i / s % c;
        const float *pixel = shares + i / (c * s) * c * s + i % s;
        const i64 first = j - size / 2 > 0 ? j - size / 2 : 0;
        const i64 last = j + (size - 1) / 2 < c - 1 ? j + (size - 1) / 2 : c - 1;
        double sum = 0;
        for (i64 k = first; k <= last; ++k) sum += pixel[k * s];
        for (i64 k = 0; k < c && j == size / 2; ++k) sum -= pixel[k * s];
        input_delta[i] = (float)(input_delta[i] + (double)delta[i] * inverse_power(norms[i], beta)
                                 - 2.0 * alpha * beta * x[i] * sum);
    }
}

/* One thread per pixel. */
KERNEL normalization_l2norm(const float *x, float *out, i64 b, i64 c, i64 s)
{
    FOR_EACH(pixel, b * s) {
        const i64 first = pixel / s * c * s + pixel % s;
        double squares = 0;
        for (i64 k = 0; k < c; ++k) squares += (double)x[first + k * s] * x[first + k * s];
        const float inverse = (float)(squares > 0 ? 1 / sqrt(squares) : 0);
        for (i64 k = 0; k < c; ++k) out[first + k * s] = x[first + k * s] * inverse;
    }
}

KERNEL normalization_l2norm_backward(const float *x, const float *delta, float *input_delta, i64 b, i64 c, i64 s)
{
    FOR_EACH(pixel, b * s) {
        const i64 first = pixel / s * c * s + pixel % s;
        double squares = 0, along = 0;
        for (i64 k = 0; k < c; ++k) {
            const double v = x[first + k * s];
            squares += v * v;
            along += v * delta[first + k * s];
        }
        const double inverse = squares > 0 ? 1 / sqrt(squares) : 0;
        for (i64 k = 0; k < c; ++k) {
            const i64 i = first + k * s;
            input_delta[i] = (float)(input_delta[i] + (delta[i] - x[i] * inverse * inverse * along) * inverse);
        }
    }
}
