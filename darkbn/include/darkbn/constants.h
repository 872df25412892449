/* Numbers that C and CUDA kernels share. */
#ifndef DARKBN_CONSTANTS_H
#define DARKBN_CONSTANTS_H

/* Slopes and scales of Darknet's activations. */
#define DARKBN_LEAKY_SLOPE 0.1f
#define DARKBN_RELIE_SLOPE 0.01f
#define DARKBN_LHTAN_SLOPE 0.001f
#define DARKBN_PLSE_SLOPE 0.125f
#define DARKBN_PLSE_OUTER_SLOPE 0.01f
#define DARKBN_SELU_SCALE 1.0507f
#define DARKBN_SELU_ALPHA 1.6732f
#define DARKBN_GELU_LINEAR 0.797885f /* sqrt(2/pi) */
#define DARKBN_GELU_CUBIC 0.035677f  /* sqrt(2/pi) * 0.044715 */

/* Keeps the sums of normalize_channels* above zero. */
#define DARKBN_CHANNEL_EPSILON 1e-4f

/* A truth of this value means: no loss here. */
#define DARKBN_SECRET_NUM -1234.0f

#endif
