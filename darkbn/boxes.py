"""Boxes in Darknet's centre form: overlap measures and their gradients, decoding, un-letterboxing, suppression.

A box is the last axis of an array: (x, y, w, h), x and y of the centre. Functions of two box arrays broadcast
over the axes before. They compute in the arrays' own element type, like Darknet in float32; where Darknet's C
goes through double (powers, arc tangents) so do they.

Measures of empty boxes follow AlexeyAB's Darknet: they overlap nothing (pjreddie's divides 0 by 0).
"""

from __future__ import annotations

import numpy as np

from darkbn.backend import get_backend
from darkbn.errors import ShapeError
from darkbn.signature import Array

#: Kinds of overlap measure; their numbers are what kernels take as `iou_loss` and `iou_kind`, with MSE for no measure.
MSE, IOU, GIOU, DIOU, CIOU = range(5)
IOU_KINDS = {"mse": MSE, "iou": IOU, "giou": GIOU, "diou": DIOU, "ciou": CIOU}

#: Kinds of suppression; their numbers are what kernels take as `kind`.
DEFAULT_NMS, GREEDY_NMS, DIOU_NMS, CORNERS_NMS = range(4)
NMS_KINDS = {"default": DEFAULT_NMS, "greedynms": GREEDY_NMS, "diounms": DIOU_NMS, "cornersnms": CORNERS_NMS}

#: Exponent of the centre distance in `diou`, as in the loss of AlexeyAB's Darknet (the paper's is 1).
DIOU_EXPONENT = 0.6


def intersection(a: Array, b: Array) -> Array:
    """Area that two boxes share."""
    width, height = _shared(a, b, 0), _shared(a, b, 1)
    return np.where((width < 0) | (height < 0), width.dtype.type(0), width * height)


def union(a: Array, b: Array) -> Array:
    """Area that two boxes cover together."""
    return _area(a) + _area(b) - intersection(a, b)


def iou(a: Array, b: Array) -> Array:
    """Intersection over union, 0 where the boxes share no area."""
    shared, covered = intersection(a, b), union(a, b)
    return _quotient(shared, covered, (shared != 0) & (covered != 0))


def giou(a: Array, b: Array) -> Array:
    """IoU minus the part of the enclosing box that neither box covers (arXiv:1902.09630); in (-1, 1]."""
    outer = _enclosing(a, b, 0) * _enclosing(a, b, 1)
    return iou(a, b) - _quotient(outer - union(a, b), outer, outer != 0)


def diou(a: Array, b: Array, exponent: float = DIOU_EXPONENT) -> Array:
    """IoU minus (centre distance / diagonal of the enclosing box)² to the power `exponent` (arXiv:1911.08287)."""
    overlap = iou(a, b)
    ratio = _distance(a, b)
    return np.asarray(overlap - np.power(ratio, exponent, dtype=np.float64).astype(overlap.dtype))


def ciou(a: Array, b: Array) -> Array:
    """IoU minus the squared relative centre distance and a penalty for unlike aspect ratios (arXiv:1911.08287)."""
    overlap = iou(a, b)
    aspect = (4 / np.pi**2 * _angle_difference(a, b) ** 2).astype(overlap.dtype)
    weight = (aspect / (1 - overlap + aspect + 1e-6)).astype(overlap.dtype)
    return overlap - np.where(_diagonal(a, b) == 0, 0, _distance(a, b) + weight * aspect)


def overlap(a: Array, b: Array, kind: int) -> Array:
    """The measure of that kind; MSE stands for IOU."""
    measure = {GIOU: giou, DIOU: diou, CIOU: ciou}.get(kind, iou)
    return measure(a, b)


def rmse(a: Array, b: Array) -> Array:
    """Euclidean distance of the four numbers."""
    squares = np.square(a - b, dtype=np.float64)
    return np.asarray(np.sqrt(squares.sum(axis=-1)), dtype=np.result_type(a, b))


def iou_gradient(predicted: Array, truth: Array, kind: int) -> Array:
    """Gradient of a measure with respect to the predicted box, as AlexeyAB's Darknet defines it.

    Differences from the exact derivative: the part of IoU and GIoU lacks the factor 1/2 for w and h; `diou`
        has the
    exponent 1; the growth of the enclosing box counts with the wrong sign in the distance part for x and y;
    ciou's weight is held constant and its derivative lacks 1 / (w² + h²); boxes that do not overlap feel the
    enclosing box (giou) or the centre distance alone.

    Args:
        predicted: boxes (..., 4).
        truth: boxes (..., 4).
        kind: IOU, GIOU, DIOU or CIOU.

    Returns:
        (..., 4): change of the measure by x, y, w, h.
    """
    sides = _side_gradient(predicted, truth, kind)
    left, top, right, bottom = np.moveaxis(sides, -1, 0)
    gradient = np.stack([left + right, top + bottom, right - left, bottom - top], axis=-1)
    if kind in (DIOU, CIOU):
        apart = (_inner(predicted, truth) <= 0).any(axis=-1, keepdims=True)
        gradient = np.where(apart, 0, gradient) + _centre_gradient(predicted, truth, kind)
    return gradient.astype(np.result_type(predicted, truth))


def _side_gradient(predicted: Array, truth: Array, kind: int) -> Array:
    """Gradient of IoU or GIoU with respect to the predicted left, top, right and bottom side."""
    low, high = _corners(predicted)
    truth_low, truth_high = _corners(truth)
    length, inner = (high - low)[..., ::-1], _inner(predicted, truth)[..., ::-1]
    shared = inner.prod(axis=-1, keepdims=True)
    covered = length.prod(axis=-1, keepdims=True) + _area(truth)[..., np.newaxis] - shared
    sign = np.array([-1, -1, 1, 1], dtype=length.dtype)
    inside = np.concatenate([low > truth_low, high < truth_high], axis=-1)
    outside = np.concatenate([low < truth_low, high > truth_high], axis=-1)
    d_shared = np.where(inside, sign * np.tile(inner, 2), 0)
    d_covered = sign * np.tile(length, 2) - d_shared
    overlap_part = _quotient(covered * d_shared - shared * d_covered, covered * covered, covered > 0)
    # A box without width has one side, whose gradient Darknet takes from the right (bottom) one.
    flat = np.tile(low >= high, 2)
    overlap_part = np.where(flat, np.tile(overlap_part[..., 2:], 2), overlap_part)
    if kind != GIOU:
        return overlap_part
    across = (np.maximum(high, truth_high) - np.minimum(low, truth_low))[..., ::-1]
    outer = across.prod(axis=-1, keepdims=True)
    d_outer = np.where(outside, sign * np.tile(across, 2), 0)
    enclosing_part = _quotient(outer * d_covered - covered * d_outer, outer * outer, outer > 0)
    apart = (inner <= 0).any(axis=-1, keepdims=True)
    return np.where(apart, 0, overlap_part) + enclosing_part


def _centre_gradient(predicted: Array, truth: Array, kind: int) -> Array:
    """Gradient of minus the squared relative centre distance, for CIOU with the aspect penalty."""
    low, high = _corners(predicted)
    truth_low, truth_high = _corners(truth)
    before, beyond = low < truth_low, high > truth_high
    across = np.maximum(high, truth_high) - np.minimum(low, truth_low)
    diagonal = np.square(across).sum(axis=-1, keepdims=True)
    offset = truth[..., :2] - predicted[..., :2]
    distance = np.square(offset).sum(axis=-1, keepdims=True)
    d_place = 2 * across * (1.0 * beyond - before)
    d_size = 2 * across * (0.5 * beyond + 0.5 * before)
    place = 2 * offset * diagonal - d_place * distance
    gradient = np.concatenate([place, d_size * distance], axis=-1)
    gradient = _quotient(gradient, diagonal * diagonal, diagonal > 0)
    if kind == CIOU:
        gradient[..., 2:] += np.where(diagonal > 0, _aspect_gradient(predicted, truth), 0)
    return gradient


def _aspect_gradient(predicted: Array, truth: Array) -> Array:
    """Gradient of ciou's aspect penalty with respect to w and h, its weight held constant."""
    shared = _inner(predicted, truth).prod(axis=-1)
    covered = _area(predicted) + _area(truth) - shared
    difference = _angle_difference(predicted, truth)
    aspect = 4 / np.pi**2 * difference**2
    weight = aspect / (1 - _quotient(shared, covered, covered != 0) + aspect + 1e-6)
    change = 8 / np.pi**2 * difference * weight
    return np.stack([change * predicted[..., 3], -change * predicted[..., 2]], axis=-1)


def _corners(box: Array) -> tuple[Array, Array]:
    """(left, top) and (right, bottom), in that order also for negative sizes."""
    half = box[..., 2:] / 2
    one, other = box[..., :2] - half, box[..., :2] + half
    return np.minimum(one, other), np.maximum(one, other)


def _inner(a: Array, b: Array) -> Array:
    """Signed width and height of what two boxes share; negative where they are apart."""
    (low, high), (other_low, other_high) = _corners(a), _corners(b)
    return np.minimum(high, other_high) - np.maximum(low, other_low)


def _shared(a: Array, b: Array, axis: int) -> Array:
    """Length along one axis that two boxes share; negative when apart."""
    low = np.maximum(a[..., axis] - a[..., axis + 2] / 2, b[..., axis] - b[..., axis + 2] / 2)
    high = np.minimum(a[..., axis] + a[..., axis + 2] / 2, b[..., axis] + b[..., axis + 2] / 2)
    return np.asarray(high - low)


def _enclosing(a: Array, b: Array, axis: int) -> Array:
    """Length along one axis of the smallest box round both."""
    low = np.minimum(a[..., axis] - a[..., axis + 2] / 2, b[..., axis] - b[..., axis + 2] / 2)
    high = np.maximum(a[..., axis] + a[..., axis + 2] / 2, b[..., axis] + b[..., axis + 2] / 2)
    return np.asarray(high - low)


def _diagonal(a: Array, b: Array) -> Array:
    """Squared diagonal of the smallest box round both."""
    return np.asarray(_enclosing(a, b, 0) ** 2 + _enclosing(a, b, 1) ** 2)


def _distance(a: Array, b: Array) -> Array:
    """Squared centre distance over the squared diagonal of the enclosing box; 0 where that is a point."""
    diagonal = _diagonal(a, b)
    squares = np.square(a[..., :2] - b[..., :2])
    return _quotient(squares[..., 0] + squares[..., 1], diagonal, diagonal != 0)


def _angle_difference(a: Array, b: Array) -> Array:
    """atan(w/h) of b minus that of a, in float64; an empty box counts as angle 0."""
    wide = np.result_type(a, b, np.float64)
    a, b = a.astype(wide), b.astype(wide)
    return np.asarray(np.arctan2(b[..., 2], b[..., 3]) - np.arctan2(a[..., 2], a[..., 3]))


def _area(box: Array) -> Array:
    return np.asarray(box[..., 2] * box[..., 3])


def _quotient(numerator: Array, denominator: Array, where: Array) -> Array:
    """numerator / denominator, 0 where not `where`."""
    numerator, denominator, where = np.broadcast_arrays(numerator, denominator, where)
    out = np.zeros_like(numerator)
    np.divide(numerator, denominator, out=out, where=where)
    return out


def decode(x: Array, anchors: Array, width: float, height: float, new_coords: bool = False) -> Array:
    """Boxes of a head's activated coordinates.

    Args:
        x: (..., n, 4, h, w): place in the cell, then log size (or, with new_coords, half the root of the
            size).
        anchors: (n, 2): width and height of the anchors.
        width, height: what the anchors are relative to: the network input for yolo, the map for region.
        new_coords: sizes are (2 v)² anchor instead of exp(v) anchor.

    Returns:
        (..., n, h, w, 4), relative to the network input.
    """
    rows, columns = x.shape[-2:]
    anchors = np.asarray(anchors, dtype=x.dtype)[:, :, np.newaxis, np.newaxis]
    size = np.square(x[..., 2:, :, :]) * 4 if new_coords else np.exp(x[..., 2:, :, :])
    size = size * anchors / np.array([width, height], dtype=x.dtype)[:, np.newaxis, np.newaxis]
    across = (np.arange(columns, dtype=x.dtype) + x[..., 0, :, :]) / columns
    down = (np.arange(rows, dtype=x.dtype)[:, np.newaxis] + x[..., 1, :, :]) / rows
    return np.stack([across, down, size[..., 0, :, :], size[..., 1, :, :]], axis=-1)


def letterbox_size(width: int, height: int, net_width: int, net_height: int) -> tuple[int, int]:
    """Width and height of an image fitted into the network input with its aspect kept, rounded down as in Darknet.

    At least 1: in Darknet a very long image vanishes, and its boxes are divided by 0.
    """
    if np.float32(net_width) / np.float32(width) < np.float32(net_height) / np.float32(height):
        return net_width, max(1, height * net_width // width)
    return max(1, width * net_height // height), net_height


def correct_boxes(
    boxes: Array,
    width: int,
    height: int,
    net_width: int,
    net_height: int,
    *,
    letterbox: bool = True,
    relative: bool = True,
) -> Array:
    """Boxes relative to the network input made relative to the image (Darknet's correct_yolo_boxes).

    Args:
        boxes: (..., 4).
        width, height: size of the image in pixels.
        net_width, net_height: size of the network input.
        letterbox: whether the image was fitted with its aspect kept, or else stretched.
        relative: give parts of the image's sides instead of pixels.
    """
    inner = letterbox_size(width, height, net_width, net_height) if letterbox else (net_width, net_height)
    net, part = np.array([net_width, net_height]), np.array(inner)
    ratio = (part.astype(np.float32) / net.astype(np.float32)).astype(np.float64)
    place = (boxes[..., :2] - (net - part) / 2 / net) / ratio
    corrected = np.concatenate([place, boxes[..., 2:] / ratio], axis=-1)
    if not relative:
        corrected *= (width, height, width, height)
    return corrected.astype(boxes.dtype)


def nms_sort(
    boxes: Array,
    probabilities: Array,
    threshold: float,
    *,
    objectness: Array | None = None,
    kind: str = "default",
    beta: float = 0.6,
    threads: int = 1,
) -> Array:
    """Non-maximum suppression per class (Darknet's do_nms_sort, AlexeyAB's diounms_sort).

    Per class, from the most probable box on, every box whose overlap with a kept one exceeds the threshold
    loses its probability. Of equally probable boxes the first is kept; Darknet's own order is undefined
    there.

    Args:
        boxes: (m, 4).
        probabilities: (m, classes).
        threshold: largest overlap that is allowed.
        objectness: (m,); boxes whose objectness is 0 keep what they have and suppress nothing.
        kind: "default" and "cornersnms" compare the IoU, "greedynms" compares `diou`, "diounms" compares
            `diou` with exponent `beta`.
        beta: see kind.
        threads: how many threads may work.

    Returns:
        A copy of `probabilities` with 0 where a box is suppressed.
    """
    _check_nms(boxes, probabilities, objectness, kind)
    result = probabilities.copy()
    live = probabilities > 0
    if objectness is not None:
        live &= (objectness != 0)[:, np.newaxis]
    classes, places = np.nonzero(live.T)
    order = np.lexsort((-probabilities[places, classes], classes))
    classes, places = classes[order], places[order]
    starts = np.searchsorted(classes, np.arange(probabilities.shape[1] + 1)).astype(np.int32)
    dropped = _suppressed(boxes[places], starts, threshold, kind, beta, threads)
    result[places[dropped], classes[dropped]] = 0
    return result


def nms_obj(
    boxes: Array, objectness: Array, probabilities: Array, threshold: float, *, threads: int = 1
) -> tuple[Array, Array]:
    """Non-maximum suppression over all classes together, by objectness (Darknet's do_nms_obj).

    Args:
        boxes: (m, 4).
        objectness: (m,).
        probabilities: (m, classes).
        threshold: largest IoU that is allowed.
        threads: how many threads may work.

    Returns:
        Copies of objectness and probabilities with 0 where a box is suppressed.
    """
    _check_nms(boxes, probabilities, objectness, "default")
    places = np.flatnonzero(objectness > 0)
    places = places[np.argsort(-objectness[places], kind="stable")]
    starts = np.array([0, len(places)], dtype=np.int32)
    dropped = places[_suppressed(boxes[places], starts, threshold, "default", 0, threads)]
    objectness, probabilities = objectness.copy(), probabilities.copy()
    objectness[dropped] = 0
    probabilities[dropped] = 0
    return objectness, probabilities


def _check_nms(boxes: Array, probabilities: Array, objectness: Array | None, kind: str) -> None:
    if kind not in NMS_KINDS:
        raise ValueError(f"kind must be one of {', '.join(NMS_KINDS)}, found {kind!r}")
    if boxes.ndim != 2 or boxes.shape[1] != 4 or probabilities.ndim != 2 or len(probabilities) != len(boxes):
        raise ShapeError(
            f"suppression needs boxes (m, 4) and probabilities (m, classes), found {boxes.shape} and"
            f" {probabilities.shape}"
        )
    if objectness is not None and objectness.shape != boxes.shape[:1]:
        raise ShapeError(f"suppression needs objectness ({len(boxes)},), found {objectness.shape}")


def _suppressed(boxes: Array, starts: Array, threshold: float, kind: str, beta: float, threads: int) -> Array:
    """Which of the boxes, sorted by falling probability in segments between `starts`, are suppressed."""
    exponent = beta if kind == "diounms" else DIOU_EXPONENT
    columns = np.ascontiguousarray(boxes.T, dtype=np.float32)
    keep = np.empty(len(boxes), dtype=np.uint8)
    suppress = get_backend("cpu").boxes.suppress
    suppress(columns, starts, keep, float(threshold), NMS_KINDS[kind], float(exponent), threads)
    return np.asarray(keep == 0)
