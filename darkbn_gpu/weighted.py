"""Launchers of darkbn.reference.weighted."""

from __future__ import annotations

from darkbn.errors import ShapeError
from darkbn.signature import Array
from darkbn_gpu.launch import each, launch


def normalize(weights: Array, normalized: Array, kind: int, threads: int) -> None:
    _check("normalize", kind)
    if weights.size:
        each("weighted", "weighted_normalize", weights.shape[1], weights, normalized, *weights.shape, kind)


def normalize_backward(weights: Array, gradient: Array, weight_updates: Array, kind: int, threads: int) -> None:
    _check("normalize_backward", kind)
    arguments = (weights, gradient, weight_updates, *weights.shape, kind)
    if weights.size:
        each("weighted", "weighted_normalize_backward", weights.shape[1], *arguments)


def scale(x: Array, weights: Array, out: Array, threads: int) -> None:
    b, c, s = x.shape
    each("weighted", "weighted_scale", x.size, x, weights, out, b, c, c, s, c, 0)


def scale_add(x: Array, weights: Array, out: Array, threads: int) -> None:
    (b, c, s), common = out.shape, _common("scale_add", x, out, weights)
    each("weighted", "weighted_scale", b * common * s, x, weights, out, b, x.shape[1], c, s, common, 1)


def dot_add(x: Array, delta: Array, sums: Array, threads: int) -> None:
    (b, c, s), common = delta.shape, _common("dot_add", x, delta, sums)
    launch("weighted", "weighted_dot_add", common, x, delta, sums, b, x.shape[1], c, s)


def _common(kernel: str, x: Array, y: Array, weights: Array) -> int:
    common: int = min(x.shape[1], y.shape[1])
    if weights.shape[0] < common:
        raise ShapeError(f"weighted.{kernel}: {common} channels need as many weights, found {weights.shape[0]}")
    return common


def _check(kernel: str, kind: int) -> None:
    if kind not in (0, 1, 2):
        raise ShapeError(f"weighted.{kernel}: kind must be 0, 1 or 2, found {kind}")
