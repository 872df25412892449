"""From pictures to detections and classes: input as each Darknet makes it, forward, heads, suppression, labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from darkbn.backend import to_host
from darkbn.boxes import correct_boxes, nms_sort
from darkbn.errors import DarkbnError, ImageError
from darkbn.images import crop_image, image_size, letterbox_window, place_image, read_image, resize_min
from darkbn.names import names_for
from darkbn.signature import Array
from darkbn.tree import HIER

if TYPE_CHECKING:
    from darkbn.imageio import Source
    from darkbn.network import Network
    from darkbn.tree import ClassTree


class Box(NamedTuple):
    """A box in Darknet's centre form: x and y of the centre, width and height, as parts of the picture's sides.

    It may reach beyond the picture.
    """

    x: float
    y: float
    w: float
    h: float

    def pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom in pixels of a picture of that size, rounded, not clipped."""
        left, top = (self.x - self.w / 2) * width, (self.y - self.h / 2) * height
        right, bottom = (self.x + self.w / 2) * width, (self.y + self.h / 2) * height
        return round(left), round(top), round(right), round(bottom)


@dataclass(frozen=True)
class Detection:
    """One object in a picture.

    Attributes:
        class_id: number of its class, from 0.
        label: name of its class.
        probability: objectness times class probability, as Darknet prints it.
        box: where it is.
    """

    class_id: int
    label: str
    probability: float
    box: Box


@dataclass(frozen=True)
class Classification:
    """One class of a picture: its number, its name, its probability."""

    class_id: int
    label: str
    probability: float


def detect(
    net: Network,
    image: Source,
    threshold: float = 0.25,
    nms: float = 0.45,
    letterbox: bool | None = None,
    *,
    names: Sequence[str] | None = None,
    exif: bool = False,
    hier: float = HIER,
) -> list[Detection]:
    """Objects in one picture, the most probable first. A box with several probable classes appears once for each.

    Args:
        net: a network with [yolo], [region] or [detection] layers.
        image: what `darkbn.images.read_image` takes: a path, a Pillow image, uint8 (h, w, 3) RGB, ...
        threshold: objectness and probability must exceed it.
        nms: overlap from which the weaker of two boxes of a class is dropped; 0 keeps all.
        letterbox: fit the picture into the network's input with its aspect kept (True) or stretch it. None = as this
            dialect's detector does, see `default_letterbox`: "darknet" letterboxes, "alexeyab" with letter_box=1.
        names: labels of the classes; None = the built-in ones when the number of classes fits (`darkbn.names`).
        exif: turn the picture as its EXIF orientation says; Darknet does not.
        hier: with a hierarchy of classes (YOLO9000), the probability from which a class is believed; otherwise the
            one above it is found.

    Raises:
        ImageError: the picture cannot be read.
        DarkbnError: the network has no detection layer, or there are too few names.
    """
    (result,) = detect_each(net, [image], threshold, nms, letterbox, names=names, exif=exif, hier=hier)
    if isinstance(result, ImageError):
        raise result
    return result


def detect_batch(
    net: Network,
    images: Iterable[Source],
    threshold: float = 0.25,
    nms: float = 0.45,
    letterbox: bool | None = None,
    *,
    names: Sequence[str] | None = None,
    exif: bool = False,
    hier: float = HIER,
) -> list[list[Detection] | ImageError]:
    """Objects in several pictures, `net.batch` of them per pass; other arguments as in `detect`.

    Returns:
        One entry per picture, in order: its detections, or the ImageError that kept it from being read. A bad picture
        does not end the batch::

            for path, found in zip(paths, net.detect_batch(paths)):
                if isinstance(found, darkbn.errors.ImageError): ...
    """
    return list(detect_each(net, images, threshold, nms, letterbox, names=names, exif=exif, hier=hier))


def detect_each(
    net: Network,
    images: Iterable[Source],
    threshold: float = 0.25,
    nms: float = 0.45,
    letterbox: bool | None = None,
    *,
    names: Sequence[str] | None = None,
    exif: bool = False,
    hier: float = HIER,
) -> Iterator[list[Detection] | ImageError]:
    """`detect_batch`, one result after the other while further pictures are read."""
    if not net.heads:
        last = net.output_layer.type
        raise DarkbnError(
            f"{net.cfg.file}: no detection layer ([yolo], [region], [detection]), it ends in [{last}]. classify()"
            " gives the classes of a picture"
        )
    if letterbox is None:
        letterbox = default_letterbox(net)
    how = _How(threshold, nms, letterbox, _labels(names, net), exif, hier)
    pictures = iter(images)
    while chunk := list(islice(pictures, net.batch)):
        yield from _detect_chunk(net, chunk, how)


def read_detections(
    net: Network,
    index: int,
    width: int,
    height: int,
    *,
    threshold: float = 0.25,
    nms: float = 0.45,
    letterbox: bool | None = None,
    names: Sequence[str] | None = None,
    hier: float = HIER,
) -> list[Detection]:
    """Detections in one image of the last `net.forward`, for those who make the input themselves.

    Darknet's get_network_boxes and its suppression. Arguments and result are as in `detect`, besides:

    Args:
        net: after `forward`.
        index: place of the image in the batch.
        width, height: size of the picture that the input was made from, in pixels.
        letterbox: how it was made.
    """
    letterbox = default_letterbox(net) if letterbox is None else letterbox
    labels = _labels(names, net)
    parts = [to_host(head.detections(index, threshold, net.threads, hier)) for head in net.heads]
    numbers = max(part.shape[1] for part in parts)
    rows = np.concatenate([np.pad(part, ((0, 0), (0, numbers - part.shape[1]))) for part in parts])
    boxes = correct_boxes(rows[:, :4], width, height, net.width, net.height, letterbox=letterbox)
    probabilities = rows[:, 5:]
    if nms > 0:
        options: Any = net.heads[-1].options
        kind, beta = getattr(options, "nms_kind", "default"), getattr(options, "beta_nms", 0.6)
        probabilities = nms_sort(boxes, probabilities, nms, kind=kind, beta=beta, threads=net.threads)
    places, classes = np.nonzero(probabilities)
    order = np.argsort(-probabilities[places, classes], kind="stable")
    return [
        Detection(int(c), labels[c], float(probabilities[p, c]), Box(*map(float, boxes[p])))
        for p, c in zip(places[order], classes[order], strict=True)
    ]


def default_letterbox(net: Network) -> bool:
    """Whether this dialect's detector keeps the aspect of pictures for this network.

    Networks with a [detection] layer (YOLOv1) have a detector of their own in Darknet, which stretches.
    """
    if net.dialect == "darknet":
        return all(head.type != "detection" for head in net.heads)
    return bool(net.options.letter_box)


def classify(
    net: Network, image: Source, top: int = 5, *, names: Sequence[str] | None = None, exif: bool = False
) -> list[Classification]:
    """The most probable classes of a picture, the most probable first.

    With a hierarchy of classes ([softmax] with tree=), probabilities are those along the path to the root; dialect
    darknet gives classes without children only.

    The picture becomes the input as in this dialect's classifier: "darknet" letterboxes it, "alexeyab" scales its
    shorter side to the network's width and takes the middle.

    Args:
        net: a network whose last layer gives one value per class.
        image: as in `detect`.
        top: how many classes.
        names: labels of the classes.
        exif: as in `detect`.

    Raises:
        ImageError: the picture cannot be read.
        DarkbnError: there are too few names, or the network is a detector.
    """
    if net.heads:
        raise DarkbnError(f"{net.cfg.file}: a detector ([{net.heads[-1].type}]), not a classifier; use detect()")
    x = _empty_input(net)
    _fill_classifier_input(net, read_image(image, net.channels, exif=exif), x[0])
    net.current_plan().run()
    scores = np.asarray(to_host(net.output_layer.output), np.float64).reshape(net.batch, -1)[0]
    tree = _tree(net)
    if tree is not None:
        scores = tree.hierarchy_predictions(scores, only_leaves=net.dialect == "darknet")
    labels = _labels(names, net)
    order = np.argsort(-scores, kind="stable")[: max(top, 0)]
    return [Classification(int(i), labels[i], float(scores[i])) for i in order]


# -- input -----------------------------------------------------------------------------------------------------------


def fill_input(net: Network, source: Source, x: Array, letterbox: bool | None = None, *, exif: bool = False) -> None:
    """Write a picture into x (c, h, w) as `detect`, or `classify` for a network without heads, makes its input.

    Args:
        net: the network.
        source, exif: as in `detect`.
        x: one image of an input.
        letterbox: as in `detect`; None for a classifier: as `classify` does.

    Raises:
        ImageError: the picture cannot be read.
    """
    image = read_image(source, net.channels, exif=exif)
    if letterbox is None and not net.heads:
        _fill_classifier_input(net, image, x)
        return
    kept = default_letterbox(net) if letterbox is None else letterbox
    _place(net, image, x, _window(net, image, kept))


def _window(net: Network, image: Array, letterbox: bool) -> tuple[int, int, int, int]:
    size = image_size(image)
    return letterbox_window(*size, net.width, net.height) if letterbox else (0, 0, net.width, net.height)


def _empty_input(net: Network) -> Array:
    if not (net.width and net.height) or net.channels not in (1, 3, 4):
        shape = f"{net.width} x {net.height} x {net.channels}" if net.width else f"{net.inputs} values"
        raise DarkbnError(f"{net.cfg.file}: the input of this network ({shape}) is no picture")
    x: Array = net.current_plan().input
    x.fill(0)
    return x


def _fill_classifier_input(net: Network, image: Array, x: Array) -> None:
    """Write a picture into x (c, h, w)."""
    width, height = image_size(image)
    if net.dialect == "darknet":
        _place(net, image, x, letterbox_window(width, height, net.width, net.height))
        return
    side = min(width, height)
    w, h = width * net.width // side, height * net.width // side
    dx, dy = int((w - net.width) / 2), int((h - net.height) / 2)
    if h >= net.height:
        _place(net, image, x, (-dx, -dy, w, h))  # scaled and cut in one go
    else:
        scaled = resize_min(image, net.width, device=net.backend.name, threads=net.threads)
        net.backend.assign(x, crop_image(to_host(scaled), dx, dy, net.width, net.height))


def _place(net: Network, image: Array, x: Array, window: tuple[int, int, int, int]) -> None:
    place_image(image, x, window, device=net.backend.name, threads=net.threads)


# -- detections ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _How:
    """The arguments of `detect_each`, decided."""

    threshold: float
    nms: float
    letterbox: bool
    labels: Sequence[str]
    exif: bool
    hier: float


def _detect_chunk(net: Network, sources: Sequence[Source], how: _How) -> Iterator[list[Detection] | ImageError]:
    """Results of at most net.batch pictures, in one pass."""
    x = _empty_input(net)
    read = [_read_input(net, source, row, how) for row, source in zip(x, sources, strict=False)]
    if not all(isinstance(size, ImageError) for size in read):
        net.current_plan().run()
    for index, size in enumerate(read):
        yield size if isinstance(size, ImageError) else _found(net, index, size, how)


def _read_input(net: Network, source: Source, x: Array, how: _How) -> tuple[int, int] | ImageError:
    """Write a picture into x (c, h, w). Returns its width and height, or why it cannot be read."""
    try:
        image = read_image(source, net.channels, exif=how.exif)
    except ImageError as error:
        return error
    _place(net, image, x, _window(net, image, how.letterbox))
    return image_size(image)


def _found(net: Network, index: int, size: tuple[int, int], how: _How) -> list[Detection]:
    return read_detections(
        net,
        index,
        *size,
        threshold=how.threshold,
        nms=how.nms,
        letterbox=how.letterbox,
        names=how.labels,
        hier=how.hier,
    )


def own_names(net: Network) -> Sequence[str] | None:
    """The labels that the network's hierarchy of classes gives them; None without one."""
    tree = _tree(net)
    return None if tree is None else tree.names


def _tree(net: Network) -> ClassTree | None:
    """The hierarchy of the network's classes."""
    layer: Any = net.heads[-1] if net.heads else net.output_layer
    tree: ClassTree | None = getattr(layer, "softmax_tree", None)
    return tree


def _labels(names: Sequence[str] | None, net: Network) -> Sequence[str]:
    """Labels of all classes; without names those of the hierarchy or the built-in ones."""
    classes = max(head.options.classes for head in net.heads) if net.heads else net.output_layer.outputs
    if names is None:
        return own_names(net) or names_for(classes)
    if len(names) < classes:
        raise DarkbnError(f"{len(names)} names for {classes} classes")
    return names
