"""Matrix products (Darknet's gemm) on row-major matrices."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from darkbn.errors import ShapeError
from darkbn.signature import Array


def gemm_workspace(m: int, n: int, k: int, threads: int) -> int:
    """Floats of workspace that `gemm` needs: none here."""
    return 0


def gemm(
    a: Annotated[Array, "in a_rows a_columns"],
    b: Annotated[Array, "in b_rows b_columns"],
    c: Annotated[Array, "io m n"],
    workspace: Annotated[Array, "io? floats"],
    trans_a: int,
    trans_b: int,
    alpha: float,
    beta: float,
    threads: int,
) -> None:
    """c = alpha * op(a) @ op(b) + beta * c, where op transposes its matrix if trans_a (trans_b) is not 0.

    With beta = 0 the old values of c do not matter, whatever they are. Raises ShapeError when op(a) is not
    (m, k) or op(b) not (k, n).
    """
    left = a.T if trans_a else a
    right = b.T if trans_b else b
    if left.shape[0] != c.shape[0] or right.shape[1] != c.shape[1] or left.shape[1] != right.shape[0]:
        raise ShapeError(f"gemm: op(a) {left.shape} times op(b) {right.shape} does not give c {c.shape}")
    product = alpha * (left.astype(np.float64) @ right.astype(np.float64))
    c[...] = product if beta == 0 else product + beta * c
