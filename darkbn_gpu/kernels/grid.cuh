/* Loops over the grid, sums of a block, and maps with 16-byte accesses. Every block has 256 threads.
 *
 * The number of blocks follows from shapes alone, and sums are joined in a fixed order: results are the same on every
 * device, and bitwise the same in every run.
 */
#ifndef DARKBN_GRID_CUH
#define DARKBN_GRID_CUH

typedef long long i64;

#define THREADS 256
#define KERNEL extern "C" __global__ void __launch_bounds__(THREADS, 1)
#define DEVICE static __device__ __forceinline__
#define DEVICE_MEMBER __device__ __forceinline__

/* for every i < n, over the whole grid. Not unrolled: with a thread for nearly every element it would only be longer. */
#define FOR_EACH(i, n)                                                                                  \
    _Pragma("unroll 1")                                                                                 \
    for (i64 i = (i64)blockIdx.x * THREADS + threadIdx.x, i##_step = (i64)gridDim.x * THREADS; i < (n); \
         i += i##_step)

/* for every i < n, over the threads of one block. */
#define FOR_BLOCK(i, n) for (i64 i = threadIdx.x; i < (n); i += THREADS)

DEVICE double warp_sum(double value)
{
    for (int step = 16; step > 0; step >>= 1) value += __shfl_down_sync(0xffffffffu, value, step);
    return value;
}

/* Sum over the threads of a block, in all of them. */
DEVICE double block_sum(double value)
{
    __shared__ double part[THREADS / 32];
    value = warp_sum(value);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = value;
    __syncthreads();
    double total = 0;
    for (int i = 0; i < THREADS / 32; ++i) total += part[i];
    __syncthreads();
    return total;
}

DEVICE float block_max(float value)
{
    __shared__ float part[THREADS / 32];
    for (int step = 16; step > 0; step >>= 1) {
        const float other = __shfl_down_sync(0xffffffffu, value, step);
        value = other > value ? other : value;
    }
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = value;
    __syncthreads();
    for (int i = 0; i < THREADS / 32; ++i) value = part[i] > value || i == 0 ? part[i] : value;
    __syncthreads();
    return value;
}

template <typename... P>
DEVICE bool aligned(const P *...pointers)
{
    return ((... | (size_t)pointers) & 15) == 0;
}

template <typename F, typename... V>
DEVICE float4 apply4(F f, V... v)
{
    return make_float4(f(v.x...), f(v.y...), f(v.z...), f(v.w...));
}

/* out[i] = f(in[i]...) for i < n; out may be one of the inputs. */
template <typename F, typename... In>
DEVICE void map(float *out, i64 n, F f, const In *...in)
{
    const i64 quads = aligned(out, in...) ? n / 4 : 0;
    FOR_EACH(i, quads) ((float4 *)out)[i] = apply4(f, ((const float4 *)in)[i]...);
    FOR_EACH(i, n - 4 * quads) out[4 * quads + i] = f(in[4 * quads + i]...);
}

/* Sum of f(i) for i < n over one block, in all its threads: floats over 16 values, then doubles. */
template <typename F>
DEVICE double block_sum_of(i64 n, F f)
{
    double total = 0;
    for (i64 i = threadIdx.x; i < n;) {
        float part = 0;
        for (int k = 0; k < 16 && i < n; ++k, i += THREADS) part += f(i);
        total += part;
    }
    return block_sum(total);
}

#endif
