"""Codes of the ways to compute a convolution that the kernels of `blocked_convolution` take."""

from __future__ import annotations

import enum


class Algorithm(enum.IntEnum):
    """How a convolution of blocked maps is computed; include/darkbn/blocked.h has the same codes."""

    #: Register tiles over pixels packed tap by tap: any size, stride, dilation, padding and groups.
    GEMM = 0
    #: Winograd in tiles of 2x2 and 4x4 outputs: 3x3, strides and dilation 1, one group.
    WINOGRAD_2 = 1
    WINOGRAD_4 = 2
    #: A filter a channel: groups = channels = filters.
    DEPTHWISE = 3
    #: Plain (batch, channel, row, column) input of few channels, one group.
    FIRST = 4
