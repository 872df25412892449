/* What the shared C headers expect from C's own, for NVRTC, which has none. In front of every kernel file. */
#define restrict __restrict__
#define FLT_MAX 3.402823466e+38f
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif
#ifndef NULL
#define NULL 0
#endif
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
