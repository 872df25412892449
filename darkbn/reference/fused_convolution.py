"""Convolutions of inference with all that follows them: biases, an activation, a sum with another map, an activation.

    out = residual_activation(activation(convolution of x + biases) + residual)

Without residual: activation(convolution of x + biases) only. Activations are those that work on single values.
The convolution is that of `darkbn.reference.convolution`. `pack` lays the parameters out once, as a backend likes them
best. This family is for devices: plans for the CPU have `blocked_convolution`.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from darkbn.algorithms import Algorithm
from darkbn.reference import activation as activations
from darkbn.reference import convolution
from darkbn.signature import Array


def packed_size(n: int, cg: int, k: int, groups: int) -> int:
    """Floats that `pack` writes for n filters of (cg, k, k) in `groups` groups."""
    return n * cg * k * k + n


def pack(
    weights: Annotated[Array, "in n cg k k"],
    biases: Annotated[Array, "in? n"],
    packed: Annotated[Array, "out floats"],
    groups: int,
    threads: int,
) -> None:
    """Parameters as `forward` takes them; without biases they are zero."""
    packed[: weights.size] = weights.reshape(-1)
    packed[weights.size :] = 0 if biases is None else biases


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
    activation: int,
    residual_activation: int,
    threads: int,
) -> int:
    """Floats of workspace that `forward` needs: none here."""
    return 0


def forward(
    x: Annotated[Array, "in b c h w"],
    packed: Annotated[Array, "in floats"],
    residual: Annotated[Array, "in? b n oh ow"],
    out: Annotated[Array, "out b n oh ow"],
    workspace: Annotated[Array, "io? room"],
    k: int,
    groups: int,
    stride_y: int,
    stride_x: int,
    dilation: int,
    pad: int,
    activation: int,
    residual_activation: int,
    threads: int,
) -> None:
    """The convolution and what follows it. residual may be the very elements of out."""
    n, cg = out.shape[1], x.shape[1] // max(groups, 1)
    weights, biases = packed[: n * cg * k * k].reshape(n, cg, k, k), packed[n * cg * k * k :]
    added = None if residual is None else residual.copy()
    steps = (groups, stride_y, stride_x, dilation, pad, int(Algorithm.GEMM))
    convolution.forward(x, weights, biases, out, np.empty(0), *steps, threads)
    activations.forward(out, activation, threads)
    if added is not None:
        out += added
        activations.forward(out, residual_activation, threads)
