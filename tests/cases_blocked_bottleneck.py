"""Rows of the family `blocked_bottleneck`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from cases import KernelCase
from cases_blocked_convolution import PLACES, out_size

from darkbn.activations import Activation

SUMS = "float32 sums over channels, of sums over taps, of sums over channels"
CUT = SUMS + ", whose magnitude an activation cuts off"

#: Activations: of the expansion, in the middle, of the projection, after the residual (None: no residual).
ENDS = [
    (Activation.RELU, Activation.LEAKY, Activation.LINEAR, None),
    (Activation.LEAKY, Activation.RELU6, Activation.LINEAR, Activation.LINEAR),
    (Activation.SWISH, Activation.MISH, Activation.RELU, Activation.LEAKY),
    (Activation.RELU6, Activation.LINEAR, Activation.SWISH, Activation.RELU),
    (Activation.LINEAR, Activation.SWISH, Activation.RELU6, Activation.LOGISTIC),
    (Activation.LOGISTIC, Activation.RELU, Activation.MISH, None),
]

#: Which parts there are: expansion, channels between squeeze and excitation, projection.
PARTS = [(1, 0, 1), (1, 0, 0), (0, 0, 1), (0, 0, 0), (1, 4, 1), (0, 17, 1)]
#: Activations of squeeze, excitation and scaling.
SCALES = [
    (Activation.RELU, Activation.LOGISTIC, Activation.LINEAR),
    (Activation.SWISH, Activation.LOGISTIC, Activation.LEAKY),
    (Activation.LEAKY, Activation.RELU6, Activation.SWISH),
]

#: b, c, m, n, (h, w), size, strides, pad; blocks' and tiles' sizes +-1, odd shapes, several strips of a band.
SHAPES = [
    (1, 1, 1, 1, (1, 1), 3, (1, 1), 1),
    (2, 8, 16, 8, (7, 11), 3, (1, 1), 1),
    (1, 12, 72, 20, (13, 9), 3, (1, 1), 1),
    (1, 5, 17, 9, (9, 33), 3, (2, 2), 1),
    (2, 16, 24, 33, (17, 16), 5, (2, 2), 2),
    (1, 9, 40, 24, (14, 10), 5, (1, 1), 2),
    (1, 8, 96, 16, (40, 40), 3, (1, 1), 1),
    (1, 16, 100, 70, (33, 20), 3, (2, 1), 1),
    (3, 7, 8, 5, (6, 5), 4, (1, 3), 0),
    (1, 3, 9, 3, (5, 4), 7, (2, 2), 5),
    (1, 8, 8, 8, (12, 12), 2, (3, 3), 0),
    (1, 24, 8, 12, (3, 150), 1, (1, 1), 0),
    (0, 8, 8, 8, (5, 5), 3, (1, 1), 1),
]
#: Outputs as given instead of the usual size.
OUTPUTS = {(1, 9, 40, 24, (14, 10), 5, (1, 1), 2): (16, 8)}


def row(shape: Any, parts: tuple[int, int, int], turn: int) -> KernelCase:
    """The row of a shape; turns take the activations and places one after another."""
    b, c, m, n, (h, w), size, (stride_y, stride_x), pad = shape
    expand, squeeze, project = parts
    c, n = c if expand else m, n if project else m
    before_x, before_residual, before_out, behind_out = PLACES[turn % len(PLACES)]
    first, middle, last, after = ENDS[turn % len(ENDS)]
    oh, ow = out_size(h, size, stride_y, pad, 1), out_size(w, size, stride_x, pad, 1)
    oh, ow = OUTPUTS.get(shape, (oh, ow))
    blocks, out_blocks = -(-c // 8), -(-n // 8)
    sizes = {"b": b, "h": h, "w": w, "oh": oh, "ow": ow, "xb": before_x + blocks + 1}
    sizes |= {"rb": before_residual + out_blocks, "ob": before_out + out_blocks + behind_out}
    between = squeeze and squeeze + m
    sizes |= {"weights": c * m * expand + m * size * size + 2 * m * squeeze + m * n * project}
    sizes |= {"biases": m * expand + m + between + n * project}
    scalars = {"x_block": before_x, "residual_block": before_residual, "out_block": before_out, "c": c, "m": m, "n": n}
    scalars |= {"size": size, "expand": expand, "squeeze": squeeze, "project": project}
    scalars |= {"stride_y": stride_y, "stride_x": stride_x, "pad": pad}
    scalars |= {"expand_activation": int(first), "activation": int(middle), "project_activation": int(last)}
    scalars |= {"residual_activation": int(after or 0)}
    scaling = zip(("squeeze_activation", "excite_activation", "scale_activation"), SCALES[turn % 3], strict=True)
    scalars |= {name: int(kind) for name, kind in scaling}
    none = frozenset() if after is not None and project else frozenset({"residual"})
    cut = {middle, last, after} & {Activation.RELU6, Activation.LOGISTIC}
    tolerance, reason = (1.5e-5, CUT) if cut else (4e-6, SUMS)
    return KernelCase("blocked_bottleneck.forward", sizes, scalars, tolerance=tolerance, reason=reason, none=none)


def packing(case: KernelCase) -> KernelCase:
    """The row of `pack` that belongs to one of `forward`."""
    sizes = {name: case.sizes[name] for name in ("weights", "biases")}
    names = ("c", "m", "n", "size", "expand", "squeeze", "project")
    return KernelCase("blocked_bottleneck.pack", sizes, {name: case.scalars[name] for name in names})


def rows() -> Iterator[KernelCase]:
    turns = itertools.count()
    for shape in SHAPES:
        for parts in PARTS:
            turn = next(turns)
            yield row(shape, parts, turn)
            yield row(shape, parts, turn + 3)
        yield packing(row(shape, PARTS[next(turns) % len(PARTS)], 0))


KERNEL_CASES = list(rows())
