"""The ways to compute a convolution, and which of them a plan takes.

An algorithm says which convolutions it can do and about how long it takes; the cheapest is chosen unless the tuner
(`darkbn.inference.tune`) measured another one faster on this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from darkbn.inference.program import LANES, Geometry, Layout

#: Floating-point operations that one core does in a second when a kernel runs at full speed, for rough estimates; only
#: the ratio of estimates counts.
PEAK = 80e9


@dataclass(frozen=True)
class Algorithm:
    """A way to compute a convolution.

    Attributes:
        name: as shown in profiles and remembered by the tuner.
        family, prefix: family of its kernels, and how their names start.
        extra: arguments that the kernels take after `pad` (the tile of Winograd's).
        reads, writes: layouts of its input and output.
        supports: whether it computes a convolution of that geometry.
        cost: estimated seconds on one core.
    """

    name: str
    family: str
    prefix: str
    extra: tuple[int, ...]
    reads: Layout
    writes: Layout
    supports: Callable[[Geometry], bool]
    cost: Callable[[Geometry], float]


def _always(g: Geometry) -> bool:
    return True


def _plain_cost(g: Geometry) -> float:
    return g.flops / (0.6 * PEAK)


def _round(channels: int) -> int:
    """Channels with the idle lanes of the last block."""
    return -(-channels // LANES) * LANES


def _groups_fill_blocks(g: Geometry) -> bool:
    return g.groups == 1 or (g.c // g.groups % LANES == 0 and g.n // g.groups % LANES == 0)


def _gemm_cost(g: Geometry) -> float:
    idle = _round(g.n // g.groups) / (g.n // g.groups) * _round(g.c // g.groups) / (g.c // g.groups)
    return g.flops * idle / (0.85 * PEAK)


def _first_supports(g: Geometry) -> bool:
    return g.groups == 1 and g.dilation == 1 and g.c <= 4


def _depthwise_supports(g: Geometry) -> bool:
    return g.groups == g.c == g.n > 1


def _winograd_supports(g: Geometry) -> bool:
    return g.size == 3 and g.stride_x == g.stride_y == g.dilation == g.groups == 1


def _winograd_cost(tile: int) -> Callable[[Geometry], float]:
    def cost(g: Geometry) -> float:
        tiles = g.batch * -(-g.out_h // tile) * -(-g.out_w // tile)
        points = (tile + 2) ** 2
        products = 2 * points * tiles * _round(g.c) * _round(g.n) / (0.85 * PEAK)
        # The transforms go through memory: every tile of points is written and read once on either side.
        moved = 2 * 4 * points * tiles * (_round(g.c) + _round(g.n)) / 12e9
        return products + moved

    return cost


_BLOCKED = "blocked_convolution"

#: All algorithms by name. "plain" computes everything.
ALGORITHMS: Mapping[str, Algorithm] = {
    a.name: a
    for a in (
        Algorithm("plain", "convolution", "", (), Layout.PLAIN, Layout.PLAIN, _always, _plain_cost),
        Algorithm(
            "first", _BLOCKED, "first_", (), Layout.PLAIN, Layout.BLOCKED, _first_supports,
            lambda g: g.flops / (0.6 * PEAK) / 2,
        ),
        Algorithm(
            "depthwise", _BLOCKED, "depthwise_", (), Layout.BLOCKED, Layout.BLOCKED, _depthwise_supports,
            lambda g: g.flops / (0.2 * PEAK) / 4,
        ),
        Algorithm(
            "gemm", _BLOCKED, "gemm_", (), Layout.BLOCKED, Layout.BLOCKED, _groups_fill_blocks, _gemm_cost
        ),
        *(
            Algorithm(
                f"winograd{tile}", _BLOCKED, "winograd_", (tile,), Layout.BLOCKED, Layout.BLOCKED,
                _winograd_supports, _winograd_cost(tile),
            )
            for tile in (2, 4)
        ),
    )
}  # fmt: skip


def candidates(g: Geometry, available: frozenset[str], plain_input: bool) -> list[Algorithm]:
    """The algorithms that can compute a convolution, the one that should be fastest first.

    Args:
        g: its sizes.
        available: kernel families that the backend has.
        plain_input: whether its input is in the plain layout anyway (the network's input).
    """
    found = [a for a in ALGORITHMS.values() if a.family in available and a.supports(g)]
    if any(a.family == _BLOCKED for a in found):
        # Changing the layout back and forth costs more than any kernel gains by it: what the blocked kernels can
        # compute, they do.
        found = [a for a in found if a.family == _BLOCKED and (a.reads is Layout.BLOCKED or plain_input)]
        if plain_input and any(a.reads is Layout.PLAIN for a in found):
            found = [a for a in found if a.reads is Layout.PLAIN]
    return sorted(found, key=lambda a: a.cost(g))


Parameters = tuple[Any, Any]
