"""What decides a training step besides the layers: who is frozen, the optimizer's scalars, moving averages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from darkbn.errors import TrainingError
from darkbn.layers.base import UPDATES, Layer
from darkbn.state import AdamArgs, UpdateArgs

if TYPE_CHECKING:
    from darkbn.network import Network

#: AlexeyAB's Darknet puts the moving averages in the place of the parameters so many iterations before the end.
LAST_ITERATIONS = 1000


def frozen_layers(layers: Sequence[Layer], dialect: str, completed: int) -> list[bool]:
    """Which layers are frozen: neither their parameters nor their rolling statistics move.

    These are the last layer with stopbackward= and all before it, for they get no gradient, and in dialect alexeyab
    layers with onlyforward=1. There stopbackward=N, N > 1, holds until N iterations are made, as in its CUDA build.

    Departures from Darknet (frozen-layers-still-move), where the weights of such layers decay, and batch normalization
    goes on with the statistics of the batch and rolls them.

    Args:
        layers: of the network.
        dialect: "darknet" or "alexeyab".
        completed: iterations made so far.
    """
    last = max((i for i, l in enumerate(layers) if _stops(l.options.stopbackward, dialect, completed)), default=-1)
    aside = [bool(l.options.onlyforward) and dialect == "alexeyab" for l in layers]
    return [index <= last or skipped for index, skipped in enumerate(aside)]


def rests(layer: Layer, iteration: int, burn_in: int) -> bool:
    """Whether a layer takes no step (alexeyab): in the first dont_update iterations, and before iteration
    burnin_update * burn_in.

    Args:
        layer: any.
        iteration: number of the step, from 1.
        burn_in: as in [net].
    """
    o = layer.options
    return bool(o.dont_update and iteration <= o.dont_update) or iteration < o.burnin_update * burn_in


def forget_updates(layer: Layer) -> None:
    """Accumulated gradients of a layer that takes no step become 0 (ab-resting-layers-hoard-updates: Darknet lets them
    grow until the layer's first step)."""
    for _, part in layer.walk():
        for _, updates, *_ in UPDATES:
            if hasattr(part, updates):
                getattr(part, updates).fill(0)


def _stops(stopbackward: int, dialect: str, completed: int) -> bool:
    if dialect == "darknet":
        return stopbackward != 0
    return stopbackward == 1 or stopbackward > completed


def update_args(net: Network) -> UpdateArgs:
    """The scalars of the step that comes now."""
    o = net.options
    return UpdateArgs(
        learning_rate=net.learning_rate,
        momentum=o.momentum,
        decay=o.decay,
        batch=net.batch * net.subdivisions * sequence_length(net),
        threads=net.threads,
        adam=AdamArgs(o.B1, o.B2, o.eps, net.steps + 1) if o.adam else None,
        clip=o.clip,
        iteration=net.iteration,
        max_batches=o.max_batches,
    )


def sequence_length(net: Network) -> int:
    """How many sequences of images the subdivisions are (alexeyab, sequential_subdivisions=): the step is divided by
    it, as in its CUDA build. With track=1 the number of subdivisions of a sequence grows with the steps (seq_scales=).
    """
    o = net.options
    if not o.sequential_subdivisions or net.dialect == "darknet":
        return 1
    length = float(min(o.sequential_subdivisions, net.subdivisions))
    if o.track and o.policy in ("steps", "sgdr"):
        for step, scale in zip(o.steps, o.seq_scales, strict=False):
            if step > net.iteration:
                break
            length = int(length * scale)
    return max(net.subdivisions // min(max(int(length), 1), net.subdivisions), 1)


def averaged_parameters(layers: Sequence[Layer]) -> Iterator[tuple[Any, Any]]:
    """Parameters and their moving averages, of all layers and those inside them."""
    for layer in layers:
        for _, part in layer.walk():
            for parameter, *_ in UPDATES:
                if hasattr(part, f"{parameter}_ema"):
                    yield getattr(part, parameter), getattr(part, f"{parameter}_ema")


def average_parameters(net: Network) -> None:
    """Keep the moving averages of the parameters (alexeyab, ema_alpha=) after a step.

    As in AlexeyAB's Darknet they start in the middle of training (max_batches / 2), and take the place of the
    parameters 1000 iterations before its end; of the rolling statistics there are none. There only convolutions are
    averaged, here every layer is.
    """
    o, iteration = net.options, net.iteration
    if not o.ema_alpha or iteration < o.max_batches // 2:
        return
    apply_at = o.max_batches - LAST_ITERATIONS
    pairs = [(parameter.reshape(-1), average.reshape(-1)) for parameter, average in averaged_parameters(net.layers)]
    for parameter, average in pairs:
        if not net.averaged:
            average[...] = parameter
        if iteration == apply_at:
            parameter[...] = average
    if iteration < apply_at and net.backend.together is not None:
        net.backend.together.average(pairs, o.ema_alpha)
    elif iteration < apply_at:
        for parameter, average in pairs:
            net.backend.optimizer.average(parameter, average, o.ema_alpha, net.threads)
    net.averaged = True


def require_averages(net: Network) -> None:
    """Raise TrainingError unless the moving averages have started."""
    if not net.options.ema_alpha:
        raise TrainingError(f"{net.cfg.file}: no moving averages: ema_alpha= is not set in [net]")
    if not net.averaged:
        raise TrainingError(
            f"{net.cfg.file}: no moving averages yet (ema_alpha): they start after iteration"
            f" {net.options.max_batches // 2}, this is {net.iteration}"
        )


def reject_similar_filters(net: Network, threshold: float = 0.4) -> None:
    """Every weights_reject_freq iterations, in the first three quarters of training (alexeyab): of the two filters of a
    convolution that are most alike, the first is drawn anew when their cosine exceeds the threshold.

    Convolutions with linear activation, the first layer, and the three layers before a [yolo] are left alone.
    """
    o, iteration = net.options, net.iteration
    if not o.weights_reject_freq or iteration >= o.max_batches * 3 // 4 or iteration % o.weights_reject_freq:
        return
    for index, l in enumerate(net.layers):
        head = any(after.type == "yolo" for after in net.layers[index + 1 : index + 4])
        if index and not head and l.type == "convolutional" and l.options.activation != "linear":
            _redraw_filter(l, threshold, net._state.rng)


def _redraw_filter(l: Any, threshold: float, rng: np.random.Generator) -> None:
    xp = l.backend.xp
    rows = l.weights.reshape(len(l.weights), -1).astype("float64")
    unit = rows / xp.maximum(xp.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    cosines = xp.triu(unit @ unit.T, 1) - 2 * xp.tri(len(rows))
    if len(rows) < 2 or cosines.max() <= threshold:
        return
    filter_index = int(cosines.argmax()) // len(rows)
    scale = math.sqrt(2 / rows.shape[1])
    l.weights[filter_index] = l.backend.array(rng.uniform(-scale, scale, l.weights.shape[1:]))
    l.biases[filter_index] = 0
    if l.batch_normalize:
        l.scales[filter_index] = 1
