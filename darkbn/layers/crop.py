"""[crop]: a window of the picture, with values brought from 0..1 to -1..1.

    output = 2 * window - 1,  or just window with noadjust=1

The window is the centre (rounded up and left) or, when training, anywhere, for every sample anew; then it is also
mirrored at random with flip=1, turned by up to `angle` degrees either way round the picture's centre (outside is 0),
its saturation and value multiplied or divided by factors between 1 and `saturation` and `exposure`, and all pixels of a
channel are shifted by up to shift/2 either way.

Only the GPU code of Darknet turns, recolours and shifts, and it takes windows at fractions of pixels; its CPU code uses
one window for the whole batch. darkbn takes whole pixels, sample by sample, and does the rest on every backend.
Departure from Darknet: a gradient reaches the layer before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from darkbn.layers.base import Buffer, Context, Layer, LayerOptions, Role
from darkbn.options import option
from darkbn.state import NetworkState


@dataclass(frozen=True, kw_only=True)
class CropOptions(LayerOptions):
    """Options of [crop]."""

    crop_height: int = option(1, minimum=1)
    crop_width: int = option(1, minimum=1)
    flip: bool = option(False)
    angle: float = option(0.0)
    saturation: float = option(1.0)
    exposure: float = option(1.0)
    shift: float = option(0.0)
    noadjust: bool = option(False)


class CropLayer(Layer):
    """A window of every sample.

    Attributes:
        places: (batch, 3): row and column of the windows of the last pass, and whether they are mirrored.
        angles: (batch,): by how much they were turned, in radians; only with angle=.
        factors: (batch, 2): of saturation and value; only with saturation= or exposure=.
        shifts: (c,): added to every channel; only with shift=.
    """

    type = "crop"
    sections = ("crop",)
    options_class = CropOptions
    options: CropOptions

    def __init__(self, options: CropOptions, context: Context) -> None:
        context.require_image("[crop]")
        self.recoloured = options.saturation != 1 or options.exposure != 1
        if self.recoloured and context.c != 3:
            raise context.error(f"saturation and exposure need an input of 3 channels, found {context.c}")
        if min(options.saturation, options.exposure) <= 0:
            raise context.error("saturation and exposure must be above 0")
        self.scale, self.translate = (1.0, 0.0) if options.noadjust else (2.0, -1.0)
        super().__init__(options, context)

    def shape(self) -> None:
        o, height, width = self.options, self.options.crop_height, self.options.crop_width
        if (self.h, self.w) != (self.context.h, self.context.w):
            # Darknet resizes both sides by the share that the height had.
            share = np.float32(o.crop_height) / np.float32(self.context.h)
            height, width = int(share * self.h), int(share * self.w)
        if height > self.h or width > self.w:
            raise self.context.error(f"a window of {width} x {height} does not fit into {self.w} x {self.h}")
        self.set_output(height, width, self.c)

    def buffers(self) -> list[Buffer]:
        o, arrays = self.options, self.output_buffers()
        arrays.append(Buffer("places", (self.batch, 3), Role.SCRATCH, dtype="int32"))
        if o.angle:
            arrays.append(Buffer("angles", (self.batch,), Role.SCRATCH, training=True))
        if o.shift:
            arrays.append(Buffer("shifts", (self.c,), Role.SCRATCH, training=True))
        if self.recoloured:
            shape = (self.batch, self.c, self.h, self.w)
            arrays.append(Buffer("factors", (self.batch, 2), Role.SCRATCH, training=True))
            arrays.append(Buffer("recoloured_input", shape, Role.SCRATCH, training=True))
        return arrays

    def forward(self, net: NetworkState) -> None:
        forward_crop_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_crop_layer(self, net)


def make_crop_layer(
    batch: int,
    h: int,
    w: int,
    c: int,
    crop_height: int,
    crop_width: int,
    flip: bool,
    angle: float,
    saturation: float,
    exposure: float,
    *,
    shift: float = 0.0,
    noadjust: bool = False,
    **context: Any,
) -> CropLayer:
    """A window outside a network, ready to train.

    Args:
        batch, h, w, c: input shape.
        crop_height, crop_width: of the window.
        flip, angle, saturation, exposure, shift, noadjust: see the module.
        context: further fields of `Context` (backend, dialect).
    """
    options = CropOptions(
        crop_height=crop_height,
        crop_width=crop_width,
        flip=flip,
        angle=angle,
        saturation=saturation,
        exposure=exposure,
        shift=shift,
        noadjust=noadjust,
    )
    l = CropLayer(options, Context(batch=batch, h=h, w=w, c=c, inputs=h * w * c, **context))
    l.allocate(training=True)
    return l


def _draw(l: CropLayer, rng: np.random.Generator) -> None:
    """Where the windows are and what is done to them, at random."""
    o, batch = l.options, l.batch
    places = np.zeros((batch, 3), np.int32)
    places[:, 0] = rng.integers(0, l.h - l.out_h + 1, batch)
    places[:, 1] = rng.integers(0, l.w - l.out_w + 1, batch)
    if o.flip:
        places[:, 2] = rng.integers(0, 2, batch)
    l.places[...] = l.backend.array(places, "int32")
    if o.angle:
        l.angles[...] = l.backend.array(rng.uniform(-1, 1, batch) * math.radians(o.angle))
    if o.shift:
        l.shifts[...] = l.backend.array(rng.uniform(-0.5, 0.5, l.c) * o.shift)
    if l.recoloured:
        factors = 1 + rng.uniform(size=(batch, 2)) * (np.array([o.saturation, o.exposure]) - 1)
        inverse = rng.integers(0, 2, (batch, 2)) == 1
        l.factors[...] = l.backend.array(np.where(inverse, 1 / factors, factors))


def _turns(l: CropLayer, net: NetworkState) -> Any:
    return l.angles if net.train and l.options.angle else None


def forward_crop_layer(l: CropLayer, net: NetworkState) -> None:
    """output = the window; places and changes are drawn from net.rng when training."""
    x, kernels = net.input.reshape(l.batch, l.c, l.h, l.w), l.backend.crop
    if net.train:
        _draw(l, net.rng)
    else:
        l.places[:, 0], l.places[:, 1], l.places[:, 2] = (l.h - l.out_h) // 2, (l.w - l.out_w) // 2, 0
    if net.train and l.recoloured:
        pixels = (l.batch, 3, -1)
        kernels.levels(x.reshape(pixels), l.factors, l.recoloured_input.reshape(pixels), net.threads)
        x = l.recoloured_input
    shifts = l.shifts if net.train and l.options.shift else None
    kernels.window(x, l.places, _turns(l, net), shifts, l.output, l.scale, l.translate, net.threads)


def backward_crop_layer(l: CropLayer, net: NetworkState) -> None:
    """Adds the input's gradient to net.delta."""
    if net.delta is None:
        return
    kernels, shape = l.backend.crop, (l.batch, l.c, l.h, l.w)
    if not l.recoloured:
        kernels.window_backward(l.delta, l.places, _turns(l, net), net.delta.reshape(shape), l.scale, net.threads)
        return
    change = net.workspace(math.prod(shape), l.backend).reshape(shape)
    change.fill(0)
    kernels.window_backward(l.delta, l.places, _turns(l, net), change, l.scale, net.threads)
    x, target, change = (array.reshape(l.batch, 3, -1) for array in (net.input, net.delta, change))
    kernels.levels_backward(x, l.factors, change, target, net.threads)


def resize_crop_layer(l: CropLayer, w: int, h: int) -> None:
    """Take an input of w x h; the window keeps its share of the height."""
    l.resize(w, h)
