/* Kernels of darkbn.reference.contrastive: the formulas are in darkbn/include/darkbn/contrastive.h. One thread per
 * embedding; each step needs what all threads of the one before have made. */
#include "darkbn/contrastive.h"
#include "grid.cuh"

#define CONTRASTIVE_PARAMETERS                                                                                    \
    const float *z, const int *labels, const int *classes, const int *steps, float *similar, i64 m, i64 d, i64 most, \
        double temperature, i64 detection
#define CONTRASTIVE {z, labels, classes, steps, similar, m, d, most, temperature, (int)detection}

KERNEL contrastive_lengths(CONTRASTIVE_PARAMETERS)
{
    const darkbn_contrast g = CONTRASTIVE;
    FOR_EACH(i, m) darkbn_contrast_length(&g, i);
}

KERNEL contrastive_angles(CONTRASTIVE_PARAMETERS)
{
    const darkbn_contrast g = CONTRASTIVE;
    FOR_EACH(i, m) darkbn_contrast_angles(&g, i);
}

KERNEL contrastive_totals(CONTRASTIVE_PARAMETERS)
{
    const darkbn_contrast g = CONTRASTIVE;
    FOR_EACH(i, m) darkbn_contrast_total(&g, i);
}

KERNEL contrastive_loss(float *delta, int *right, CONTRASTIVE_PARAMETERS)
{
    const darkbn_contrast g = CONTRASTIVE;
    FOR_EACH(i, m) right[i] = darkbn_contrast_loss(&g, i, delta + i * d);
}
