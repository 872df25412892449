/* Hints for loops that compilers should vectorize. */
#ifndef DARKBN_LOOPS_H
#define DARKBN_LOOPS_H

/* Before a loop whose iterations touch different elements, also when arrays are the same array. */
#if defined(__clang__)
#define DARKBN_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define DARKBN_INDEPENDENT _Pragma("GCC ivdep")
#else
#define DARKBN_INDEPENDENT
#endif

#endif
