"""For programs written for cv2.dnn.readNetFromDarknet, which OpenCV 5 does not have any more.

    net = darkbn.read_net_from_darknet("yolov3.cfg", "yolov3.weights")
    net.setInput(darkbn.blob_from_image(picture, 1 / 255, (416, 416), swapRB=True))
    outputs = net.forward(net.getUnconnectedOutLayersNames())

Names of layers, their numbers, and the layout and values of outputs are those of OpenCV 4: a [yolo] or [region] layer
gives one row per box, cell by cell and in each anchor by anchor: x and y of the centre, width, height, relative to the
input, objectness, then for each class objectness times probability, 0 where that does not exceed a threshold (.2 for
[yolo]; for [region] `thresh` of the cfg, else .001).

What OpenCV does differently from Darknet, and this does not:
    * batch normalization: OpenCV adds 1e-6 to the variance whatever the network was trained with; here the convention
      of the dialect holds (another one: batchnorm=);
    * the first of two equal keys of a section counts, as in Darknet; in OpenCV the last;
    * numbers with a comment behind them are read; OpenCV refuses the file;
    * sections and activations that OpenCV refuses work;
    * [region] of files in dialect alexeyab without softmax gives classes as they are, as that Darknet does; OpenCV
      refuses it.
Both ignore letter_box=: the blob is what it is.

Arrays are NumPy's; what OpenCV calls a target or a backend has no meaning here and is accepted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from darkbn.backend import to_host
from darkbn.boxes import decode, nms_sort
from darkbn.errors import DarkbnError, ShapeError, UnsupportedError
from darkbn.network import Network, load
from darkbn.signature import Array

if TYPE_CHECKING:
    from darkbn.conventions import BatchNormConvention

#: Scores of a head that do not exceed this become 0; `thresh` of [region] when the cfg has none.
YOLO_THRESHOLD, REGION_THRESHOLD = 0.2, 0.001
#: Overlap that OpenCV allows two boxes of a class in a [region] layer.
REGION_NMS = 0.4

#: OpenCV's name of a section's layer, and its type.
_NAMES = {
    "convolutional": ("conv_{}", "Convolution"),
    "connected": ("fullyConnected_{}", "InnerProduct"),
    "maxpool": ("pool_{}", "Pooling"),
    "avgpool": ("avgpool_{}", "Pooling"),
    "softmax": ("softmax_{}", "Softmax"),
    "dropout": ("identity_{}", "Identity"),
    "cost": ("identity_{}", "Identity"),
    "route": ("concat_{}", "Concat"),
    "shortcut": ("shortcut_{}", "Eltwise"),
    "scale_channels": ("scale_channels_{}", "Scale"),
    "sam": ("sam_{}", "Scale"),
    "upsample": ("upsample_{}", "Resize"),
    "reorg": ("reorg_{}", "Reorg"),
    "yolo": ("yolo_{}", "Region"),
    "region": ("detection_out", "Region"),
}
_ACTIVATIONS = {
    "leaky": "ReLU",
    "relu": "ReLU",
    "swish": "Swish",
    "mish": "Mish",
    "logistic": "Sigmoid",
    "tanh": "TanH",
}


@dataclass(frozen=True)
class DnnLayer:
    """What getLayer gives.

    Attributes:
        name, type: OpenCV's.
        blobs: parameters: weights and (without batch normalization) biases of a convolution; mean, variance, scales,
            biases of a batch normalization.
        index: of Darknet's layer; -1 for the input.
        complete: whether this is the last of the layers that OpenCV makes of Darknet's layer, whose value darkbn has.
    """

    name: str
    type: str
    blobs: tuple[Array, ...] = ()
    index: int = -1
    complete: bool = True


class DnnNet:
    """A network with the methods of OpenCV's cv2.dnn.Net. Made by `read_net_from_darknet`.

    Attributes:
        network: darkbn's own.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._layers = [DnnLayer("_input", "__NetInputLayer__"), *_layers(network)]
        self._numbers = {layer.name: number for number, layer in enumerate(self._layers)}
        self._flat = _flat_layers(network)
        self._blob: Array | None = None
        self._seconds = 0.0

    # -- layers --------------------------------------------------------------------------------------------------

    def empty(self) -> bool:
        """Whether there are no layers."""
        return len(self._layers) == 1

    def getLayerNames(self) -> tuple[str, ...]:
        """Names of all layers but the input; the layer with number n is the one at n - 1."""
        return tuple(layer.name for layer in self._layers[1:])

    def getLayerId(self, layer: str) -> int:
        """Number of a layer, -1 when there is none of that name."""
        return self._numbers.get(layer, -1)

    def getLayer(self, layerId: int | str) -> DnnLayer:
        """A layer by its number (0 is the input) or its name. Raises DarkbnError when there is none."""
        number = self._numbers.get(layerId, -1) if isinstance(layerId, str) else int(layerId)
        if not 0 <= number < len(self._layers):
            raise DarkbnError(f"there is no layer {layerId!r}: numbers are 0 to {len(self._layers) - 1}")
        return self._layers[number]

    def getLayersCount(self, layerType: str) -> int:
        """How many layers there are of an OpenCV type ("Convolution")."""
        return sum(layer.type == layerType for layer in self._layers)

    def getLayerTypes(self) -> tuple[str, ...]:
        """The types that occur."""
        return tuple(sorted({layer.type for layer in self._layers}))

    def getUnconnectedOutLayers(self) -> Array:
        """Numbers of the layers whose values no other layer takes, int32."""
        return np.array([self._numbers[name] for name in self.getUnconnectedOutLayersNames()], np.int32)

    def getUnconnectedOutLayersNames(self) -> tuple[str, ...]:
        """Names of the layers whose values no other layer takes: the heads, or the last layer."""
        last = {layer.index: layer.name for layer in self._layers}
        return tuple(last[index] for index in _loose_ends(self.network))

    def getFLOPS(self, netInputShape: Sequence[int] | None = None) -> int:
        """Multiplications and additions of a pass over one input of the present size, as Darknet counts them."""
        return sum(layer.flops for layer in self.network.layers)

    # -- running -------------------------------------------------------------------------------------------------

    def setInput(
        self, blob: Any, name: str = "", scalefactor: float = 1.0, mean: Sequence[float] = (0.0, 0.0, 0.0, 0.0)
    ) -> None:
        """Take the next input; the network is resized to it.

        Args:
            blob: (images, channels, height, width).
            name: of the input, "" or "data".
            scalefactor, mean: the input is (blob - mean of its channel) * scalefactor.
        """
        if name not in ("", "data", "_input"):
            raise DarkbnError(f"there is no input {name!r}: the only one is 'data'")
        array = np.asarray(blob, np.float32)
        net = self.network
        if array.ndim != 4 or array.shape[1] != net.channels or 0 in array.shape:
            raise ShapeError(f"expected a blob of shape (images, {net.channels}, height, width), found {array.shape}")
        offsets = np.zeros(net.channels, np.float32)
        given = np.atleast_1d(np.asarray(mean, np.float32))[: net.channels]
        offsets[: len(given)] = given
        if offsets.any() or scalefactor != 1:
            array = (array - offsets[:, np.newaxis, np.newaxis]) * np.float32(scalefactor)
        if array.shape[2:] != (net.height, net.width):
            net.resize(array.shape[3], array.shape[2])
        self._blob = array

    def forward(self, outputName: str | Sequence[str] | None = None) -> Any:
        """Run the network on the input.

        Args:
            outputName: name of a layer: its value; several names: a tuple of values; None: the last layer's value.

        Returns:
            New float32 arrays. Layers that OpenCV makes of parts of a Darknet layer (conv_0 where leaky_1 follows)
            have no value here: that raises UnsupportedError, which names the one that has.
        """
        if self._blob is None:
            raise DarkbnError("there is no input: call setInput first")
        start = perf_counter()
        single = outputName is None or isinstance(outputName, str)
        names = [outputName or self._layers[-1].name] if single else list(outputName or ())
        wanted = [self._with_value(str(name)) for name in names]
        values = self._values(sorted({layer.index for layer in wanted}))
        self._seconds = perf_counter() - start
        results = tuple(values[layer.index] for layer in wanted)
        return results[0] if single else results

    def getPerfProfile(self) -> tuple[int, Array]:
        """Duration of the last forward in ticks of 1 ns (cv2.getTickFrequency() on Linux is 1e9), and no parts."""
        return int(self._seconds * 1e9), np.empty((0, 1))

    def setPreferableBackend(self, backendId: int) -> None:
        """Accepted and without effect; `read_net_from_darknet(..., device=)` decides."""

    def setPreferableTarget(self, targetId: int) -> None:
        """Accepted and without effect; `read_net_from_darknet(..., device=)` decides."""

    def enableFusion(self, fusion: bool) -> None:
        """Accepted and without effect: results are the same."""

    def enableWinograd(self, useWinograd: bool) -> None:
        """Accepted and without effect."""

    def _with_value(self, name: str) -> DnnLayer:
        if name not in self._numbers or name == "_input":
            raise DarkbnError(f"there is no layer {name!r}; getLayerNames() has them all")
        layer = self.getLayer(name)
        if not layer.complete:
            whole = next(l.name for l in self._layers if l.index == layer.index and l.complete)
            raise UnsupportedError(
                f"{name} is a part of Darknet's layer {layer.index}, of which only the whole has a value: {whole}"
            )
        return layer

    def _values(self, indexes: list[int]) -> dict[int, Array]:
        """Values of Darknet's layers for all images."""
        net, blob = self.network, self._blob
        assert blob is not None
        fast = set(indexes) <= {net.layers.index(l) for l in (net.heads or [net.output_layer])}
        parts: dict[int, list[Array]] = {index: [] for index in indexes}
        for start in range(0, len(blob), net.batch):
            chunk = blob[start : start + net.batch]
            if fast:
                net.predict(chunk)
            else:
                padded = np.zeros((net.batch, *blob.shape[1:]), np.float32)
                padded[: len(chunk)] = chunk
                net.forward(padded)
            for index, part in parts.items():
                part += [_value(net.layers[index], image, net) for image in range(len(chunk))]
        joined = {index: _joined(part, net.layers[index]) for index, part in parts.items()}
        return {i: a.reshape(len(a), -1) if i in self._flat else a for i, a in joined.items()}


def read_net_from_darknet(
    cfgFile: str | os.PathLike[str],
    darknetModel: str | os.PathLike[str] | None = None,
    *,
    dialect: str | None = None,
    batchnorm: str | BatchNormConvention | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> DnnNet:
    """A network with the methods of the object that OpenCV 4's readNetFromDarknet returned; see the module.

    Args:
        cfgFile, darknetModel: .cfg and .weights.
        dialect, batchnorm, device, threads: as in `darkbn.load`.

    Raises:
        CfgError, UnsupportedError, WeightsError, DeviceError.
    """
    return DnnNet(
        load(cfgFile, darknetModel, dialect=dialect, batchnorm=batchnorm, device=device, threads=threads, batch=1)
    )


# -- layers as OpenCV makes them -------------------------------------------------------------------------------------


def _layers(net: Network) -> Iterator[DnnLayer]:
    for index, layer in enumerate(net.layers):
        parts = list(_parts(index, layer))
        for number, (name, kind, blobs) in enumerate(parts):
            yield DnnLayer(name, kind, blobs, index, complete=number == len(parts) - 1)


def _parts(index: int, layer: Any) -> Iterator[tuple[str, str, tuple[Array, ...]]]:
    """Name, type and parameters of the layers that OpenCV makes of one of Darknet's."""
    if layer.type in ("yolo", "region"):
        yield f"permute_{index}", "Permute", ()
    name, kind = _NAMES.get(layer.type, (f"{layer.type}_{{}}", layer.type))
    if layer.type == "route" and len(layer.sources) == 1:
        name, kind = ("slice_{}", "Slice") if layer.groups > 1 else ("identity_{}", "Identity")
    normalized = getattr(layer, "batch_normalize", False)
    arrays = [a for a in layer.weights_order() if a in ("weights", "biases")]
    blobs = ["weights"] * ("weights" in arrays) + ["biases"] * ("biases" in arrays and not normalized)
    yield name.format(index), kind, _arrays(layer, blobs)
    if normalized:
        order = ["rolling_mean", "rolling_variance", "scales", "biases"]
        yield f"bn_{index}", "BatchNorm", _arrays(layer, order)
    activation = getattr(layer, "activation", "linear")
    if activation != "linear":
        yield f"{activation}_{index + 1}", _ACTIVATIONS.get(activation, activation), ()


def _arrays(layer: Any, names: list[str]) -> tuple[Array, ...]:
    return tuple(to_host(getattr(layer, name)) for name in names)


def _flat_layers(net: Network) -> set[int]:
    """Indices of the layers whose values OpenCV gives as (images, values): [connected], and what follows it."""
    flat: set[int] = set()
    for index, layer in enumerate(net.layers):
        follows = layer.type in ("softmax", "dropout", "cost") and index - 1 in flat
        if layer.type == "connected" or follows:
            flat.add(index)
    return flat


def _loose_ends(net: Network) -> list[int]:
    """Indices of the layers whose output no other layer takes."""
    taken: set[int] = set()
    for index, layer in enumerate(net.layers):
        any_layer: Any = layer
        if layer.type == "route":
            taken |= set(any_layer.input_layers)
            continue
        if index and layer.type != "implicit":
            taken.add(index - 1)
        sources = [*getattr(any_layer, "from_layers", ()), getattr(any_layer, "source", None)]
        taken |= {source.context.index for source in sources if source is not None}
    return [index for index in range(len(net.layers)) if index not in taken]


# -- values ------------------------------------------------------------------------------------------------------------


def _value(layer: Any, image: int, net: Network) -> Array:
    """What OpenCV gives for one image of the last pass."""
    output = layer.output[image]
    output = np.asarray(to_host(output), np.float32)
    if layer.type == "yolo":
        return _yolo_rows(layer, output)
    if layer.type == "region":
        return _region_rows(layer, output, net)
    copy: Array = output.copy()
    return copy


def _joined(images: list[Array], layer: Any) -> Array:
    """One array for all images; boxes of a single one have no axis for it."""
    if layer.type in ("yolo", "region") and len(images) == 1:
        return images[0]
    return np.stack(images)


def _yolo_rows(layer: Any, output: Array) -> Array:
    maps = output.reshape(layer.n, layer.entries, layer.h, layer.w)
    width, height = layer.net_size
    anchors = to_host(layer.anchors)[to_host(layer.mask)]
    boxes = decode(maps[:, :4], anchors, width, height, bool(layer.options.new_coords))
    return _rows(boxes, maps[:, 4], maps[:, 5:], YOLO_THRESHOLD)


def _region_rows(layer: Any, output: Array, net: Network) -> Array:
    if layer.in_cells:
        maps = output.reshape(layer.h, layer.w, layer.n, layer.entries).transpose(2, 3, 0, 1).copy()
        maps[:, :2] = 1 / (1 + np.exp(-maps[:, :2]))
    else:
        maps = output.reshape(layer.n, layer.entries, layer.h, layer.w)
    boxes = decode(maps[:, :4], to_host(layer.anchors), layer.w, layer.h)
    given = layer.context.section is not None and layer.context.section.find("thresh") is not None
    objectness = maps[:, 4]
    if layer.options.classfix == -1:
        objectness = np.where(objectness < 0.5, 0, objectness)
    rows = _rows(boxes, objectness, maps[:, 5:], layer.options.thresh if given else REGION_THRESHOLD)
    rows[:, 4] = maps[:, 4].transpose(1, 2, 0).reshape(-1)
    rows[:, 5:] = nms_sort(rows[:, :4], rows[:, 5:], REGION_NMS, threads=net.threads)
    return rows


def _rows(boxes: Array, objectness: Array, classes: Array, threshold: float) -> Array:
    """Maps (n, ..., h, w) as rows, cell by cell, anchor by anchor."""
    scores = objectness[:, np.newaxis] * classes
    scores = np.where(scores > np.float32(threshold), scores, 0)
    parts = (boxes, objectness[..., np.newaxis], scores.transpose(0, 2, 3, 1))
    rows: Array = np.concatenate(parts, axis=-1).transpose(1, 2, 0, 3)
    return np.ascontiguousarray(rows.reshape(-1, rows.shape[-1]), np.float32)


# -- blobs -------------------------------------------------------------------------------------------------------------


def blob_from_image(
    image: Any,
    scalefactor: float = 1.0,
    size: tuple[int, int] | None = None,
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    swapRB: bool = False,
    crop: bool = False,
) -> Array:
    """A picture as the input of a network, as cv2.dnn.blobFromImage makes it: (1, channels, height, width) float32.

    Args:
        image: (height, width, channels) or (height, width), uint8 or float, as OpenCV has it: blue, green, red.
        scalefactor: of the values, after the mean was subtracted: 1 / 255 for Darknet networks.
        size: (width, height) that the picture is scaled to; None: its own.
        mean: of the channels, in the order that they have afterwards.
        swapRB: exchange the first and the third channel. Darknet networks take red, green, blue.
        crop: keep the aspect: scale the picture to cover `size` and take its middle.

    Scaling is bilinear between the centres of pixels, and rounded to bytes where the picture has bytes, as in OpenCV;
    values differ from OpenCV's by at most one level.
    """
    return blob_from_images([image], scalefactor, size, mean, swapRB, crop)


def blob_from_images(
    images: Sequence[Any],
    scalefactor: float = 1.0,
    size: tuple[int, int] | None = None,
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    swapRB: bool = False,
    crop: bool = False,
) -> Array:
    """Several pictures as one input, (images, channels, height, width); arguments as in `blob_from_image`."""
    if not len(images):
        raise ShapeError("blob_from_images needs at least one picture")
    planes = [_planes(image, scalefactor, size, mean, swapRB, crop) for image in images]
    shapes = {plane.shape for plane in planes}
    if len(shapes) > 1:
        raise ShapeError(f"pictures of different sizes need size=: found {', '.join(map(str, sorted(shapes)))}")
    return np.stack(planes)


def _planes(
    image: Any, scalefactor: float, size: tuple[int, int] | None, mean: Sequence[float], swap: bool, crop: bool
) -> Array:
    pixels = np.asarray(image)
    pixels = pixels[:, :, np.newaxis] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3 or pixels.dtype.kind not in "uf" or 0 in pixels.shape:
        raise ShapeError(f"expected a picture (height, width, channels), found {pixels.shape} of {pixels.dtype}")
    if size is not None and tuple(size) != (pixels.shape[1], pixels.shape[0]) and tuple(size) != (0, 0):
        pixels = _cover(pixels, *size) if crop else _scaled(pixels, *size)
    if swap and pixels.shape[2] >= 3:
        pixels = pixels[:, :, [2, 1, 0, *range(3, pixels.shape[2])]]
    offsets = np.zeros(pixels.shape[2], np.float32)
    given = np.atleast_1d(np.asarray(mean, np.float32))[: len(offsets)]
    offsets[: len(given)] = given
    values = (pixels.astype(np.float32) - offsets) * np.float32(scalefactor)
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def _cover(pixels: Array, width: int, height: int) -> Array:
    rows, columns = pixels.shape[:2]
    factor = max(width / columns, height / rows)
    scaled = _scaled(pixels, round(columns * factor), round(rows * factor), 1 / factor)
    top, left = (scaled.shape[0] - height) // 2, (scaled.shape[1] - width) // 2
    return scaled[top : top + height, left : left + width]


def _scaled(pixels: Array, width: int, height: int, step: float | None = None) -> Array:
    """The picture in another size; neighbours are `step` of its pixels apart, or as the sizes say."""
    if min(width, height) < 1:
        raise ShapeError(f"size must be at least 1 x 1, found {width} x {height}")
    rows, columns = (
        _taps(length, wanted, step or length / wanted)
        for length, wanted in ((pixels.shape[0], height), (pixels.shape[1], width))
    )
    values = pixels.astype(np.float32)
    wide = _mix(values, *columns, axis=1)
    result = _mix(wide, *rows, axis=0)
    return np.rint(result).astype(np.uint8) if pixels.dtype == np.uint8 else result


def _taps(length: int, wanted: int, step: float) -> tuple[Array, Array, Array]:
    """For each place the pixel before it, that after it, and the share of the latter."""
    place = np.clip((np.arange(wanted) + 0.5) * step - 0.5, 0, length - 1)
    before = np.floor(place).astype(np.int64)
    return before, np.minimum(before + 1, length - 1), (place - before).astype(np.float32)


def _mix(values: Array, before: Array, after: Array, share: Array, axis: int) -> Array:
    shape = [1, 1, 1]
    shape[axis] = -1
    part = share.reshape(shape)
    mixed: Array = values.take(before, axis) * (1 - part) + values.take(after, axis) * part
    return mixed
