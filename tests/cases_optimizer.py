"""Rows of the optimizer's kernels."""

from cases import KernelCase

_SIZES = (1, 7, 16, 17, 2047, 2048, 2049, 10007)
_SCALARS = (
    {"rate": 0.01, "momentum": 0.9, "decay": 0.0},
    {"rate": 0.3, "momentum": 0.0, "decay": 0.5},
)

KERNEL_CASES = [KernelCase("optimizer.sgd", {"n": size}, scalars) for size in _SIZES for scalars in _SCALARS]
