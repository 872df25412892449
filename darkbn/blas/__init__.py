"""Darknet's blas.c, with im2col.c, gemm.c and activations.c, by its own names and parameters, on NumPy arrays.

Arrays are float32 and C-contiguous, of any shape: like C pointers they are read as rows of values, and may hold more
than the sizes ask for. Outputs are written in place. The parameters and their order are those of pjreddie/darknet;
what differs between the two Darknets, such as where epsilon goes, is named by `convention` (`darkbn.conventions`).
All functions raise DtypeError or ShapeError for arrays that do not fit.

    mean = np.empty(filters, np.float32)
    blas.mean_cpu(x, batch, filters, spatial, mean)

`darkbn.blas.gpu` has the functions of their CUDA code, on CuPy's arrays.

Everything in both Darknets' blas.h that runs on the CPU is here but what prints and times (pm, random_matrix,
time_random_matrix, test_blas). Where AlexeyAB's parameters differ they are pjreddie's: `softmax` has stride before
output, `shortcut_cpu` has s1 and s2 (1 and 1 there).

Departures from Darknet: smooth_l1_cpu points towards the truth everywhere (pj-smooth-l1-sign);
backward_shortcut_multilayer_cpu gives the derivative by the weights (ab-weighted-shortcut-gradient-simplified);
fix_nan_and_inf_cpu puts 1 in the first place, where Darknet's 1/0 stays infinite.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from darkbn.activations import activation_code
from darkbn.blas._views import kernels as _kernels
from darkbn.blas._views import readable as _in
from darkbn.blas._views import view as _view
from darkbn.blas._views import writable as _out
from darkbn.blas.contrastive import P_constrastive as P_constrastive
from darkbn.blas.contrastive import P_constrastive_f as P_constrastive_f
from darkbn.blas.contrastive import P_constrastive_f_det as P_constrastive_f_det
from darkbn.blas.contrastive import check_sim as check_sim
from darkbn.blas.contrastive import contrastive_params as contrastive_params
from darkbn.blas.contrastive import cosine_similarity as cosine_similarity
from darkbn.blas.contrastive import find_P_constrastive as find_P_constrastive
from darkbn.blas.contrastive import find_sim as find_sim
from darkbn.blas.contrastive import get_embedding as get_embedding
from darkbn.blas.contrastive import grad_contrastive_loss_negative as grad_contrastive_loss_negative
from darkbn.blas.contrastive import grad_contrastive_loss_negative_f as grad_contrastive_loss_negative_f
from darkbn.blas.contrastive import grad_contrastive_loss_positive as grad_contrastive_loss_positive
from darkbn.blas.contrastive import grad_contrastive_loss_positive_f as grad_contrastive_loss_positive_f
from darkbn.blas.contrastive import math_vector_length as math_vector_length
from darkbn.blas.shortcut import backward_shortcut_multilayer_cpu as backward_shortcut_multilayer_cpu
from darkbn.blas.shortcut import shortcut_multilayer_cpu as shortcut_multilayer_cpu
from darkbn.conventions import BatchNormConvention, get_convention
from darkbn.cpu import thread_count
from darkbn.errors import ShapeError, UnsupportedError
from darkbn.signature import Array

Convention = str | BatchNormConvention


# -- vectors -----------------------------------------------------------------------------------------------------------


def fill_cpu(N: int, ALPHA: float, X: Array, INCX: int) -> None:
    """X = ALPHA."""
    with _out("X", X, (N,), (INCX,)) as x:
        _kernels().vector.fill(x, ALPHA, thread_count(None))


def const_cpu(N: int, ALPHA: float, X: Array, INCX: int) -> None:
    """X = ALPHA."""
    fill_cpu(N, ALPHA, X, INCX)


def copy_cpu(N: int, X: Array, INCX: int, Y: Array, INCY: int) -> None:
    """Y = X."""
    with _out("Y", Y, (N,), (INCY,)) as y:
        y[...] = _in("X", X, (N,), (INCX,))


def axpy_cpu(N: int, ALPHA: float, X: Array, INCX: int, Y: Array, INCY: int) -> None:
    """Y += ALPHA*X."""
    with _out("Y", Y, (N,), (INCY,)) as y:
        _kernels().vector.axpy(_in("X", X, (N,), (INCX,)), y, ALPHA, thread_count(None))


def scal_cpu(N: int, ALPHA: float, X: Array, INCX: int) -> None:
    """X *= ALPHA."""
    scal_add_cpu(N, ALPHA, 0, X, INCX)


def scal_add_cpu(N: int, ALPHA: float, BETA: float, X: Array, INCX: int) -> None:
    """X = ALPHA*X + BETA."""
    with _out("X", X, (N,), (INCX,)) as x:
        _kernels().vector.scal_add(x, ALPHA, BETA, thread_count(None))


def mul_cpu(N: int, X: Array, INCX: int, Y: Array, INCY: int) -> None:
    """Y *= X."""
    with _out("Y", Y, (N,), (INCY,)) as y:
        _kernels().vector.mul(_in("X", X, (N,), (INCX,)), y, thread_count(None))


def pow_cpu(N: int, ALPHA: float, X: Array, INCX: int, Y: Array, INCY: int) -> None:
    """Y = X^ALPHA."""
    with _out("Y", Y, (N,), (INCY,)) as y:
        _kernels().vector.power(_in("X", X, (N,), (INCX,)), y, ALPHA, thread_count(None))


def dot_cpu(N: int, X: Array, INCX: int, Y: Array, INCY: int) -> float:
    """The sum of X*Y."""
    out = _kernels().empty((1,), "float64")
    _kernels().vector.dot(_in("X", X, (N,), (INCX,)), _in("Y", Y, (N,), (INCY,)), out, thread_count(None))
    return float(out[0])


def mult_add_into_cpu(N: int, X: Array, Y: Array, Z: Array) -> None:
    """Z += X*Y."""
    with _out("Z", Z, (N,)) as z:
        _kernels().vector.mult_add_into(_in("X", X, (N,)), _in("Y", Y, (N,)), z, thread_count(None))


def constrain_cpu(size: int, ALPHA: float, X: Array) -> None:
    """X is cut to [-ALPHA, ALPHA]."""
    with _out("X", X, (size,)) as x:
        _kernels().vector.constrain(x, ALPHA, thread_count(None))


def fix_nan_and_inf_cpu(input: Array, size: int) -> None:
    """Values that are NaN or infinite become 1/index, the first one 1."""
    with _out("input", input, (size,)) as x:
        bad = np.flatnonzero(~np.isfinite(x))
        x[bad] = 1 / np.maximum(bad, 1)


def weighted_sum_cpu(a: Array, b: Array | None, s: Array, n: int, c: Array) -> None:
    """c = s*a + (1 - s)*b; without b as if it were 0."""
    other = _kernels().zeros((n,)) if b is None else _in("b", b, (n,))
    with _out("c", c, (n,)) as out:
        _kernels().vector.weighted_sum(_in("a", a, (n,)), other, _in("s", s, (n,)), out, thread_count(None))


def weighted_delta_cpu(
    a: Array, b: Array, s: Array, da: Array | None, db: Array | None, ds: Array, n: int, dc: Array
) -> None:
    """da += dc*s, db += dc*(1 - s), ds += dc*(a - b); da and db may be None."""
    _kernels().vector.weighted_delta(
        *(_in(name, array, (n,)) for name, array in (("a", a), ("b", b), ("s", s))),
        *(None if array is None else _view(name, array, (n,)) for name, array in (("da", da), ("db", db))),
        _view("ds", ds, (n,)),
        _in("dc", dc, (n,)),
        thread_count(None),
    )


def inter_cpu(NX: int, X: Array, NY: int, Y: Array, B: int, OUT: Array) -> None:
    """Each row of OUT is a row of X and then one of Y."""
    out = _view("OUT", OUT, (B, NX + NY))
    out[:, :NX], out[:, NX:] = _view("X", X, (B, NX)), _view("Y", Y, (B, NY))


def deinter_cpu(NX: int, X: Array | None, NY: int, Y: Array | None, B: int, OUT: Array) -> None:
    """X and Y, where given, += their parts of the rows of OUT."""
    out = _view("OUT", OUT, (B, NX + NY))
    for name, array, part in (("X", X, out[:, :NX]), ("Y", Y, out[:, NX:])):
        if array is not None:
            to = _view(name, array, part.shape)
            to += part


def flatten(x: Array, size: int, layers: int, batch: int, forward: int) -> None:
    """Planes to pixels, in place: x[b, k, i] becomes x[b, i, k]; with forward = 0 the other way."""
    shape = (batch, layers, size) if forward else (batch, size, layers)
    source = _in("x", x, shape).copy()
    _kernels().spatial.flatten(source, _view("x", x, (batch, shape[2], shape[1])), thread_count(None))


# -- biases, statistics ------------------------------------------------------------------------------------------------


def add_bias(output: Array, biases: Array, batch: int, n: int, size: int) -> None:
    """output += biases, one per channel."""
    with _out("output", output, (batch, n, size)) as x:
        _kernels().bias.add_bias(x, _in("biases", biases, (n,)), thread_count(None))


def scale_bias(output: Array, scales: Array, batch: int, n: int, size: int) -> None:
    """output *= scales, one per channel."""
    with _out("output", output, (batch, n, size)) as x:
        _kernels().bias.scale_bias(x, _in("scales", scales, (n,)), thread_count(None))


def backward_bias(bias_updates: Array, delta: Array, batch: int, n: int, size: int) -> None:
    """bias_updates += the sums of delta."""
    with _out("bias_updates", bias_updates, (n,)) as updates:
        _kernels().bias.backward_bias(updates, _in("delta", delta, (batch, n, size)), thread_count(None))


def backward_scale_cpu(x_norm: Array, delta: Array, batch: int, n: int, size: int, scale_updates: Array) -> None:
    """scale_updates += the sums of delta*x_norm."""
    shape = (batch, n, size)
    with _out("scale_updates", scale_updates, (n,)) as updates:
        _kernels().batchnorm.backward_scale(
            _in("x_norm", x_norm, shape), _in("delta", delta, shape), updates, thread_count(None)
        )


def mean_cpu(x: Array, batch: int, filters: int, spatial: int, mean: Array) -> None:
    """mean = the mean of each channel."""
    with _out("mean", mean, (filters,)) as out:
        _kernels().batchnorm.mean(_in("x", x, (batch, filters, spatial)), out, thread_count(None))


def variance_cpu(
    x: Array,
    mean: Array,
    batch: int,
    filters: int,
    spatial: int,
    variance: Array,
    *,
    convention: Convention = "darknet",
) -> None:
    """variance = the mean squared deviation from mean; the sum is divided by N - 1 in both Darknets."""
    ddof = get_convention(convention).ddof
    if batch * spatial <= ddof:
        raise ShapeError(f"variance_cpu: {batch * spatial} values per channel have no variance divided by N - {ddof}")
    with _out("variance", variance, (filters,)) as out:
        x, mean = _in("x", x, (batch, filters, spatial)), _in("mean", mean, (filters,))
        _kernels().batchnorm.variance(x, mean, out, ddof, thread_count(None))


def normalize_cpu(
    x: Array,
    mean: Array,
    variance: Array,
    batch: int,
    filters: int,
    spatial: int,
    *,
    convention: Convention = "darknet",
) -> None:
    """x = (x - mean)/root(variance)."""
    c = get_convention(convention)
    with _out("x", x, (batch, filters, spatial)) as out:
        statistics = _in("mean", mean, (filters,)), _in("variance", variance, (filters,))
        _kernels().batchnorm.normalize(out, out, *statistics, c.epsilon, int(c.epsilon_outside), thread_count(None))


def mean_delta_cpu(
    delta: Array,
    variance: Array,
    batch: int,
    filters: int,
    spatial: int,
    mean_delta: Array,
    *,
    convention: Convention = "darknet",
) -> None:
    """mean_delta = -sum(delta)/root(variance)."""
    g = get_convention(convention).gradient_constants()
    with _out("mean_delta", mean_delta, (filters,)) as out:
        delta, variance = _in("delta", delta, (batch, filters, spatial)), _in("variance", variance, (filters,))
        place = g.statistics_epsilon, int(g.statistics_epsilon_outside)
        _kernels().batchnorm.mean_delta(delta, variance, out, *place, thread_count(None))


def variance_delta_cpu(
    x: Array,
    delta: Array,
    mean: Array,
    variance: Array,
    batch: int,
    filters: int,
    spatial: int,
    variance_delta: Array,
    *,
    convention: Convention = "darknet",
) -> None:
    """variance_delta = sum(delta*(x - mean)) * d(1/root)/d(variance)."""
    g, shape = get_convention(convention).gradient_constants(), (batch, filters, spatial)
    with _out("variance_delta", variance_delta, (filters,)) as out:
        _kernels().batchnorm.variance_delta(
            _in("x", x, shape),
            _in("delta", delta, shape),
            _in("mean", mean, (filters,)),
            _in("variance", variance, (filters,)),
            out,
            g.statistics_epsilon,
            int(g.statistics_epsilon_outside),
            thread_count(None),
        )


def normalize_delta_cpu(
    x: Array,
    mean: Array,
    variance: Array,
    mean_delta: Array,
    variance_delta: Array,
    batch: int,
    filters: int,
    spatial: int,
    delta: Array,
    *,
    convention: Convention = "darknet",
) -> None:
    """delta = delta/root(variance) + variance_delta*2*(x - mean)/N + mean_delta/N."""
    g, shape = get_convention(convention).gradient_constants(), (batch, filters, spatial)
    channels = (("mean", mean), ("variance", variance), ("mean_delta", mean_delta), ("variance_delta", variance_delta))
    with _out("delta", delta, shape) as out:
        _kernels().batchnorm.normalize_delta(
            _in("x", x, shape),
            *(_in(name, array, (filters,)) for name, array in channels),
            out,
            g.epsilon,
            int(g.epsilon_outside),
            g.ddof,
            thread_count(None),
        )


def l2normalize_cpu(x: Array, dx: Array, batch: int, filters: int, spatial: int) -> None:
    """Each pixel's channels are divided by their Euclidean length; dx = (1 - x)/length."""
    shape = (batch, filters, spatial)
    with _out("x", x, shape) as values, _out("dx", dx, shape) as slopes:
        _kernels().vector.l2normalize(values, slopes, thread_count(None))


# -- losses, softmax ---------------------------------------------------------------------------------------------------


def _loss(kernel: Any, n: int, pred: Array, truth: Array, delta: Array, error: Array) -> None:
    with _out("delta", delta, (n,)) as d, _out("error", error, (n,)) as e:
        kernel(_in("pred", pred, (n,)), _in("truth", truth, (n,)), d, e, thread_count(None))


def l2_cpu(n: int, pred: Array, truth: Array, delta: Array, error: Array) -> None:
    """error = (truth - pred)^2, delta = truth - pred."""
    _loss(_kernels().cost.l2, n, pred, truth, delta, error)


def l1_cpu(n: int, pred: Array, truth: Array, delta: Array, error: Array) -> None:
    """error = |truth - pred|, delta = 1 where truth is larger, else -1."""
    _loss(_kernels().cost.l1, n, pred, truth, delta, error)


def smooth_l1_cpu(n: int, pred: Array, truth: Array, delta: Array, error: Array) -> None:
    """With d = truth - pred: error = d^2, delta = d where |d| < 1, else error = 2|d| - 1, delta = sign(d)."""
    _loss(_kernels().cost.smooth_l1, n, pred, truth, delta, error)


def softmax_x_ent_cpu(n: int, pred: Array, truth: Array, delta: Array, error: Array) -> None:
    """error = -log(pred) where truth is not 0, else 0; delta = truth - pred."""
    _loss(_kernels().softmax.cross_entropy, n, pred, truth, delta, error)


def logistic_x_ent_cpu(n: int, pred: Array, truth: Array, delta: Array, error: Array) -> None:
    """error = -truth*log(pred) - (1 - truth)*log(1 - pred), delta = truth - pred."""
    _loss(_kernels().cost.logistic, n, pred, truth, delta, error)


def softmax(input: Array, n: int, temp: float, stride: int, output: Array) -> None:
    """output = softmax(input/temp) of n values that are `stride` apart."""
    softmax_cpu(input, n, 1, n * stride, 1, n * stride, stride, temp, output)


def softmax_cpu(
    input: Array,
    n: int,
    batch: int,
    batch_offset: int,
    groups: int,
    group_offset: int,
    stride: int,
    temp: float,
    output: Array,
) -> None:
    """The same for every group of every sample, at multiples of the offsets."""
    shape, steps = (batch, groups, n), (batch_offset, group_offset, stride)
    rows = _in("input", input, shape, steps).reshape(batch * groups, n, 1)
    with _out("output", output, shape, steps) as out:
        _kernels().softmax.forward(rows, out.reshape(rows.shape), temp, thread_count(None))


# -- activations -------------------------------------------------------------------------------------------------------


def activate_array(x: Array, n: int, a: str) -> None:
    """x = activation(x), by the activation's name."""
    with _out("x", x, (n,)) as values:
        _kernels().activation.forward(values, activation_code(a), thread_count(None))


def gradient_array(x: Array, n: int, a: str, delta: Array) -> None:
    """delta *= derivative of the activation at x: at its output, or at its input for swish, mish, hard_mish, gelu."""
    with _out("delta", delta, (n,)) as values:
        _kernels().activation.gradient(_in("x", x, (n,)), values, activation_code(a), thread_count(None))


# -- space, matrices ---------------------------------------------------------------------------------------------------


def shortcut_cpu(
    batch: int,
    w1: int,
    h1: int,
    c1: int,
    add: Array,
    w2: int,
    h2: int,
    c2: int,
    s1: float,
    s2: float,
    out: Array,
) -> None:
    """out = s1*out + s2*add where the two meet (`darkbn.reference.spatial.shortcut_add`)."""
    with _out("out", out, (batch, c2, h2, w2)) as to:
        _kernels().spatial.shortcut_add(_in("add", add, (batch, c1, h1, w1)), to, s1, s2, thread_count(None))


def upsample_cpu(
    input: Array, w: int, h: int, c: int, batch: int, stride: int, forward: int, scale: float, out: Array
) -> None:
    """out = scale*input, repeated in blocks of stride x stride; with forward = 0: input += scale * the blocks' sums."""
    small, large = (batch, c, h, w), (batch, c, h * stride, w * stride)
    if forward:
        with _out("out", out, large) as to:
            _kernels().spatial.upsample(_in("input", input, small), to, stride, scale, thread_count(None))
        return
    with _out("input", input, small) as to:
        _kernels().spatial.upsample_backward(_in("out", out, large), to, stride, scale, thread_count(None))


def reorg_cpu(x: Array, w: int, h: int, c: int, batch: int, stride: int, forward: int, out: Array) -> None:
    """forward = 1: x of (c, h, w) to out of (c/stride^2, h*stride, w*stride); forward = 0: the other way."""
    if stride < 1 or c % (stride * stride):
        raise ShapeError(f"reorg_cpu: stride^2 = {stride * stride} must divide the {c} channels")
    deep, wide = (batch, c, h, w), (batch, c // (stride * stride), h * stride, w * stride)
    if forward:
        with _out("out", out, wide) as to:
            _kernels().spatial.depth_to_space(_in("x", x, deep), to, stride, thread_count(None))
        return
    with _out("out", out, deep) as to:
        _kernels().spatial.space_to_depth(_in("x", x, wide), to, stride, thread_count(None))


def im2col_cpu(
    data_im: Array, channels: int, height: int, width: int, ksize: int, stride: int, pad: int, data_col: Array
) -> None:
    """data_col = the pixels that each tap of a convolution reads, row by row."""
    im2col_cpu_ext(data_im, channels, height, width, ksize, ksize, pad, pad, stride, stride, 1, 1, data_col)


def col2im_cpu(
    data_col: Array, channels: int, height: int, width: int, ksize: int, stride: int, pad: int, data_im: Array
) -> None:
    """data_im += each element of data_col at the pixel that im2col_cpu takes it from."""
    shape = _columns(channels, height, width, ksize, ksize, pad, pad, stride, stride, 1, 1)
    with _out("data_im", data_im, (channels, height, width)) as im:
        col = _in("data_col", data_col, shape)
        _kernels().convolution.col2im(col, im, stride, stride, 1, pad, thread_count(None))


def im2col_cpu_ext(
    data_im: Array,
    channels: int,
    height: int,
    width: int,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
    stride_h: int,
    stride_w: int,
    dilation_h: int,
    dilation_w: int,
    data_col: Array,
) -> None:
    """im2col_cpu with two strides and dilation (AlexeyAB's); sizes, pads and dilations must be equal both ways."""
    shape = _columns(
        channels, height, width, kernel_h, kernel_w, pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w
    )
    with _out("data_col", data_col, shape) as col:
        im = _in("data_im", data_im, (channels, height, width))
        _kernels().convolution.im2col(im, col, stride_h, stride_w, dilation_h, pad_h, thread_count(None))


def col2im_cpu_ext(
    data_col: Array,
    channels: int,
    height: int,
    width: int,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
    stride_h: int,
    stride_w: int,
    dilation_h: int,
    dilation_w: int,
    data_im: Array,
) -> None:
    """data_im = the sums that col2im_cpu adds, with two strides and dilation (AlexeyAB's)."""
    shape = _columns(
        channels, height, width, kernel_h, kernel_w, pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w
    )
    with _out("data_im", data_im, (channels, height, width)) as im:
        col = _in("data_col", data_col, shape)
        im[...] = 0
        _kernels().convolution.col2im(col, im, stride_h, stride_w, dilation_h, pad_h, thread_count(None))


def _columns(
    channels: int,
    height: int,
    width: int,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
    stride_h: int,
    stride_w: int,
    dilation_h: int,
    dilation_w: int,
) -> tuple[int, ...]:
    """Shape of the columns: (channels, size, size, output height, output width)."""
    if (kernel_h, pad_h, dilation_h) != (kernel_w, pad_w, dilation_w):
        raise UnsupportedError("kernel size, padding and dilation must be the same in both directions")
    reach = dilation_h * (kernel_h - 1) + 1
    out_h, out_w = (height + 2 * pad_h - reach) // stride_h + 1, (width + 2 * pad_w - reach) // stride_w + 1
    return channels, kernel_h, kernel_w, out_h, out_w


def gemm(
    TA: int,
    TB: int,
    M: int,
    N: int,
    K: int,
    ALPHA: float,
    A: Array,
    lda: int,
    B: Array,
    ldb: int,
    BETA: float,
    C: Array,
    ldc: int,
) -> None:
    """C = ALPHA*op(A)@op(B) + BETA*C, where op transposes if TA (TB) is not 0; rows are lda, ldb, ldc apart."""
    kernels = _kernels().gemm
    a = _in("A", A, (K, M) if TA else (M, K), (lda, 1))
    b = _in("B", B, (N, K) if TB else (K, N), (ldb, 1))
    workspace = _kernels().empty((kernels.gemm_workspace(M, N, K, thread_count(None)),))
    with _out("C", C, (M, N), (ldc, 1)) as c:
        kernels.gemm(a, b, c, workspace, TA, TB, ALPHA, BETA, thread_count(None))


# -- binarization ------------------------------------------------------------------------------------------------------


def binarize_cpu(input: Array, n: int, binary: Array) -> None:
    """binary = 1 where input is positive, else -1."""
    with _out("binary", binary, (n,)) as out:
        _kernels().vector.binarize(_in("input", input, (n,)), out, thread_count(None))


def binarize_weights(weights: Array, n: int, size: int, binary: Array) -> None:
    """binary = the sign of each weight times the mean size of its filter's weights."""
    with _out("binary", binary, (n, size)) as out:
        _kernels().vector.binarize_rows(_in("weights", weights, (n, size)), out, thread_count(None))


def binarize_input(input: Array, n: int, size: int, binary: Array) -> None:
    """binary = the sign of each input times the mean size of its pixel's channels."""
    with _out("binary", binary, (n, size)) as out:
        _kernels().vector.binarize_columns(_in("input", input, (n, size)), out, thread_count(None))
