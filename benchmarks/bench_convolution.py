"""Times the three passes of a convolution beside NumPy's (OpenBLAS) product of matrices of the same size.

    python benchmarks/bench_convolution.py [--threads 2] [--repeat 7] [--only big thin]

All passes and the product take turns in every round, so that a busy machine slows all alike; medians are printed.
Each shape takes the algorithm of training, and GFLOP/s count a convolution's own operations, whatever it takes.
NumPy's product gets the columns of im2col ready made and its own number of threads (OPENBLAS_NUM_THREADS).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from darkbn import cpu
from darkbn.algorithms import training_algorithm
from darkbn.backend import get_backend

PASSES = ("forward", "backward_weights", "backward_input")


@dataclass(frozen=True)
class Shape:
    """A square convolution."""

    batch: int
    channels: int
    size: int
    filters: int
    kernel: int
    stride: int = 1
    groups: int = 1

    @property
    def pad(self) -> int:
        return self.kernel // 2

    @property
    def out(self) -> int:
        return (self.size + 2 * self.pad - self.kernel) // self.stride + 1

    @property
    def flops(self) -> float:
        taps = self.channels // self.groups * self.kernel**2
        return 2.0 * self.batch * self.filters * taps * self.out**2

    def __str__(self) -> str:
        text = f"{self.batch}x{self.channels}x{self.size}x{self.size} {self.kernel}x{self.kernel}"
        return f"{text}/{self.stride} -> {self.filters}" + (f" g{self.groups}" if self.groups > 1 else "")


SHAPES = {
    "big": Shape(1, 256, 52, 512, 3),
    "one": Shape(1, 512, 26, 256, 1),
    "first": Shape(1, 3, 416, 32, 3),
    "thin": Shape(1, 16, 208, 32, 3),
    "mid": Shape(1, 64, 104, 64, 3),
    "strided": Shape(1, 64, 208, 128, 3, 2),
    "small": Shape(1, 512, 13, 1024, 3),
    "batch": Shape(8, 128, 26, 256, 3),
    "depthwise": Shape(1, 64, 112, 64, 3, 1, 64),
    "depthwise2": Shape(1, 64, 112, 64, 3, 2, 64),
    "groups": Shape(1, 128, 56, 128, 3, 1, 32),
}


def calls(shape: Shape, threads: int) -> dict[str, Callable[[], Any]]:
    """What is timed, by name."""
    rng = np.random.default_rng(0)
    kernels = get_backend("cpu").raw.convolution

    def array(*size: int) -> np.ndarray:
        return rng.standard_normal(size, dtype=np.float32)

    s = shape
    x, out = array(s.batch, s.channels, s.size, s.size), array(s.batch, s.filters, s.out, s.out)
    weights = array(s.filters, s.channels // s.groups, s.kernel, s.kernel)
    x_delta, weight_updates, biases = np.zeros_like(x), np.zeros_like(weights), array(s.filters)
    delta = array(*out.shape)
    algorithm = training_algorithm(s.channels, s.filters, s.kernel, (s.stride, s.stride), 1, s.groups, (s.out, s.out))
    steps = (s.groups, s.stride, s.stride, 1, s.pad, algorithm, threads)
    sizes = (s.batch, s.channels, s.size, s.size, s.filters, s.kernel, s.out, s.out, *steps)
    work = {name: np.empty(getattr(kernels, f"{name}_workspace")(*sizes), np.float32) for name in PASSES}
    rows, taps, pixels = s.filters // s.groups, weights[0].size, s.batch * s.out**2
    left, right = array(s.groups, rows, taps), array(s.groups, taps, pixels)
    product = np.empty((s.groups, rows, pixels), np.float32)
    return {
        "forward": lambda: kernels.forward(x, weights, biases, out, work["forward"], *steps),
        "backward_weights": lambda: kernels.backward_weights(
            x, delta, weight_updates, work["backward_weights"], *steps
        ),
        "backward_input": lambda: kernels.backward_input(weights, delta, x_delta, work["backward_input"], *steps),
        "numpy": lambda: np.matmul(left, right, out=product),
    }


def measure(shape: Shape, threads: int, repeat: int) -> dict[str, float]:
    """Median seconds of each, taking turns."""
    functions = calls(shape, threads)
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(repeat + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if turn:  # the first round warms up
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--only", nargs="+", choices=SHAPES, default=list(SHAPES))
    arguments = parser.parse_args()
    write = sys.stdout.write
    write(f"level {cpu.level()}, {arguments.threads} threads; ms (GFLOP/s), medians of {arguments.repeat}\n")
    names = (*PASSES, "numpy")
    write(f"{'shape':42s}" + "".join(f"{name:>20s}" for name in names) + "\n")
    for key in arguments.only:
        shape = SHAPES[key]
        seconds = measure(shape, arguments.threads, arguments.repeat)
        cells = (f"{1e3 * seconds[n]:10.2f} ({shape.flops / seconds[n] / 1e9:6.1f})" for n in names)
        write(f"{key + ': ' + str(shape):42s}" + "".join(f"{cell:>20s}" for cell in cells) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
