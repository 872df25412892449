"""Launchers of darkbn.reference.vector."""

from __future__ import annotations

from darkbn.signature import Array
from darkbn_gpu.launch import each, launch, map_each, scratch


def fill(x: Array, value: float, threads: int) -> None:
    map_each("vector", "vector_fill", x.size, x, x.size, float(value))


def copy(x: Array, y: Array, threads: int) -> None:
    map_each("vector", "vector_copy", x.size, x, y, x.size)


def axpy(x: Array, y: Array, alpha: float, threads: int) -> None:
    map_each("vector", "vector_axpy", x.size, x, y, x.size, float(alpha))


def scal_add(x: Array, alpha: float, beta: float, threads: int) -> None:
    map_each("vector", "vector_scal_add", x.size, x, x.size, float(alpha), float(beta))


def mul(x: Array, y: Array, threads: int) -> None:
    map_each("vector", "vector_mul", x.size, x, y, x.size)


def power(x: Array, y: Array, alpha: float, threads: int) -> None:
    map_each("vector", "vector_power", x.size, x, y, x.size, float(alpha))


def dot(x: Array, y: Array, out: Array, threads: int) -> None:
    _dot(x, y, out)


def total(x: Array, out: Array, threads: int) -> None:
    _dot(x, None, out)


def _dot(x: Array, y: Array | None, out: Array) -> None:
    blocks = max(1, min(-(-x.size // 4096), 256))
    partial = scratch(x, blocks)
    launch("vector", "vector_partial_dot", blocks, x, y, partial, x.size)
    launch("vector", "vector_join", 1, partial, out, blocks)


def mult_add_into(x: Array, y: Array, z: Array, threads: int) -> None:
    map_each("vector", "vector_mult_add_into", x.size, x, y, z, x.size)


def weighted_sum(a: Array, b: Array, s: Array, out: Array, threads: int) -> None:
    map_each("vector", "vector_weighted_sum", a.size, a, b, s, out, a.size)


def weighted_delta(
    a: Array, b: Array, s: Array, da: Array | None, db: Array | None, ds: Array, dc: Array, threads: int
) -> None:
    each("vector", "vector_weighted_delta", a.size, a, b, s, da, db, ds, dc, a.size)


def constrain(x: Array, limit: float, threads: int) -> None:
    map_each("vector", "vector_constrain", x.size, x, x.size, float(limit))


def binarize(x: Array, out: Array, threads: int) -> None:
    map_each("vector", "vector_binarize", x.size, x, out, x.size)


def binarize_rows(x: Array, out: Array, threads: int) -> None:
    n, m = x.shape
    launch("vector", "vector_binarize_rows", n, x, out, m)


def binarize_columns(x: Array, out: Array, threads: int) -> None:
    n, m = x.shape
    each("vector", "vector_binarize_columns", m, x, out, n, m)


def l2normalize(x: Array, dx: Array, threads: int) -> None:
    b, c, s = x.shape
    each("vector", "vector_l2normalize", b * s, x, dx, b, c, s)
