"""New rolling statistics for a network's batch normalization, from data. Nothing else of the network changes.

Four methods, by how batches of m values per channel become one mean and variance per channel:

    precise     the mean and variance of all values of all batches together
    paper       the mean of the batches' means, and m/(m - 1) times the mean of their variances (sum of squares / m):
                algorithm 2 of Ioffe and Szegedy, arXiv:1502.03167
    rolling     what training does, without learning: the present values move by the convention's decay
    sequential  as precise, layer by layer

With the first three, one pass over the data serves all layers, and the values that reach a layer have been normalized
by the statistics of their own batch in all layers before it, as in training: they depend on how the data are divided
into batches. With sequential they have been normalized by the new rolling statistics, as in inference, so that each
layer's statistics are exactly those of the values it will see; that takes a pass for every layer with batch
normalization.

Layers that act differently in training (dropout, augmentation) act as in inference. Recurrent layers start each batch
from nothing. Layers that share their parameters share the statistics of all their values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from darkbn.backend import to_host
from darkbn.conventions import BatchNormConvention
from darkbn.errors import DarkbnError, NonFiniteError, ShapeError
from darkbn.layers.base import Layer
from darkbn.layers.batchnorm import BatchNormalized
from darkbn.layers.recurrent import RecurrentLayer
from darkbn.signature import Array
from darkbn.state import NetworkState

if TYPE_CHECKING:
    from darkbn.network import Network

METHODS = ("precise", "paper", "rolling", "sequential")


@dataclass(frozen=True)
class Change:
    """How the statistics of one layer changed.

    Attributes:
        layer, type: index and type of the layer.
        part: name of the layer inside it ("input_layer."), "" for itself.
        channels: how many there are.
        values: values of a channel that were counted.
        mean: the largest change of a mean, in standard deviations (of the old or new ones, the larger).
        variance: the largest factor between an old and a new variance, at least 1.
    """

    layer: int
    type: str
    part: str
    channels: int
    values: int
    mean: float
    variance: float


@dataclass(frozen=True)
class Recalibration:
    """What `recalibrate` did; `str()` of it is a table."""

    method: str
    batches: int
    changes: tuple[Change, ...]

    HEADINGS = ("", "layer", "channels", "values", "mean moved", "variance times")

    def cells(self) -> list[tuple[str, ...]]:
        """The changes as text, one cell per heading."""
        return [
            (
                str(c.layer),
                f"{c.type} {c.part.rstrip('.')}".strip(),
                str(c.channels),
                f"{c.values:,}",
                f"{c.mean:.3g} sd",
                f"{c.variance:.3g}",
            )
            for c in self.changes
        ]

    def __str__(self) -> str:
        table = [self.HEADINGS, *self.cells()]
        widths = [max(len(row[column]) for row in table) for column in range(len(self.HEADINGS))]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if column == 1 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in table
        )


def recalibrate(
    net: Network,
    batches: Iterable[Any],
    method: str = "precise",
    progress: Callable[[], None] | None = None,
) -> Recalibration:
    """Replace the rolling means and variances by those of data.

    Args:
        net: the network; its batch is m / positions of the above.
        batches: inputs of shape `net.input_shape` each. For "sequential" something that can be gone through again and
            again, as a list can.
        method: one of METHODS.
        progress: called after every batch; there are `passes(net, method)` times as many calls as batches.

    Raises:
        DarkbnError: there is no batch normalization, no batch, or no such method.
        ShapeError: a batch has the wrong shape.
        NonFiniteError: statistics that are NaN or infinite.
        The network is as it was then.
    """
    if method not in METHODS:
        raise DarkbnError(f"unknown method {method!r}: expected one of {', '.join(METHODS)}")
    normalizers = list(_normalizers(net))
    if not normalizers:
        raise DarkbnError(f"{net.cfg.file}: there is no batch normalization in this network")
    if method == "sequential" and iter(batches) is iter(batches):
        raise DarkbnError("method sequential goes through the batches several times: pass a list of them")
    old = {id(n.part): tuple(np.array(to_host(array)) for array in _rolling(n.part)) for n in normalizers}
    for index in sorted({n.layer for n in normalizers}):
        net.layers[index].allocate(True)
    normalizers = list(_normalizers(net))  # steps have arrays of their own when training
    try:
        count = _run(net, normalizers, batches, method, progress or (lambda: None))
        changes = tuple(_change(net, n, *old[id(n.part)]) for n in normalizers)
    except BaseException:
        for n in normalizers:
            for array, values in zip(_rolling(n.part), old[id(n.part)], strict=True):
                net.backend.assign(array, values)
        raise
    finally:
        net.changed()
    return Recalibration(method, count, changes)


def passes(net: Network, method: str) -> int:
    """How many times `recalibrate` goes through the data."""
    return len({n.layer for n in _normalizers(net)}) if method == "sequential" else 1


@dataclass
class _Total:
    """Mean and sum of squared deviations of all values so far (Chan's update), and sums over batches."""

    count: int = 0
    mean: Any = 0.0
    squares: Any = 0.0
    batches: int = 0
    sum_of_means: Any = 0.0
    sum_of_variances: Any = 0.0

    def add(self, mean: Array, squares: Array, count: int) -> None:
        """One batch: its mean and sum of squared deviations."""
        whole = self.count + count
        away = mean - self.mean
        self.mean = self.mean + away * (count / whole)
        self.squares = self.squares + squares + away**2 * (self.count * count / whole)
        self.count = whole
        self.batches += 1
        self.sum_of_means = self.sum_of_means + mean
        self.sum_of_variances = self.sum_of_variances + squares / (count - 1)

    def result(self, method: str, c: BatchNormConvention) -> tuple[Array, Array]:
        """Mean and variance; m/(m - 1) * (squares / m) is squares / (m - 1)."""
        if method == "paper":
            return self.sum_of_means / self.batches, self.sum_of_variances / self.batches
        return self.mean, self.squares / (self.count - c.rolling_ddof)


@dataclass
class _Normalizer:
    """One place with batch normalization: the views of it that work in the steps of a pass, and what they saw."""

    layer: int
    prefix: str
    part: BatchNormalized
    steps: list[Any]
    total: _Total = field(default_factory=_Total)

    def count(self) -> None:
        """Add the statistics of the batch that just went through."""
        for step in self.steps:
            values = step.batch * max(step.out_h * step.out_w, 1)
            divisor = values - (0 if step.cross_iteration else step.convention.ddof)
            variance = np.asarray(to_host(step.variance), np.float64)
            self.total.add(np.asarray(to_host(step.mean), np.float64), variance * divisor, values)


def _normalizers(net: Network) -> Iterator[_Normalizer]:
    """The places, in order. Those that share their rolling statistics share the total."""
    totals: dict[int, _Total] = {}
    for index, layer in enumerate(net.layers):
        for prefix, part in layer.walk():
            if isinstance(part, BatchNormalized) and getattr(part, "batch_normalize", True):
                total = totals.setdefault(id(part.rolling_mean), _Total())
                yield _Normalizer(index, prefix, part, _steps(layer, prefix, part), total)


def _steps(layer: Layer, prefix: str, part: BatchNormalized) -> list[Any]:
    if not isinstance(layer, RecurrentLayer) or not layer.trainable:
        return [part]
    return [layer.step(prefix.rstrip("."), t) for t in range(layer.steps)]


def _run(
    net: Network,
    normalizers: list[_Normalizer],
    batches: Iterable[Any],
    method: str,
    progress: Callable[[], None],
) -> int:
    """All passes; returns the number of batches."""
    layers = sorted({n.layer for n in normalizers})
    groups = [[index] for index in layers] if method == "sequential" else [layers]
    count = 0
    for group in groups:
        own = [n for n in normalizers if n.layer in group]
        count = 0
        for x in batches:
            _forward(net, x, set(group))
            for n in own:
                n.count()
            count += 1
            progress()
        if count == 0:
            raise DarkbnError("no batch of data to take statistics of")
        for n in own:
            if method != "rolling":
                for array, values in zip(_rolling(n.part), n.total.result(method, n.part.convention), strict=True):
                    net.backend.assign(array, values)
    return count


def _forward(net: Network, x: Any, normalizing: set[int]) -> None:
    """A pass up to the last of the layers that normalize by the batch."""
    if np.shape(x)[:1] != (net.batch,) or math.prod(np.shape(x)) != net.batch * net.inputs:
        raise ShapeError(f"recalibrate: expected batches of shape {net.input_shape}, found {np.shape(x)}")
    net.reset_state()
    state = NetworkState(layers=net.layers, threads=net.threads)
    state.input = net.backend.array(x).reshape(net.input_shape)
    for state.index, layer in enumerate(net.layers[: max(normalizing) + 1]):
        state.train = state.index in normalizing
        layer.forward(state)
        state.input = layer.output


def _rolling(part: Any) -> tuple[Any, Any]:
    return part.rolling_mean, part.rolling_variance


def _change(net: Network, n: _Normalizer, old_mean: Array, old_variance: Array) -> Change:
    mean, variance = (to_host(array) for array in _rolling(n.part))
    if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
        where = f"layer {n.layer} [{net.layers[n.layer].type}] {n.prefix}rolling_mean or rolling_variance"
        raise NonFiniteError(f"{net.cfg.file}: {where}: the statistics of these data are NaN or infinite")
    floor = n.part.convention.epsilon**2 if n.part.convention.epsilon_outside else n.part.convention.epsilon
    old, new = (np.maximum(np.asarray(v, np.float64), 0) + floor for v in (old_variance, variance))
    moved = np.abs(np.asarray(mean, np.float64) - old_mean) / np.sqrt(np.maximum(old, new))
    return Change(
        layer=n.layer,
        type=net.layers[n.layer].type,
        part=n.prefix,
        channels=mean.size,
        values=n.total.count,
        mean=float(moved.max()),
        variance=float(np.maximum(new / old, old / new).max()),
    )
