"""Ways to compute a convolution: codes that kernels take, and which of them a training pass takes."""

from __future__ import annotations

import enum
import math


class Algorithm(enum.IntEnum):
    """How a convolution is computed; include/darkbn/blocked_run.h and convolution_run.h have the same codes.

    The kernels of `blocked_convolution` know all of them, those of `convolution` (plain maps) GEMM, WINOGRAD_2,
    WINOGRAD_4 and WINOGRAD_STRIDE_2.
    """

    #: Register tiles over pixels packed tap by tap: any size, stride, dilation, padding and groups.
    GEMM = 0
    #: Winograd in tiles of 2x2 and 4x4 outputs: 3x3, strides and dilation 1, one group.
    WINOGRAD_2 = 1
    WINOGRAD_4 = 2
    #: A filter a channel: groups = channels = filters.
    DEPTHWISE = 3
    #: Plain (batch, channel, row, column) input of few channels, one group.
    FIRST = 4
    #: Winograd in the same tiles, with filters kept as they are, nine taps, and transformed where they are needed.
    WINOGRAD_2_TAPS = 5
    WINOGRAD_4_TAPS = 6
    #: Winograd in tiles of 3x3 outputs: 3x3, strides 2, dilation 1, one group.
    WINOGRAD_STRIDE_2 = 7

    @property
    def tile(self) -> int:
        """Height and width of Winograd's tiles of outputs; 0 for other algorithms."""
        return _TILES.get(self, 0)

    @property
    def stride(self) -> int:
        """The stride of those tiles; 0 for other algorithms."""
        return 0 if not self.tile else 2 if self is Algorithm.WINOGRAD_STRIDE_2 else 1


_TILES = {
    Algorithm.WINOGRAD_2: 2,
    Algorithm.WINOGRAD_4: 4,
    Algorithm.WINOGRAD_2_TAPS: 2,
    Algorithm.WINOGRAD_4_TAPS: 4,
    Algorithm.WINOGRAD_STRIDE_2: 3,
}


#: Channels and filters from which on Winograd's transforms are worth their time.
_LEAST_CHANNELS = 16


def training_algorithm(
    channels: int,
    filters: int,
    size: int,
    strides: tuple[int, int],
    dilation: int,
    groups: int,
    out: tuple[int, int],
) -> Algorithm:
    """The algorithm of a convolution's passes in training: the fastest one that is exact enough (docs/training.md).

    Args:
        channels, filters, size, strides, dilation, groups: of the convolution.
        out: height and width of its output.
    """
    if (size, dilation, groups) != (3, 1, 1) or min(channels, filters) < _LEAST_CHANNELS:
        return Algorithm.GEMM
    if strides == (1, 1):
        return Algorithm.WINOGRAD_4
    # 49 products a tile of 3x3 outputs instead of 81: they must outweigh what the tiles at the ends lack.
    products = 49 * math.prod(-(-length // 3) for length in out)
    return Algorithm.WINOGRAD_STRIDE_2 if strides == (2, 2) and products < 7 * math.prod(out) else Algorithm.GEMM
