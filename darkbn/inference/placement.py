"""Which tensors share memory: parts of a concatenation are written where they end up, slices are read where they are.

A tensor is either a *root*, which gets memory of its own, or lies inside another one from some channel on. What cannot
be placed is copied.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from darkbn.inference.program import INPUT, LANES, Concat, Layout, Op, Program, Tensor


@dataclass(frozen=True)
class Place:
    """Where a tensor lies: in the tensor `root`, `start` values (plain) or channels (blocked) of a sample from its
    beginning. A root lies in itself, at 0."""

    root: int
    start: int = 0


@dataclass(frozen=True)
class Copy:
    """Arguments of "copy_part": `count` values (blocked: channels) of reads[0] from `source_start` on go to
    `start` of the tensor that is written."""

    source_start: int
    start: int
    count: int


@dataclass(frozen=True)
class Placed:
    """A program with what is copied spelled out, and the place of every tensor.

    `ops` may write one tensor several times, part by part: "concat" has become "copy_part" operations.
    """

    program: Program
    ops: tuple[Op, ...]
    places: dict[int, Place]


def place(program: Program) -> Placed:
    """Place every tensor; concatenations become copies of the parts that could not be placed."""
    inside: dict[int, Place] = {}
    ops: list[Op] = []
    for op in program.ops:
        ops += _place_concat(program, op, inside) if op.kind == "concat" else [op]
    for position, op in enumerate(program.ops):
        reused = _reusable(program, position, inside)
        if reused is not None:
            inside[op.writes] = Place(reused)
    places = {tensor: _resolve(tensor, inside) for tensor in program.tensors}
    return Placed(program, tuple(ops), places)


def _resolve(tensor: int, inside: dict[int, Place]) -> Place:
    start = 0
    while tensor in inside:
        start += inside[tensor].start
        tensor = inside[tensor].root
    return Place(tensor, start)


#: Which of the tensors that it reads an operation may overwrite, in the blocked layout: kernels of the plain layout add
#: in a second sweep. A convolution overwrites what it adds, not what it is of.
_OVERWRITES = {"convolution": 1, "bottleneck": 1, "add": 0, "add_unequal": 0, "activation": 0}


def _reusable(program: Program, position: int, inside: dict[int, Place]) -> int | None:
    """The tensor whose memory an operation can take over, because nothing there is read later."""
    op = program.ops[position]
    which = _OVERWRITES.get(op.kind, len(op.reads))
    if which >= len(op.reads) or op.writes in inside or op.writes in program.wanted():
        return None
    if program.tensors[op.writes].layout is Layout.PLAIN:
        return None
    target, readers = op.reads[which], program.readers()
    place = _resolve(target, inside)
    members = [tensor for tensor in program.tensors if _resolve(tensor, inside).root == place.root]
    kept = {INPUT, *op.reads[:which], *op.reads[which + 1 :], *program.wanted()}
    free = not kept & set(members) and all(max(readers[member], default=-1) <= position for member in members)
    same = place.start == 0 and program.tensors[place.root] == program.tensors[op.writes]
    return place.root if free and same else None


def _units(tensor: Tensor, values: int) -> int:
    """Values of a plain tensor's sample, as what `Place.start` counts."""
    return values // (tensor.height * tensor.width) if tensor.layout is Layout.BLOCKED else values


def _place_concat(program: Program, op: Op, inside: dict[int, Place]) -> list[Op]:
    """Put the parts into the output where that is possible; returns the copies of the others."""
    arguments: Concat = op.arguments
    out, copies = program.tensors[op.writes], []
    if len(op.reads) == 1 and _sliceable(program, op, inside):
        inside[op.writes] = Place(op.reads[0], _units(out, arguments.starts[0]))
        return []
    for part, start, count, at in zip(op.reads, arguments.starts, arguments.counts, arguments.places, strict=True):
        source = program.tensors[part]
        first, start_there, length = _units(source, start), _units(out, at), _units(out, count)
        if length == _units(source, source.values) and _placeable(program, part, op, start_there, inside):
            inside[part] = Place(op.writes, start_there)
        else:
            copies.append(replace(op, kind="copy_part", reads=(part,), arguments=Copy(first, start_there, length)))
    return copies


def _sliceable(program: Program, op: Op, inside: dict[int, Place]) -> bool:
    """Whether a slice of one tensor can be read where it is."""
    out, source = program.tensors[op.writes], program.tensors[op.reads[0]]
    if op.writes in program.wanted():
        return False
    if out.layout is Layout.PLAIN:
        return out.batch == 1
    return _units(source, op.arguments.starts[0]) % LANES == 0


def _placeable(program: Program, part: int, op: Op, start: int, inside: dict[int, Place]) -> bool:
    """Whether a tensor can be written straight into a concatenation, from `start` on."""
    out, source = program.tensors[op.writes], program.tensors[part]
    if part in inside or part == INPUT or part in program.wanted():
        return False
    if out.layout is Layout.PLAIN:
        return out.batch == 1
    # Its producer overwrites whole blocks: a part block may be followed by nothing but the end.
    whole = source.channels % LANES == 0 or start + source.channels == out.channels
    return start % LANES == 0 and whole


def lifetimes(placed: Placed, wanted: Iterable[int] = ()) -> dict[int, tuple[int, int]]:
    """First and last step (positions in `ops`) in which each root is needed. The input is needed from step 0 on."""
    first: dict[int, int] = {INPUT: 0}  # it has a place even where nobody reads it
    last: dict[int, int] = {INPUT: 0}
    kept = set(wanted)
    for position, op in enumerate(placed.ops):
        for tensor in (*op.reads, op.writes):
            root = placed.places[tensor].root
            first.setdefault(root, 0 if tensor == INPUT else position)
            last[root] = position
    for tensor in kept:
        last[placed.places[tensor].root] = len(placed.ops) - 1
    return {root: (first[root], last[root]) for root in first}
