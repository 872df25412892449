"""The contract of a kernel, read from the annotations of its reference function (see docs/architecture.md)."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from darkbn.errors import DeviceError, DtypeError, ShapeError

Array = NDArray[Any]
Kernel = Callable[..., Any]

_DTYPES = {name: np.dtype(name) for name in ("float32", "float64", "int32", "int64", "uint8")}

_SPEC = re.compile(r"^(in|out|io)(\?)?(?::(\w+))?((?: \S+)*)$")


@dataclass(frozen=True)
class ArraySpec:
    """One array argument: direction ("in", "out", "io"), whether None is allowed, element type, symbolic shape."""

    name: str
    direction: str
    optional: bool
    dtype: str | None
    dims: tuple[str, ...]

    @classmethod
    def parse(cls, name: str, text: str) -> ArraySpec:
        match = _SPEC.match(text)
        if match is None:
            raise ValueError(f"annotation {text!r} of argument {name!r} is not 'in|out|io[?][:dtype] dim dim ...'")
        direction, optional, dtype, dims = match.groups()
        return cls(name, direction, optional is not None, dtype, tuple(dims.split()))

    @property
    def writes(self) -> bool:
        return self.direction != "in"


def array_specs(function: Kernel) -> dict[str, ArraySpec]:
    """The array arguments of a reference function, in order."""
    return dict(_cached_specs(function))


@functools.cache
def _cached_specs(function: Kernel) -> tuple[tuple[str, ArraySpec], ...]:
    hints = get_type_hints(function, include_extras=True)
    found = []
    for name in inspect.signature(function).parameters:
        hint = hints.get(name)
        for candidate in (hint, *get_args(hint)):
            if get_origin(candidate) is Annotated:
                found.append((name, ArraySpec.parse(name, get_args(candidate)[1])))
                break
    return tuple(found)


def kernel_names(module: Any) -> list[str]:
    """Public functions defined in a reference module: the kernels of its family, and their workspace functions."""
    return [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and not name.startswith("_") and value.__module__ == module.__name__
    ]


def check_arrays(kernel: str, specs: dict[str, ArraySpec], values: dict[str, Any], dtype: str, xp: Any = np) -> None:
    """Raise DtypeError or ShapeError unless the arrays fit the contract and each other, DeviceError for arrays of
    another device.

    Args:
        kernel: name for the message.
        specs: the contract of each array argument.
        values: the arguments by name.
        dtype: the backend's float type.
        xp: the array module (NumPy or CuPy).
    """
    sizes: dict[str, tuple[Any, str]] = {}
    for name, spec in specs.items():
        value = values[name]
        if value is None and spec.optional:
            continue
        if not isinstance(value, xp.ndarray) and _is_elsewhere(value):
            owner, own = type(value).__module__.partition(".")[0], getattr(xp, "__name__", "another module")
            raise DeviceError(
                f"{kernel}: {name} is an array of {owner}, {value.dtype}{tuple(value.shape)}, but this backend's are"
                f" those of {own}: its `array` converts"
            )
        if not isinstance(value, xp.ndarray):
            raise DtypeError(
                f"{kernel}: {name} must be an array of {spec.dtype or dtype}, found {type(value).__name__}"
            )
        # Comparing types is much faster than asking for their names.
        if value.dtype != _DTYPES[spec.dtype or dtype]:
            raise DtypeError(f"{kernel}: {name} must be of {spec.dtype or dtype}, found {value.dtype.name}")
        _check_shape(kernel, spec, value, sizes)


def _is_elsewhere(value: Any) -> bool:
    """Whether it is an array, of the host or of a GPU."""
    return isinstance(value, np.ndarray) or hasattr(value, "__cuda_array_interface__")


def _check_shape(kernel: str, spec: ArraySpec, value: Any, sizes: dict[str, tuple[Any, str]]) -> None:
    shape, dims = value.shape, spec.dims
    starred = dims[-1] if dims and dims[-1].startswith("*") else None
    if starred:
        fits = len(shape) >= len(dims) - 1
        dims = dims[:-1]
    else:
        fits = len(shape) == len(dims)
    if not fits:
        expected = f"({', '.join(spec.dims)})"
        raise ShapeError(f"{kernel}: {spec.name} must have shape {expected}, found {shape}")
    for axis, dim in enumerate(dims):
        if dim.isdigit():
            expected_size, owner = int(dim), dim
        else:
            expected_size, owner = sizes.setdefault(dim, (shape[axis], spec.name))
        if shape[axis] != expected_size:
            raise ShapeError(
                f"{kernel}: axis {axis} of {spec.name} ({dim}) must be {expected_size}, as in {owner},"
                f" found {shape[axis]} (shape {shape})"
            )
    if starred:
        rest = tuple(shape[len(dims) :])
        expected_rest, owner = sizes.setdefault(starred, (rest, spec.name))
        if rest != expected_rest:
            raise ShapeError(
                f"{kernel}: axes {starred} of {spec.name} must be {expected_rest}, as in {owner},"
                f" found {rest} (shape {shape})"
            )
    if not value.flags.c_contiguous:
        raise ShapeError(f"{kernel}: {spec.name} of shape {shape} must be C-contiguous")
    if spec.writes and not getattr(value.flags, "writeable", True):
        raise ShapeError(f"{kernel}: {spec.name} is written to, but the array is read-only")


#: Sets of arguments that a checked kernel remembers as right.
_REMEMBERED = 1024


def _facts(arrays: list[Any]) -> tuple[Any, ...] | None:
    """All that `check_arrays` looks at in array arguments; None where one is no array."""
    try:
        return tuple(
            [
                a
                if a is None
                else (type(a), a.dtype, a.shape, a.flags.c_contiguous, getattr(a.flags, "writeable", True))
                for a in arrays
            ]
        )
    except AttributeError:
        return None


def checked(reference: Kernel, kernel: Kernel, label: str, dtype: str, xp: Any = np) -> Kernel:
    """`kernel` behind the contract of `reference`; functions without array arguments are returned as they are.

    Networks call a kernel with the same shapes again and again: what was right once is not looked at again.
    """
    specs = array_specs(reference)
    if not specs:
        return kernel
    names = tuple(inspect.signature(reference).parameters)
    places = tuple(place for place, name in enumerate(names) if name in specs)
    right: set[Any] = set()

    @functools.wraps(reference)
    def call(*args: Any, **kwargs: Any) -> Any:
        facts = None if kwargs or len(args) != len(names) else _facts([args[place] for place in places])
        if facts in right:
            return kernel(*args)
        values = dict(zip(names, args, strict=False))
        values.update(kwargs)
        missing = [name for name in names if name not in values]
        if missing or len(values) != len(names) or len(args) + len(kwargs) != len(names):
            raise TypeError(f"{label}() takes {', '.join(names)}; missing {missing or 'none'}")
        check_arrays(label, specs, values, dtype, xp)
        if facts is not None:
            if len(right) >= _REMEMBERED:
                right.clear()
            right.add(facts)
        return kernel(*[values[name] for name in names])

    return call
