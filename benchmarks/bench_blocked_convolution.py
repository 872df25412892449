"""Times every algorithm of `blocked_convolution` on layers of real networks, and compares its results.

    python benchmarks/bench_blocked_convolution.py [--threads 2] [--repeat 9] [--cfg yolov3.cfg] [--only 3x3]

Each line is a layer and an algorithm: best and median ms, GFLOP/s of the best (a convolution's own multiplications and
additions, whatever the algorithm spares), its share of the fastest product of this run (register tiles at full speed),
and the largest difference to the plain kernel over the largest |output|. All algorithms of a layer take turns. Packed
filters are taken from as many copies as the last cache cannot hold, as in a network, where they come from memory.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import darkbn
from darkbn import cpu
from darkbn.activations import CODES
from darkbn.algorithms import Algorithm
from darkbn.backend import get_backend

#: Bytes of packed filters that rotate: more than a last-level cache.
COLD = 64 << 20


@dataclass(frozen=True)
class Shape:
    """A square convolution of one image."""

    channels: int
    edge: int
    filters: int
    size: int
    stride: int = 1
    groups: int = 1

    @property
    def pad(self) -> int:
        return self.size // 2

    @property
    def out(self) -> int:
        return (self.edge + 2 * self.pad - self.size) // self.stride + 1

    @property
    def flops(self) -> float:
        return 2.0 * self.filters * (self.channels // self.groups) * self.size**2 * self.out**2

    def algorithms(self) -> list[Algorithm]:
        """Those that can compute it."""
        if self.channels < 8 and self.groups == 1:
            return [Algorithm.FIRST, Algorithm.GEMM]
        found = [Algorithm.GEMM]
        if self.size == 3 and self.groups == 1:
            found += [algorithm for algorithm in Algorithm if algorithm.stride == self.stride]
        if self.groups == self.channels == self.filters:
            found.append(Algorithm.DEPTHWISE)
        return found

    def __str__(self) -> str:
        text = f"{self.size}x{self.size}/{self.stride} {self.channels}x{self.edge}x{self.edge} -> {self.filters}"
        return text + (f" in {self.groups}" if self.groups > 1 else "")


#: Layers of yolov3-tiny, yolov3, yolov4-tiny, darknet19, resnet50 and MobileNets.
SHAPES = [
    *(Shape(3, 416, 16, 3), Shape(3, 416, 32, 3), Shape(3, 416, 32, 3, 2), Shape(3, 224, 64, 7, 2)),
    *(Shape(64, 208, 32, 1), Shape(128, 104, 64, 1), Shape(256, 52, 128, 1), Shape(512, 26, 256, 1)),
    *(Shape(1024, 13, 512, 1), Shape(1024, 13, 255, 1), Shape(64, 56, 256, 1), Shape(512, 7, 2048, 1)),
    *(Shape(2048, 7, 512, 1), Shape(32, 416, 64, 3, 2), Shape(64, 208, 128, 3, 2), Shape(128, 104, 256, 3, 2)),
    *(Shape(256, 52, 512, 3, 2), Shape(512, 26, 1024, 3, 2), Shape(1024, 14, 2048, 1, 2)),
    *(Shape(16, 208, 32, 3), Shape(32, 208, 64, 3), Shape(32, 104, 64, 3), Shape(64, 104, 128, 3)),
    *(Shape(64, 56, 64, 3), Shape(64, 52, 128, 3), Shape(128, 52, 256, 3), Shape(128, 28, 128, 3)),
    *(Shape(128, 26, 256, 3), Shape(256, 26, 512, 3), Shape(256, 14, 256, 3), Shape(256, 13, 512, 3)),
    *(Shape(512, 13, 1024, 3), Shape(512, 7, 512, 3), Shape(512, 7, 1024, 3)),
    *(Shape(64, 112, 64, 3, 1, 64), Shape(192, 28, 192, 3, 2, 192), Shape(128, 56, 128, 3, 1, 32)),
]


def shapes_of(path: Path) -> list[Shape]:
    """The square convolutions of a network, each shape once."""
    found: dict[Shape, None] = {}
    for layer in darkbn.load(path, batch=1).layers:
        if layer.type == "convolutional" and layer.h == layer.w:
            found[Shape(layer.c, layer.h, layer.n, layer.size, layer.stride, layer.groups)] = None
    return list(found)


def blocked(x: np.ndarray) -> np.ndarray:
    """A plain map in blocks of eight channels."""
    b, c, h, w = x.shape
    out = np.zeros((b, -(-c // 8), h, w, 8), np.float32)
    get_backend("cpu").blocked.from_plain(x, out, 0, 1)
    return out


def call(shape: Shape, algorithm: Algorithm, threads: int) -> tuple[Callable[[int], None], float]:
    """The function that computes the layer with the copy of its filters that its argument names, and its error."""
    s, rng, cpu_backend = shape, np.random.default_rng(0), get_backend("cpu")
    kernels, first = cpu_backend.raw.blocked_convolution, algorithm is Algorithm.FIRST
    x = rng.standard_normal((1, s.channels, s.edge, s.edge), dtype=np.float32)
    weights = rng.standard_normal((s.filters, s.channels // s.groups, s.size, s.size), dtype=np.float32)
    biases = rng.standard_normal(s.filters, dtype=np.float32)
    floats = kernels.packed_size(s.filters, s.channels // s.groups, s.size, s.groups, int(algorithm))
    copies = np.empty((min(COLD // (4 * floats) + 1, 16), floats), np.float32)
    kernels.pack(weights, biases, copies[0], s.groups, int(algorithm), threads)
    copies[1:] = copies[0]
    out = np.zeros((1, -(-s.filters // 8), s.out, s.out, 8), np.float32)
    steps, linear = (s.stride, s.stride, 1, s.pad), CODES["linear"]
    sizes = (1, s.channels, s.edge, s.edge, s.filters, s.size, s.out, s.out)
    if first:
        room = np.empty(kernels.forward_plain_workspace(*sizes, *steps, threads), np.float32)
        rest: tuple[int, ...] = (0, 0, s.filters, s.size, *steps, linear, linear, threads)
    else:
        room = np.empty(kernels.forward_workspace(*sizes, s.groups, *steps, int(algorithm), threads), np.float32)
        counts = (s.channels, s.filters, s.size, s.groups)
        rest = (0, 0, 0, *counts, *steps, linear, linear, int(algorithm), threads)
    forward, source = (kernels.forward_plain, x) if first else (kernels.forward, blocked(x))

    def run(turn: int) -> None:
        forward(source, copies[turn % len(copies)], None, out, room, *rest)

    run(0)
    plain = np.empty((1, s.filters, s.out, s.out), np.float32)
    convolution = cpu_backend.raw.convolution
    direct = (s.groups, *steps, int(Algorithm.GEMM), threads)
    needed = convolution.forward_workspace(*sizes, *direct)
    convolution.forward(x, weights, biases, plain, np.empty(needed, np.float32), *direct)
    own = np.empty_like(plain)
    cpu_backend.blocked.to_plain(out, own, 0, 1)
    return run, float(np.abs(own - plain).max() / np.abs(plain).max())


def measure(shape: Shape, threads: int, repeat: int) -> Iterator[tuple[Algorithm, list[float], float]]:
    """Seconds of each algorithm's runs, and its error; algorithms take turns."""
    calls = {algorithm: call(shape, algorithm, threads) for algorithm in shape.algorithms()}
    times: dict[Algorithm, list[float]] = {algorithm: [] for algorithm in calls}
    for turn in range(repeat + 1):
        for algorithm, (run, _) in calls.items():
            start = time.perf_counter()
            run(turn)
            if turn:  # the first round warms up
                times[algorithm].append(time.perf_counter() - start)
    for algorithm, (_, error) in calls.items():
        yield algorithm, times[algorithm], error


def fastest_product(threads: int) -> float:
    """GFLOP/s of a 1x1 convolution whose operands stay in the caches."""
    shape = Shape(256, 24, 256, 1)
    run, _ = call(shape, Algorithm.GEMM, threads)
    seconds = []
    for _ in range(50):
        start = time.perf_counter()
        run(0)
        seconds.append(time.perf_counter() - start)
    return shape.flops / min(seconds) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--cfg", type=Path, help="take the convolutions of this network")
    parser.add_argument("--only", default="", help="shapes whose text contains this")
    arguments = parser.parse_args()
    write, peak = sys.stdout.write, fastest_product(arguments.threads)
    write(f"level {cpu.level()}, {arguments.threads} threads, fastest product {peak:.0f} GFLOP/s\n")
    write(f"{'layer':38s}{'algorithm':>12s}{'best ms':>10s}{'median':>9s}{'GFLOP/s':>9s}{'share':>7s}{'error':>9s}\n")
    for shape in shapes_of(arguments.cfg) if arguments.cfg else SHAPES:
        if arguments.only not in str(shape):
            continue
        for algorithm, seconds, error in measure(shape, arguments.threads, arguments.repeat):
            rate = shape.flops / min(seconds) / 1e9
            write(f"{shape!s:38s}{algorithm.name.lower():>12s}{1e3 * min(seconds):10.3f}")
            write(f"{1e3 * statistics.median(seconds):9.3f}{rate:9.1f}{rate / peak:7.0%}{error:9.1e}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
