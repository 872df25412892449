"""Launchers of darkbn.reference.softmax."""

from __future__ import annotations

from darkbn.signature import Array
from darkbn_gpu.launch import each, launch


def forward(x: Array, out: Array, temperature: float, threads: int) -> None:
    b, n, s = x.shape
    if s == 1:
        launch("softmax", "softmax_rows", b, x, out, n, float(temperature))
    else:
        each("softmax", "softmax_columns", b * s, x, out, b, n, s, float(temperature))


def cross_entropy(predicted: Array, truth: Array, delta: Array, error: Array, threads: int) -> None:
    each("softmax", "softmax_cross_entropy", predicted.size, predicted, truth, delta, error, predicted.size)


def forward_groups(x: Array, out: Array, sizes: Array, temperature: float, threads: int) -> None:
    b, n = x.shape
    launch("softmax", "softmax_groups", b, x, out, sizes, n, sizes.shape[0], float(temperature))
