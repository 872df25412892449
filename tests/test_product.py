"""Products in tiles: which tiles are taken, and that the table of cases reaches each of them."""

from __future__ import annotations

import pytest
from cases import KernelCase, kernel_cases

from darkbn_gpu import modules
from darkbn_gpu.product import BLOCKS, LEAST, SLICE, TILED, Geometry, Product, tiling, weights_tiling

ROWS = [c for c in kernel_cases() if c.kernel == "convolution.forward"]
GEOMETRIES = [Geometry(*[{**c.sizes, **c.scalars}[name] for name in Geometry.__dataclass_fields__]) for c in ROWS]
LARGE = [g for g in GEOMETRIES if g.b * g.oh * g.ow and g.ng >= TILED]
BACK = [g for g in GEOMETRIES if g.b * g.oh * g.ow and g.cg >= TILED]


def names(products: list[Product]) -> set[str]:
    plans = [(p.kind, p.plan()) for p in products]
    return {f"convolution_{kind}_{plan.rows}x{plan.columns}" for kind, plan in plans}


def test_rows_reach_every_tile_and_parts_of_k() -> None:
    forward, backward = [Product.forward(g) for g in LARGE], [Product.backward_input(g) for g in BACK]
    weights = {f"convolution_weights_{t.rows}x{t.columns}" for t in map(weights_tiling, LARGE)}
    tiles = {name for name in modules.kernel_names("convolution") if name[-1].isdigit()}
    assert names(forward) | names(backward) | weights == tiles
    for plans in ([p.plan() for p in forward], [p.plan() for p in backward], [weights_tiling(g) for g in LARGE]):
        assert {plan.splits > 1 for plan in plans} == {True, False}


@pytest.mark.parametrize("rows", [8, 32, 100, 128, 1000])
@pytest.mark.parametrize("columns", [1, 49, 169, 2704, 100_000])
@pytest.mark.parametrize("depth", [16, 144, 4608])
def test_tilings_cover_the_matrix(rows: int, columns: int, depth: int) -> None:
    t = tiling(rows, columns, 1, depth)
    tiles = -(-rows // t.rows) * -(-columns // t.columns)
    assert t.blocks == t.splits * tiles
    assert t.chunk % SLICE == 0
    assert (t.splits - 1) * t.chunk < depth <= t.splits * t.chunk
    assert t.splits == 1 or t.chunk >= LEAST - SLICE
    assert t.splits == 1 or tiles < BLOCKS


def test_turned_product_has_the_inputs_sizes() -> None:
    case: KernelCase = next(c for c in ROWS if c.scalars["stride_x"] == 3)
    g = Geometry(*[{**case.sizes, **case.scalars}[name] for name in Geometry.__dataclass_fields__])
    p = Product.backward_input(g)
    assert (p.g.c, p.g.n, p.g.oh, p.g.ow) == (g.n, g.c, g.h, g.w)
    assert (p.up_y, p.up_x, p.kind) == (g.stride_y, g.stride_x, "strided")
