"""Darknet's element-wise operations on arrays of any shape, dot products, and the sign of weights and inputs."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from darkbn.signature import Array


def fill(x: Annotated[Array, "out *s"], value: float, threads: int) -> None:
    """x = value."""
    x[...] = value


def copy(x: Annotated[Array, "in *s"], y: Annotated[Array, "out *s"], threads: int) -> None:
    """y = x."""
    y[...] = x


def axpy(x: Annotated[Array, "in *s"], y: Annotated[Array, "io *s"], alpha: float, threads: int) -> None:
    """y += alpha*x."""
    y += alpha * x


def scal_add(x: Annotated[Array, "io *s"], alpha: float, beta: float, threads: int) -> None:
    """x = alpha*x + beta."""
    x[...] = alpha * x + beta


def mul(x: Annotated[Array, "in *s"], y: Annotated[Array, "io *s"], threads: int) -> None:
    """y *= x."""
    y *= x


def power(x: Annotated[Array, "in *s"], y: Annotated[Array, "out *s"], alpha: float, threads: int) -> None:
    """y = x^alpha. `y` may be `x`."""
    y[...] = np.power(x, alpha)


def dot(
    x: Annotated[Array, "in *s"],
    y: Annotated[Array, "in *s"],
    out: Annotated[Array, "out:float64 1"],
    threads: int,
) -> None:
    """out = sum(x*y)."""
    out[0] = np.sum(x.astype(np.float64) * y)


def total(x: Annotated[Array, "in *s"], out: Annotated[Array, "out:float64 1"], threads: int) -> None:
    """out = sum(x)."""
    out[0] = x.sum(dtype=np.float64)


def mult_add_into(
    x: Annotated[Array, "in *s"], y: Annotated[Array, "in *s"], z: Annotated[Array, "io *s"], threads: int
) -> None:
    """z += x*y."""
    z += x * y


def weighted_sum(
    a: Annotated[Array, "in *s"],
    b: Annotated[Array, "in *s"],
    s: Annotated[Array, "in *s"],
    out: Annotated[Array, "out *s"],
    threads: int,
) -> None:
    """out = s*a + (1 - s)*b."""
    out[...] = s * a + (1 - s) * b


def weighted_delta(
    a: Annotated[Array, "in *s"],
    b: Annotated[Array, "in *s"],
    s: Annotated[Array, "in *s"],
    da: Annotated[Array | None, "io? *s"],
    db: Annotated[Array | None, "io? *s"],
    ds: Annotated[Array, "io *s"],
    dc: Annotated[Array, "in *s"],
    threads: int,
) -> None:
    """The gradients of `weighted_sum`: da += dc*s, db += dc*(1 - s), ds += dc*(a - b)."""
    if da is not None:
        da += dc * s
    if db is not None:
        db += dc * (1 - s)
    ds += dc * (a - b)


def constrain(x: Annotated[Array, "io *s"], limit: float, threads: int) -> None:
    """x is cut to [-limit, limit]."""
    x[...] = np.clip(x, -limit, limit)


def binarize(x: Annotated[Array, "in *s"], out: Annotated[Array, "out *s"], threads: int) -> None:
    """out = 1 where x is positive, else -1."""
    out[...] = np.where(x > 0, 1, -1)


def binarize_rows(x: Annotated[Array, "in n m"], out: Annotated[Array, "out n m"], threads: int) -> None:
    """The sign of x times the mean of |x| in its row: Darknet's binary weights, one row per filter."""
    mean = np.abs(x).mean(axis=1, keepdims=True)
    out[...] = np.where(x > 0, mean, -mean)


def binarize_columns(x: Annotated[Array, "in n m"], out: Annotated[Array, "out n m"], threads: int) -> None:
    """The sign of x times the mean of |x| in its column: Darknet's binary inputs, one column per pixel."""
    mean = np.abs(x).mean(axis=0)
    out[...] = np.where(x > 0, mean, -mean)


def l2normalize(x: Annotated[Array, "io b c s"], dx: Annotated[Array, "out b c s"], threads: int) -> None:
    """Each pixel's channels are divided by their Euclidean length; dx = (1 - x)/length with the x that results."""
    length = np.sqrt((x**2).sum(axis=1, keepdims=True))
    x /= length
    dx[...] = (1 - x) / length
