"""Rows of the optimizer's kernels."""

import numpy as np
from cases import KernelCase

_SIZES = (1, 7, 16, 17, 2047, 2048, 2049, 10007)
_SCALARS = (
    {"rate": 0.01, "momentum": 0.9, "decay": 0.0},
    {"rate": 0.3, "momentum": 0.0, "decay": 0.5},
)

_ADAM = (
    {"rate": 0.01, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-7, "decay": 0.0, "t": 1},
    {"rate": 0.3, "beta1": 0.5, "beta2": 0.9, "epsilon": 1e-6, "decay": 0.5, "t": 7},
    {"rate": 0.001, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-6, "decay": 0.0, "t": 100_000},
)


def _spoiled(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """NaN and infinities among values up to the largest."""
    values = rng.choice([0.0, -1.5, 3.4e38, -3.4e38, 1e-42], shape)
    return np.where(rng.random(shape) < 0.1, rng.choice([np.nan, np.inf, -np.inf], shape), values)


_SQUARES = {"v": lambda rng, shape: rng.random(shape)}

KERNEL_CASES = [
    *(KernelCase("optimizer.sgd", {"n": size}, scalars) for size in _SIZES for scalars in _SCALARS),
    *(KernelCase("optimizer.adam", {"n": size}, scalars, fill=_SQUARES) for size in _SIZES for scalars in _ADAM),
    # Means of nothing yet: weights move by the rate, whatever the size of the update.
    KernelCase(
        "optimizer.adam",
        {"n": 33},
        _ADAM[0],
        fill={"m": lambda rng, shape: 0 * rng.random(shape), "v": lambda rng, shape: 0 * rng.random(shape)},
    ),
    *(KernelCase("optimizer.average", {"n": size}, {"alpha": alpha}) for size in _SIZES for alpha in (0.0, 0.9998)),
    *(KernelCase("optimizer.nonfinite", {"n": size}) for size in _SIZES),
    *(KernelCase("optimizer.nonfinite", {"n": size}, fill={"values": _spoiled}) for size in _SIZES),
]
