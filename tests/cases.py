"""The table of kernel cases: what every backend is run on. Rows live in cases_<family>.py as KERNEL_CASES."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

#: Makes the values of one array of that shape; they are rounded to the array's element type.
Fill = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


@dataclass(frozen=True)
class KernelCase:
    """One call of one kernel, as data.

    Attributes:
        kernel: "family.function".
        sizes: value of each symbol in the reference function's annotations; a starred one ("*s") is a tuple.
        scalars: every argument that is no array, except threads.
        tolerance: largest |backend - reference| over the largest |reference|, per array.
        reason: why the tolerance is what it is, where it is not the default.
        fill: values of `in` and `io` arrays by name; by default standard normal, and zeros for integers.
        none: optional arrays given as None.

    The size of an array named `workspace` is what the family's `<function>_workspace` says, given the sizes,
    scalars and threads that it names; one named `packed` holds what its `pack` makes of `weights` and `biases`.
    """

    kernel: str
    sizes: Mapping[str, int | tuple[int, ...]]
    scalars: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-6
    reason: str = ""
    fill: Mapping[str, Fill] = field(default_factory=dict)
    none: frozenset[str] = frozenset()

    @property
    def family(self) -> str:
        return self.kernel.split(".")[0]

    @property
    def function(self) -> str:
        return self.kernel.split(".")[1]

    def __str__(self) -> str:
        values = {**self.sizes, **self.scalars, **dict.fromkeys(sorted(self.none))}
        empty = " empty" if 0 in self.sizes.values() else ""
        return f"{self.kernel}[{' '.join(f'{k}={v}' for k, v in values.items())}{empty}]"


@functools.cache
def kernel_cases() -> tuple[KernelCase, ...]:
    """The rows of all cases_*.py beside this file."""
    files = sorted(Path(__file__).parent.glob("cases_*.py"))
    return tuple(case for file in files for case in importlib.import_module(file.stem).KERNEL_CASES)
