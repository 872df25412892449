"""rotate=, sway=, stretch=, stretch_sway= of [convolutional] (dialect alexeyab): in the first half of training, filters
are kept as deformed copies of each other.

The kernels of the layer (size x size each, filter by filter) are parts of equal length, one per deformation:

    rotate         as they are, turned by 90, 180 and 270 degrees
    sway           as they are, turned by angle= degrees to either side, mirrored
    stretch        as they are, stretched by .65, .8 and 1.3
    stretch_sway   as they are, stretched by .65, .8, 1.2 and 1.4, turned by angle= degrees to either side, mirrored

Before a step, the updates of each part are deformed back and replaced by their mean over the parts; after it, every
part becomes the deformed first one. A deformation is linear: a matrix of size^2 x size^2 (bilinear interpolation;
turned kernels are scaled up by what fell outside, stretched ones down by the stretch).

Departures from Darknet: it works on every backend; the number of kernels must be divisible by that of the parts
(Darknet leaves the rest undefined); stretch_sway has one first part (ab-stretch-sway-mixes-parts: Darknet takes the
mean of quarters, which are two parts each).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from darkbn.layers.base import Context
from darkbn.signature import Array

#: The options, in the order in which Darknet asks for them.
KINDS = ("rotate", "sway", "stretch", "stretch_sway")

_Source = Callable[[Array, Array], tuple[Array, Array]]


def _grid(size: int) -> tuple[Array, Array]:
    """Row and column of each place of a kernel, from its middle."""
    places = np.arange(size) - size // 2
    return np.repeat(places, size), np.tile(places, size)


def _sampled(size: int, source: _Source) -> tuple[Array, float]:
    """Bilinear interpolation at source(row, column) from the middle: the matrix, and the weights that fell outside."""
    rows, columns = source(*_grid(size))
    rows, columns = rows + size // 2, columns + size // 2
    matrix, outside = np.zeros((size * size, size * size)), 0.0
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    for down in (0, 1):
        for right in (0, 1):
            share = np.abs(1 - down - (rows - top)) * np.abs(1 - right - (columns - left))
            y, x = top + down, left + right
            valid = (y >= 0) & (y < size) & (x >= 0) & (x < size)
            np.add.at(matrix, (np.flatnonzero(valid), (y * size + x)[valid]), share[valid])
            outside += float(share[~valid].sum())
    return matrix, outside


def turned(size: int, degrees: float) -> Array:
    """A turn by any angle."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix, outside = _sampled(size, lambda y, x: (-x * s + y * c, x * c + y * s))
    return matrix * (size * size / (size * size - outside))


def stretched(size: int, scale: float, weaker: bool) -> Array:
    """A stretch; with `weaker` the values are divided by the scale."""
    matrix, _ = _sampled(size, lambda y, x: (y / scale, x / scale))
    return matrix / scale if weaker else matrix


def permuted(size: int, turns: int = 0, mirrored: bool = False) -> Array:
    """A turn by quarters, clockwise, or a mirror image."""
    places = np.arange(size * size).reshape(size, size)
    moved = places[:, ::-1] if mirrored else np.rot90(places, -turns)
    return np.eye(size * size)[moved.reshape(-1)]


def matrices(kind: str, size: int, angle: float, reverse: bool) -> Array:
    """The deformations of the parts, or those that take them back: (parts, size^2, size^2)."""
    sign, power = (-1, -1) if reverse else (1, 1)
    degrees = sign * int(angle)
    same, mirror = permuted(size), permuted(size, mirrored=True)
    sway = [turned(size, degrees), turned(size, -degrees)]
    if kind == "rotate":
        return np.stack([permuted(size, sign * turns) for turns in range(4)])
    if kind == "sway":
        return np.stack([same, *sway, mirror])
    if kind == "stretch":
        return np.stack([same, *(stretched(size, scale**power, True) for scale in (0.65, 0.8, 1.3))])
    scales = [scale**power for scale in (0.65, 0.8, 1.2, 1.4)]
    return np.stack([same, *(stretched(size, scale, scale > 1) for scale in scales), *sway, mirror])


class Deformation:
    """The deformed copies of one layer."""

    def __init__(self, kind: str, size: int, kernels: int, angle: float, context: Context) -> None:
        if size == 1:
            raise context.error("needs kernels larger than 1 x 1", key=kind)
        both = (matrices(kind, size, angle, reverse) for reverse in (False, True))
        self.xp, (self.to, self.back) = context.backend.xp, (context.backend.array(each) for each in both)
        if kernels % len(self.to):
            problem = f"makes parts of the {kernels} kernels (filters * channels): must be divisible by {len(self.to)}"
            raise context.error(problem, key=kind)

    def _parts(self, array: Any) -> Any:
        return array.reshape(len(self.to), -1, self.to.shape[-1])

    def average(self, updates: Any) -> None:
        """Updates of each part become the mean over the parts, each deformed back."""
        parts = self._parts(updates)
        parts[...] = self.xp.matmul(parts, self.back.transpose(0, 2, 1)).mean(axis=0)

    def spread(self, weights: Any) -> None:
        """Each part becomes the deformed first one."""
        parts = self._parts(weights)
        parts[...] = self.xp.matmul(parts[:1], self.to.transpose(0, 2, 1))


def deformation_of(options: Any, kernels: int, context: Context) -> Deformation | None:
    """The deformation that a layer's options ask for; None without one. Raises CfgError where they cannot be."""
    kinds = [kind for kind in KINDS if getattr(options, kind)]
    if len(kinds) > 1:
        raise context.error(f"excludes {kinds[0]}=1: only one kind of deformation", key=kinds[1])
    return Deformation(kinds[0], options.size, kernels, options.angle, context) if kinds else None
