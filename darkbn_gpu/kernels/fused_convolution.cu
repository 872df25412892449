/* Kernels of darkbn.reference.fused_convolution in lower precision: the operands of the product are rounded to tf32 or to
 * halves on their way into shared memory, the sums are floats. In float32 the kernels of convolution.cu do it all.
 */
#include "product.cuh"

template <int TM, typename Form, typename B>
DEVICE void unit_product(const Product &l, const Finish &f, const unsigned *panel, const float *x, float *partial)
{
    product<TM, 8, Form, B, UnitSums<Form, TM>>(l, f, panel, x, partial);
}

#define RUN_GATHER(TM, FORM)                                                          \
    {                                                                                 \
        const Product l = PRODUCT;                                                    \
        const Finish f = FINISH;                                                      \
        unit_product<TM, FORM, GatherTile<FORM, 8, false>>(l, f, panel, x, partial);  \
    }
#define RUN_POINTS(TM, FORM)                                                          \
    {                                                                                 \
        const Product l = PRODUCT;                                                    \
        const Finish f = FINISH;                                                      \
        unit_product<TM, FORM, PointTile<FORM, 8>>(l, f, panel, x, partial);          \
    }

KERNEL fused_convolution_tf32_gather_128x128(PRODUCT_PARAMETERS) RUN_GATHER(8, Tf32)
KERNEL fused_convolution_tf32_gather_64x128(PRODUCT_PARAMETERS) RUN_GATHER(4, Tf32)
KERNEL fused_convolution_tf32_gather_32x128(PRODUCT_PARAMETERS) RUN_GATHER(2, Tf32)
KERNEL fused_convolution_tf32_points_128x128(PRODUCT_PARAMETERS) RUN_POINTS(8, Tf32)
KERNEL fused_convolution_tf32_points_64x128(PRODUCT_PARAMETERS) RUN_POINTS(4, Tf32)
KERNEL fused_convolution_tf32_points_32x128(PRODUCT_PARAMETERS) RUN_POINTS(2, Tf32)
KERNEL fused_convolution_float16_gather_128x128(PRODUCT_PARAMETERS) RUN_GATHER(8, Half)
KERNEL fused_convolution_float16_gather_64x128(PRODUCT_PARAMETERS) RUN_GATHER(4, Half)
KERNEL fused_convolution_float16_gather_32x128(PRODUCT_PARAMETERS) RUN_GATHER(2, Half)
KERNEL fused_convolution_float16_points_128x128(PRODUCT_PARAMETERS) RUN_POINTS(8, Half)
KERNEL fused_convolution_float16_points_64x128(PRODUCT_PARAMETERS) RUN_POINTS(4, Half)
KERNEL fused_convolution_float16_points_32x128(PRODUCT_PARAMETERS) RUN_POINTS(2, Half)

/* Pairs of halves of n floats, for libraries that read halves; the last word of an odd number ends in zero. */
KERNEL fused_convolution_halves(const float *x, unsigned *halves, i64 n)
{
    FOR_EACH(i, (n + 1) / 2) halves[i] = to_halves(x[2 * i], 2 * i + 1 < n ? x[2 * i + 1] : 0);
}

/* What becomes of sums in halves. */
KERNEL fused_convolution_finish(const unsigned *halves, const float *biases, const float *residual, float *out, i64 size,
                                i64 n, i64 area, i64 activation, i64 residual_activation)
{
    const Finish f = {biases, residual, out, activation, residual_activation, 0};
    FOR_EACH(i, size) finish(f, i / area % n, i, from_half(halves[i / 2] >> 16 * (i % 2) & 0xffffu));
}
