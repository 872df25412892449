"""Stand-ins for cuBLAS and cuDNN: their interfaces on the host's memory, computed by NumPy.

They show that what darkbn asks for is what the convolution needs: sizes, leading dimensions, steps between matrices,
transposition, tensors and their strides, padding, order of calls, room. They do not show that a library has a plan
for it, that it computes what its manual says, or how fast. Names and arguments are those of CuPy 14
(`gemmStridedBatchedEx`) and of nvidia-cudnn-frontend 1.32 (`pygraph`); tests/test_providers.py compares them where
these are installed.
"""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from darkbn.activations import Activation
from darkbn.reference import activation as activations
from darkbn.reference import convolution

Array = np.ndarray[Any, Any]


def rounded(x: Array, precision: str) -> Array:
    """x as products in that precision read it."""
    if precision == "float32":
        return x
    if precision == "float16":
        return x.astype(np.float16).astype(np.float32)
    bits = np.ascontiguousarray(x).view(np.uint32)
    return ((bits + 0x1000) & 0xFFFFE000).astype(np.uint32).view(np.float32)


def memory(pointer: int, count: int, dtype: str = "float32") -> Array:
    """So many elements at an address."""
    size = count * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(pointer), dtype)


class Blas:
    """cuBLAS: matrices of columns that lie `ld` apart."""

    CUBLAS_OP_N, CUBLAS_OP_T = 0, 1
    CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_16F, CUBLAS_COMPUTE_32F_FAST_TF32 = 68, 74, 77

    def __init__(self) -> None:
        self.calls: list[int] = []

    def gemmStridedBatchedEx(
        self, handle: int, transa: int, transb: int, m: int, n: int, k: int, alpha: int,
        A: int, Atype: int, lda: int, strideA: int, B: int, Btype: int, ldb: int, strideB: int, beta: int,
        C: int, Ctype: int, ldc: int, strideC: int, batchCount: int, computeType: int, algo: int,
    ) -> None:  # fmt: skip
        assert (handle, Atype, Btype, Ctype, algo) == (7, 0, 0, 0, -1)
        assert min(m, n, k, batchCount) >= 1
        kinds = {68: "float32", 74: "float16", 77: "tf32"}
        scale, kept = memory(alpha, 1)[0], memory(beta, 1)[0]
        self.calls.append(batchCount)
        for i in range(batchCount):
            a = self._matrix(A, i * strideA, (k, m) if transa else (m, k), lda)
            b = self._matrix(B, i * strideB, (n, k) if transb else (k, n), ldb)
            c = self._matrix(C, i * strideC, (m, n), ldc)
            a, b = (rounded(x.copy(), kinds[computeType]).astype(np.float64) for x in (a, b))
            result = scale * ((a.T if transa else a) @ (b.T if transb else b))
            c[...] = result if kept == 0 else result + kept * c

    @staticmethod
    def _matrix(pointer: int, start: int, shape: tuple[int, int], ld: int) -> Array:
        rows, columns = shape
        assert ld >= rows
        flat = memory(pointer + 4 * start, (columns - 1) * ld + rows)
        return as_strided(flat, shape, (4, 4 * ld))


class NotSupported(Exception):
    """Of cuDNN: no plan for this graph."""


class Tensor:
    """A tensor of a graph."""

    def __init__(self, **facts: Any) -> None:
        self.__dict__.update(facts)

    def set_output(self, value: bool) -> Tensor:
        self.is_output = value
        return self

    def set_data_type(self, value: str) -> Tensor:
        self.data_type = value
        return self

    def set_dim(self, value: list[int]) -> Tensor:
        self.dim = value
        return self

    def set_stride(self, value: list[int]) -> Tensor:
        self.stride = value
        return self

    def array(self, pointer: int) -> Array:
        dtype = {"FLOAT": "float32", "HALF": "float16"}[self.data_type]
        packed = [int(np.prod(self.dim[axis + 1 :])) for axis in range(len(self.dim))]
        assert self.stride == packed, f"{self.name}: strides {self.stride} of {self.dim}"
        return memory(pointer, int(np.prod(self.dim)), dtype).reshape(self.dim)


#: What must be called before what.
ORDER = ("validate", "build_operation_graph", "create_execution_plans", "deselect_numeric_notes", "check_support")

#: Bytes of workspace of every plan; not a multiple of four.
ROOM = 1030

_ENDS = {"relu": Activation.RELU, "leaky_relu": Activation.LEAKY, "sigmoid": Activation.LOGISTIC,
         "tanh": Activation.TANH, "swish": Activation.SWISH}  # fmt: skip


class Graph:
    """cuDNN's graph of one convolution and what follows it."""

    def __init__(
        self, name: str, io_data_type: str, intermediate_data_type: str, compute_data_type: str, handle: Any
    ) -> None:
        assert (intermediate_data_type, compute_data_type) == ("FLOAT", "FLOAT")
        self.io, self.steps, self.ends, self.done = io_data_type, {}, [], []
        self.kernel, self.inputs, self.library = "", (), handle.library

    def tensor(self, name: str, dim: list[int], stride: list[int], data_type: str) -> Tensor:
        assert data_type == self.io
        return Tensor(name=name, dim=dim, stride=stride, data_type=data_type)

    def _made(self, kernel: str, inputs: tuple[Tensor, ...], name: str, steps: dict[str, Any]) -> Tensor:
        assert steps.pop("compute_data_type") == "FLOAT"
        assert set(steps) == {"pre_padding", "post_padding", "stride", "dilation"}
        self.kernel, self.inputs, self.steps = kernel, inputs, steps
        return Tensor(name=name, dim=None, stride=None, data_type="FLOAT")

    def conv_fprop(self, image: Tensor, weight: Tensor, name: str = "", **steps: Any) -> Tensor:
        return self._made("forward", (image, weight), name, steps)

    def conv_dgrad(self, loss: Tensor, filter: Tensor, name: str = "", **steps: Any) -> Tensor:
        return self._made("backward_input", (loss, filter), name, steps)

    def conv_wgrad(self, image: Tensor, loss: Tensor, name: str = "", **steps: Any) -> Tensor:
        return self._made("backward_weights", (image, loss), name, steps)

    def bias(self, input: Tensor, bias: Tensor, name: str = "") -> Tensor:
        self.inputs = (*self.inputs, bias)
        return Tensor(name=name, dim=None, stride=None, data_type="FLOAT")

    def _end(self, name: str) -> Tensor:
        self.ends.append(name)
        return Tensor(name=name, dim=None, stride=None, data_type="FLOAT")

    def relu(self, input: Tensor, name: str = "") -> Tensor:
        return self._end("relu")

    def leaky_relu(self, input: Tensor, negative_slope: float, name: str = "") -> Tensor:
        assert negative_slope == 0.1
        return self._end("leaky_relu")

    def sigmoid(self, input: Tensor, name: str = "") -> Tensor:
        return self._end("sigmoid")

    def tanh(self, input: Tensor, name: str = "") -> Tensor:
        return self._end("tanh")

    def swish(self, input: Tensor, name: str = "") -> Tensor:
        return self._end("swish")

    def _step(self, name: str) -> None:
        assert tuple(self.done) == ORDER[: len(self.done)]
        assert name == ORDER[len(self.done)]
        self.done.append(name)

    def validate(self) -> None:
        self._step("validate")

    def build_operation_graph(self) -> None:
        self._step("build_operation_graph")

    def create_execution_plans(self, heuristics: list[str]) -> None:
        assert heuristics == ["A", "FALLBACK"]
        self._step("create_execution_plans")

    def deselect_numeric_notes(self, notes: list[str]) -> None:
        self.notes = notes
        self._step("deselect_numeric_notes")

    def check_support(self) -> None:
        self._step("check_support")
        if self.library.declines(self):
            raise NotSupported("no plan\nfor this graph")

    def build_plans(self) -> None:
        assert tuple(self.done) == ORDER
        self.library.built.append(self)

    def get_workspace_size(self) -> int:
        return ROOM

    def execute(self, pointers: dict[Tensor, int], workspace: int, handle: Any) -> None:
        assert handle.stream == self.library.stream
        self.library.runs += 1
        (output,) = [tensor for tensor in pointers if tensor not in self.inputs]
        assert output.is_output
        values = [tensor.array(pointers[tensor]).astype(np.float64) for tensor in self.inputs]
        result = self._computed(values, output.dim)
        memory(workspace, ROOM, "uint8")[:] = 0xFF  # if anything else lies there, it is NaN now
        output.array(pointers[output])[...] = result

    def _computed(self, values: list[Array], dims: list[int]) -> Array:
        out = np.zeros(dims)
        pad, after, (stride_y, stride_x), dilation = (
            self.steps[name] for name in ("pre_padding", "post_padding", "stride", "dilation")
        )
        assert pad == after == [pad[0]] * 2
        assert dilation == [dilation[0]] * 2
        steps = (stride_y, stride_x, dilation[0], pad[0], 0, 1)
        if self.kernel == "forward":
            groups = values[0].shape[1] // values[1].shape[1]
            convolution.forward(values[0], values[1], None, out, np.empty(0), groups, *steps)
        elif self.kernel == "backward_weights":
            groups = values[0].shape[1] // dims[1]
            convolution.backward_weights(*values, out, np.empty(0), groups, *steps)
        else:
            groups = dims[1] // values[1].shape[1]
            convolution.backward_input(values[1], values[0], out, np.empty(0), groups, *steps)
        for biases in values[2:]:
            out += biases
        for name in self.ends:
            activations.forward(out, int(_ENDS[name]), 1)
        return out


class Dnn:
    """The module `cudnn`."""

    __version__ = "1.32.0"
    data_type = SimpleNamespace(FLOAT="FLOAT", HALF="HALF")
    heur_mode = SimpleNamespace(A="A", FALLBACK="FALLBACK")
    numerical_note = SimpleNamespace(**{
        name: name
        for name in ("NONDETERMINISTIC", "WINOGRAD", "FFT", "DOWN_CONVERT_INPUTS", "REDUCED_PRECISION_REDUCTION",
                     "TENSOR_CORE")
    })  # fmt: skip
    cudnnGraphNotSupportedError = NotSupported
    pygraph = Graph

    def __init__(self, declines: Any = lambda graph: False) -> None:
        self.declines, self.built, self.runs, self.stream = declines, [], 0, 11

    def backend_version_string(self) -> str:
        return "9.99.0"

    def create_handle(self) -> Any:
        return SimpleNamespace(library=self, stream=0)

    def set_stream(self, handle: Any, stream: int) -> None:
        handle.stream = stream
