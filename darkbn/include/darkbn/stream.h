/* Stores past the caches, for arrays that would not stay in them: the line is not read before it is written. */
#ifndef DARKBN_STREAM_H
#define DARKBN_STREAM_H

#include <stdint.h>

#include "vector.h"

#if defined(__SSE__)
#include <immintrin.h>
#endif

/* Arrays from this size on (in floats: 16 MiB) are written past the caches. Measured with 32 MiB of last-level cache:
 * at 11 MiB ordinary stores take half the time, at 22 MiB both the same, at 44 MiB these take 3/4. */
#define DARKBN_STREAM_FROM ((ptrdiff_t)4 << 20)

/* Floats before x + result is on a cache line. */
DARKBN_INLINE ptrdiff_t darkbn_to_line(const float *x) { return (ptrdiff_t)((0 - (uintptr_t)x) % 64 / sizeof(float)); }

/* Store to x, which lies on a vector's boundary. */
DARKBN_INLINE void darkbn_stream(float *x, darkbn_vec v)
{
#if defined(__AVX512F__)
    _mm512_stream_ps(x, (__m512)v);
#elif defined(__AVX__)
    _mm256_stream_ps(x, (__m256)v);
#elif defined(__SSE__)
    _mm_stream_ps(x, (__m128)v);
#else
    darkbn_store(x, v);
#endif
}

/* After the last such store of a thread: other threads see them from here on. */
DARKBN_INLINE void darkbn_stream_end(void)
{
#if defined(__SSE__)
    _mm_sfence();
#endif
}

/* Copy n floats past the caches. */
static inline void darkbn_copy_stream(const float *x, float *out, ptrdiff_t n)
{
    ptrdiff_t i = darkbn_to_line(out) < n ? darkbn_to_line(out) : n;
    darkbn_copy(out, x, i);
    for (; i + 16 <= n; i += 16)
        for (int k = 0; k < 16; k += DARKBN_V) darkbn_stream(out + i + k, darkbn_load(x + i + k));
    darkbn_copy(out + i, x + i, n - i);
    darkbn_stream_end();
}

#endif
