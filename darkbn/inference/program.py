"""What lies between a network and its plan: operations on tensors, in the order in which they run.

A `Program` is plain data and never changes; every pass (`darkbn.inference.fuse`, `layout`, ...) makes a new one.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from darkbn.activations import Activation

if TYPE_CHECKING:
    from darkbn.layers.base import Layer

#: Tensor of the network's input.
INPUT = -1

#: Channels that lie side by side in the blocked layout.
LANES = 8


class Layout(enum.Enum):
    """How the values of a tensor lie in memory.

    PLAIN: (batch, channels, height, width). BLOCKED: (batch, blocks, height, width, LANES), channel c in lane c % LANES
    of block c // LANES; lanes beyond the last channel mean nothing.
    """

    PLAIN = "plain"
    BLOCKED = "blocked"


@dataclass(frozen=True)
class Tensor:
    """Sizes and layout of an array. Values without image shape are channels of one pixel."""

    batch: int
    channels: int
    height: int = 1
    width: int = 1
    layout: Layout = Layout.PLAIN

    @property
    def values(self) -> int:
        """Values of a sample."""
        return self.channels * self.height * self.width

    @property
    def blocks(self) -> int:
        """Groups of LANES channels; the last may be part full."""
        return -(-self.channels // LANES)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        if self.layout is Layout.BLOCKED:
            return (self.batch, self.blocks, self.height, self.width, LANES)
        return (self.batch, self.channels, self.height, self.width)

    @property
    def sample(self) -> int:
        """Floats that a sample takes in memory."""
        pixels = self.height * self.width
        return pixels * (self.blocks * LANES if self.layout is Layout.BLOCKED else self.channels)


@dataclass(frozen=True)
class Op:
    """One operation.

    Attributes:
        kind: what it does; decides which function makes it a step (`darkbn.inference.steps`).
        reads: tensors that it reads; the order has a meaning for each kind.
        writes: the tensor that it writes, whole.
        layers: indices of the layers that it computes.
        layer: the layer that its parameters are read from, None when there are none.
        arguments: what else the kind needs.
    """

    kind: str
    reads: tuple[int, ...]
    writes: int
    layers: tuple[int, ...]
    layer: Layer | None = None
    arguments: Any = None


@dataclass(frozen=True)
class Program:
    """Operations on tensors.

    Attributes:
        tensors: by number. The output of layer i is tensor i; INPUT is the network's input.
        ops: in order; a tensor is written before it is read, by one operation.
        outputs: tensors whose values are wanted, by the index of the layer that they belong to.
        external: tensors that live in the `output` of the layer with that index instead of in the plan's memory.
    """

    tensors: Mapping[int, Tensor]
    ops: tuple[Op, ...]
    outputs: Mapping[int, int]
    external: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))

    def readers(self) -> dict[int, list[int]]:
        """Positions in `ops` of the operations that read each tensor, once per operation."""
        found: dict[int, list[int]] = {tensor: [] for tensor in self.tensors}
        for position, op in enumerate(self.ops):
            for tensor in dict.fromkeys(op.reads):
                found[tensor].append(position)
        return found

    def producers(self) -> dict[int, int]:
        """Position in `ops` of the operation that writes each tensor; -1 for the input."""
        return {INPUT: -1, **{op.writes: position for position, op in enumerate(self.ops)}}

    def wanted(self) -> frozenset[int]:
        """Tensors that must exist on their own: outputs, and those that live in a layer."""
        return frozenset(self.outputs.values()) | frozenset(self.external)

    def with_ops(self, ops: Iterable[Op]) -> Program:
        """The same with other operations; tensors that nothing writes any more are dropped."""
        kept = tuple(ops)
        written = {INPUT, *(op.writes for op in kept)}
        tensors = {number: tensor for number, tensor in self.tensors.items() if number in written}
        return replace(self, tensors=tensors, ops=kept)

    def check(self) -> None:
        """Raise AssertionError where the order or a reference is wrong: a mistake in a pass."""
        written = {INPUT}
        for op in self.ops:
            assert set(op.reads) <= written, f"{op.kind} of layers {op.layers} reads what is not written yet"
            assert op.writes not in written, f"tensor {op.writes} is written twice"
            written.add(op.writes)
        assert written == set(self.tensors), "tensors without operation, or the other way round"
        assert set(self.outputs.values()) <= written, "an output that nothing writes"


@dataclass(frozen=True)
class Geometry:
    """Sizes of a convolution, as its kernels take them: input (batch, c, h, w), n filters of size x size."""

    batch: int
    c: int
    h: int
    w: int
    n: int
    size: int
    out_h: int
    out_w: int
    groups: int = 1
    stride_y: int = 1
    stride_x: int = 1
    dilation: int = 1
    pad: int = 0

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        taps = self.c // self.groups * self.size**2
        return 2 * self.batch * self.n * taps * self.out_h * self.out_w


@dataclass(frozen=True)
class Convolution:
    """Arguments of "convolution": out = residual_activation(activation(conv + bias) + residual).

    reads = (x,) or (x, residual).

    Attributes:
        geometry: sizes.
        activation, residual_activation: codes of `darkbn.activations.Activation`; the latter None without residual.
        normalization: a [batchnorm] layer behind it that its weights take over, None when there is none.
        method: name of one in `darkbn.inference.algorithms`.
    """

    geometry: Geometry
    activation: int
    residual_activation: int | None = None
    normalization: Layer | None = None
    method: str = "plain"


@dataclass(frozen=True)
class Bottleneck:
    """Arguments of "bottleneck", reads = (x,) or (x, residual): what is computed in one pass.

    Attributes:
        expand: the 1x1 convolution before the depthwise one, as it was, or None.
        depthwise: with a filter a channel.
        project: the 1x1 convolution behind it, or None.
        squeeze, excite: the 1x1 convolutions that make of the means of its channels what they are multiplied with, or
            None; scale_activation follows the product.
    """

    expand: Op | None
    depthwise: Op
    project: Op | None
    squeeze: Op | None = None
    excite: Op | None = None
    scale_activation: int = Activation.LINEAR

    @property
    def parts(self) -> tuple[Op, ...]:
        """Those that there are, in order."""
        parts = (self.expand, self.depthwise, self.squeeze, self.excite, self.project)
        return tuple(part for part in parts if part is not None)


@dataclass(frozen=True)
class Pool:
    """Arguments of "maxpool" and "local_avgpool": windows as Darknet means them."""

    size: int
    stride_y: int
    stride_x: int
    padding: int


@dataclass(frozen=True)
class Meeting:
    """Arguments of "add_unequal", reads = (x, other): activation(alpha * x + beta * other) where the two meet, else
    activation(x). They meet in their first `channels` channels; see `darkbn.reference.spatial.shortcut`."""

    channels: int
    alpha: float
    beta: float
    activation: int


@dataclass(frozen=True)
class Concat:
    """Arguments of "concat": of each tensor in reads `counts` values per sample from `starts` on, one behind the other.

    When the sources are images of one size, starts and counts are whole channels.
    """

    starts: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def places(self) -> tuple[int, ...]:
        """Where each part starts in the output."""
        return tuple(sum(self.counts[:i]) for i in range(len(self.counts)))
