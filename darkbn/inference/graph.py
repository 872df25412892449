"""Who reads whose output: the layers of a network that its outputs depend on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from darkbn.errors import DarkbnError
from darkbn.inference.program import INPUT
from darkbn.layers.implicit import ImplicitLayer
from darkbn.layers.route import RouteLayer
from darkbn.layers.sam import SamLayer
from darkbn.layers.scale_channels import ScaleChannelsLayer
from darkbn.layers.shortcut import ShortcutLayer

if TYPE_CHECKING:
    from darkbn.layers.base import Layer
    from darkbn.network import Network


def layer_reads(layer: Layer, index: int) -> tuple[int, ...]:
    """Indices of the layers whose outputs a layer reads, INPUT for the network's input; repeated where it reads twice.

    All but [route] and [implicit] read the layer before, and that first.
    """
    before = index - 1 if index else INPUT
    if isinstance(layer, RouteLayer):
        return tuple(layer.input_layers)
    if isinstance(layer, ShortcutLayer):
        return (before, *layer.input_layers)
    if isinstance(layer, ScaleChannelsLayer | SamLayer):
        return (before, layer.source.context.index)
    if isinstance(layer, ImplicitLayer):
        return ()
    return (before,)


def needed_layers(layers: Sequence[Layer], outputs: Iterable[int]) -> tuple[int, ...]:
    """Indices, in order, of the layers that the outputs of some layers depend on, those included."""
    found: set[int] = set()
    waiting = list(outputs)
    while waiting:
        index = waiting.pop()
        if index != INPUT and index not in found:
            found.add(index)
            waiting += layer_reads(layers[index], index)
    return tuple(sorted(found))


def default_outputs(net: Network) -> tuple[int, ...]:
    """Indices of the layers whose outputs `predict` and `detect` need: the detection heads, and the output layer where
    there are not several of them."""
    layers = [*net.heads, *([net.output_layer] if len(net.heads) < 2 else [])]
    return tuple(dict.fromkeys(layer.context.index for layer in layers))


def checked_outputs(net: Network, outputs: Iterable[int]) -> tuple[int, ...]:
    """Layer indices without repetitions, negative ones counted from the end.

    Raises DarkbnError for one that does not exist, or none at all.
    """
    count, found = len(net.layers), []
    for index in outputs:
        if not -count <= index < count:
            raise DarkbnError(f"{net.cfg.file}: outputs: there is no layer {index}, the last is {count - 1}")
        found.append(index % count)
    if not found:
        raise DarkbnError(f"{net.cfg.file}: outputs: at least one layer is needed")
    return tuple(dict.fromkeys(found))
