"""The GPU's kernels on the host: the same .cu files, compiled by the C++ compiler, on NumPy arrays.

`device.h` has the CUDA that they use. Threads of a block run one after the other in an order that can be chosen
(`thread_order`), and shared memory is poisoned before every block: a kernel that forgets a barrier gives different
bits in another order, or NaN. Threads that wait at different barriers end the kernel with a DeviceError.

It needs g++ (or the compiler in `DARKBN_CXX`). Compiled modules are kept in the user's cache folder, by a hash of their
text. `DARKBN_SANITIZE=1` compiles with the address and undefined-behaviour sanitizers; the interpreter must then have
been started with LD_PRELOAD of libasan and libubsan. `DARKBN_RACECHECK=1` makes two accesses to the same memory, shared
or global, an error when different threads make them, one of them writes, and nothing orders them (`race.h`).
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from darkbn.errors import DeviceError
from darkbn.files import cache_folder
from darkbn_gpu import modules

#: Orders in which the threads of a block, and the blocks of a grid, can run.
ORDERS = ("ascending", "descending", "shuffled")

_FLAGS = ("-std=c++17", "-O1", "-fPIC", "-fno-strict-aliasing", "-Wall", "-Wextra", "-Werror")
#: What shared formulas do on purpose: functions and pragmas that a file does not use.
_ALLOWED = ("-Wno-unused-function", "-Wno-unknown-pragmas", "-Wno-unused-variable", "-Wno-subobject-linkage")
_SANITIZERS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
#: Calls of race.h at every access; its own functions, not those of the compiler's library.
_WATCHED = ("-g", "-fsanitize=thread", "--param=tsan-instrument-func-entry-exit=0")

_order: contextvars.ContextVar[str] = contextvars.ContextVar("thread_order", default="ascending")


@contextlib.contextmanager
def thread_order(order: str) -> Iterator[None]:
    """Run emulated threads in that order, one of ORDERS, inside the block."""
    if order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}, found {order!r}")
    token = _order.set(order)
    try:
        yield
    finally:
        _order.reset(token)


def compiler() -> str | None:
    """Path of the C++ compiler; None when there is none."""
    return shutil.which(os.environ.get("DARKBN_CXX", "g++"))


def available() -> tuple[bool, str]:
    """Whether kernels can be emulated, and the compiler or the reason why not."""
    found = compiler()
    if found is None:
        name = os.environ.get("DARKBN_CXX", "g++")
        return (
            False,
            f"emulation compiles CUDA kernels with {name}, which was not found (install it, or set DARKBN_CXX)",
        )
    return True, found


def host_source(name: str, watched: bool = False) -> str:
    """What the C++ compiler gets: device.h, the kernel file with its includes, a way to call each kernel.

    Args:
        name: of the kernel file.
        watched: with race.h.
    """
    folder = Path(__file__).parent
    headers = [(folder / header).read_text() for header in (["race.h"] if watched else []) + ["device.h"]]
    exports = "\n".join(f"EMULATED_KERNEL({kernel})" for kernel in modules.kernel_names(name))
    return "\n".join([*headers, modules.source(name), exports, ""])


@functools.cache
def module(name: str) -> EmulatedModule:
    """A compiled kernel file."""
    return EmulatedModule(name, _build(name))


@functools.cache
def function(name: str, kernel: str) -> EmulatedKernel:
    """A kernel of kernels/<name>.cu."""
    return module(name).get_function(kernel)


def _recipe(name: str) -> tuple[list[str], list[str], str, Path]:
    """How a kernel file is compiled: commands that compile and link, its text, and where the cache has it."""
    found, reason = available()
    if not found:
        raise DeviceError(reason)
    sanitized, watched = (os.environ.get(f"DARKBN_{what}") == "1" for what in ("SANITIZE", "RACECHECK"))
    if sanitized and watched:
        raise DeviceError("DARKBN_SANITIZE and DARKBN_RACECHECK exclude each other")
    checks = _SANITIZERS if sanitized else _WATCHED if watched else ()
    command = [reason, *_FLAGS, *_ALLOWED, *checks]
    text = host_source(name, watched)
    key = hashlib.sha256("\0".join([*command, text]).encode()).hexdigest()[:24]
    # Not linked with the compiler's library of a check whose functions are in race.h.
    link = [reason, "-shared", *(() if watched else checks)]
    return command, link, text, cache_folder() / f"{name}-{key}.so"


def is_cached(name: str) -> bool:
    """Whether a kernel file is compiled already."""
    return _recipe(name)[-1].exists()


def _build(name: str) -> Path:
    """Compile a kernel file unless the cache has it. The file appears whole or not at all."""
    command, link, text, target = _recipe(name)
    if target.exists():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            part, whole = Path(folder) / "kernels.o", Path(folder) / "kernels.so"
            _compile(name, [*command, "-c", "-x", "c++", "-", "-o", str(part)], text)
            _compile(name, [*link, str(part), "-o", str(whole)])
            whole.replace(target)
    except OSError as error:
        raise DeviceError(f"no compiled kernels can be kept in {target.parent} (DARKBN_CACHE): {error}") from error
    return target


def _compile(name: str, command: list[str], text: str | None = None) -> None:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DeviceError(f"{command[0]} cannot compile kernels/{name}.cu:\n{done.stderr[:4000]}")


class EmulatedModule:
    """The kernels of one file; like CuPy's RawModule."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        # With the interpreter's lock: a module emulates one block at a time.
        self.path = path
        self._library = ctypes.PyDLL(str(path))

    def get_function(self, kernel: str) -> EmulatedKernel:
        """A kernel by name. Raises DeviceError when the file has none of that name."""
        if not hasattr(self._library, f"emulated_run_{kernel}"):
            raise DeviceError(f"kernels/{self.name}.cu has no kernel {kernel!r}")
        run = getattr(self._library, f"emulated_run_{kernel}")
        kinds = getattr(self._library, f"emulated_kinds_{kernel}")
        run.restype = kinds.restype = ctypes.c_char_p
        return EmulatedKernel(f"{self.name}.{kernel}", self.path, run, kinds().decode())


_KINDS = {"f4": "f", "f8": "d", "i8": "q", "u8": "q", "i4": "i"}


@dataclass(frozen=True)
class EmulatedKernel:
    """A kernel: called with grid, block (one to three sizes each) and arguments, NumPy arrays and NumPy scalars."""

    label: str
    path: Path
    run: Any
    kinds: str

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...]) -> None:
        given = "".join(_kind(arg) for arg in args)
        fits = len(given) == len(self.kinds) and all(
            g == k or (g == "q" and k == "P" and int(a) == 0) for g, k, a in zip(given, self.kinds, args, strict=True)
        )
        if not fits:
            raise DeviceError(f"kernel {self.label} takes parameters {self.kinds}, found {given}")
        values = [np.uintp(arg.ctypes.data) if isinstance(arg, np.ndarray) else arg for arg in args]
        cells = [np.array(value) for value in values]
        pointers = (ctypes.c_void_p * len(cells))(*[cell.ctypes.data for cell in cells])
        order, poison = ORDERS.index(_order.get()), 0xFF
        problem = self.run(_sizes(grid), _sizes(block), pointers, order, poison)
        if problem:
            raise DeviceError(f"kernel {self.label}: {_readable(problem.decode(), self.path, args)}")


def _readable(problem: str, path: Path, args: tuple[Any, ...]) -> str:
    """Addresses of memory as parameters, addresses of machine code as lines."""
    problem = re.sub(r"address (0x[0-9a-f]+)", lambda match: _parameter(int(match[1], 16), args), problem)
    return re.sub(r"\+(0x[0-9a-f]+)", lambda match: _line(path, match[1]), problem)


def _parameter(address: int, args: tuple[Any, ...]) -> str:
    for number, arg in enumerate(args):
        if isinstance(arg, np.ndarray) and 0 <= address - arg.ctypes.data < arg.nbytes:
            return f"parameter {number}, byte {address - arg.ctypes.data}"
    return f"address {address:#x}"


def _line(path: Path, place: str) -> str:
    tool = shutil.which("addr2line")
    if tool is None:
        return f"+{place}"
    done = subprocess.run([tool, "-e", str(path), place], capture_output=True, text=True, check=False)
    found = done.stdout.split(" ")[0].strip()
    return f"+{place}" if not found or found.startswith("?") else Path(found).name


def _kind(arg: Any) -> str:
    if isinstance(arg, np.ndarray):
        return "P"
    return _KINDS.get(arg.dtype.str[1:], "?")


def _sizes(sizes: tuple[int, ...]) -> Any:
    return (ctypes.c_uint * 3)(*sizes, *[1] * (3 - len(sizes)))
