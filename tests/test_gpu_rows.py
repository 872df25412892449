"""What `pytest -m gpu` does with the table of kernels, on the stand-in for CuPy: arrays go there and back, launchers
and arguments are as on a device. One row of every kernel; the others differ in sizes only."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_cupy
import numpy as np
import pytest
from backends import NOT_ON_GPU
from cases import KernelCase, kernel_cases
from kernel_check import check_backend

from darkbn.backend import get_backend
from darkbn.errors import DeviceError
from darkbn_gpu import emulation, modules, nvrtc

pytestmark = pytest.mark.skipif(not emulation.available()[0], reason=emulation.available()[1])


def smallest_rows() -> list[KernelCase]:
    found: dict[str, KernelCase] = {}
    for case in sorted(kernel_cases(), key=lambda case: np.prod([np.prod(size) for size in case.sizes.values()])):
        if case.family not in NOT_ON_GPU:
            found.setdefault(case.kernel, case)
    return list(found.values())


@pytest.mark.parametrize("case", smallest_rows(), ids=str)
def test_row(case: KernelCase) -> None:
    with fake_cupy.installed():
        check_backend(case, get_backend("gpu"))


def test_numpys_arrays_are_refused() -> None:
    with fake_cupy.installed():
        vector = get_backend("gpu").vector
        with pytest.raises(DeviceError, match=r"vector.fill: x is an array of numpy"):
            vector.fill(np.zeros(3, np.float32), 1.0, 1)
        x = get_backend("gpu").zeros((4,))
        with pytest.raises(DeviceError, match=r"kernel vector.vector_copy, 1 blocks of 256 threads, .*numpy"):
            get_backend("gpu").raw.vector.copy(x, np.zeros(4, np.float32), 1)


def test_a_device_runs_what_nvrtc_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """For its own architecture, from the cache folder; CuPy only loads it."""
    asked: list[Any] = []

    def compiled(name: str, target: str) -> nvrtc.Compiled:
        asked.append((name, target))
        return nvrtc.Compiled(name, target, Path("/kept/bias.cubin"), "")

    cuda = SimpleNamespace(Device=lambda: SimpleNamespace(compute_capability="90"))
    cupy = SimpleNamespace(cuda=cuda, RawModule=lambda **options: options)
    monkeypatch.setitem(__import__("sys").modules, "cupy", cupy)
    monkeypatch.setattr(nvrtc, "compiled", compiled)
    monkeypatch.setattr(nvrtc, "supported", lambda: (75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121))
    assert modules.device_module.__wrapped__("bias") == {"path": "/kept/bias.cubin"}
    assert asked == [("bias", "sm_90")]
