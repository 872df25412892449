"""Launchers of darkbn.reference.dropout."""

from __future__ import annotations

from darkbn.signature import Array
from darkbn_gpu.launch import map_each


def forward(x: Array, rand: Array, out: Array, probability: float, scale: float, threads: int) -> None:
    map_each("dropout", "dropout_forward", x.size, x, rand, out, x.size, float(probability), float(scale))


def backward(rand: Array, delta: Array, out: Array, probability: float, scale: float, threads: int) -> None:
    map_each("dropout", "dropout_backward", out.size, rand, delta, out, out.size, float(probability), float(scale))
