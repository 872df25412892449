"""Launchers of darkbn.reference.convolution."""

from __future__ import annotations

from darkbn.errors import ShapeError
from darkbn.geometry import require_plain_algorithm
from darkbn.signature import Array
from darkbn_gpu.launch import each, launch, tiles

#: Filters (or, backwards, channels) of a group from which on tiles are worth their threads.
_TILED = 8

#: Outputs of all samples that one part of the weights' gradient is summed over, at least.
_PART = 4096


def _sizes(x: Array, n: int, k: int, out: Array, steps: tuple[int, ...]) -> tuple[int, ...]:
    b, c, h, w = x.shape
    return (b, c, h, w, n, k, *out.shape[2:], *steps)


def _parts(b: int, oh: int, ow: int) -> int:
    return max(1, min(64, -(-b * oh * ow // _PART)))


def forward_workspace(
    b: int,
    c: int,
    h: int,
    w: int,
    n: int,
    k: int,
    oh: int,
    ow: int,
    groups: int,
    stride_y: int,
    stride_x: int,
    dilation: int,
    pad: int,
    algorithm: int,
    threads: int,
) -> int:
    return 0


def forward(
    x: Array,
    weights: Array,
    biases: Array | None,
    out: Array,
    workspace: Array | None,
    groups: int,
    stride_y: int,
    stride_x: int,
    dilation: int,
    pad: int,
    algorithm: int,
    threads: int,
) -> None:
    steps = (groups, stride_y, stride_x, dilation, pad)
    n, cg, k = weights.shape[:3]
    _check("forward", x.shape[1], n, cg, k, steps, algorithm)
    arguments = (x, weights, biases, out, *_sizes(x, n, k, out, steps))
    if n // groups < _TILED:
        each("convolution", "convolution_forward_direct", out.size, *arguments)
        return
    blocks = groups * tiles(n // groups, out.shape[0] * out.shape[2] * out.shape[3])
    launch("convolution", "convolution_forward", blocks, *arguments)


def backward_weights_workspace(
    b: int,
    c: int,
    h: int,
    w: int,
    n: int,
    k: int,
    oh: int,
    ow: int,
    groups: int,
    stride_y: int,
    stride_x: int,
    dilation: int,
    pad: int,
    algorithm: int,
    threads: int,
) -> int:
    return n * (c // max(groups, 1)) * k * k * _parts(b, oh, ow)


def backward_weights(
    x: Array,
    delta: Array,
    weight_updates: Array,
    workspace: Array | None,
    groups: int,
    stride_y: int,
    stride_x: int,
    dilation: int,
    pad: int,
    algorithm: int,
    threads: int,
) -> None:
    steps = (groups, stride_y, stride_x, dilation, pad)
    n, cg, k = weight_updates.shape[:3]
    _check("backward_weights", x.shape[1], n, cg, k, steps, algorithm)
    sizes = _sizes(x, n, k, delta, steps)
    if n // groups < _TILED:
        launch(
            "convolution", "convolution_backward_weights_direct", weight_updates.size, x, delta, weight_updates, *sizes
        )
        return
    parts = _parts(x.shape[0], *delta.shape[2:])
    needed = weight_updates.size * parts
    if workspace is None or workspace.size < needed:
        raise ShapeError(f"convolution.backward_weights: workspace must have at least {needed} floats")
    blocks = parts * groups * tiles(n // groups, cg * k * k)
    launch("convolution", "convolution_backward_weights", blocks, x, delta, workspace, parts, *sizes)
    joined = (workspace, weight_updates, weight_updates.size, parts)
    each("convolution", "convolution_join_weights", weight_updates.size, *joined)


def backward_input_workspace(
    b: int,
    c: int,
    h: int,
    w: int,
    n: int,
    k: int,
    oh: int,
    ow: int,
    groups: int,
    stride_y: int,
    stride_x: int,
    dilation: int,
    pad: int,
    algorithm: int,
    threads: int,
) -> int:
    return 0


def backward_input(
    weights: Array,
    delta: Array,
    input_delta: Array,
    workspace: Array | None,
    groups: int,
    stride_y: int,
    stride_x: int,
    dilation: int,
    pad: int,
    algorithm: int,
    threads: int,
) -> None:
    steps = (groups, stride_y, stride_x, dilation, pad)
    n, cg, k = weights.shape[:3]
    _check("backward_input", input_delta.shape[1], n, cg, k, steps, algorithm)
    arguments = (weights, delta, input_delta, *_sizes(input_delta, n, k, delta, steps))
    if cg < _TILED:
        each("convolution", "convolution_backward_input_direct", input_delta.size, *arguments)
        return
    b, _, h, w = input_delta.shape
    launch("convolution", "convolution_backward_input", groups * tiles(cg, b * h * w), *arguments)


def im2col(im: Array, col: Array, stride_y: int, stride_x: int, dilation: int, pad: int, threads: int) -> None:
    steps = (1, stride_y, stride_x, dilation, pad)
    _check_steps("im2col", steps)
    sizes = (1, *im.shape, 1, col.shape[1], *col.shape[3:], *steps)
    each("convolution", "convolution_im2col", col.size, im, col, *sizes)


def col2im(col: Array, im: Array, stride_y: int, stride_x: int, dilation: int, pad: int, threads: int) -> None:
    steps = (1, stride_y, stride_x, dilation, pad)
    _check_steps("col2im", steps)
    sizes = (1, *im.shape, 1, col.shape[1], *col.shape[3:], *steps)
    each("convolution", "convolution_col2im", im.size, col, im, *sizes)


def _check_steps(kernel: str, steps: tuple[int, ...]) -> None:
    _, stride_y, stride_x, dilation, pad = steps
    if min(stride_y, stride_x, dilation) < 1 or pad < 0:
        raise ShapeError(
            f"convolution.{kernel}: strides ({stride_y}, {stride_x}) and dilation {dilation} must be at"
            f" least 1, pad {pad} at least 0"
        )


def _check(
    kernel: str, channels: int, filters: int, group_channels: int, k: int, steps: tuple[int, ...], algorithm: int
) -> None:
    _check_steps(kernel, steps)
    groups, stride_y, stride_x, dilation, _ = steps
    if groups < 1 or filters % groups or group_channels * groups != channels:
        raise ShapeError(
            f"convolution.{kernel}: {filters} filters of {group_channels} channels in {groups} groups do not"
            f" fit {channels} input channels"
        )
    require_plain_algorithm(f"convolution.{kernel}", algorithm, k, (stride_y, stride_x), dilation, groups)
