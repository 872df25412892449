"""Whole networks on the GPU's kernels, emulated: passes, training as Darknet trains, moves between devices, errors."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from backends import EMULATED, GPU
from goldens import Case, cases, check
from networks import CLASSIFIER, TWO_HEADS
from test_goldens import training

import darkbn
from darkbn import backend as backend_module
from darkbn.backend import Backend, get_backend
from darkbn.device import to_host
from darkbn.errors import DeviceError

DEVICES = [EMULATED, GPU]


def make(text: str, device: str) -> darkbn.Network:
    return darkbn.load(text, train=True, device=device, seed=3, threads=2)


def labels(net: darkbn.Network, seed: int = 1) -> np.ndarray:
    """Two objects per image, or one class."""
    rng = np.random.default_rng(seed)
    if not net.heads:
        return np.eye(net.output_layer.outputs)[rng.integers(0, net.output_layer.outputs, net.batch)]
    rows = np.zeros((net.batch, 90, 5))
    rows[:, :2, :4] = rng.uniform(0.2, 0.7, (net.batch, 2, 4))
    rows[:, :2, 4] = rng.integers(0, 3, (net.batch, 2))
    return rows.reshape(net.batch, -1)


def train(net: darkbn.Network, steps: int) -> list[float]:
    rng = np.random.default_rng(5)
    return [net.train_step(rng.random(net.input_shape, dtype=np.float32), labels(net, step)) for step in range(steps)]


def close(found: Any, expected: Any, tolerance: float = 1e-4) -> bool:
    found, expected = to_host(found).astype(np.float64), to_host(expected).astype(np.float64)
    return bool(np.abs(found - expected).max(initial=0) <= tolerance * max(np.abs(expected).max(initial=0), 1e-6))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("text", [TWO_HEADS, CLASSIFIER], ids=["heads", "classifier"])
def test_training_is_that_of_the_cpu(text: str, device: str) -> None:
    found, expected = make(text, device), make(text, "cpu")
    losses = train(found, 4), train(expected, 4)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    for a, b in zip(found.layers, expected.layers, strict=True):
        for buffer in b.buffers():
            if buffer.role.value in ("parameter", "statistic", "update"):
                assert close(getattr(a, buffer.name), getattr(b, buffer.name)), (a, buffer.name)


@pytest.mark.parametrize("device", DEVICES)
def test_predict_is_that_of_the_cpu(device: str) -> None:
    found, expected = (darkbn.load(TWO_HEADS, device=name, seed=3) for name in (device, "cpu"))
    x = np.random.default_rng(0).random((2, 3, 16, 16), dtype=np.float32)
    for a, b in zip(found.predict(x), expected.predict(x), strict=True):
        assert close(a, b)


SMALLEST = sorted(cases("train"), key=lambda p: p.values[0].path.stat().st_size if p.values[0] else 0)[:3]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", SMALLEST)
def test_training_is_darknets(case: Case, device: str, tmp_path: Path) -> None:
    check(case, lambda case, device: training(case, device, tmp_path), (device,))


@pytest.mark.parametrize("device", DEVICES)
def test_a_moved_network_goes_on(device: str) -> None:
    """Training that moves after every step is training that stays."""
    moved, stayed = make(TWO_HEADS, "cpu"), make(TWO_HEADS, "cpu")
    rng = np.random.default_rng(5)
    for step, place in enumerate((device, "cpu", device, "reference")):
        x, truth = rng.random(moved.input_shape, dtype=np.float32), labels(moved, step)
        assert moved.train_step(x, truth) == pytest.approx(stayed.train_step(x, truth), rel=1e-4)
        assert moved.to(place) is moved
        assert moved.backend is get_backend(place)
    assert moved.seen == stayed.seen
    for a, b in zip(moved.layers, stayed.layers, strict=True):
        for buffer in b.buffers():
            assert getattr(a, buffer.name).dtype == (buffer.dtype or "float64")
            if buffer.role.value == "parameter":
                assert close(getattr(a, buffer.name), getattr(b, buffer.name)), (a, buffer.name)


def test_moving_keeps_the_size_that_resize_gave() -> None:
    net = darkbn.load(TWO_HEADS, seed=0)
    net.resize(32, 24)
    net.to("reference")
    assert net.input_shape == (1, 3, 24, 32)
    net.forward(np.zeros(net.input_shape))


def test_devices_that_are_not_there() -> None:
    net = darkbn.load(TWO_HEADS, seed=0)
    layers = net.layers
    with pytest.raises(DeviceError, match="unknown device 'gpus': expected one of cpu, reference, gpu, emulated"):
        net.to("gpus")
    assert net.layers is layers


def test_without_cupy_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    backend_module._made.cache_clear()
    with pytest.raises(DeviceError, match=r"device 'gpu': CuPy is not installed .*darkbn\[cuda13\]"):
        darkbn.load(TWO_HEADS, device="gpu")


def test_no_room_names_layer_and_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network stays where it was, whole."""
    net = darkbn.load(TWO_HEADS, seed=0)
    backend = Backend("reference", np, "float64")

    def zeros(shape: tuple[int, ...], dtype: str) -> np.ndarray:
        if shape == (16, 8, 1, 1):
            raise MemoryError("1 byte too many")
        return np.zeros(shape, dtype)

    fake = SimpleNamespace(zeros=zeros, ndarray=np.ndarray, ascontiguousarray=np.ascontiguousarray)
    monkeypatch.setattr(backend, "xp", fake)
    monkeypatch.setattr("darkbn.device.get_backend", lambda name, precision: backend)
    before = net.layers
    message = r"layer 4 \[convolutional\]: device 'reference' has no room for float64 of shape \(16, 8, 1, 1\): 1 byte"
    with pytest.raises(DeviceError, match=message):
        net.to("reference")
    assert net.layers is before
    net.forward(np.zeros(net.input_shape))


def test_a_failing_kernel_names_its_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    net = darkbn.load(TWO_HEADS, seed=0)

    def fail(*arguments: Any) -> None:
        raise DeviceError("kernel pooling.pooling_maxpool: the device is lost")

    monkeypatch.setattr(net.layers[3], "forward", fail)
    with pytest.raises(DeviceError, match=r"layer 3 \[maxpool\]: kernel pooling.pooling_maxpool: the device is lost"):
        net.forward(np.zeros(net.input_shape))


def test_the_command_line_names_all_devices() -> None:
    from darkbn.backend import DEVICES as names
    from darkbn.cli.common import DEVICE_HELP

    assert all(name in DEVICE_HELP for name in names)
