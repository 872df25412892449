"""[convolutional]: cross-correlation, batch normalization or biases, activation.

    z[b, n, y, x] = sum over c, i, j of weights[n, c, i, j] * input[b, c, y*stride_y + i*dilation - pad, ...]
    output = activation(batch_normalize(z) + biases)

The output is (in + 2*padding - size) / stride + 1 wide and high, as both Darknets compute it, dilation left out; taps
are gathered with padding*dilation, so that "same" padding stays "same".

With share_index= a layer uses the parameters and rolling statistics of another one. Both add to the same updates, and
each takes a step with them, as in Darknet: the second step is made with the updates after momentum.

Departures from Darknet: a 1x1 convolution honours its stride (pj-1x1-ignores-stride); gradients are added to the
delta of the layer before (pj-1x1-backward-overwrites-delta, ab-conv-backward-overwrites-delta); layers that share
filters have batch statistics of their own (ab-share-index-shares-batch-statistics).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from darkbn.activations import CODES, activation_option, mixes_channels
from darkbn.algorithms import Algorithm, training_algorithm
from darkbn.layers import batchnorm
from darkbn.layers.activation import activate_array, activation_buffers, gradient_array
from darkbn.layers.antialiasing import AntialiasedLayer
from darkbn.layers.base import Buffer, Context, Layer, LayerOptions, Role, apply_updates
from darkbn.layers.coordconv import with_coordinates
from darkbn.layers.deformation import deformation_of
from darkbn.layers.excitation import backward_excitation, excite_output
from darkbn.layers.wrapped import WrappedLayer
from darkbn.options import option
from darkbn.state import NetworkState, UpdateArgs

_NO_SHARE = -1_000_000_000
#: Roles of the arrays that a layer with share_index takes from another.
_SHARED = (Role.PARAMETER, Role.UPDATE, Role.STATISTIC)


@dataclass(frozen=True, kw_only=True)
class ConvolutionalOptions(LayerOptions):
    """Options of [convolutional]."""

    filters: int = option(1, minimum=1)
    groups: int = option(1, minimum=1)
    size: int = option(1, minimum=1)
    stride: int = option(1, minimum=1)
    stride_x: int = option(derived=lambda o: o.stride, only="alexeyab")
    stride_y: int = option(derived=lambda o: o.stride, only="alexeyab")
    dilation: int = option(1, only="alexeyab", minimum=1)
    pad: bool = option(False)
    padding: int = option(0, minimum=0)
    activation: str = activation_option("logistic")
    batch_normalize: int = option(0)
    flipped: bool = option(False)
    share_index: int = option(_NO_SHARE, only="alexeyab")
    binary: bool = option(False)
    xnor: bool = option(False)
    bin_output: bool = option(False, only="alexeyab")
    antialiasing: int = option(0, only="alexeyab")
    cbn: bool = option(False, only="alexeyab")
    assisted_excitation: float = option(0.0, only="alexeyab", minimum=0)
    sway: bool = option(False, only="alexeyab")
    rotate: bool = option(False, only="alexeyab")
    stretch: bool = option(False, only="alexeyab")
    stretch_sway: bool = option(False, only="alexeyab")
    angle: float = option(15.0, only="alexeyab")
    grad_centr: bool = option(False, only="alexeyab")
    reverse: float = option(0.0, only="alexeyab")
    coordconv: bool = option(False, only="alexeyab")
    dot: float = option(0.0)
    stream: int = option(-1, only="alexeyab")
    wait_stream: int = option(-1, only="alexeyab")


class ConvolutionalLayer(batchnorm.BatchNormalized):
    """A convolution. Arrays: weights (n, c/groups, size, size), biases (n,); with batch normalization also scales,
    rolling_mean, rolling_variance (n,); updates of the same shapes when training."""

    type = "convolutional"
    sections = ("convolutional", "conv")
    bounds_weights = True
    options_class = ConvolutionalOptions
    options: ConvolutionalOptions

    def __init__(self, options: ConvolutionalOptions, context: Context) -> None:
        context.require_image("[convolutional]")
        self.n, self.size, self.groups = options.filters, options.size, options.groups
        # The last resort of Darknet's parser: a stride below 1 means "as stride=".
        self.stride_x = options.stride_x if options.stride_x > 0 else options.stride
        self.stride_y = options.stride_y if options.stride_y > 0 else options.stride
        self.stride = options.stride
        self.dilation = 1 if options.size == 1 else options.dilation
        self.pad = options.size // 2 if options.pad else options.padding
        self.batch_normalize = bool(options.batch_normalize or options.cbn)
        self.cross_iteration = context.dialect == "alexeyab" and (options.batch_normalize == 2 or options.cbn)
        self.activation = options.activation
        if context.c % self.groups or self.n % self.groups:
            raise context.error(
                f"groups={self.groups} must divide both the {context.c} input channels and filters={self.n}",
                key="groups",
            )
        self.share_layer = self._find_share(options.share_index, context)
        kernels = self.n * context.c // self.groups
        self.deformation = deformation_of(options, kernels, context)
        self._excitement: tuple[Any, float] | None = None
        # Excitement changes the output that the activation's gradient is taken at.
        pointwise = not mixes_channels(CODES[options.activation])
        excited = options.assisted_excitation or self.cross_iteration
        self.joins_activation = self.batch_normalize and pointwise and not excited
        super().__init__(options, context)

    @classmethod
    def build(cls, options: ConvolutionalOptions, context: Context) -> Layer:
        if options.coordconv:
            return with_coordinates(options, cls.build(replace(options, coordconv=False), context))
        if options.antialiasing:
            return AntialiasedConvolutionalLayer(options, context)
        if options.binary or options.xnor:
            from darkbn.layers.binary import BinaryConvolutionalLayer

            return BinaryConvolutionalLayer(options, context)
        return cls(options, context)

    def _find_share(self, index: int, context: Context) -> ConvolutionalLayer | None:
        if index == _NO_SHARE:
            return None
        target = index if index >= 0 else context.index + index
        layer = context.layers[target] if 0 <= target < len(context.layers) else None
        while isinstance(layer, WrappedLayer):
            layer = layer.host
        if not isinstance(layer, ConvolutionalLayer):
            raise context.error(f"layer {target} is not a [convolutional] before this one", key="share_index")
        if layer.weight_shape != (self.n, context.c // self.groups, self.size, self.size):
            raise context.error(
                f"layer {target} has weights {layer.weight_shape}, this one needs"
                f" {(self.n, context.c // self.groups, self.size, self.size)}",
                key="share_index",
            )
        return layer

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """(filters, channels of a group, size, size)."""
        return (self.n, self.context.c // self.groups, self.size, self.size)

    def shape(self) -> None:
        out_h = (self.h + 2 * self.pad - self.size) // self.stride_y + 1
        out_w = (self.w + 2 * self.pad - self.size) // self.stride_x + 1
        self.set_output(out_h, out_w, self.n)

    def buffers(self) -> list[Buffer]:
        return [b for b in self._all_buffers() if self.share_layer is None or b.role not in _SHARED]

    def _all_buffers(self) -> list[Buffer]:
        found = [
            Buffer("weights", self.weight_shape, Role.PARAMETER),
            Buffer("weight_updates", self.weight_shape, Role.UPDATE, training=True),
            Buffer("biases", (self.n,), Role.PARAMETER),
            Buffer("bias_updates", (self.n,), Role.UPDATE, training=True),
            *self.output_buffers(),
        ]
        if not self.joins_activation:
            found += activation_buffers(self.activation, self.output_shape)
        if self.batch_normalize:
            found += batchnorm.channel_buffers(self.n, self.convention)
            found += batchnorm.cross_iteration_buffers(self.n) if self.cross_iteration else []
            found += batchnorm.sample_buffers(self.output_shape)
        return found

    def allocate(self, training: bool) -> None:
        if self.share_layer is not None:
            for buffer in self._all_buffers():
                if buffer.role in _SHARED and (training or not buffer.training):
                    setattr(self, buffer.name, getattr(self.share_layer, buffer.name))
        super().allocate(training)

    def initialize(self, rng: np.random.Generator) -> None:
        if self.share_layer is None:
            scale = math.sqrt(2.0 / math.prod(self.weight_shape[1:]))
            self.weights[...] = self.backend.array(initial_weights(rng, self.weight_shape, scale, self.context.dialect))

    def weights_order(self) -> tuple[str, ...]:
        if self.share_layer is not None:
            return ()
        return ("biases", *(batchnorm.FILE_ORDER if self.batch_normalize else ()), "weights")

    def operands(self, net: NetworkState) -> tuple[Any, Any]:
        """The input and the weights of the sum."""
        return net.input.reshape(self.batch, self.c, self.h, self.w), self.weights

    def backward_input(self, weights: Any, delta: Any, net: NetworkState) -> None:
        """Adds the gradient of the input to `delta` (batch, c, h, w); `weights` are those of the sum."""
        algorithm = _algorithm(self)
        workspace = _workspace(self, net, "backward_input", algorithm)
        self.backend.convolution.backward_input(
            weights, self.delta, delta, workspace, *_geometry(self), algorithm, net.threads
        )

    def forward(self, net: NetworkState) -> None:
        forward_convolutional_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_convolutional_layer(self, net)

    def update(self, args: UpdateArgs) -> None:
        update_convolutional_layer(self, args)

    @property
    def flops(self) -> int:
        return 2 * math.prod(self.weight_shape) * self.out_h * self.out_w

    def describe(self) -> tuple[str, str]:
        stride = f"{self.stride_x}" if self.stride_x == self.stride_y else f"{self.stride_x},{self.stride_y}"
        extras = f" g{self.groups}" if self.groups > 1 else ""
        extras += f" d{self.dilation}" if self.dilation > 1 else ""
        return str(self.n), f"{self.size} x {self.size} / {stride}{extras}"


class AntialiasedConvolutionalLayer(AntialiasedLayer):
    """A convolution with antialiasing=: see `darkbn.layers.antialiasing`."""

    type = "convolutional"
    bounds_weights = True
    options_class = ConvolutionalOptions
    host_class = ConvolutionalLayer


def initial_weights(rng: np.random.Generator, shape: tuple[int, ...], scale: float, dialect: str) -> Any:
    """Random weights as the dialect draws them: normal (darknet) or uniform in +-scale (alexeyab)."""
    if dialect == "alexeyab":
        return rng.uniform(-scale, scale, shape)
    return rng.standard_normal(shape) * scale


def make_convolutional_layer(
    batch: int,
    h: int,
    w: int,
    c: int,
    n: int,
    groups: int,
    size: int,
    stride: int,
    padding: int,
    activation: str,
    batch_normalize: bool = False,
    *,
    dilation: int = 1,
    seed: int | None = None,
    **context: Any,
) -> ConvolutionalLayer:
    """A convolution outside a network, ready to train.

    Args:
        batch, h, w, c: input shape.
        n, groups, size, stride, padding, dilation: of the convolution.
        activation: its name.
        batch_normalize: whether to normalize before the activation.
        seed: of the initial weights.
        context: further fields of `Context` (backend, dialect, convention).
    """
    options = ConvolutionalOptions(
        filters=n,
        groups=groups,
        size=size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        activation=activation,
        batch_normalize=int(batch_normalize),
    )
    l = ConvolutionalLayer(options, Context(batch=batch, h=h, w=w, c=c, inputs=h * w * c, **context))
    l.allocate(training=True)
    l.initialize(np.random.default_rng(seed))
    return l


def _geometry(l: ConvolutionalLayer) -> tuple[int, int, int, int, int]:
    return l.groups, l.stride_y, l.stride_x, l.dilation, l.pad * l.dilation


def _algorithm(l: ConvolutionalLayer) -> Algorithm:
    """Of the passes in training."""
    return training_algorithm(l.c, l.n, l.size, (l.stride_y, l.stride_x), l.dilation, l.groups, (l.out_h, l.out_w))


def _workspace(l: ConvolutionalLayer, net: NetworkState, kernel: str, algorithm: Algorithm) -> Any:
    size = getattr(l.backend.convolution, f"{kernel}_workspace")(
        l.batch, l.c, l.h, l.w, l.n, l.size, l.out_h, l.out_w, *_geometry(l), algorithm, net.threads
    )
    return net.workspace(size, l.backend)


def forward_convolutional_layer(l: ConvolutionalLayer, net: NetworkState) -> None:
    """output = activation(batch normalization of the convolution + biases).

    Outside of training the sums are plain ones: what plans are compared with.
    """
    x, weights = l.operands(net)
    algorithm = _algorithm(l) if net.train else Algorithm.GEMM
    normalized_later = l.batch_normalize and net.batch_statistics
    l.backend.convolution.forward(
        x,
        weights,
        None if l.batch_normalize else l.biases,
        l.x if normalized_later else l.output,
        _workspace(l, net, "forward", algorithm),
        *_geometry(l),
        algorithm,
        net.threads,
    )
    if l.batch_normalize:
        batchnorm.forward_batchnorm_layer(l, net)
    if not l.activated:
        activate_array(l, net)
    if l.options.assisted_excitation and net.train:
        l._excitement = excite_output(l, net)


def backward_convolutional_layer(l: ConvolutionalLayer, net: NetworkState) -> None:
    """Updates from delta; delta becomes the gradient before the convolution's own sum, as in Darknet."""
    if l._excitement is not None:
        backward_excitation(l, l._excitement)
        l._excitement = None
    if l.options.smooth:
        smooth_output(l)
    if not l.activated:
        gradient_array(l, net)
    if l.batch_normalize:
        batchnorm.backward_batchnorm_layer(l, net)
    else:
        l.backend.bias.backward_bias(l.bias_updates, l.delta.reshape(l.batch, l.n, -1), net.threads)
    x, weights = l.operands(net)
    if not l.train_only_bn:
        algorithm = _algorithm(l)
        workspace = _workspace(l, net, "backward_weights", algorithm)
        l.backend.convolution.backward_weights(
            x, l.delta, l.weight_updates, workspace, *_geometry(l), algorithm, net.threads
        )
    if net.delta is not None:
        l.backward_input(weights, net.delta.reshape(l.batch, l.c, l.h, l.w), net)


def smooth_output(l: ConvolutionalLayer) -> None:
    """smooth= of pjreddie's CUDA code: delta += smooth * (what the output lacks of its neighbours, summed over a window
    of 5 x 5; those outside of the map do not count)."""
    reach = 2
    xp = l.backend.xp
    padded = xp.pad(l.output, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    inside = xp.pad(xp.ones(l.output.shape[2:], l.output.dtype), reach)
    size, h, w = 2 * reach + 1, l.out_h, l.out_w
    windows = [(slice(i, i + h), slice(j, j + w)) for i in range(size) for j in range(size)]
    count = sum(inside[window] for window in windows)
    l.delta += l.options.smooth * (sum(padded[(..., *window)] for window in windows) - count * l.output)


def update_convolutional_layer(l: ConvolutionalLayer, args: UpdateArgs) -> None:
    """One step of the optimizer, see `darkbn.layers.base.apply_updates`.

    Layers that share filters make a step each, as in Darknet. With grad_centr=1 the updates of each filter lose their
    mean before (gradient centralization, Yong et al. 2020), with reverse=r they become sign(u) (10 |u| + 1)^r in the
    step, not in the momentum. Deformed filters: see `darkbn.layers.deformation`.
    """
    deforms = args.iteration <= args.max_batches // 2 and not l.train_only_bn
    deformation = l.deformation if deforms else None
    reverses = bool(l.options.reverse) and args.adam is None and not l.train_only_bn
    if deformation is not None or reverses:
        args = args.at_once()
    if deformation is not None:
        deformation.average(l.weight_updates)
    if l.options.grad_centr and l.batch_normalize:
        rows = l.weight_updates.reshape(l.n, -1)
        rows -= rows.mean(axis=1, keepdims=True)
    if reverses:
        kept = l.weight_updates.copy()
        xp = l.backend.xp
        l.weight_updates[...] = xp.where(kept < 0, -1, 1) * (10 * xp.abs(kept) + 1) ** l.options.reverse
        apply_updates(l, args)
        l.weight_updates[...] = args.momentum * kept
    else:
        apply_updates(l, args)
    if deformation is not None:
        deformation.spread(l.weights)


def resize_convolutional_layer(l: ConvolutionalLayer, w: int, h: int) -> None:
    """Take an input of w x h."""
    l.resize(w, h)
