"""Getting a network ready before it is needed: kernels compiled and loaded, plan made, CUDA graph captured."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from darkbn.layers.base import Role

if TYPE_CHECKING:
    from darkbn.network import Network


@dataclass(frozen=True)
class KernelFile:
    """A file of GPU kernels that the network uses.

    Attributes:
        name: of the file.
        kernels: names of those that were started.
        compiled: whether it had to be compiled; otherwise it came from the cache.
        seconds: that this took.
    """

    name: str
    kernels: tuple[str, ...]
    compiled: bool
    seconds: float


@dataclass(frozen=True)
class Warmup:
    """What `Network.warmup` did; `str()` of it is a table.

    Attributes:
        device: of the network.
        files: kernel files in the order of their first use; none on the CPU, whose kernels come with darkbn.
        graph: "captured", or why predictions do not replay a CUDA graph.
        seconds: that all of it took.
    """

    device: str
    files: tuple[KernelFile, ...]
    graph: str
    seconds: float

    def __str__(self) -> str:
        compiled = sum(file.compiled for file in self.files)
        head = (
            f"{self.device}: {self.seconds:.2f} s, {compiled} kernel files compiled,"
            f" {len(self.files) - compiled} from the cache; CUDA graph: {self.graph}"
        )
        rows = [_row(file) for file in self.files]
        return "\n".join([head, f"{'file':<16} {'from':<9} {'seconds':>8}  kernels", *rows] if rows else [head])


def _row(file: KernelFile) -> str:
    origin = "compiled" if file.compiled else "cache"
    return f"{file.name:<16} {origin:<9} {file.seconds:8.3f}  {', '.join(file.kernels)}"


def warm_up(net: Network, x: Any = None, truth: Any = None) -> Warmup:
    """See `Network.warmup`."""
    start = time.perf_counter()
    with net.backend.recording() as used:
        if x is not None and truth is not None:
            _train(net, x, truth)
        plan = net.current_plan()
        with _states_kept(net):
            if x is not None:
                net.backend.assign(plan.input, net.backend.array(x).reshape(plan.input.shape))
            for _ in range(2):  # the first compiles, the second captures
                plan.run()
    found = used.files.values() if used is not None else ()
    files = tuple(KernelFile(file.name, tuple(sorted(file.kernels)), file.compiled, file.seconds) for file in found)
    return Warmup(net.backend.name, files, plan.graph, time.perf_counter() - start)


def _train(net: Network, x: Any, truth: Any) -> None:
    """A training pass and a step of the optimizer that leave no trace."""
    from darkbn.training_profile import restored

    if not net.training:
        net._allocate(True)
    with restored(net):
        net.train_step(x, truth)
        net.update()


@contextlib.contextmanager
def _states_kept(net: Network) -> Iterator[None]:
    """What layers carry from pass to pass is afterwards what it was."""
    kept = [
        (getattr(part, buffer.name), getattr(part, buffer.name).copy())
        for layer in net.layers
        for _, part in layer.walk()
        for buffer in part.buffers()
        if buffer.role is Role.STATE
    ]
    try:
        yield
    finally:
        for array, copy in kept:
            array[...] = copy
