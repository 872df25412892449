"""What the kernels of darkbn.reference.optimizer do with one parameter, for all parameters of a network in one launch.

The arrays lie anywhere: a table that goes up with the launch says where (`Row` in kernels/together.cu).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from darkbn.backend import address
from darkbn.signature import Array
from darkbn_gpu.launch import MOST_BLOCKS, beside, launch

if TYPE_CHECKING:
    from darkbn.state import UpdateArgs
    from darkbn.steps import ParameterStep

#: Values that a block takes at a time (CHUNK of together.cu).
CHUNK = 4096

_ROW = np.dtype(
    [("arrays", "i8", 4), ("count", "i8"), ("start", "i8"), ("rate", "f8"), ("decay", "f8"), ("bound", "f8")]
)


def _launch(kernel: str, rows: Iterable[tuple[Sequence[Array], float, float, float]], *args: Any) -> None:
    """Run a kernel over a table of (arrays of equal size, rate, decay, bound)."""
    found = [row for row in rows if row[0][0].size]
    if not found:
        return
    table = np.zeros(len(found), _ROW)
    chunks = 0
    for entry, (arrays, *numbers) in zip(table, found, strict=True):
        entry["arrays"][: len(arrays)] = [address(array) for array in arrays]
        entry["count"], entry["start"] = arrays[0].size, chunks
        entry["rate"], entry["decay"], entry["bound"] = numbers
        chunks += -(-arrays[0].size // CHUNK)
    there = beside(found[0][0][0], table.view("i8"))
    launch("together", kernel, min(chunks, MOST_BLOCKS), there, len(found), chunks, *args)


def take_steps(steps: Sequence[ParameterStep], args: UpdateArgs) -> None:
    """`darkbn.steps.take_step` for many parameters, no two of which share memory."""
    adam = args.adam
    if adam is None:
        rows = [((s.weights, s.updates), s.rate, s.decay, s.bound) for s in steps]
        _launch("together_sgd", rows, float(args.momentum))
        return
    first, second = 1 - adam.B1**adam.t, 1 - adam.B2**adam.t
    rules = [np.float64(number) for number in (adam.B1, adam.B2, adam.eps, 1 / second)]
    rows = [((s.weights, s.updates, *s.moments), s.rate / first, s.decay, s.bound) for s in steps]
    _launch("together_adam", rows, *rules)


def average(pairs: Iterable[tuple[Array, Array]], alpha: float) -> None:
    """`optimizer.average` for many pairs of values and averages."""
    _launch("together_average", [((values, averages), 0, 0, 0) for values, averages in pairs], 1.0 - alpha)


def nonfinite(arrays: Iterable[Array], count: Array) -> None:
    """count = how many values of all arrays are NaN or infinite."""
    count.fill(0)
    _launch("together_nonfinite", [((array,), 0, 0, 0) for array in arrays], count)
