/* Kernels over all parameters of a network (darkbn_gpu/together.py): a table says where they lie.
 *
 * Arrays are cut into chunks; a block takes one chunk after the other and finds its row by halving.
 */
#include "optimizer.cuh"

#define CHUNK 4096

/* A parameter: its arrays, all of `count` values, the first chunk that is its, and what its step is made with. */
struct Row {
    float *arrays[4];
    i64 count, start;
    double rate, decay, bound;
};

/* The last row that begins at or before a chunk. */
DEVICE const Row &row_of(const Row *rows, i64 n, i64 chunk)
{
    i64 low = 0, high = n;
    while (high - low > 1) {
        const i64 middle = (low + high) / 2;
        if (rows[middle].start <= chunk) low = middle;
        else high = middle;
    }
    return rows[low];
}

/* f(row, i) for every value i of every row. */
template <typename F>
DEVICE void for_rows(const void *table, i64 n, i64 chunks, F f)
{
    for (i64 chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
        const Row &row = row_of((const Row *)table, n, chunk);
        const i64 first = (chunk - row.start) * CHUNK, rest = row.count - first;
        FOR_BLOCK(i, rest < CHUNK ? rest : CHUNK) f(row, first + i);
    }
}

KERNEL together_sgd(const void *table, i64 n, i64 chunks, float momentum)
{
    for_rows(table, n, chunks, [=](const Row &row, i64 i) {
        float *weight = row.arrays[0] + i;
        step_sgd(weight, row.arrays[1] + i, (float)row.rate, momentum, (float)row.decay);
        if (row.bound != 0) *weight = bounded(*weight, (float)row.bound);
    });
}

KERNEL together_adam(const void *table, i64 n, i64 chunks, double beta1, double beta2, double epsilon, double v_scale)
{
    for_rows(table, n, chunks, [=](const Row &row, i64 i) {
        float *weight = row.arrays[0] + i;
        step_adam(weight, row.arrays[1] + i, row.arrays[2] + i, row.arrays[3] + i, row.rate, beta1, beta2, epsilon,
                  row.decay, v_scale);
        if (row.bound != 0) *weight = bounded(*weight, (float)row.bound);
    });
}

KERNEL together_average(const void *table, i64 n, i64 chunks, float rest)
{
    for_rows(table, n, chunks, [=](const Row &row, i64 i) {
        row.arrays[1][i] = step_average(row.arrays[0][i], row.arrays[1][i], rest);
    });
}

KERNEL together_nonfinite(const void *table, i64 n, i64 chunks, unsigned long long *count)
{
    unsigned long long own = 0;
    unsigned long long *sum = &own;
    for_rows(table, n, chunks, [=](const Row &row, i64 i) { *sum += is_nonfinite(row.arrays[0][i]); });
    if (own) atomicAdd(count, own);
}
