"""Rows of the family `fused_convolution`: the shapes of `convolution`, each with another end."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from cases import KernelCase
from cases_blocked_convolution import ENDS
from cases_convolution import SHAPES, SUMS

from darkbn.activations import Activation

#: Ends beyond those of the blocked kernels: every branch of the finish.
MORE: list[tuple[Activation, Activation | None]] = [
    (Activation.RELU, Activation.LINEAR),
    (Activation.LINEAR, Activation.LOGISTIC),
]


def rows() -> Iterator[KernelCase]:
    """Every shape with the next end."""
    ends = itertools.cycle([*ENDS, *MORE])
    for (symbols, scalars), (activation, after) in zip(SHAPES, ends, strict=False):
        steps = {name: value for name, value in scalars.items() if name != "algorithm"}
        sizes = {name: size for name, size in symbols.items() if name != "cg"}
        codes = {
            "k": symbols["k"],
            "activation": int(activation),
            "residual_activation": int(Activation.LINEAR if after is None else after),
        }
        none = frozenset(["residual"]) if after is None else frozenset()
        yield KernelCase(
            "fused_convolution.forward", symbols | sizes, steps | codes, tolerance=4e-6, reason=SUMS, none=none
        )
    for number, (symbols, scalars) in enumerate(SHAPES[::4]):
        sizes = {name: symbols[name] for name in ("n", "cg", "k")}
        none = frozenset(["biases"]) if number % 3 == 0 else frozenset()
        kernel = "fused_convolution.pack"
        sizes["floats"] = 0  # as many as packed_size says
        yield KernelCase(kernel, sizes, {"groups": scalars["groups"]}, none=none)


KERNEL_CASES = list(rows())
