"""Convolutions by cuBLAS, which comes with CuPy: products of the weights with columns (im2col), without columns where
every output reads the pixel at its own place.

One call makes the products of all groups of a sample, or of all samples. Samples are taken in order, so that the sums
are the same in every run. With "tf32" and "float16" cuBLAS rounds the operands itself (CUBLAS_COMPUTE_32F_FAST_*).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from darkbn.backend import address
from darkbn.errors import DeviceError
from darkbn.signature import Array
from darkbn_gpu import convolution
from darkbn_gpu.library import Library
from darkbn_gpu.product import Geometry

#: cudaDataType_t of float32, and cublasGemmAlgo_t: what cuBLAS takes for best.
_FLOAT, _DEFAULT = 0, -1
#: What cuBLAS counts in.
_MOST = 2**31 - 1

_ONE, _ZERO = np.ones(1, np.float32), np.zeros(1, np.float32)


class Cublas(Library):
    """Convolutions by cuBLAS."""

    name = "cublas"

    def __init__(self, blas: Any, handle: Any) -> None:
        """blas: the module `cupy_backends.cuda.libs.cublas`; handle: a function that gives the device's handle."""
        self._blas, self._handle = blas, handle
        self.version = "cuBLAS of CuPy"
        self._types = {
            "float32": blas.CUBLAS_COMPUTE_32F,
            "tf32": blas.CUBLAS_COMPUTE_32F_FAST_TF32,
            "float16": blas.CUBLAS_COMPUTE_32F_FAST_16F,
        }

    @classmethod
    def open(cls, xp: Any) -> Cublas:
        """With CuPy's handles. Raises DeviceError where cuBLAS cannot be loaded."""
        try:
            from cupy.cuda import device
            from cupy_backends.cuda.libs import cublas

            found = cls(cublas, device.get_cublas_handle)
            found.version = f"cuBLAS {cublas.getVersion(device.get_cublas_handle())}"
        except (ImportError, RuntimeError) as error:
            raise DeviceError(f"cuBLAS cannot be used: {error}") from error
        return found

    def supports(self, kernel: str, g: Geometry, precision: str) -> bool:
        depth = g.cg * g.taps
        return max(g.oh * g.ow, g.h * g.w, depth, g.ng, g.b * g.groups) <= _MOST

    def workspace(self, kernel: str, g: Geometry, precision: str) -> int:
        """The columns of one sample."""
        return 0 if g.is_points else g.c * g.taps * g.oh * g.ow

    def forward(self, g: Geometry, x: Array, weights: Array, out: Array, room: Array | None, precision: str) -> None:
        area, depth = g.oh * g.ow, g.cg * g.taps
        kind = self._types[precision]
        if g.is_points and g.b > g.groups:
            for i in range(g.groups):
                own = (weights[i * g.ng :], 0, x[:, i * g.cg :], g.c * area, out[:, i * g.ng :], g.n * area)
                self._multiply(g.ng, area, depth, g.b, *own, kind=kind)
            return
        for sample in range(g.b):
            columns = self._columns(g, x, sample, room)
            own = (weights, g.ng * depth, columns, depth * area, out[sample], g.ng * area)
            self._multiply(g.ng, area, depth, g.groups, *own, kind=kind)

    def backward_weights(self, g: Geometry, x: Array, delta: Array, weight_updates: Array, room: Array | None) -> None:
        area, depth = g.oh * g.ow, g.cg * g.taps
        for sample in range(g.b):
            columns = self._columns(g, x, sample, room)
            own = (delta[sample], g.ng * area, columns, depth * area, weight_updates, g.ng * depth)
            self._multiply(g.ng, depth, area, g.groups, *own, transposed="b", adds=True)

    def backward_input(self, g: Geometry, weights: Array, delta: Array, input_delta: Array, room: Array | None) -> None:
        area, depth = g.oh * g.ow, g.cg * g.taps
        for sample in range(g.b):
            own = (weights, g.ng * depth, delta[sample], g.ng * area)
            if g.is_points:
                to = (input_delta[sample], depth * area)
                self._multiply(depth, area, g.ng, g.groups, *own, *to, transposed="a", adds=True)
                continue
            columns = self.checked_room("convolution.backward_input", room, self.workspace("", g, ""))
            columns = columns[: g.c * g.taps * area]
            self._multiply(depth, area, g.ng, g.groups, *own, columns, depth * area, transposed="a")
            shaped = columns.reshape(g.c, g.k, g.k, g.oh, g.ow)
            convolution.col2im(shaped, input_delta[sample], g.stride_y, g.stride_x, g.dilation, g.pad, 1)

    def _columns(self, g: Geometry, x: Array, sample: int, room: Array | None) -> Array:
        """What the taps of all channels of a sample read: (c, k, k, oh, ow)."""
        if g.is_points:
            own: Array = x[sample]
            return own
        needed = self.workspace("", g, "")
        whole = self.checked_room("convolution", room, needed)
        columns: Array = whole[:needed].reshape(g.c, g.k, g.k, g.oh, g.ow)
        convolution.im2col(x[sample], columns, g.stride_y, g.stride_x, g.dilation, g.pad, 1)
        return columns

    def _multiply(
        self,
        m: int,
        n: int,
        k: int,
        batch: int,
        a: Array,
        a_step: int,
        b: Array,
        b_step: int,
        c: Array,
        c_step: int,
        *,
        transposed: str = "",
        adds: bool = False,
        kind: int | None = None,
    ) -> None:
        """c = op(a) @ op(b), or added to c: `batch` products of rows that follow each other, m x k and k x n.

        cuBLAS counts columns first: it is given the transposed product.
        """
        blas = self._blas
        across_a, across_b = (blas.CUBLAS_OP_T if side in transposed else blas.CUBLAS_OP_N for side in "ab")
        row_a, row_b = (m if "a" in transposed else k), (k if "b" in transposed else n)
        compute = self._types["float32"] if kind is None else kind
        arguments = (
            *(across_b, across_a, n, m, k),
            _ONE.ctypes.data,
            *(address(b), _FLOAT, row_b, b_step),
            *(address(a), _FLOAT, row_a, a_step),
            (_ONE if adds else _ZERO).ctypes.data,
            *(address(c), _FLOAT, n, c_step),
            *(batch, compute, _DEFAULT),
        )
        try:
            blas.gemmStridedBatchedEx(self._handle(), *arguments)
        except RuntimeError as error:  # CuPy's errors of cuBLAS and of the device are such
            raise DeviceError(f"cuBLAS: {batch} products of {m} x {k} and {k} x {n}: {error}") from error
