"""Rows of the family `spatial`."""

from __future__ import annotations

from typing import Any

from cases import KernelCase

#: b, then c, h, w of one image and c1, h1, w1 of the other: equal, fewer and more channels, larger and smaller grids,
#: different steps down and along, sizes that do not divide, nothing in common.
MEETINGS = [
    (1, (5, 1, 1), (5, 1, 1)),
    (2, (3, 5, 7), (3, 5, 7)),
    (2, (5, 13, 13), (3, 13, 13)),
    (3, (2, 4, 8), (7, 4, 8)),
    (1, (17, 31, 33), (17, 31, 33)),
    (2, (3, 3, 4), (5, 6, 8)),
    (2, (4, 6, 8), (3, 3, 4)),
    (1, (2, 4, 9), (2, 2, 3)),
    (1, (2, 7, 5), (2, 3, 17)),
    (2, (3, 2, 9), (3, 9, 2)),
    (1, (2, 1, 1), (3, 6, 5)),
    (2, (3, 0, 4), (2, 4, 4)),
    (2, (3, 4, 4), (2, 4, 0)),
]

#: m, n, source_start, out_start, count
BLOCKS = [
    (1, 1, 0, 0, 1),
    (7, 9, 2, 1, 5),
    (33, 17, 16, 0, 17),
    (5, 5, 5, 0, 0),
    (20011, 30011, 3001, 10001, 17003),
]

#: c, h, w of the small image and the stride
GRIDS = [
    (1, 1, 1, 1),
    (3, 5, 7, 2),
    (2, 13, 13, 2),
    (5, 3, 17, 2),
    (2, 4, 5, 3),
    (1, 2, 33, 4),
    (2, 0, 3, 2),
    (3, 8, 16, 1),
]

#: Rows and columns that no block covers.
RESTS = {1: (0, 0), 2: (1, 1), 3: (2, 1), 4: (0, 3)}


def meetings(kernel: str, more: dict[str, int] | None = None, **options: Any) -> list[KernelCase]:
    rows = []
    for b, (c, h, w), (c1, h1, w1) in MEETINGS:
        sizes = {"b": b, "c": c, "h": h, "w": w, "c1": c1, "h1": h1, "w1": w1}
        rows += [
            KernelCase(kernel, sizes, {"alpha": alpha, "beta": beta, **(more or {})}, **options)
            for alpha, beta in FACTORS
        ]
    return rows


ADDED = [{"accumulate": a, "add_accumulate": b} for a, b in ((1, 1), (0, 1), (1, 0), (0, 0))]
FACTORS = [(1.0, 1.0), (0.625, -1.5)]


def blocks(kernel: str) -> list[KernelCase]:
    names = ("source_start", "out_start", "count")
    return [
        KernelCase(kernel, {"b": b, "m": m, "n": n}, dict(zip(names, place, strict=True)))
        for m, n, *place in BLOCKS
        for b in (1, 3)
    ]


def grids(kernel: str, *, small_first: bool, rest: bool) -> list[KernelCase]:
    rows = []
    for n, (c, h, w, stride) in enumerate(GRIDS):
        down, along = RESTS[stride] if rest else (0, 0)
        big, small = (h * stride + down, w * stride + along), (h, w)
        first, second = (small, big) if small_first else (big, small)
        sizes = {"b": 1 + n % 3, "c": c, "h": first[0], "w": first[1], "oh": second[0], "ow": second[1]}
        rows += [KernelCase(kernel, sizes, {"stride": stride, "scale": scale}) for scale in (1.0, 0.75)]
    return rows


def depths(kernel: str, *, space_first: bool) -> list[KernelCase]:
    rows = []
    for n, (c, h, w, stride) in enumerate(GRIDS):
        space, depth = (c, h * stride, w * stride), (c * stride * stride, h, w)
        first, second = (space, depth) if space_first else (depth, space)
        names = ("c", "h", "w", "oc", "oh", "ow")
        sizes = {"b": 1 + n % 3, **dict(zip(names, first + second, strict=True))}
        rows.append(KernelCase(kernel, sizes, {"stride": stride}))
    return rows


KERNEL_CASES = [
    *meetings("spatial.shortcut"),
    *meetings("spatial.shortcut_add"),
    *(row for more in ADDED for row in meetings("spatial.shortcut_backward", more)),
    *meetings("spatial.shortcut_backward", ADDED[0], none=frozenset({"input_delta"})),
    *blocks("spatial.copy_block"),
    *blocks("spatial.add_block"),
    *grids("spatial.upsample", small_first=True, rest=False),
    *grids("spatial.upsample_backward", small_first=True, rest=False),
    *grids("spatial.downsample", small_first=False, rest=True),
    *grids("spatial.downsample_backward", small_first=False, rest=True),
    *depths("spatial.space_to_depth", space_first=True),
    *depths("spatial.space_to_depth_add", space_first=True),
    *depths("spatial.depth_to_space", space_first=False),
    *depths("spatial.depth_to_space_add", space_first=False),
    *(
        KernelCase(f"spatial.{kernel}", {"b": b, "c": c, "s": s})
        for kernel in ("flatten", "flatten_add")
        for b, c, s in [(1, 1, 1), (2, 3, 5), (1, 16, 33), (2, 37, 15), (1, 0, 4)]
    ),
]
