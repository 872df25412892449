"""The plan: a network as a list of calls of kernels, all arrays in place."""

from __future__ import annotations

import contextlib
import logging
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from darkbn import cpu
from darkbn.activations import mixes_channels
from darkbn.backend import address, families
from darkbn.errors import DarkbnError, DeviceError, ShapeError
from darkbn.inference.algorithms import METHODS, Method, candidates
from darkbn.inference.bottleneck import Pays, fuse_bottlenecks, pays_by_estimate
from darkbn.inference.budget import Timed, choose_within
from darkbn.inference.fuse import fuse
from darkbn.inference.graph import checked_outputs, default_outputs
from darkbn.inference.layout import assign_layouts
from darkbn.inference.lower import lower
from darkbn.inference.memory import ALIGNMENT, Interval, assign_offsets
from darkbn.inference.placement import Placed, lifetimes, place
from darkbn.inference.program import INPUT, LANES, Op, Program
from darkbn.inference.steps import Building, Call, Memory, build, op_bytes, op_flops, op_threads, workspace_size
from darkbn.inference.streaming import Parameters, StreamedParameters
from darkbn.layers.base import Role
from darkbn.layers.convolutional import ConvolutionalLayer
from darkbn.state import NetworkState

if TYPE_CHECKING:
    from darkbn.inference.tune import Tuner
    from darkbn.layers.base import Layer
    from darkbn.network import Network

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """One step of a plan.

    Attributes:
        kind: what it does ("convolution", "maxpool", "to_plain", ...); "layer" is a layer's own forward pass.
        method: how, where there is a choice; else empty.
        layers: indices of the layers that it computes; empty for changes of layout.
        threads: how many it uses.
        flops: multiplications and additions.
        nbytes: bytes of the tensors that it reads and writes.
        parameter_bytes: bytes of the parameters that it holds.
        calls: the calls that it consists of.
    """

    kind: str
    method: str
    layers: tuple[int, ...]
    threads: int
    flops: int
    nbytes: int
    parameter_bytes: int
    calls: tuple[Call, ...]


class Plan:
    """A network ready to predict. Made by `Network.compile`.

    A plan holds folded and packed copies of the parameters and one piece of memory for everything between input and
    outputs; it does not hold the network, which may go: then only the plan's memory is left. The outputs are the
    `output` arrays of the layers that were asked for, overwritten by the next pass of the plan or of the network. A
    plan is for one thread at a time; it lets go of Python's lock while kernels run. On a GPU passes replay a CUDA graph
    and may still be at work when `run` returns: what comes on the caller's stream waits for them.

    Attributes:
        outputs: indices of the layers whose outputs it computes.
        steps: what it does, in order.
        threads: the most that a step uses.
        memory: the network's `memory` that it was made with.
        input: the array that it reads, shaped as `Network.input_shape`; `run` takes what is there.
        arena_bytes: size of the memory for input, intermediate results and workspaces.
        parameter_bytes: size of the folded and packed parameters.
    """

    def __init__(
        self, net: Network, outputs: tuple[int, ...], steps: tuple[Step, ...], memory: _Arena, threads: int
    ) -> None:
        self.outputs, self.steps, self.threads, self.memory = outputs, steps, threads, net.memory
        self.arena_bytes = memory.nbytes
        self.parameter_bytes = sum(step.parameter_bytes for step in steps)
        self.input = memory.plain(INPUT).reshape(net.input_shape)
        self._backend = net.backend
        self._arrays = [net.layers[index].output for index in outputs]
        calls = [call for step in steps for call in step.calls]
        if net.backend.name in ("gpu", "emulated"):
            calls = [partial(_call, step, net.cfg.file, call) for step in steps for call in step.calls]
        self._pass: Any = net.backend.runner(calls, net.cfg.file)
        self._net, self._version, self._file = weakref.ref(net), net.version, net.cfg.file

    @property
    def current(self) -> bool:
        """Whether the network's parameters and size are those that the plan was made for, as far as it was told."""
        net = self._net()
        return net is None or net.version == self._version

    def run(self) -> list[Any]:
        """Compute the outputs of what is in `input`.

        Returns:
            The output of each layer in `outputs`: the layers' own arrays.

        Raises:
            DarkbnError: the network was trained, resized or got other weights since the plan was made.
        """
        if not self.current:
            raise DarkbnError(
                f"{self._file}: the network was trained, resized or got other weights after this plan was made;"
                " net.compile() makes a new one"
            )
        self._pass()
        return self._arrays

    @property
    def graph(self) -> str:
        """ "captured" where passes replay a CUDA graph, else why not."""
        if not hasattr(self._pass, "captured"):
            return "only on device gpu"
        return "captured" if self._pass.captured else self._pass.reason or "not yet: the second pass captures it"

    def __call__(self, x: Any) -> list[Any]:
        """`run` for an input of shape `Network.input_shape` (or as many values in another shape, batch first)."""
        shape = np.shape(x)
        if shape != self.input.shape and (
            shape[:1] != self.input.shape[:1] or int(np.prod(shape)) != self.input.size
        ):  # fmt: skip
            raise ShapeError(f"expected an input of shape {self.input.shape}, found {shape}")
        self._backend.assign(self.input, self._backend.array(x).reshape(self.input.shape))
        return self.run()

    def __repr__(self) -> str:
        return f"<Plan of {self._file}: {len(self.steps)} steps, {self.arena_bytes / 2**20:.1f} MiB>"


@contextlib.contextmanager
def _errors_named(file: str, kind: str, layers: Sequence[int]) -> Iterator[None]:
    """Errors of a device in here name the step."""
    try:
        yield
    except DeviceError as error:
        where = f"layers {', '.join(map(str, layers))} " if layers else ""
        raise DeviceError(f"{file}: {where}[{kind}]: {error}") from error


def _call(step: Step, file: str, call: Call) -> None:
    with _errors_named(file, step.kind, step.layers):
        call()


class Marks:
    """Tells cheaply whether a network's parameters were changed: which arrays they are, and a few values of each.

    On a GPU the values are not looked at, since that would wait for it: who writes into arrays there calls
    `Network.changed`.
    """

    #: Values per array.
    COUNT = 4

    def __init__(self, net: Network) -> None:
        self._places = [
            (vars(part), buffer.name)
            for layer in net.layers
            for _, part in layer.walk()
            for buffer in part.buffers()
            if buffer.role in (Role.PARAMETER, Role.STATISTIC) and buffer.name in vars(part)
        ]
        self._arrays = [attributes[name] for attributes, name in self._places]
        here = self._arrays if net.backend.xp is np else []
        self._samples = [array.reshape(-1)[:: max(1, array.size // self.COUNT)] for array in here]
        self._values = self._read()

    def _read(self) -> bytes:
        return np.concatenate(self._samples).tobytes() if self._samples else b""

    def changed(self) -> bool:
        """Whether an array is another one, or one of the values is."""
        pairs = zip(self._places, self._arrays, strict=True)
        return any(attributes[name] is not array for (attributes, name), array in pairs) or self._read() != self._values


class _Arena:
    """The memory of a plan: where every tensor of a placed program lies."""

    def __init__(self, net: Network, placed: Placed, threads: int) -> None:
        self._placed, self._program, backend = placed, placed.program, net.backend
        program, itemsize = placed.program, np.dtype(backend.dtype).itemsize
        self._external = {tensor: net.layers[index].output for tensor, index in program.external.items()}
        spans = lifetimes(placed)
        roots = [root for root in spans if root not in self._external]
        sizes = [program.tensors[root].batch * program.tensors[root].sample for root in roots]
        rooms = [workspace_size(program, op, backend, threads) for op in placed.ops]
        intervals = [Interval(*spans[root], size * itemsize) for root, size in zip(roots, sizes, strict=True)]
        intervals += [Interval(step, step, size * itemsize) for step, size in enumerate(rooms)]
        offsets, self.nbytes = assign_offsets(intervals)
        flat = _aligned_zeros(self.nbytes // itemsize, backend)
        starts = [offset // itemsize for offset in offsets]
        self._flat = flat
        self._roots = {root: flat[at : at + n] for root, at, n in zip(roots, starts, sizes, strict=False)}
        self._rooms = {
            op: flat[at : at + max(n, 1)]
            for op, at, n in zip(map(id, placed.ops), starts[len(roots) :], rooms, strict=True)
        }
        self._kept = placed.ops  # ids above stay valid

    def plain(self, tensor: int) -> Any:
        place, sizes = self._placed.places[tensor], self._program.tensors[tensor]
        external = self._external.get(place.root)
        flat = self._roots[place.root] if external is None else external.reshape(-1)
        return flat[place.start : place.start + sizes.batch * sizes.values].reshape(sizes.shape)

    def blocked(self, tensor: int) -> tuple[Any, int]:
        place = self._placed.places[tensor]
        return self._roots[place.root].reshape(self._program.tensors[place.root].shape), place.start // LANES

    def workspace(self, op: Op) -> Any:
        return self._rooms[id(op)]

    def holds(self, array: Any) -> bool:
        """Whether an array lies in this memory or in the output of a layer."""
        start = address(array)
        return any(address(own) <= start < address(own) + own.nbytes for own in (self._flat, *self._external.values()))


def _aligned_zeros(count: int, backend: Any) -> Any:
    """A flat array that starts at a multiple of ALIGNMENT."""
    itemsize = np.dtype(backend.dtype).itemsize
    extra = ALIGNMENT // itemsize
    whole = backend.zeros((count + 2 * extra,))
    start = (-address(whole) % ALIGNMENT) // itemsize
    return whole[start : start + count + extra]


def plan_program(
    layers: list[Layer], outputs: Iterable[int], timed: Timed, pays: Pays | None, memory: float
) -> Program:
    """The program that computes the outputs of some layers: fused, with layouts and algorithms, outputs in the layers.

    Args:
        layers: of the network.
        outputs: indices of the layers whose outputs are wanted.
        timed: see `darkbn.inference.budget.Timed`.
        pays: see `darkbn.inference.bottleneck.Pays`; None: there is no kernel for bottlenecks.
        memory: see `darkbn.inference.budget.choose_within`.
    """
    program = fuse(lower(layers, outputs))
    wanted = {tensor: index for index, tensor in program.outputs.items()}
    program = replace(program, external={**wanted, **program.external})
    if pays is not None:
        program = fuse_bottlenecks(program, pays)
    return assign_layouts(program, choose_within(program, timed, memory))


def has_blocked_kernels() -> bool:
    """Whether the kernels for the blocked layout are there."""
    return {"blocked", "blocked_convolution"} <= set(families())


#: Networks with more convolutions do without Winograd's tiles of 4x4: rounding adds up from layer to layer, and theirs
#: is several times that of a direct sum (cspx-p7-mish, 253 convolutions: 1.8e-5 of the largest output).
DEEP = 220


def methods(op: Op, plain_input: bool, blocked: bool = True, deep: bool = False) -> list[Method]:
    """The methods that can compute a convolution, the one with the best estimate first.

    Args:
        op: the convolution.
        plain_input: whether its input is in the plain layout.
        blocked: whether the backend has kernels for the blocked layout.
        deep: whether the network has so many layers that only the more exact methods will do.
    """
    if mixes_channels(op.arguments.activation):
        return [METHODS["plain"]]
    found = candidates(op.arguments.geometry, blocked and has_blocked_kernels(), plain_input)
    return [m for m in found if not (deep and m.algorithm is not None and m.algorithm.tile == 4)]


def _tuner(net: Network, deep: bool) -> Tuner:
    if net.backend.name != "cpu":
        raise DarkbnError(f"tune: only the kernels of device cpu are measured, this network is on {net.backend.name}")
    from darkbn.inference.tune import Tuner

    return Tuner(net.backend, cpu.level(), net.threads, partial(methods, deep=deep))


def _program(net: Network, outputs: Iterable[int], tune: bool) -> Program:
    """The network's program, with methods chosen by estimate, or by measurement with tune."""
    deep = sum(isinstance(layer, ConvolutionalLayer) for layer in net.layers) > DEEP
    bottlenecks, blocked = net.backend.has("blocked_bottleneck"), net.backend.has("blocked_convolution")
    bottlenecks = bottlenecks and has_blocked_kernels()
    if tune:
        tuner = _tuner(net, deep)
        program = plan_program(net.layers, outputs, tuner.timed, tuner.pays if bottlenecks else None, net.memory)
        tuner.save()
        return program

    def timed(op: Op, plain_input: bool) -> list[tuple[Method, float]]:
        return [(m, m.cost(op.arguments.geometry)) for m in methods(op, plain_input, blocked, deep)]

    pays = pays_by_estimate(net.threads) if bottlenecks else None
    return plan_program(net.layers, outputs, timed, pays, net.memory)


def compile_network(net: Network, outputs: Iterable[int] | None = None, *, tune: bool = False) -> Plan:
    """A plan of a network with its present parameters; see `Network.compile`."""
    indices = default_outputs(net) if outputs is None else checked_outputs(net, outputs)
    placed = place(_program(net, indices, tune))
    source = StreamedParameters(net) if net.inference else Parameters()
    memory = _Arena(net, placed, net.threads)
    building = Building(placed.program, memory, net.backend, NetworkState(layers=net.layers), net.threads, source)
    plan = Plan(net, indices, tuple(_step(building, op, net.cfg.file) for op in placed.ops), memory, net.threads)
    if isinstance(source, StreamedParameters):
        source.finish(placed.program)
        net.warn_once(source.warnings)
    log.debug("%r", plan)
    return plan


def parameter_bytes(call: Call, memory: Memory) -> int:
    """Bytes of the arrays that a call is given and that are not in the plan's memory or a layer's."""
    arrays = [a for a in getattr(call, "args", ()) if hasattr(a, "nbytes") and a.ndim]
    return sum(array.nbytes for array in arrays if not memory.holds(array))


def _step(building: Building, op: Op, file: str) -> Step:
    program = building.program
    method = op.arguments.method if op.kind == "convolution" else op.kind if op.kind == "bottleneck" else ""
    itemsize = np.dtype(building.backend.dtype).itemsize
    with _errors_named(file, op.kind, op.layers):
        calls = build(building, op)
    return Step(
        op.kind,
        method,
        op.layers,
        op_threads(program, op, building.threads),
        op_flops(program, op),
        op_bytes(program, op, itemsize),
        sum(parameter_bytes(call, building.memory) for call in calls),
        tuple(calls),
    )
