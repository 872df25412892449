"""Folding of a whole network: a new network without batch normalization, and its files.

Folded are convolutional, deconvolutional and connected layers, those inside recurrent ones included, and a [batchnorm]
layer behind one of them that is linear and that nothing else reads. Layer indices stay: such a [batchnorm] becomes an
[activation] that is linear.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from darkbn.backend import to_host
from darkbn.cfg import Cfg, read_cfg
from darkbn.errors import DarkbnError
from darkbn.files import atomic_write
from darkbn.inference.fold import folded_parameters
from darkbn.inference.graph import layer_reads
from darkbn.layers.base import Layer, Role
from darkbn.layers.batchnorm import BatchnormLayer
from darkbn.layers.connected import ConnectedLayer
from darkbn.layers.convolutional import ConvolutionalLayer
from darkbn.layers.deconvolutional import DeconvolutionalLayer
from darkbn.network import Network

#: Options that are gone from a folded description: what was folded, and what says that a weights file is read or
#: written in parts or transposed, for the folded file is whole.
_BATCH_NORMALIZE = frozenset({"batch_normalize", "cbn"})
_PARTIAL = frozenset({"dontload", "dontloadscales", "dontsave", "numload", "flipped"})


@dataclass(frozen=True)
class FoldedLayer:
    """Batch normalization that was folded.

    Attributes:
        index: of the layer whose weights took it over.
        type: the layer's.
        part: name of the layer inside a recurrent one ("input_layer", ...); "" for the layer itself.
        batchnorm: index of the [batchnorm] layer that was folded into it, too; None without one.
    """

    index: int
    type: str
    part: str
    batchnorm: int | None


@dataclass(frozen=True)
class KeptLayer:
    """Batch normalization that could not be folded.

    Attributes:
        index, type: of the layer that normalizes.
        reason: why.
    """

    index: int
    type: str
    reason: str


@dataclass(frozen=True)
class Folding:
    """What `fold` made.

    Attributes:
        network: a new network that computes the same; the given one is as it was.
        folded, kept: what was done to each layer with batch normalization.
        largest_change: largest difference between an output of the network and of the folded one.
        largest_output: largest absolute value of the outputs that were compared.
    """

    network: Network
    folded: tuple[FoldedLayer, ...]
    kept: tuple[KeptLayer, ...]
    largest_change: float
    largest_output: float

    def save(self, cfg: str | os.PathLike[str], weights: str | os.PathLike[str]) -> None:
        """Write the folded network; each file appears whole or not at all. darkbn and Darknet load both."""
        text = self.network.cfg.text.encode("utf-8", errors="surrogateescape")
        for path in (cfg, weights):
            if not Path(path).absolute().parent.is_dir():
                raise DarkbnError(f"{path}: there is no folder {Path(path).absolute().parent}")
        self.network.save_weights(weights)
        with atomic_write(cfg) as file:
            file.write(text)


def fold(net: Network, x: Any = None) -> Folding:
    """A network without batch normalization that predicts what the given one does.

    Args:
        net: the network; neither its parameters nor its outputs and states change.
        x: input, `net.input_shape`, on which both are compared; None: random numbers between 0 and 1.

    Raises:
        DarkbnError: nothing to fold.
    """
    behind = _foldable_batchnorms(net)
    folded, kept = _decide(net, behind)
    if not folded:
        why = "; ".join(f"layer {k.index} [{k.type}]: {k.reason}" for k in kept) or "no layer has any"
        raise DarkbnError(f"{net.cfg.file}: there is no batch normalization to fold ({why})")
    new = _build(net, _folded_cfg(net, folded))
    twin = _build(net, net.cfg)
    _copy_parameters(net, twin)
    _copy_parameters(net, new)
    for layer in folded:
        source, target = (_part(network, layer) for network in (net, new))
        then = None if layer.batchnorm is None else net.layers[layer.batchnorm]
        target.weights[...], target.biases[...] = folded_parameters(source, then)
    change, largest = _compare(twin, new, x)
    return Folding(new, tuple(folded), tuple(kept), change, largest)


# ------------------------------------------------------------------------------------------------ what can be folded


def _weighted(layer: Layer) -> Iterator[tuple[str, Any]]:
    """A layer and those inside it that have weights which could take over batch normalization."""
    for prefix, part in layer.walk():
        if isinstance(part, ConvolutionalLayer | DeconvolutionalLayer | ConnectedLayer):
            yield prefix.rstrip("."), part


def _foldable_batchnorms(net: Network) -> dict[int, int]:
    """[batchnorm] layers by the index of the layer before, where that can take them over."""
    reads = [index for at, layer in enumerate(net.layers) for index in layer_reads(layer, at)]
    found = {}
    for index, layer in enumerate(net.layers):
        if isinstance(layer, BatchnormLayer) and not _why_not_before(net, index, reads):
            found[index - 1] = index
    return found


def _why_not_before(net: Network, index: int, reads: list[int]) -> str:
    """Why a [batchnorm] layer cannot be folded into the layer before; empty when it can."""
    before: Any = net.layers[index - 1] if index else None
    if not isinstance(before, ConvolutionalLayer | DeconvolutionalLayer | ConnectedLayer):
        return "the layer before has no weights that could take it over"
    if before.activation != "linear":
        return f"the layer before has the activation {before.activation}"
    if reads.count(index - 1) > 1:
        return "another layer reads what it normalizes"
    if _sharers(net, before) != [before]:
        return "the layer before shares its weights (share_index)"
    return ""


def _sharers(net: Network, layer: Any) -> list[Any]:
    """All convolutions that use the same arrays as this one, itself included."""
    parts = [part for l in net.layers for _, part in _weighted(l)]
    return [part for part in parts if part.weights is layer.weights]


def _decide(net: Network, behind: dict[int, int]) -> tuple[list[FoldedLayer], list[KeptLayer]]:
    reads = [index for at, layer in enumerate(net.layers) for index in layer_reads(layer, at)]
    folded, kept = [], []
    for index, layer in enumerate(net.layers):
        if isinstance(layer, BatchnormLayer) and index - 1 not in behind:
            kept.append(KeptLayer(index, layer.type, _why_not_before(net, index, reads)))
        for name, part in _weighted(layer):
            then = behind.get(index) if part is layer else None
            if part.batch_normalize and not all(other.batch_normalize for other in _sharers(net, part)):
                kept.append(KeptLayer(index, layer.type, "a layer without batch normalization shares its weights"))
            elif part.batch_normalize or then is not None:
                folded.append(FoldedLayer(index, layer.type, name, then))
    return folded, kept


# ---------------------------------------------------------------------------------------------------- the new network


def _folded_cfg(net: Network, folded: list[FoldedLayer]) -> Cfg:
    """The description with the lines of what was folded taken out; all others stay, comments too."""
    source = net.cfg if net.cfg.text else read_cfg(net.cfg.to_text())
    lines: list[str | None] = list(source.text.split("\n"))
    normalized = {layer.index for layer in folded if _part(net, layer).batch_normalize}
    replaced = {layer.batchnorm for layer in folded}
    for index, section in enumerate(source.layers):
        keys = _PARTIAL | (_BATCH_NORMALIZE if index in normalized else frozenset())
        if index in replaced:
            lines[section.line - 1] = "[activation]\nactivation=linear"
        for entry in section.entries:
            if entry.key in keys or index in replaced:
                lines[entry.line - 1] = None
    text = "\n".join(line for line in lines if line is not None)
    return replace(read_cfg(text + ("" if "\n" in text else "\n")), file=net.cfg.file, folder=net.cfg.folder)


def _build(net: Network, cfg: Cfg) -> Network:
    """A network like `net` from another description, with its size and batch; parameters are still random."""
    options = replace(net.options, width=net.width, height=net.height, inputs=net.inputs)
    new = Network(
        cfg,
        options=options,
        dialect=net.dialect,
        dialect_reason=net.dialect_reason,
        convention=net.convention,
        backend=net.backend,
        training=False,
        seed=0,
        threads=net.threads,
        warnings=[],
    )
    new.seen = net.seen
    return new


def _part(net: Network, layer: FoldedLayer) -> Any:
    return dict(_weighted(net.layers[layer.index]))[layer.part]


def _copy_parameters(source: Network, target: Network) -> None:
    """Parameters and statistics, as far as the target has them."""
    for old, new in zip(source.layers, target.layers, strict=True):
        for (_, old_part), (_, new_part) in zip(old.walk(), new.walk(), strict=True):
            for buffer in new_part.buffers():
                if buffer.role in (Role.PARAMETER, Role.STATISTIC):
                    getattr(new_part, buffer.name)[...] = getattr(old_part, buffer.name)


def _compare(before: Network, after: Network, x: Any) -> tuple[float, float]:
    """Largest difference of the networks' outputs, and largest output."""
    if x is None:
        x = np.random.default_rng(0).random(before.input_shape, dtype=np.float32)
    before.forward(x)
    after.forward(x)
    after.reset_state()
    change = largest = 0.0
    for old, new in zip(before.layers, after.layers, strict=True):
        if old.is_head or old is before.output_layer:
            expected, found = (np.asarray(to_host(l.output), dtype=np.float64) for l in (old, new))
            same = (expected == found) | (np.isnan(expected) & np.isnan(found))
            with np.errstate(invalid="ignore"):
                change = max(change, float(np.where(same, 0, np.abs(expected - found)).max(initial=0)))
                largest = max(largest, float(np.abs(expected).max(initial=0)))
    return change, largest
