"""Where the time of a plan goes: every step's time, speed and traffic, and the machine's own limits beside them."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from darkbn.extras import require
from darkbn.version import __version__

if TYPE_CHECKING:
    from darkbn.inference.plan import Plan, Step
    from darkbn.network import Network


@dataclass(frozen=True)
class StepProfile:
    """One step.

    Attributes:
        name: what it computes, as in the description: "3 convolutional", "4-5 convolutional + shortcut"; in brackets
            what is no layer.
        kind, method, threads, flops, nbytes: as in `darkbn.inference.plan.Step`.
        layers: indices of its layers.
        seconds: median of the passes.
    """

    name: str
    kind: str
    method: str
    layers: tuple[int, ...]
    threads: int
    flops: int
    nbytes: int
    seconds: float

    @property
    def gflops(self) -> float:
        """Billions of floating-point operations a second, counted as in the direct sum: Winograd exceeds the peak."""
        return self.flops / self.seconds / 1e9 if self.seconds else 0.0

    @property
    def bandwidth(self) -> float:
        """Billions of bytes of tensors a second."""
        return self.nbytes / self.seconds / 1e9 if self.seconds else 0.0


@dataclass(frozen=True)
class Profile:
    """What `Network.profile` returns; `str()` of it is a table of at most 80 columns.

    Attributes:
        network: file of the description.
        input_shape, threads, level: of the run.
        steps: in order.
        seconds: median of whole passes, without measuring steps.
        peak: floating-point operations a second that a product of matrices reaches on these threads (`measured_peak`).
        arena_bytes, parameter_bytes: memory for intermediate results, and of the parameters as packed for the plan.
    """

    network: str
    input_shape: tuple[int, ...]
    threads: int
    level: str
    steps: tuple[StepProfile, ...]
    seconds: float
    peak: float
    arena_bytes: int
    parameter_bytes: int

    @property
    def flops(self) -> int:
        """Of a whole pass."""
        return sum(step.flops for step in self.steps)

    def share(self, step: StepProfile) -> float:
        """Part of the measured peak that a step reaches."""
        return step.flops / step.seconds / self.peak if step.seconds and self.peak else 0.0

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        found = dataclasses.asdict(self)
        found |= {"version": __version__, "flops": self.flops, "share_of_peak": self.flops / self.seconds / self.peak}
        for step, row in zip(self.steps, found["steps"], strict=True):
            row |= {"gflops": step.gflops, "share_of_peak": self.share(step), "gigabytes_per_second": step.bandwidth}
        return found

    def __str__(self) -> str:
        lines = [self.HEADING, *map(self._row, self.steps), *self.summary()]
        return "\n".join(lines)

    HEADING = f"{'step':<26} {'method':<17} {'ms':>8} {'%':>5} {'GFLOP/s':>8} {'peak':>5} {'GB/s':>5}"

    def _row(self, step: StepProfile) -> str:
        total = sum(s.seconds for s in self.steps) or 1.0
        speed = f"{step.gflops:8.1f} {self.share(step):5.0%}" if step.flops else f"{'':14}"
        return (
            f"{_cut(step.name, 26):<26} {step.method:<17} {1e3 * step.seconds:8.3f} {100 * step.seconds / total:5.1f}"
            f" {speed} {step.bandwidth:5.1f}"
        )

    def summary(self) -> list[str]:
        """Lines about the whole pass."""
        shape = " x ".join(map(str, self.input_shape))
        rate = self.flops / self.seconds / 1e9
        return [
            f"{self.network}: input {shape}, {self.threads} threads, level {self.level}",
            f"{1e3 * self.seconds:.2f} ms a pass, {self.flops / 1e9:.2f} GFLOP: {rate:.1f} GFLOP/s,"
            f" {rate * 1e9 / self.peak:.0%} of a matrix product's {self.peak / 1e9:.0f}",
            f"memory: {self.arena_bytes / 2**20:.1f} MiB of intermediate results,"
            f" {self.parameter_bytes / 2**20:.1f} MiB of packed parameters",
        ]

    def plot(self, path: str | Path, *, most: int = 40) -> None:
        """Write a picture: a bar per step, its length the time, its colour what kind of step it is.

        Args:
            path: file (.png, .svg, .pdf).
            most: how many steps, the slowest.

        Raises:
            MissingExtraError: the extra `plot` is not installed.
        """
        figure_module = require("matplotlib.figure", extra="plot")
        shown = sorted(sorted(self.steps, key=lambda s: -s.seconds)[:most], key=self.steps.index)
        kinds = list(dict.fromkeys(s.method or s.kind for s in shown))
        colours = require("matplotlib", extra="plot").colormaps["tab20"]
        figure = figure_module.Figure(figsize=(9, 1.5 + 0.2 * len(shown)), layout="constrained")
        axes = figure.add_subplot()
        for kind in kinds:
            rows = [i for i, s in enumerate(shown) if (s.method or s.kind) == kind]
            axes.barh(rows, [1e3 * shown[i].seconds for i in rows], color=colours(kinds.index(kind) % 20), label=kind)
        for i, step in enumerate(shown):
            text = f" {step.gflops:.0f} GFLOP/s" if step.flops else f" {step.bandwidth:.0f} GB/s"
            axes.text(1e3 * step.seconds, i, text, va="center", fontsize=7)
        axes.set_yticks(range(len(shown)), [_cut(s.name, 40) for s in shown], fontsize=7)
        axes.invert_yaxis()
        axes.margins(x=0.15, y=0.01)
        axes.set_xlabel("ms")
        left_out = f" ({most} slowest of {len(self.steps)} steps)" if len(shown) < len(self.steps) else ""
        axes.set_title("\n".join(self.summary()[:2]) + left_out, fontsize=9)
        axes.legend(fontsize=8, loc="best")
        figure.savefig(path, dpi=130)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def step_name(net: Network, step: Step) -> str:
    """Indices and types of a step's layers."""
    if not step.layers:
        return f"[{step.kind}]"
    types = [net.layers[index].type for index in step.layers]
    first, last = step.layers[0], step.layers[-1]
    return f"{first}{f'-{last}' if last != first else ''} {' + '.join(dict.fromkeys(types))}"


def measured_peak(threads: int, seconds: float = 0.2) -> float:
    """Floating-point operations a second of this library's product of two matrices of 768 x 768 floats, the best of
    several: what a step can be held against."""
    from darkbn.backend import get_backend

    gemm, n = get_backend("cpu").raw.gemm, 768
    a, b = np.ones((2, n, n), np.float32)
    c, room = np.empty((n, n), np.float32), np.empty(gemm.gemm_workspace(n, n, n, threads), np.float32)
    best, end = 0.0, time.perf_counter() + seconds
    while not best or time.perf_counter() < end:
        start = time.perf_counter()
        gemm.gemm(a, b, c, room, 0, 0, 1.0, 0.0, threads)
        best = max(best, 2 * n**3 / (time.perf_counter() - start))
    return best


def _passes(plan: Plan, repeat: int) -> Iterator[tuple[float, list[float]]]:
    """Time of a pass, and of each step of another one, in turns."""
    for _ in range(repeat):
        start = time.perf_counter()
        plan.run()
        whole = time.perf_counter() - start
        steps = []
        for step in plan.steps:
            start = time.perf_counter()
            for call in step.calls:
                call()
            steps.append(time.perf_counter() - start)
        yield whole, steps


def profile_plan(net: Network, plan: Plan, x: Any = None, *, repeat: int = 10) -> Profile:
    """Time the steps of a plan.

    Args:
        net: the network that it was made of.
        plan: made by `Network.compile`.
        x: input; None: random numbers.
        repeat: passes; medians are taken, the first pass does not count.
    """
    from darkbn import cpu

    if x is None:
        x = np.random.default_rng(0).random(plan.input.shape, dtype=np.float32)
    plan(x)
    passes = list(_passes(plan, max(repeat, 1)))
    medians = [statistics.median(times) for times in zip(*(steps for _, steps in passes), strict=True)]
    rows = [
        StepProfile(step_name(net, s), s.kind, s.method, s.layers, s.threads, s.flops, s.nbytes, seconds)
        for s, seconds in zip(plan.steps, medians, strict=True)
    ]
    whole = statistics.median(seconds for seconds, _ in passes)
    level = cpu.level() if net.backend.name == "cpu" else net.backend.name
    peak = measured_peak(plan.threads)
    memory = (plan.arena_bytes, plan.parameter_bytes)
    return Profile(net.cfg.file, plan.input.shape, plan.threads, level, tuple(rows), whole, peak, *memory)
