"""Launchers of darkbn.reference.region."""

from __future__ import annotations

from typing import Any

from darkbn.signature import Array
from darkbn_gpu.launch import each, launch


def _given(array: Array | None) -> Array | None:
    return array if array is not None and array.size else None


def forward(x: Array, out: Array, groups: Array | None, background: int, softmax: int, threads: int) -> None:
    (b, n, e, s), sizes = x.shape, _given(groups)
    count = 0 if sizes is None else sizes.size
    each("region", "region_forward", b * n * s, x, out, sizes, count, b, n, e, s, background, softmax)


def forward_cells(x: Array, out: Array, groups: Array | None, softmax: int, threads: int) -> None:
    (b, n, e, s), sizes = x.shape, _given(groups)
    count = 0 if sizes is None else sizes.size
    each("region", "region_forward_cells", b * n * s, x, out, sizes, count, b, n, e, s, softmax)


def decode(
    output: Array, anchors: Array, rows: Array, image: int, threshold: float, background: int, threads: int
) -> None:
    n, e, h, w = output.shape[1:]
    sizes = (n, e, h, w, float(threshold), background, 0, 0)
    each("region", "region_decode", h * w * n, output[image], anchors, rows, *sizes)


def decode_cells(
    output: Array, anchors: Array, rows: Array, image: int, threshold: float, sure: int, threads: int
) -> None:
    h, w, n, e = output.shape[1:]
    sizes = (n, e, h, w, float(threshold), 0, 1, sure)
    each("region", "region_decode", h * w * n, output[image], anchors, rows, *sizes)


def loss(
    output: Array,
    truth: Array,
    anchors: Array,
    tree: Array | None,
    delta: Array,
    squares: Array,
    statistics: Array,
    thresh: float,
    coord_scale: float,
    object_scale: float,
    noobject_scale: float,
    class_scale: float,
    bias_match: int,
    rescore: int,
    background: int,
    keep_classes: int,
    early: int,
    threads: int,
) -> None:
    scales = (thresh, coord_scale, object_scale, noobject_scale, class_scale)
    rules = (*map(float, scales), bias_match, rescore, early, background, keep_classes, 0, 0, 0)
    _loss(output, truth, anchors, tree, delta, squares, statistics, rules)


def loss_cells(
    output: Array,
    truth: Array,
    anchors: Array,
    tree: Array | None,
    delta: Array,
    squares: Array,
    statistics: Array,
    thresh: float,
    coord_scale: float,
    object_scale: float,
    noobject_scale: float,
    class_scale: float,
    bias_match: int,
    rescore: int,
    classfix: int,
    focal_loss: int,
    early: int,
    threads: int,
) -> None:
    scales = (thresh, coord_scale, object_scale, noobject_scale, class_scale)
    rules = (*map(float, scales), bias_match, rescore, early, 0, 0, 1, classfix, focal_loss)
    _loss(output, truth, anchors, tree, delta, squares, statistics, rules)


def _loss(
    output: Array,
    truth: Array,
    anchors: Array,
    tree: Array | None,
    delta: Array,
    squares: Array,
    statistics: Array,
    rules: tuple[Any, ...],
) -> None:
    if output.size == 0:
        for array in (delta, squares, statistics):
            array.fill(0)
        return
    b, n, e, h, w = delta.shape
    head = (output, truth, anchors, _given(tree), delta, n, e, h, w, *truth.shape[1:], *rules)
    each("region", "region_punish", b * n * h * w, b, *head)
    each("region", "region_assign", b, b, statistics, *head)
    launch("region", "region_squares", b * n, delta, squares, e * h * w)
