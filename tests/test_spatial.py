"""Kernels of `spatial` and `pooling`: as the real Darknets compute them, and what they refuse."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darkbn.backend import BACKENDS, Backend, get_backend
from darkbn.errors import ShapeError
from darkbn.geometry import MAX_WINDOW

FOLDER = Path(os.environ.get("DARKBN_REFERENCE") or Path(__file__).parents[2] / "shared" / "reference")


def goldens(name: str) -> list[Any]:
    """The cases `<name>.<n>` of each golden file, as (file, n); one that is skipped when there are none."""
    files = sorted(FOLDER.glob("blas__spatial*.npz"))
    if not files:
        return [pytest.param(None, 0, marks=pytest.mark.skip(reason=f"no goldens: set DARKBN_REFERENCE ({FOLDER})"))]
    found = []
    for file in files:
        with np.load(file) as arrays:
            numbers = sorted({key.split(".")[1] for key in arrays.files if key.startswith(f"{name}.")})
        found += [pytest.param(file, n, id=f"{file.stem}-{n}") for n in numbers]
    return found


def load(file: Path, name: str, n: str, backend: Backend) -> dict[str, Any]:
    """One case: float arrays as arrays of the backend, numbers as they are."""
    prefix = f"{name}.{n}."
    with np.load(file) as arrays:
        case = {key.removeprefix(prefix): arrays[key] for key in arrays.files if key.startswith(prefix)}
    return {key: backend.array(v) if v.ndim else v.item() for key, v in case.items()}


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    return get_backend(request.param)


@pytest.mark.parametrize(("file", "n"), goldens("shortcut"))
def test_shortcut_equals_darknets(file: Path, n: str, backend: Backend) -> None:
    """Darknet's shortcut_cpu works in place; the layer copies its input first."""
    case = load(file, "shortcut", n, backend)
    alpha, beta = case.get("s1", 1.0), case.get("s2", 1.0)
    out = case["in"].copy()
    backend.spatial.shortcut_add(case["add"], out, alpha, beta, 1)
    assert_close(out, case["out"])
    backend.spatial.shortcut(case["in"], case["add"], out, alpha, beta, 1)
    assert_close(out, case["out"])


@pytest.mark.parametrize(("file", "n"), goldens("upsample"))
def test_upsample_equals_darknets(file: Path, n: str, backend: Backend) -> None:
    case = load(file, "upsample", n, backend)
    stride, scale = case["stride"], case["scale"]
    out = backend.empty(case["out"].shape)
    backend.spatial.upsample(case["x"], out, stride, scale, 1)
    assert_close(out, case["out"])
    delta = case["in_delta_before"].copy()
    backend.spatial.upsample_backward(case["out_delta"], delta, stride, scale, 1)
    assert_close(delta, case["in_delta_after"])


@pytest.mark.parametrize(("file", "n"), goldens("reorg"))
def test_reorg_is_depth_to_space_and_back(file: Path, n: str, backend: Backend) -> None:
    """Darknet's reorg_cpu: forward=1 spreads channels, forward=0 gathers from an image of that larger shape."""
    case = load(file, "reorg", n, backend)
    b, c, h, w = case["x"].shape
    stride = case["stride"]
    large = (b, c // stride**2, h * stride, w * stride)
    out = backend.empty(large)
    backend.spatial.depth_to_space(case["x"], out, stride, 1)
    assert np.array_equal(out.reshape(b, c, h, w), case["out_forward1"])
    out = backend.empty((b, c, h, w))
    backend.spatial.space_to_depth(case["x"].reshape(large), out, stride, 1)
    assert np.array_equal(out, case["out_forward0"])


REFUSED: list[tuple[str, Callable[[Any, Any], None]]] = [
    ("size must be 1 to", lambda k, a: k.pooling.maxpool(a(1, 1, 4, 4), a(1, 1, 4, 4), None, 0, 1, 1, 0, 1)),
    (
        "size must be 1 to",
        lambda k, a: k.pooling.maxpool(a(1, 1, 4, 4), a(1, 1, 4, 4), None, MAX_WINDOW + 1, 1, 1, 0, 1),
    ),
    ("strides must", lambda k, a: k.pooling.maxpool(a(1, 1, 4, 4), a(1, 1, 4, 4), None, 2, 0, 1, 0, 1)),
    ("strides must", lambda k, a: k.pooling.local_avgpool(a(1, 1, 4, 4), a(1, 1, 4, 4), 2, 1, 0, 0, 1)),
    ("padding must", lambda k, a: k.pooling.local_avgpool_backward(a(1, 1, 4, 4), a(1, 1, 4, 4), 2, 1, 1, -1, 1)),
    ("not inside source", lambda k, a: k.spatial.copy_block(a(2, 5), a(2, 9), 3, 0, 3, 1)),
    ("not inside out", lambda k, a: k.spatial.copy_block(a(2, 5), a(2, 9), 0, 7, 3, 1)),
    ("not inside out", lambda k, a: k.spatial.add_block(a(2, 5), a(2, 9), 0, -1, 3, 1)),
    ("not inside source", lambda k, a: k.spatial.add_block(a(2, 5), a(2, 9), 0, 0, -1, 1)),
    ("stride must", lambda k, a: k.spatial.upsample(a(1, 1, 2, 2), a(1, 1, 0, 0), 0, 1.0, 1)),
    ("do not make", lambda k, a: k.spatial.upsample(a(1, 1, 2, 2), a(1, 1, 4, 5), 2, 1.0, 1)),
    ("do not make", lambda k, a: k.spatial.upsample_backward(a(1, 1, 4, 5), a(1, 1, 2, 2), 2, 1.0, 1)),
    ("do not make", lambda k, a: k.spatial.downsample(a(1, 1, 6, 4), a(1, 1, 2, 2), 2, 1.0, 1)),
    ("do not make", lambda k, a: k.spatial.downsample_backward(a(1, 1, 2, 2), a(1, 1, 3, 4), 2, 1.0, 1)),
    ("have 4 channels", lambda k, a: k.spatial.space_to_depth(a(1, 1, 4, 4), a(1, 5, 2, 2), 2, 1)),
    ("do not make", lambda k, a: k.spatial.space_to_depth_add(a(1, 1, 5, 4), a(1, 4, 2, 2), 2, 1)),
    ("have 4 channels", lambda k, a: k.spatial.depth_to_space(a(1, 3, 2, 2), a(1, 1, 4, 4), 2, 1)),
    ("do not make", lambda k, a: k.spatial.depth_to_space_add(a(1, 4, 2, 2), a(1, 1, 4, 6), 2, 1)),
]


@pytest.mark.parametrize(("message", "call"), REFUSED)
def test_sizes_that_do_not_fit_are_refused(message: str, call: Callable[[Any, Any], None], backend: Backend) -> None:
    with pytest.raises(ShapeError, match=message):
        call(backend, lambda *shape: backend.zeros(shape))


def test_a_shortcut_may_come_from_its_own_input(backend: Backend) -> None:
    """from=-1: both gradients go to one array."""
    rng = np.random.default_rng(0)
    delta = backend.array(rng.standard_normal((2, 3, 5, 7)))
    both = backend.zeros(delta.shape)
    backend.spatial.shortcut_backward(delta, both, both, 0.5, 2.0, 1, 1, 2)
    assert_close(both, 2.5 * delta)
    backend.spatial.shortcut_backward(delta, both, both, 0.5, 2.0, 0, 1, 2)
    assert_close(both, 2.5 * delta)
