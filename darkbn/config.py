"""What this installation is: version, instruction-set level, OpenMP, threads, GPU."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass

from darkbn.version import __version__


@dataclass(frozen=True)
class Config:
    """Facts about the installation; `str()` of it is a readable list.

    Attributes:
        version: of darkbn.
        python, numpy, machine: versions and processor.
        level: instruction-set level in use; levels: those built, best first.
        openmp: OpenMP standard of the build (0: serial build).
        threads, processors: default number of threads; processors seen.
        gpu: the GPU, or why there is none.
    """

    version: str
    python: str
    numpy: str
    machine: str
    level: str
    levels: tuple[str, ...]
    openmp: int
    threads: int
    processors: int
    gpu: str

    def items(self) -> list[tuple[str, str]]:
        """Name and value of each fact, in order."""
        return [
            ("darkbn", self.version),
            ("Python", self.python),
            ("NumPy", self.numpy),
            ("machine", self.machine),
            ("SIMD level", f"{self.level} (built: {', '.join(self.levels)})"),
            ("OpenMP", str(self.openmp) if self.openmp else "none: serial kernels"),
            ("threads", f"{self.threads} of {self.processors} processors"),
            ("GPU", self.gpu),
        ]

    def __str__(self) -> str:
        width = max(len(name) for name, _ in self.items())
        return "\n".join(f"{name:<{width}}  {value}" for name, value in self.items())


def show_config() -> Config:
    """The configuration of this installation. Raises DeviceError when the kernels are not built."""
    import numpy

    from darkbn import cpu

    level = cpu.level()
    from darkbn.cpu import simd

    return Config(
        version=__version__,
        python=sys.version.split()[0],
        numpy=numpy.__version__,
        machine=f"{platform.machine()}, {platform.system()}",
        level=level,
        levels=cpu.built_levels(),
        openmp=simd.openmp_version(),
        threads=simd.max_threads(),
        processors=simd.processors(),
        gpu="none: GPU kernels are not part of this version",
    )
