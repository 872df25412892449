/* How small functions in headers are declared, for the CPU and for CUDA. */
#ifndef DARKBN_FUNCTION_H
#define DARKBN_FUNCTION_H

#ifdef __CUDACC__
#define DARKBN_INLINE static __device__ __forceinline__
#else
#define DARKBN_INLINE static inline __attribute__((always_inline))
#endif

#endif
