"""Rows of the family `blocked_convolution`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from cases import KernelCase

from darkbn.activations import Activation
from darkbn.algorithms import Algorithm

SUMS = "float32 sums over taps: a few units in the last place times the root of their number"
TILES = "transformed tiles: the points' powers multiply rounding errors, and mish leaves little of negative sums"
TOLERANCES = {a: ({2: 4e-6, 3: 4e-6, 4: 3e-5}[a.tile], TILES) for a in Algorithm if a.tile}

#: The activation, that after the residual (None: no residual): each branch of the epilogue.
ENDS: list[tuple[Activation, Activation | None]] = [
    (Activation.LINEAR, None),
    (Activation.LEAKY, None),
    (Activation.MISH, None),
    (Activation.LEAKY, Activation.LINEAR),
    (Activation.LINEAR, Activation.LEAKY),
    (Activation.SWISH, Activation.RELU),
    (Activation.RELU, Activation.SWISH),
    (Activation.LOGISTIC, Activation.MISH),
]

#: b, c, (h, w), n, size, strides, pad, dilation, groups; odd shapes, tiles' and blocks' sizes +-1.
GEMM = [
    (1, 1, (1, 1), 1, 1, (1, 1), 0, 1, 1),
    (2, 8, (5, 7), 16, 1, (1, 1), 0, 1, 1),
    (1, 19, (13, 13), 17, 1, (1, 1), 0, 1, 1),
    (2, 24, (6, 5), 40, 1, (2, 2), 0, 1, 1),
    (1, 16, (4, 6), 9, 1, (1, 1), 1, 1, 1),
    (3, 17, (1, 1), 70, 3, (1, 1), 1, 1, 1),
    (1, 300, (1, 1), 33, 1, (1, 1), 0, 1, 1),
    (1, 8, (9, 15), 24, 3, (1, 1), 1, 1, 1),
    (2, 20, (11, 14), 12, 3, (2, 1), 1, 1, 1),
    (1, 16, (12, 35), 48, 3, (2, 2), 1, 1, 1),
    (1, 3, (23, 23), 20, 7, (2, 2), 3, 1, 1),
    (1, 8, (6, 5), 8, 4, (1, 3), 1, 1, 1),
    (2, 8, (5, 4), 8, 3, (1, 1), 3, 1, 1),
    (1, 9, (14, 13), 8, 3, (2, 2), 3, 3, 1),
    (1, 8, (2, 3), 16, 5, (1, 1), 2, 1, 1),
    (1, 32, (7, 9), 32, 3, (1, 1), 1, 1, 2),
    (2, 24, (5, 5), 72, 1, (1, 1), 0, 1, 3),
    (1, 16, (6, 7), 16, 3, (1, 1), 1, 1, 4),
    (1, 12, (6, 7), 18, 3, (2, 2), 1, 1, 6),
    (1, 6, (5, 7), 4, 3, (1, 1), 1, 1, 2),
    # several rounds of steps, chunks of filters, tasks of pixels
    (1, 100, (20, 21), 20, 3, (2, 2), 1, 1, 1),
    (1, 264, (9, 9), 530, 1, (1, 1), 0, 1, 1),
    (0, 8, (5, 5), 8, 3, (1, 1), 1, 1, 1),
]
WINOGRAD = [
    (1, 1, (1, 1), 1, 3, (1, 1), 1, 1, 1),
    (2, 8, (5, 7), 16, 3, (1, 1), 1, 1, 1),
    (1, 19, (13, 13), 17, 3, (1, 1), 1, 1, 1),
    (1, 16, (16, 12), 40, 3, (1, 1), 1, 1, 1),
    (3, 24, (9, 33), 8, 3, (1, 1), 0, 1, 1),
    (1, 8, (6, 5), 24, 3, (1, 1), 2, 1, 1),
    (1, 16, (70, 69), 16, 3, (1, 1), 1, 1, 1),
    (1, 270, (7, 9), 36, 3, (1, 1), 1, 1, 1),
    (0, 8, (5, 5), 8, 3, (1, 1), 1, 1, 1),
]
#: With stride 2; tiles of 3x3 outputs.
WINOGRAD_STRIDE_2 = [(*shape[:5], (2, 2), *shape[6:]) for shape in WINOGRAD]
#: So many filters that all threads share a region, and more than one region; several rounds of channels' taps.
MANY_FILTERS = (1, 512, (57, 56), 120, 3, (1, 1), 1, 1, 1)
DEPTHWISE = [
    (1, 1, (7, 7), 1, 3, (1, 1), 1, 1, 1),
    (2, 5, (7, 11), 5, 3, (1, 1), 1, 1, 5),
    (2, 17, (9, 33), 17, 3, (1, 1), 1, 1, 17),
    (1, 16, (17, 16), 16, 3, (2, 2), 1, 1, 16),
    (1, 8, (14, 40), 8, 5, (2, 2), 2, 1, 8),
    (1, 8, (14, 140), 8, 5, (1, 1), 2, 1, 8),
    (1, 12, (11, 8), 12, 3, (2, 1), 1, 1, 12),
    (1, 4, (8, 9), 4, 3, (3, 3), 0, 1, 4),
    (1, 9, (12, 13), 9, 3, (1, 1), 2, 2, 9),
    (2, 8, (3, 2), 8, 5, (1, 1), 2, 1, 8),
    (1, 8, (9, 7), 8, 4, (2, 2), 2, 2, 8),
    (1, 8, (40, 6), 8, 7, (1, 2), 5, 1, 8),
    (0, 8, (5, 5), 8, 3, (1, 1), 1, 1, 8),
]
FIRST = [
    (1, 3, (16, 16), 16, 3, (1, 1), 1, 1, 1),
    (2, 3, (13, 19), 33, 3, (2, 2), 1, 1, 1),
    (1, 1, (1, 1), 1, 1, (1, 1), 0, 1, 1),
    (1, 3, (23, 40), 24, 7, (2, 2), 3, 1, 1),
    (1, 4, (20, 110), 8, 3, (1, 1), 1, 1, 1),
    (1, 3, (30, 31), 12, 11, (4, 4), 2, 1, 1),
    (1, 2, (9, 8), 9, 3, (1, 3), 4, 2, 1),
    (1, 3, (9, 8), 9, 2, (2, 1), 0, 1, 1),
    (1, 2, (3, 2), 8, 5, (1, 1), 6, 1, 1),
    (0, 3, (5, 5), 8, 3, (1, 1), 1, 1, 1),
]
#: Blocks in front of the slices of x, residual and out, and behind that of out.
PLACES = [(0, 0, 0, 0), (1, 0, 2, 1), (0, 2, 1, 0), (3, 1, 0, 2)]
#: Outputs as given instead of the usual size.
OUTPUTS = {(1, 8, (9, 15), 24, 3, (1, 1), 1, 1, 1): (12, 17), (2, 8, (5, 7), 16, 3, (1, 1), 1, 1, 1): (3, 9)}


def out_size(length: int, size: int, stride: int, pad: int, dilation: int) -> int:
    return (length + 2 * pad - dilation * (size - 1) - 1) // stride + 1


def row(shape: Any, algorithm: Algorithm, turn: int) -> KernelCase:
    """The row of a shape; turns take the ends and places one after another."""
    b, c, (h, w), n, size, (stride_y, stride_x), pad, dilation, groups = shape
    before_x, before_residual, before_out, behind_out = PLACES[turn % len(PLACES)]
    activation, residual_activation = ENDS[turn % len(ENDS)]
    oh, ow = out_size(h, size, stride_y, pad, dilation), out_size(w, size, stride_x, pad, dilation)
    oh, ow = OUTPUTS.get(shape, (oh, ow))
    blocks, out_blocks = -(-c // 8), -(-n // 8)
    sizes = {"b": b, "h": h, "w": w, "oh": oh, "ow": ow, "cg": c // groups, "k": size, "n": n}
    sizes |= {
        "xb": before_x + blocks + 1,
        "rb": before_residual + out_blocks,
        "ob": before_out + out_blocks + behind_out,
    }
    scalars = {"x_block": before_x, "residual_block": before_residual, "out_block": before_out, "c": c, "n": n}
    scalars |= {"size": size, "groups": groups, "stride_y": stride_y, "stride_x": stride_x}
    scalars |= {"dilation": dilation, "pad": pad, "activation": int(activation)}
    scalars |= {"residual_activation": int(residual_activation or 0), "algorithm": int(algorithm)}
    none = [] if residual_activation is not None else ["residual"]
    none += ["biases"] if turn % 5 == 4 else []
    tolerance, reason = TOLERANCES.get(algorithm, (2e-6, SUMS))
    return KernelCase(
        "blocked_convolution.forward", sizes, scalars, tolerance=tolerance, reason=reason, none=frozenset(none)
    )


def plain(case: KernelCase) -> KernelCase:
    """The same for `forward_plain`, which has no slice of x."""
    dropped = ("x_block", "c", "groups", "algorithm")
    sizes = {**case.sizes, "c": case.scalars["c"], "groups": 1, "algorithm": int(Algorithm.FIRST)}
    scalars = {name: value for name, value in case.scalars.items() if name not in dropped}
    return KernelCase("blocked_convolution.forward_plain", sizes, scalars, case.tolerance, case.reason, none=case.none)


def packing(case: KernelCase) -> KernelCase:
    """The row of `pack` that belongs to one of `forward`."""
    sizes = {name: case.sizes[name] for name in ("n", "cg", "k")} | {"size": case.sizes["k"]}
    scalars = {name: case.scalars[name] for name in ("groups", "algorithm")}
    return KernelCase("blocked_convolution.pack", sizes, scalars, none=case.none & {"biases"})


def rows() -> Iterator[KernelCase]:
    turns = itertools.count()
    for algorithm, shapes in (
        (Algorithm.GEMM, GEMM),
        (Algorithm.WINOGRAD_2, WINOGRAD),
        (Algorithm.WINOGRAD_4, WINOGRAD),
        (Algorithm.WINOGRAD_2_TAPS, WINOGRAD),
        (Algorithm.WINOGRAD_4_TAPS, WINOGRAD),
        (Algorithm.WINOGRAD_STRIDE_2, WINOGRAD_STRIDE_2),
        (Algorithm.DEPTHWISE, DEPTHWISE),
        (Algorithm.FIRST, FIRST),
    ):
        for shape in shapes:
            for turn in (next(turns), next(turns), next(turns)):
                case = row(shape, algorithm, turn)
                yield plain(case) if algorithm == Algorithm.FIRST else case
            yield packing(case)
    turn = next(turns)
    yield row(MANY_FILTERS, Algorithm.WINOGRAD_4, turn)
    yield row(MANY_FILTERS, Algorithm.WINOGRAD_4_TAPS, turn)


KERNEL_CASES = list(rows())
