"""How launchers start kernels: on the device where their arrays are CuPy's, in emulation where they are NumPy's.

On the device they go to CuPy's current stream, in whatever order the caller's streams and events say.

Of Python numbers, int becomes `long long` and float becomes `float`; None becomes a null pointer.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from darkbn.backend import address
from darkbn.errors import DeviceError
from darkbn_gpu import emulation, modules, recording

#: Threads of every block.
THREADS = 256

#: Blocks of a grid whose threads take several elements each. Fixed, since sums may depend on it.
MOST_BLOCKS = 4096


def launch(file: str, kernel: str, blocks: int, *args: Any) -> None:
    """Run a kernel of kernels/<file>.cu with that many blocks; nothing happens with none.

    Raises DeviceError when the device fails, naming kernel, grid and the arrays' shapes.
    """
    if blocks < 1:
        return
    values, recorded = tuple(_value(arg) for arg in args), recording.current()
    if all(isinstance(arg, np.ndarray) for arg in args if hasattr(arg, "shape") and arg.shape != ()):
        if recorded is not None:
            recorded.use(file, kernel, emulation.is_cached, emulation.module)
        emulation.function(file, kernel)((blocks,), (THREADS,), values)
        return
    try:
        if recorded is not None:
            recorded.use(file, kernel, modules.is_cached, modules.device_module)
        modules.device_function(file, kernel)((blocks,), (THREADS,), values)
    except Exception as error:
        raise DeviceError(f"{_describe(file, kernel, blocks, args)}: {error}") from error


def _value(arg: Any) -> Any:
    if arg is None:
        return np.uintp(0)
    if isinstance(arg, np.generic) or hasattr(arg, "shape"):
        return arg
    if isinstance(arg, float):
        return np.float32(arg)
    return np.int64(arg)


def _describe(file: str, kernel: str, blocks: int, args: tuple[Any, ...]) -> str:
    shapes = ", ".join(f"{arg.dtype}{arg.shape}" for arg in args if getattr(arg, "shape", ()))
    return f"kernel {file}.{kernel}, {blocks} blocks of {THREADS} threads, arrays {shapes or 'none'}"


def each(file: str, kernel: str, count: int, *args: Any) -> None:
    """Run a kernel whose threads share `count` elements."""
    launch(file, kernel, min(-(-count // THREADS), MOST_BLOCKS), *args)


def map_each(file: str, kernel: str, count: int, *args: Any) -> None:
    """The same for kernels that take four elements at a time."""
    launch(file, kernel, min(-(-count // (4 * THREADS)), MOST_BLOCKS), *args)


def tiles(rows: int, columns: int) -> int:
    """Blocks for a matrix of that size: each makes 64 x 64 of it (TILE of matrix.cuh)."""
    return -(-rows // 64) * -(-columns // 64)


def scratch(like: Any, count: int, dtype: str = "float64") -> Any:
    """An array beside `like`, contents undefined; on a device from CuPy's pool."""
    if isinstance(like, np.ndarray):
        return np.empty(count, dtype)
    import cupy

    try:
        return cupy.empty(count, dtype)
    except MemoryError as error:
        raise DeviceError(f"the device has no room for {count} {dtype} of scratch memory: {error}") from error


def beside(like: Any, values: Any) -> Any:
    """A NumPy array where `like` is: itself, or a copy on the device."""
    if isinstance(like, np.ndarray):
        return values
    import cupy

    return cupy.asarray(values)


def is_aligned(*arrays: Any) -> bool:
    """Whether all arrays begin at multiples of 16 bytes."""
    return all(address(array) % 16 == 0 for array in arrays)


@functools.cache
def blocks_per_channel(channels: int, values: int) -> int:
    """Blocks that share a channel of so many values: more when channels are few, each with at least 4096 values."""
    wanted = max(1, 1024 // max(channels, 1))
    return max(1, min(wanted, -(-values // 4096), 64))
