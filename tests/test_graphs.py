"""Plans on a GPU: captured once, replayed with the same bits; what cannot be; getting ready (see fake_cupy.py)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_cupy
import numpy as np
import pytest
from goldens import Case, set_parameters
from networks import CLASSIFIER, TWO_HEADS
from test_devices import labels
from test_sections import CONV, GRADIENTS, description, section
from test_strict_device import _chosen, arrays

import darkbn
from darkbn.backend import to_host
from darkbn.errors import DeviceError
from darkbn_gpu import emulation, modules

pytestmark = pytest.mark.skipif(not emulation.available()[0], reason=emulation.available()[1])


@pytest.fixture
def gpu() -> Iterator[fake_cupy.Device]:
    with fake_cupy.installed() as device:
        yield device


def passes(net: darkbn.Network, xs: Any) -> list[np.ndarray]:
    """The outputs of several passes of a plan of all layers."""
    plan = net.compile(range(len(net.layers)))
    found = [np.array(to_host(array)) for x in xs for array in plan(x)]
    if net.backend.name == "gpu":
        assert plan.graph == "captured"
        assert fake_cupy.device.launches[-1] == "graph"
    return found


def assert_replays(nets: list[darkbn.Network]) -> None:
    rng = np.random.default_rng(1)
    xs = [rng.random(nets[0].input_shape, dtype=np.float32) for _ in range(4)]
    for found, expected in zip(*(passes(net, xs) for net in nets), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", [*list(GRADIENTS)[::3], "history"])
def test_graphs_have_the_bits_of_launches(name: str, gpu: fake_cupy.Device) -> None:
    history = ("alexeyab", description(CONV, section("history", history_size=2), CONV))
    dialect, text = history if name == "history" else GRADIENTS[name]
    assert_replays([darkbn.load(text, device=device, dialect=dialect, seed=3) for device in ("gpu", "emulated")])


def _with_states() -> list[Any]:
    kinds = ("rnn", "crnn", "lstm", "gru", "conv_lstm", "history", "crop", "region", "gaussian", "detection", "dropout")
    return [p for p in _chosen() if p.values[0] is None or p.values[0].name.split("__")[1].startswith(kinds)]


@pytest.mark.parametrize("case", _with_states())
def test_graphs_of_layers_that_run_themselves(case: Case, gpu: fake_cupy.Device) -> None:
    nets = [case.load(device=device) for device in ("gpu", "emulated")]
    for net in nets:
        set_parameters(net, case.tree("init"))
    assert_replays(nets)


def test_graphs_are_captured_anew(gpu: fake_cupy.Device) -> None:
    """After training, other weights and another size."""
    net, twin = (darkbn.load(TWO_HEADS, device=device, train=True, seed=3) for device in ("gpu", "emulated"))
    for turn in range(3):
        x = np.random.default_rng(turn).random(net.input_shape, dtype=np.float32)
        for _ in range(3):
            found, expected = (n.predict(x) for n in (net, twin))
            assert all(np.array_equal(to_host(a), b) for a, b in zip(found, expected, strict=True))
        assert net.current_plan().graph == "captured"
        for n in (net, twin):
            n.train_step(x, labels(n)) if turn == 0 else n.resize(24, 32)
        assert net._plan is not None
        assert not net._plan.current


def test_what_cannot_be_captured_is_launched(
    gpu: fake_cupy.Device, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    net, twin = (darkbn.load(description(CONV, "[l2norm]"), device=device, seed=3) for device in ("gpu", "emulated"))
    forward = type(net.layers[1]).forward

    def reading(layer: Any, state: Any) -> None:
        assert np.isfinite(float(to_host(state.input).sum()))
        forward(layer, state)

    monkeypatch.setattr(type(net.layers[1]), "forward", reading)
    with caplog.at_level(logging.WARNING):
        for turn in range(3):
            x = np.full(net.input_shape, turn + 1, np.float32)
            np.testing.assert_array_equal(to_host(net.predict(x)), twin.predict(x))
    (record,) = caplog.records
    message = record.getMessage()
    assert "no CUDA graph: DeviceError" in message
    assert "layers 1 [layer]" in message
    assert "the current stream is capturing" in message
    assert "stream is capturing" in net.current_plan().graph


def test_errors_of_the_calls_are_the_callers(gpu: fake_cupy.Device, monkeypatch: pytest.MonkeyPatch) -> None:
    net = darkbn.load(description(CONV, "[l2norm]"), device="gpu", seed=3)
    monkeypatch.setattr(type(net.layers[1]), "forward", lambda layer, state: 1 / 0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            net.predict(np.ones(net.input_shape, np.float32))


def test_errors_of_the_device_name_layers(gpu: fake_cupy.Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """In passes that launch kernels, and in those that replay them."""
    net = darkbn.load(TWO_HEADS, device="gpu", seed=3)
    x = np.ones(net.input_shape, np.float32)

    def lost(*arguments: Any) -> None:
        raise RuntimeError("cudaErrorLaunchFailure")

    with monkeypatch.context() as patch:
        patch.setattr(modules, "device_function", lambda file, kernel: lost)
        with pytest.raises(DeviceError, match=r"layers 0 \[convolution\]: kernel \w+\.\w+, .*cudaErrorLaunchFailure"):
            net.predict(x)
    for _ in range(2):
        net.predict(x)
    monkeypatch.setattr(fake_cupy.Graph, "launch", lost)
    with pytest.raises(DeviceError, match=r"cannot replay the CUDA graph: cudaErrorLaunchFailure"):
        net.predict(x)


def test_warmup(gpu: fake_cupy.Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = darkbn.load(CLASSIFIER, device="gpu", train=True, seed=3)
    before = arrays(net)
    x = np.random.default_rng(0).random(net.input_shape)
    found = net.warmup(x, labels(net))
    names = {file.name: file for file in found.files}
    assert {"convolution", "batchnorm", "softmax", "together"} <= names.keys()
    assert "together_sgd" in names["together"].kernels
    assert found.graph == "captured"
    assert "cache" in str(found)
    after = arrays(net)
    kept = [key for key in before if key.rpartition(".")[2].startswith(("weights", "scales", "biases", "rolling"))]
    assert all(np.array_equal(after[key], before[key]) for key in kept)
    assert net.seen == 0
    assert darkbn.load(CLASSIFIER, seed=3).warmup().files == ()


def test_warmup_says_what_was_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKBN_CACHE", str(tmp_path))
    emulation.module.cache_clear()
    emulation.function.cache_clear()
    net = darkbn.load("[net]\ninputs=3\n\n[softmax]\n", device="emulated")
    found, again = net.warmup(), net.warmup()
    assert [(file.name, file.compiled) for file in found.files] == [("softmax", True)]
    assert [(file.name, file.compiled) for file in again.files] == [("softmax", False)]
    assert found.files[0].seconds > again.files[0].seconds
    assert "softmax          compiled" in str(found)
    assert "1 kernel files compiled, 0 from the cache" in str(found)
