"""Darknet's names for the GPU: the same values as those for the CPU, on NumPy's arrays (emulated) and on a device's."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import fake_cupy
import numpy as np
import pytest

from darkbn import blas
from darkbn.backend import to_host
from darkbn.blas import gpu
from darkbn_gpu import emulation

pytestmark = pytest.mark.skipif(not emulation.available()[0], reason=emulation.available()[1])

RNG = np.random.default_rng(4)


def some(*shape: int) -> np.ndarray:
    return RNG.uniform(0.2, 1.5, shape).astype(np.float32)


#: Name without its ending, and arguments; arrays that are written to are compared.
CALLS: dict[str, tuple[Any, ...]] = {
    "fill": (3, 0.5, some(7), 3),
    "const": (7, 0.5, some(7), 1),
    "copy": (3, some(7), 3, some(5), 2),
    "axpy": (3, 2.0, some(7), 3, some(5), 2),
    "scal": (7, 0.5, some(7), 1),
    "scal_add": (3, 0.5, 0.25, some(7), 2),
    "mul": (4, some(7), 2, some(4), 1),
    "pow": (4, 1.5, some(7), 2, some(4), 1),
    "mult_add_into": (6, some(6), some(6), some(6)),
    "weighted_sum": (some(6), None, some(6), 6, some(6)),
    "weighted_delta": (some(6), some(6), some(6), some(6), some(6), some(6), 6, some(6)),
    "inter": (3, some(6), 2, some(4), 2, some(10)),
    "deinter": (3, some(6), 2, some(4), 2, some(10)),
    "flatten": (some(2, 6), 3, 2, 2, 1),
    "l2normalize": (some(2, 3, 4), some(2, 3, 4), 2, 3, 4),
    "add_bias": (some(2, 3, 4), some(3), 2, 3, 4),
    "scale_bias": (some(2, 3, 4), some(3), 2, 3, 4),
    "backward_bias": (some(3), some(2, 3, 4), 2, 3, 4),
    "backward_scale": (some(2, 3, 4), some(2, 3, 4), 2, 3, 4, some(3)),
    "mean": (some(2, 3, 4), 2, 3, 4, some(3)),
    "variance": (some(2, 3, 4), some(3), 2, 3, 4, some(3)),
    "normalize": (some(2, 3, 4), some(3), some(3), 2, 3, 4),
    "l2": (6, some(6), some(6), some(6), some(6)),
    "softmax": (some(2, 6), 3, 2, 6, 2, 3, 1, 1.5, some(2, 6)),
    "activate_array": (some(6) - 1, 6, "leaky"),
    "gradient_array": (some(6), 6, "logistic", some(6)),
    "shortcut": (2, 2, 2, 3, some(2, 3, 2, 2), 4, 4, 2, 1.0, 1.0, some(2, 2, 4, 4)),
    "shortcut_multilayer": (8, 4, 2, 1, [3], [some(2, 3)], some(2, 4), some(2, 4), some(2), 2, 1),
    "upsample": (some(1, 2, 3, 3), 3, 3, 2, 1, 2, 1, 1.0, some(1, 2, 6, 6)),
    "reorg": (some(1, 4, 4, 4), 4, 4, 4, 1, 2, 0, some(1, 4, 4, 4)),
    "im2col": (some(2, 4, 4), 2, 4, 4, 3, 1, 1, some(18, 16)),
    "gemm": (0, 1, 3, 4, 5, 1.5, some(3, 5), 5, some(4, 5), 5, 0.5, some(3, 4), 4),
}


def _arrays(values: Any) -> list[np.ndarray]:
    flat = [one for value in values for one in (value if isinstance(value, list) else [value])]
    return [to_host(value) for value in flat if hasattr(value, "shape")]


def run(function: Callable[..., Any], arguments: Any) -> list[np.ndarray]:
    """What a call leaves in its arrays."""
    function(*arguments)
    return _arrays(arguments)


def moved(value: Any) -> Any:
    if isinstance(value, list):
        return [moved(one) for one in value]
    return fake_cupy.module().asarray(value) if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("name", CALLS)
def test_as_on_the_cpu(name: str) -> None:
    on_cpu = getattr(blas, f"{name}_cpu", None) or getattr(blas, name)
    on_gpu = getattr(gpu, f"{name}_gpu")
    before, expected = _arrays(CALLS[name]), run(on_cpu, copy.deepcopy(CALLS[name]))
    assert any(not np.array_equal(a, b) for a, b in zip(before, expected, strict=True)), "the case shows nothing"
    with fake_cupy.installed():
        results = [run(on_gpu, copy.deepcopy(CALLS[name])), run(on_gpu, [moved(value) for value in CALLS[name]])]
    for found in results:
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_offsets_and_masks() -> None:
    x, y = np.arange(6, dtype=np.float32), np.zeros(6, np.float32)
    gpu.copy_gpu_offset(2, x, 3, 2, y, 1, 1)
    assert y.tolist() == [0, 3, 5, 0, 0, 0]
    gpu.axpy_gpu_offset(2, 2.0, x, 1, 1, y, 2, 3)
    assert y.tolist() == [0, 3, 7, 0, 0, 4]
    gpu.add_gpu(3, 1.0, y, 2)
    assert y.tolist() == [1, 3, 8, 0, 1, 4]
    gpu.constrain_gpu(2, 2.0, y, 1)
    assert y.tolist() == [1, 2, 8, 0, 1, 4]
    gpu.supp_gpu(6, 1.5, y, 1)
    assert y.tolist() == [0, 2, 8, 0, 0, 4]
    mask = np.array([7, 1, 7, 1, 1, 1], np.float32)
    gpu.scale_mask_gpu(6, y, 1.0, mask, 3.0)
    assert y.tolist() == [0, 6, 8, 0, 0, 12]
    gpu.mask_gpu(6, y, 7.0, mask, -1.0)
    assert y.tolist() == [-1, 6, -1, 0, 0, 12]
    assert gpu.dot_gpu(2, y, 1, x, 1) == 6
    blas.fill_cpu(6, 0.5, y, 1)  # and the CPU is back
    assert y.tolist() == [0.5] * 6
