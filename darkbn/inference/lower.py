"""From layers to operations, one layer at a time; nothing is fused yet and everything is in the plain layout."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from darkbn.activations import CODES, mixes_channels
from darkbn.inference.graph import layer_reads, needed_layers
from darkbn.inference.program import INPUT, Concat, Convolution, Geometry, Meeting, Op, Pool, Program, Tensor
from darkbn.layers.activation import ActivationLayer
from darkbn.layers.antialiasing import AntialiasedLayer, BlurLayer
from darkbn.layers.avgpool import AvgpoolLayer
from darkbn.layers.base import Layer
from darkbn.layers.batchnorm import BatchnormLayer
from darkbn.layers.connected import ConnectedLayer
from darkbn.layers.convolutional import ConvolutionalLayer
from darkbn.layers.dropout import DropoutLayer
from darkbn.layers.empty import EmptyLayer
from darkbn.layers.local_avgpool import LocalAvgpoolLayer
from darkbn.layers.maxpool import MaxpoolLayer
from darkbn.layers.reorg import ReorgLayer
from darkbn.layers.reorg3d import Reorg3dLayer
from darkbn.layers.route import RouteLayer
from darkbn.layers.sam import SamLayer
from darkbn.layers.scale_channels import ScaleChannelsLayer
from darkbn.layers.shortcut import ShortcutLayer
from darkbn.layers.softmax import SoftmaxLayer
from darkbn.layers.upsample import UpsampleLayer
from darkbn.layers.yolo import YoloLayer


@dataclass
class _Lowering:
    """The program while it is made. Tensors that belong to no layer's output get numbers after the layers'."""

    layers: Sequence[Layer]
    tensors: dict[int, Tensor] = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)
    external: dict[int, int] = field(default_factory=dict)

    def new_tensor(self, layer: Layer) -> int:
        number = len(self.layers) + sum(1 for t in self.tensors if t >= len(self.layers))
        self.tensors[number] = output_tensor(layer)
        return number

    def add(self, kind: str, reads: tuple[int, ...], index: int, layer: Layer | None = None, arguments: Any = None,
            writes: int | None = None) -> None:  # fmt: skip
        self.ops.append(Op(kind, reads, index if writes is None else writes, (index,), layer, arguments))


def output_tensor(layer: Layer) -> Tensor:
    """Sizes of a layer's output."""
    if layer.out_h and layer.out_w and layer.out_c:
        return Tensor(layer.batch, layer.out_c, layer.out_h, layer.out_w)
    return Tensor(layer.batch, layer.outputs)


def input_tensor(layer: Layer) -> Tensor:
    """Sizes of a layer's input."""
    if layer.h and layer.w and layer.c:
        return Tensor(layer.batch, layer.c, layer.h, layer.w)
    return Tensor(layer.batch, layer.inputs)


def lower(layers: Sequence[Layer], outputs: Iterable[int]) -> Program:
    """The operations that compute the outputs of some layers; layers that those do not depend on are left out."""
    wanted = tuple(outputs)
    state = _Lowering(layers, {INPUT: input_tensor(layers[0])})
    for index in needed_layers(layers, wanted):
        layer = layers[index]
        state.tensors[index] = output_tensor(layer)
        function = next((f for cls, f in _LOWERINGS.items() if type(layer) is cls), None)
        if function is None and isinstance(layer, AntialiasedLayer):
            function = _antialiased
        (function or _generic)(state, layer, layer_reads(layer, index), index)
    return Program(state.tensors, tuple(state.ops), {index: index for index in wanted}, state.external)


Lowering = Callable[[_Lowering, Any, tuple[int, ...], int], None]


def _generic(state: _Lowering, l: Layer, reads: tuple[int, ...], index: int) -> None:
    """The layer's own forward pass, which writes to its own output."""
    state.external[index] = index
    state.add("layer", reads, index, l)


def _identity(state: _Lowering, l: Layer, reads: tuple[int, ...], index: int) -> None:
    state.add("identity", reads, index)


def convolution_geometry(l: ConvolutionalLayer) -> Geometry:
    """Sizes of a layer's convolution. Darknet's padding is dilated, too."""
    return Geometry(
        l.batch, l.c, l.h, l.w, l.n, l.size, l.out_h, l.out_w, l.groups, l.stride_y, l.stride_x, l.dilation,
        l.pad * l.dilation,
    )  # fmt: skip


def _convolutional(
    state: _Lowering, l: ConvolutionalLayer, reads: tuple[int, ...], index: int, writes: int | None = None
) -> None:
    state.add("convolution", reads, index, l, Convolution(convolution_geometry(l), CODES[l.activation]), writes)


def _antialiased(state: _Lowering, l: AntialiasedLayer, reads: tuple[int, ...], index: int) -> None:
    """The layer with stride 1, then the blur, which is a depthwise convolution."""
    host, blur = l.host, l.input_layer
    lowering = {ConvolutionalLayer: _convolutional, MaxpoolLayer: _maxpool}.get(type(host))
    if lowering is None:
        _generic(state, l, reads, index)
        return
    middle = state.new_tensor(host)
    lowering(state, host, reads, index, middle)
    _blur(state, blur, (middle,), index)


def _blur(state: _Lowering, l: BlurLayer, reads: tuple[int, ...], index: int) -> None:
    geometry = Geometry(
        l.batch, l.c, l.h, l.w, l.c, l.size, l.out_h, l.out_w, l.c, l.options.stride_y, l.options.stride_x, 1, l.pad
    )
    state.add("convolution", reads, index, l, Convolution(geometry, CODES["linear"]))


def _maxpool(state: _Lowering, l: Any, reads: tuple[int, ...], index: int, writes: int | None = None) -> None:
    if l.maxpool_depth:
        state.add("maxpool_depth", reads, index, writes=writes)
        return
    state.add("maxpool", reads, index, None, Pool(l.size, l.stride_y, l.stride_x, l.pad), writes)


def _local_avgpool(state: _Lowering, l: LocalAvgpoolLayer, reads: tuple[int, ...], index: int) -> None:
    o = l.options
    state.add("local_avgpool", reads, index, None, Pool(o.size, o.stride_y, o.stride_x, o.padding))


def _avgpool(state: _Lowering, l: AvgpoolLayer, reads: tuple[int, ...], index: int) -> None:
    state.add("avgpool", reads, index)


def _route(state: _Lowering, l: RouteLayer, reads: tuple[int, ...], index: int) -> None:
    if l.groups == 1 and len(reads) == 1:
        _identity(state, l, reads, index)
        return
    counts = tuple(source.outputs // l.groups for source in l.sources)
    state.add("concat", reads, index, None, Concat(tuple(n * l.group_id for n in counts), counts))


def _shortcut(state: _Lowering, l: ShortcutLayer, reads: tuple[int, ...], index: int) -> None:
    code = CODES[l.activation]
    same = all(output_tensor(source) == output_tensor(l) for source in l.from_layers)
    simple = len(reads) == 2 and not l.weighted and not mixes_channels(code)
    if simple and same and l.alpha == l.beta == 1:
        state.add("add", reads, index, None, code)
    elif simple:
        meeting = Meeting(min(l.c, l.from_layers[0].out_c), l.alpha, l.beta, code)
        state.add("add_unequal", reads, index, None, meeting)
    else:
        state.add("shortcut", reads, index, l)


def _upsample(state: _Lowering, l: UpsampleLayer, reads: tuple[int, ...], index: int) -> None:
    state.add("downsample" if l.reverse else "upsample", reads, index, None, (l.stride, l.scale))


def _activation(state: _Lowering, l: ActivationLayer, reads: tuple[int, ...], index: int) -> None:
    if l.activation == "linear":
        _identity(state, l, reads, index)
    else:
        state.add("activation", reads, index, None, CODES[l.activation])


def _scale_channels(state: _Lowering, l: ScaleChannelsLayer, reads: tuple[int, ...], index: int) -> None:
    kind = "scale_pixels" if l.options.scale_wh else "scale_channels"
    state.add(kind, reads, index, None, CODES[l.activation])


def _sam(state: _Lowering, l: SamLayer, reads: tuple[int, ...], index: int) -> None:
    state.add("multiply", reads, index, None, CODES[l.activation])


def _with_layer(kind: str) -> Lowering:
    def lowering(state: _Lowering, l: Layer, reads: tuple[int, ...], index: int) -> None:
        state.add(kind, reads, index, l)

    return lowering


_LOWERINGS: dict[type[Layer], Lowering] = {
    ConvolutionalLayer: _convolutional,
    MaxpoolLayer: _maxpool,
    LocalAvgpoolLayer: _local_avgpool,
    AvgpoolLayer: _avgpool,
    RouteLayer: _route,
    ShortcutLayer: _shortcut,
    UpsampleLayer: _upsample,
    ActivationLayer: _activation,
    ScaleChannelsLayer: _scale_channels,
    SamLayer: _sam,
    DropoutLayer: _identity,
    EmptyLayer: _identity,
    ConnectedLayer: _with_layer("connected"),
    BatchnormLayer: _with_layer("batchnorm"),
    SoftmaxLayer: _with_layer("softmax"),
    ReorgLayer: _with_layer("reorg"),
    Reorg3dLayer: _with_layer("reorg3d"),
    YoloLayer: _with_layer("yolo"),
}
