"""Every feed-forward section of both Darknets as ONNX operators.

A writer takes the exporter, the layer and the name of its input, adds nodes, and returns the name of the layer's
output. `WRITERS` has one per section type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from darkbn.inference.fold import folded_parameters, normalization
from darkbn.interop.onnx.activations import activate
from darkbn.interop.onnx.exporter import Exporter, host_array
from darkbn.interop.onnx.graph import Array
from darkbn.layers import weighted
from darkbn.layers.antialiasing import AntialiasedLayer
from darkbn.layers.base import Layer
from darkbn.layers.binary import BinaryConvolutionalLayer
from darkbn.layers.coordconv import CoordinatesLayer
from darkbn.layers.softmax import TreeSoftmaxLayer

Writer = Callable[[Exporter, Any, str], str]

WRITERS: dict[str, Writer] = {}

#: Largest finite float32 and float16 with a minus: what maxima start from.
_LOWEST = {np.float32: -3.4028234663852886e38, np.float16: -65504.0}


def section(*types: str) -> Callable[[Writer], Writer]:
    """Register the writer of some section types."""

    def register(writer: Writer) -> Writer:
        WRITERS.update(dict.fromkeys(types, writer))
        return writer

    return register


# -- with parameters -------------------------------------------------------------------------------------------------


def batch_normalize(e: Exporter, l: Any, x: str, axes: int) -> str:
    """Batch normalization with the rolling statistics and biases as operators of their own.

    With epsilon inside of the root it is BatchNormalization, else, step by step, what Darknet computes.

    Args:
        e, l: the exporter and the layer.
        x: (batch, channels, ...).
        axes: how many axes follow the channels.
    """
    g, convention = e.g, l.convention
    shape = (-1,) + (1,) * axes
    named = {name: host_array(l, name) for name in ("scales", "biases", "rolling_mean", "rolling_variance")}
    if not convention.epsilon_outside:
        names = [e.parameter(l, array, name) for name, array in named.items()]
        return g.op("BatchNormalization", x, *names, epsilon=convention.epsilon)
    factor = named["scales"] * convention.inverse_root(named["rolling_variance"])
    centred = g.op("Sub", x, e.parameter(l, named["rolling_mean"].reshape(shape), "rolling_mean"))
    scaled = g.op("Mul", centred, e.parameter(l, factor.reshape(shape), "factor"))
    return g.op("Add", scaled, e.parameter(l, named["biases"].reshape(shape), "biases"))


def weighted_sum(e: Exporter, l: Any, write: Callable[[str, str], str], axes: int) -> str:
    """A product with weights, then batch normalization or biases, then the activation.

    Args:
        e, l: the exporter and the layer.
        write: adds the product's nodes, given the names of weights and biases (the latter "" for none).
        axes: how many axes follow the channels of the result.
    """
    if l.batch_normalize and not e.wanted.fold:
        weights = binary_weights(l) if is_binary(l) else host_array(l, "weights")
        x = write(e.parameter(l, weights, "weights"), "")
        x = batch_normalize(e, l, x, axes)
    else:
        weights, biases = folded_binary(l) if is_binary(l) else folded_parameters(l)
        x = write(e.parameter(l, weights, "weights"), e.parameter(l, biases, "biases"))
    return activate(e.g, l.activation, x)


def is_binary(l: Any) -> bool:
    """Whether only the signs of the weights count (binary=, xnor=)."""
    return isinstance(l, BinaryConvolutionalLayer)


def binary_weights(l: Any) -> Array:
    """The sign of each weight times the mean size of those of its filter, float64."""
    weights = host_array(l, "weights")
    size = np.abs(weights).mean(axis=(1, 2, 3), keepdims=True)
    return np.asarray(np.where(weights > 0, size, -size))


def folded_binary(l: Any) -> tuple[Array, Array]:
    """Binary weights and biases that compute without batch normalization what the layer computes with it."""
    if not l.batch_normalize:
        return binary_weights(l), host_array(l, "biases")
    factor, biases = normalization(l)
    return binary_weights(l) * factor[:, np.newaxis, np.newaxis, np.newaxis], biases


def _signs(e: Exporter, x: str) -> str:
    """1 where positive, else -1."""
    return e.g.op("Where", e.g.op("Greater", x, e.g.scalar(0.0)), e.g.scalar(1.0), e.g.scalar(-1.0))


def _with_coordinates(e: Exporter, l: Any, x: str) -> str:
    """coordconv=: the first channels become coordinates."""
    e.require_fixed_size(l, "coordconv= writes the pixels' places")
    places = np.asarray(host_array(l, "coordinates"))[np.newaxis]
    batch = e.g.lengths(x, [0])
    shape = e.g.op("Concat", batch, e.g.constant(list(places.shape[1:])), axis=0)
    first = e.g.op("Expand", e.g.constant(places, "coordinates"), shape)
    if places.shape[1] == l.out_c:
        return first
    return e.g.op("Concat", first, e.g.slice(x, (1,), (places.shape[1],), (l.out_c,)), axis=1)


@section("convolutional")
def convolutional(e: Exporter, l: Any, x: str) -> str:
    if isinstance(l, CoordinatesLayer):
        return _with_coordinates(e, l, convolutional(e, l.host, x))
    if isinstance(l, AntialiasedLayer):
        return blurred(e, l, convolutional(e, l.host, x))
    return convolution(e, l, e.image(l, x))


def convolution(e: Exporter, l: Any, x: str) -> str:
    """A [convolutional] layer, also one inside of another layer; x has four axes."""
    if is_binary(l) and l.options.xnor:
        x = _signs(e, x)
    pad = l.pad * l.dilation
    reach = l.dilation * (l.size - 1) + 1
    if l.dilation > 1 and reach != 2 * pad + 1:
        e.require_fixed_size(l, "Darknet counts its output without the dilation")
    # Darknet's size of the output leaves the dilation out: where that makes it larger, zeros follow; where smaller,
    # the rest is cut off.
    ends = [
        (out - 1) * stride + reach - pad - length if l.dilation > 1 else pad
        for out, stride, length in ((l.out_h, l.stride_y, l.h), (l.out_w, l.stride_x, l.w))
    ]

    def write(weights: str, biases: str) -> str:
        return e.g.op(
            "Conv",
            x,
            weights,
            *([biases] if biases else []),
            kernel_shape=[l.size, l.size],
            strides=[l.stride_y, l.stride_x],
            pads=[pad, pad, *(max(end, 0) for end in ends)],
            dilations=[l.dilation, l.dilation],
            group=l.groups,
        )

    def cut(weights: str, biases: str) -> str:
        y = write(weights, biases)
        return y if min(ends) >= 0 else e.g.slice(y, (2, 3), (0, 0), (l.out_h, l.out_w))

    return weighted_sum(e, l, cut, 2)


def blurred(e: Exporter, l: Any, x: str) -> str:
    """The fixed blur behind a layer with antialiasing=."""
    blur = l.input_layer
    return e.g.op(
        "Conv",
        x,
        e.g.constant(host_array(blur, "weights"), "blur"),
        kernel_shape=[blur.size, blur.size],
        strides=[blur.options.stride_y, blur.options.stride_x],
        pads=[blur.pad] * 4,
        group=blur.c,
    )


@section("deconvolutional")
def deconvolutional(e: Exporter, l: Any, x: str) -> str:
    x = e.image(l, x)

    def write(weights: str, biases: str) -> str:
        return e.g.op(
            "ConvTranspose",
            x,
            weights,
            *([biases] if biases else []),
            kernel_shape=[l.size, l.size],
            strides=[l.stride, l.stride],
            pads=[l.pad] * 4,
        )

    return weighted_sum(e, l, write, 2)


@section("connected")
def connected(e: Exporter, l: Any, x: str) -> str:
    e.require_fixed_size(l, f"has weights for {l.inputs} inputs")
    return matrix_product(e, l, e.flat(x))


def matrix_product(e: Exporter, l: Any, x: str) -> str:
    """A [connected] layer, also one inside of another layer; x has two axes."""

    def write(weights: str, biases: str) -> str:
        return e.g.op("Gemm", x, weights, *([biases] if biases else []), transB=1)

    return e.set_rank(weighted_sum(e, l, write, 0), 2)


@section("local")
def local(e: Exporter, l: Any, x: str) -> str:
    """A convolution with the unit matrix lays out the pixels under each window; then a product per place."""
    e.require_fixed_size(l, f"has weights for {l.out_w} x {l.out_h} places")
    x, taps, places = e.image(l, x), l.size**2, l.out_h * l.out_w
    ends = [max((out - 1) * l.stride + l.size - l.pad - length, 0) for out, length in ((l.out_h, l.h), (l.out_w, l.w))]
    unit = np.tile(np.eye(taps).reshape(taps, 1, l.size, l.size), (l.c, 1, 1, 1))
    windows = e.g.op(
        "Conv",
        x,
        e.g.constant(unit, "unit"),
        kernel_shape=[l.size, l.size],
        strides=[l.stride, l.stride],
        pads=[l.pad, l.pad, *ends],
        group=l.c,
    )
    rows = e.g.op("Transpose", e.g.reshape(windows, (0, l.c * taps, places)), perm=[2, 0, 1])
    # (out_h, out_w, n, c, size, size) to (places, c*size*size, n)
    weights = host_array(l, "weights").reshape(places, l.n, -1).transpose(0, 2, 1)
    product = e.g.op("MatMul", rows, e.parameter(l, weights, "weights"))
    maps = e.g.reshape(e.g.op("Transpose", product, perm=[1, 2, 0]), (0, l.n, l.out_h, l.out_w))
    z = e.g.op("Add", maps, e.parameter(l, host_array(l, "biases")[np.newaxis], "biases"))
    return activate(e.g, l.activation, z)


@section("batchnorm")
def batchnorm(e: Exporter, l: Any, x: str) -> str:
    y = x
    if l.c:
        y = e.image(l, y)
    if not e.wanted.fold:
        return e.keep_rank(batch_normalize(e, l, y, 2 if l.c else 0), y)
    shape = (-1, 1, 1) if l.c else (-1,)
    factor, term = (array.reshape(shape) for array in normalization(l))
    scaled = e.g.op("Mul", y, e.parameter(l, factor, "factor"))
    return e.keep_rank(e.g.op("Add", scaled, e.parameter(l, term, "term")), y)


@section("implicit")
def implicit(e: Exporter, l: Any, x: str) -> str:
    batch = e.g.lengths(x, [0])
    shape = e.g.op("Concat", batch, e.g.constant([l.out_c, l.out_h, l.out_w]), axis=0)
    weights = host_array(l, "weights").reshape(1, l.out_c, l.out_h, l.out_w)
    return e.g.op("Expand", e.parameter(l, weights, "weights"), shape)


# -- value by value --------------------------------------------------------------------------------------------------


@section("activation")
def activation(e: Exporter, l: Any, x: str) -> str:
    x = e.image(l, x) if l.c else x
    return e.keep_rank(activate(e.g, l.activation, x), x)


@section("logistic")
def logistic(e: Exporter, l: Any, x: str) -> str:
    return e.keep_rank(e.g.op("Sigmoid", x), x)


@section("dropout", "empty", "contrastive", "cost")
def unchanged(e: Exporter, l: Layer, x: str) -> str:
    """[cost] compares its input with a truth, which there is not: the value only exists for the number's sake."""
    return x


@section("crop")
def crop(e: Exporter, l: Any, x: str) -> str:
    """The centre of the picture."""
    e.require_fixed_size(l, "its window is a share of the picture's height")
    top, left = (l.h - l.out_h) // 2, (l.w - l.out_w) // 2
    y = e.g.slice(e.image(l, x), (2, 3), (top, left), (top + l.out_h, left + l.out_w))
    if (l.scale, l.translate) != (1.0, 0.0):
        y = e.g.op("Add", e.g.op("Mul", y, e.g.scalar(l.scale)), e.g.scalar(l.translate))
    return y


# -- over channels and groups ----------------------------------------------------------------------------------------


@section("softmax")
def softmax(e: Exporter, l: Any, x: str) -> str:
    y = x
    if l.temperature != 1:
        y = e.keep_rank(e.g.op("Div", x, e.g.scalar(l.temperature)), x)
    if l.spatial:
        return e.g.op("Softmax", e.image(l, y), axis=1)
    e.require_fixed_size(l, "its groups are parts of all values")
    if isinstance(l, TreeSoftmaxLayer):
        return e.restore(softmax_of_groups(e, e.flat(y), l.softmax_tree.group_size, (0,), ()), x, l)
    grouped = e.g.reshape(e.flat(y), (0, l.groups, l.inputs // l.groups))
    return e.restore(e.g.op("Softmax", grouped, axis=-1), x, l)


def softmax_of_groups(e: Exporter, x: str, sizes: Any, before: tuple[int, ...], after: tuple[int, ...]) -> str:
    """A softmax of its own for each group of neighbouring values along an axis, as a hierarchy of classes has them.

    The groups become rows of a table, filled up with what counts nothing.

    Args:
        e: the exporter.
        x: a value.
        sizes: of the groups.
        before, after: the lengths of the axes before and behind the groups' axis, for Reshape.
    """
    sizes = np.asarray(sizes, np.int64)
    axis, total, widest = len(before), int(sizes.sum()), int(sizes.max())
    rank = axis + 1 + len(after)
    filled = e.g.pad(x, (0,) * rank, [int(i == axis) for i in range(rank)], _LOWEST[e.g.dtype])
    starts = np.cumsum(sizes) - sizes
    columns = np.arange(widest)
    table = np.where(columns < sizes[:, np.newaxis], starts[:, np.newaxis] + columns, total)
    rows = e.g.op("Gather", filled, e.g.constant(table.reshape(-1)), axis=axis)
    rows = e.g.reshape(rows, (*before, len(sizes), widest, *after))
    shares = e.g.reshape(e.g.op("Softmax", rows, axis=axis + 1), (*before, table.size, *after))
    return e.g.op("Gather", shares, e.g.constant(np.flatnonzero(table.reshape(-1) < total)), axis=axis)


@section("normalization")
def normalization_over_channels(e: Exporter, l: Any, x: str) -> str:
    """The sums of squares are a 1 x 1 convolution: ONNX's own LRN has no channel that never counts."""
    x, o = e.image(l, x), l.options
    k, j = np.mgrid[: l.c, : l.c]
    window = (k - (o.size - 1) // 2 <= j) & (j <= k + o.size // 2)
    counts = window * 1.0 - (j == o.size // 2)
    weights = e.g.constant(o.alpha * counts.reshape(l.c, l.c, 1, 1), "window")
    kappa = e.g.constant(np.full(l.c, o.kappa), "kappa")
    norms = e.g.op("Conv", e.g.op("Mul", x, x), weights, kappa, kernel_shape=[1, 1])
    return e.g.op("Mul", x, e.g.op("Pow", norms, e.g.scalar(-o.beta)))


@section("l2norm")
def l2norm(e: Exporter, l: Any, x: str) -> str:
    y = e.image(l, x) if l.c else x
    length = e.g.op("Sqrt", e.g.reduce("ReduceSum", e.g.op("Mul", y, y), [1]))
    positive = e.g.op("Greater", length, e.g.scalar(0.0))
    return e.keep_rank(e.g.op("Div", y, e.g.op("Where", positive, length, e.g.scalar(1.0))), y)


@section("iseg")
def iseg(e: Exporter, l: Any, x: str) -> str:
    classes = np.arange(l.c).reshape(1, l.c, 1, 1) < l.classes
    x = e.image(l, x)
    return e.g.op("Where", e.g.constant(classes, "classes"), e.g.op("Sigmoid", x), x)


# -- pooling ---------------------------------------------------------------------------------------------------------


@section("maxpool")
def maxpool(e: Exporter, l: Any, x: str) -> str:
    if isinstance(l, AntialiasedLayer):
        return blurred(e, l, maxpool(e, l.host, x))
    x = e.image(l, x)
    if l.maxpool_depth:
        return _maximum_of_channels(e, l, x)
    before, after = l.pad // 2, l.pad - l.pad // 2
    if after >= l.size:  # windows that see nothing but padding, which operators do not have
        x = e.g.pad(x, (0, 0, before, before), (0, 0, after, after), _LOWEST[e.g.dtype])
        before = after = 0
    return e.g.op(
        "MaxPool",
        x,
        kernel_shape=[l.size, l.size],
        strides=[l.stride_y, l.stride_x],
        pads=[before, before, after, after],
    )


def _maximum_of_channels(e: Exporter, l: Any, x: str) -> str:
    """Channel g of the output is the maximum of the channels g, g + n, g + 2n, ..."""
    n, parts = l.out_channels, []
    for start in range(0, l.c, n):
        part = e.g.slice(x, (1,), (start,), (min(start + n, l.c),))
        missing = start + n - l.c
        parts.append(e.g.pad(part, (0,) * 4, (0, missing, 0, 0), _LOWEST[e.g.dtype]) if missing > 0 else part)
    return e.g.op("Max", *parts)


@section("avgpool")
def avgpool(e: Exporter, l: Any, x: str) -> str:
    return e.g.op("GlobalAveragePool", e.image(l, x))


@section("local_avgpool")
def local_avgpool(e: Exporter, l: Any, x: str) -> str:
    o, x = l.options, e.image(l, x)
    before, after = o.padding // 2, o.padding - o.padding // 2
    window: dict[str, Any] = {"kernel_shape": [o.size, o.size], "strides": [o.stride_y, o.stride_x]}
    if after < o.size:
        return e.g.op("AveragePool", x, pads=[before, before, after, after], **window)
    # Windows that see nothing but padding: sums by a convolution, over the pixels that count.
    e.require_fixed_size(l, "its padding is as large as its windows")
    ones = e.g.constant(np.ones((l.c, 1, o.size, o.size)), "ones")
    sums = e.g.op("Conv", x, ones, pads=[before, before, after, after], group=l.c, **window)
    rows, columns = (
        np.array([sum(0 <= i * stride - before + k < length for k in range(o.size)) for i in range(out)])
        for out, stride, length in ((l.out_h, o.stride_y, l.h), (l.out_w, o.stride_x, l.w))
    )
    return e.g.op("Mul", sums, e.g.constant(1 / np.maximum(np.outer(rows, columns), 1), "share"))


# -- several inputs --------------------------------------------------------------------------------------------------


@section("route")
def route(e: Exporter, l: Any, x: str) -> str:
    parts = []
    for source in l.sources:
        value = e.values[source.context.index]
        if not l.out_c:
            e.require_fixed_size(l, "it joins values of different shapes")
            value = e.flat(value)
        elif len(source.output_shape) == 2:
            value = e.image(source, value, of_output=True)
        if l.groups > 1:
            count = (source.out_c if l.out_c else source.outputs) // l.groups
            value = e.g.slice(value, (1,), (count * l.group_id,), (count * (l.group_id + 1),))
        parts.append(value)
    joined = parts[0] if len(parts) == 1 else e.g.op("Concat", *parts, axis=1)
    return e.set_rank(joined, 4 if l.out_c else 2)


@section("shortcut")
def shortcut(e: Exporter, l: Any, x: str) -> str:
    total = e.image(l, x)
    others = [e.image(s, e.values[s.context.index], of_output=True) for s in l.from_layers]
    if l.weighted:
        total = _weighted_sum_of_layers(e, l, total, others)
    else:
        for number, (source, other) in enumerate(zip(l.from_layers, others, strict=True)):
            alpha = l.alpha if number == 0 else 1.0
            total = _add_where_they_meet(e, l, total, source, other, alpha)
    return activate(e.g, l.activation, total)


def _weighted_sum_of_layers(e: Exporter, l: Any, x: str, others: list[str]) -> str:
    shares = _shares(l)
    total = e.g.op("Mul", x, e.parameter(l, shares[0], "weights"))
    for source, other, share in zip(l.from_layers, others, shares[1:], strict=True):
        part = _common_channels(e, l, source, other)
        common = min(source.out_c, l.c)
        part = e.g.op("Mul", part, e.parameter(l, share[:, :common] if share.shape[1] > 1 else share, "weights"))
        total = e.g.op("Add", total, _fill_channels(e, part, common, l.c))
    return total


def _shares(l: Any) -> list[Array]:
    """The normalized weights of each input, (1, channels or 1, 1, 1)."""
    from darkbn.reference import weighted as formulas

    values = host_array(l, "weights").reshape(l.n + 1, -1)
    shares = np.empty_like(values)
    formulas.normalize(values, shares, weighted.NORMALIZATIONS[l.options.weights_normalization], 1)
    return [row.reshape(1, -1, 1, 1) for row in shares]


def _add_where_they_meet(e: Exporter, l: Any, x: str, source: Any, other: str, alpha: float) -> str:
    """alpha * x + beta * other in their common channels and pixels, x elsewhere."""
    factor = l.beta
    common = min(source.out_c, l.c)
    same = (source.out_h, source.out_w) == (l.h, l.w)
    part = _common_channels(e, l, source, other)
    met = np.zeros((1, l.c, 1, 1))
    met[:, :common] = 1
    if not same:
        e.require_fixed_size(l, f"layer {source.context.index} has another size")
        part, places = _meeting_pixels(e, l, source, part)
        met = met * places
    if factor != 1:
        part = e.g.op("Mul", part, e.g.scalar(factor))
    if alpha != 1:
        x = e.g.op("Mul", x, e.g.constant(np.where(met, alpha, 1.0), "alpha"))
    return e.g.op("Add", x, _fill_channels(e, part, common, l.c))


def _common_channels(e: Exporter, l: Any, source: Any, other: str) -> str:
    return other if source.out_c <= l.c else e.g.slice(other, (1,), (0,), (l.c,))


def _fill_channels(e: Exporter, x: str, channels: int, wanted: int) -> str:
    return x if channels == wanted else e.g.pad(x, (0,) * 4, (0, wanted - channels, 0, 0))


def _meeting_pixels(e: Exporter, l: Any, source: Any, part: str) -> tuple[str, Array]:
    """The source's pixels where the input's meet them, zeros between; and which pixels meet, (1, 1, h, w)."""
    places = np.zeros((1, 1, l.h, l.w))
    rows, columns = (min(a, b) for a, b in ((l.h, source.out_h), (l.w, source.out_w)))
    if source.out_w > l.w or source.out_h > l.h:
        down, across = source.out_h // l.h, source.out_w // l.w
        part = e.g.slice(part, (2, 3), (0, 0), (rows * down, columns * across), (down, across))
        places[...] = 1
        return part, places
    down, across = l.h // source.out_h, l.w // source.out_w
    places[:, :, : rows * down : down, : columns * across : across] = 1
    channels = min(source.out_c, l.c)
    part = e.g.reshape(part, (0, channels, rows, 1, columns, 1))
    part = e.g.pad(part, (0,) * 6, (0, 0, 0, down - 1, 0, across - 1))
    part = e.g.reshape(part, (0, channels, rows * down, columns * across))
    return e.g.pad(part, (0,) * 4, (0, 0, l.h - rows * down, l.w - columns * across)), places


@section("sam")
def sam(e: Exporter, l: Any, x: str) -> str:
    source = e.values[l.source.context.index]
    if l.c:
        x, source = e.image(l, x), e.image(l.source, source, of_output=True)
    return e.keep_rank(activate(e.g, l.activation, e.g.op("Mul", x, source)), x)


@section("scale_channels")
def scale_channels(e: Exporter, l: Any, x: str) -> str:
    source = e.image(l.source, e.values[l.source.context.index], of_output=True)
    if not l.c:
        x = e.g.reshape(x, (0, l.inputs, 1, 1))
    return activate(e.g, l.activation, e.g.op("Mul", e.image(l, x), source))


# -- other orders of the values ----------------------------------------------------------------------------------------


@section("upsample")
def upsample(e: Exporter, l: Any, x: str) -> str:
    x, s, scale = e.image(l, x), l.stride, l.scale
    if l.reverse:
        x, scale = e.g.op("AveragePool", x, kernel_shape=[s, s], strides=[s, s]), scale * s * s
    else:
        x = e.g.op(
            "Resize",
            x,
            "",
            e.g.constant([1.0, 1.0, s, s], "sizes", np.float32),
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
    return x if scale == 1 else e.g.op("Mul", x, e.g.scalar(scale))


@section("reorg")
def reorg(e: Exporter, l: Any, x: str) -> str:
    if l.extra:
        e.require_fixed_size(l, "it adds zeros to all values")
        return e.set_rank(e.g.pad(e.flat(x), (0, 0), (0, l.extra)), 2)
    e.require_fixed_size(l, "it reads the picture as one of another shape")
    x, s = e.image(l, x), l.stride
    if l.flatten:
        pixels = l.h * l.w
        y = e.g.reshape(x, (0, pixels, l.c) if l.reverse else (0, l.c, pixels))
        y = e.g.op("Transpose", y, perm=[0, 2, 1])
    elif l.reverse:
        y = e.g.op("DepthToSpace", x, blocksize=s, mode="DCR")
    else:
        y = e.g.reshape(x, (0, l.c // s**2, l.h * s, l.w * s))
        y = e.g.op("SpaceToDepth", y, blocksize=s)
    return e.g.reshape(y, (0, l.out_c, l.out_h, l.out_w))


@section("reorg3d")
def reorg3d(e: Exporter, l: Any, x: str) -> str:
    x, s = e.image(l, x), l.options.stride
    if l.options.reverse:
        return e.g.op("DepthToSpace", x, blocksize=s, mode="DCR")
    return e.g.op("SpaceToDepth", x, blocksize=s)
