"""Which layout every tensor has, and the conversions between them.

Convolutions ask for the blocked layout, what has no kernel for it for the plain one, and the rest takes what it gets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from darkbn.activations import mixes_channels
from darkbn.inference.algorithms import Method
from darkbn.inference.program import INPUT, Concat, Layout, Op, Program, Tensor

#: Chooses the method of a convolution: its operation, and whether its input is in the plain layout.
Choose = Callable[[Op, bool], Method]

#: Kinds whose kernels exist in both layouts.
BOTH = frozenset({"maxpool", "avgpool", "upsample", "add", "add_unequal", "activation", "scale_channels", "concat"})


@dataclass
class _Layouts:
    """The program while it is rewritten."""

    program: Program
    tensors: dict[int, Tensor]
    ops: list[Op] = field(default_factory=list)
    converted: dict[tuple[int, Layout], int] = field(default_factory=dict)

    def layout(self, tensor: int) -> Layout:
        return self.tensors[tensor].layout

    def read(self, tensor: int, layout: Layout) -> int:
        """The tensor in that layout, converted once for all readers."""
        if self.layout(tensor) is layout:
            return tensor
        if (tensor, layout) not in self.converted:
            number = max(self.tensors) + 1
            self.tensors[number] = replace(self.tensors[tensor], layout=layout)
            self.converted[tensor, layout] = number
            self.ops.append(self.conversion(tensor, number, layout))
        return self.converted[tensor, layout]

    @staticmethod
    def conversion(source: int, target: int, layout: Layout) -> Op:
        return Op("to_plain" if layout is Layout.PLAIN else "to_blocked", (source,), target, ())

    def write(self, op: Op, layout: Layout) -> None:
        """Add an operation that writes in that layout; a tensor that is wanted is converted back behind it."""
        wanted = op.writes in self.program.wanted()
        if layout is Layout.PLAIN or not wanted:
            self.tensors[op.writes] = replace(self.tensors[op.writes], layout=layout)
            self.ops.append(op)
            return
        number = max(self.tensors) + 1
        self.tensors[number] = replace(self.tensors[op.writes], layout=layout)
        self.converted[op.writes, layout] = number
        self.ops += [replace(op, writes=number), self.conversion(number, op.writes, Layout.PLAIN)]


def assign_layouts(program: Program, choose: Choose) -> Program:
    """The program with a layout for every tensor, conversions, and a method for every convolution."""
    state = _Layouts(program, dict(program.tensors))
    for op in program.ops:
        if op.kind == "convolution":
            _convolution(state, op, choose)
        elif op.kind == "bottleneck" or (op.kind in BOTH and _fits_blocked(state, op)):
            blocked = Layout.BLOCKED
            state.write(replace(op, reads=tuple(state.read(tensor, blocked) for tensor in op.reads)), blocked)
        else:
            plain = Layout.PLAIN
            state.write(replace(op, reads=tuple(state.read(tensor, plain) for tensor in op.reads)), plain)
    result = replace(program, tensors=state.tensors, ops=tuple(state.ops))
    result.check()
    return result


def _convolution(state: _Layouts, op: Op, choose: Choose) -> None:
    method = choose(op, op.reads[0] == INPUT)
    x = state.read(op.reads[0], method.reads)
    others = tuple(state.read(tensor, method.writes) for tensor in op.reads[1:])
    arguments = replace(op.arguments, method=method.name)
    state.write(replace(op, reads=(x, *others), arguments=arguments), method.writes)


def _fits_blocked(state: _Layouts, op: Op) -> bool:
    """Whether an operation works in the blocked layout, and its input is there already."""
    available = [
        state.layout(tensor) is Layout.BLOCKED or (tensor, Layout.BLOCKED) in state.converted for tensor in op.reads
    ]
    if not any(available) or (op.kind in ("activation", "scale_channels") and mixes_channels(op.arguments)):
        return False
    if op.kind != "concat":
        return True
    out, sources = state.tensors[op.writes], [state.tensors[tensor] for tensor in op.reads]
    image = all((s.height, s.width) == (out.height, out.width) for s in sources)
    return image and _whole_channels(op.arguments, out)


def _whole_channels(arguments: Concat, out: Tensor) -> bool:
    pixels = out.height * out.width
    return all(n % pixels == 0 for n in (*arguments.starts, *arguments.counts))
