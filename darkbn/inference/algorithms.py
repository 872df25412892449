"""The ways to compute a convolution, and which of them a plan takes.

A method says which convolutions it can do and about how long it takes; the cheapest is chosen unless the tuner
(`darkbn.inference.tune`) measured another one faster on this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from darkbn.algorithms import Algorithm
from darkbn.inference.program import LANES, Geometry, Layout

#: Floating-point operations a second of one core, and bytes a second from memory and through its own caches, roughly:
#: only the ratio of estimates counts.
PEAK, BANDWIDTH, CACHE_BANDWIDTH = 90e9, 11e9, 22e9

#: Seconds of one core for a point of a transformed filter that is made when it is needed, written and read again.
TRANSFORM = 1e-10


@dataclass(frozen=True)
class Method:
    """A way to compute a convolution.

    Attributes:
        name: as shown in profiles and remembered by the tuner.
        algorithm: code for the kernels of `blocked_convolution`; None: the kernel of `convolution`, which computes
            everything.
        reads, writes: layouts of its input and output.
        supports: whether it computes a convolution of that geometry.
        cost: estimated seconds on one core.
    """

    name: str
    algorithm: Algorithm | None
    reads: Layout
    writes: Layout
    supports: Callable[[Geometry], bool]
    cost: Callable[[Geometry], float]


def _round(channels: int) -> int:
    """Channels with the idle lanes of the last block."""
    return -(-channels // LANES) * LANES


def _plain_cost(g: Geometry) -> float:
    return g.flops / (0.6 * PEAK)


def gemm_cost(g: Geometry) -> float:
    """Groups that do not fill blocks are merged, with zeros between them."""
    channels, filters, groups = g.c // g.groups, g.n // g.groups, g.groups
    if groups > 1 and (channels % LANES or filters % LANES):
        merged = min(LANES, groups)
        channels, filters, groups = channels * merged, filters * merged, -(-groups // merged)
    values = g.batch * groups * _round(channels) * g.size**2 * g.out_h * g.out_w
    # Pixels are packed tap by tap, except where each output reads its own.
    packing = 2 * 4 * values / CACHE_BANDWIDTH if g.size * g.stride_y * g.stride_x > 1 else 0.0
    return 2 * _round(filters) * values / (0.85 * PEAK) + packing


def depthwise_cost(g: Geometry) -> float:
    return g.flops / (0.4 * PEAK)


def _slots(length: int, tile: int, stride: int) -> int:
    """Values that a line of outputs takes when tiles are as even as the kernel makes them."""
    tiles = -(-length // tile)
    short = min(tiles * tile - length, tiles)
    return tiles * (2 * tile + 1) - 2 * short if stride == 2 else tiles * (tile + 2) - short


def _winograd_cost(algorithm: Algorithm) -> Callable[[Geometry], float]:
    tile, stride = algorithm.tile, algorithm.stride
    points = 25 if stride == 2 else (tile + 2) ** 2
    taps = algorithm in (Algorithm.WINOGRAD_2_TAPS, Algorithm.WINOGRAD_4_TAPS)

    def cost(g: Geometry) -> float:
        slots = g.batch * _slots(g.out_h, tile, stride) * _slots(g.out_w, tile, stride)
        filters = _round(g.c) * _round(g.n)
        products = 2 * slots * filters / (0.85 * PEAK)
        traffic = 2 * 4 * slots * (_round(g.c) + _round(g.n)) / CACHE_BANDWIDTH
        if taps:
            products += TRANSFORM * points * filters
            traffic += 4 * slots * _round(g.c) / BANDWIDTH  # shared by all cores, beyond their own caches
        # The filters come from memory once; every slot is written and read once on either side.
        return max(products, packed_bytes(g, algorithm) / BANDWIDTH) + traffic

    return cost


def packed_bytes(g: Geometry, algorithm: Algorithm | None) -> int:
    """About how many bytes the packed filters of a convolution take."""
    transformed = {Algorithm.WINOGRAD_2: 16, Algorithm.WINOGRAD_4: 36, Algorithm.WINOGRAD_STRIDE_2: 25}
    floats = g.size**2 if algorithm is None else transformed.get(algorithm, g.size**2)
    return 4 * floats * _round(g.c // g.groups) * _round(g.n)


def _is_winograd(g: Geometry, stride: int) -> bool:
    return g.size == 3 and g.stride_x == g.stride_y == stride and g.dilation == g.groups == 1


def _winograd(algorithm: Algorithm) -> Method:
    return _blocked(algorithm, lambda g: _is_winograd(g, algorithm.stride), _winograd_cost(algorithm))


def _blocked(
    algorithm: Algorithm,
    supports: Callable[[Geometry], bool],
    cost: Callable[[Geometry], float],
    reads: Layout = Layout.BLOCKED,
) -> Method:
    return Method(algorithm.name.lower(), algorithm, reads, Layout.BLOCKED, supports, cost)


#: All methods by name.
METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method("plain", None, Layout.PLAIN, Layout.PLAIN, lambda g: True, _plain_cost),
        _blocked(Algorithm.GEMM, lambda g: True, gemm_cost),
        *(_winograd(algorithm) for algorithm in Algorithm if algorithm.tile),
        _blocked(
            Algorithm.DEPTHWISE, lambda g: g.groups == g.c == g.n > 1, depthwise_cost
        ),
        _blocked(
            Algorithm.FIRST,
            lambda g: g.groups == g.dilation == 1 and g.c < LANES,
            lambda g: g.flops / (0.6 * PEAK),
            reads=Layout.PLAIN,
        ),
    )
}  # fmt: skip


def candidates(g: Geometry, blocked: bool, plain_input: bool) -> list[Method]:
    """The methods that can compute a convolution, the one that should be fastest first.

    Changing the layout back and forth costs more than any kernel gains by it: with blocked kernels everything is
    computed by them, and only what comes in the plain layout anyway is read in it.

    Args:
        g: its sizes.
        blocked: whether there are kernels for the blocked layout.
        plain_input: whether its input is in the plain layout anyway (the network's input).
    """
    if not blocked:
        return [METHODS["plain"]]
    found = [m for m in METHODS.values() if m.algorithm is not None and m.supports(g)]
    if not plain_input or all(m.reads is Layout.BLOCKED for m in found):
        found = [m for m in found if m.reads is Layout.BLOCKED]
    return sorted(found, key=lambda m: m.cost(g))
