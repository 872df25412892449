/* Short vectors of floats with GCC's vector extensions (GCC >= 9, clang >= 8): one source for every level.
 *
 * darkbn_vec holds DARKBN_V floats, as many as a register of the level; loads and stores need no alignment. */
#ifndef DARKBN_VECTOR_H
#define DARKBN_VECTOR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "function.h"

#if defined(__AVX512F__)
#define DARKBN_V 16
#elif defined(__AVX__)
#define DARKBN_V 8
#else
#define DARKBN_V 4
#endif

typedef float darkbn_vec __attribute__((vector_size(4 * DARKBN_V)));
typedef float darkbn_vec_unaligned __attribute__((vector_size(4 * DARKBN_V), aligned(4), may_alias));
typedef float darkbn_v4 __attribute__((vector_size(16)));
typedef float darkbn_v4_unaligned __attribute__((vector_size(16), aligned(4), may_alias));
typedef float darkbn_v8_unaligned __attribute__((vector_size(32), aligned(4), may_alias));

#if defined(__clang__)
#define DARKBN_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#define DARKBN_SHUFFLE_4 DARKBN_SHUFFLE
#else
typedef int32_t darkbn_mask __attribute__((vector_size(4 * DARKBN_V)));
typedef int32_t darkbn_mask_4 __attribute__((vector_size(16)));
#define DARKBN_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (darkbn_mask){__VA_ARGS__})
#define DARKBN_SHUFFLE_4(a, b, ...) __builtin_shuffle(a, b, (darkbn_mask_4){__VA_ARGS__})
#endif

DARKBN_INLINE darkbn_vec darkbn_load(const float *x) { return *(const darkbn_vec_unaligned *)x; }

DARKBN_INLINE void darkbn_store(float *x, darkbn_vec v) { *(darkbn_vec_unaligned *)x = v; }

DARKBN_INLINE darkbn_vec darkbn_zero(void) { return (darkbn_vec){0}; }

/* Sum of the lanes, in pairs. */
DARKBN_INLINE float darkbn_lanes_sum(darkbn_vec v)
{
    float x[DARKBN_V];
    darkbn_store(x, v);
    for (int half = DARKBN_V / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) x[i] += x[i + half];
    return x[0];
}

/* Every second float of the 2 * DARKBN_V from x on, the first one included. */
DARKBN_INLINE darkbn_vec darkbn_load_even(const float *x)
{
    const darkbn_vec a = darkbn_load(x), b = darkbn_load(x + DARKBN_V);
#if DARKBN_V == 16
    return DARKBN_SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
#elif DARKBN_V == 8
    return DARKBN_SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14);
#else
    return DARKBN_SHUFFLE(a, b, 0, 2, 4, 6);
#endif
}

/* Copy n floats, n mostly short: whole vectors, the last one ending at the end. Touches nothing else. */
DARKBN_INLINE void darkbn_copy(float *to, const float *from, ptrdiff_t n)
{
    if (n >= DARKBN_V) {
        for (ptrdiff_t i = 0; i < n - DARKBN_V; i += DARKBN_V) darkbn_store(to + i, darkbn_load(from + i));
        darkbn_store(to + n - DARKBN_V, darkbn_load(from + n - DARKBN_V));
        return;
    }
#if DARKBN_V > 8
    if (n >= 8) {
        const darkbn_v8_unaligned low = *(const darkbn_v8_unaligned *)from;
        *(darkbn_v8_unaligned *)(to + n - 8) = *(const darkbn_v8_unaligned *)(from + n - 8);
        *(darkbn_v8_unaligned *)to = low;
        return;
    }
#endif
#if DARKBN_V > 4
    if (n >= 4) {
        const darkbn_v4_unaligned low = *(const darkbn_v4_unaligned *)from;
        *(darkbn_v4_unaligned *)(to + n - 4) = *(const darkbn_v4_unaligned *)(from + n - 4);
        *(darkbn_v4_unaligned *)to = low;
        return;
    }
#endif
    if (n > 0) to[0] = from[0];
    if (n > 1) to[1] = from[1];
    if (n > 2) to[2] = from[2];
}

/* Set n floats to zero. */
DARKBN_INLINE void darkbn_clear(float *to, ptrdiff_t n)
{
    if (n >= DARKBN_V) {
        for (ptrdiff_t i = 0; i < n - DARKBN_V; i += DARKBN_V) darkbn_store(to + i, darkbn_zero());
        darkbn_store(to + n - DARKBN_V, darkbn_zero());
        return;
    }
    if (n >= 4) {
        const darkbn_v4_unaligned zero = {0};
        for (ptrdiff_t i = 0; i < n - 4; i += 4) *(darkbn_v4_unaligned *)(to + i) = zero;
        *(darkbn_v4_unaligned *)(to + n - 4) = zero;
        return;
    }
    if (n > 0) to[0] = 0;
    if (n > 1) to[1] = 0;
    if (n > 2) to[2] = 0;
}

/* Transpose four vectors of four floats in place. */
DARKBN_INLINE void darkbn_transpose_4(darkbn_v4 r[4])
{
    const darkbn_v4 a = DARKBN_SHUFFLE_4(r[0], r[2], 0, 4, 1, 5), b = DARKBN_SHUFFLE_4(r[1], r[3], 0, 4, 1, 5);
    const darkbn_v4 c = DARKBN_SHUFFLE_4(r[0], r[2], 2, 6, 3, 7), d = DARKBN_SHUFFLE_4(r[1], r[3], 2, 6, 3, 7);
    r[0] = DARKBN_SHUFFLE_4(a, b, 0, 4, 1, 5);
    r[1] = DARKBN_SHUFFLE_4(a, b, 2, 6, 3, 7);
    r[2] = DARKBN_SHUFFLE_4(c, d, 0, 4, 1, 5);
    r[3] = DARKBN_SHUFFLE_4(c, d, 2, 6, 3, 7);
}

/* Transpose DARKBN_V vectors of DARKBN_V floats in place: interleaving row i with row i + V/2, log2(V) times. */
DARKBN_INLINE void darkbn_transpose(darkbn_vec r[DARKBN_V])
{
    darkbn_vec t[DARKBN_V];
    for (int stage = 1; stage < DARKBN_V; stage *= 2) {
#pragma GCC unroll 16
        for (int i = 0; i < DARKBN_V / 2; ++i) {
            const darkbn_vec a = r[i], b = r[i + DARKBN_V / 2];
#if DARKBN_V == 16
            t[2 * i] = DARKBN_SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            t[2 * i + 1] = DARKBN_SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif DARKBN_V == 8
            t[2 * i] = DARKBN_SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
            t[2 * i + 1] = DARKBN_SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#else
            t[2 * i] = DARKBN_SHUFFLE(a, b, 0, 4, 1, 5);
            t[2 * i + 1] = DARKBN_SHUFFLE(a, b, 2, 6, 3, 7);
#endif
        }
#pragma GCC unroll 16
        for (int i = 0; i < DARKBN_V; ++i) r[i] = t[i];
    }
}

#endif
