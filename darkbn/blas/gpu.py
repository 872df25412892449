"""The functions of Darknet's blas.h, im2col.h, gemm.h and activations.h that run on the GPU, by their own names.

They are those of `darkbn.blas` on the GPU's kernels, for CuPy's arrays; with NumPy's arrays the kernels are emulated.
Parameters are those of the function for the CPU, which Darknet's have, too, but for `constrain_gpu` and what is only
here. AlexeyAB's names end in `_ongpu` for some of them: both are here.

    from darkbn.blas.gpu import axpy_gpu
    axpy_gpu(n, 0.5, x, 1, y, 1)
"""

from __future__ import annotations

from darkbn import blas
from darkbn.blas._views import kernels, on_gpu, readable, writable
from darkbn.cpu import thread_count
from darkbn.signature import Array

# -- vectors -----------------------------------------------------------------------------------------------------------

fill_gpu = fill_ongpu = on_gpu(blas.fill_cpu)
const_gpu = const_ongpu = on_gpu(blas.const_cpu)
copy_gpu = copy_ongpu = on_gpu(blas.copy_cpu)
axpy_gpu = axpy_ongpu = on_gpu(blas.axpy_cpu)
scal_gpu = scal_ongpu = on_gpu(blas.scal_cpu)
scal_add_gpu = scal_add_ongpu = on_gpu(blas.scal_add_cpu)
mul_gpu = mul_ongpu = on_gpu(blas.mul_cpu)
pow_gpu = pow_ongpu = on_gpu(blas.pow_cpu)
dot_gpu = on_gpu(blas.dot_cpu)
mult_add_into_gpu = on_gpu(blas.mult_add_into_cpu)
weighted_sum_gpu = on_gpu(blas.weighted_sum_cpu)
weighted_delta_gpu = on_gpu(blas.weighted_delta_cpu)
inter_gpu = on_gpu(blas.inter_cpu)
deinter_gpu = on_gpu(blas.deinter_cpu)
flatten_gpu = on_gpu(blas.flatten)
l2normalize_gpu = on_gpu(blas.l2normalize_cpu)


@on_gpu
def copy_gpu_offset(N: int, X: Array, OFFX: int, INCX: int, Y: Array, OFFY: int, INCY: int) -> None:
    """Y = X, from OFFX and OFFY on."""
    blas.copy_cpu(N, X.reshape(-1)[OFFX:], INCX, Y.reshape(-1)[OFFY:], INCY)


@on_gpu
def axpy_gpu_offset(N: int, ALPHA: float, X: Array, OFFX: int, INCX: int, Y: Array, OFFY: int, INCY: int) -> None:
    """Y += ALPHA*X, from OFFX and OFFY on."""
    blas.axpy_cpu(N, ALPHA, X.reshape(-1)[OFFX:], INCX, Y.reshape(-1)[OFFY:], INCY)


@on_gpu
def add_gpu(N: int, ALPHA: float, X: Array, INCX: int) -> None:
    """X += ALPHA."""
    blas.scal_add_cpu(N, 1.0, ALPHA, X, INCX)


@on_gpu
def supp_gpu(N: int, ALPHA: float, X: Array, INCX: int) -> None:
    """X = 0 where it is smaller in magnitude than ALPHA."""
    with writable("X", X, (N,), (INCX,)) as x:
        kernels().cost.suppress(x, ALPHA, thread_count(None))


@on_gpu
def constrain_gpu(N: int, ALPHA: float, X: Array, INCX: int) -> None:
    """X is cut to [-ALPHA, ALPHA]."""
    with writable("X", X, (N,), (INCX,)) as x:
        kernels().vector.constrain(x, ALPHA, thread_count(None))


@on_gpu
def mask_gpu(N: int, X: Array, mask_num: float, mask: Array, val: float) -> None:
    """X = val where mask is mask_num."""
    with writable("X", X, (N,)) as x:
        kernels().cost.fill_where(readable("mask", mask, (N,)), x, mask_num, val, thread_count(None))


@on_gpu
def scale_mask_gpu(N: int, X: Array, mask_num: float, mask: Array, scale: float) -> None:
    """X *= scale where mask is mask_num."""
    with writable("X", X, (N,)) as x:
        kernels().cost.scale_where(readable("mask", mask, (N,)), x, mask_num, scale, thread_count(None))


# -- channels ----------------------------------------------------------------------------------------------------------

add_bias_gpu = on_gpu(blas.add_bias)
scale_bias_gpu = on_gpu(blas.scale_bias)
backward_bias_gpu = on_gpu(blas.backward_bias)
backward_scale_gpu = on_gpu(blas.backward_scale_cpu)
mean_gpu = fast_mean_gpu = on_gpu(blas.mean_cpu)
variance_gpu = fast_variance_gpu = on_gpu(blas.variance_cpu)
normalize_gpu = on_gpu(blas.normalize_cpu)
mean_delta_gpu = fast_mean_delta_gpu = on_gpu(blas.mean_delta_cpu)
variance_delta_gpu = fast_variance_delta_gpu = on_gpu(blas.variance_delta_cpu)
normalize_delta_gpu = on_gpu(blas.normalize_delta_cpu)

# -- losses and activations --------------------------------------------------------------------------------------------

l2_gpu = on_gpu(blas.l2_cpu)
l1_gpu = on_gpu(blas.l1_cpu)
smooth_l1_gpu = on_gpu(blas.smooth_l1_cpu)
softmax_x_ent_gpu = on_gpu(blas.softmax_x_ent_cpu)
logistic_x_ent_gpu = on_gpu(blas.logistic_x_ent_cpu)
softmax_gpu = on_gpu(blas.softmax_cpu)
activate_array_gpu = activate_array_ongpu = on_gpu(blas.activate_array)
gradient_array_gpu = gradient_array_ongpu = on_gpu(blas.gradient_array)

# -- maps --------------------------------------------------------------------------------------------------------------

shortcut_gpu = on_gpu(blas.shortcut_cpu)
shortcut_multilayer_gpu = on_gpu(blas.shortcut_multilayer_cpu)
backward_shortcut_multilayer_gpu = on_gpu(blas.backward_shortcut_multilayer_cpu)
upsample_gpu = on_gpu(blas.upsample_cpu)
reorg_gpu = reorg_ongpu = on_gpu(blas.reorg_cpu)
im2col_gpu = im2col_ongpu = on_gpu(blas.im2col_cpu)
col2im_gpu = col2im_ongpu = on_gpu(blas.col2im_cpu)
im2col_gpu_ext = on_gpu(blas.im2col_cpu_ext)
col2im_gpu_ext = on_gpu(blas.col2im_cpu_ext)
gemm_gpu = gemm_ongpu = on_gpu(blas.gemm)
binarize_gpu = on_gpu(blas.binarize_cpu)
binarize_weights_gpu = on_gpu(blas.binarize_weights)
binarize_input_gpu = on_gpu(blas.binarize_input)
