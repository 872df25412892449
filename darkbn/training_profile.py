"""Where the time of a training step goes: every kernel of every layer, its traffic, and what the machine could do.

The bytes of a kernel are those of the arrays that its contract names: read or written once, those that it changes
twice, workspaces not at all. At the copy bandwidth, measured on the spot, they are the time that no kernel which is not
bound by arithmetic can fall below.
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from darkbn.backend import Backend, families, reference_family
from darkbn.errors import DarkbnError, TrainingError
from darkbn.extras import require
from darkbn.inference.profile import measured_peak
from darkbn.layers.base import Layer, Role
from darkbn.signature import ArraySpec, array_specs
from darkbn.version import __version__

if TYPE_CHECKING:
    from darkbn.network import Network

#: Passes of a step, as the profile names them; what is done outside of layers has no layer.
PASSES = ("forward", "backward", "update")
#: Families whose kernels are bound by arithmetic: a call makes as many operations as a forward pass of its layer.
_PRODUCTS = ("convolution", "gemm")
#: Roles of the arrays that a step changes for good.
_KEPT = tuple(role for role in Role if role not in (Role.ACTIVATION, Role.SCRATCH))
#: Floats that are copied to measure the bandwidth.
_COPIED = 1 << 24


@dataclass(frozen=True)
class KernelTime:
    """All calls of one kernel in one pass of one layer of a step.

    Attributes:
        layer: index, None for what belongs to no layer (the guard, clearing); type: of the layer, "" for none.
        phase: one of PASSES, "" for what belongs to no layer.
        kernel: family and name; "between kernels" is the rest of the layer's time: Python, NumPy, allocation.
        calls, seconds, nbytes, flops: of all calls of a step; seconds are medians over the steps.
    """

    layer: int | None
    type: str
    phase: str
    kernel: str
    calls: int
    seconds: float
    nbytes: int
    flops: int


BETWEEN = "between kernels"


@dataclass(frozen=True)
class TrainingProfile:
    """What `Network.profile_training` returns; `str()` of it is two tables of at most 80 columns.

    Attributes:
        network: file of the description.
        input_shape, threads, level: of the run.
        kernels: in the order of the step.
        seconds: median of whole steps, without measuring kernels.
        peak: floating-point operations a second that a product of matrices reaches on these threads.
        bandwidth: bytes a second, read and written, that a copy of 64 MiB reaches on these threads.
    """

    network: str
    input_shape: tuple[int, ...]
    threads: int
    level: str
    kernels: tuple[KernelTime, ...]
    seconds: float
    peak: float
    bandwidth: float

    def floor(self, row: KernelTime) -> float:
        """Seconds that a kernel needs at least: its operations at `peak` (Winograd can need less) or its bytes at
        `bandwidth`; arrays that stay in caches can be faster."""
        return max(row.flops / self.peak, row.nbytes / self.bandwidth)

    def by_kernel(self) -> list[KernelTime]:
        """One row for each kernel, over all layers; the slowest first."""
        return sorted(_joined(self.kernels, lambda row: (None, "", "", row.kernel)), key=lambda row: -row.seconds)

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        found = dataclasses.asdict(self) | {"version": __version__}
        for row, entry in zip(self.kernels, found["kernels"], strict=True):
            entry["floor_seconds"] = self.floor(row)
        return found

    def __str__(self) -> str:
        layers = [self.LAYER_HEADING, *self._layer_rows()]
        kernels = [self.KERNEL_HEADING, *map(self._kernel_row, self.by_kernel())]
        return "\n".join([*layers, "", *kernels, "", *self.summary()])

    LAYER_HEADING = f"{'layer, ms':<28} {'forward':>9} {'backward':>9} {'update':>8} {'floor':>8} {'%':>5}"
    KERNEL_HEADING = f"{'kernel':<34} {'ms':>8} {'%':>5} {'GFLOP/s':>8} {'GB/s':>6} {'of floor':>8}"

    def _layer_rows(self) -> Iterator[str]:
        total = sum(row.seconds for row in self.kernels) or 1.0
        groups: dict[int | None, list[KernelTime]] = defaultdict(list)
        for row in self.kernels:
            groups[row.layer].append(row)
        for index, rows in groups.items():
            name = "outside of layers" if index is None else f"{index} {rows[0].type}"
            own = sum(row.seconds for row in rows)
            phases = [1e3 * sum(row.seconds for row in rows if row.phase == phase) for phase in PASSES]
            cells = f"{phases[0]:9.3f} {phases[1]:9.3f} {phases[2]:8.3f}"
            if index is None:
                cells = f"{1e3 * own:28.3f}"
            yield f"{name:<28.28} {cells} {1e3 * sum(map(self.floor, rows)):8.3f} {100 * own / total:5.1f}"

    def _kernel_row(self, row: KernelTime) -> str:
        total = sum(one.seconds for one in self.kernels) or 1.0
        time_, floor = max(row.seconds, 1e-9), sum(self.floor(one) for one in self.kernels if one.kernel == row.kernel)
        speed = f"{row.flops / time_ / 1e9:8.1f}" if row.flops else f"{'':8}"
        traffic = f"{row.nbytes / time_ / 1e9:6.1f} {floor / time_:8.0%}" if row.nbytes else ""
        line = f"{row.kernel:<34.34} {1e3 * row.seconds:8.2f} {100 * row.seconds / total:5.1f} {speed} {traffic}"
        return line.rstrip()

    def summary(self) -> list[str]:
        """Lines about the whole step."""
        shape = " x ".join(map(str, self.input_shape))
        products = [row for row in self.kernels if row.flops]
        others = [row for row in self.kernels if not row.flops]
        flops, busy = sum(row.flops for row in products), sum(row.seconds for row in products)
        rest, floor = sum(row.seconds for row in others), sum(map(self.floor, others))
        return [
            f"{self.network}: {shape}, {self.threads} threads, level {self.level}",
            f"{1e3 * self.seconds:.1f} ms a step",
            f"products: {1e3 * busy:.1f} ms, {flops / 1e9:.1f} GFLOP, {flops / max(busy, 1e-9) / 1e9:.0f} GFLOP/s;"
            f" a product of matrices reaches {self.peak / 1e9:.0f}",
            f"all else: {1e3 * rest:.1f} ms; its bytes take {1e3 * floor:.1f} ms at a copy's"
            f" {self.bandwidth / 1e9:.1f} GB/s",
        ]

    def plot(self, path: str | Path) -> None:
        """Write a picture: a bar per layer, in pieces for its kernels; the lighter bar is the floor.

        Args:
            path: file (.png, .svg, .pdf).

        Raises:
            MissingExtraError: the extra `plot` is not installed.
        """
        figure_module = require("matplotlib.figure", extra="plot")
        colours = require("matplotlib", extra="plot").colormaps["tab20"]
        names = [row.kernel for row in self.by_kernel()][:19]
        places = list(dict.fromkeys((row.layer, row.type) for row in self.kernels))
        figure = figure_module.Figure(figsize=(9, 1.8 + 0.22 * len(places)), layout="constrained")
        axes, ends = figure.add_subplot(), [0.0] * len(places)
        for k, name in enumerate([*names, "others"]):
            widths = [0.0] * len(places)
            for row in self.kernels:
                if (row.kernel if row.kernel in names else "others") == name:
                    widths[places.index((row.layer, row.type))] += 1e3 * row.seconds
            if any(widths):
                axes.barh(range(len(places)), widths, left=ends, color=colours(k), label=name)
            ends = [end + width for end, width in zip(ends, widths, strict=True)]
        floors = [1e3 * sum(self.floor(row) for row in self.kernels if (row.layer, row.type) == at) for at in places]
        axes.scatter(floors, range(len(places)), marker="|", s=90, color="black", label="floor", zorder=3)
        labels = ["outside of layers" if index is None else f"{index} {kind}" for index, kind in places]
        axes.set_yticks(range(len(places)), labels, fontsize=7)
        axes.invert_yaxis()
        axes.set_xlabel("ms")
        axes.set_title("\n".join(self.summary()[:2]), fontsize=9)
        axes.legend(fontsize=7, loc="best")
        figure.savefig(path, dpi=130)


def _joined(rows: Any, key: Any) -> list[KernelTime]:
    """Rows with one key become one."""
    groups: dict[Any, list[KernelTime]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    found = []
    for at, own in groups.items():
        layer, kind, phase, kernel = at
        calls, seconds = sum(row.calls for row in own), sum(row.seconds for row in own)
        nbytes, flops = sum(row.nbytes for row in own), sum(row.flops for row in own)
        found.append(KernelTime(layer, kind, phase, kernel, calls, seconds, nbytes, flops))
    return found


def random_batch(net: Network, seed: int = 0) -> tuple[Any, Any]:
    """An input, and labels that the network's losses take: five boxes an image, or a class.

    Raises:
        TrainingError: labels of another kind are needed.
    """
    rng = np.random.default_rng(seed)
    x = rng.random(net.input_shape, np.float32)
    losses = [layer for layer in net.layers if layer.has_cost]
    if heads := [layer for layer in losses if layer.type in ("yolo", "region", "Gaussian_yolo")]:
        head: Any = heads[0]
        boxes = np.zeros((net.batch, head.truths // head.truth_size, head.truth_size), np.float32)
        some = boxes[:, :5]
        some[..., :2] = rng.uniform(0.2, 0.8, (*some.shape[:2], 2))
        some[..., 2:4] = rng.uniform(0.1, 0.4, (*some.shape[:2], 2))
        some[..., 4] = rng.integers(0, head.classes, some.shape[:2])
        return x, boxes.reshape(net.batch, -1)
    if not losses or {layer.type for layer in losses} - {"softmax", "cost", "logistic"}:
        kinds = ", ".join(sorted({layer.type for layer in losses})) or "no loss"
        raise TrainingError(f"{net.cfg.file}: {kinds}: there are no random labels for it, give truth")
    labels = np.zeros((net.batch, losses[-1].inputs), np.float32)
    labels[np.arange(net.batch), rng.integers(0, labels.shape[1], net.batch)] = 1
    return x, labels


class _Records:
    """Times of kernels and layers, by step."""

    def __init__(self) -> None:
        self.at: tuple[int | None, str, str] = (None, "", "")
        self.flops = 0
        self.steps: list[dict[Any, list[float]]] = []

    def add(self, kernel: str, seconds: float, nbytes: int, flops: int) -> None:
        row = self.steps[-1].setdefault((*self.at, kernel), [0, 0.0, 0, 0])
        for k, value in enumerate((1, seconds, nbytes, flops)):
            row[k] += value

    def step(self, work: Callable[[], Any]) -> None:
        """Time a step; what no kernel and no layer took is a row of its own."""
        self.steps.append({})
        start = time.perf_counter()
        work()
        seconds = time.perf_counter() - start
        self.add(BETWEEN, max(seconds - sum(row[1] for row in self.steps[-1].values()), 0.0), 0, 0)

    def rows(self) -> tuple[KernelTime, ...]:
        """One row for each kernel of each pass of each layer, medians of the seconds."""
        found = []
        for at in dict.fromkeys(key for step in self.steps for key in step):
            calls, _, nbytes, flops = (int(value) for value in next(s[at] for s in self.steps if at in s))
            seconds = statistics.median(step[at][1] if at in step else 0.0 for step in self.steps)
            layer, kind, phase, kernel = at
            found.append(KernelTime(layer, kind, phase, kernel, calls, seconds, nbytes, flops))
        return tuple(found)


class _RecordingBackend:
    """A backend whose kernels are timed."""

    def __init__(self, backend: Backend, records: _Records, flops: int) -> None:
        self._backend, self._records, self._flops = backend, records, flops

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._backend, name)
        if name not in families():
            return value
        reference = reference_family(name)
        timed = {
            kernel: self._timed(f"{name}.{kernel}", function, array_specs(getattr(reference, kernel)))
            for kernel, function in vars(value).items()
        }
        setattr(self, name, SimpleNamespace(**timed))
        return getattr(self, name)

    def _timed(self, kernel: str, function: Any, specs: dict[str, ArraySpec]) -> Any:
        if not specs:  # workspace sizes
            return function
        directions = [(spec.direction, spec.name) for spec in specs.values()]
        flops = self._flops if kernel.partition(".")[0] in _PRODUCTS else 0

        def call(*args: Any) -> Any:
            start = time.perf_counter()
            found = function(*args)
            seconds = time.perf_counter() - start
            arrays = [a for a in args if a is None or hasattr(a, "nbytes")]
            nbytes = sum(
                0 if array is None or name == "workspace" else int(array.nbytes) * (2 if direction == "io" else 1)
                for array, (direction, name) in zip(arrays, directions, strict=False)
            )
            self._records.add(kernel, seconds, nbytes, flops)
            return found

        return call


def _timed_pass(layer: Layer, index: int, phase: str, records: _Records) -> Any:
    function = getattr(layer, phase)

    def run(argument: Any) -> None:
        records.at = (index, layer.type, phase)
        known = sum(row[1] for row in records.steps[-1].values())
        start = time.perf_counter()
        function(argument)
        seconds = time.perf_counter() - start
        inside = sum(row[1] for row in records.steps[-1].values()) - known
        records.add(BETWEEN, max(seconds - inside, 0.0), 0, 0)
        records.at = (None, "", "")

    return run


@contextlib.contextmanager
def _recording(net: Network) -> Iterator[_Records]:
    """Kernels and passes of the network are timed inside."""
    records, backend = _Records(), net.backend
    parts = [part for layer in net.layers for _, part in layer.walk()]
    try:
        net.backend = _RecordingBackend(backend, records, 0)  # type: ignore[assignment]
        for part in parts:
            part.backend = _RecordingBackend(backend, records, part.flops * part.batch)  # type: ignore[assignment]
        for index, layer in enumerate(net.layers):
            for phase in PASSES:
                setattr(layer, phase, _timed_pass(layer, index, phase, records))
        yield records
    finally:
        net.backend = backend
        for part in parts:
            part.backend = backend
        for layer in net.layers:
            for phase in PASSES:
                vars(layer).pop(phase, None)


@contextlib.contextmanager
def restored(net: Network) -> Iterator[None]:
    """Steps made inside leave no trace in parameters, statistics, the optimizer and the counters."""
    parts = [part for layer in net.layers for _, part in layer.walk()]
    names = [(part, b.name) for part in parts for b in part.all_buffers() if b.role in _KEPT]
    arrays = [vars(part)[name] for part, name in names if name in vars(part)]
    copies = [array.copy() for array in arrays]
    counters = (net.seen, net.steps, net.averaged, net.cost)
    generator, numbers = net._state.rng.bit_generator, net._state.rng.bit_generator.state
    try:
        yield
    finally:
        for array, copy in zip(arrays, copies, strict=True):
            array[...] = copy
        net.seen, net.steps, net.averaged, net.cost = counters
        generator.state = numbers
        net.changed()


def copy_bandwidth(backend: Backend, threads: int) -> float:
    """Bytes a second, read and written, of a copy of 64 MiB; the best of several."""
    source, target = backend.zeros((_COPIED,)), backend.empty((_COPIED,))
    times = []
    for _ in range(6):
        start = time.perf_counter()
        backend.vector.copy(source, target, threads)
        times.append(time.perf_counter() - start)
    return 2 * int(source.nbytes) / min(times)


def profile_training(net: Network, x: Any = None, truth: Any = None, *, repeat: int = 5) -> TrainingProfile:
    """Time the kernels of training steps. Parameters, statistics and counters are as before afterwards.

    Args:
        net: a network on the CPU.
        x, truth: a batch as `train_step` takes it; None: random ones (`random_batch`).
        repeat: steps; medians are taken. As many again are timed as a whole, and one comes first that does not count.

    Raises:
        DarkbnError: it is on another device.
        TrainingError: there are no random labels for its losses.
    """
    from darkbn import cpu

    if net.backend.name != "cpu":
        raise DarkbnError(f"training is profiled on device 'cpu', this network is on {net.backend.name!r}")
    given = random_batch(net) if x is None or truth is None else (x, truth)
    x, truth = given[0] if x is None else x, given[1] if truth is None else truth
    whole = []
    with restored(net):
        net.train_step(x, truth)
        with _recording(net) as records:
            for _ in range(max(repeat, 1)):
                records.step(lambda: net.train_step(x, truth))
        for _ in range(max(repeat, 1)):
            start = time.perf_counter()
            net.train_step(x, truth)
            whole.append(time.perf_counter() - start)
    limits = (measured_peak(net.threads), copy_bandwidth(net.backend, net.threads))
    run = (net.cfg.file, net.input_shape, net.threads, cpu.level())
    return TrainingProfile(*run, records.rows(), statistics.median(whole), *limits)
