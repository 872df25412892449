"""Rows of the family `batchnorm`."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases import Fill, KernelCase

from darkbn.activations import Activation, mixes_channels
from darkbn.conventions import CONVENTIONS, BatchNormConvention

SHAPES = [
    {"b": 4, "c": 1, "s": 1},
    {"b": 1, "c": 3, "s": 5},
    {"b": 67, "c": 5, "s": 1},  # more rows than a block
    {"b": 131, "c": 131, "s": 1},  # more columns than a tile
    {"b": 5, "c": 43, "s": 3},
    {"b": 3, "c": 7, "s": 16},  # the largest image that is worked through by columns
    {"b": 3, "c": 7, "s": 17},
    {"b": 1, "c": 2, "s": 1023},
    {"b": 5, "c": 3, "s": 361},  # blocks of several rows, and a rest
    {"b": 2, "c": 3, "s": 1025},
    {"b": 2, "c": 5, "s": 4133},
    {"b": 6, "c": 3, "s": 5500},  # several pieces of rows, all threads on one channel
    {"b": 2, "c": 3, "s": 40001},  # several pieces of a row
]

OFFSET, DEVIATION = 1000.0, 1e-2


def lifted(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Values with a mean, so that sums do not cancel by chance."""
    return (1.5 * rng.standard_normal(shape) + 0.7).astype(np.float32)


def positive(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.uniform(0.2, 2, shape).astype(np.float32)


def far_from_zero(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Values whose mean is 100000 times their deviation; float32, so that both backends see the same."""
    return (OFFSET + DEVIATION * rng.standard_normal(shape)).astype(np.float32)


def apart(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Samples with very different means: the worst that a sum about a guessed mean can meet."""
    return (rng.standard_normal(shape) + 300.0 * np.arange(shape[0])[:, None, None]).astype(np.float32)


def exactly(values: float) -> Fill:
    return lambda rng, shape: np.full(shape, values)


def forward_scalars(c: BatchNormConvention) -> dict[str, Any]:
    return {"epsilon": c.epsilon, "epsilon_outside": int(c.epsilon_outside)}


def train_scalars(c: BatchNormConvention) -> dict[str, Any]:
    decay = {"rolling_decay": c.rolling_decay, "ddof": c.ddof, "rolling_ddof": c.rolling_ddof}
    return {**decay, **forward_scalars(c)}


def backward_scalars(c: BatchNormConvention) -> dict[str, Any]:
    g = c.gradient_constants()
    return {
        **forward_scalars(c),
        "gradient_epsilon": g.epsilon,
        "gradient_epsilon_outside": int(g.epsilon_outside),
        "statistics_epsilon": g.statistics_epsilon,
        "statistics_epsilon_outside": int(g.statistics_epsilon_outside),
        "gradient_ddof": g.ddof,
    }


FEW = ("darknet", "alexeyab-cpu", "pytorch")
VALUES: dict[str, Fill] = {
    "x": lifted,
    "delta": lifted,
    "variance": positive,
    "rolling_variance": positive,
}
CANCELLING = "the terms of the gradient cancel each other in part"


def train(name: str, sizes: dict[str, int], activation: int = Activation.LINEAR, **more: Any) -> KernelCase:
    scalars = {**train_scalars(CONVENTIONS[name]), "activation": int(activation)}
    return KernelCase("batchnorm.forward_train", sizes, scalars, **{"fill": VALUES, **more})


def backward(name: str, sizes: dict[str, int], activation: int = Activation.LINEAR, **more: Any) -> KernelCase:
    scalars = {**backward_scalars(CONVENTIONS[name]), "activation": int(activation)}
    given = {"fill": VALUES, "tolerance": 3e-6, "reason": CANCELLING, **more}
    return KernelCase("batchnorm.backward", sizes, scalars, **given)


def rows() -> list[KernelCase]:
    found = [train(name, SHAPES[5]) for name in CONVENTIONS]
    found += [train(name, sizes) for name in FEW for sizes in SHAPES]
    found += [backward(name, SHAPES[6]) for name in CONVENTIONS]
    found += [backward(name, sizes) for name in (*FEW, "exact") for sizes in SHAPES]
    hidden = [frozenset({"scale_updates"}), frozenset({"bias_updates"})]
    found += [backward("darknet", sizes, none=none) for none in hidden for sizes in (SHAPES[4], SHAPES[6])]
    return found


#: Of two lines; one whose gradient is taken at the output; two, at the input.
ACTIVATIONS = (Activation.LEAKY, Activation.RELU, Activation.LOGISTIC, Activation.SWISH, Activation.MISH)


def activation_rows() -> list[KernelCase]:
    """Normalization and activation in one, on all ways through the kernels."""
    found = []
    for kind in Activation:
        if not mixes_channels(kind):
            found += [train("pytorch", SHAPES[6], kind), backward("pytorch", SHAPES[6], kind)]
    for kind in ACTIVATIONS:
        for sizes in (SHAPES[i] for i in (2, 4, 5, 8, 10, 11, 12)):
            found += [train("darknet", sizes, kind), backward("alexeyab-gpu", sizes, kind)]
    return found


def accuracy_rows() -> list[KernelCase]:
    """The mean is far from zero, or the samples from each other."""
    rounding = "differences of large numbers"
    found = []
    for sizes in (SHAPES[2], SHAPES[6], SHAPES[8], SHAPES[10]):
        far = {**VALUES, "x": far_from_zero}
        found.append(train("pytorch", sizes, fill=far, tolerance=1e-5, reason=rounding))
        found.append(train("pytorch", sizes, fill={**VALUES, "x": apart}, tolerance=2e-6, reason=rounding))
    found.append(train("darknet", SHAPES[6], fill={**VALUES, "x": exactly(3.0)}))
    found.append(backward("exact", SHAPES[6], fill={"x": exactly(3.0), "mean": exactly(3.0), "variance": exactly(0.0)}))
    return found


def step_rows() -> list[KernelCase]:
    """Darknet's single steps."""
    shapes = [SHAPES[0], SHAPES[2], SHAPES[6], SHAPES[8], {"b": 2, "c": 3, "s": 1030}]
    found = []
    for sizes in shapes:
        found += [
            KernelCase("batchnorm.mean", sizes, fill=VALUES),
            *(KernelCase("batchnorm.variance", sizes, {"ddof": ddof}, fill=VALUES) for ddof in (0, 1)),
            KernelCase("batchnorm.backward_scale", sizes, fill={**VALUES, "x_norm": lifted}),
        ]
        for outside in (0, 1):
            place = {"epsilon": (1e-3, 0.1)[outside], "epsilon_outside": outside}
            found += [
                KernelCase("batchnorm.normalize", sizes, place, fill=VALUES),
                KernelCase("batchnorm.mean_delta", sizes, place, fill=VALUES),
                KernelCase("batchnorm.variance_delta", sizes, place, fill=VALUES),
                KernelCase("batchnorm.normalize_delta", sizes, {**place, "ddof": outside}, fill=VALUES),
            ]
    found += [
        KernelCase("batchnorm.forward", sizes, forward_scalars(CONVENTIONS[name]), fill=VALUES)
        for name in ("darknet", "keras")
        for sizes in [*SHAPES, {"b": 2, "c": 3, "s": 0}]
    ]
    return found


KERNEL_CASES = rows() + activation_rows() + accuracy_rows() + step_rows()
