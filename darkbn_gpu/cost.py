"""Launchers of darkbn.reference.cost."""

from __future__ import annotations

from darkbn.signature import Array
from darkbn_gpu.launch import each, map_each

# Numbers of the losses in cost.cu.
_L2, _L1, _SMOOTH_L1, _WGAN, _LOGISTIC = range(5)


def _loss(kind: int, predicted: Array, truth: Array, delta: Array, error: Array) -> None:
    each("cost", "cost_loss", predicted.size, predicted, truth, delta, error, predicted.size, kind)


def l2(predicted: Array, truth: Array, delta: Array, error: Array, threads: int) -> None:
    _loss(_L2, predicted, truth, delta, error)


def l1(predicted: Array, truth: Array, delta: Array, error: Array, threads: int) -> None:
    _loss(_L1, predicted, truth, delta, error)


def smooth_l1(predicted: Array, truth: Array, delta: Array, error: Array, threads: int) -> None:
    _loss(_SMOOTH_L1, predicted, truth, delta, error)


def wgan(predicted: Array, truth: Array, delta: Array, error: Array, threads: int) -> None:
    _loss(_WGAN, predicted, truth, delta, error)


def logistic(predicted: Array, truth: Array, delta: Array, error: Array, threads: int) -> None:
    _loss(_LOGISTIC, predicted, truth, delta, error)


def scale_where(mask: Array, x: Array, value: float, factor: float, threads: int) -> None:
    map_each("cost", "cost_scale_where", x.size, mask, x, x.size, float(value), float(factor))


def fill_where(mask: Array, x: Array, value: float, number: float, threads: int) -> None:
    map_each("cost", "cost_fill_where", x.size, mask, x, x.size, float(value), float(number))


def suppress(x: Array, threshold: float, threads: int) -> None:
    map_each("cost", "cost_suppress", x.size, x, x.size, float(threshold))
