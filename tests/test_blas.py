"""Darknet's blas functions on their own; what Darknet computes is held by test_goldens.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from darkbn import blas
from darkbn.errors import DtypeError, ShapeError, UnsupportedError


def numbers(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_increments_leave_the_rest_alone() -> None:
    x, y = numbers(1, 2, 3, 4, 5), numbers(10, 20, 30, 40, 50, 60, 70)
    blas.axpy_cpu(3, 2, x, 2, y, 3)
    assert y.tolist() == [12, 20, 30, 46, 50, 60, 80]
    blas.copy_cpu(2, x, 4, y, 1)
    assert y.tolist() == [1, 5, 30, 46, 50, 60, 80]
    assert blas.dot_cpu(3, x, 2, x, 1) == 1 * 1 + 3 * 2 + 5 * 3
    blas.fill_cpu(0, 7, x, 1)
    blas.const_cpu(2, 0, x, 3)
    assert x.tolist() == [0, 2, 3, 0, 5]


def test_arrays_may_be_larger_and_of_any_shape() -> None:
    x = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    blas.scal_cpu(4, 10, x, 1)
    assert x.reshape(-1).tolist() == [0, 10, 20, 30, 4, 5, 6, 7, 8, 9, 10, 11]
    mean = np.full(4, -1, np.float32)
    blas.mean_cpu(x, 2, 3, 2, mean)
    assert mean.tolist() == [(0 + 10 + 6 + 7) / 4, (20 + 30 + 8 + 9) / 4, (4 + 5 + 10 + 11) / 4, -1]


def test_leading_dimensions() -> None:
    a = np.arange(15, dtype=np.float32).reshape(3, 5)
    c = np.full((2, 4), 7, np.float32)
    blas.gemm(0, 1, 2, 2, 2, 1, a, 5, a[1:], 5, 0, c, 4)
    expected = a[:2, :2] @ a[1:, :2].T
    assert c.tolist() == [[*expected[0], 7, 7], [*expected[1], 7, 7]]


def test_logarithms_of_certain_predictions() -> None:
    """A right answer given with certainty costs nothing (Darknet: 0 * log 0 = NaN)."""
    delta, error = np.empty((2, 2), np.float32)
    blas.logistic_x_ent_cpu(2, numbers(1, 0), numbers(1, 0), delta, error)
    assert error.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda x: blas.fill_cpu(6, 0, x, 1), ShapeError),
        (lambda x: blas.fill_cpu(3, 0, x, 3), ShapeError),
        (lambda x: blas.fill_cpu(-1, 0, x, 1), ShapeError),
        (lambda x: blas.fill_cpu(2, 0, x, 0), ShapeError),
        (lambda x: blas.fill_cpu(2, 0, x, -1), ShapeError),
        (lambda x: blas.fill_cpu(2, 0, x[::2], 1), ShapeError),
        (lambda x: blas.fill_cpu(2, 0, x.astype(np.float64), 1), DtypeError),
        (lambda x: blas.fill_cpu(2, 0, x.tolist(), 1), DtypeError),
        (lambda x: blas.copy_cpu(4, x[:3], 1, x, 1), ShapeError),
        (lambda x: blas.mean_cpu(x, 2, 3, 1, x), ShapeError),
        (lambda x: blas.variance_cpu(x, x, 1, 5, 1, x), ShapeError),
        (lambda x: blas.softmax(x, 3, 1, 3, x), ShapeError),
        (lambda x: blas.reorg_cpu(x, 1, 1, 5, 1, 2, 1, x), ShapeError),
        (lambda x: blas.im2col_cpu_ext(x, 1, 1, 5, 1, 3, 0, 1, 1, 1, 1, 1, x), UnsupportedError),
        (lambda x: blas.activate_array(x, 5, "silu"), UnsupportedError),
    ],
)
def test_errors(call: Callable[[np.ndarray], Any], error: type[Exception]) -> None:
    x = numbers(1, 2, 3, 4, 5)
    with pytest.raises(error):
        call(x)
    assert x.tolist() == [1, 2, 3, 4, 5]


def test_read_only_outputs() -> None:
    x = numbers(1, 2, 3)
    x.flags.writeable = False
    with pytest.raises(ShapeError, match="X is written to"):
        blas.fill_cpu(3, 0, x, 1)
