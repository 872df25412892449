/* Sixteen sums side by side, whatever the width of the machine's vectors: results are the same on all of them but for
 * fused multiplication. GCC keeps arrays of floats that are summed into in memory; vectors it keeps in registers. */
#ifndef DARKBN_LANES_H
#define DARKBN_LANES_H

#include <stddef.h>
#include <string.h>

#include "vector.h"

#define DARKBN_LANES 16
#define DARKBN_PARTS (DARKBN_LANES / DARKBN_V)

typedef struct {
    darkbn_vec part[DARKBN_PARTS];
} darkbn_lanes;

/* Part `part` of the sixteen floats from x on. */
#define DARKBN_LOAD(x, part) darkbn_load((x) + (part) * DARKBN_V)

/* The first n < 16 floats from x on, then `fill`. */
static inline darkbn_lanes darkbn_load_rest(const float *x, ptrdiff_t n, float fill)
{
    float values[DARKBN_LANES];
    darkbn_lanes lanes;
    for (int k = 0; k < DARKBN_LANES; ++k) values[k] = fill;
    memcpy(values, x, (size_t)n * sizeof(float));
    memcpy(&lanes, values, sizeof lanes);
    return lanes;
}

/* Sum of the lanes, in double. */
static inline double darkbn_sum_lanes(darkbn_lanes lanes)
{
    float values[DARKBN_LANES];
    double total = 0;
    memcpy(values, &lanes, sizeof values);
    for (int k = 0; k < DARKBN_LANES; ++k) total += values[k];
    return total;
}

#endif
