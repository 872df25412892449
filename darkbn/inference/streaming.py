"""Parameters that are in memory only while a step is made of them: those of a network loaded for inference.

Arrays are allocated but not touched, so that they take no memory yet; before a step is made, those that it needs are
read from the file, and afterwards they are gone. At the end only outputs are left, and all that layers need which run
as they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from darkbn.inference.program import Bottleneck, Convolution, Op, Program
from darkbn.layers.base import Role
from darkbn.weights import is_loaded_whole

if TYPE_CHECKING:
    from darkbn.layers.base import Layer
    from darkbn.network import Network

_PARAMETERS = (Role.PARAMETER, Role.STATISTIC)


class Parameters:
    """The parameters of a network that has them in memory.

    Attributes:
        overwrite: whether steps may fold into the layers' own arrays.
    """

    overwrite = False

    @contextlib.contextmanager
    def held(self, op: Op) -> Iterator[None]:
        """While a step is made of the operation, the arrays of its layers hold their values."""
        yield


class StreamedParameters(Parameters):
    """Those of a network that reads them from its file when they are needed.

    Attributes:
        warnings: what was odd about the values.
    """

    def __init__(self, net: Network) -> None:
        self._net, self.warnings = net, list[str]()
        self._kept: set[int] = set()
        for layer in net.layers:
            layer.allocate(False)
        # Filters that several layers share are read for each of them, and must still be what the file has.
        self.overwrite = not any(vars(part).get("share_layer") for layer in net.layers for _, part in layer.walk())

    @contextlib.contextmanager
    def held(self, op: Op) -> Iterator[None]:
        layers = _layers(op)
        for layer in layers:
            self._read(layer)
        yield
        if op.kind == "layer":
            self._kept |= {id(layer) for layer in layers}
        elif self.overwrite:
            for layer in layers:
                layer.release(_PARAMETERS)

    def _read(self, layer: Layer) -> None:
        parts = [part for _, part in layer.walk()]
        parts += [part.share_layer for part in parts if vars(part).get("share_layer") is not None]
        if not is_loaded_whole(layer):
            layer.initialize(self._net.random)
        self.warnings += self._net.weights_file.read(parts)

    def finish(self, program: Program) -> None:
        """Let go of everything that no step needs."""
        external = set(program.external.values())
        for index, layer in enumerate(self._net.layers):
            if id(layer) not in self._kept:
                layer.release(_PARAMETERS if index in external else tuple(Role))


def _layers(op: Op) -> list[Layer]:
    """The layers whose parameters an operation takes."""
    arguments: Any = op.arguments
    if isinstance(arguments, Bottleneck):
        return [layer for part in arguments.parts for layer in _layers(part)]
    found = [] if op.layer is None else [op.layer]
    if isinstance(arguments, Convolution) and arguments.normalization is not None:
        found.append(arguments.normalization)
    return found
