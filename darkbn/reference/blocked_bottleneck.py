"""For inference on blocked maps: a depthwise convolution with the 1x1 convolutions before and behind it, in one pass.

    expanded = expand_activation(1x1 convolution of x, c to m channels, + biases)
               where `expand`, else x, and c = m
    middle   = activation(depthwise convolution of expanded + biases)
    out      = residual_activation(project_activation(1x1 convolution of middle, m to n channels, + biases) + residual)
               where `project`, else middle, n = m, and no residual

Each part is what `darkbn.reference.blocked_convolution` says of a convolution; maps are blocked as there. What lies
between the parts is seen nowhere. `packed` is what `pack` makes; its contents are a backend's own affair.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from darkbn.activations import Activation
from darkbn.algorithms import Algorithm
from darkbn.geometry import require_bottleneck, require_slice
from darkbn.reference import blocked_convolution
from darkbn.signature import Array

BLOCK = blocked_convolution.BLOCK


def packed_size(c: int, m: int, n: int, size: int, expand: int, project: int) -> int:
    """Floats of `packed`."""
    require_bottleneck("blocked_bottleneck.packed_size", (c, m, n), size, (expand, project), (1, 1, 0))
    return sum(_floats(c, m, n, size, expand, project))


def _floats(c: int, m: int, n: int, size: int, expand: int, project: int) -> tuple[int, int, int]:
    """Weights and biases of each part."""
    return (m * (c + 1) if expand else 0, m * (size * size + 1), n * (m + 1) if project else 0)


def pack(
    weights: Annotated[Array, "in weights"],
    biases: Annotated[Array, "in biases"],
    packed: Annotated[Array, "out packed"],
    c: int,
    m: int,
    n: int,
    size: int,
    expand: int,
    project: int,
    threads: int,
) -> None:
    """packed = weights and biases, arranged for the kernel.

    Args:
        weights: (m, c) where `expand`, then (m, size, size), then (n, m) where `project`, one behind the other.
        biases: (m,) where `expand`, then (m,), then (n,) where `project`.
    """
    kernel = "blocked_bottleneck.pack"
    require_bottleneck(kernel, (c, m, n), size, (expand, project), (1, 1, 0), (weights.size, biases.size))
    w = b = at = 0
    for count, filters in zip(_floats(c, m, n, size, expand, project), (m, m, n), strict=True):
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
    project: int,
    stride_y: int,
    stride_x: int,
    pad: int,
    expand_activation: int,
    activation: int,
    project_activation: int,
    residual_activation: int,
    threads: int,
) -> None:
    """A slice of x into a slice of out. residual may be out itself; x must not overlap out.

    Args:
        c, m, n: channels of x, of the middle, of out.
        size, stride_y, stride_x, pad: of the depthwise convolution.
        expand, project: whether there is a 1x1 convolution before it, and behind it.
    """
    kernel = "blocked_bottleneck.forward"
    require_bottleneck(kernel, (c, m, n), size, (expand, project), (stride_y, stride_x, pad))
    require_slice(kernel, "x", x_block, _blocks(c), x.shape[1])
    require_slice(kernel, "out", out_block, _blocks(n), out.shape[1])
    if residual is not None:
        require_bottleneck(kernel, (c, m, n), size, (expand, project), (1, 1, 0), residual=True)
        require_slice(kernel, "residual", residual_block, _blocks(n), residual.shape[1])
    first, second, third = np.split(packed, np.cumsum(_floats(c, m, n, size, expand, project))[:2])
    steps, linear = (stride_y, stride_x, 1, pad), int(Activation.LINEAR)
    forward_part, one = blocked_convolution.forward, (1, 1, 1, 0)
    if expand:
        expanded = np.empty((x.shape[0], _blocks(m), *x.shape[2:]))
        forward_part(x, first, None, expanded, np.empty(0), x_block, 0, 0, c, m, 1, 1, *one, expand_activation, linear,
                     int(Algorithm.GEMM), 1)  # fmt: skip
        x, x_block = expanded, 0
    middle = np.empty((x.shape[0], _blocks(m), *out.shape[2:])) if project else out
    forward_part(x, second, None, middle, np.empty(0), x_block, 0, 0 if project else out_block, m, m, size, m, *steps,
                 activation, linear, int(Algorithm.DEPTHWISE), 1)  # fmt: skip
    if project:
        forward_part(middle, third, residual, out, np.empty(0), 0, residual_block, out_block, m, n, 1, 1, *one,
                     project_activation, residual_activation, int(Algorithm.GEMM), 1)  # fmt: skip


def _blocks(channels: int) -> int:
    return -(-channels // BLOCK)
