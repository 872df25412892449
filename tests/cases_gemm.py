"""Rows of the family `gemm`."""

import numpy as np
from cases import KernelCase

SUMS = "float32 sums over k, each off by a few units in the last place times sqrt(k)"


def gemm(
    m: int,
    n: int,
    k: int,
    trans_a: int = 0,
    trans_b: int = 0,
    alpha: float = 1.0,
    beta: float = 1.0,
    **more: object,
) -> KernelCase:
    """One row; op(a) is (m, k), op(b) is (k, n)."""
    a_shape = (k, m) if trans_a else (m, k)
    b_shape = (n, k) if trans_b else (k, n)
    sizes = dict(zip(("a_rows", "a_columns", "b_rows", "b_columns"), (*a_shape, *b_shape), strict=True))
    scalars = {"trans_a": trans_a, "trans_b": trans_b, "alpha": alpha, "beta": beta}
    return KernelCase("gemm.gemm", {"m": m, "n": n, "k": k, **sizes}, scalars, tolerance=2e-6, reason=SUMS, **more)


# Tiles are 6, 8 or 14 rows by 8 to 32 columns, blocks about 250 x 256 x 384; skinny means at most 8 rows or
# columns.
SHAPES = [
    (1, 1, 1),
    (2, 3, 5),
    (6, 16, 8),
    (7, 17, 9),
    (13, 31, 33),
    (14, 32, 16),
    (15, 33, 31),
    (5, 7, 0),
    (0, 3, 4),
    (3, 0, 4),
    (29, 67, 257),
    (1, 131, 263),
    (131, 1, 263),
    (8, 97, 65),
    (2, 70, 4999),
    (3, 1301, 37),
    (5, 64, 33),
    (6, 65, 70),
    (7, 130, 259),
    (1301, 4, 30),
    (97, 8, 65),
    (61, 53, 1),
    (3, 5, 5003),
    (40, 45, 2111),
]

BLOCKS = [(523, 101, 40), (40, 1201, 30), (270, 405, 530), (1031, 300, 20), (11, 2003, 3)]

KERNEL_CASES = [
    *(gemm(*shape, ta, tb) for shape in SHAPES for ta in (0, 1) for tb in (0, 1)),
    *(gemm(*shape, i % 2, i // 2 % 2) for i, shape in enumerate(BLOCKS)),
    *(gemm(m, n, k, alpha=-1.5, beta=0.5) for m, n, k in [(2, 3, 5), (30, 35, 300), (3, 200, 70), (9, 9, 3000)]),
    # beta = 0 overwrites, whatever c held.
    *(
        gemm(m, n, k, 0, tb, alpha=2.0, beta=0.0, fill={"c": lambda rng, shape: np.full(shape, np.nan)})
        for m, n, k in [(1, 9, 20), (30, 35, 300), (20, 1, 5), (9, 9, 3000)]
        for tb in (0, 1)
    ),
]
