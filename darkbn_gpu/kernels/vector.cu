/* Kernels of darkbn.reference.vector: Darknet's element-wise operations. Outputs may be inputs. */
#include "channel.cuh"
#include "optimizer.cuh"

KERNEL vector_fill(float *x, i64 n, float value)
{
    map(x, n, [=]() { return value; });
}

KERNEL vector_axpy(const float *x, float *y, i64 n, float alpha)
{
    map(y, n, [=](float a, float b) { return b + alpha * a; }, x, y);
}

KERNEL vector_scal_add(float *x, i64 n, float alpha, float beta)
{
    map(x, n, [=](float a) { return a * alpha + beta; }, x);
}

KERNEL vector_mul(const float *x, float *y, i64 n)
{
    map(y, n, [](float a, float b) { return a * b; }, x, y);
}

KERNEL vector_power(const float *x, float *y, i64 n, float alpha)
{
    map(y, n, [=](float a) { return powf(a, alpha); }, x);
}

/* partial[block]: sum of x * y, or of x where y is NULL, over the block's share. */
KERNEL vector_partial_dot(const float *x, const float *y, double *partial, i64 n)
{
    const i64 share = (n + gridDim.x - 1) / gridDim.x, start = blockIdx.x * share;
    const i64 count = n - start < share ? n - start : share;
    const float *a = x + start, *b = y ? y + start : NULL;
    const double sum = block_sum_of(count, [=](i64 i) { return b ? a[i] * b[i] : a[i]; });
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

KERNEL vector_join(const double *partial, double *out, i64 parts)
{
    double own = 0;
    FOR_BLOCK(i, parts) own += partial[i];
    own = block_sum(own);
    if (threadIdx.x == 0) out[0] = own;
}

KERNEL vector_mult_add_into(const float *x, const float *y, float *z, i64 n)
{
    map(z, n, [](float a, float b, float c) { return c + a * b; }, x, y, z);
}

KERNEL vector_weighted_sum(const float *a, const float *b, const float *s, float *out, i64 n)
{
    map(out, n, [](float u, float v, float w) { return w * u + (1 - w) * v; }, a, b, s);
}

/* da and db may be NULL. */
KERNEL vector_weighted_delta(const float *a, const float *b, const float *s, float *da, float *db, float *ds,
                             const float *dc, i64 n)
{
    FOR_EACH(i, n) {
        const float change = dc[i], share = s[i];
        if (da) da[i] += change * share;
        if (db) db[i] += change * (1 - share);
        ds[i] += change * (a[i] - b[i]);
    }
}

KERNEL vector_constrain(float *x, i64 n, float limit)
{
    map(x, n, [=](float a) { return bounded(a, limit); }, x);
}

KERNEL vector_binarize(const float *x, float *out, i64 n)
{
    map(out, n, [](float a) { return a > 0 ? 1.0f : -1.0f; }, x);
}

/* One block per row. */
KERNEL vector_binarize_rows(const float *x, float *out, i64 m)
{
    const float *from = x + blockIdx.x * m;
    const float mean = (float)(block_sum_of(m, [=](i64 i) { return fabsf(from[i]); }) / m);
    FOR_BLOCK(i, m) out[blockIdx.x * m + i] = from[i] > 0 ? mean : -mean;
}

/* One thread per column. */
KERNEL vector_binarize_columns(const float *x, float *out, i64 n, i64 m)
{
    FOR_EACH(column, m) {
        double sum = 0;
        for (i64 row = 0; row < n; ++row) sum += fabsf(x[row * m + column]);
        const float mean = (float)(sum / n);
        for (i64 row = 0; row < n; ++row) out[row * m + column] = x[row * m + column] > 0 ? mean : -mean;
    }
}

/* One thread per pixel. */
KERNEL vector_l2normalize(float *x, float *dx, i64 b, i64 c, i64 s)
{
    FOR_EACH(pixel, b * s) {
        const i64 first = pixel / s * c * s + pixel % s;
        double squares = 0;
        for (i64 k = 0; k < c; ++k) squares += (double)x[first + k * s] * x[first + k * s];
        const float length = (float)sqrt(squares);
        for (i64 k = 0; k < c; ++k) {
            const float value = x[first + k * s] / length;
            x[first + k * s] = value;
            dx[first + k * s] = (1 - value) / length;
        }
    }
}

KERNEL vector_copy(const float *x, float *y, i64 n)
{
    map(y, n, [](float a) { return a; }, x);
}
