"""Launchers of darkbn.reference.activation."""

from __future__ import annotations

from darkbn.signature import Array
from darkbn_gpu.launch import each, map_each


def forward(x: Array, kind: int, threads: int) -> None:
    map_each("activation", "activation_forward", x.size, x, x, x.size, kind)


def forward_to(x: Array, out: Array, kind: int, threads: int) -> None:
    map_each("activation", "activation_forward", x.size, x, out, x.size, kind)


def forward_saved(x: Array, saved: Array, kind: int, threads: int) -> None:
    each("activation", "activation_forward_saved", x.size, x, saved, x.size, kind)


def gradient(values: Array, delta: Array, kind: int, threads: int) -> None:
    map_each("activation", "activation_gradient", delta.size, values, delta, delta.size, kind)


def forward_channels(x: Array, out: Array, kind: int, threads: int) -> None:
    b, c, s = x.shape
    each("activation", "activation_forward_channels", b * s, x, out, b, c, s, kind)


def gradient_channels(values: Array, delta: Array, kind: int, threads: int) -> None:
    b, c, s = delta.shape
    each("activation", "activation_gradient_channels", b * s, values, delta, b, c, s, kind)
