"""For inference on blocked maps: a depthwise convolution with the 1x1 convolutions before and behind it, in one pass.

    expanded = expand_activation(1x1 convolution of x, c to m channels, + biases)
               where `expand`, else x, and c = m
    middle   = activation(depthwise convolution of expanded + biases)
    squeezed = squeeze_activation(1x1 convolution of the means of middle, m to `squeeze` channels, + biases)
    scales   = excite_activation(1x1 convolution of squeezed, to m channels, + biases)
    scaled   = scale_activation(middle * scales)                     where `squeeze` is not 0, else middle
    out      = residual_activation(project_activation(1x1 convolution of scaled, m to n channels, + biases) + residual)
               where `project`, else middle, n = m, no residual and no squeeze

Each part is what `darkbn.reference.blocked_convolution` says of a convolution; maps are blocked as there. What lies
between the parts is seen nowhere. `packed` is what `pack` makes; its contents are a backend's own affair.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from darkbn.activations import Activation
from darkbn.algorithms import Algorithm
from darkbn.geometry import require_bottleneck, require_slice
from darkbn.reference import blocked, blocked_convolution
from darkbn.signature import Array

BLOCK = blocked_convolution.BLOCK


def packed_size(c: int, m: int, n: int, size: int, expand: int, squeeze: int, project: int) -> int:
    """Floats of `packed`."""
    require_bottleneck("blocked_bottleneck.packed_size", (c, m, n), size, (expand, squeeze, project), (1, 1, 0))
    return sum(_floats(c, m, n, size, expand, squeeze, project))


def _floats(c: int, m: int, n: int, size: int, expand: int, squeeze: int, project: int) -> tuple[int, ...]:
    """Weights and biases of each part."""
    between = (squeeze * (m + 1), m * (squeeze + 1)) if squeeze else (0, 0)
    return (m * (c + 1) if expand else 0, m * (size * size + 1), *between, n * (m + 1) if project else 0)


def pack(
    weights: Annotated[Array, "in weights"],
    biases: Annotated[Array, "in biases"],
    packed: Annotated[Array, "out packed"],
    c: int,
    m: int,
    n: int,
    size: int,
    expand: int,
    squeeze: int,
    project: int,
    threads: int,
) -> None:
    """packed = weights and biases, arranged for the kernel.

    Args:
        weights: (m, c) where `expand`, then (m, size, size), then (squeeze, m) and (m, squeeze) where `squeeze`, then
            (n, m) where `project`, one behind the other.
        biases: of the same parts, one a filter.
    """
    kernel = "blocked_bottleneck.pack"
    require_bottleneck(kernel, (c, m, n), size, (expand, squeeze, project), (1, 1, 0), (weights.size, biases.size))
    w = b = at = 0
    for count, filters in zip(_floats(c, m, n, size, expand, squeeze, project), (m, m, squeeze, m, n), strict=True):
        if not count:
            continue
        packed[at : at + filters] = biases[b : b + filters]
        packed[at + filters : at + count] = weights[w : w + count - filters]
        w, b, at = w + count - filters, b + filters, at + count


def forward_workspace(
    b: int,
    h: int,
    w: int,
    oh: int,
    ow: int,
    c: int,
    m: int,
    n: int,
    size: int,
    expand: int,
    squeeze: int,
    project: int,
    stride_y: int,
    stride_x: int,
    pad: int,
    threads: int,
) -> int:
    """Floats of workspace that `forward` needs: none here."""
    return 0


def forward(
    x: Annotated[Array, "in b xb h w 8"],
    packed: Annotated[Array, "in packed"],
    residual: Annotated[Array | None, "in? b rb oh ow 8"],
    out: Annotated[Array, "io b ob oh ow 8"],
    workspace: Annotated[Array, "io? floats"],
    x_block: int,
    residual_block: int,
    out_block: int,
    c: int,
    m: int,
    n: int,
    size: int,
    expand: int,
    squeeze: int,
    project: int,
    stride_y: int,
    stride_x: int,
    pad: int,
    expand_activation: int,
    activation: int,
    squeeze_activation: int,
    excite_activation: int,
    scale_activation: int,
    project_activation: int,
    residual_activation: int,
    threads: int,
) -> None:
    """A slice of x into a slice of out. residual may be out itself; x must not overlap out.

    Args:
        c, m, n: channels of x, of the middle, of out.
        size, stride_y, stride_x, pad: of the depthwise convolution.
        expand, project: whether there is a 1x1 convolution before it, and behind it.
        squeeze: channels between squeeze and excitation, 0 without.
    """
    kernel = "blocked_bottleneck.forward"
    require_bottleneck(kernel, (c, m, n), size, (expand, squeeze, project), (stride_y, stride_x, pad))
    require_slice(kernel, "x", x_block, _blocks(c), x.shape[1])
    require_slice(kernel, "out", out_block, _blocks(n), out.shape[1])
    if residual is not None:
        require_bottleneck(kernel, (c, m, n), size, (expand, squeeze, project), (1, 1, 0), residual=True)
        require_slice(kernel, "residual", residual_block, _blocks(n), residual.shape[1])
    parts = np.split(packed, np.cumsum(_floats(c, m, n, size, expand, squeeze, project))[:-1])
    middle_blocks, linear = _blocks(m), int(Activation.LINEAR)
    if expand:
        expanded = np.empty((x.shape[0], middle_blocks, *x.shape[2:]))
        _point(x, parts[0], None, expanded, (x_block, 0, 0), (c, m), (expand_activation, linear))
        x, x_block = expanded, 0
    middle = np.empty((x.shape[0], middle_blocks, *out.shape[2:])) if project else out
    places, steps = (x_block, 0, 0 if project else out_block), (stride_y, stride_x, 1, pad)
    blocked_convolution.forward(x, parts[1], None, middle, np.empty(0), *places, m, m, size, m, *steps, activation,
                                linear, int(Algorithm.DEPTHWISE), 1)  # fmt: skip
    if squeeze:
        _excite(middle, parts[2], parts[3], (m, squeeze), (squeeze_activation, excite_activation, scale_activation))
    if project:
        ends = (project_activation, residual_activation)
        _point(middle, parts[4], residual, out, (0, residual_block, out_block), (m, n), ends)


def _point(
    x: Array,
    packed: Array,
    residual: Array | None,
    out: Array,
    places: tuple[int, int, int],
    channels: tuple[int, int],
    activations: tuple[int, int],
) -> None:
    """A 1x1 convolution."""
    blocked_convolution.forward(x, packed, residual, out, np.empty(0), *places, *channels, 1, 1, 1, 1, 1, 0,
                                *activations, int(Algorithm.GEMM), 1)  # fmt: skip


def _excite(
    middle: Array, first: Array, second: Array, channels: tuple[int, int], activations: tuple[int, int, int]
) -> None:
    """middle = middle * scales, which are made of its means."""
    (b, blocks), (m, squeeze), linear = middle.shape[:2], channels, int(Activation.LINEAR)
    means, scales = np.empty((2, b, blocks, 1, 1, BLOCK))
    squeezed = np.empty((b, _blocks(squeeze), 1, 1, BLOCK))
    blocked.avgpool(middle, means, 0, 0, blocks, 1)
    _point(means, first, None, squeezed, (0, 0, 0), (m, squeeze), (activations[0], linear))
    _point(squeezed, second, None, scales, (0, 0, 0), (squeeze, m), (activations[1], linear))
    blocked.scale_channels(middle, scales, middle, 0, 0, 0, blocks, activations[2], 1)


def _blocks(channels: int) -> int:
    return -(-channels // BLOCK)
