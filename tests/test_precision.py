"""Convolutions in tf32 and float16: what is rounded, how far results may be off, and what stays float32."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from backends import EMULATED, GPU
from cases_convolution import SHAPES
from networks import TWO_HEADS

import darkbn
from darkbn import backend as backends
from darkbn.activations import Activation
from darkbn.backend import get_backend, to_host
from darkbn.errors import DeviceError, ShapeError
from darkbn.reference import convolution as reference
from darkbn_gpu import emulation, modules
from darkbn_gpu.product import TILED, Geometry, Product
from darkbn_gpu.providers import PRECISIONS, KernelsFused

DEVICES = [EMULATED, GPU]
LOW = [name for name in PRECISIONS if name != "float32"]

#: Unit of the last place of an operand, relative to it: half of it is the most that rounding changes.
UNIT = {"tf32": 2.0**-10, "float16": 2.0**-10}


def rounded(x: np.ndarray, precision: str) -> np.ndarray:
    """x as the units read it."""
    if precision == "float16":
        return x.astype(np.float16).astype(np.float32)
    return ((x.view(np.uint32) + 0x1000) & 0xFFFFE000).astype(np.uint32).view(np.float32)


def geometry(symbols: dict[str, int], scalars: dict[str, int]) -> Geometry:
    return Geometry(*[{**symbols, **scalars}[name] for name in Geometry.__dataclass_fields__])


def convolved(g: Geometry, x: np.ndarray, weights: np.ndarray, biases: np.ndarray) -> np.ndarray:
    out = np.empty((g.b, g.n, g.oh, g.ow))
    steps = (g.groups, g.stride_y, g.stride_x, g.dilation, g.pad, 0, 1)
    reference.forward(x.astype(np.float64), weights.astype(np.float64), biases.astype(np.float64), out, None, *steps)
    return out


def arrays(g: Geometry) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(g.n + g.h)
    shapes = (g.b, g.c, g.h, g.w), (g.n, g.cg, g.k, g.k), (g.n,)
    x, weights, biases = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    return x, weights, biases


def run(fused: Any, backend: Any, g: Geometry, values: tuple[np.ndarray, ...], residual: Any = None) -> np.ndarray:
    x, weights, biases = (backend.array(value) for value in values)
    packed = backend.empty((fused.packed_size(g.n, g.cg, g.k, g.groups),))
    fused.pack(weights, biases, packed, g.groups, 1)
    end = (int(Activation.LEAKY), int(Activation.LINEAR))
    room = backend.empty((fused.forward_workspace(*g.sizes, *end, 1),))
    room.fill(np.nan)
    out = backend.empty((g.b, g.n, g.oh, g.ow))
    if residual is not None:
        out[...] = backend.array(residual)
    steps = (g.k, g.groups, g.stride_y, g.stride_x, g.dilation, g.pad)
    fused.forward(x, packed, None if residual is None else out, out, room, *steps, *end, 1)
    return np.asarray(to_host(out))


GEOMETRIES = [g for g in itertools.starmap(geometry, SHAPES) if g.ng >= TILED and g.b * g.oh * g.ow]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", LOW)
@pytest.mark.parametrize("g", GEOMETRIES, ids=str)
def test_operands_are_rounded_and_nothing_else(g: Geometry, precision: str, device: str) -> None:
    values = arrays(g)
    found = run(get_backend(device, precision).raw.fused_convolution, get_backend(device), g, values)
    x, weights, biases = values
    sums = convolved(g, rounded(x, precision), rounded(weights, precision), biases)
    expected = np.where(sums > 0, sums, 0.1 * sums)
    assert np.abs(found - expected).max() <= 2e-6 * np.abs(sums).max()
    # Two operands, each off by half a unit: the bound that docs/gpu.md gives.
    exact = convolved(g, x, weights, biases)
    magnitude = convolved(g, np.abs(x), np.abs(weights), np.abs(biases))
    assert (np.abs(found - np.where(exact > 0, exact, 0.1 * exact)) <= 1.01 * UNIT[precision] * magnitude).all()


@pytest.mark.skipif(not emulation.available()[0], reason=emulation.available()[1])
@pytest.mark.parametrize("precision", LOW)
def test_bits_do_not_depend_on_the_order_of_threads(precision: str) -> None:
    g = geometry(*next((s, t) for s, t in SHAPES if s["n"] == 128 and s["k"] == 3))
    values, found = arrays(g), set()
    for order in emulation.ORDERS:
        with emulation.thread_order(order):
            found.add(run(KernelsFused(precision), get_backend("emulated"), g, values).tobytes())
    assert len(found) == 1


def test_rows_reach_every_kernel() -> None:
    plans = [(Product.forward(g).kind, Product.forward(g).plan(True)) for g in GEOMETRIES]
    found = {f"{kind}_{plan.rows}x{plan.columns}" for kind, plan in plans}
    names = [name for name in modules.kernel_names("fused_convolution") if "x128" in name]
    assert {name.split("_", 3)[3] for name in names} == found
    assert {plan.splits > 1 for _, plan in plans} == {True, False}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_residual_may_be_the_output(precision: str, device: str) -> None:
    g = geometry(*next((s, t) for s, t in SHAPES if s["c"] == 300))
    values = arrays(g)
    residual = np.random.default_rng(9).standard_normal((g.b, g.n, g.oh, g.ow)).astype(np.float32)
    fused, backend = get_backend(device, precision).raw.fused_convolution, get_backend(device)
    expected = run(fused, backend, g, values) + residual
    np.testing.assert_allclose(run(fused, backend, g, values, residual), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", LOW)
def test_networks_predict_in_it_and_run_layer_by_layer_in_float32(precision: str, device: str) -> None:
    exact, net = (darkbn.load(TWO_HEADS, device=device, precision=name, seed=3) for name in (None, precision))
    for layer in (*exact.layers, *net.layers):
        if getattr(layer, "batch_normalize", False):
            layer.rolling_variance.fill(1)  # of a new network it is zero, and folded weights exceed halves
    assert net.backend.precision == precision
    x = np.random.default_rng(0).random((1, 3, 16, 16), dtype=np.float32)
    assert to_host(net.forward(x)).tobytes() == to_host(exact.forward(x)).tobytes()
    for found, expected in zip(net.predict(x), exact.predict(x), strict=True):
        error = np.abs(to_host(found) - to_host(expected)).max() / np.abs(to_host(expected)).max()
        assert 1e-7 < error < 5e-3
    net.to("cpu")
    assert net.backend is get_backend("cpu")
    net.to(device, precision)
    assert net.backend.precision == precision


def test_overflow_of_halves_is_seen() -> None:
    """65520 and more are infinite in float16, as anywhere."""
    g = geometry(*next((s, t) for s, t in SHAPES if s["n"] == 128 and s["k"] == 1))
    x, weights, biases = arrays(g)
    x[0, 0, 0, 0] = 1e5
    assert not np.isfinite(run(KernelsFused("float16"), get_backend("emulated"), g, (x, weights, biases))).all()
    assert np.isfinite(run(KernelsFused("tf32"), get_backend("emulated"), g, (x, weights, biases))).all()


def test_rounding_of_the_emulated_units(tmp_path: Any) -> None:
    """Halves and tf32 are NumPy's and the definition's, at ties, limits and subnormals, too."""
    rng = np.random.default_rng(0)
    values = np.concatenate([
        rng.standard_normal(3000) * 10.0 ** rng.integers(-9, 6, 3000),
        [0.0, -0.0, 65504, 65519.9, 65520, 2.0**-24, 2.0**-25, 1.5 * 2.0**-25, 2.0**-14, 2.0**-14 * (1 - 2.0**-11)],
        1 + np.arange(64) * 2.0**-12,
        np.nextafter(1 + np.arange(64) * 2.0**-12, 2),
        [np.inf, -np.inf],
    ]).astype(np.float32)  # fmt: skip
    halves = np.empty(-(-values.size // 2), np.uint32)
    emulation.function("fused_convolution", "fused_convolution_halves")(
        (4,), (256,), (values, halves, np.int64(values.size))
    )
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16)
    assert halves.view(np.uint16)[: values.size].tobytes() == expected.tobytes()
    out = np.empty((1, 1, 1, values.size), np.float32)
    sizes = (np.int64(values.size), np.int64(1), np.int64(values.size), np.int64(9), np.int64(9))
    null = np.uintp(0)
    emulation.function("fused_convolution", "fused_convolution_finish")((4,), (256,), (halves, null, null, out, *sizes))
    assert out.tobytes() == expected.astype(np.float32).tobytes()


@pytest.mark.parametrize(
    ("device", "options", "message"),
    [
        ("cpu", {"precision": "tf32"}, r"precision='tf32' is for devices gpu and emulated, this one is 'cpu'"),
        ("reference", {"precision": "float16"}, r"precision='float16' is for devices gpu and emulated"),
        ("cpu", {"convolution": "cudnn"}, r"convolution='cudnn' is for device gpu, this one is 'cpu'"),
        ("emulated", {"precision": "int8"}, r"unknown precision 'int8': expected one of float32, tf32, float16"),
        ("emulated", {"convolution": "cublas"}, r"convolution='cublas': device 'emulated' has our own kernels only"),
        ("emulated", {"convolution": "mkl"}, r"convolution='mkl': expected one of cudnn, cublas, kernels"),
    ],
)
def test_options_that_cannot_be(device: str, options: dict[str, str], message: str) -> None:
    if device == "emulated" and not emulation.available()[0]:
        pytest.skip("no compiler")
    with pytest.raises(DeviceError, match=message):
        get_backend(device, **options)


def test_load_names_the_option() -> None:
    with pytest.raises(DeviceError, match="precision='tf32' is for devices gpu and emulated, this one is 'cpu'"):
        darkbn.load(TWO_HEADS, precision="tf32")
    net = darkbn.load(TWO_HEADS)
    layers = net.layers
    with pytest.raises(DeviceError, match="precision='float16'"):
        net.to("reference", "float16")
    assert net.layers is layers


def test_packed_parameters_of_another_size_are_refused() -> None:
    g = GEOMETRIES[0]
    _, weights, biases = arrays(g)
    fused, backend = KernelsFused("tf32"), get_backend("emulated")
    with pytest.raises(ShapeError, match=r"packed must have \d+ floats, found 7"):
        fused.pack(weights, biases, backend.empty((7,)), g.groups, 1)


def test_the_default_is_the_same_backend() -> None:
    assert get_backend("cpu", "float32") is get_backend("cpu") is backends.get_backend("cpu")
    assert get_backend("cpu").precision == "float32"
    assert get_backend("reference").precision == "float64"
