"""Depthwise convolutions take the 1x1 convolutions around them into one operation, whose kernel keeps what lies between
them in the caches (`darkbn.reference.blocked_bottleneck`)."""

from __future__ import annotations

from collections.abc import Callable

from darkbn.activations import mixes_channels
from darkbn.geometry import MAX_BOTTLENECK
from darkbn.inference.algorithms import BANDWIDTH, PEAK, depthwise_cost, gemm_cost
from darkbn.inference.program import INPUT, Bottleneck, Geometry, Op, Program

#: Tells whether one operation is faster than those that it is made of.
Pays = Callable[[Bottleneck], bool]


def fuse_bottlenecks(program: Program, pays: Pays) -> Program:
    """A depthwise convolution, the 1x1 convolution that it alone reads, and the 1x1 convolution that alone reads it
    become one operation, "bottleneck", where that pays; else, the first or the last two of them.

    Between them there must be neither a residual nor an activation over channels, and no output that is wanted.
    """
    ops: list[Op | None] = list(program.ops)
    readers, producers, wanted = program.readers(), program.producers(), program.wanted()
    for position, op in enumerate(program.ops):
        if ops[position] is None or not _is_depthwise(op):
            continue
        before, behind = producers[op.reads[0]], readers[op.writes]
        first = ops[before] if before >= 0 else None
        alone = op.reads[0] not in wanted and readers[op.reads[0]] == [position]
        if first is None or not (alone and _is_point(first) and len(first.reads) == 1 and first.reads[0] != INPUT):
            first = None
        last = ops[behind[0]] if len(behind) == 1 and op.writes not in wanted else None
        if last is None or not (_is_point(last) and last.reads[0] == op.writes and op.writes not in last.reads[1:]):
            last = None
        chosen = next((b for b in _choices(first, op, last) if pays(b)), None)
        if chosen is None:
            continue
        end = position if chosen.project is None else behind[0]
        for at in (before if chosen.expand else position, position, end):
            ops[at] = None
        ops[end] = _fused(chosen)
    return program.with_ops(op for op in ops if op is not None)


def _choices(first: Op | None, depthwise: Op, last: Op | None) -> list[Bottleneck]:
    """What could be made one operation, the most first."""
    found = []
    if first and last:
        found.append(Bottleneck(first, depthwise, last))
    if first:
        found.append(Bottleneck(first, depthwise, None))
    if last:
        found.append(Bottleneck(None, depthwise, last))
    return found


def _fused(b: Bottleneck) -> Op:
    parts = b.parts
    layers = tuple(layer for part in parts for layer in part.layers)
    return Op("bottleneck", (parts[0].reads[0], *parts[-1].reads[1:]), parts[-1].writes, layers, None, b)


def _is_depthwise(op: Op) -> bool:
    """Whether it is a depthwise convolution that the kernel computes."""
    if op.kind != "convolution" or len(op.reads) > 1 or op.reads[0] == INPUT:
        return False
    g: Geometry = op.arguments.geometry
    return g.groups == g.c == g.n > 1 and g.dilation == 1 and g.size <= MAX_BOTTLENECK and _is_pointwise(op)


def _is_point(op: Op) -> bool:
    """Whether it is a 1x1 convolution, pixel by pixel."""
    if op.kind != "convolution":
        return False
    g: Geometry = op.arguments.geometry
    plain = g.size == g.stride_x == g.stride_y == g.groups == 1 and g.pad == 0 and (g.h, g.w) == (g.out_h, g.out_w)
    return plain and _is_pointwise(op)


def _is_pointwise(op: Op) -> bool:
    """Whether its activations work on single values."""
    kinds = (op.arguments.activation, op.arguments.residual_activation)
    return not any(kind is not None and mixes_channels(kind) for kind in kinds)


def repeated(g: Geometry, threads: int) -> float:
    """The share of the expansion that bands, one a thread, compute again: rows that two bands read."""
    bands = 1 if g.batch % threads == 0 else min(threads, g.out_h)
    return (bands - 1) * max(g.size - g.stride_y, 0) / max(g.h, 1)


def estimated(b: Bottleneck, threads: int) -> tuple[float, float]:
    """Seconds of one core, roughly: of one operation, and of several."""
    g: Geometry = b.depthwise.arguments.geometry
    points = [part.arguments.geometry for part in (b.expand, b.project) if part is not None]
    several = sum(map(gemm_cost, points)) + depthwise_cost(g)
    one = sum(map(gemm_cost, points)) + g.flops / (0.6 * PEAK)
    if b.expand is not None:
        several += 2 * 4 * g.batch * g.c * g.h * g.w / BANDWIDTH
        one += repeated(g, threads) * gemm_cost(b.expand.arguments.geometry)
    if b.project is not None:
        several += 2 * 4 * g.batch * g.n * g.out_h * g.out_w / BANDWIDTH
    return one, several


def pays_by_estimate(threads: int) -> Pays:
    """Whether one operation should be faster than several."""

    def pays(b: Bottleneck) -> bool:
        one, several = estimated(b, threads)
        return one < several

    return pays
