"""Launchers of darkbn.reference.bias."""

from __future__ import annotations

from darkbn.signature import Array
from darkbn_gpu.launch import blocks_per_channel, each, launch, scratch


def add_bias(x: Array, biases: Array, threads: int) -> None:
    each("bias", "bias_add", x.size, x, biases, x.size, *x.shape[1:])


def scale_bias(x: Array, scales: Array, threads: int) -> None:
    each("bias", "bias_scale", x.size, x, scales, x.size, *x.shape[1:])


def backward_bias(bias_updates: Array, delta: Array, threads: int) -> None:
    b, c, s = delta.shape
    parts = blocks_per_channel(c, b * s)
    partial = scratch(delta, c * parts)
    launch("bias", "bias_sums", c * parts, delta, partial, b, c, s, parts)
    each("bias", "bias_join", c, partial, bias_updates, c, parts)
