"""The table of `python -m darkbn_gpu.nvrtc`: what every kernel needs, and how full it leaves each architecture."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed

from darkbn.errors import DeviceError
from darkbn_gpu import modules, nvrtc
from darkbn_gpu.launch import THREADS
from darkbn_gpu.nvrtc import Compiled, Resources

#: Of a multiprocessor, by architecture: threads, and KiB of shared memory (CUDA's table of compute capabilities).
LIMITS = {
    75: (1024, 64),
    80: (2048, 164),
    86: (1536, 100),
    89: (1536, 100),
    90: (2048, 228),
    100: (2048, 228),
    120: (1536, 100),
}

#: Registers of a multiprocessor; they are handed out to warps in portions of 256.
_REGISTERS = 65536

#: Shared memory that the system takes of each block, from sm_80 on.
_RESERVED = 1024


def occupancy(needs: Resources, architecture: int) -> float:
    """The share of a multiprocessor's threads that can be there at once, with blocks of 256; 0 to 1."""
    threads, shared = LIMITS[architecture]
    per_warp = -(-needs.registers * 32 // 256) * 256
    blocks = min(threads // THREADS, _REGISTERS // per_warp // (THREADS // 32))
    of_block = needs.shared + (_RESERVED if architecture >= 80 else 0)
    return min(blocks, shared * 1024 // of_block if of_block else blocks) * THREADS / threads


def compile_all(names: Iterable[str], architectures: Iterable[int], fresh: bool = False) -> Iterator[Compiled | str]:
    """Compile kernel files in as many processes as there are processors; what does not compile comes as its error."""
    with ProcessPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        wanted = [
            pool.submit(nvrtc.compiled, name, f"sm_{architecture}", fresh)
            for name in names
            for architecture in architectures
        ]
        for future in as_completed(wanted):
            try:
                yield future.result()
            except DeviceError as error:
                yield str(error)


def table(found: Iterable[Compiled], architectures: tuple[int, ...]) -> str:
    """Registers of each kernel on each architecture, its largest shared memory, stack and spills, and the least
    occupancy; 80 columns for all seven architectures."""
    needs: dict[tuple[str, str], dict[int, Resources]] = {}
    for one in found:
        for r in nvrtc.resources(one.log):
            needs.setdefault((one.name, r.kernel), {})[int(one.target.removeprefix("sm_"))] = r
    lines = [f"{'kernel':<35}" + "".join(f"{a:>4}" for a in architectures) + f"{'smem':>6}{'spill':>6}{'full':>5}"]
    for (_, kernel), row in sorted(needs.items()):
        registers = "".join(f"{row[a].registers:>4}" if a in row else "   -" for a in architectures)
        shared, spilled = (max(getattr(r, field) for r in row.values()) for field in ("shared", "spilled"))
        full = min(occupancy(r, a) for a, r in row.items())
        lines.append(f"{kernel[:35]:<35}{registers}{shared:>6}{spilled:>6}{100 * full:>4.0f}%")
    return "\n".join(lines)


def main() -> None:
    """Compile, show, and exit with 1 when something does not compile or spills registers."""
    parser = argparse.ArgumentParser(
        "python -m darkbn_gpu.nvrtc", description="Registers and memory of the GPU's kernels."
    )
    parser.add_argument("file", nargs="*", help="kernel files; default: all")
    parser.add_argument("--arch", type=int, action="append", choices=nvrtc.ARCHITECTURES, metavar="N", help="e.g. 90")
    parser.add_argument("--fresh", action="store_true", help="compile what the cache has, too")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.file) - set(modules.names()))
    if unknown:
        parser.error(f"no kernel file {', '.join(unknown)}; there are {', '.join(modules.names())}")
    architectures = tuple(arguments.arch or nvrtc.ARCHITECTURES)
    try:
        nvrtc.version()
    except DeviceError as error:
        parser.error(str(error))
    results = list(compile_all(arguments.file or modules.names(), architectures, arguments.fresh))
    found = [r for r in results if isinstance(r, Compiled)]
    errors = sorted({r for r in results if isinstance(r, str)})
    spilled = sum(r.spilled > 0 for one in found for r in nvrtc.resources(one.log))
    major, minor = nvrtc.version()
    sys.stdout.write(
        f"NVRTC {major}.{minor}: registers per thread, by architecture (sm_N);\n"
        "smem: bytes of shared memory per block; spill: bytes per thread;\n"
        "full: share of a multiprocessor's threads that can be there, the least of all.\n\n"
        f"{table(found, architectures)}\n\n"
        f"{len(found)} of {len(results)} compiled, {spilled} kernels spill registers\n"
    )
    if errors or spilled:
        sys.exit("\n".join(["", *errors]).strip() or 1)
