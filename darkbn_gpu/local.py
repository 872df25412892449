"""Launchers of darkbn.reference.local."""

from __future__ import annotations

from darkbn.errors import ShapeError
from darkbn.signature import Array
from darkbn_gpu.launch import each


def forward_workspace(b: int, c: int, k: int, threads: int) -> int:
    return 0


def forward(
    x: Array, weights: Array, biases: Array, out: Array, workspace: Array, stride: int, pad: int, threads: int
) -> None:
    _check("forward", stride, pad)
    each("local", "local_forward", out.size, x, weights, biases, out, *_sizes(x, weights, stride, pad))


def backward_weights_workspace(b: int, c: int, k: int, threads: int) -> int:
    return 0


def backward_weights(
    x: Array, delta: Array, weight_updates: Array, workspace: Array, stride: int, pad: int, threads: int
) -> None:
    _check("backward_weights", stride, pad)
    sizes = _sizes(x, weight_updates, stride, pad)
    each("local", "local_backward_weights", weight_updates.size, x, delta, weight_updates, *sizes)


def backward_input_workspace(b: int, c: int, k: int, threads: int) -> int:
    return 0


def backward_input(
    weights: Array, delta: Array, input_delta: Array, workspace: Array, stride: int, pad: int, threads: int
) -> None:
    _check("backward_input", stride, pad)
    sizes = _sizes(input_delta, weights, stride, pad)
    each("local", "local_backward_input", input_delta.size, weights, delta, input_delta, *sizes)


def _sizes(x: Array, weights: Array, stride: int, pad: int) -> tuple[int, ...]:
    oh, ow, n, _, k = weights.shape[:5]
    return (*x.shape, n, k, oh, ow, stride, pad)


def _check(kernel: str, stride: int, pad: int) -> None:
    if stride < 1 or pad < 0:
        raise ShapeError(f"local.{kernel}: stride {stride} must be at least 1, pad {pad} at least 0")
