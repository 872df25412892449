"""Passes that make a program shorter without changing what it computes. Each is a pure function of a program."""

from __future__ import annotations

from dataclasses import replace

from darkbn.activations import Activation, mixes_channels
from darkbn.inference.program import Convolution, Op, Pool, Program
from darkbn.layers.convolutional import ConvolutionalLayer


def drop_identities(program: Program) -> Program:
    """Operations that hand on their input vanish: readers read the input itself.

    One whose output is wanted stays, as a copy.
    """
    instead: dict[int, int] = {}
    ops: list[Op] = []
    for op in program.ops:
        op = replace(op, reads=tuple(instead.get(tensor, tensor) for tensor in op.reads))
        if op.kind != "identity":
            ops.append(op)
            continue
        instead[op.writes] = op.reads[0]
        if op.writes in program.wanted():
            ops.append(replace(op, kind="copy"))
    return program.with_ops(ops)


def fuse_shortcuts(program: Program) -> Program:
    """A sum of a convolution's output, which nobody else reads, and an earlier tensor goes into the convolution."""
    ops: list[Op | None] = list(program.ops)
    for position, op in enumerate(program.ops):
        if op.kind != "add":
            continue
        # A convolution may have taken part in a fusion already: positions and producers are looked up anew.
        found = _fusable(program, ops, position)
        if found is None:
            continue
        at, other = found
        convolution = ops[at]
        assert convolution is not None
        arguments = replace(convolution.arguments, residual_activation=op.arguments)
        ops[at] = replace(
            convolution,
            reads=(convolution.reads[0], other),
            writes=op.writes,
            layers=convolution.layers + op.layers,
            arguments=arguments,
        )
        ops[position] = None
    return program.with_ops(op for op in ops if op is not None)


def _fusable(program: Program, ops: list[Op | None], position: int) -> tuple[int, int] | None:
    """Position of the convolution that a sum can go into, and the tensor that is added to it then."""
    add, readers = program.ops[position], program.readers()
    producers = {op.writes: at for at, op in enumerate(ops) if op is not None}
    for mine, other in (add.reads, add.reads[::-1]):
        at = producers.get(mine, -1)
        source = ops[at] if at >= 0 else None
        if source is None or source.kind != "convolution" or mine == other or mine in program.wanted():
            continue
        arguments: Convolution = source.arguments
        free = arguments.residual_activation is None and not mixes_channels(arguments.activation)
        if free and readers[mine] == [position] and producers.get(other, -1) < at:
            return at, other
    return None


def fuse_activations(program: Program) -> Program:
    """An [activation] of a linear convolution's output, which nobody else reads, goes into the convolution."""
    ops: list[Op | None] = list(program.ops)
    readers, producers = program.readers(), program.producers()
    for position, op in enumerate(program.ops):
        source = _only_reader(program, ops, readers, producers, position) if op.kind == "activation" else None
        if source is None or not _is_bare(source.arguments):
            continue
        at, fused = producers[op.reads[0]], replace(source.arguments, activation=op.arguments)
        ops[at] = replace(source, writes=op.writes, layers=source.layers + op.layers, arguments=fused)
        ops[position], producers[op.writes] = None, at
    return program.with_ops(op for op in ops if op is not None)


def fuse_normalizations(program: Program) -> Program:
    """A [batchnorm] of a linear convolution's output, which nobody else reads, goes into the convolution's weights."""
    ops: list[Op | None] = list(program.ops)
    readers, producers = program.readers(), program.producers()
    for position, op in enumerate(program.ops):
        source = _only_reader(program, ops, readers, producers, position) if op.kind == "batchnorm" else None
        if source is None or not isinstance(source.layer, ConvolutionalLayer):
            continue
        arguments: Convolution = source.arguments
        if _is_bare(arguments) and arguments.normalization is None:
            fused = replace(arguments, normalization=op.layer)
            at = producers[op.reads[0]]
            ops[at] = replace(source, writes=op.writes, layers=source.layers + op.layers, arguments=fused)
            ops[position], producers[op.writes] = None, at
    return program.with_ops(op for op in ops if op is not None)


def _only_reader(
    program: Program, ops: list[Op | None], readers: dict[int, list[int]], producers: dict[int, int], position: int
) -> Op | None:
    """The convolution whose output this operation alone reads; None when it is not so."""
    tensor = program.ops[position].reads[0]
    source = ops[producers[tensor]] if producers[tensor] >= 0 else None
    if source is None or source.kind != "convolution" or tensor in program.wanted() or readers[tensor] != [position]:
        return None
    return source


def _is_bare(arguments: Convolution) -> bool:
    """Whether nothing follows the sum of a convolution but biases."""
    return arguments.activation == Activation.LINEAR and arguments.residual_activation is None


def chain_pools(program: Program) -> Program:
    """Maxima over large windows are taken from those over smaller windows of the same tensor (SPP: 5, 9 and 13).

    The maximum over a window of a + b - 1 is the maximum over a window of b of those over windows of a, when both keep
    the size of the image and have their pixel in the middle. What lies outside of the image never wins either way.
    """
    ops = list(program.ops)
    earlier: dict[int, list[tuple[int, int]]] = {}
    for position, op in enumerate(ops):
        if op.kind != "maxpool" or not _keeps_size(op.arguments):
            continue
        source, size = op.reads[0], op.arguments.size
        smaller = [found for found in earlier.get(source, []) if found[0] < size]
        earlier.setdefault(source, []).append((size, op.writes))
        if smaller:
            done, tensor = max(smaller)
            rest = size - done + 1
            ops[position] = replace(op, reads=(tensor,), arguments=Pool(rest, 1, 1, rest - 1))
    return program.with_ops(ops)


def _keeps_size(pool: Pool) -> bool:
    return pool.stride_x == pool.stride_y == 1 and pool.size % 2 == 1 and pool.padding == pool.size - 1


def fuse(program: Program) -> Program:
    """All passes of this module, in the order in which they help each other."""
    for function in (drop_identities, fuse_normalizations, fuse_activations, fuse_shortcuts, chain_pools):
        program = function(program)
        program.check()
    return program
