"""Every layer of a network on several devices: time, speed, traffic, and the share of what the device could do.

The roof of a layer is the lower of two rates measured on the spot: that of a product of matrices, and the copy
bandwidth times the layer's operations per byte of its tensors. Where no GPU is measured, what one would add is
estimated from its maker's numbers (`STATED`), and said to be an estimate.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import darkbn
from darkbn.backend import Backend
from darkbn.errors import UnsupportedError
from darkbn.extras import require
from darkbn.layers.base import Layer, Role
from darkbn.state import NetworkState

#: Values of the arrays that are copied, and edge of the matrices, when a device's limits are measured. Emulation is
#: measured with NumPy, too: it shows how far it is from the host.
_COPIED, _EDGE = 1 << 24, 1024

#: Share of its stated limits that an estimate credits a GPU with; seconds that a layer takes at least: two launches.
_CREDIT, _LEAST = 0.5, 10e-6


@dataclass(frozen=True)
class Roof:
    """What a device can do: GFLOP/s of a float32 product of matrices, GB/s of a copy (bytes read and written)."""

    device: str
    gflops: float
    bandwidth: float

    def seconds(self, flops: int, nbytes: int) -> float:
        """The least that so many operations on so many bytes take."""
        return max(flops / self.gflops, nbytes / self.bandwidth) / 1e9


#: GPUs as their data sheets describe them: float32 without matrix units, memory bandwidth. For estimates only.
STATED = (
    Roof("T4", 8_100, 320),
    Roof("RTX 4090", 82_600, 1_008),
    Roof("L4", 30_300, 300),
    Roof("A100", 19_500, 2_039),
    Roof("H100", 67_000, 3_350),
    Roof("H200", 67_000, 4_800),
)


@dataclass(frozen=True)
class LayerTime:
    """Forward pass of one layer on one device.

    Attributes:
        index, type: of the layer.
        device: name of the backend; "torch" is PyTorch, on the GPU where that is measured, else on the CPU.
        seconds: median.
        flops: operations of the pass as Darknet counts them.
        nbytes: input, output and parameters.
        share: of the roof, 0 to 1.
    """

    index: int
    type: str
    device: str
    seconds: float
    flops: int
    nbytes: int
    share: float

    @property
    def gflops(self) -> float:
        """Billions of operations a second."""
        return self.flops / self.seconds / 1e9

    @property
    def bandwidth(self) -> float:
        """Billions of bytes a second."""
        return self.nbytes / self.seconds / 1e9


@dataclass(frozen=True)
class LayerBench:
    """What `bench_layers` returns; `str()` of it is a table of at most 80 columns.

    Attributes:
        network, batch: what was measured.
        roofs: of the devices.
        rows: by layer, then device.
        stated: the GPU that is estimated, where none was measured.
    """

    network: str
    batch: int
    roofs: tuple[Roof, ...]
    rows: tuple[LayerTime, ...]
    stated: Roof | None = None

    def estimate(self, row: LayerTime) -> float:
        """Seconds that the layer would take on `stated`: half of what its data sheet allows, and the launches. Nothing
        of it is measured."""
        assert self.stated is not None
        return max(self.stated.seconds(row.flops, row.nbytes) / _CREDIT, _LEAST)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: milliseconds, GFLOP/s, GB/s."""
        return {
            "network": self.network,
            "batch": self.batch,
            "roofs": [asdict(roof) for roof in self.roofs],
            "layers": [
                {**asdict(row), "gflops": row.gflops, "bandwidth": row.bandwidth, "speed_up": self.speed_up(row)}
                for row in self.rows
            ],
            "estimate": None if self.stated is None else self._estimates(self.stated),
        }

    def _estimates(self, stated: Roof) -> dict[str, Any]:
        first = [row for row in self.rows if row.device == self.roofs[0].device]
        layers = [{"index": row.index, "seconds": self.estimate(row)} for row in first]
        total = sum(self.estimate(row) for row in first)
        return {"stated": asdict(stated), "credit": _CREDIT, "least": _LEAST, "seconds": total, "layers": layers}

    def speed_up(self, row: LayerTime) -> float:
        """How many times as fast as on the first device."""
        first = next(r for r in self.rows if r.index == row.index)
        return first.seconds / row.seconds

    def __str__(self) -> str:
        lines = [f"{self.network}, batch {self.batch}, forward"]
        lines += [f"{r.device}: products {r.gflops:.0f} GFLOP/s, copies {r.bandwidth:.1f} GB/s" for r in self.roofs]
        last = self.stated.device if self.stated else "x"
        lines.append(
            f"{'layer':>5} {'type':<15} {'device':<9} {'ms':>9} {'GFLOP/s':>8} {'GB/s':>7} {'roof':>5} {last[:9]:>9}"
        )
        for row in self.rows:
            flops = f"{row.gflops:8.1f}" if row.flops else " " * 8
            ratio = f"~{row.seconds / self.estimate(row):.1f}" if self.stated else f"{self.speed_up(row):.2f}"
            lines.append(
                f"{row.index:>5} {row.type[:15]:<15} {row.device:<9} {1e3 * row.seconds:9.3f} {flops}"
                f" {row.bandwidth:7.2f} {100 * row.share:4.0f}% {ratio:>9}"
            )
        return "\n".join([*lines, *self._totals()])

    def _totals(self) -> list[str]:
        """The sum of all layers on each device, and what an estimate is worth."""
        names = dict.fromkeys(row.device for row in self.rows)
        totals = {name: 1e3 * sum(row.seconds for row in self.rows if row.device == name) for name in names}
        lines = [f"      {'all layers':<15} {name:<9} {total:9.3f}" for name, total in totals.items()]
        if self.stated is None:
            return lines
        total = 1e3 * self._estimates(self.stated)["seconds"]
        name = self.stated.device
        return [
            *lines,
            f"      {'all layers':<15} ~{name:<8} {total:9.3f}",
            f"~{name} is an estimate, no measurement: {self.stated.gflops / 1e3:.1f} TFLOP/s and"
            f" {self.stated.bandwidth:.0f} GB/s as stated",
            f"by its maker, {_CREDIT:.0%} of them credited, at least {1e6 * _LEAST:.0f} us a layer. Its column says",
            "how many times as fast that would be.",
        ]

    def plot(self, path: str | Path) -> None:
        """Write a roofline picture: GFLOP/s of each layer over its operations per byte, under its device's roof.

        Raises MissingExtraError when the extra `plot` is not installed.
        """
        figure = require("matplotlib.figure", extra="plot").Figure(figsize=(8, 5), layout="constrained")
        axes = figure.add_subplot()
        intensities = np.logspace(-2, 3, 200)
        for number, roof in enumerate(self.roofs):
            colour = f"C{number}"
            axes.plot(intensities, np.minimum(roof.gflops, intensities * roof.bandwidth), color=colour, lw=1)
            found = [r for r in self.rows if r.device == roof.device and r.flops]
            places = [r.flops / r.nbytes for r in found], [r.gflops for r in found]
            axes.scatter(*places, color=colour, s=14, label=roof.device)
        peers = [r for r in self.rows if r.device == "torch" and r.flops]
        if peers:
            axes.scatter(
                [r.flops / r.nbytes for r in peers], [r.gflops for r in peers], s=14, marker="x", label="torch"
            )
        if self.stated:
            roof, label = self.stated, f"{self.stated.device} as stated (not measured)"
            limit = np.minimum(roof.gflops, intensities * roof.bandwidth)
            axes.plot(intensities, limit, color="grey", ls="--", lw=1, label=label)
        axes.set(xscale="log", yscale="log", xlabel="operations per byte", ylabel="GFLOP/s")
        axes.set_title(f"{self.network}, batch {self.batch}, forward", fontsize=9)
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(path, dpi=130)


def available_devices() -> tuple[str, ...]:
    """The devices that can be measured here: the CPU, and the GPU where there is one."""
    import darkbn_gpu

    return ("cpu", "gpu") if darkbn_gpu.available()[0] else ("cpu",)


def bench_layers(
    cfg: str | os.PathLike[str],
    devices: tuple[str, ...] | None = None,
    *,
    repeat: int = 5,
    estimate: str = "H200",
    torch: bool = False,
    **options: Any,
) -> LayerBench:
    """Time the forward pass of every layer.

    Args:
        cfg: of the network; its parameters and its input are random.
        devices: names of backends; None: all available ones.
        repeat: passes per layer after one that warms up; medians are taken.
        estimate: the GPU of `STATED` whose numbers are estimated where no GPU is measured.
        torch: time PyTorch's layers, too, on the GPU where that is measured, else on the CPU.
        options: of `darkbn.load`: batch, width, height, threads, dialect.

    Raises:
        UnsupportedError: no such GPU is stated; or PyTorch has no module for a layer.
    """
    names = available_devices() if devices is None else devices
    stated = {roof.device: roof for roof in STATED}
    if estimate not in stated:
        raise UnsupportedError(f"no limits are stated for GPU {estimate!r}: expected one of {', '.join(stated)}")
    roofs, found = [], []
    for name in names:
        net = darkbn.load(cfg, device=name, seed=0, **options)
        calm(net)
        roofs.append(measure_roof(net.backend))
        found += _time_layers(net, roofs[-1], repeat)
    if torch:
        from darkbn.layer_peers import time_torch

        like = "gpu" if "gpu" in names else names[0]
        rows = [row for row in found if row.device == like]
        found += time_torch(cfg, rows, roofs[names.index(like)], repeat, options)
    order = (*names, "torch")
    found.sort(key=lambda row: (row.index, order.index(row.device)))
    return LayerBench(
        Path(net.cfg.file).name, net.batch, tuple(roofs), tuple(found), None if "gpu" in names else stated[estimate]
    )


def calm(net: darkbn.Network) -> None:
    """Rolling variances of 1: with those of a new network values grow until they overflow."""
    for layer in net.layers:
        for _, inner in layer.walk():
            if hasattr(inner, "rolling_variance"):
                inner.rolling_variance.fill(1)


def measure_roof(backend: Backend) -> Roof:
    """Copy bandwidth and rate of matrix products of a device, by its array library."""
    xp = backend.xp
    source, target = xp.zeros(_COPIED, "float32"), xp.empty(_COPIED, "float32")
    copy = seconds_of(lambda: xp.copyto(target, source), backend, 5)
    a = xp.ones((_EDGE, _EDGE), "float32")
    product = seconds_of(lambda: xp.matmul(a, a), backend, 5)
    return Roof(backend.name, 2 * _EDGE**3 / product / 1e9, 2 * source.nbytes / copy / 1e9)


def seconds_of(work: Callable[[], Any], backend: Backend, repeat: int) -> float:
    """Median seconds of some work after a first time; on a GPU by its events."""
    work()
    times: list[float] = []
    for _ in range(repeat):
        if backend.name == "gpu":
            start, end = backend.xp.cuda.Event(), backend.xp.cuda.Event()
            start.record()
            work()
            end.record()
            end.synchronize()
            times.append(backend.xp.cuda.get_elapsed_time(start, end) / 1e3)
        else:
            begun = time.perf_counter()
            work()
            times.append(time.perf_counter() - begun)
    return max(statistics.median(times), 1e-9)


def _time_layers(net: darkbn.Network, roof: Roof, repeat: int) -> list[LayerTime]:
    x = np.random.default_rng(0).random(net.input_shape, dtype=np.float32)
    net.forward(x)
    state = NetworkState(layers=net.layers, threads=net.threads, input=net.backend.array(x))
    found = []
    for state.index, layer in enumerate(net.layers):
        seconds = seconds_of(lambda layer=layer: layer.forward(state), net.backend, repeat)  # type: ignore[misc]
        flops, nbytes = layer.flops * net.batch, int(state.input.nbytes) + _bytes_of(layer)
        share = roof.seconds(flops, nbytes) / seconds
        found.append(LayerTime(state.index, layer.type, net.backend.name, seconds, flops, nbytes, share))
        state.input = layer.output
    return found


def _bytes_of(layer: Layer) -> int:
    own = sum(b.nbytes(layer.backend.dtype) for b in layer.buffers() if b.role is Role.PARAMETER)
    return own + int(layer.output.nbytes) + sum(_bytes_of(inner) for inner in layer.sublayers.values())
