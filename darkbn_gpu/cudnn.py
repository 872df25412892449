"""Convolutions by cuDNN, through its graph interface (package nvidia-cudnn-frontend, module `cudnn`).

Every (pass, geometry, precision, activation) has a plan, built when its workspace is first asked for and kept. What
cuDNN declines is remembered as such; then our kernels compute. Plans whose results differ from run to run are never
taken, with "float32" none that rounds the operands, nor Winograd's transforms: their error is several times larger.
With "float16" x is rounded to halves in the workspace, and so are the sums.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import Any

from darkbn.activations import Activation
from darkbn.backend import address
from darkbn.errors import DeviceError
from darkbn.signature import Array
from darkbn_gpu.launch import each
from darkbn_gpu.library import Library, aligned
from darkbn_gpu.product import LINEAR, Geometry, finish

log = logging.getLogger(__name__)

#: Activations that a graph can end with: names of its operations and their arguments. Others follow in our own kernel.
_ENDS: dict[int, tuple[str, dict[str, float]]] = {
    int(Activation.RELU): ("relu", {}),
    int(Activation.LEAKY): ("leaky_relu", {"negative_slope": 0.1}),
    int(Activation.LOGISTIC): ("sigmoid", {}),
    int(Activation.TANH): ("tanh", {}),
    int(Activation.SWISH): ("swish", {}),
}


@dataclass(frozen=True)
class _Key:
    """What a plan is for. activation: of the graph's end; None: the sums alone."""

    kernel: str
    g: Geometry
    precision: str
    activation: int | None


@dataclass(frozen=True)
class _Plan:
    """A graph that is ready. inputs, output: its tensors; workspace: bytes."""

    graph: Any
    inputs: tuple[Any, ...]
    output: Any
    workspace: int


class Cudnn(Library):
    """Convolutions by cuDNN."""

    name = "cudnn"

    def __init__(self, cudnn: Any, place: Any) -> None:
        """cudnn: the module; place: a function that gives the current device's number and stream."""
        self._cudnn, self._place = cudnn, place
        self.version = f"cuDNN {cudnn.backend_version_string()}, frontend {cudnn.__version__}"
        self._plans: dict[tuple[int, _Key], _Plan | None] = {}
        self._handles: dict[tuple[int, int], Any] = {}
        self._lock = threading.RLock()

    @classmethod
    def open(cls, xp: Any) -> Cudnn:
        """Raises DeviceError where the package or the library is missing."""
        try:
            import cudnn
        except ImportError as error:
            raise DeviceError(
                f"nvidia-cudnn-frontend is not installed ({error}): pip install 'darkbn[cudnn]'"
            ) from error

        def place() -> tuple[int, int]:
            return xp.cuda.Device().id, xp.cuda.get_current_stream().ptr

        try:
            return cls(cudnn, place)
        except (RuntimeError, AttributeError) as error:
            raise DeviceError(f"cuDNN cannot be loaded: {error}") from error

    # -- what it computes ----------------------------------------------------------------------------------------------

    def supports(self, kernel: str, g: Geometry, precision: str) -> bool:
        return is_symmetric(g) and self._plan(_Key(kernel, g, precision, None)) is not None

    def workspace(self, kernel: str, g: Geometry, precision: str) -> int:
        """What the plan needs, the gradient before it is added, and halves of x and of the sums."""
        plan = self._plan(_Key(kernel, g, precision, None))
        assert plan is not None, "asked for a plan that supports() declined"
        return self._before(kernel, g, precision) + -(-plan.workspace // 4)

    def fused_workspace(self, g: Geometry, precision: str, activation: int) -> int:
        fused = self._fused_plan(g, precision, activation)
        return max(super().fused_workspace(g, precision, activation), -(-fused.workspace // 4) if fused else 0)

    def forward(self, g: Geometry, x: Array, weights: Array, out: Array, room: Array | None, precision: str) -> None:
        assert precision != "float16", "halves need packed weights"
        self._run(_Key("forward", g, precision, None), (x, weights), out, room)

    def backward_weights(self, g: Geometry, x: Array, delta: Array, weight_updates: Array, room: Array | None) -> None:
        fresh = self._run_beside("backward_weights", g, (x, delta), weight_updates, room)
        each("convolution", "convolution_join_weights", fresh.size, fresh, weight_updates, fresh.size, 1)

    def backward_input(self, g: Geometry, weights: Array, delta: Array, input_delta: Array, room: Array | None) -> None:
        fresh = self._run_beside("backward_input", g, (delta, weights), input_delta, room)
        finish(fresh, None, None, input_delta, 1, (LINEAR, LINEAR), adds=True)

    def extra_floats(self, count: int, precision: str) -> int:
        return -(-count // 2) if precision == "float16" else 0

    def pack_extra(self, weights: Array, extra: Array, precision: str) -> None:
        if precision == "float16":
            _halve(weights, extra)

    def fused(
        self,
        g: Geometry,
        x: Array,
        weights: Array,
        extra: Array,
        out: Array,
        room: Array | None,
        precision: str,
        biases: Array,
        residual: Array | None,
        activations: tuple[int, int],
    ) -> None:
        if precision == "float16":
            self._fused_halves(g, x, extra, out, room, biases, residual, activations)
        elif residual is None and self._fused_plan(g, precision, activations[0]) is not None:
            self._run(_Key("forward", g, precision, activations[0]), (x, weights, biases), out, room)
        else:
            super().fused(g, x, weights, extra, out, room, precision, biases, residual, activations)

    def _fused_halves(
        self,
        g: Geometry,
        x: Array,
        weights: Array,
        out: Array,
        room: Array | None,
        biases: Array,
        residual: Array | None,
        activations: tuple[int, int],
    ) -> None:
        key = _Key("forward", g, "float16", None)
        room = self.checked_room("fused_convolution.forward", room, self.workspace("forward", g, "float16"))
        start, end = _halves(x.size), self._before("forward", g, "float16")
        _halve(x, room)
        self._run(key, (room, weights), room[start:], room[end:])
        area = g.oh * g.ow
        arrays = (room[start:], biases, residual, out)
        each("fused_convolution", "fused_convolution_finish", out.size, *arrays, out.size, g.n, area, *activations)

    # -- plans ---------------------------------------------------------------------------------------------------------

    def _before(self, kernel: str, g: Geometry, precision: str) -> int:
        """Floats of room in front of the plan's own."""
        if precision == "float16":
            return _halves(g.b * g.c * g.h * g.w) + _halves(g.b * g.n * g.oh * g.ow)
        if kernel == "backward_weights":
            return aligned(g.n * g.cg * g.taps)
        return aligned(g.b * g.c * g.h * g.w) if kernel == "backward_input" else 0

    def _run_beside(
        self, kernel: str, g: Geometry, inputs: tuple[Array, Array], target: Array, room: Array | None
    ) -> Array:
        """A gradient in the workspace, from where it is added to its target."""
        room = self.checked_room(f"convolution.{kernel}", room, self.workspace(kernel, g, "float32"))
        fresh = room[: target.size].reshape(target.shape)
        self._run(_Key(kernel, g, "float32", None), inputs, fresh, room[self._before(kernel, g, "float32") :])
        return fresh

    def _run(self, key: _Key, inputs: tuple[Array, ...], out: Array, room: Array | None) -> None:
        plan = self._plan(key)
        assert plan is not None, "run of a plan that was declined"
        handle = self._current_handle()
        pointers = {tensor: address(array) for tensor, array in zip(plan.inputs, inputs, strict=True)}
        pointers[plan.output] = address(out)
        scratch = self.checked_room(f"convolution.{key.kernel}", room, -(-plan.workspace // 4))
        try:
            plan.graph.execute(pointers, address(scratch) if plan.workspace else 0, handle=handle)
        except RuntimeError as error:
            raise DeviceError(f"cuDNN: {key}: {error}") from error

    def _current_handle(self) -> Any:
        """This thread's handle for the current device, on the current stream."""
        device, stream = self._place()
        key = (threading.get_ident(), device)
        with self._lock:
            if key not in self._handles:
                self._handles[key] = self._cudnn.create_handle()
        self._cudnn.set_stream(self._handles[key], stream)
        return self._handles[key]

    def _fused_plan(self, g: Geometry, precision: str, activation: int) -> _Plan | None:
        """The plan that ends with biases and this activation, where there is one."""
        if precision == "float16" or (activation != LINEAR and activation not in _ENDS):
            return None
        return self._plan(_Key("forward", g, precision, activation))

    def _plan(self, key: _Key) -> _Plan | None:
        """The plan for that; None where cuDNN declines it."""
        own = (self._place()[0], key)
        with self._lock:
            if own not in self._plans:
                self._plans[own] = self._build(key)
            return self._plans[own]

    def _build(self, key: _Key) -> _Plan | None:
        cudnn = self._cudnn
        handle = self._current_handle()
        try:
            graph, inputs, output = make_graph(cudnn, key.kernel, key.g, key.precision, key.activation, handle)
            graph.validate()
            graph.build_operation_graph()
            graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
            graph.deselect_numeric_notes([getattr(cudnn.numerical_note, name) for name in refused_notes(key.precision)])
            graph.check_support()
            graph.build_plans()
        except (cudnn.cudnnGraphNotSupportedError, RuntimeError, ValueError, NotImplementedError) as error:
            log.info("cuDNN declines %s: %s", key, str(error).splitlines()[0] if str(error) else type(error).__name__)
            return None
        return _Plan(graph, inputs, output, int(graph.get_workspace_size()))


def _halves(count: int) -> int:
    """Floats that so many halves take."""
    return aligned(-(-count // 2))


def _halve(x: Array, to: Array) -> None:
    each("fused_convolution", "fused_convolution_halves", -(-x.size // 2), x, to, x.size)


def is_symmetric(g: Geometry) -> bool:
    """Whether the outputs are those of equal padding on all sides."""
    extent = (g.k - 1) * g.dilation + 1
    sides = ((g.h, g.oh, g.stride_y), (g.w, g.ow, g.stride_x))
    return all(
        size + 2 * g.pad >= extent and (size + 2 * g.pad - extent) // step + 1 == out for size, out, step in sides
    )


def refused_notes(precision: str) -> list[str]:
    """Names of `cudnn.numerical_note` whose plans are not taken."""
    names = ["NONDETERMINISTIC", "WINOGRAD", "FFT"]
    if precision == "float16":
        return names
    names += ["DOWN_CONVERT_INPUTS", "REDUCED_PRECISION_REDUCTION"]
    return names if precision == "tf32" else [*names, "TENSOR_CORE"]


def make_graph(
    cudnn: Any, kernel: str, g: Geometry, precision: str, activation: int | None, handle: Any
) -> tuple[Any, tuple[Any, ...], Any]:
    """The graph of a pass, its inputs in the order of the kernel's arrays, and its output."""
    io = cudnn.data_type.HALF if precision == "float16" else cudnn.data_type.FLOAT
    single = cudnn.data_type.FLOAT
    graph = cudnn.pygraph(
        name=f"darkbn_{kernel}", io_data_type=io, intermediate_data_type=single, compute_data_type=single, handle=handle
    )
    x, weights, out = (g.b, g.c, g.h, g.w), (g.n, g.cg, g.k, g.k), (g.b, g.n, g.oh, g.ow)

    def tensor(name: str, dims: tuple[int, ...]) -> Any:
        return graph.tensor(name=name, dim=list(dims), stride=_strides(dims), data_type=io)

    steps: dict[str, Any] = {
        "pre_padding": [g.pad, g.pad],
        "post_padding": [g.pad, g.pad],
        "stride": [g.stride_y, g.stride_x],
        "dilation": [g.dilation, g.dilation],
        "compute_data_type": single,
    }
    if kernel == "backward_weights":
        inputs: tuple[Any, ...] = (tensor("x", x), tensor("delta", out))
        result, dims = graph.conv_wgrad(image=inputs[0], loss=inputs[1], name="gradient", **steps), weights
    elif kernel == "backward_input":
        inputs = (tensor("delta", out), tensor("weights", weights))
        result, dims = graph.conv_dgrad(loss=inputs[0], filter=inputs[1], name="gradient", **steps), x
    else:
        inputs = (tensor("x", x), tensor("weights", weights))
        result, dims = graph.conv_fprop(image=inputs[0], weight=inputs[1], name="sums", **steps), out
    if activation is not None:
        inputs = (*inputs, tensor("biases", (1, g.n, 1, 1)))
        result = graph.bias(input=result, bias=inputs[-1], name="biased")
        if activation != LINEAR:
            name, arguments = _ENDS[activation]
            result = getattr(graph, name)(result, name="activated", **arguments)
    result.set_output(True).set_data_type(io).set_dim(list(dims)).set_stride(_strides(dims))
    return graph, inputs, result


def _strides(dims: tuple[int, ...]) -> list[int]:
    """Of rows that follow each other."""
    steps = [1]
    for size in reversed(dims[1:]):
        steps.append(steps[-1] * max(size, 1))
    return steps[::-1]
