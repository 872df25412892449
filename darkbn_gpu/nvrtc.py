"""Compiling kernel files with NVRTC for a given architecture, without driver and without device; what they need.

The library comes from the package nvidia-cuda-nvrtc (CUDA 13) or nvidia-cuda-nvrtc-cu12, which the extras gpu-test,
cuda13 and cuda12 bring, or from an installed CUDA toolkit. What was compiled is kept in the user's cache folder, by a
hash of text, options, architecture and version of NVRTC; a device runs the same files (`darkbn_gpu.modules`).

    python -m darkbn_gpu.nvrtc [--arch 90] [--fresh] [FILE...]

compiles kernel files, in several processes, and shows registers, shared memory and spills of every kernel.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import functools
import hashlib
import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darkbn.errors import DeviceError
from darkbn.files import atomic_write, cache_folder
from darkbn_gpu import modules

#: Architectures that kernels must compile for: Turing, Ampere, Ada, Hopper, Blackwell.
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)

#: Options of NVRTC. Functions of the shared C headers have no `__device__`.
OPTIONS = ("--std=c++17", "--device-as-default-execution-space", "--ptxas-options=-v")

# In the log: "Compiling entry function 'name' for 'sm_80'", "n bytes stack frame, n bytes spill stores, ..." (also for
# functions that are not inlined), "Used n registers, ...".
_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?")


@dataclass(frozen=True)
class Resources:
    """What one kernel needs.

    Attributes:
        kernel: its name.
        registers: per thread.
        stack: bytes of local memory per thread.
        spilled: bytes of registers that are stored to local memory, per thread.
        shared: bytes of shared memory per block.
    """

    kernel: str
    registers: int
    stack: int
    spilled: int
    shared: int


@dataclass(frozen=True)
class Compiled:
    """A compiled kernel file.

    Attributes:
        name: of the kernel file.
        target: what it was compiled for: "sm_90", or "compute_90" for text that the driver compiles.
        path: of the machine code (cubin), or of that text (PTX).
        log: what the compiler said, from which `resources` reads.
    """

    name: str
    target: str
    path: Path
    log: str


def library_path() -> str | None:
    """Where NVRTC is: in the Python packages, else in a CUDA toolkit; None when there is none."""
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations or () if spec else ():
        for pattern in ("cu13/lib/libnvrtc.so.*", "cuda_nvrtc/lib/libnvrtc.so.*"):
            found = sorted(p for p in Path(folder).glob(pattern) if "alt" not in p.name)
            if found:
                return str(found[0])
    for toolkit in (os.environ.get("CUDA_PATH"), os.environ.get("CUDA_HOME"), "/usr/local/cuda"):
        if toolkit and (Path(toolkit) / "lib64/libnvrtc.so").is_file():
            return str(Path(toolkit) / "lib64/libnvrtc.so")
    return ctypes.util.find_library("nvrtc")


@functools.cache
def _library() -> Any:
    path = library_path()
    if path is None:
        raise DeviceError("NVRTC is not installed: pip install 'darkbn[gpu-test]' (on a GPU: cuda13 or cuda12)")
    return ctypes.CDLL(path)


def _check(code: int, what: str) -> None:
    if code:
        text = _library().nvrtcGetErrorString
        text.restype = ctypes.c_char_p
        raise DeviceError(f"NVRTC cannot {what}: {text(code).decode()}")


@functools.cache
def version() -> tuple[int, int]:
    """Major and minor version of NVRTC."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(_library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)), "tell its version")
    return major.value, minor.value


@functools.cache
def supported() -> tuple[int, ...]:
    """Architectures that this NVRTC makes machine code for."""
    count = ctypes.c_int()
    _check(_library().nvrtcGetNumSupportedArchs(ctypes.byref(count)), "tell its architectures")
    found = (ctypes.c_int * count.value)()
    _check(_library().nvrtcGetSupportedArchs(found), "tell its architectures")
    return tuple(found)


def target(architecture: int) -> str:
    """What a device of that architecture runs: its machine code, else text of the newest one that NVRTC knows and the
    device's driver compiles. Raises DeviceError for a device that is older than all these."""
    known = supported()
    if architecture in known:
        return f"sm_{architecture}"
    older = [a for a in known if a < architecture]
    if not older:
        major, minor = version()
        raise DeviceError(f"NVRTC {major}.{minor} compiles for sm_{min(known)} and newer, found sm_{architecture}")
    return f"compute_{max(older)}"


def _read(function: str, program: ctypes.c_void_p) -> bytes:
    """What nvrtcGet<function> gives."""
    size = ctypes.c_size_t()
    _check(getattr(_library(), f"nvrtcGet{function}Size")(program, ctypes.byref(size)), "tell a size")
    buffer = ctypes.create_string_buffer(size.value)
    _check(getattr(_library(), f"nvrtcGet{function}")(program, buffer), "give its result")
    return buffer.raw


def compile_file(name: str, target: str) -> tuple[bytes, str]:
    """kernels/<name>.cu as machine code ("sm_90") or PTX ("compute_90"), and the compiler's log. Warnings are errors.

    Raises DeviceError with the log when it does not compile.
    """
    program = ctypes.c_void_p()
    text = modules.device_source(name).encode()
    created = _library().nvrtcCreateProgram(ctypes.byref(program), text, f"{name}.cu".encode(), 0, None, None)
    _check(created, "read the source")
    try:
        options = [*OPTIONS, f"--gpu-architecture={target}"]
        encoded = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
        failed = _library().nvrtcCompileProgram(program, len(options), encoded)
        log = _read("ProgramLog", program).rstrip(b"\0").decode()
        if failed or "warning" in log:
            raise DeviceError(f"kernels/{name}.cu does not compile for {target}:\n{log[:6000]}")
        return _read("CUBIN" if target.startswith("sm_") else "PTX", program), log
    finally:
        _library().nvrtcDestroyProgram(ctypes.byref(program))


def _places(name: str, target: str) -> tuple[Path, Path]:
    """Where machine code and log of a kernel file are kept."""
    what = "\0".join([modules.device_source(name), *OPTIONS, target, str(version())])
    stem = f"{name}-{target}-{hashlib.sha256(what.encode()).hexdigest()[:24]}"
    suffix = ".cubin" if target.startswith("sm_") else ".ptx"
    return cache_folder() / (stem + suffix), cache_folder() / (stem + ".log")


def is_cached(name: str, target: str) -> bool:
    """Whether the cache folder has kernels/<name>.cu for that target."""
    return _places(name, target)[0].is_file()


def compiled(name: str, target: str, fresh: bool = False) -> Compiled:
    """kernels/<name>.cu for that target ("sm_90"), from the cache folder when it is there.

    Args:
        name: of the kernel file.
        target: as `target()` gives it.
        fresh: compile even so.

    Raises:
        DeviceError: it does not compile, with the log; or the cache folder cannot be written.
    """
    code_place, log_place = _places(name, target)
    if code_place.is_file() and not fresh:
        with contextlib.suppress(OSError):
            return Compiled(name, target, code_place, log_place.read_text())
    code, log = compile_file(name, target)
    try:
        code_place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(log_place) as file:
            file.write(log.encode())
        with atomic_write(code_place) as file:
            file.write(code)
    except OSError as error:
        raise DeviceError(f"no compiled kernels can be kept in {cache_folder()} (DARKBN_CACHE): {error}") from error
    return Compiled(name, target, code_place, log)


def resources(log: str) -> list[Resources]:
    """What the kernels of a log need, in its order."""
    found = []
    stack = spilled = 0
    kernel = ""
    for line in log.splitlines():
        if match := _ENTRY.search(line):
            kernel, stack, spilled = match[1], 0, 0
        elif match := _STACK.search(line):
            stack, spilled = max(stack, int(match[1])), spilled + int(match[2]) + int(match[3])
        elif (match := _USED.search(line)) and kernel:
            found.append(Resources(kernel, int(match[1]), stack, spilled, int(match[2] or 0)))
            kernel = ""
    return found


if __name__ == "__main__":
    from darkbn_gpu.resources import main

    main()
