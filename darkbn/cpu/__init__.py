"""The CPU kernels, compiled once per instruction-set level; the best level of this machine is used.

`DARKBN_SIMD` names another level ("baseline", "x86_v3", ...).
"""

from __future__ import annotations

import functools
import importlib
import os
from pathlib import Path
from types import ModuleType

from darkbn.errors import DeviceError

#: All levels, best first.
LEVELS = ("x86_v4", "x86_v3", "baseline")


def built_levels() -> tuple[str, ...]:
    """Levels that this installation was built with, best first."""
    folder = Path(__file__).parent
    return tuple(level for level in LEVELS if any((folder / f"_{level}").glob("*.so")))


@functools.cache
def level() -> str:
    """The level in use."""
    built = built_levels()
    if not built:
        raise DeviceError(
            "the CPU kernels are not built: install the package (pip install .), or in a source tree"
            " run `python setup.py build_ext --inplace`"
        )
    runs = [name for name in built if _supported(name)]
    wanted = os.environ.get("DARKBN_SIMD")
    if not wanted:
        return runs[0]
    if wanted not in runs:
        state = "not supported by this machine" if wanted in built else "not built"
        raise DeviceError(f"DARKBN_SIMD={wanted}: {state}; available: {', '.join(runs)}")
    return wanted


def _supported(name: str) -> bool:
    from darkbn.cpu import simd

    return bool(simd.supports(name))


@functools.cache
def load(family: str) -> ModuleType:
    """The kernel module of a family at the level in use."""
    return importlib.import_module(f"darkbn.cpu._{level()}.{family}")


#: What `set_num_threads` was given.
_chosen: list[int] = []


def set_num_threads(threads: int) -> None:
    """Set how many threads networks use that are loaded from now on without `threads=`, and functions called without.

    It comes before the environment variable OMP_NUM_THREADS. Networks that exist keep theirs: set `net.threads`.
    Results do not depend on it, not in a single bit.

    Raises:
        ValueError: less than 1.
    """
    _chosen[:] = [thread_count(threads)]


def get_num_threads() -> int:
    """How many threads are used where none are asked for: as set, else OMP_NUM_THREADS, else all processors."""
    return thread_count(None)


def thread_count(threads: int | None) -> int:
    """The number of threads to use when `threads` is asked for; None = see `get_num_threads`."""
    if threads is None and _chosen:
        return _chosen[0]
    if threads is None:
        try:
            from darkbn.cpu import simd
        except ImportError as error:
            raise DeviceError("the CPU kernels are not built: install the package (pip install .)") from error
        return int(simd.max_threads())
    if threads < 1:
        raise ValueError(f"threads must be at least 1, found {threads}")
    return threads
