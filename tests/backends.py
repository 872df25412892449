"""The backends that tests run on, as pytest parameters, and what is special about each."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
import pytest

from darkbn.backend import BACKENDS
from darkbn.signature import Kernel
from darkbn_gpu import emulation

_FOUND, _REASON = emulation.available()

EMULATED = pytest.param("emulated", marks=pytest.mark.skipif(not _FOUND, reason=_REASON))
GPU = pytest.param("gpu", marks=pytest.mark.gpu)

#: Families that the GPU's kernels do not have: those of the layout that plans for the CPU use.
NOT_ON_GPU = frozenset({"blocked", "blocked_bottleneck", "blocked_convolution"})

#: Kernel files that are no family: `together` takes the steps of `optimizer` for all parameters of a network at once.
ONLY_ON_GPU = frozenset({"together"})

#: Families that only devices have; plans for the CPU use those of the blocked layout instead.
NOT_ON_CPU = frozenset({"fused_convolution"})

#: All backends: those that every installation has, the GPU's kernels on the host, and (pytest -m gpu) on a device.
EVERY_BACKEND = (*BACKENDS, EMULATED, GPU)


def in_turn(kernel: Kernel) -> Kernel:
    """An emulated kernel that runs its threads in another order every time."""
    orders = itertools.cycle(emulation.ORDERS)

    def call(*args: Any) -> Any:
        with emulation.thread_order(next(orders)):
            return kernel(*args)

    return call


def on_device(kernel: Kernel) -> Kernel:
    """A GPU's kernel that takes NumPy arrays: all memory that they lie in, guard bands included, is carried there and
    back."""

    @functools.wraps(kernel)
    def call(*args: Any) -> Any:
        import cupy

        moved, back = [], []
        for arg in args:
            if not isinstance(arg, np.ndarray):
                moved.append(arg)
                continue
            memory = arg if arg.base is None else arg.base
            start = (arg.ctypes.data - memory.ctypes.data) // arg.itemsize
            there = cupy.asarray(memory)
            back.append((there, memory))
            moved.append(there.reshape(-1)[start : start + arg.size].reshape(arg.shape))
        returned = kernel(*moved)
        for there, memory in back:
            memory[...] = there.get()
        return returned

    return call


class OnDevice:
    """A family of a GPU's kernels that take NumPy arrays."""

    def __init__(self, family: Any) -> None:
        self._family = family

    def __getattr__(self, name: str) -> Kernel:
        return on_device(getattr(self._family, name))


def has_family(backend: str, family: str) -> bool:
    """Whether the backend has kernels of that family."""
    if backend == "cpu":
        return family not in NOT_ON_CPU
    return backend == "reference" or family not in NOT_ON_GPU


def backends_with(family: str) -> list[str]:
    """The backends that this machine can run, of those that have the family."""
    found = [*BACKENDS, *(["emulated"] if _FOUND else [])]
    return [name for name in found if has_family(name, family)]
