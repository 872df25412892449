"""dropblock=1 of [dropout] (dialect alexeyab): squares are dropped instead of single values (Ghiasi et al. 2018).

In each map, at most one square: that whose corner drew the smallest number, if that is below p / side^2. What is left
of a sample is scaled up by outputs / (outputs - dropped). Over the first 85 % of training p and the side grow from 0 to
what the options say: probability, and dropblock_size_abs pixels (7 when neither is given) or dropblock_size_rel of
width and height, whichever is less.

Departures from Darknet: it works on every backend (the CPU code drops single values); every sample draws its own
numbers (ab-dropblock-misplaces-samples: the CUDA code reads those of others).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from darkbn.layers.base import Context
from darkbn.signature import Array
from darkbn.state import NetworkState

#: Share of training over which dropping grows.
GROWTH = 0.85

#: Side of the squares when no option says it.
DEFAULT_SIDE = 7


def dropblock_sizes(options: Any, context: Context) -> tuple[int, float]:
    """Side in pixels and relative side, one of them 0. Raises CfgError without an image."""
    context.require_image("dropblock=1")
    absolute, relative = int(options.dropblock_size_abs), options.dropblock_size_rel
    largest = min(context.w, context.h)
    if absolute > largest:
        context.warn(
            f"{absolute} is more than the map's {context.w} x {context.h}: {largest}", key="dropblock_size_abs"
        )
        absolute = largest
    if absolute and relative:
        context.warn("has no effect beside dropblock_size_abs", key="dropblock_size_rel")
        relative = 0.0
    return (absolute if absolute or relative else DEFAULT_SIDE), relative


def current_square(l: Any, net: NetworkState) -> tuple[int, float]:
    """Side of the squares in this iteration, and the probability of a corner."""
    growth = min(1.0, net.completed / (GROWTH * net.max_batches)) if net.max_batches else 1.0
    absolute, relative = l.block_sizes
    sides = [int((relative * length if relative else absolute) * growth) for length in (l.w, l.h)]
    side = min(max(1, min(sides[0], l.w)), max(1, min(sides[1], l.h)))
    return side, l.probability * growth / side**2


def dropped(rand: Array, side: int, probability: float) -> Array:
    """Which values are dropped.

    Args:
        rand: (b, c, h, w), uniform in [0, 1).
        side, probability: as `current_square` gives them.
    """
    b, c, h, w = rand.shape
    flat = rand.reshape(b, c, h * w)
    place = flat.argmin(axis=2)
    found = np.take_along_axis(flat, place[..., np.newaxis], 2)[..., 0] < probability
    top, left = (_inside(corner, length - side) for corner, length in zip(np.divmod(place, w), (h, w), strict=True))
    rows, columns = np.arange(h)[:, np.newaxis], np.arange(w)
    top, left = top[..., np.newaxis, np.newaxis], left[..., np.newaxis, np.newaxis]
    square = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
    return np.asarray(square & found[..., np.newaxis, np.newaxis])


def _inside(corner: Array, room: int) -> Array:
    """Corners beyond the last possible one start anew from 0."""
    return np.clip(np.where(corner > room, corner - room, corner), 0, room)
