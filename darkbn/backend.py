"""Backends: where a layer's kernels come from and what its arrays are."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from darkbn import signature
from darkbn.errors import DeviceError, UnsupportedError

#: The backends that every installation has.
BACKENDS = ("cpu", "reference")

#: Names that `get_backend` and `device=` take: "gpu" needs CuPy and a device, "emulated" (the same kernels on the
#: host) a C++ compiler; both are in the package darkbn_gpu.
DEVICES = (*BACKENDS, "gpu", "emulated")


#: Families that the CPU has no kernels of.
NOT_ON_CPU = frozenset({"fused_convolution"})


@functools.cache
def families() -> tuple[str, ...]:
    """Names of the kernel families: the modules of darkbn.reference."""
    import darkbn.reference

    return tuple(sorted(m.name for m in pkgutil.iter_modules(darkbn.reference.__path__) if not m.name.startswith("_")))


def reference_family(family: str) -> ModuleType:
    """The module that defines a family's contract."""
    return importlib.import_module(f"darkbn.reference.{family}")


def to_host(array: Any) -> Any:
    """A NumPy array with the values of an array of any device: a copy off a GPU, which waits for it; else the array
    itself. Numbers stay what they are."""
    if isinstance(array, np.ndarray) or not hasattr(array, "__cuda_array_interface__"):
        return array
    try:
        return array.get()
    except RuntimeError as error:  # as all errors of CUDA are in CuPy
        raise DeviceError(f"{array.dtype} of shape {array.shape} cannot be read off the device: {error}") from error


def address(array: Any) -> int:
    """Where an array's memory begins, on whatever device it is."""
    return int(array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr)


class Backend:
    """Kernels of one device. `backend.pooling.maxpool(...)` checks its arguments; `backend.raw.pooling` does not.

    Attributes:
        name: one of DEVICES.
        xp: the array module of its arrays: CuPy for "gpu", NumPy for all others. CuPy's functions take CuPy's arrays
            only: what comes from the host goes through `array` or `assign`, what is wanted there through `to_host`.
        dtype: element type of its floating-point arrays, "float32" or "float64".
        convolutions: of a device: who computes convolutions and how exactly (`darkbn_gpu.providers`); else None.
    """

    def __init__(self, name: str, xp: Any, dtype: str, convolutions: Any = None) -> None:
        self.name = name
        self.xp = xp
        self.dtype = dtype
        self.convolutions = convolutions
        self.raw = _RawFamilies(self)

    def __getattr__(self, family: str) -> Any:
        if family not in families():
            raise AttributeError(f"backend {self.name!r} has no kernel family {family!r}")
        reference, kernels = reference_family(family), getattr(self.raw, family)
        functions = {
            name: signature.checked(
                getattr(reference, name),
                getattr(kernels, name, None) or _missing(f"{family}.{name}", self.name),
                f"{family}.{name}",
                self.dtype,
                self.xp,
            )
            for name in signature.kernel_names(reference)
        }
        namespace = SimpleNamespace(**functions)
        setattr(self, family, namespace)
        return namespace

    @property
    def precision(self) -> str:
        """Of the products in plans: "float32", or on devices "tf32" or "float16"; elsewhere the float type."""
        return str(self.convolutions.precision) if self.convolutions else self.dtype

    def has(self, family: str) -> bool:
        """Whether the backend has kernels of a family: those of the blocked layout are for the CPU, fused convolutions
        of plain maps for devices."""
        if self.name in ("gpu", "emulated"):
            return importlib.util.find_spec(f"darkbn_gpu.{family}") is not None
        return family in families() and (self.name == "reference" or family not in NOT_ON_CPU)

    def empty(self, shape: tuple[int, ...], dtype: str | None = None) -> Any:
        """A new array of the backend's float type (or dtype), contents undefined."""
        return self._allocated(self.xp.empty, shape, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: str | None = None) -> Any:
        """A new array of zeros."""
        return self._allocated(self.xp.zeros, shape, dtype)

    def _allocated(self, make: Callable[..., Any], shape: tuple[int, ...], dtype: str | None) -> Any:
        kind = dtype or self.dtype
        try:
            return make(shape, dtype=kind)
        except MemoryError as error:  # CuPy's is one, too
            raise DeviceError(f"device {self.name!r} has no room for {kind} of shape {shape}: {error}") from error

    def array(self, values: Any, dtype: str | None = None) -> Any:
        """A contiguous array of the backend's float type (or dtype) with these values, which may be numbers or an array
        of any device; no copy when it is one already."""
        if self.xp is np:
            values = to_host(values)
        try:
            return self.xp.ascontiguousarray(values, dtype=dtype or self.dtype)
        except MemoryError as error:
            kind, shape = dtype or self.dtype, np.shape(values)
            raise DeviceError(f"device {self.name!r} has no room for {kind} of shape {shape}: {error}") from error

    @functools.cached_property
    def together(self) -> Any:
        """Steps of all parameters of a network in one launch (`darkbn_gpu.together`); None where they are taken one
        after the other."""
        return importlib.import_module("darkbn_gpu.together") if self.name in ("gpu", "emulated") else None

    def runner(self, calls: Sequence[Callable[[], Any]], label: str) -> Callable[[], None]:
        """What makes the same calls, on the same arrays, again and again; on a GPU a CUDA graph (`darkbn_gpu.graphs`).

        Args:
            calls: without arguments.
            label: of the network, for messages.
        """
        if self.name == "gpu":
            made: Callable[[], None] = importlib.import_module("darkbn_gpu.graphs").Runner(calls, label)
            return made
        return functools.partial(_make, tuple(calls))

    def recording(self) -> contextlib.AbstractContextManager[Any]:
        """Records which kernels are compiled and started inside (`darkbn_gpu.recording`); gives None on the CPU."""
        if self.name not in ("gpu", "emulated"):
            return contextlib.nullcontext()
        found: contextlib.AbstractContextManager[Any] = importlib.import_module("darkbn_gpu.recording").recording()
        return found

    def read(self, arrays: Sequence[Any]) -> list[Any]:
        """The values of several small arrays as NumPy arrays, carried off a device all at once."""
        if self.xp is np or not arrays:
            return list(arrays)
        flat = to_host(self.xp.concatenate([array.reshape(-1).astype("float64") for array in arrays]))
        ends = np.cumsum([array.size for array in arrays])[:-1]
        parts = zip(np.split(flat, ends), arrays, strict=True)
        return [part.reshape(array.shape).astype(array.dtype) for part, array in parts]

    def assign(self, target: Any, values: Any) -> None:
        """target[...] = values, for a target of this backend (a view, too) and numbers or an array of any device."""
        target[...] = self.array(values, target.dtype.name)

    def __repr__(self) -> str:
        options = f", {self.convolutions!r}" if self.convolutions else ""
        return f"Backend({self.name!r}, {self.dtype}{options})"


def _make(calls: tuple[Callable[[], Any], ...]) -> None:
    for call in calls:
        call()


def _missing(kernel: str, backend: str) -> Callable[..., Any]:
    """What stands for a kernel that a backend does not have."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise UnsupportedError(f"backend {backend!r} has no kernel {kernel}")

    return refuse


class _RawFamilies:
    """Unchecked kernel modules of a backend, imported when first used."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def __getattr__(self, family: str) -> Any:
        if family.startswith("_") or family not in families():
            raise AttributeError(f"no kernel family {family!r}")
        if self._backend.name == "reference":
            module: Any = reference_family(family)
        elif self._backend.convolutions is not None and family in ("convolution", "fused_convolution"):
            module = self._backend.convolutions.family(family)
        elif self._backend.name in ("gpu", "emulated"):
            module = importlib.import_module(f"darkbn_gpu.{family}")
        else:
            from darkbn import cpu

            module = cpu.load(family)
        setattr(self, family, module)
        return module


def get_backend(name: str | Backend, precision: str | None = None, convolution: str | None = None) -> Backend:
    """The backend of that name.

    Args:
        name: one of DEVICES, or a backend, which is returned.
        precision: of products in plans, one of `darkbn_gpu.providers.PRECISIONS`; None: "float32".
        convolution: who computes convolutions on "gpu": "cudnn", "cublas" or "kernels"; None: the first that works, or
            what DARKBN_GPU_CONVOLUTION in the environment says.

    Raises:
        DeviceError: there is no such backend, or not with these options; with the reason.
    """
    return name if isinstance(name, Backend) else _made(name, precision or "float32", convolution)


@functools.cache
def _made(name: str, precision: str, convolution: str | None) -> Backend:
    if name in BACKENDS:
        _refuse_options(name, precision, convolution)
        return Backend(name, np, "float32" if name == "cpu" else "float64")
    if name == "emulated":
        return _emulated_backend(precision, convolution)
    if name == "gpu":
        return _gpu_backend(precision, convolution)
    raise DeviceError(f"unknown device {name!r}: expected one of {', '.join(DEVICES)}")


def _refuse_options(name: str, precision: str, convolution: str | None) -> None:
    if precision != "float32":
        raise DeviceError(f"precision={precision!r} is for devices gpu and emulated, this one is {name!r}")
    if convolution is not None:
        raise DeviceError(f"convolution={convolution!r} is for device gpu, this one is {name!r}")


def _emulated_backend(precision: str, convolution: str | None) -> Backend:
    from darkbn_gpu import emulation, providers

    found, reason = emulation.available()
    if not found:
        raise DeviceError(f"device 'emulated': {reason}")
    return Backend("emulated", np, "float32", providers.choose("emulated", np, precision, convolution))


def _gpu_backend(precision: str, convolution: str | None) -> Backend:
    import darkbn_gpu

    found, reason = darkbn_gpu.available()
    if not found:
        raise DeviceError(f"device 'gpu': {reason}")
    from darkbn_gpu import providers

    cupy = importlib.import_module("cupy")
    return Backend("gpu", cupy, "float32", providers.choose("gpu", cupy, precision, convolution))
