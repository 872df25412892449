"""The NaN guard: training stops at the first NaN or infinity and says where it comes from.

While all is well it looks at the cost after each pass and goes through the updates before each step; only when a value
is not finite it looks for the first array that has one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from darkbn.backend import to_host
from darkbn.errors import NonFiniteError
from darkbn.layers.base import Layer, Role

if TYPE_CHECKING:
    from darkbn.network import Network

_STEP = "lower learning_rate, a longer burn_in or clip= keep steps smaller"
_HINTS = {"input": "the data are wrong", "truth": "the labels are wrong", "weights": f"a step made it so: {_STEP}"}


def check_cost(net: Network) -> None:
    """Raise NonFiniteError, naming the first array at fault, when the cost of the last pass is NaN or infinite."""
    if net.cost is not None and not math.isfinite(net.cost):
        raise culprit(net)


def check_updates(net: Network) -> None:
    """Raise NonFiniteError, naming the first array at fault, when an update that is to be applied is not finite."""
    count, together = net.backend.empty((1,), "int64"), net.backend.together
    layers = [layer for layer, frozen in zip(net.layers, net.frozen, strict=True) if not frozen]
    updates = [getattr(part, name).reshape(-1) for layer in layers for _, part in layer.walk() for name in part.updates]
    if together is not None:
        together.nonfinite(updates, count)
        if int(count[0]):
            raise culprit(net)
        return
    for array in updates:
        net.backend.optimizer.nonfinite(array, count, net.threads)
        if int(count[0]):
            raise culprit(net)


def culprit(net: Network) -> NonFiniteError:
    """The error about the first array, in the order of computation, that is not finite."""
    iteration = net.completed + 1
    for index, kind, name, array in _in_order(net):
        bad = ~np.isfinite(to_host(array))
        count = int(bad.sum())
        if not count:
            continue
        where = f"layer {index} [{kind}] {name}" if index is not None else name
        first = tuple(map(int, np.argwhere(bad)[0]))
        what = f"{count} of {bad.size} values are NaN or infinite, the first at {first}" if bad.ndim else f"is {array}"
        hint = _HINTS.get(name.rpartition(".")[2], _STEP)
        text = f"{net.cfg.file}: iteration {iteration}: {where}: {what}; {hint}"
        return NonFiniteError(text, iteration=iteration, layer=index, type=kind, array=name)
    return NonFiniteError(f"{net.cfg.file}: iteration {iteration}: the cost is {net.cost}", iteration=iteration)


def _in_order(net: Network) -> Iterator[tuple[int | None, str | None, str, Any]]:
    """Layer, its type, name and values of all arrays of a training pass, in the order of their computation."""
    state = net._state
    yield None, None, "input", net._last_input
    if net._last_truth is not None:
        yield None, None, "truth", net._last_truth
    for index, layer in enumerate(net.layers):
        yield from _named(index, layer, Role.PARAMETER, Role.STATISTIC)
        yield from _named(index, layer, only="output")
        if layer.cost is not None:
            yield index, layer.type, "cost", np.asarray(layer.cost)
    if state.train:
        for index in reversed(range(len(net.layers))):
            yield from _named(index, net.layers[index], only="delta")
            yield from _named(index, net.layers[index], Role.UPDATE)


def _named(index: int, layer: Layer, *roles: Role, only: str | None = None) -> Iterator[tuple[int, str, str, Any]]:
    for prefix, part in layer.walk():
        for buffer in part.all_buffers():
            if buffer.role in roles or buffer.name == only:
                yield index, layer.type, prefix + buffer.name, getattr(part, buffer.name)
