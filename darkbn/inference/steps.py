"""From operations to calls of kernels on memory that exists: what a plan runs.

A builder per kind of operation: it looks up the views once and returns calls without arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from darkbn.activations import Activation, mixes_channels
from darkbn.algorithms import Algorithm
from darkbn.inference.algorithms import METHODS, Method
from darkbn.inference.fold import folded_parameters
from darkbn.inference.program import Bottleneck, Geometry, Layout, Op, Program, Tensor
from darkbn.inference.streaming import Parameters
from darkbn.layers.antialiasing import BlurLayer
from darkbn.layers.weighted import NORMALIZATIONS
from darkbn.state import NetworkState

if TYPE_CHECKING:
    from darkbn.backend import Backend

#: A call of a kernel, all arguments given.
Call = Callable[[], Any]

#: Floating-point operations, and bytes read or written, that a thread must have to do to be worth waking.
THREAD_FLOPS, THREAD_BYTES = 400_000, 65_536


class Memory(Protocol):
    """Where the tensors of a plan are."""

    def plain(self, tensor: int) -> Any:
        """The array (batch, channels, height, width) of a plain tensor."""

    def blocked(self, tensor: int) -> tuple[Any, int]:
        """The array (batch, blocks, height, width, 8) that a blocked tensor lies in, and its first block there."""

    def workspace(self, op: Op) -> Any:
        """A flat array for the kernel of this operation."""

    def holds(self, array: Any) -> bool:
        """Whether an array lies in this memory or in the output of a layer."""


@dataclass(frozen=True)
class Building:
    """What builders need.

    Attributes:
        program: the operations and tensors.
        memory: where the tensors are.
        backend: whose kernels are called.
        state: what layers that run as they are see of the network.
        threads: the most that a step may use.
        source: of the layers' parameters.
    """

    program: Program
    memory: Memory
    backend: Backend
    state: NetworkState
    threads: int
    source: Parameters = field(default_factory=Parameters)

    def tensor(self, number: int) -> Tensor:
        return self.program.tensors[number]


def op_flops(program: Program, op: Op) -> int:
    """Multiplications and additions of an operation; 0 where only data moves."""
    if op.kind == "convolution":
        return int(op.arguments.geometry.flops)
    if op.kind == "bottleneck":
        return sum(op_flops(program, part) for part in op.arguments.parts)
    if op.kind == "connected":
        return 2 * program.tensors[op.reads[0]].values * program.tensors[op.writes].values * op_batch(program, op)
    return op.layer.flops * op_batch(program, op) if op.layer is not None else 0


def op_batch(program: Program, op: Op) -> int:
    """Samples that an operation computes."""
    return program.tensors[op.writes].batch


def op_bytes(program: Program, op: Op, itemsize: int) -> int:
    """Bytes of the tensors that an operation reads and writes, without parameters."""
    tensors = [program.tensors[number] for number in (*op.reads, op.writes)]
    return sum(t.batch * t.sample for t in tensors) * itemsize


def op_threads(program: Program, op: Op, most: int) -> int:
    """Threads that are worth it for an operation."""
    work = op_flops(program, op) / THREAD_FLOPS + op_bytes(program, op, 4) / THREAD_BYTES
    return max(1, min(most, int(work)))


# -- convolutions ------------------------------------------------------------------------------------------------------


def parameters(op: Op, overwrite: bool) -> tuple[Any, Any]:
    """Weights and biases (None: zero) of a convolution, batch normalization folded in."""
    layer = op.layer
    assert layer is not None
    if isinstance(layer, BlurLayer):
        return layer.weights, None
    return folded_parameters(layer, op.arguments.normalization, overwrite=overwrite)


def workspace_size(program: Program, op: Op, backend: Backend, threads: int) -> int:
    """Floats of workspace that an operation needs."""
    threads = op_threads(program, op, threads)
    if op.kind == "convolution" and METHODS[op.arguments.method].algorithm is None and _is_fused(op, backend):
        return _fused_workspace(op, backend, threads)
    if op.kind == "convolution":
        return _convolution_workspace(METHODS[op.arguments.method], op.arguments.geometry, backend, threads)
    if op.kind == "bottleneck":
        return int(backend.raw.blocked_bottleneck.forward_workspace(*_bottleneck_sizes(op.arguments), threads))
    if op.kind == "connected":
        out, x = program.tensors[op.writes], program.tensors[op.reads[0]]
        return int(backend.raw.gemm.gemm_workspace(out.batch, out.values, x.values, threads))
    return 0


def _convolution_workspace(method: Method, g: Geometry, backend: Backend, threads: int) -> int:
    sizes, steps = (g.batch, g.c, g.h, g.w, g.n, g.size, g.out_h, g.out_w), (g.stride_y, g.stride_x, g.dilation, g.pad)
    kernels = backend.raw
    if method.algorithm is None:
        return int(kernels.convolution.forward_workspace(*sizes, g.groups, *steps, Algorithm.GEMM, threads))
    if method.algorithm is Algorithm.FIRST:
        return int(kernels.blocked_convolution.forward_plain_workspace(*sizes, *steps, threads))
    return int(kernels.blocked_convolution.forward_workspace(*sizes, g.groups, *steps, int(method.algorithm), threads))


def _convolution(b: Building, op: Op, threads: int) -> list[Call]:
    algorithm = METHODS[op.arguments.method].algorithm
    if algorithm is None:
        return _plain_convolution(b, op, threads)
    return [_blocked_convolution(b, op, algorithm, threads)]


def _plain_convolution(b: Building, op: Op, threads: int) -> list[Call]:
    if _is_fused(op, b.backend):
        return [_fused_convolution(b, op, threads)]
    g, raw, arguments = op.arguments.geometry, b.backend.raw, op.arguments
    weights, biases = parameters(op, b.source.overwrite)
    x, out = b.memory.plain(op.reads[0]), b.memory.plain(op.writes)
    steps = (g.groups, g.stride_y, g.stride_x, g.dilation, g.pad, Algorithm.GEMM, threads)
    calls: list[Call] = [partial(raw.convolution.forward, x, weights, biases, out, b.memory.workspace(op), *steps)]
    calls += _activated(b, out, arguments.activation, threads)
    if len(op.reads) > 1:
        residual = b.memory.plain(op.reads[1])
        calls.append(partial(raw.spatial.shortcut_add, residual, out, 1.0, 1.0, threads))
        calls += _activated(b, out, arguments.residual_activation, threads)
    return calls


def _is_fused(op: Op, backend: Backend) -> bool:
    """Whether one call of a device computes the whole operation: activations must work on single values."""
    codes = (op.arguments.activation, op.arguments.residual_activation)
    return backend.has("fused_convolution") and not any(code is not None and mixes_channels(code) for code in codes)


def _fused_ends(op: Op) -> tuple[int, int]:
    """Activation, and that after the residual."""
    after = op.arguments.residual_activation
    return int(op.arguments.activation), int(Activation.LINEAR if after is None else after)


def _fused_workspace(op: Op, backend: Backend, threads: int) -> int:
    g = op.arguments.geometry
    sizes, steps = (g.batch, g.c, g.h, g.w, g.n, g.size, g.out_h, g.out_w), (g.stride_y, g.stride_x, g.dilation, g.pad)
    kernels = backend.raw.fused_convolution
    return int(kernels.forward_workspace(*sizes, g.groups, *steps, *_fused_ends(op), threads))


def _fused_convolution(b: Building, op: Op, threads: int) -> Call:
    g, kernels = op.arguments.geometry, b.backend.raw.fused_convolution
    weights, biases = parameters(op, b.source.overwrite)
    packed = b.backend.empty((kernels.packed_size(g.n, g.c // g.groups, g.size, g.groups),))
    kernels.pack(weights, biases, packed, g.groups, threads)
    residual = b.memory.plain(op.reads[1]) if len(op.reads) > 1 else None
    arrays = (b.memory.plain(op.reads[0]), packed, residual, b.memory.plain(op.writes), b.memory.workspace(op))
    steps = (g.size, g.groups, g.stride_y, g.stride_x, g.dilation, g.pad)
    return partial(kernels.forward, *arrays, *steps, *_fused_ends(op), threads)


#: A blocked array and the first block of a slice of it.
Slice = tuple[Any, int]


def _blocked_convolution(b: Building, op: Op, algorithm: Algorithm, threads: int) -> Call:
    x = (b.memory.plain(op.reads[0]), 0) if algorithm is Algorithm.FIRST else b.memory.blocked(op.reads[0])
    residual = b.memory.blocked(op.reads[1]) if len(op.reads) > 1 else (None, 0)
    slices = (x, residual, b.memory.blocked(op.writes))
    kernels, g, second = b.backend.raw.blocked_convolution, op.arguments.geometry, op.arguments.residual_activation
    packed = _packed(g, algorithm, b.backend, *parameters(op, b.source.overwrite), b.threads)
    activations = (op.arguments.activation, int(Activation.LINEAR) if second is None else second)
    return _blocked_call(kernels, g, algorithm, packed, slices, b.memory.workspace(op), activations, threads)


def _packed(g: Geometry, algorithm: Algorithm, backend: Backend, weights: Any, biases: Any, threads: int) -> Any:
    """The parameters as the kernel wants them."""
    kernels = backend.raw.blocked_convolution
    packed = backend.empty((kernels.packed_size(g.n, g.c // g.groups, g.size, g.groups, int(algorithm)),))
    kernels.pack(weights, biases, packed, g.groups, int(algorithm), threads)
    return packed


def _blocked_call(
    kernels: Any, g: Geometry, algorithm: Algorithm, packed: Any, slices: tuple[Slice, Slice, Slice], workspace: Any,
    activations: tuple[int, int], threads: int,
) -> Call:  # fmt: skip
    (x, x_block), (residual, residual_block), (out, out_block) = slices
    arrays, steps = (x, packed, residual, out, workspace), (g.stride_y, g.stride_x, g.dilation, g.pad)
    if algorithm is Algorithm.FIRST:
        places = (residual_block, out_block)
        return partial(kernels.forward_plain, *arrays, *places, g.n, g.size, *steps, *activations, threads)
    sizes = (x_block, residual_block, out_block, g.c, g.n, g.size, g.groups)
    return partial(kernels.forward, *arrays, *sizes, *steps, *activations, int(algorithm), threads)


# -- bottlenecks -------------------------------------------------------------------------------------------------------


def _bottleneck_filters(b: Bottleneck) -> tuple[int, ...]:
    """c, m, n, size, expand, squeeze, project."""
    first, g, last = b.parts[0].arguments.geometry, b.depthwise.arguments.geometry, b.parts[-1].arguments.geometry
    squeezed = 0 if b.squeeze is None else b.squeeze.arguments.geometry.n
    return first.c, g.c, last.n, g.size, int(b.expand is not None), squeezed, int(b.project is not None)


def _bottleneck_sizes(b: Bottleneck) -> tuple[int, ...]:
    g = b.depthwise.arguments.geometry
    return (g.batch, g.h, g.w, g.out_h, g.out_w, *_bottleneck_filters(b), g.stride_y, g.stride_x, g.pad)


def _packed_bottleneck(b: Bottleneck, backend: Backend, values: Sequence[tuple[Any, Any]], threads: int) -> Any:
    """Weights and biases of the parts as the kernel wants them."""
    kernels, filters = backend.raw.blocked_bottleneck, _bottleneck_filters(b)
    weights = np.concatenate([weights.reshape(-1) for weights, _ in values])
    zeros = [np.zeros(len(weights), weights.dtype) for weights, _ in values]
    biases = np.concatenate([zero if own is None else own for (_, own), zero in zip(values, zeros, strict=True)])
    packed = backend.empty((kernels.packed_size(*filters),))
    kernels.pack(weights, biases, packed, *filters, threads)
    return packed


def _bottleneck_call(
    kernels: Any, b: Bottleneck, packed: Any, slices: tuple[Slice, Slice, Slice], workspace: Any, threads: int
) -> Call:
    (x, x_block), (residual, residual_block), (out, out_block) = slices
    g, linear = b.depthwise.arguments.geometry, int(Activation.LINEAR)
    parts = (b.expand, b.depthwise, b.squeeze, b.excite, b.project)
    kinds = [linear if part is None else part.arguments.activation for part in parts]
    kinds.insert(4, b.scale_activation)
    after = b.parts[-1].arguments.residual_activation
    steps = (g.stride_y, g.stride_x, g.pad, *kinds, linear if after is None else after)
    arrays, places = (x, packed, residual, out, workspace), (x_block, residual_block, out_block)
    return partial(kernels.forward, *arrays, *places, *_bottleneck_filters(b), *steps, threads)


def _bottleneck(b: Building, op: Op, threads: int) -> list[Call]:
    residual = b.memory.blocked(op.reads[1]) if len(op.reads) > 1 else (None, 0)
    slices = (b.memory.blocked(op.reads[0]), residual, b.memory.blocked(op.writes))
    values = [parameters(part, b.source.overwrite) for part in op.arguments.parts]
    packed = _packed_bottleneck(op.arguments, b.backend, values, b.threads)
    kernels = b.backend.raw.blocked_bottleneck
    return [_bottleneck_call(kernels, op.arguments, packed, slices, b.memory.workspace(op), threads)]


def bottleneck_trial(b: Bottleneck, backend: Backend, threads: int, rng: np.random.Generator) -> Call:
    """A bottleneck of these sizes on random numbers, for measurements."""
    g, end = b.depthwise.arguments.geometry, b.parts[-1].arguments.geometry

    def array(*shape: int) -> Any:
        return backend.array(rng.random(shape, dtype=np.float32))

    geometries = [part.arguments.geometry for part in b.parts]
    values = [(array(p.n, p.c // p.groups, p.size, p.size), array(p.n)) for p in geometries]
    packed = _packed_bottleneck(b, backend, values, threads)
    x = array(*Tensor(g.batch, geometries[0].c, g.h, g.w, Layout.BLOCKED).shape)
    out = array(*Tensor(g.batch, end.n, g.out_h, g.out_w, Layout.BLOCKED).shape)
    kernels = backend.raw.blocked_bottleneck
    room = backend.empty((max(1, kernels.forward_workspace(*_bottleneck_sizes(b), threads)),))
    return _bottleneck_call(kernels, b, packed, ((x, 0), (None, 0), (out, 0)), room, threads)


# -- measurements ------------------------------------------------------------------------------------------------------


def trial_call(g: Geometry, method: Method, backend: Backend, threads: int, rng: np.random.Generator) -> Call:
    """A convolution of that geometry by a blocked kernel, on random numbers, for measurements."""
    algorithm = method.algorithm
    if algorithm is None:
        raise ValueError(f"method {method.name} has no blocked kernel")

    def array(*shape: int) -> Any:
        return backend.array(rng.random(shape, dtype=np.float32))

    plain = Tensor(g.batch, g.c, g.h, g.w)
    x = array(*replace(plain, layout=method.reads).shape)
    out = array(*Tensor(g.batch, g.n, g.out_h, g.out_w, Layout.BLOCKED).shape)
    weights, biases = array(g.n, g.c // g.groups, g.size, g.size), array(g.n)
    packed = _packed(g, algorithm, backend, weights, biases, threads)
    room = backend.empty((max(1, _convolution_workspace(method, g, backend, threads)),))
    slices: tuple[Slice, Slice, Slice] = ((x, 0), (None, 0), (out, 0))
    linear = int(Activation.LINEAR)
    kernels = backend.raw.blocked_convolution
    return _blocked_call(kernels, g, algorithm, packed, slices, room, (linear, linear), threads)


def _activated(b: Building, out: Any, code: int, threads: int) -> list[Call]:
    """Calls that apply an activation in place."""
    kernels = b.backend.raw.activation
    if code == Activation.LINEAR:
        return []
    if mixes_channels(code):
        rows = out.reshape(*out.shape[:2], -1)
        return [partial(kernels.forward_channels, rows, rows, code, threads)]
    return [partial(kernels.forward, out, code, threads)]


# -- moving values -----------------------------------------------------------------------------------------------------


def _copy(b: Building, op: Op, threads: int) -> list[Call]:
    source, out = (b.memory.plain(tensor).reshape(b.tensor(tensor).batch, -1) for tensor in (op.reads[0], op.writes))
    return [partial(b.backend.raw.spatial.copy_block, source, out, 0, 0, source.shape[1], threads)]


def _copy_part(b: Building, op: Op, threads: int) -> list[Call]:
    part = op.arguments
    if b.tensor(op.writes).layout is Layout.BLOCKED:
        (x, x_block), (out, out_block) = b.memory.blocked(op.reads[0]), b.memory.blocked(op.writes)
        start, at = 8 * x_block + part.source_start, 8 * out_block + part.start
        return [partial(b.backend.raw.blocked.copy_channels, x, out, start, at, part.count, threads)]
    source, out = (b.memory.plain(tensor).reshape(b.tensor(tensor).batch, -1) for tensor in (op.reads[0], op.writes))
    arguments = (part.source_start, part.start, part.count, threads)
    return [partial(b.backend.raw.spatial.copy_block, source, out, *arguments)]


def _to_plain(b: Building, op: Op, threads: int) -> list[Call]:
    x, block = b.memory.blocked(op.reads[0])
    return [partial(b.backend.raw.blocked.to_plain, x, b.memory.plain(op.writes), block, threads)]


def _to_blocked(b: Building, op: Op, threads: int) -> list[Call]:
    out, block = b.memory.blocked(op.writes)
    return [partial(b.backend.raw.blocked.from_plain, b.memory.plain(op.reads[0]), out, block, threads)]


def _is_blocked(b: Building, op: Op) -> bool:
    return b.tensor(op.writes).layout is Layout.BLOCKED


def _blocks(b: Building, op: Op) -> tuple[Any, Any, int, int, int]:
    """Input and output arrays, their first blocks, and how many blocks there are."""
    (x, x_block), (out, out_block) = b.memory.blocked(op.reads[0]), b.memory.blocked(op.writes)
    return x, out, x_block, out_block, b.tensor(op.writes).blocks


def _upsample(b: Building, op: Op, threads: int) -> list[Call]:
    if _is_blocked(b, op):
        return [partial(b.backend.raw.blocked.upsample, *_blocks(b, op), *op.arguments, threads)]
    x, out = b.memory.plain(op.reads[0]), b.memory.plain(op.writes)
    return [partial(getattr(b.backend.raw.spatial, op.kind), x, out, *op.arguments, threads)]


def _reorg(b: Building, op: Op, threads: int) -> list[Call]:
    l: Any = op.layer
    x, out, spatial = b.memory.plain(op.reads[0]), b.memory.plain(op.writes), b.backend.raw.spatial
    if l.flatten:
        planes, pixels = (l.batch, l.c, l.h * l.w), (l.batch, l.h * l.w, l.c)
        shapes = (pixels, planes) if l.reverse else (planes, pixels)
        return [partial(spatial.flatten, x.reshape(shapes[0]), out.reshape(shapes[1]), threads)]
    if l.extra:
        source, target = x.reshape(l.batch, -1), out.reshape(l.batch, -1)
        target[...] = 0  # what is beyond the input stays so: nothing else is ever written there
        return [partial(target.fill, 0), partial(spatial.copy_block, source, target, 0, 0, l.inputs, threads)]
    space = (l.batch, l.c // l.stride**2, l.h * l.stride, l.w * l.stride)
    depth = (l.batch, l.c, l.h, l.w)
    if l.reverse:
        return [partial(spatial.depth_to_space, x.reshape(depth), out.reshape(space), l.stride, threads)]
    return [partial(spatial.space_to_depth, x.reshape(space), out.reshape(depth), l.stride, threads)]


def _reorg3d(b: Building, op: Op, threads: int) -> list[Call]:
    l: Any = op.layer
    kernel = b.backend.raw.spatial.depth_to_space if l.options.reverse else b.backend.raw.spatial.space_to_depth
    x, out = b.memory.plain(op.reads[0]).reshape(l.batch, l.c, l.h, l.w), b.memory.plain(op.writes)
    return [partial(kernel, x, out, l.options.stride, threads)]


# -- sums and products -------------------------------------------------------------------------------------------------


def _add(b: Building, op: Op, threads: int) -> list[Call]:
    if _is_blocked(b, op):
        (x, x_block), (other, other_block) = (b.memory.blocked(tensor) for tensor in op.reads)
        out, out_block = b.memory.blocked(op.writes)
        blocks = (x_block, other_block, out_block, b.tensor(op.writes).blocks)
        return [partial(b.backend.raw.blocked.shortcut, x, other, out, *blocks, op.arguments, threads)]
    x, other, out = (b.memory.plain(tensor) for tensor in (*op.reads, op.writes))
    add = partial(b.backend.raw.spatial.shortcut, x, other, out, 1.0, 1.0, threads)
    return [add, *_activated(b, out, op.arguments, threads)]


def _add_unequal(b: Building, op: Op, threads: int) -> list[Call]:
    m = op.arguments
    if _is_blocked(b, op):
        (x, x_block), (other, other_block) = (b.memory.blocked(tensor) for tensor in op.reads)
        out, out_block = b.memory.blocked(op.writes)
        blocks = (x_block, other_block, out_block, b.tensor(op.writes).blocks)
        kernel = b.backend.raw.blocked.shortcut_unequal
        return [partial(kernel, x, other, out, *blocks, m.channels, m.alpha, m.beta, m.activation, threads)]
    x, other, out = (b.memory.plain(tensor) for tensor in (*op.reads, op.writes))
    add = partial(b.backend.raw.spatial.shortcut, x.reshape(out.shape), other, out, m.alpha, m.beta, threads)
    return [add, *_activated(b, out, m.activation, threads)]


def _shortcut(b: Building, op: Op, threads: int) -> list[Call]:
    l: Any = op.layer
    x, *others = (b.memory.plain(tensor) for tensor in op.reads)
    out = b.memory.plain(op.writes)
    x = x.reshape(out.shape)
    if l.weighted:
        calls = _weighted(b, l, [x, *others], out, threads)
    else:
        spatial = b.backend.raw.spatial
        calls = [partial(spatial.shortcut, x, others[0], out, l.alpha, l.beta, threads)]
        calls += [partial(spatial.shortcut_add, other, out, 1.0, l.beta, threads) for other in others[1:]]
    return calls + _activated(b, out, Activation[l.activation.upper()], threads)


def _weighted(b: Building, l: Any, outputs: Sequence[Any], out: Any, threads: int) -> list[Call]:
    """The weighted sum; the weights are normalized once."""
    kernels, kind = b.backend.raw.weighted, NORMALIZATIONS[l.options.weights_normalization]
    shares, by_channel = b.backend.empty(l.shares.shape), b.backend.empty(l.channel_shares.shape)
    kernels.normalize(l.weights.reshape(shares.shape), shares, kind, threads)
    by_channel[...] = shares
    rows = [array.reshape(*array.shape[:2], -1) for array in (*outputs, out)]
    calls: list[Call] = [partial(kernels.scale, rows[0], by_channel[0], rows[-1], threads)]
    for share, row in zip(by_channel[1:], rows[1:-1], strict=True):
        calls.append(partial(kernels.scale_add, row, share, rows[-1], threads))
    return calls


def _scale(b: Building, op: Op, threads: int) -> list[Call]:
    """reads = (scales, maps)."""
    if _is_blocked(b, op):
        (scales, scale_block), (x, x_block) = (b.memory.blocked(tensor) for tensor in op.reads)
        out, out_block = b.memory.blocked(op.writes)
        blocks = (x_block, scale_block, out_block, b.tensor(op.writes).blocks)
        return [partial(b.backend.raw.blocked.scale_channels, x, scales, out, *blocks, op.arguments, threads)]
    scales, x, out = (b.memory.plain(tensor) for tensor in (*op.reads, op.writes))
    kernel = b.backend.raw.channels.scale_pixels if op.kind == "scale_pixels" else b.backend.raw.channels.scale
    rows = (out.shape[0], out.shape[1], -1)
    call = partial(kernel, x.reshape(rows), scales.reshape(out.shape[0], -1), out.reshape(rows), threads)
    return [call, *_activated(b, out, op.arguments, threads)]


def _multiply(b: Building, op: Op, threads: int) -> list[Call]:
    out = b.memory.plain(op.writes)
    x, other = (b.memory.plain(tensor).reshape(-1) for tensor in op.reads)
    call = partial(b.backend.raw.channels.multiply, x, other, out.reshape(-1), threads)
    return [call, *_activated(b, out, op.arguments, threads)]


# -- the rest ----------------------------------------------------------------------------------------------------------


def _maxpool(b: Building, op: Op, threads: int) -> list[Call]:
    p = op.arguments
    windows = (p.size, p.stride_y, p.stride_x, p.padding, threads)
    if _is_blocked(b, op):
        return [partial(b.backend.raw.blocked.maxpool, *_blocks(b, op), *windows)]
    return [
        partial(
            b.backend.raw.pooling.maxpool, b.memory.plain(op.reads[0]), b.memory.plain(op.writes), None, *windows
        )
    ]  # fmt: skip


def _maxpool_depth(b: Building, op: Op, threads: int) -> list[Call]:
    x, out = (b.memory.plain(tensor) for tensor in (op.reads[0], op.writes))
    rows = [array.reshape(*array.shape[:2], -1) for array in (x, out)]
    return [partial(b.backend.raw.pooling.maxpool_depth, *rows, None, threads)]


def _local_avgpool(b: Building, op: Op, threads: int) -> list[Call]:
    p = op.arguments
    x, out = b.memory.plain(op.reads[0]), b.memory.plain(op.writes)
    kernel = b.backend.raw.pooling.local_avgpool
    return [partial(kernel, x, out, p.size, p.stride_y, p.stride_x, p.padding, threads)]


def _avgpool(b: Building, op: Op, threads: int) -> list[Call]:
    if _is_blocked(b, op):
        return [partial(b.backend.raw.blocked.avgpool, *_blocks(b, op), threads)]
    x, out = b.memory.plain(op.reads[0]), b.memory.plain(op.writes)
    planes = x.reshape(*x.shape[:2], -1)
    return [partial(b.backend.raw.pooling.avgpool, planes, out.reshape(planes.shape[:2]), threads)]


def _activation(b: Building, op: Op, threads: int) -> list[Call]:
    if _is_blocked(b, op):
        return [partial(b.backend.raw.blocked.activation, *_blocks(b, op), op.arguments, threads)]
    x, out, kernels = b.memory.plain(op.reads[0]), b.memory.plain(op.writes), b.backend.raw.activation
    if mixes_channels(op.arguments):
        rows = (out.shape[0], out.shape[1], -1)
        return [partial(kernels.forward_channels, x.reshape(rows), out.reshape(rows), op.arguments, threads)]
    return [partial(kernels.forward_to, x, out, op.arguments, threads)]


def _batchnorm(b: Building, op: Op, threads: int) -> list[Call]:
    l: Any = op.layer
    rows = (l.batch, l.channels, -1)
    x, out = (b.memory.plain(tensor).reshape(rows) for tensor in (op.reads[0], op.writes))
    # Copies: training changes the layer's own, and a plan does not change with it.
    arrays = [getattr(l, name).copy() for name in ("rolling_mean", "rolling_variance", "scales", "biases")]
    root = (l.convention.epsilon, int(l.convention.epsilon_outside))
    return [partial(b.backend.raw.batchnorm.forward, x, out, *arrays, *root, threads)]


def _connected(b: Building, op: Op, threads: int) -> list[Call]:
    l: Any = op.layer
    weights, biases = folded_parameters(l, overwrite=b.source.overwrite)
    x, out = (b.memory.plain(tensor).reshape(l.batch, -1) for tensor in (op.reads[0], op.writes))
    columns = out.reshape(l.batch, l.outputs, 1)
    return [
        partial(b.backend.raw.gemm.gemm, x, weights, out, b.memory.workspace(op), 0, 1, 1.0, 0.0, threads),
        partial(b.backend.raw.bias.add_bias, columns, biases, threads),
        *_activated(b, columns, Activation[l.activation.upper()], threads),
    ]


def _softmax(b: Building, op: Op, threads: int) -> list[Call]:
    l: Any = op.layer
    shape = (l.batch, l.c, l.h * l.w) if l.spatial else (l.batch * l.groups, l.inputs // l.groups, 1)
    x, out = (b.memory.plain(tensor).reshape(shape) for tensor in (op.reads[0], op.writes))
    return [partial(b.backend.raw.softmax.forward, x, out, l.temperature, threads)]


def _yolo(b: Building, op: Op, threads: int) -> list[Call]:
    l: Any = op.layer
    shape = (l.batch, l.n, l.entries, l.h * l.w)
    x, out = (b.memory.plain(tensor).reshape(shape) for tensor in (op.reads[0], op.writes))
    return [partial(b.backend.raw.yolo.activate, x, out, l.options.scale_x_y, l.options.new_coords, threads)]


def _layer(b: Building, op: Op, threads: int) -> list[Call]:
    """The layer's own forward pass. It reads one tensor, or none, and writes its own output."""
    layer: Any = op.layer
    shape = (layer.batch, layer.c, layer.h, layer.w) if layer.c and layer.h and layer.w else (layer.batch, -1)
    x = b.memory.plain(op.reads[0]).reshape(shape) if op.reads else None
    index = layer.context.index

    def run() -> None:
        state = b.state
        state.input, state.index, state.threads = x, index, threads
        layer.forward(state)

    return [run]


#: How each kind of operation becomes calls.
BUILDERS: dict[str, Callable[[Building, Op, int], list[Call]]] = {
    "convolution": _convolution,
    "bottleneck": _bottleneck,
    "copy": _copy,
    "copy_part": _copy_part,
    "to_plain": _to_plain,
    "to_blocked": _to_blocked,
    "upsample": _upsample,
    "downsample": _upsample,
    "reorg": _reorg,
    "reorg3d": _reorg3d,
    "add": _add,
    "add_unequal": _add_unequal,
    "shortcut": _shortcut,
    "scale_channels": _scale,
    "scale_pixels": _scale,
    "multiply": _multiply,
    "maxpool": _maxpool,
    "maxpool_depth": _maxpool_depth,
    "local_avgpool": _local_avgpool,
    "avgpool": _avgpool,
    "activation": _activation,
    "batchnorm": _batchnorm,
    "connected": _connected,
    "softmax": _softmax,
    "yolo": _yolo,
    "layer": _layer,
}


def build(b: Building, op: Op) -> list[Call]:
    """The calls that an operation consists of."""
    with b.source.held(op):
        return BUILDERS[op.kind](b, op, op_threads(b.program, op, b.threads))
