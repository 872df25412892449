/* The units for products of small matrices: 16 x 8 sums of a warp, d += a * b, from words of tf32 or of two halves.
 *
 * Lane l has, with g = l / 4 and t = l % 4: of a the words (row g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4); of b
 * (t, column g), (t + 4, g); of d (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1). A word of halves has values 2t and
 * 2t + 1 of k, so that both forms are read alike. Emulation has the same functions (device.h).
 */
#ifndef DARKBN_MMA_CUH
#define DARKBN_MMA_CUH

#include "grid.cuh"

#ifndef DARKBN_EMULATED

/* Rounded to 10 bits of mantissa, halves away from zero. */
DEVICE unsigned to_tf32(float x)
{
    unsigned word = 0;
#if __CUDA_ARCH__ >= 800
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(word) : "f"(x));
#else
    word = (__float_as_uint(x) + 0x1000u) & ~0x1fffu;
#endif
    return word;
}

DEVICE unsigned to_halves(float low, float high)
{
    unsigned short a, b;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(a) : "f"(low));
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(b) : "f"(high));
    return a | (unsigned)b << 16;
}

DEVICE float from_half(unsigned bits)
{
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"((unsigned short)bits));
    return x;
}

/* From sm_80 on; the launcher refuses older devices. */
DEVICE void mma_tf32(float *d, const unsigned *a, const unsigned *b)
{
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    (void)d, (void)a, (void)b;
    __trap();
#endif
}

DEVICE void mma_half(float *d, const unsigned *a, const unsigned *b)
{
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
#pragma unroll
    for (int k = 0; k < 2; ++k)
        asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[2 * k]), "r"(a[2 * k + 1]), "r"(b[k]));
#endif
}

#endif
#endif
