"""Building of an ONNX graph: values by name, constants stored once, what differs between opsets in one place."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from darkbn.errors import DarkbnError
from darkbn.extras import require

#: Oldest opset that the graphs are written for.
MIN_OPSET = 13
#: Opset that is written unless another is asked for; of 2022, so that programs of the years since read it.
DEFAULT_OPSET = 17
#: From here on the axes of all reductions are inputs.
_AXES_ARE_INPUTS = 18
#: Largest size of the file: protobuf's own limit, less some room for the structure.
_MAX_BYTES = 2**31 - 2**20

Array = np.ndarray[Any, Any]


@dataclass
class Node:
    """One operation."""

    kind: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)


class Graph:
    """Nodes and constants in the order of their making.

    Attributes:
        opset: version of the operators.
        dtype: of floating point values inside.
        scope: prefix of the names of values and constants made from now on.
    """

    def __init__(self, opset: int, dtype: type[np.floating[Any]]) -> None:
        newest = int(require("onnx", extra="onnx").defs.onnx_opset_version())
        if not MIN_OPSET <= opset <= newest:
            raise DarkbnError(f"opset must be {MIN_OPSET} to {newest}, found {opset}")
        self.opset, self.dtype, self.scope = opset, dtype, ""
        self.nodes: list[Node] = []
        self.initializers: dict[str, Array] = {}
        self.inputs: list[tuple[str, Sequence[int | str | None]]] = []
        self.outputs: list[tuple[str, Sequence[int | str | None]]] = []
        self._stored: dict[tuple[Any, ...], str] = {}
        self._taken: set[str] = set()

    # -- values --------------------------------------------------------------------------------------------------

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; returns the name of that value. "" stands for an input left out."""
        name = self._free_name(kind.lower())
        self.nodes.append(Node(kind, list(inputs), [name], attributes))
        return name

    def rename(self, old: str, new: str, start: int) -> None:
        """Give the value `old`, made by nodes from number `start` on, another name."""
        for node in self.nodes[start:]:
            node.inputs = [new if name == old else name for name in node.inputs]
            node.outputs = [new if name == old else name for name in node.outputs]
        self._taken.add(new)

    def made_since(self, name: str, start: int) -> bool:
        """Whether a node from number `start` on makes the value."""
        return any(name in node.outputs for node in self.nodes[start:])

    def _free_name(self, hint: str) -> str:
        base = f"{self.scope}.{hint}" if self.scope else hint
        name, number = base, 1
        while name in self._taken:
            number += 1
            name = f"{base}_{number}"
        self._taken.add(name)
        return name

    # -- constants -----------------------------------------------------------------------------------------------

    def constant(self, values: Any, hint: str = "constant", dtype: type[np.generic] | None = None) -> str:
        """Name of a constant with these values; equal constants are stored once.

        Floating point values become `dtype`, by default the graph's type, integers int64.
        """
        array = np.asarray(values)
        if array.dtype.kind == "f":
            with np.errstate(over="ignore"):
                array = array.astype(dtype or self.dtype)
        elif array.dtype.kind in "iu":
            array = array.astype(np.int64)
        array = np.asarray(array, order="C")
        key = (array.dtype.str, array.shape, hashlib.blake2b(array.data, digest_size=16).digest())
        if key not in self._stored:
            self._stored[key] = name = self._free_name(hint)
            self.initializers[name] = array
        return self._stored[key]

    def scalar(self, value: float) -> str:
        """A floating point constant without axes."""
        return self.constant(np.float64(value))

    # -- operations whose form depends on the opset or that are needed often -----------------------------------------

    def reduce(self, kind: str, x: str, axes: Sequence[int]) -> str:
        """ReduceMax, ReduceSumSquare, ... over some axes, which stay with length 1."""
        if self.opset >= _AXES_ARE_INPUTS or kind == "ReduceSum":
            return self.op(kind, x, self.constant(list(axes)), keepdims=1)
        return self.op(kind, x, axes=list(axes), keepdims=1)

    def slice(self, x: str, axes: Sequence[int], starts: Any, ends: Any, steps: Any = None) -> str:
        """Part of a value."""
        steps = [1] * len(axes) if steps is None else steps
        return self.op("Slice", x, *(self.constant(list(part)) for part in (starts, ends, axes, steps)))

    def pad(self, x: str, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> str:
        """Constant values round a value, per axis."""
        return self.op("Pad", x, self.constant([*before, *after]), self.scalar(value))

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        """Another shape; 0 keeps the length of the axis in that place, -1 is what is left."""
        return self.op("Reshape", x, self.constant(list(shape)))

    def lengths(self, x: str, axes: Sequence[int]) -> str:
        """Lengths of some axes, as they are when the graph runs."""
        return self.op("Gather", self.op("Shape", x), self.constant(list(axes)), axis=0)

    def cast(self, x: str, dtype: type[np.generic]) -> str:
        """Another element type."""
        onnx = require("onnx", extra="onnx")
        return self.op("Cast", x, to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    # -- the model -----------------------------------------------------------------------------------------------

    def model(self, name: str, doc: str, metadata: dict[str, str]) -> Any:
        """The finished onnx.ModelProto, checked."""
        onnx = require("onnx", extra="onnx")
        helper, version = onnx.helper, _version()
        size = sum(array.nbytes for array in self.initializers.values())
        if size > _MAX_BYTES:
            raise DarkbnError(f"the parameters take {size:,} bytes, an ONNX file holds at most 2 GiB: use float16")
        graph = helper.make_graph(
            [
                helper.make_node(n.kind, n.inputs, n.outputs, name=n.outputs[0] + ":" + n.kind, **n.attributes)
                for n in self.nodes
            ],
            name,
            [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, list(shape)) for n, shape in self.inputs],
            [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, list(shape)) for n, shape in self.outputs],
            initializer=[onnx.numpy_helper.from_array(array, n) for n, array in self.initializers.items()],
            doc_string=doc,
        )
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=helper.find_min_ir_version_for(opsets),
            producer_name="darkbn",
            producer_version=version,
        )
        helper.set_model_props(model, metadata)
        onnx.checker.check_model(model)
        return model


def _version() -> str:
    from darkbn.version import __version__

    return __version__
