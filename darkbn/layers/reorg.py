"""[reorg]: Darknet's rearrangement of pixels into channels, kept as its networks were trained with it.

The input (c, h, w) is read as if it were (c/s*s, h*s, w*s), s = stride, and the blocks of s x s pixels of that
become channels; the result is read as (c*s*s, h/s, w/s). Pixels of the real image are thus mixed with those of
other rows, which is what yolov2 was trained with; [reorg3d] is the plain rearrangement. With reverse=1 channels
become blocks:

    output[b, k, y*s + i, x*s + j] = input[b, (i*s + j)*c/(s*s) + k, y, x]

Dialect darknet has two more uses: flatten=1 exchanges channels and pixels (planes to pixels; reverse=1: back), and
extra=n puts n zeros behind each sample, which then has no image shape.

Departures from Darknet: the gradient is added to the delta of the layer before instead of overwriting it; sizes
that stride does not divide (Darknet writes beyond its arrays) and combinations of extra with reverse or flatten
are errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkbn.layers.base import Context, Layer, LayerOptions
from darkbn.options import option
from darkbn.state import NetworkState


@dataclass(frozen=True, kw_only=True)
class ReorgOptions(LayerOptions):
    """Options of [reorg]."""

    stride: int = option(1, minimum=1)
    reverse: bool = option(False)
    flatten: bool = option(False, only="darknet")
    extra: int = option(0, only="darknet", minimum=0)


class ReorgLayer(Layer):
    """The same values in another order (and `extra` zeros)."""

    type = "reorg"
    sections = ("reorg",)
    options_class = ReorgOptions
    options: ReorgOptions

    def __init__(self, options: ReorgOptions, context: Context) -> None:
        context.require_image("[reorg]")
        if options.extra and (options.reverse or options.flatten):
            raise context.error("cannot be used together with reverse=1 or flatten=1", key="extra")
        self.stride, self.reverse = options.stride, options.reverse
        self.flatten, self.extra = options.flatten, options.extra
        super().__init__(options, context)

    def shape(self) -> None:
        s = self.stride
        if self.extra:
            self.out_h = self.out_w = self.out_c = 0
            self.outputs = self.inputs + self.extra
            return
        # The image is divided into blocks unless reversed; the channels into blocks unless only the axes change.
        if not self.reverse and (self.h % s or self.w % s):
            raise self.context.error(f"{s} does not divide the input's {self.w} x {self.h} pixels", key="stride")
        if (self.reverse or not self.flatten) and self.c % s**2:
            raise self.context.error(f"{s} x {s} does not divide the input's {self.c} channels", key="stride")
        if self.reverse:
            self.set_output(self.h * s, self.w * s, self.c // s**2)
        else:
            self.set_output(self.h // s, self.w // s, self.c * s**2)

    def forward(self, net: NetworkState) -> None:
        forward_reorg_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_reorg_layer(self, net)

    def describe(self) -> tuple[str, str]:
        kind = f" +{self.extra}" if self.extra else " flatten" if self.flatten else ""
        return "", f"{'' if self.reverse else '/'}{self.stride}{kind}"


def make_reorg_layer(
    batch: int,
    w: int,
    h: int,
    c: int,
    stride: int,
    reverse: bool = False,
    flatten: bool = False,
    extra: int = 0,
    **context: Any,
) -> ReorgLayer:
    """A reorg layer outside a network, ready to train.

    Args:
        batch, w, h, c: input shape.
        stride, reverse, flatten, extra: see the module.
        context: further fields of `Context` (backend).
    """
    options = ReorgOptions(stride=stride, reverse=reverse, flatten=flatten, extra=extra)
    l = ReorgLayer(options, Context(batch=batch, h=h, w=w, c=c, inputs=h * w * c, **context))
    l.allocate(training=True)
    return l


def _as_space(l: ReorgLayer, array: Any) -> Any:
    """An array of the input's or output's size as the image with c/(stride*stride) channels."""
    s = l.stride
    return array.reshape(l.batch, l.c // s**2, l.h * s, l.w * s)


def _as_depth(l: ReorgLayer, array: Any) -> Any:
    return array.reshape(l.batch, l.c, l.h, l.w)


def _as_rows(l: ReorgLayer, array: Any, *, planes: bool) -> Any:
    """An array of the input's or output's size as planes of pixels, or as pixels of channels."""
    pixels = l.h * l.w
    return array.reshape((l.batch, l.c, pixels) if planes else (l.batch, pixels, l.c))


def forward_reorg_layer(l: ReorgLayer, net: NetworkState) -> None:
    """output = the input's values in their new order."""
    spatial = l.backend.spatial
    if l.flatten:
        x = _as_rows(l, net.input, planes=not l.reverse)
        spatial.flatten(x, _as_rows(l, l.output, planes=l.reverse), net.threads)
    elif l.extra:
        spatial.copy_block(net.input.reshape(l.batch, l.inputs), l.output, 0, 0, l.inputs, net.threads)
    elif l.reverse:
        spatial.depth_to_space(_as_depth(l, net.input), _as_space(l, l.output), l.stride, net.threads)
    else:
        spatial.space_to_depth(_as_space(l, net.input), _as_depth(l, l.output), l.stride, net.threads)


def backward_reorg_layer(l: ReorgLayer, net: NetworkState) -> None:
    """Adds delta, in the input's order, to net.delta."""
    if net.delta is None:
        return
    spatial = l.backend.spatial
    if l.flatten:
        delta = _as_rows(l, l.delta, planes=l.reverse)
        spatial.flatten_add(delta, _as_rows(l, net.delta, planes=not l.reverse), net.threads)
    elif l.extra:
        spatial.add_block(l.delta, net.delta.reshape(l.batch, l.inputs), 0, 0, l.inputs, net.threads)
    elif l.reverse:
        spatial.space_to_depth_add(_as_space(l, l.delta), _as_depth(l, net.delta), l.stride, net.threads)
    else:
        spatial.depth_to_space_add(_as_depth(l, l.delta), _as_space(l, net.delta), l.stride, net.threads)


def resize_reorg_layer(l: ReorgLayer, w: int, h: int) -> None:
    """Take an input of w x h."""
    l.resize(w, h)
