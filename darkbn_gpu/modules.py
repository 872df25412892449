"""Kernel files: their text with all includes in place, and the modules that they are compiled to.

A kernel file is `kernels/<name>.cu`. It may include `kernels/*.cuh` and the formulas in `darkbn/include/darkbn/*.h`,
which Cython reads, too; system headers are left out, since NVRTC has none (`prelude.cuh` has what is needed).
A module has `get_function(name)`, which gives a callable `(grid, block, args)`: on a device CuPy's RawModule of what
NVRTC compiled (`darkbn_gpu.nvrtc`), in emulation what the host's C++ compiler makes (`darkbn_gpu.emulation`).
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import darkbn

KERNELS = Path(__file__).parent / "kernels"
HEADERS = Path(darkbn.__file__).parent / "include"

_INCLUDE = re.compile(r'^\s*#include\s+(?:"(?P<own>[^"]+)"|<[^>]+>)')
_KERNEL = re.compile(r"^KERNEL\s+(\w+)\(", re.MULTILINE)


def names() -> tuple[str, ...]:
    """Names of all kernel files."""
    return tuple(sorted(path.stem for path in KERNELS.glob("*.cu")))


def kernel_names(name: str) -> tuple[str, ...]:
    """Names of the kernels in a file."""
    return tuple(_KERNEL.findall((KERNELS / f"{name}.cu").read_text()))


@functools.cache
def source(name: str) -> str:
    """The text of kernels/<name>.cu, every file that it includes in the place where that is first asked for."""
    return "\n".join(_inlined(KERNELS / f"{name}.cu", set())) + "\n"


def _inlined(path: Path, seen: set[Path]) -> list[str]:
    seen.add(path)
    label = path.name
    lines = [f'#line 1 "{label}"']
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        match = _INCLUDE.match(line)
        if match is None:
            lines.append(line)
        elif match["own"]:
            included = _find(match["own"], path)
            if included not in seen:
                lines += [*_inlined(included, seen), f'#line {number + 1} "{label}"']
            else:
                lines.append("")
        else:
            lines.append("")
    return lines


def _find(name: str, included_by: Path) -> Path:
    for folder in (included_by.parent, KERNELS, HEADERS):
        if (folder / name).is_file():
            return (folder / name).resolve()
    raise FileNotFoundError(f"{included_by.name} includes {name!r}, which is neither in {KERNELS} nor in {HEADERS}")


def device_source(name: str) -> str:
    """What NVRTC compiles."""
    return (KERNELS / "prelude.cuh").read_text() + source(name)


def device_target() -> str:
    """What files are compiled for on the current device."""
    import cupy

    from darkbn_gpu import nvrtc

    return nvrtc.target(int(cupy.cuda.Device().compute_capability))


def is_cached(name: str) -> bool:
    """Whether a kernel file is compiled for the current device already."""
    from darkbn_gpu import nvrtc

    return nvrtc.is_cached(name, device_target())


@functools.cache
def device_module(name: str) -> Any:
    """CuPy's module of a kernel file, compiled for the current device with the options of `darkbn_gpu.nvrtc`: those
    that CuPy would add flush denormal numbers to 0."""
    import cupy

    from darkbn_gpu import nvrtc

    return cupy.RawModule(path=str(nvrtc.compiled(name, device_target()).path))


@functools.cache
def device_function(name: str, kernel: str) -> Any:
    """A kernel on the device."""
    return device_module(name).get_function(kernel)
