"""Activations: names and codes, extreme values, accuracy, derivatives."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import darkbn
from darkbn.activations import CHANNEL_KINDS, CODES, NAMES, Activation, activation_code, needs_input, problem
from darkbn.backend import get_backend
from darkbn.cfg import read_cfg
from darkbn.errors import CfgError, UnsupportedError
from darkbn.layers.activation import ActivationOptions

HEADER = Path(darkbn.__file__).parent / "include" / "darkbn" / "activations.h"
POINTWISE = [kind for kind in Activation if kind not in CHANNEL_KINDS]
SMOOTH = ("LOGISTIC", "LOGGY", "TANH", "SWISH", "MISH", "GELU", "ELU", "SELU")


def name_of(kind: Activation) -> str:
    return kind.name.lower()


def forward(backend: str, x: np.ndarray, kind: Activation) -> np.ndarray:
    out = get_backend(backend).array(x).copy()
    get_backend(backend).activation.forward(out, int(kind), 1)
    return out


def gradient(backend: str, values: np.ndarray, kind: Activation) -> np.ndarray:
    delta = get_backend(backend).array(np.ones(values.shape))
    get_backend(backend).activation.gradient(get_backend(backend).array(values), delta, int(kind), 1)
    return delta


def test_header_and_python_have_the_same_codes() -> None:
    found = re.findall(r"^\s*DARKBN_(\w+) = (\d+)", HEADER.read_text(), re.MULTILINE)
    assert {name: int(code) for name, code in found} == {kind.name: int(kind) for kind in Activation}


def test_dialects() -> None:
    assert len(NAMES["darknet"]) == 14
    assert len(NAMES["alexeyab"]) == 23
    assert set(NAMES["darknet"]) < set(NAMES["alexeyab"]) == set(CODES)
    assert "stair" in NAMES["darknet"]
    assert "relu6" not in NAMES["darknet"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("silu", "swish"),
        ("SiLU", "swish"),
        ("sigmoid", "logistic"),
        ("lrelu", "leaky"),
        ("LeakyReLU", "leaky"),
        ("leeky", "leaky"),
        ("identity", "linear"),
        ("Mish", "mish"),
    ],
)
def test_what_was_meant(name: str, hint: str) -> None:
    assert f"did you mean {hint!r}" in (problem(name, "alexeyab") or "")
    with pytest.raises(UnsupportedError, match=hint):
        activation_code(name)


def test_names_in_a_cfg() -> None:
    def read(text: str, dialect: str) -> str:
        cfg = read_cfg(f"[net]\n[activation]\nactivation={text}\n")
        return ActivationOptions.read(cfg.layers[0], dialect, [], 0).activation

    assert read("mish", "alexeyab") == "mish"
    with pytest.raises(CfgError, match="exists in dialect alexeyab only") as caught:
        read("mish", "darknet")
    assert (caught.value.line, caught.value.key, caught.value.index) == (3, "activation", 0)
    with pytest.raises(CfgError, match=r"unknown activation 'leaky#x'"):
        read("leaky # x", "alexeyab")


@pytest.mark.parametrize("kind", POINTWISE, ids=name_of)
def test_extreme_values(kind: Activation) -> None:
    """Infinities have their limits, NaN stays NaN, and nothing overflows on the way."""
    x = np.array([np.inf, -np.inf, np.nan, 1e30, -1e30, 3e38, -3e38, 0, -0.0, 100, -100, 88.5, -88.5, 1e-30])
    x = np.tile(x, 3).astype(np.float32)  # long enough for whole vectors
    with np.errstate(all="ignore"):
        expected = forward("reference", x, kind)
        slope = gradient("reference", x if needs_input(kind) else expected, kind)
    found = forward("cpu", x, kind)
    np.testing.assert_allclose(found, expected.astype(np.float32), rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(gradient("cpu", x if needs_input(kind) else found, kind), slope, rtol=1e-6, atol=1e-6)
    assert np.isfinite(found[np.abs(x) < 1e3]).all()


@pytest.mark.parametrize("kind", [Activation[name] for name in SMOOTH], ids=name_of)
def test_accuracy_relative_to_each_value(kind: Activation) -> None:
    """Also where results are small; gelu has x^3 in an exponent, whose rounding counts."""
    rng = np.random.default_rng(0)
    tiny = 10.0 ** rng.uniform(-8, 0, 20000) * rng.choice([-1, 1], 20000)
    x = np.concatenate([rng.uniform(-8, 20, 20000), tiny]).astype(np.float32)
    expected = forward("reference", x, kind)
    allowed = 6e-7 if kind != Activation.GELU else 2e-5
    assert (np.abs(forward("cpu", x, kind) - expected) <= allowed * np.abs(expected)).all()


def differences(kind: Activation, x: np.ndarray, step: float = 1e-6) -> np.ndarray:
    return (forward("reference", x + step, kind) - forward("reference", x - step, kind)) / (2 * step)


@pytest.mark.parametrize("kind", POINTWISE, ids=name_of)
def test_gradients_are_derivatives(kind: Activation) -> None:
    x = np.random.default_rng(1).uniform(-5, 7, 400)
    x = x[np.abs(x - np.round(x)) > 1e-3]  # corners are at whole numbers
    if kind == Activation.STAIR:
        x = x[np.floor(x) % 2 != 0]  # elsewhere the output is a whole number
    values = x if needs_input(kind) else forward("reference", x, kind)
    np.testing.assert_allclose(gradient("reference", values, kind), differences(kind, x), atol=1e-5)


@pytest.mark.parametrize("kind", sorted(CHANNEL_KINDS), ids=name_of)
def test_gradients_of_channel_activations_are_derivatives(kind: Activation) -> None:
    kernels, rng = get_backend("reference").activation, np.random.default_rng(2)
    x, delta = rng.standard_normal((2, 2, 5, 3))

    def loss(values: np.ndarray) -> float:
        out = np.empty_like(values)
        kernels.forward_channels(values, out, int(kind), 1)
        return float((out * delta).sum())

    out, found = np.empty_like(x), delta.copy()
    kernels.forward_channels(x, out, int(kind), 1)
    kernels.gradient_channels(x if needs_input(kind) else out, found, int(kind), 1)
    expected = np.empty_like(x)
    for place in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[place] = 1e-6
        expected[place] = (loss(x + step) - loss(x - step)) / 2e-6
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_outputs_may_be_inputs() -> None:
    x = np.random.default_rng(3).standard_normal((1, 3, 50)).astype(np.float32)
    kernels = get_backend("cpu").activation
    for kind, call in ((Activation.MISH, kernels.forward_to), (Activation(20), kernels.forward_channels)):
        out, same = np.empty_like(x), x.copy()
        call(x, out, int(kind), 1)
        call(same, same, int(kind), 1)
        assert np.array_equal(out, same)
