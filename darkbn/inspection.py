"""What the batch normalization of a trained network looks like: distributions, and what is wrong with them.

A finding about a channel:

    dead        |scale| below 1e-3 of the layer's median |scale|: the channel is constant whatever its input
    collapsed   rolling variance below the convention's epsilon (its square where epsilon is added to the root) or below
                1e-6 of the layer's median: what divides the channel is epsilon more than its variance
    exploding   rolling variance above 1e6 times the layer's median
    negative    rolling variance below zero: its root is NaN
    not finite  NaN or infinity in scales, biases, rolling_mean or rolling_variance

A layer whose rolling variances are all at their initial value, and its rolling means all zero, was never trained with
batch normalization on ("untrained").
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from darkbn.backend import to_host
from darkbn.inference.fold import folded_parameters, normalization
from darkbn.layers.base import Layer
from darkbn.layers.batchnorm import BatchNormalized
from darkbn.network import Network

#: Thresholds of the findings, relative to the layer's median.
DEAD, COLLAPSED, EXPLODING = 1e-3, 1e-6, 1e6
#: How many of the channels that folding amplifies most are named.
NAMED = 5

ARRAYS = ("scales", "biases", "rolling_mean", "rolling_variance")


@dataclass(frozen=True)
class Distribution:
    """Finite values of an array: extremes, quartiles, mean; NaN without any."""

    minimum: float
    lower: float
    median: float
    upper: float
    maximum: float
    mean: float

    @classmethod
    def of(cls, values: Any) -> Distribution:
        """The distribution of an array's finite values."""
        finite = np.asarray(values, dtype=np.float64).reshape(-1)
        finite = finite[np.isfinite(finite)]
        if not finite.size:
            return cls(*[float("nan")] * 6)
        low, lower, median, upper, high = np.percentile(finite, [0, 25, 50, 75, 100]).tolist()
        return cls(low, lower, median, upper, high, float(finite.mean()))


@dataclass(frozen=True)
class FoldingEffect:
    """What folding would do to a layer's weights.

    Attributes:
        before, after: range of the weights' absolute values: largest one.
        amplified: the channels whose weights grow most, (channel, factor), largest |factor| first.
        ratio: largest |factor| divided by the smallest of a channel that is not dead: what a quantizer has to cope
            with.
    """

    before: float
    after: float
    amplified: tuple[tuple[int, float], ...]
    ratio: float


@dataclass(frozen=True)
class LayerInspection:
    """Batch normalization of one layer.

    Attributes:
        index, type: of the layer; part: name of the layer inside a recurrent one, "" for the layer itself.
        channels: how many it normalizes.
        scales, biases, rolling_mean, rolling_variance: their distributions.
        dead, collapsed, exploding, negative, not_finite: channels, see `darkbn.inspection`.
        untrained: statistics and means are as they were made.
        folding: of the weights; None for a [batchnorm] layer, which has none.
        values: the arrays themselves, (channels,) each, as they were.
    """

    index: int
    type: str
    part: str
    channels: int
    scales: Distribution
    biases: Distribution
    rolling_mean: Distribution
    rolling_variance: Distribution
    dead: tuple[int, ...]
    collapsed: tuple[int, ...]
    exploding: tuple[int, ...]
    negative: tuple[int, ...]
    not_finite: tuple[int, ...]
    untrained: bool
    folding: FoldingEffect | None
    values: dict[str, np.ndarray[Any, Any]]

    @property
    def name(self) -> str:
        """Index, and the part inside a recurrent layer."""
        return f"{self.index}.{self.part}" if self.part else str(self.index)

    @property
    def findings(self) -> dict[str, int]:
        """How many channels each finding concerns; findings without channels are left out."""
        counts = {
            "dead": len(self.dead),
            "collapsed": len(self.collapsed),
            "exploding": len(self.exploding),
            "negative": len(self.negative),
            "not finite": len(self.not_finite),
            "untrained": self.channels if self.untrained else 0,
        }
        return {name: count for name, count in counts.items() if count}


@dataclass(frozen=True)
class Inspection:
    """Batch normalization of a network.

    Attributes:
        file: its cfg.
        convention: name of the convention.
        layers: in order; layers without batch normalization are left out.
        plain: how many layers have weights but no batch normalization.
    """

    file: str
    convention: str
    layers: tuple[LayerInspection, ...]
    plain: int

    @property
    def channels(self) -> int:
        """Channels that are normalized."""
        return sum(layer.channels for layer in self.layers)

    @property
    def findings(self) -> dict[str, int]:
        """Channels by finding, in the whole network."""
        total: dict[str, int] = {}
        for layer in self.layers:
            for name, count in layer.findings.items():
                total[name] = total.get(name, 0) + count
        return total

    def document(self) -> dict[str, Any]:
        """The same for JSON; NaN becomes None, the values themselves are left out."""
        layers = []
        for layer in self.layers:
            row = asdict(layer)
            del row["values"]
            layers.append({**row, "findings": layer.findings})
        document = {"cfg": self.file, "batchnorm": self.convention, "findings": self.findings, "layers": layers}
        return _finite(document)  # type: ignore[no-any-return]


def inspect(net: Network) -> Inspection:
    """Look at the batch normalization of a network; nothing is changed."""
    layers, plain = [], 0
    for index, layer in enumerate(net.layers):
        for prefix, part in layer.walk():
            if not isinstance(part, BatchNormalized):
                continue
            if getattr(part, "batch_normalize", True):
                layers.append(_inspect_layer(index, layer.type, prefix.rstrip("."), part))
            else:
                plain += 1
    return Inspection(net.cfg.file, net.convention.name, tuple(layers), plain)


def _inspect_layer(index: int, type: str, part: str, layer: Layer) -> LayerInspection:
    values = {name: np.asarray(to_host(getattr(layer, name)), np.float64) for name in ARRAYS}
    scales, variance = np.abs(values["scales"]), values["rolling_variance"]
    finite = np.all([np.isfinite(array) for array in values.values()], axis=0)
    middle = _median(variance[finite])
    dead = finite & (scales <= DEAD * _median(scales[finite]))
    c = layer.convention
    outweighed = c.epsilon**2 if c.epsilon_outside else c.epsilon
    return LayerInspection(
        index=index,
        type=type,
        part=part,
        channels=len(scales),
        **{name: Distribution.of(array) for name, array in values.items()},
        dead=_channels(dead),
        collapsed=_channels(finite & (variance >= 0) & (variance < max(COLLAPSED * middle, outweighed))),
        exploding=_channels(finite & (variance > EXPLODING * middle) & (middle > 0)),
        negative=_channels(finite & (variance < 0)),
        not_finite=_channels(~finite),
        untrained=bool(np.all(variance == c.initial_rolling_variance) and not values["rolling_mean"].any()),
        folding=_folding(layer, dead) if hasattr(layer, "weights") else None,
        values=values,
    )


def _folding(layer: Layer, dead: np.ndarray[Any, Any]) -> FoldingEffect:
    factor = np.abs(normalization(layer)[0])
    live = factor[~dead & np.isfinite(factor) & (factor > 0)]
    known = np.where(np.isfinite(factor), factor, -1)
    order = np.argsort(-known, kind="stable")[:NAMED]
    weights, _ = folded_parameters(layer)
    return FoldingEffect(
        before=_largest(to_host(layer.weights)),
        after=_largest(to_host(weights)),
        amplified=tuple((int(c), float(factor[c])) for c in order if known[c] >= 0),
        ratio=float(live.max() / live.min()) if live.size else float("nan"),
    )


def _largest(values: Any) -> float:
    finite = np.abs(values)[np.isfinite(values)]
    return float(finite.max()) if finite.size else float("nan")


def _median(values: np.ndarray[Any, Any]) -> float:
    return float(np.median(values)) if values.size else 0.0


def _channels(mask: np.ndarray[Any, Any]) -> tuple[int, ...]:
    return tuple(int(c) for c in np.flatnonzero(mask))


def _finite(value: Any) -> Any:
    """The same for JSON, which has no NaN and no infinity."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
