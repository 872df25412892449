"""Compiling kernel files with NVRTC for a given architecture, without driver and without device; what they need.

The library comes from the package nvidia-cuda-nvrtc (CUDA 13) or nvidia-cuda-nvrtc-cu12 (extra gpu-test).
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darkbn.errors import DeviceError
from darkbn_gpu import modules

#: Architectures that kernels must compile for: Turing, Ampere, Ada, Hopper, Blackwell.
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)

_VERBOSE = "--ptxas-options=-v"
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


def library_path() -> Path | None:
    """Where NVRTC of the Python packages is; None when none is installed."""
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations or () if spec else ():
        for pattern in ("cu13/lib/libnvrtc.so.*", "cuda_nvrtc/lib/libnvrtc.so.*"):
            found = sorted(p for p in Path(folder).glob(pattern) if "alt" not in p.name)
            if found:
                return found[0]
    return None


@functools.cache
def _library() -> Any:
    path = library_path()
    if path is None:
        raise DeviceError("NVRTC is not installed: pip install 'darkbn[gpu-test]'")
    return ctypes.CDLL(str(path))


def _check(code: int, what: str) -> None:
    if code:
        text = _library().nvrtcGetErrorString
        text.restype = ctypes.c_char_p
        raise DeviceError(f"NVRTC cannot {what}: {text(code).decode()}")


def _read(function: str, program: ctypes.c_void_p) -> bytes:
    """What nvrtcGet<function> gives."""
    size = ctypes.c_size_t()
    _check(getattr(_library(), f"nvrtcGet{function}Size")(program, ctypes.byref(size)), "tell a size")
    buffer = ctypes.create_string_buffer(size.value)
    _check(getattr(_library(), f"nvrtcGet{function}")(program, buffer), "give its result")
    return buffer.raw


def compile_file(name: str, architecture: int) -> tuple[bytes, str]:
    """The machine code (cubin) of kernels/<name>.cu, and the compiler's log. Warnings are errors.

    Raises DeviceError with the log when it does not compile.
    """
    program = ctypes.c_void_p()
    text = modules.device_source(name).encode()
    created = _library().nvrtcCreateProgram(ctypes.byref(program), text, f"{name}.cu".encode(), 0, None, None)
    _check(created, "read the source")
    try:
        options = [*modules.OPTIONS, _VERBOSE, f"--gpu-architecture=sm_{architecture}"]
        encoded = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
        failed = _library().nvrtcCompileProgram(program, len(options), encoded)
        log = _read("ProgramLog", program).rstrip(b"\0").decode()
        if failed or "warning" in log:
            raise DeviceError(f"kernels/{name}.cu does not compile for sm_{architecture}:\n{log[:6000]}")
        return _read("CUBIN", program), log
    finally:
        _library().nvrtcDestroyProgram(ctypes.byref(program))


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
