"""A stand-in for CuPy on machines without a GPU: its arrays are as strict as CuPy's, its kernels are emulated.

`device="gpu"` then runs as it does on a device, launches, streams and graphs included: arrays cannot become NumPy
arrays but by `get()`, NumPy's functions and operands are refused, and every value that the host reads is counted.
tests/test_strict_device.py holds it against the real CuPy where that is installed.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from darkbn import backend
from darkbn_gpu import emulation, modules


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Functions of CuPy that have NumPy's names and meaning, and take CuPy's arrays and numbers only.
NAMES = _words(
    "abs arange argsort concatenate copyto cumprod exp isfinite linalg matmul maximum minimum multiply "
    "ones pad sort sqrt square stack sum tri triu where zeros_like empty_like ones_like"
)
#: Those that wait for the device to learn how long their result is.
_WAITING = _words("argwhere nonzero flatnonzero unique")

_OPERATORS = _words(
    "add sub mul truediv floordiv mod pow and or xor matmul lshift rshift lt le gt ge eq ne neg pos invert abs"
)
_METHODS = _words(
    "reshape ravel transpose swapaxes squeeze sum mean std var max min any all argmax argmin clip astype "
    "copy cumsum dot take round view"
)


class Device:
    """What the fake device counts and does.

    Attributes:
        reads: how often the host waited for values.
        launches: kernels that were started, by name.
        uploads: bytes of host arrays that went up; downloads: bytes of arrays that came down.
        capturing: what a stream records instead of running it.
    """

    def __init__(self) -> None:
        self.reads = 0
        self.launches: list[str] = []
        self.uploads = self.downloads = 0
        self.capturing: list[Callable[[], Any]] | None = None

    def read(self) -> None:
        if self.capturing is not None:
            raise RuntimeError("the current stream is capturing, so synchronous API calls are disallowed")
        self.reads += 1

    def run(self, call: Callable[[], Any]) -> None:
        """Do something that has an effect: now, or, while a graph is captured, when it is launched."""
        if self.capturing is None:
            call()
        else:
            self.capturing.append(call)

    def compute(self, call: Callable[[], Any]) -> Any:
        """A new array; a graph computes its values anew when it is launched."""
        found = call()
        if self.capturing is not None and isinstance(found, np.ndarray):
            self.capturing.append(lambda: np.copyto(found, call()))
        return wrap(found)


device = Device()


class ndarray:  # CuPy's name
    """An array that only the device can see."""

    __array_priority__ = 100

    def __init__(self, shape: Any, dtype: Any = float) -> None:
        self.host = np.empty(shape, dtype)

    # -- what CuPy refuses -----------------------------------------------------------------------------------------

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        raise TypeError(f"numpy.{ufunc.__name__} of an array of the device")

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function is np.shape:
            return self.shape
        raise TypeError(f"numpy.{function.__name__} of an array of the device")

    # -- what it is ------------------------------------------------------------------------------------------------

    shape = property(lambda self: self.host.shape)
    dtype = property(lambda self: self.host.dtype)
    size = property(lambda self: self.host.size)
    ndim = property(lambda self: self.host.ndim)
    nbytes = property(lambda self: self.host.nbytes)
    itemsize = property(lambda self: self.host.itemsize)
    strides = property(lambda self: self.host.strides)
    T = property(lambda self: wrap(self.host.T))
    data = property(lambda self: SimpleNamespace(ptr=self.host.ctypes.data))
    __cuda_array_interface__ = property(lambda self: {"shape": self.shape, "typestr": self.dtype.str, "version": 3})

    @property
    def base(self) -> Any:
        return None if self.host.base is None else wrap(self.host.base)

    @property
    def flags(self) -> Any:
        flags = self.host.flags
        return SimpleNamespace(c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous, owndata=flags.owndata)

    def __len__(self) -> int:
        return len(self.host)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    __hash__ = None  # type: ignore[assignment]

    # -- values ----------------------------------------------------------------------------------------------------

    def get(self, out: np.ndarray | None = None, **kwargs: Any) -> np.ndarray:
        device.read()
        device.downloads += self.nbytes
        if out is None:
            return np.array(self.host, order="C")
        out[...] = self.host
        return out

    def set(self, values: np.ndarray, stream: Any = None) -> None:
        if type(values) is not np.ndarray or values.dtype != self.dtype or values.shape != self.shape:
            raise TypeError("set() takes a NumPy array of the same type and shape")
        device.uploads += values.nbytes
        self.host[...] = values

    def item(self) -> Any:
        device.read()
        return self.host.item()

    def tolist(self) -> Any:
        device.read()
        return self.host.tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    __index__ = __int__

    def __bool__(self) -> bool:
        device.read()
        return bool(self.host)

    def __getitem__(self, index: Any) -> Any:
        index = _index(index)
        if any(isinstance(part, np.ndarray) and part.dtype == bool for part in _parts(index)):
            device.read()
        if any(isinstance(part, np.ndarray) for part in _parts(index)):
            return device.compute(lambda: self.host[index])
        return wrap(self.host[index] if self.host.ndim else self.host)

    def __setitem__(self, index: Any, value: Any) -> None:
        index, value = _index(index), unwrap(value)
        device.run(lambda: operator.setitem(self.host, index, value))

    def fill(self, value: Any) -> None:
        value = unwrap(value)
        device.run(lambda: self.host.fill(value))


def wrap(value: Any) -> Any:
    """Arrays, and NumPy's numbers as CuPy gives them: arrays without axes."""
    if isinstance(value, tuple):
        return tuple(wrap(one) for one in value)
    if not isinstance(value, np.ndarray | np.generic):
        return value
    found = ndarray.__new__(ndarray)
    found.host = np.asarray(value)
    return found


def unwrap(value: Any) -> Any:
    """What the device can work with; a TypeError for NumPy's arrays and for lists of numbers, as CuPy gives it."""
    if isinstance(value, ndarray):
        return value.host
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, list | tuple) and any(isinstance(one, ndarray | np.ndarray) for one in value):
        return type(value)(unwrap(one) for one in value)
    return value


def _parts(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def _index(index: Any) -> Any:
    parts = [unwrap(part) for part in _parts(index)]
    if any(isinstance(part, list) for part in parts):
        raise TypeError("lists as indices go up to the device every time")
    return tuple(parts) if isinstance(index, tuple) else parts[0]


def _operator(name: str, reverse: bool = False) -> Callable[..., Any]:
    function = getattr(operator, f"__{name}__")

    def call(self: ndarray, *others: Any) -> Any:
        values = [self.host, *map(unwrap, others)]
        return device.compute(lambda: np.asarray(function(*(values[::-1] if reverse else values))))

    return call


def _in_place(name: str) -> Callable[..., Any]:
    function = getattr(operator, f"__i{name}__")

    def call(self: ndarray, other: Any) -> Any:
        value = unwrap(other)
        device.run(lambda: function(self.host, value))
        return self

    return call


def _method(name: str) -> Callable[..., Any]:
    def call(self: ndarray, *args: Any, **kwargs: Any) -> Any:
        given = [unwrap(arg) for arg in args]
        view = getattr(self.host, name)(*given, **kwargs)
        if isinstance(view, np.ndarray) and np.may_share_memory(view, self.host):
            return wrap(view)
        return device.compute(lambda: np.asarray(getattr(self.host, name)(*given, **kwargs)))

    return call


for _name in _OPERATORS:
    setattr(ndarray, f"__{_name}__", _operator(_name))
    if hasattr(np.ndarray, f"__r{_name}__"):
        setattr(ndarray, f"__r{_name}__", _operator(_name, reverse=True))
    if hasattr(operator, f"__i{_name}__") and _name != "invert":
        setattr(ndarray, f"__i{_name}__", _in_place(_name))
for _name in _METHODS:
    setattr(ndarray, _name, _method(_name))


# -- the module ------------------------------------------------------------------------------------------------------


def _uploaded(values: Any, dtype: Any = None, **kwargs: Any) -> ndarray:
    if isinstance(values, ndarray):
        return values if dtype is None or values.dtype == dtype else values.astype(dtype)
    found = np.array(values, dtype=dtype, order="C")
    device.uploads += found.nbytes
    if device.capturing is not None:
        raise RuntimeError("a graph that was captured would go on reading this array of the host")
    return wrap(found)  # type: ignore[no-any-return]


def _strided(values: ndarray, shape: Any, strides: Any) -> Any:
    return wrap(np.lib.stride_tricks.as_strided(values.host, shape, strides))


def _contiguous(values: Any, dtype: Any = None) -> ndarray:
    found = _uploaded(values, dtype)
    return found if found.flags.c_contiguous else device.compute(lambda: np.ascontiguousarray(found.host))


def _made(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(shape: Any, dtype: Any = float, **kwargs: Any) -> Any:
        found = function(shape, dtype=dtype, **kwargs)
        if device.capturing is not None and function is not np.empty:
            device.capturing.append(lambda: np.copyto(found, function(shape, dtype=dtype, **kwargs)))
        return wrap(found)

    return call


def _function(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        given, named = [unwrap(arg) for arg in args], {key: unwrap(arg) for key, arg in kwargs.items()}
        if function.__name__ in _WAITING or (function is np.where and len(args) == 1):
            device.read()
        return device.compute(lambda: function(*given, **named))

    return call


class RawModule:
    """Kernels of a file, emulated."""

    def __init__(self, file: str) -> None:
        self.file = file

    def get_function(self, kernel: str) -> Callable[..., None]:
        run = emulation.function(self.file, kernel)

        def call(grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...], shared_mem: int = 0) -> None:
            if any(isinstance(arg, np.ndarray) and arg.ndim for arg in args):
                raise TypeError("You are trying to pass a numpy.ndarray as a kernel parameter")
            if any(isinstance(arg, ndarray) and not arg.flags.c_contiguous for arg in args):
                raise AssertionError("a kernel reads from the first element on, whatever the strides")
            values = tuple(arg.host if isinstance(arg, ndarray) else arg for arg in args)
            device.launches.append(kernel)
            device.run(lambda: run(grid, block, values))

        return call


class Graph:
    """What a stream captured."""

    def __init__(self, calls: list[Callable[[], Any]]) -> None:
        self._calls = calls

    def upload(self, stream: Any = None) -> None:
        pass

    def launch(self, stream: Any = None) -> None:
        device.launches.append("graph")
        for call in self._calls:
            call()


class Stream:
    """A stream; with one it can be captured what it would do."""

    _current: ClassVar[list[Stream]] = []

    def __init__(self, null: bool = False, non_blocking: bool = False) -> None:
        self.non_blocking, self.ptr = non_blocking, id(self) if not null else 0

    def __enter__(self) -> Stream:
        self._current.append(self)
        return self

    def __exit__(self, *exception: Any) -> None:
        self._current.pop()

    def begin_capture(self, mode: int | None = None) -> None:
        if get_current_stream() is not self or not self.non_blocking:
            raise RuntimeError("cudaErrorStreamCaptureImplicit")
        device.capturing = []

    def end_capture(self) -> Graph:
        calls, device.capturing = device.capturing, None
        assert calls is not None
        return Graph(calls)

    def is_capturing(self) -> bool:
        return device.capturing is not None

    def synchronize(self) -> None:
        device.read()

    def wait_event(self, event: Any) -> None:
        pass

    def record(self, event: Any = None) -> Any:
        return event or Event()


class Event:
    def __init__(self, **kwargs: Any) -> None:
        pass

    def record(self, stream: Any = None) -> None:
        pass

    def synchronize(self) -> None:
        device.read()


_null = Stream(null=True)


def get_current_stream() -> Stream:
    return Stream._current[-1] if Stream._current else _null


class MemoryPool:
    """Counts what is asked of it."""

    def __init__(self) -> None:
        self.used = False

    def malloc(self, size: int) -> Any:
        raise AssertionError("the fake's arrays are NumPy's")

    def used_bytes(self) -> int:
        return 0

    def total_bytes(self) -> int:
        return 0


@contextlib.contextmanager
def _using_allocator(allocator: Any = None) -> Iterator[None]:
    yield


def _module() -> Any:
    """The module `cupy`."""
    cuda = SimpleNamespace(
        Stream=Stream, Event=Event, Graph=Graph, MemoryPool=MemoryPool, get_current_stream=get_current_stream,
        using_allocator=_using_allocator, get_elapsed_time=lambda start, end: 1.0, Device=lambda: SimpleNamespace(id=0),
        runtime=SimpleNamespace(
            getDeviceCount=lambda: 1,
            getDeviceProperties=lambda device: {"name": b"a fake"},
            streamCaptureModeThreadLocal=1,
        ),
    )  # fmt: skip
    functions = {name: _function(getattr(np, name)) for name in (NAMES | _WAITING) - {"linalg", "arange", "ones"}}
    return SimpleNamespace(
        __name__="cupy", ndarray=ndarray, RawModule=RawModule, cuda=cuda,
        empty=_made(np.empty), zeros=_made(np.zeros), ones=_made(np.ones), arange=lambda *args, **kwargs:
        wrap(np.arange(*args, **kwargs)),
        array=_uploaded, asarray=_uploaded, ascontiguousarray=_contiguous, asnumpy=lambda array: array.get(),
        lib=SimpleNamespace(stride_tricks=SimpleNamespace(as_strided=_strided)),
        linalg=SimpleNamespace(norm=_function(np.linalg.norm)), float32=np.float32, float64=np.float64,
        **functions,
    )  # fmt: skip


@functools.cache
def module() -> Any:
    return _module()


@contextlib.contextmanager
def installed() -> Iterator[Device]:
    """`import cupy` gives the fake one inside, and device "gpu" is the fake device."""
    caches = (backend._made, modules.device_function)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", module())
        patch.setattr(modules, "device_module", RawModule)
        patch.setattr(modules, "is_cached", emulation.is_cached)
        for cache in caches:
            cache.cache_clear()
        try:
            yield device
        finally:
            for cache in caches:
                cache.cache_clear()
