"""Launchers of darkbn.reference.crop."""

from __future__ import annotations

from darkbn.signature import Array
from darkbn_gpu.launch import each


def window(
    x: Array,
    places: Array,
    angles: Array | None,
    shifts: Array | None,
    out: Array,
    scale: float,
    translate: float,
    threads: int,
) -> None:
    sizes = (*x.shape, *out.shape[2:], float(scale), float(translate))
    each("crop", "crop_window", out.size, x, places, angles, shifts, out, *sizes)


def window_backward(
    delta: Array, places: Array, angles: Array | None, input_delta: Array, scale: float, threads: int
) -> None:
    sizes = (*input_delta.shape, *delta.shape[2:], float(scale))
    each("crop", "crop_window_backward", delta.size, delta, places, angles, input_delta, *sizes)
    if angles is not None:
        each("crop", "crop_turned_backward", input_delta.size, delta, places, angles, input_delta, *sizes)


def levels(x: Array, factors: Array, out: Array, threads: int) -> None:
    b, _, s = x.shape
    each("crop", "crop_levels", b * s, x, factors, out, b, s)


def levels_backward(x: Array, factors: Array, delta: Array, input_delta: Array, threads: int) -> None:
    b, _, s = x.shape
    each("crop", "crop_levels_backward", b * s, x, factors, delta, input_delta, b, s)
