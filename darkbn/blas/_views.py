"""What C functions would touch of an array: views of it, checked."""

from __future__ import annotations

import contextvars
import functools
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import numpy as np

from darkbn.backend import Backend, get_backend
from darkbn.errors import DtypeError, ShapeError
from darkbn.signature import Array

_P = ParamSpec("_P")
_R = TypeVar("_R")

_device: contextvars.ContextVar[str] = contextvars.ContextVar("device", default="cpu")


def kernels() -> Backend:
    """The backend that functions compute on."""
    return get_backend(_device.get())


def on_gpu(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """The same function on the GPU's kernels: on the device for CuPy's arrays, emulated for NumPy's."""

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        given = itertools.chain(args, kwargs.values())
        token = _device.set("emulated" if any(isinstance(value, np.ndarray) for value in given) else "gpu")
        try:
            return function(*args, **kwargs)
        finally:
            _device.reset(token)

    return call


def view(name: str, array: Array, shape: tuple[int, ...], steps: tuple[int, ...] | None = None) -> Array:
    """The values of an array that a C function would touch: `steps` are distances between neighbours of each axis."""
    xp = kernels().xp
    if not isinstance(array, xp.ndarray) or array.dtype != np.float32:
        kind = array.dtype if isinstance(array, xp.ndarray) else type(array).__name__
        raise DtypeError(f"{name} must be an array of float32, found {kind}")
    if not array.flags.c_contiguous:
        raise ShapeError(f"{name} must be C-contiguous")
    if min(shape, default=1) < 0 or min(steps or (1,)) < 1:
        raise ShapeError(f"{name}: sizes must not be negative and increments at least 1, found {shape}, {steps}")
    if steps is None:
        steps = tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))
    needed = 0 if 0 in shape else 1 + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
    if needed > array.size:
        raise ShapeError(f"{name} must have at least {needed} values, found {array.size} (shape {array.shape})")
    flat = array.reshape(-1)
    strided: Array = xp.lib.stride_tricks.as_strided(flat, shape, tuple(step * flat.itemsize for step in steps))
    return strided


def readable(name: str, array: Array, shape: tuple[int, ...], steps: tuple[int, ...] | None = None) -> Array:
    """An array that is read, contiguous."""
    contiguous: Array = kernels().xp.ascontiguousarray(view(name, array, shape, steps))
    return contiguous


@contextmanager
def writable(name: str, array: Array, shape: tuple[int, ...], steps: tuple[int, ...] | None = None) -> Iterator[Array]:
    """An array that is written, contiguous; values go back to where they belong afterwards."""
    values = view(name, array, shape, steps)
    if not getattr(values.flags, "writeable", True):  # CuPy's always are
        raise ShapeError(f"{name} is written to, but the array is read-only")
    if values.flags.c_contiguous:
        yield values
    else:
        work = kernels().xp.ascontiguousarray(values)
        yield work
        values[...] = work
