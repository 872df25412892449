"""What writing a section needs to know: the graph, the values of the layers before, how the model is wanted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from darkbn.backend import to_host
from darkbn.errors import UnsupportedError
from darkbn.interop.onnx.graph import Array, Graph, Node
from darkbn.layers.base import Layer
from darkbn.network import Network

#: Name of the model's input.
INPUT = "input"


def layer_name(index: int) -> str:
    """Name of the value that holds a layer's output."""
    return f"layer_{index}"


class CannotExportError(UnsupportedError):
    """Sections that cannot be written, with the reasons."""


@dataclass(frozen=True)
class Wanted:
    """How the model is wanted; see `darkbn.interop.onnx.export_onnx`."""

    dynamic_batch: bool
    dynamic_size: bool
    fold: bool
    batch: int
    opset: int
    float16: bool


class Exporter:
    """Writes the layers of a network one after the other.

    Attributes:
        net: the network.
        g: the graph.
        wanted: how the model is wanted.
        values: name of each written layer's output; it has the rank of `Layer.output_shape`.
        refused: why sections could not be written.
    """

    def __init__(self, net: Network, wanted: Wanted) -> None:
        self.net, self.wanted = net, wanted
        self.g = Graph(wanted.opset, np.float16 if wanted.float16 else np.float32)
        self.values: list[str] = []
        self.refused: list[str] = []
        self._ranks: dict[str, int] = {}
        self._start = 0  # number of the first node of the layer that is being written

    # -- layers --------------------------------------------------------------------------------------------------

    def run(self, writers: dict[str, Callable[[Exporter, Layer, str], str]]) -> None:
        """Write all layers. Raises CannotExportError, naming every section that cannot be written."""
        x = self._write_input()
        for index, layer in enumerate(self.net.layers):
            self.g.scope = layer_name(index)
            writer = writers.get(layer.type)
            try:
                if writer is None:
                    raise self.refuse(layer, "no operators are known for it")
                if getattr(layer.options, "maxpool_zero_nonmax", False):
                    raise self.refuse(layer, "no operators are known for maxpool_zero_nonmax=, which changes its input")
                x = self._finish(index, layer, writer(self, layer, x))
            except CannotExportError as error:
                self.refused.append(str(error))
                x = self._finish(index, layer, x)
        self.g.scope = ""
        if self.refused:
            raise CannotExportError("cannot be exported to ONNX: " + "; ".join(self.refused))

    def _write_input(self) -> str:
        shape: list[int | str | None] = list(self.net.input_shape)
        shape[0] = "batch" if self.wanted.dynamic_batch else self.wanted.batch
        if self.wanted.dynamic_size and len(shape) == 4:
            shape[2:] = ["height", "width"]
        self.g.inputs.append((INPUT, shape))
        x = self.g.cast(INPUT, np.float16) if self.wanted.float16 else INPUT
        self._ranks[x] = len(shape)
        return x

    def _finish(self, index: int, layer: Layer, value: str) -> str:
        """Name the layer's value after it, with the rank of its output."""
        rank, name, start = len(layer.output_shape), layer_name(index), self._start
        if self._ranks.get(value, rank) != rank:
            value = self.image(layer, value, of_output=True) if rank == 4 else self.flat(value)
        if self.g.made_since(value, start):
            self.g.rename(value, name, start)
        else:
            self.g.nodes.append(Node("Identity", [value], [name]))
        self._ranks[name] = rank
        self._start = len(self.g.nodes)
        self.values.append(name)
        return name

    def keep_rank(self, value: str, of: str) -> str:
        """Note that a value has the rank of another."""
        self._ranks[value] = self._ranks[of]
        return value

    def set_rank(self, value: str, rank: int) -> str:
        """Note the rank of a value that is not that of the layer's output."""
        self._ranks[value] = rank
        return value

    def refuse(self, layer: Layer, why: str) -> CannotExportError:
        """The error that says why a section cannot be written."""
        section = layer.context.section
        place = f"{section.file}:{section.line}: " if section else ""
        return CannotExportError(f"{place}[{layer.type}] (layer {layer.context.index}): {why}")

    def require_fixed_size(self, layer: Layer, why: str) -> None:
        """Refuse a section that needs to know the size of its input when the size is left open."""
        if self.wanted.dynamic_size:
            raise self.refuse(layer, f"{why}, so the size cannot be dynamic")

    # -- shapes --------------------------------------------------------------------------------------------------

    def image(self, layer: Layer, x: str, *, of_output: bool = False) -> str:
        """A value of the layer's input (or output) as (batch, c, h, w)."""
        if self._ranks.get(x, 4) == 4:
            return x
        c, h, w = (layer.out_c, layer.out_h, layer.out_w) if of_output else (layer.c, layer.h, layer.w)
        return self.set_rank(self.g.reshape(x, (0, c, h, w)), 4)

    def flat(self, x: str) -> str:
        """A value as (batch, values)."""
        if self._ranks.get(x, 4) == 2:
            return x
        return self.set_rank(self.g.op("Flatten", x, axis=1), 2)

    def restore(self, x: str, like: str, layer: Layer) -> str:
        """A value with other axes brought back to the shape of `like`, the layer's input."""
        if self.wanted.dynamic_size:
            return self.keep_rank(self.g.op("Reshape", x, self.g.op("Shape", like)), like)
        shape = (layer.c, layer.h, layer.w) if self._ranks.get(like, 4) == 4 else (layer.inputs,)
        return self.keep_rank(self.g.reshape(x, (0, *shape)), like)

    # -- parameters ----------------------------------------------------------------------------------------------

    def parameter(self, layer: Layer, values: Array, name: str) -> str:
        """Name of a constant holding parameters; refuses values that float16 cannot hold."""
        if self.wanted.float16 and np.abs(values).max(initial=0) > np.finfo(np.float16).max:
            largest = float(np.abs(values).max())
            raise self.refuse(layer, f"{name} reach {largest:.3g}, float16 ends at 65504")
        return self.g.constant(np.asarray(values, dtype=np.float64), name)


def host_array(layer: Layer, name: str) -> Array:
    """An array of a layer as NumPy float64, wherever it lives."""
    array = getattr(layer, name)
    return np.asarray(to_host(array), dtype=np.float64)
