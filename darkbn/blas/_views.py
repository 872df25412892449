"""What C functions would touch of an array: views of it, checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from darkbn.backend import get_backend
from darkbn.errors import DtypeError, ShapeError
from darkbn.signature import Array


def kernels() -> Any:
    return get_backend("cpu")


def view(name: str, array: Array, shape: tuple[int, ...], steps: tuple[int, ...] | None = None) -> Array:
    """The values of an array that a C function would touch: `steps` are distances between neighbours of each axis."""
    if not isinstance(array, np.ndarray) or array.dtype != np.float32:
        kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
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
    return as_strided(flat, shape, tuple(step * flat.itemsize for step in steps))


def readable(name: str, array: Array, shape: tuple[int, ...], steps: tuple[int, ...] | None = None) -> Array:
    """An array that is read, contiguous."""
    return np.ascontiguousarray(view(name, array, shape, steps))


@contextmanager
def writable(name: str, array: Array, shape: tuple[int, ...], steps: tuple[int, ...] | None = None) -> Iterator[Array]:
    """An array that is written, contiguous; values go back to where they belong afterwards."""
    values = view(name, array, shape, steps)
    if not values.flags.writeable:
        raise ShapeError(f"{name} is written to, but the array is read-only")
    if values.flags.c_contiguous:
        yield values
    else:
        work = np.ascontiguousarray(values)
        yield work
        values[...] = work
