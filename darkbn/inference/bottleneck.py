"""Depthwise convolutions take the 1x1 convolutions around them into one operation, whose kernel keeps what lies between
them in the caches (`darkbn.reference.blocked_bottleneck`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from darkbn.activations import mixes_channels
from darkbn.geometry import MAX_BOTTLENECK
from darkbn.inference.algorithms import BANDWIDTH, PEAK, depthwise_cost, gemm_cost
from darkbn.inference.program import INPUT, Bottleneck, Geometry, Op, Program

#: Seconds of all threads that an operation costs besides its work.
STEP = 15e-6

#: Tells whether one operation is faster than those that it is made of.
Pays = Callable[[Bottleneck], bool]


@dataclass
class _Search:
    """A program while it is searched; `ops` loses what became part of a bottleneck.

    Attributes:
        readers, producers, wanted: as those of the program.
    """

    program: Program
    ops: list[Op | None]
    readers: dict[int, list[int]]
    producers: dict[int, int]
    wanted: frozenset[int]

    def alone(self, tensor: int, *positions: int) -> bool:
        """Whether a tensor is read at these positions only."""
        return tensor not in self.wanted and self.readers[tensor] == list(positions)

    def producer(self, tensor: int) -> Op | None:
        """The operation that writes a tensor, unless it became part of a bottleneck."""
        position = self.producers[tensor]
        return self.ops[position] if position >= 0 else None

    def reader(self, tensor: int) -> Op | None:
        """The operation that alone reads a tensor which nobody else wants."""
        positions = self.readers[tensor]
        return self.ops[positions[0]] if len(positions) == 1 and self.alone(tensor, *positions) else None

    def expansion(self, depthwise: Op) -> Op | None:
        """The 1x1 convolution that only the depthwise one reads."""
        tensor = depthwise.reads[0]
        op = self.producer(tensor) if self.reader(tensor) is depthwise else None
        return op if op is not None and _is_point(op) and len(op.reads) == 1 and op.reads[0] != INPUT else None

    def projection(self, tensor: int) -> Op | None:
        """The 1x1 convolution that alone reads a tensor."""
        op = self.reader(tensor)
        fits = op is not None and _is_point(op) and op.reads[0] == tensor and tensor not in op.reads[1:]
        return op if fits else None

    def scaling(self, depthwise: Op) -> tuple[Op, ...]:
        """Means, the 1x1 convolutions of squeeze and excitation, and the product, where they follow; else nothing."""
        tensor = depthwise.writes
        positions = self.readers[tensor]
        if len(positions) != 2 or not self.alone(tensor, *positions):
            return ()
        means, product = self.ops[positions[0]], self.ops[positions[1]]
        if means is None or product is None or (means.kind, product.kind) != ("avgpool", "scale_channels"):
            return ()
        squeeze = self.projection(means.writes)
        excite = self.projection(squeeze.writes) if squeeze is not None else None
        if squeeze is None or excite is None or len(squeeze.reads) + len(excite.reads) > 2:
            return ()
        fits = product.reads == (excite.writes, tensor) and self.reader(excite.writes) is product
        return (means, squeeze, excite, product) if fits and not mixes_channels(product.arguments) else ()

    def replace(self, chosen: Bottleneck, parts: tuple[Op, ...]) -> None:
        """Put a bottleneck in the place of the last of the operations that it is made of."""
        positions = [self.producers[op.writes] for op in parts]
        for position in positions:
            self.ops[position] = None
        layers = tuple(layer for op in parts for layer in op.layers)
        reads = (parts[0].reads[0], *(parts[-1].reads[1:] if chosen.project is not None else ()))
        self.ops[max(positions)] = Op("bottleneck", reads, parts[-1].writes, layers, None, chosen)


def fuse_bottlenecks(program: Program, pays: Pays) -> Program:
    """A depthwise convolution, the 1x1 convolution that it alone reads, and the 1x1 convolution that alone reads it
    become one operation, "bottleneck", where that pays; else, the first or the last two of them.

    Squeeze and excitation between the last two (means, two 1x1 convolutions, a product by channels) become part of it,
    too. Inside there must be neither a residual nor an activation over channels, and no output that is wanted.
    """
    search = _Search(program, list(program.ops), program.readers(), program.producers(), program.wanted())
    for op in program.ops:
        if search.producer(op.writes) is op and _is_depthwise(op):
            found = next(((b, parts) for b, parts in _choices(search, op) if pays(b)), None)
            if found is not None:
                search.replace(*found)
    return program.with_ops(op for op in search.ops if op is not None)


def _choices(search: _Search, op: Op) -> list[tuple[Bottleneck, tuple[Op, ...]]]:
    """What a depthwise convolution could become with which operations, the most first."""
    first, scaling = search.expansion(op), search.scaling(op)
    last = search.projection(scaling[-1].writes if scaling else op.writes)
    before = () if first is None else (first,)
    found = []
    if last is not None:
        squeezing = (scaling[1], scaling[2], scaling[3].arguments) if scaling else ()
        found.append((Bottleneck(first, op, last, *squeezing), (*before, op, *scaling, last)))
    if first is not None:
        found.append((Bottleneck(first, op, None), (first, op)))
        if last is not None and not scaling:
            found.append((Bottleneck(None, op, last), (op, last)))
    return found


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


def repeated(b: Bottleneck, threads: int) -> float:
    """The share of the expansion that is computed again: rows that two bands, one a thread, read.

    Where the map in the middle is kept, threads share its channels instead."""
    g: Geometry = b.depthwise.arguments.geometry
    if b.expand is None or b.project is None or b.squeeze is not None or g.batch % threads == 0:
        return 0.0
    return (min(threads, g.out_h) - 1) * max(g.size - g.stride_y, 0) / max(g.h, 1)


def estimated(b: Bottleneck, threads: int) -> tuple[float, float]:
    """Seconds of one core, roughly: of one operation, and of several.

    Several read and write the maps between them, and each is begun by one thread and ended by the last of them.
    """
    g: Geometry = b.depthwise.arguments.geometry
    points = sum(gemm_cost(part.arguments.geometry) for part in b.parts if part is not b.depthwise)
    one, several = points + g.flops / (0.6 * PEAK), points + depthwise_cost(g)
    if b.expand is not None:
        several += STEP + 2 * 4 * g.batch * g.c * g.h * g.w / BANDWIDTH
        one += repeated(b, threads) * gemm_cost(b.expand.arguments.geometry)
    if b.project is not None:
        several += STEP + 2 * 4 * g.batch * g.n * g.out_h * g.out_w / BANDWIDTH
    if b.squeeze is not None:
        several += 4 * STEP + 2 * 4 * g.batch * g.n * g.out_h * g.out_w / BANDWIDTH
    return one, several


def pays_by_estimate(threads: int) -> Pays:
    """Whether one operation should be faster than several."""

    def pays(b: Bottleneck) -> bool:
        one, several = estimated(b, threads)
        return one < several

    return pays
