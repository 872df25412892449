"""Launchers of darkbn.reference.gemm."""

from __future__ import annotations

from darkbn.errors import ShapeError
from darkbn.signature import Array
from darkbn_gpu.launch import launch, tiles


def gemm_workspace(m: int, n: int, k: int, threads: int) -> int:
    return 0


def gemm(
    a: Array,
    b: Array,
    c: Array,
    workspace: Array | None,
    trans_a: int,
    trans_b: int,
    alpha: float,
    beta: float,
    threads: int,
) -> None:
    (m, n), (left, k) = c.shape, a.shape[::-1] if trans_a else a.shape
    inner, right = b.shape[::-1] if trans_b else b.shape
    if left != m or right != n or inner != k:
        raise ShapeError(f"gemm: op(a) {(left, k)} times op(b) {(inner, right)} does not give c {(m, n)}")
    steps = (a.shape[1], b.shape[1])
    launch("gemm", "gemm_gemm", tiles(m, n), a, b, c, m, n, k, *steps, trans_a, trans_b, float(alpha), float(beta))
