"""Backward passes checked by finite differences, in float64 on the reference backend.

The objective is sum(d * output) with random d; where a network ends in losses or detection layers, whose deltas are no
derivatives of what they output, it is the same sum over what goes into them. For each element that is checked, the
gradient of the backward pass is compared with

    (objective(value + step) - objective(value - step)) / (2 * step)

Where that disagrees, smaller steps are tried: the objective may have a kink (leaky, maxpool) between the two points.

A convention of batch normalization may have a gradient that is not the derivative of its forward pass. Then the
derivative is what is checked, and the difference of the two is reported as the convention's own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from darkbn.backend import get_backend
from darkbn.build import build_layers
from darkbn.conventions import BatchNormConvention, GradientConstants, get_convention
from darkbn.errors import ShapeError, UnsupportedError
from darkbn.layers.base import UPDATES, Layer, Role
from darkbn.network import Network
from darkbn.signature import Array
from darkbn.state import NetworkState
from darkbn.training import frozen_layers

#: Derivatives are compared relative to the largest one of their array, or to this where all are smaller.
FLOOR = 1e-3

#: Parts of the step that are tried after the whole.
_SHORTER = (1.0, 0.1, 0.01)


@dataclass(frozen=True)
class GradientRow:
    """One array of which the gradient was checked.

    Attributes:
        layer, type: of which layer; None and "" for the input of all.
        array: name of the array ("weights", "input_layer.biases", "input").
        size, checked: elements it has; elements compared.
        scale: the largest derivative among those, or FLOOR.
        error: largest difference between backward pass and finite differences, relative to scale.
        own: largest difference between the convention's gradient and the derivative, among all elements, relative to
            the largest derivative of all.
        own_divisor: the part of it from differentiating the variance as if divided by another number.
        own_epsilon: the part of it from other epsilons, or other places of them, than forward.
    """

    layer: int | None
    type: str
    array: str
    size: int
    checked: int
    scale: float
    error: float
    own: float = 0.0
    own_divisor: float = 0.0
    own_epsilon: float = 0.0

    @property
    def name(self) -> str:
        """As in: weights of layer 3 [convolutional]."""
        return self.array if self.layer is None else f"{self.array} of layer {self.layer} [{self.type}]"


@dataclass(frozen=True)
class GradientReport:
    """What `gradcheck` returns; `str()` of it is a table.

    Attributes:
        rows: the arrays, the input first.
        convention: name of the convention of batch normalization.
        tolerance: errors above it are failures.
    """

    rows: tuple[GradientRow, ...]
    convention: str
    tolerance: float

    @property
    def failures(self) -> tuple[GradientRow, ...]:
        """The rows whose error is above the tolerance, or is NaN."""
        return tuple(row for row in self.rows if not row.error <= self.tolerance)

    @property
    def passed(self) -> bool:
        """Whether there are none."""
        return not self.failures

    HEADINGS = ("", "layer", "gradient", "of", "checked", "largest", "error", "own", "1/N", "epsilon", "")
    #: Columns of numbers.
    RIGHT = (0, *range(3, 10))

    def cells(self) -> list[tuple[str, ...]]:
        """The rows as text, one cell per heading."""
        return [
            (
                "" if row.layer is None else str(row.layer),
                row.type,
                row.array,
                str(row.size),
                str(row.checked),
                f"{row.scale:.3g}",
                f"{row.error:.1e}",
                *(f"{part:.1e}" if part else "" for part in (row.own, row.own_divisor, row.own_epsilon)),
                "WRONG" if row in self.failures else "",
            )
            for row in self.rows
        ]

    @property
    def lines(self) -> tuple[str, ...]:
        """What is true of all rows."""
        found = [f"batch normalization: {self.convention}"]
        if any(row.own for row in self.rows):
            found.append("own: distance of the convention's gradient from the derivative, which is checked")
        if self.failures:
            found.append(
                f"{len(self.failures)} of {len(self.rows)} gradients are wrong: error above {self.tolerance:g}"
            )
        else:
            found.append(f"all agree: no error above {self.tolerance:g} of the largest derivative of an array")
        return tuple(found)

    def __str__(self) -> str:
        table = [self.HEADINGS, *self.cells()]
        widths = [max(len(row[column]) for row in table) for column in range(len(self.HEADINGS))]
        aligned = (
            "  ".join(
                cell.rjust(width) if column in self.RIGHT else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in table
        )
        return "\n".join([*aligned, *self.lines])


def gradcheck(
    subject: Network | Layer,
    x: Any = None,
    *,
    batchnorm: str | BatchNormConvention | None = None,
    seed: int = 0,
    samples: int = 12,
    step: float = 1e-5,
    tolerance: float = 1e-6,
    perturb: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> GradientReport:
    """Check the backward pass of a network or of a layer; it is left as it is, copies do the work.

    Args:
        subject: the network, or a layer that needs no other one.
        x: input; random by default.
        batchnorm: convention of batch normalization; None: the subject's.
        seed: of the input, of d, and of layers that draw random numbers (the same in every pass).
        samples: how many elements of each array are compared, spread over it.
        step: of the differences.
        tolerance: what error is accepted.
        perturb: deviation of random numbers that are added to the parameters: untrained ones are often all alike.
        progress: called with the number of arrays done and that of all.

    Raises:
        UnsupportedError: it cannot be trained.
        ShapeError: x has the wrong shape.
    """
    convention = get_convention(batchnorm) if batchnorm is not None else _convention(subject)
    graph = _Graph.build(subject, _derivative(convention), seed, perturb)
    graph.set_input(x)
    graph.forward()
    exact = graph.backward()
    parts = _own_parts(subject, convention, graph, exact, seed, perturb)
    rows, clean = [], 0
    for number, (key, entry) in enumerate(exact.items()):
        if progress is not None:
            progress(number, len(exact))
        if key[0] > clean:  # differences left their mark on the outputs from there on
            graph.forward(clean)
            clean = key[0]
        rows.append(_row(graph, key, entry, (samples, step, tolerance), parts.get(key, (0.0, 0.0, 0.0))))
    if progress is not None:
        progress(len(exact), len(exact))
    return GradientReport(tuple(rows), convention.name, tolerance)


def differences(
    function: Callable[[], float], array: Array, limit: int = 12, step: float = 1e-5
) -> Iterator[tuple[int, float]]:
    """Central differences of a function by elements of an array, spread over it: (flat index, derivative)."""
    for index in _spread(array.size, limit):
        yield index, _difference(function, array.reshape(-1), index, step)


def _spread(size: int, samples: int) -> range:
    return range(0, size, max(1, size // samples))


def _difference(function: Callable[[], float], flat: Array, index: int, step: float) -> float:
    value = flat[index]
    flat[index] = value + step
    above = function()
    flat[index] = value - step
    below = function()
    flat[index] = value
    return (above - below) / (2 * step)


# -- conventions -------------------------------------------------------------------------------------------------------


def _convention(subject: Network | Layer) -> BatchNormConvention:
    return subject.convention if isinstance(subject, Network) else subject.context.convention


def _derivative(c: BatchNormConvention) -> BatchNormConvention:
    """The same forward pass with the derivative as its gradient."""
    return dataclasses.replace(
        c,
        gradient=None,
        darknet_through_time=False,
        trains_biases=True,
        trains_biases_connected=None,
        trains_scales=True,
    )


def _with_divisor(c: BatchNormConvention) -> BatchNormConvention:
    """The derivative, but for the number that the variance is divided by."""
    exact = _derivative(c)
    constants = dataclasses.replace(exact.gradient_constants(), ddof=c.gradient_constants().ddof)
    return dataclasses.replace(exact, gradient=constants)


def _with_epsilons(c: BatchNormConvention) -> BatchNormConvention:
    """The same with the convention's epsilons, too: what is still missing is not in the formula."""
    constants: GradientConstants = c.gradient_constants()
    return dataclasses.replace(_derivative(c), gradient=constants)


def _own_parts(
    subject: Network | Layer,
    c: BatchNormConvention,
    exact_graph: _Graph,
    exact: dict[_Key, _Entry],
    seed: int,
    perturb: float,
) -> dict[_Key, tuple[float, float, float]]:
    """How far the convention's gradient is from the derivative: in all, from the divisor, from the epsilons."""
    if c == _derivative(c):
        return {}
    found = [exact]
    for variant in (_with_divisor(c), _with_epsilons(c), c):
        graph = _Graph.build(subject, variant, seed, perturb)
        graph.set_input(exact_graph.x)
        graph.forward()
        found.append(graph.backward())

    def distance(key: _Key, one: int, other: int) -> float:
        scale = max(np.abs(exact[key].gradient).max(initial=0), FLOOR)
        return float(np.abs(found[one][key].gradient - found[other][key].gradient).max(initial=0) / scale)

    return {key: (distance(key, 3, 0), distance(key, 1, 0), distance(key, 2, 1)) for key in exact}


# -- passes ------------------------------------------------------------------------------------------------------------

#: Layer index (-1: the input) and name of an array.
_Key = tuple[int, str]


@dataclass(frozen=True)
class _Entry:
    """An array, and the gradient of the objective by it that the backward pass found."""

    array: Array
    gradient: Array


#: What random numbers are for: streams that have nothing to do with each other.
_X, _D, _LAYERS, _PERTURB = range(1, 5)


def _numbers(seed: int, *purpose: int) -> np.random.Generator:
    return np.random.default_rng((*purpose[:1], seed, *purpose[1:]))


class _Graph:
    """Layers on the reference backend, an input, and the objective."""

    def __init__(self, layers: Sequence[Layer], shape: tuple[int, ...], dialect: str, seed: int) -> None:
        self.layers, self.shape = layers, shape
        self.frozen = frozen_layers(layers, dialect, 0)
        self.x = _numbers(seed, _X).standard_normal(shape)
        self._seed = seed
        self._state = NetworkState(layers=layers, train=True)
        self._losses = {i for i, l in enumerate(layers) if l.has_cost or l.is_head}
        # d of each layer's output that the objective weighs.
        self._weights = {
            i: _numbers(seed, _D, i).standard_normal(layers[i].output.shape) for i in self._choose_targets()
        }
        self._rngs: list[Any] = []

    @classmethod
    def build(cls, subject: Network | Layer, convention: BatchNormConvention, seed: int, perturb: float) -> _Graph:
        """A copy of a network or layer with another convention."""
        backend = get_backend("reference")
        if isinstance(subject, Network):
            layers = build_layers(
                subject.cfg,
                subject.options,
                backend=backend,
                dialect=subject.dialect,
                convention=convention,
                batch=subject.options.batch,
                warnings=[],
            )
            if (layers[0].w, layers[0].h) != (subject.width, subject.height) and subject.width:
                _resize(layers, subject)
            originals, shape, dialect = subject.layers, subject.input_shape, subject.dialect
        else:
            context = dataclasses.replace(subject.context, backend=backend, convention=convention, layers=(), index=0)
            layers = [type(subject)(subject.options, context)]
            originals, dialect = [subject], subject.context.dialect
            image = subject.h and subject.w and subject.c
            shape = (subject.batch, *((subject.c, subject.h, subject.w) if image else (subject.inputs,)))
        _require_trainable(layers)
        _copy_parameters(originals, layers, _numbers(seed, _PERTURB), perturb)
        return cls(layers, shape, dialect, seed)

    def set_input(self, x: Any) -> None:
        """Take an input instead of a random one."""
        if x is None:
            return
        if np.size(x) != self.x.size:
            raise ShapeError(f"gradcheck: x must have shape {self.shape}, found {np.shape(x)}")
        self.x = np.array(x, np.float64).reshape(self.shape)

    def _choose_targets(self) -> list[int]:
        """The layers whose outputs the objective weighs: the last one, or those before losses."""
        last = len(self.layers) - 1
        ends = [i - 1 for i in sorted(self._losses) if i and i - 1 not in self._losses]
        return ends if last in self._losses else [*ends, last]

    def forward(self, start: int = 0) -> float:
        """The objective; layers before `start` keep what they have."""
        state = self._state
        state.rng = _numbers(self._seed, _LAYERS)
        if start == 0:
            self._rngs = []
        else:
            state.rng.bit_generator.state = self._rngs[start]
        state.input = self.layers[start - 1].output if start else self.x
        for state.index in range(start, len(self.layers)):
            layer = self.layers[state.index]
            if start == 0:
                self._rngs.append(state.rng.bit_generator.state)
            state.frozen = self.frozen[state.index]
            if state.index not in self._losses:
                layer.forward(state)
            state.input = layer.output
        return float(sum((d * self.layers[i].output).sum() for i, d in self._weights.items()))

    def backward(self) -> dict[_Key, _Entry]:
        """Gradients after a forward pass; those of arrays that get none are left out."""
        state = self._state
        for layer in self.layers:
            layer.delta.fill(0)
        for i, d in self._weights.items():
            self.layers[i].delta[...] = d
        input_delta: Any = np.zeros(self.shape)
        for index in range(len(self.layers) - 1, -1, -1):
            layer = self.layers[index]
            if index in self._losses or self.frozen[index]:
                continue
            state.index = index
            state.input = self.layers[index - 1].output if index else self.x
            state.delta = self.layers[index - 1].delta if index else input_delta
            layer.backward(state)
        found = {} if self.frozen[0] else {(-1, "input"): _Entry(self.x, input_delta)}
        return found | self._updates()

    def _updates(self) -> dict[_Key, _Entry]:
        """The accumulated updates of the layers that learn; arrays that layers share once."""
        found, seen = {}, set()
        for index, layer in enumerate(self.layers):
            if index in self._losses or self.frozen[index]:
                continue
            for prefix, part in layer.walk():
                for parameter, updates, *_ in UPDATES:
                    if updates not in part.__dict__ or id(getattr(part, parameter)) in seen:
                        continue
                    seen.add(id(getattr(part, parameter)))
                    entry = _Entry(getattr(part, parameter), getattr(part, updates).copy())
                    found[index, prefix + parameter] = entry
        return found


def _resize(layers: Sequence[Layer], net: Network) -> None:
    """Give the layers the sizes of a network that was resized."""
    w, h, c, inputs = net.width, net.height, net.channels, net.inputs
    for layer in layers:
        layer.reshape(w, h, c, inputs)
        w, h, c, inputs = layer.out_w, layer.out_h, layer.out_c, layer.outputs


def _require_trainable(layers: Sequence[Layer]) -> None:
    reasons = [f"layer {i} [{layer.type}] {text}" for i, layer in enumerate(layers) for text in layer.untrainable()]
    if reasons:
        raise UnsupportedError("gradcheck: there is no backward pass: " + "; ".join(reasons))


def _copy_parameters(
    originals: Sequence[Layer], copies: Sequence[Layer], rng: np.random.Generator, perturb: float
) -> None:
    for original, layer in zip(originals, copies, strict=True):
        layer.allocate(True)
        for (_, old), (_, new) in zip(original.walk(), layer.walk(), strict=True):
            for buffer in new.buffers():
                if buffer.role in (Role.PARAMETER, Role.STATISTIC):
                    getattr(new, buffer.name)[...] = getattr(old, buffer.name)
                if buffer.role is Role.PARAMETER and perturb:
                    getattr(new, buffer.name)[...] += perturb * rng.standard_normal(buffer.shape)


def _row(
    graph: _Graph,
    key: _Key,
    entry: _Entry,
    how: tuple[int, float, float],
    own: tuple[float, float, float],
) -> GradientRow:
    """Compare one array's gradient with differences."""
    samples, step, tolerance = how
    start, flat = max(key[0], 0), entry.array.reshape(-1)
    indexes = _spread(flat.size, samples)
    computed = entry.gradient.reshape(-1)[indexes.start : indexes.stop : indexes.step]

    def objective() -> float:
        return graph.forward(start)

    expected = np.array([_difference(objective, flat, index, step) for index in indexes])
    scale = max(float(np.abs(expected).max(initial=0)), FLOOR)
    errors = np.abs(computed - expected)
    for place, index in enumerate(indexes):
        for part in _SHORTER[1:]:
            if errors[place] <= tolerance * scale:
                break
            again = _difference(objective, flat, index, part * step)
            errors[place] = min(errors[place], abs(computed[place] - again))
    layer = None if key[0] < 0 else graph.layers[key[0]]
    return GradientRow(
        layer=None if layer is None else key[0],
        type="" if layer is None else layer.type,
        array=key[1],
        size=flat.size,
        checked=len(indexes),
        scale=scale,
        error=float(errors.max(initial=0) / scale),
        own=own[0],
        own_divisor=own[1],
        own_epsilon=own[2],
    )
