"""Whole networks on several devices: predictions by their plans, and training steps."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import darkbn
from darkbn.layer_bench import available_devices, calm, seconds_of

#: Passes that do not count: the first compiles kernels, the second captures what will be replayed.
_WARM_UP = 3


@dataclass(frozen=True)
class NetTime:
    """A whole pass on one device: `seconds` is the median, `images` of one pass, `flops` of its forward part."""

    device: str
    seconds: float
    images: int
    flops: int


@dataclass(frozen=True)
class NetBench:
    """What `bench_net` returns; `str()` of it is a table of at most 80 columns."""

    network: str
    what: str
    rows: tuple[NetTime, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"network": self.network, "what": self.what, "devices": [asdict(row) for row in self.rows]}

    def __str__(self) -> str:
        lines = [
            f"{self.network}, {self.what}, {self.rows[0].images} images",
            f"{'device':<10} {'ms':>10} {'images/s':>10} {'GFLOP/s':>10} {'x':>8}",
        ]
        for row in self.rows:
            # A step backwards takes as many operations for the weights, and again for the input, as one forwards.
            flops = row.flops * (3 if self.what == "training step" else 1)
            lines.append(
                f"{row.device:<10} {1e3 * row.seconds:10.3f} {row.images / row.seconds:10.1f}"
                f" {flops / row.seconds / 1e9:10.1f} {self.rows[0].seconds / row.seconds:8.2f}"
            )
        return "\n".join(lines)


def bench_net(
    cfg: str | os.PathLike[str],
    weights: str | os.PathLike[str] | None = None,
    devices: tuple[str, ...] | None = None,
    *,
    train: bool = False,
    repeat: int = 10,
    **options: Any,
) -> NetBench:
    """Time whole predictions, or training steps, on several devices; on a GPU by events, after a warm-up.

    Args:
        cfg, weights: of the network; random parameters without weights.
        devices: names of backends; None: all available ones.
        train: training steps instead of predictions; labels are random.
        repeat: passes; medians are taken.
        options: of `darkbn.load`: batch, width, height, threads, dialect.

    Raises:
        TrainingError: there are no random labels for the network's losses.
    """
    rows = []
    for name in available_devices() if devices is None else devices:
        net = darkbn.load(cfg, weights, device=name, train=train, seed=0, **options)
        if weights is None:
            calm(net)
        work = _step(net) if train else _prediction(net)
        for _ in range(_WARM_UP - 1):
            work()
        flops = net.batch * sum(layer.flops for layer in net.layers)
        rows.append(NetTime(name, seconds_of(work, net.backend, repeat), net.batch, flops))
    return NetBench(Path(net.cfg.file).name, "training step" if train else "prediction", tuple(rows))


def _prediction(net: darkbn.Network) -> Any:
    x = np.random.default_rng(0).random(net.input_shape, dtype=np.float32)
    plan, there = net.current_plan(), net.backend.array(x)
    return lambda: plan(there)


def _step(net: darkbn.Network) -> Any:
    from darkbn.training_profile import random_batch

    x, truth = random_batch(net)
    return lambda: net.train_step(x, truth)
