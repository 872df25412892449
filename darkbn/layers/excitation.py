"""assisted_excitation= of [convolutional] (dialect alexeyab): in training, maps are excited where objects are
(Derakhshani et al. 2019), less and less.

    output += alpha * inside * (mean of output over the channels)

where `inside` is 1 in the pixels that labelled boxes touch. With assisted_excitation=1, alpha falls from 1 to .5 in the
first half of training, (1 + cos(pi i / max_batches)) / 2, and is 0 from then on; with N > 1 it starts after burn_in and
ends at iteration N, with burn_in + N in the place of max_batches.

Departures from Darknet: labels are read as rows of six numbers, which they are (ab-excitation-misreads-labels: rows of
five), and a box ends with its last pixel; the gradient goes through the mean, and the activation's derivative is taken
at its own output (ab-excitation-has-no-gradient).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from darkbn.errors import TrainingError
from darkbn.layers.base import Layer
from darkbn.state import NetworkState

#: Numbers of a label: x, y, w, h, class, track.
TRUTH_SIZE = 6


def strength(option: int, net: NetworkState) -> float:
    """alpha of this iteration; 0: nothing is excited."""
    if option == 1:
        over, period = net.completed > net.max_batches // 2, net.max_batches
    else:
        over = not net.burn_in <= net.completed <= option
        period = net.burn_in + option
    return 0.0 if over else (1 + math.cos(math.pi * net.completed / max(period, 1))) / 2


def excited_pixels(l: Layer, net: NetworkState) -> Any:
    """`inside` as (batch, 1, out_h, out_w). Raises TrainingError without labels of boxes."""
    truth = net.truth
    if truth is None or truth.shape[0] != l.batch or truth.size % (l.batch * TRUTH_SIZE):
        found = "none" if truth is None else f"an array of shape {truth.shape}"
        raise TrainingError(
            f"layer {l.context.index} [{l.type}] assisted_excitation: needs labels of boxes, rows of {TRUTH_SIZE}"
            f" numbers, found {found}"
        )
    rows = np.asarray(net.host_truth, np.float64).reshape(l.batch, -1, TRUTH_SIZE)
    inside = np.zeros((l.batch, 1, l.out_h, l.out_w))
    for image, boxes in enumerate(rows):
        listed = np.cumprod(boxes[:, 0] != 0) > 0
        for x, y, w, h in boxes[listed, :4]:
            across = slice(max(math.floor((x - w / 2) * l.out_w), 0), max(math.ceil((x + w / 2) * l.out_w), 0))
            down = slice(max(math.floor((y - h / 2) * l.out_h), 0), max(math.ceil((y + h / 2) * l.out_h), 0))
            inside[image, 0, down, across] = 1
    return l.backend.array(inside)


def excite(maps: Any, inside: Any, alpha: float) -> None:
    """maps += alpha * inside * their mean over the channels. It is its own transpose, and `-alpha / (1 + alpha)` undoes
    it."""
    maps += alpha * inside * maps.mean(axis=1, keepdims=True)


def excite_output(l: Layer, net: NetworkState) -> tuple[Any, float] | None:
    """Excite the layer's output; returns what `backward_excitation` needs, None when nothing is excited any more."""
    alpha = strength(int(l.options.assisted_excitation), net)
    if alpha == 0:
        return None
    inside = excited_pixels(l, net)
    excite(l.output, inside, alpha)
    return inside, alpha


def backward_excitation(l: Layer, excitement: tuple[Any, float]) -> None:
    """delta becomes the gradient before the excitation, output what it was."""
    inside, alpha = excitement
    excite(l.delta, inside, alpha)
    excite(l.output, inside, -alpha / (1 + alpha))
