"""Which method is fastest for a convolution, measured once and remembered for this machine.

Measurements lie in a small JSON file in the user's cache folder (`cache_file`), one entry per geometry; the file's name
says what they are valid for: machine, instruction-set level, threads and version.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import logging
import platform
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from darkbn.activations import mixes_channels
from darkbn.backend import Backend
from darkbn.files import atomic_write, cache_folder
from darkbn.inference.algorithms import METHODS, Method
from darkbn.inference.program import Bottleneck, Geometry, Op
from darkbn.version import __version__

log = logging.getLogger(__name__)

#: Passes of each candidate; the fastest counts.
REPEAT = 5

#: What a bottleneck in one pass is called beside the methods of convolutions.
BOTTLENECK = "bottleneck"

#: A measured method replaces the estimated one when it is so many times as fast: less is noise.
GAIN = 1.03


@functools.cache
def machine() -> str:
    """The processor's name."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        names = re.findall(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
        return f"{names[0]} x{len(names)}" if names else platform.machine()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"


def cache_file(level: str, threads: int) -> Path:
    """Where the measurements for this machine, level, number of threads and version are."""
    key = hashlib.sha256(f"{machine()}|{level}|{threads}|{__version__}".encode()).hexdigest()[:16]
    return cache_folder() / f"methods-{key}.json"


def geometry_key(g: Geometry) -> str:
    """A geometry as text."""
    return " ".join(f"{field.name}={getattr(g, field.name)}" for field in dataclasses.fields(g))


def read_measurements(path: Path) -> dict[str, dict[str, float]]:
    """Seconds by method, by geometry (of a bottleneck: of all parts). A file that is missing or broken is as
    good as empty."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["seconds"]
        known = {*METHODS, BOTTLENECK}
        return {str(key): {str(m): float(s) for m, s in row.items() if m in known} for key, row in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s: not used, measuring anew: %s", path, error)
        return {}


def write_measurements(path: Path, seconds: dict[str, dict[str, float]], level: str, threads: int) -> None:
    """Add measurements to the file, which appears whole or not at all. One that cannot be written is no error."""
    document = {
        "machine": machine(), "level": level, "threads": threads, "version": __version__,
        "seconds": read_measurements(path) | seconds,
    }  # fmt: skip
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write((json.dumps(document, indent=1) + "\n").encode())
    except OSError as error:
        log.warning("%s: measurements are not remembered: %s", path, error)


class Tuner:
    """Chooses methods by measurement; see `darkbn.inference.layout.Choose` and `darkbn.inference.budget.Timed`.

    Attributes:
        measured: seconds by method, by geometry: what was read from the file and what was added.
    """

    def __init__(
        self,
        backend: Backend,
        level: str,
        threads: int,
        candidates: Callable[[Op, bool], list[Method]],
        measure: Callable[[Geometry, Method, Backend, int], float] | None = None,
        measure_bottleneck: Callable[[Bottleneck, Backend, int], float] | None = None,
    ) -> None:
        """
        Args:
            backend: whose kernels are timed.
            level: instruction-set level, for the name of the file.
            threads: that kernels may use.
            candidates: the methods that can compute an operation, best estimate first.
            measure, measure_bottleneck: time a method and a bottleneck; for tests.
        """
        self.backend, self.level, self.threads = backend, level, threads
        self._candidates, self._measure = candidates, measure or time_method
        self._measure_bottleneck = measure_bottleneck or time_bottleneck
        self.path = cache_file(level, threads)
        self.measured = read_measurements(self.path)
        self._new: dict[str, dict[str, float]] = {}

    def timed(self, op: Op, plain_input: bool) -> list[tuple[Method, float]]:
        """The methods of a convolution and their measured seconds; those of the best estimate are GAIN times less."""
        found = self._candidates(op, plain_input)
        if len(found) == 1 or mixes_channels(op.arguments.activation):
            return [(found[0], 0.0)]
        times = self.times(op.arguments.geometry, found)
        return [(m, times[m.name] / (GAIN if m is found[0] else 1)) for m in found]

    def __call__(self, op: Op, plain_input: bool) -> Method:
        """The fastest method of a convolution."""
        return min(self.timed(op, plain_input), key=lambda row: row[1])[0]

    def times(self, g: Geometry, methods: list[Method]) -> dict[str, float]:
        """Seconds of each method, measured where they are not known."""
        key = geometry_key(g)
        row = self.measured.setdefault(key, {})
        missing = [m for m in methods if m.name not in row]
        for method in missing:
            row[method.name] = self._measure(g, method, self.backend, self.threads)
        if missing:
            self._new[key] = row
        return row

    def pays(self, b: Bottleneck) -> bool:
        """Whether convolutions are faster in one pass than one after another, each by its fastest method."""
        key = "; ".join(geometry_key(part.arguments.geometry) for part in b.parts)
        row = self.measured.setdefault(key, {})
        if BOTTLENECK not in row:
            row[BOTTLENECK] = self._measure_bottleneck(b, self.backend, self.threads)
            self._new[key] = row
        times = [self.times(part.arguments.geometry, self._candidates(part, False)) for part in b.parts]
        return row[BOTTLENECK] < sum(min(found.values()) for found in times)

    def save(self) -> None:
        """Remember what was measured since it was made."""
        if self._new:
            write_measurements(self.path, self._new, self.level, self.threads)
            self._new = {}


def time_method(g: Geometry, method: Method, backend: Backend, threads: int) -> float:
    """Seconds of a convolution with random numbers: the least of several passes."""
    from darkbn.inference.steps import trial_call

    return _least(trial_call(g, method, backend, threads, np.random.default_rng(0)))


def time_bottleneck(b: Bottleneck, backend: Backend, threads: int) -> float:
    """Seconds of convolutions in one pass with random numbers: the least of several."""
    from darkbn.inference.steps import bottleneck_trial

    return _least(bottleneck_trial(b, backend, threads, np.random.default_rng(0)))


def _least(call: Callable[[], object]) -> float:
    """Seconds of the fastest of several calls."""
    best = np.inf
    for turn in range(REPEAT + 1):
        start = time.perf_counter()
        call()
        if turn:  # the first one warms up
            best = min(best, time.perf_counter() - start)
    return float(best)
