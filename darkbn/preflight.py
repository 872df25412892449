"""A look at what is about to be trained: what cannot be meant, said before hours are spent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from darkbn.cfg import Section
from darkbn.errors import TrainingError
from darkbn.layers.batchnorm import BatchNormalized
from darkbn.net_options import NetOptions
from darkbn.training import LAST_ITERATIONS

if TYPE_CHECKING:
    import os

    from darkbn.layers.base import Layer
    from darkbn.network import Network

#: Images per pass below which statistics of batch normalization are poor (Wu and He, arXiv:1803.08494, figure 1).
FEW_IMAGES = 16


#: Options of [net] about how batches are made from pictures and labels.
DATA_OPTIONS = (
    *("angle", "aspect", "saturation", "exposure", "hue", "flip", "blur", "gaussian_noise", "letter_box"),
    *("mixup", "cutmix", "mosaic", "mosaic_bound", "label_smooth_eps", "unsupervised", "augment_speed"),
    *("contrastive", "contrastive_jit_flip", "contrastive_color", "notruth"),
)


def check_training(
    net: Network, truth: Any = None, images: Iterable[str | os.PathLike[str]] | None = None
) -> list[str]:
    """What is odd about training this network; an empty list when nothing is.

    Args:
        net: the network; nothing is computed or changed.
        truth: labels of some batches, (n, truths), to be looked at.
        images: pictures of the training set, whose label files are looked for (`darkbn.labels.label_path`).

    Returns:
        Sentences, the most serious first.

    Raises:
        TrainingError: batch normalization would have one value per channel.
        UnsupportedError: an option that cannot be trained.
    """
    net._check_trainable()
    written = NetOptions.read(net.cfg.net, net.dialect, [])
    per_pass = net.options.batch if net.training else max(1, written.batch // written.subdivisions)
    found = [
        *_normalization(net, per_pass),
        *_batches(written),
        *_rates(written),
        *_schedule(written),
        *_averages(written),
        *_layers(net),
        *_data_options(written, net.dialect),
    ]
    if truth is not None:
        found += _labels(net, np.asarray(truth))
    if images is not None:
        found += _label_files(net, list(images))
    return found


def _normalization(net: Network, images: int) -> Iterator[str]:
    normalized = [
        (index, part)
        for (index, layer), frozen in zip(enumerate(net.layers), net.frozen, strict=True)
        for _, part in layer.walk()
        if not frozen and isinstance(part, BatchNormalized) and getattr(part, "batch_normalize", True)
    ]
    for index, part in normalized:
        positions = max(part.out_h, 1) * max(part.out_w, 1)
        if images * positions < 2:
            raise TrainingError(
                f"{net.cfg.file}: layer {index} [{part.type}]: batch normalization would have one value per channel, so"
                f" its variance means nothing: raise batch= or lower subdivisions= so that batch/subdivisions is at"
                f" least 2 (it is {images})"
            )
    if normalized and images < FEW_IMAGES:
        index, part = min(normalized, key=lambda pair: max(pair[1].out_h, 1) * max(pair[1].out_w, 1))
        values = images * max(part.out_h, 1) * max(part.out_w, 1)
        yield (
            f"batch normalization sees {images} images at a time (batch/subdivisions; layer {index} [{part.type}]: "
            f"{values} values per channel): below {FEW_IMAGES} its statistics are poor; lower subdivisions= if memory"
            " allows, or freeze the layers (stopbackward=1)"
        )


def _batches(o: NetOptions) -> Iterator[str]:
    if o.subdivisions > o.batch:
        yield f"subdivisions={o.subdivisions} exceeds batch={o.batch}: each pass has one image"
    elif o.batch % o.subdivisions:
        left = o.batch % o.subdivisions
        yield (
            f"batch={o.batch} is no multiple of subdivisions={o.subdivisions}: {left} images of each batch are left"
            f" out ({o.batch // o.subdivisions} per pass)"
        )


def _rates(o: NetOptions) -> Iterator[str]:
    high = 0.1 if o.adam else 1.0
    if o.learning_rate > high:
        yield f"learning_rate={o.learning_rate:g} exceeds {high:g}{' for Adam' if o.adam else ''}: it will diverge"
    elif o.learning_rate <= 0:
        yield f"learning_rate={o.learning_rate:g}: nothing will be learned"
    if not 0 <= o.momentum < 1 and not o.adam:
        yield f"momentum={o.momentum:g} is not in [0, 1): steps will grow without end"
    if o.decay < 0 or o.decay * o.learning_rate >= 1:
        yield f"decay={o.decay:g} with learning_rate={o.learning_rate:g}: weights will not decay but grow or oscillate"
    if o.policy == "sgdr" and o.learning_rate_min > o.learning_rate:
        yield f"learning_rate_min={o.learning_rate_min:g} exceeds learning_rate={o.learning_rate:g}"
    peak = o.learning_rate
    for step, scale in zip(o.steps, o.scales, strict=False):
        peak *= scale
        if peak > high:
            yield f"scales= raise the learning rate to {peak:g} at iteration {step}: training will diverge"
            break


def _schedule(o: NetOptions) -> Iterator[str]:
    if not o.max_batches:
        yield "max_batches= is not set: training has no end"
        return
    if o.burn_in >= o.max_batches:
        yield f"burn_in={o.burn_in} lasts longer than training (max_batches={o.max_batches})"
    late = [step for step in o.steps if step >= o.max_batches]
    if late and o.policy == "steps":
        yield f"steps= {', '.join(map(str, late))} are never reached (max_batches={o.max_batches})"
    if list(o.steps) != sorted(o.steps):
        yield f"steps= {', '.join(map(str, o.steps))} do not rise: a later one waits for those before it"
    early = [step for step in o.steps if step < o.burn_in]
    if early and o.policy == "steps":
        yield f"steps= {', '.join(map(str, early))} lie within burn_in={o.burn_in}, where they have no effect"


def _averages(o: NetOptions) -> Iterator[str]:
    if o.ema_alpha and not 0 < o.ema_alpha < 1:
        yield f"ema_alpha={o.ema_alpha:g} is not in (0, 1)"
    elif o.ema_alpha and o.max_batches <= 2 * LAST_ITERATIONS:
        yield (
            f"ema_alpha={o.ema_alpha:g} averages between max_batches/2 and {LAST_ITERATIONS} iterations before the end:"
            f" with max_batches={o.max_batches} never"
        )


def _layers(net: Network) -> Iterator[str]:
    if not any(layer.has_cost for layer in net.layers):
        yield f"no layer has a loss, the last is [{net.layers[-1].type}]: put the deltas there yourself, or add [cost]"
    if all(net.frozen):
        yield "all layers are frozen (stopbackward=, onlyforward=): nothing will be learned"


def _data_options(o: NetOptions, dialect: str) -> Iterator[str]:
    defaults = NetOptions.read(Section("net"), dialect, [])
    asked = [name for name in DATA_OPTIONS if getattr(o, name) != getattr(defaults, name)]
    if asked:
        yield f"{', '.join(asked)}: train_step takes batches as they are, so these are up to who makes them"


def _labels(net: Network, truth: np.ndarray[Any, Any]) -> Iterator[str]:
    rows = truth.reshape(len(truth), -1) if truth.size else truth.reshape(0, 0)
    empty = int((~rows.any(axis=1)).sum())
    if not len(rows) or empty == len(rows):
        yield "no labels: the truth of every image is 0, so the network can only learn that there is nothing"
    elif empty > len(rows) // 2:
        yield f"{empty} of {len(rows)} images have no labels"


def _label_files(net: Network, images: list[str | os.PathLike[str]]) -> Iterator[str]:
    from darkbn.errors import DarkbnError
    from darkbn.labels import label_path, read_labels

    heads: list[Layer] = net.heads
    classes = max((head.options.classes for head in heads), default=None)
    missing, empty, wrong = [], [], []
    for image in images:
        path = label_path(image)
        try:
            if path is None:
                missing.append(image)
            elif not len(read_labels(path, classes)):
                empty.append(image)
        except DarkbnError as error:
            wrong.append(str(error))
    if wrong:
        yield f"{len(wrong)} label files cannot be used, the first: {wrong[0]}"
    if images and len(missing) == len(images):
        yield f"no picture has a label file; for {missing[0]} it would be {_expected(missing[0])}"
    elif missing:
        yield f"{len(missing)} of {len(images)} pictures have no label file, the first: {missing[0]}"
    if images and len(empty) + len(missing) == len(images) and empty:
        yield "no picture has a label: all label files are empty"


def _expected(image: str | os.PathLike[str]) -> str:
    from darkbn.labels import candidates

    return str(next(candidates(image)))
