"""Launchers of darkbn.reference.normalization."""

from __future__ import annotations

from darkbn.errors import ShapeError
from darkbn.signature import Array
from darkbn_gpu.launch import each, map_each, scratch


def lrn(
    x: Array, norms: Array | None, out: Array, size: int, alpha: float, beta: float, kappa: float, threads: int
) -> None:
    _check_size("lrn", size)
    rules = (size, float(alpha), float(beta), float(kappa))
    each("normalization", "normalization_lrn", x.size, x, norms, out, *x.shape, *rules)


def lrn_backward_workspace(c: int, threads: int) -> int:
    return 0


def lrn_backward(
    x: Array,
    norms: Array,
    delta: Array,
    input_delta: Array,
    workspace: Array,
    size: int,
    alpha: float,
    beta: float,
    threads: int,
) -> None:
    _check_size("lrn_backward", size)
    shares = scratch(x, x.size, "float32")  # the workspace is sized without the number of pixels
    map_each("normalization", "normalization_lrn_shares", x.size, x, norms, delta, shares, x.size, float(beta))
    rules = (*x.shape, size, float(alpha), float(beta))
    each("normalization", "normalization_lrn_backward", x.size, x, norms, delta, shares, input_delta, *rules)


def l2norm(x: Array, out: Array, threads: int) -> None:
    b, c, s = x.shape
    each("normalization", "normalization_l2norm", b * s, x, out, b, c, s)


def l2norm_backward(x: Array, delta: Array, input_delta: Array, threads: int) -> None:
    b, c, s = x.shape
    each("normalization", "normalization_l2norm_backward", b * s, x, delta, input_delta, b, c, s)


def _check_size(kernel: str, size: int) -> None:
    if size < 1:
        raise ShapeError(f"normalization.{kernel}: size must be at least 1, found {size}")
