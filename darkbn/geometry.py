"""What sizes must be to each other where the symbols of a kernel's contract cannot say it, once for all backends."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import ParamSpec, cast

from darkbn.algorithms import Algorithm
from darkbn.errors import ShapeError

P = ParamSpec("P")


def _remembered(check: Callable[P, None]) -> Callable[P, None]:
    """A check that passes at once for arguments that were right before: a plan's kernels get the same in every pass."""
    return cast(Callable[P, None], lru_cache(maxsize=4096)(check))


#: Largest pooling window; kernels keep padded rows of this scale on the stack.
MAX_WINDOW = 1024


def pooled_size(length: int, size: int, stride: int, padding: int) -> int:
    """Windows that fit along an axis, as both Darknets count: padding is the total of both sides."""
    return (length + padding - size) // stride + 1


@_remembered
def require_window(kernel: str, size: int, stride_y: int, stride_x: int, padding: int) -> None:
    """Raise ShapeError unless windows of that size, stride and padding exist."""
    _require(1 <= size <= MAX_WINDOW, kernel, f"size must be 1 to {MAX_WINDOW}, found {size}")
    strides = f"stride_y={stride_y}, stride_x={stride_x}"
    _require(min(stride_y, stride_x) >= 1, kernel, f"strides must be at least 1, found {strides}")
    _require(padding >= 0, kernel, f"padding must be at least 0, found {padding}")


@_remembered
def require_range(kernel: str, name: str, start: int, count: int, length: int) -> None:
    """Raise ShapeError unless count values from start lie inside an axis of that length."""
    _require(
        0 <= start <= length - count and count >= 0,
        kernel,
        f"{count} values from {start} are not inside {name}, which has {length}",
    )


@_remembered
def require_blocks(kernel: str, image: tuple[int, ...], blocks: tuple[int, ...], stride: int, *, rest: bool) -> None:
    """Raise ShapeError unless blocks of stride x stride make the image.

    Args:
        kernel: name for the message.
        image: its height and width.
        blocks: how many there are in a column and in a row.
        stride: edge of a block.
        rest: whether rows and columns of the image may be left over that are less than a block.
    """
    _require(stride >= 1, kernel, f"stride must be at least 1, found {stride}")
    left = [length - count * stride for length, count in zip(image, blocks, strict=True)]
    fits = all(0 <= n < (stride if rest else 1) for n in left)
    (height, width), (rows, columns) = image, blocks
    _require(fits, kernel, f"{rows} x {columns} blocks of {stride} x {stride} do not make {height} x {width}")


@_remembered
def require_depth(kernel: str, space: tuple[int, ...], depth: tuple[int, ...], stride: int) -> None:
    """Raise ShapeError unless space is (c, h, w) and depth (c*stride*stride, h/stride, w/stride)."""
    require_blocks(kernel, space[1:], depth[1:], stride, rest=False)
    expected = space[0] * stride * stride
    _require(depth[0] == expected, kernel, f"the blocks have {expected} channels, found {depth[0]}")


def _require(condition: bool, kernel: str, problem: str) -> None:
    if not condition:
        raise ShapeError(f"{kernel}: {problem}")


@_remembered
def require_slice(kernel: str, name: str, block: int, blocks: int, available: int) -> None:
    """Raise ShapeError unless `blocks` blocks of channels from `block` on lie inside a blocked map."""
    _require(
        0 <= block <= available - blocks,
        kernel,
        f"blocks {block} to {block + blocks} are not inside {name}, which has {available} blocks",
    )


@_remembered
def require_algorithm(kernel: str, algorithm: int, n: int, cg: int, size: int, groups: int) -> None:
    """Raise ShapeError unless filters of that shape can be computed that way."""
    _require(algorithm in tuple(Algorithm), kernel, f"unknown algorithm {algorithm}")
    _require(
        min(n, cg, size, groups) >= 1 and n % groups == 0,
        kernel,
        f"{n} filters of {cg} channels, size {size}, do not make {groups} groups",
    )
    name = Algorithm(algorithm).name
    if Algorithm(algorithm).tile:
        _require(size == 3 and groups == 1, kernel, f"{name} needs size 3 and one group, found {size} and {groups}")
    if algorithm == Algorithm.DEPTHWISE:
        _require(groups == n and cg == 1, kernel, f"{name} needs a filter a channel: {n} of {cg}, {groups} groups")
    if algorithm == Algorithm.FIRST:
        _require(groups == 1, kernel, f"{name} needs one group, found {groups}")


@_remembered
def require_plain_algorithm(
    kernel: str, algorithm: int, size: int, strides: tuple[int, int], dilation: int, groups: int
) -> None:
    """Raise ShapeError unless convolutions of plain maps can be computed that way."""
    if algorithm == Algorithm.GEMM:
        return
    known = (Algorithm.WINOGRAD_2, Algorithm.WINOGRAD_4, Algorithm.WINOGRAD_STRIDE_2)
    _require(algorithm in known, kernel, f"algorithm {algorithm} is none of GEMM, {', '.join(a.name for a in known)}")
    stride = Algorithm(algorithm).stride
    _require(
        (size, strides, dilation, groups) == (3, (stride, stride), 1, 1),
        kernel,
        f"{Algorithm(algorithm).name} needs size 3, strides {stride}, dilation 1 and one group, found {size},"
        f" {strides}, {dilation} and {groups}",
    )


@_remembered
def require_blocked_convolution(
    kernel: str,
    algorithm: int,
    channels: tuple[int, int, int],
    size: int,
    steps: tuple[int, int, int, int],
) -> None:
    """Raise ShapeError unless a convolution of blocked maps makes sense.

    Args:
        kernel: name for the message.
        algorithm: how it is computed.
        channels: c, n, groups.
        size: of the filters.
        steps: stride_y, stride_x, dilation, pad.
    """
    c, n, groups = channels
    stride_y, stride_x, dilation, pad = steps
    _require(
        min(stride_y, stride_x, dilation) >= 1 and pad >= 0,
        kernel,
        f"strides ({stride_y}, {stride_x}) and dilation {dilation} must be at least 1, pad {pad} at least 0",
    )
    _require(groups >= 1 and c % groups == 0, kernel, f"{c} channels do not make {groups} groups")
    require_algorithm(kernel, algorithm, n, c // groups, size, groups)
    a = Algorithm(algorithm)
    if a.tile:
        found = (stride_y, stride_x, dilation)
        _require(found == (a.stride, a.stride, 1), kernel, f"{a.name} needs strides {a.stride} and dilation 1")


#: Largest filter of a depthwise convolution in a bottleneck; the kernel keeps a pointer for each of its rows.
MAX_BOTTLENECK = 64


@_remembered
def require_bottleneck(
    kernel: str,
    channels: tuple[int, int, int],
    size: int,
    parts: tuple[int, int, int],
    steps: tuple[int, int, int],
    given: tuple[int, int] | None = None,
    *,
    residual: bool = False,
) -> None:
    """Raise ShapeError unless a depthwise convolution with 1x1 convolutions before and behind it makes sense.

    Args:
        kernel: name for the message.
        channels: of the input, in the middle, of the output.
        size: of the depthwise filters.
        parts: whether there is a 1x1 convolution before it; channels between squeeze and excitation, 0 without; whether
            there is a 1x1 convolution behind it.
        steps: stride_y, stride_x, pad.
        given: how many weights and biases there are, where they are given.
        residual: whether something is added to the output.
    """
    (c, m, n), (expand, squeeze, project), (stride_y, stride_x, pad) = channels, parts, steps
    _require(min(c, m, n) >= 1, kernel, f"channels must be at least 1, found {c}, {m}, {n}")
    _require(1 <= size <= MAX_BOTTLENECK, kernel, f"size must be 1 to {MAX_BOTTLENECK}, found {size}")
    _require(
        min(stride_y, stride_x) >= 1 and pad >= 0,
        kernel,
        f"strides ({stride_y}, {stride_x}) must be at least 1, pad {pad} at least 0",
    )
    _require(bool(expand) or c == m, kernel, f"without expansion, channels must be the same, found {c} and {m}")
    _require(bool(project) or n == m, kernel, f"without projection, channels must be the same, found {m} and {n}")
    _require(squeeze >= 0, kernel, f"channels between squeeze and excitation must be at least 0, found {squeeze}")
    _require(bool(project) or not squeeze, kernel, "without projection, there is no squeeze and excitation")
    _require(bool(project) or not residual, kernel, "without projection, nothing can be added")
    if given is not None:
        weights = (c * m if expand else 0) + m * size * size + 2 * m * squeeze + (m * n if project else 0)
        biases = (m if expand else 0) + m + (squeeze + m if squeeze else 0) + (n if project else 0)
        _require(given == (weights, biases), kernel, f"{weights} weights and {biases} biases are needed, found {given}")
