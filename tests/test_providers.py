"""Convolutions of libraries, on stand-ins for them (tests/vendors.py): the table of cases, plans, choices, errors."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cases import KernelCase, kernel_cases
from cases_convolution import SHAPES
from kernel_check import check_backend
from networks import TWO_HEADS
from test_precision import arrays, convolved, geometry, rounded, run
from vendors import Blas, Dnn

import darkbn
from darkbn.backend import Backend, get_backend, reference_family, to_host
from darkbn.errors import DeviceError, ShapeError
from darkbn.signature import array_specs, check_arrays
from darkbn_gpu import emulation, providers
from darkbn_gpu.cublas import Cublas
from darkbn_gpu.cudnn import Cudnn, is_symmetric, make_graph, refused_notes
from darkbn_gpu.product import Geometry
from darkbn_gpu.providers import Convolutions

pytestmark = pytest.mark.skipif(not emulation.available()[0], reason=emulation.available()[1])


def cublas() -> Cublas:
    return Cublas(Blas(), lambda: 7)


def cudnn(declines: Any = lambda graph: False) -> Cudnn:
    return Cudnn(Dnn(declines), lambda: (0, 11))


def backend(library: Any, precision: str = "float32") -> Backend:
    return Backend("emulated", np, "float32", Convolutions(library, precision))


LIBRARIES = {"cublas": cublas, "cudnn": cudnn}

ROWS = [
    case
    for case in kernel_cases()
    if case.family in ("convolution", "fused_convolution")
    and case.function not in ("im2col", "col2im")
    and not case.scalars.get("algorithm")
]


#: Each library has its own third of the rows: passes and shapes alternate in them.
THIRDS = [(name, case) for start, name in enumerate(LIBRARIES) for case in ROWS[start::3]]


@pytest.mark.parametrize(("library", "case"), THIRDS, ids=str)
def test_kernel(library: str, case: KernelCase) -> None:
    check_backend(case, backend(LIBRARIES[library]()))


def test_rows_reach_the_libraries() -> None:
    """Otherwise the rows above would show our own kernels only."""
    blas, dnn = cublas(), cudnn()
    libraries = {"cublas": blas, "cudnn": dnn}
    for name, case in [(name, case) for name, case in THIRDS if case.sizes.get("n", 0) >= 64]:
        check_backend(case, backend(libraries[name]))
    assert len(blas._blas.calls) > 50
    assert max(blas._blas.calls) > 1
    assert {graph.kernel for graph in dnn._cudnn.built} == {"forward", "backward_weights", "backward_input"}
    assert any(graph.ends for graph in dnn._cudnn.built)


@pytest.mark.parametrize("case", [c for c in ROWS if c.family == "fused_convolution"][2:60:6], ids=str)
def test_what_a_library_declines_is_computed_all_the_same(case: KernelCase) -> None:
    """Without ends, without anything."""
    check_backend(case, backend(cudnn(lambda graph: len(graph.inputs) == 3)))
    check_backend(case, backend(cudnn(lambda graph: True)))


@pytest.mark.parametrize("precision", ["tf32", "float16"])
@pytest.mark.parametrize("g", [geometry(*s) for s in SHAPES if s[0]["n"] >= 64], ids=str)
def test_precision(g: Geometry, precision: str) -> None:
    values = arrays(g)
    x, weights, biases = values
    sums = convolved(g, rounded(x, precision), rounded(weights, precision), biases)
    expected = np.where(sums > 0, sums, 0.1 * sums)
    tolerance = 2e-6 * np.abs(sums).max()
    own = backend(cublas(), precision)
    assert np.abs(run(own.raw.fused_convolution, own, g, values) - expected).max() <= tolerance
    own = backend(cudnn(), precision)
    found = run(own.raw.fused_convolution, own, g, values)
    if precision == "float16":  # sums are halves there
        assert np.abs(found - expected).max() <= 2.0**-10 * np.abs(sums).max()
        assert np.abs(found - expected).max() > tolerance
    residual = np.ones_like(found)
    assert (
        np.abs(run(own.raw.fused_convolution, own, g, values, residual) - found - 1).max() <= 4e-6 * np.abs(sums).max()
    )


def test_plans_are_kept_and_refusals_remembered(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "darkbn_gpu.cudnn")
    library = cudnn(lambda graph: len(graph.inputs) == 3)
    net = darkbn.load(TWO_HEADS, device=backend(library), seed=3)  # type: ignore[arg-type]
    x = np.zeros((1, 3, 16, 16))
    net.predict(x)
    declined, built, runs = len(caplog.records), len(library._cudnn.built), library._cudnn.runs
    assert declined > 0
    assert "no plan" in caplog.records[0].getMessage()
    assert "for this graph" not in caplog.records[0].getMessage()
    for _ in range(2):
        net.predict(x)
    assert (len(caplog.records), len(library._cudnn.built)) == (declined, built)
    assert library._cudnn.runs == 3 * runs > 0


def test_networks_train_with_libraries() -> None:
    """Gradients are added to what is there."""
    nets = [darkbn.load(TWO_HEADS, train=True, device=device, seed=3) for device in ("cpu", *(
        backend(make()) for make in LIBRARIES.values()))]  # type: ignore[arg-type]  # fmt: skip
    rng = np.random.default_rng(5)
    for _ in range(2):
        x, truth = rng.random(nets[0].input_shape), rng.random((nets[0].batch, 450))
        costs = [net.train_step(x, truth) for net in nets]
        np.testing.assert_allclose(costs, costs[0], rtol=1e-4)


def test_another_stream_is_followed() -> None:
    library = cudnn()
    g = geometry(*SHAPES[-1])
    library._cudnn.stream = 5
    library._place = lambda: (0, 5)
    own = backend(library)
    run(own.raw.fused_convolution, own, g, arrays(g))
    assert [handle.stream for handle in library._handles.values()] == [5]


def test_notes() -> None:
    """TF32 only where it was asked for, and never what differs from run to run."""
    assert "TENSOR_CORE" in refused_notes("float32")
    assert "TENSOR_CORE" not in refused_notes("tf32")
    assert all("NONDETERMINISTIC" in refused_notes(name) for name in providers.PRECISIONS)
    graphs = {}
    for precision in ("float32", "tf32"):
        library = cudnn()
        assert library.supports("forward", geometry(*SHAPES[-1]), precision)
        graphs[precision] = library._cudnn.built[0]
    assert set(graphs["float32"].notes) - set(graphs["tf32"].notes) == {"TENSOR_CORE"}


@pytest.mark.parametrize("library", LIBRARIES)
def test_too_little_room_is_refused(library: str) -> None:
    own = backend(LIBRARIES[library]())
    g = geometry(*next(s for s in SHAPES if s[0]["n"] == 64 and s[0]["k"] == 3))
    x, weights, _ = arrays(g)
    delta, steps = own.empty((g.b, g.n, g.oh, g.ow)), (g.groups, g.stride_y, g.stride_x, g.dilation, g.pad, 0, 1)
    for call in (
        lambda: own.convolution.forward(x, weights, None, delta, own.empty((3,)), *steps),
        lambda: own.convolution.backward_weights(x, delta, weights.copy(), own.empty((3,)), *steps),
        lambda: own.convolution.backward_input(weights, delta, x.copy(), own.empty((3,)), *steps),
    ):
        with pytest.raises(ShapeError, match=r"workspace must have at least \d+ floats"):
            call()


# -- choices -----------------------------------------------------------------------------------------------------------


class Device:
    """As much of CuPy as a choice looks at."""

    def __init__(self, capability: str = "90") -> None:
        device = SimpleNamespace(id=0, compute_capability=capability)
        self.cuda = SimpleNamespace(Device=lambda: device, get_current_stream=lambda: SimpleNamespace(ptr=0))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Which libraries there are: those in here; the others say that they are missing."""
    there: dict[str, Any] = {}

    def make(name: str, cls: Any) -> Any:
        def find(xp: Any) -> Any:
            if name not in there:
                raise DeviceError(f"{name} is not installed")
            return there[name]

        return find

    monkeypatch.delenv(providers.VARIABLE, raising=False)
    monkeypatch.setattr(Cudnn, "open", make("cudnn", Cudnn))
    monkeypatch.setattr(Cublas, "open", make("cublas", Cublas))
    return there


def test_the_first_that_works_is_taken(opened: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "darkbn_gpu.providers")
    chosen = providers.choose("gpu", Device(), "float32", None)
    assert chosen.provider == "kernels"
    assert chosen.passed_over == {"cudnn": "cudnn is not installed", "cublas": "cublas is not installed"}
    assert "convolutions: kernels, float32; cudnn: cudnn is not installed" in caplog.text
    opened["cublas"] = cublas()
    assert providers.choose("gpu", Device(), "tf32", None).provider == "cublas"
    opened["cudnn"] = cudnn()
    assert repr(providers.choose("gpu", Device(), "float16", None)) == "convolutions: cudnn, float16"
    found = providers.available_providers(Device())
    assert found["cudnn"] == "cuDNN 9.99.0, frontend 1.32.0"
    assert found["kernels"] == "always there"


def test_asking_for_one(opened: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    opened["cudnn"] = cudnn()
    assert providers.choose("gpu", Device(), "float32", "kernels").provider == "kernels"
    with pytest.raises(DeviceError, match="convolution='cublas': cublas is not installed"):
        providers.choose("gpu", Device(), "float32", "cublas")
    monkeypatch.setenv(providers.VARIABLE, "kernels")
    assert providers.choose("gpu", Device(), "float32", None).provider == "kernels"
    assert providers.choose("gpu", Device(), "float32", "cudnn").provider == "cudnn"
    monkeypatch.setenv(providers.VARIABLE, "best")
    with pytest.raises(DeviceError, match="DARKBN_GPU_CONVOLUTION='best': expected one of cudnn, cublas, kernels"):
        providers.choose("gpu", Device(), "float32", None)


def test_devices_without_the_units(opened: dict[str, Any]) -> None:
    with pytest.raises(DeviceError, match=r"precision 'tf32' needs compute capability 8\.0, this device has 7\.5"):
        providers.choose("gpu", Device("75"), "tf32", None)
    with pytest.raises(DeviceError, match=r"precision 'float16' needs compute capability 7\.5, this device has 6\.1"):
        providers.choose("gpu", Device("61"), "float16", None)
    assert providers.choose("gpu", Device("75"), "float16", None).precision == "float16"


def test_libraries_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cudnn", None)
    with pytest.raises(DeviceError, match=r"nvidia-cudnn-frontend is not installed .*pip install 'darkbn\[cudnn\]'"):
        Cudnn.open(Device())
    broken = SimpleNamespace(
        __version__="1", backend_version_string=lambda: (_ for _ in ()).throw(RuntimeError("none"))
    )
    monkeypatch.setitem(sys.modules, "cudnn", broken)
    with pytest.raises(DeviceError, match="cuDNN cannot be loaded: none"):
        Cudnn.open(Device())
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(DeviceError, match="cuBLAS cannot be used"):
        Cublas.open(Device())


# -- a device that fails -----------------------------------------------------------------------------------------------


def test_errors_of_libraries_are_device_errors() -> None:
    """With the sizes."""
    blas, dnn = cublas(), cudnn()

    def lost(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED")

    g = geometry(*next(s for s in SHAPES if s[0]["n"] == 128 and s[0]["k"] == 1))
    blas._blas.gemmStridedBatchedEx = lost
    with pytest.raises(DeviceError, match=r"cuBLAS: 1 products of 128 x 9 and 9 x 256: CUBLAS_STATUS_EXECUTION_FAILED"):
        run(backend(blas).raw.fused_convolution, backend(blas), g, arrays(g))
    own = backend(dnn)
    assert dnn.supports("forward", g, "float32")
    for activation in (None, 11):
        plan = dnn._plan(type(next(iter(dnn._plans))[1])("forward", g, "float32", activation))
        assert plan is not None
        plan.graph.execute = lost
    with pytest.raises(DeviceError, match=r"cuDNN: .*b=1, c=9, h=16.*CUBLAS_STATUS_EXECUTION_FAILED"):
        run(own.raw.fused_convolution, own, g, arrays(g))


class There:
    """An array on a GPU, as far as checks look at it."""

    __cuda_array_interface__ = None
    dtype, shape = np.dtype("float32"), (2, 3)

    def get(self) -> Any:
        raise RuntimeError("cudaErrorDevicesUnavailable")


def test_arrays_of_another_device_and_a_lost_one() -> None:
    own = get_backend("emulated")
    with pytest.raises(
        DeviceError, match=r"activation.forward: x is an array of \w+, float32\(2, 3\), but this backend's"
    ):
        own.activation.forward(There(), 2, 1)
    gpu = Backend("gpu", SimpleNamespace(ndarray=There, __name__="cupy"), "float32")
    with pytest.raises(
        DeviceError, match=r"x is an array of numpy, float64\(4,\), but this backend's are those of cupy"
    ):
        check_arrays("k", array_specs(reference_family("activation").forward), {"x": np.zeros(4)}, "float32", gpu.xp)
    with pytest.raises(
        DeviceError, match=r"float32 of shape \(2, 3\) cannot be read off the device: cudaErrorDevicesUn"
    ):
        to_host(There())


def test_no_room_for_a_copy_names_sizes() -> None:
    def full(values: Any, dtype: str) -> Any:
        raise MemoryError("out of memory allocating 24 bytes")

    own = Backend("gpu", SimpleNamespace(ascontiguousarray=full), "float32")
    with pytest.raises(DeviceError, match=r"device 'gpu' has no room for float32 of shape \(2, 3\): out of memory"):
        own.array(np.zeros((2, 3)))


# -- the stand-ins beside the libraries --------------------------------------------------------------------------------


def test_cublas_has_these_arguments() -> None:
    real = pytest.importorskip("cupy_backends.cuda.libs.cublas", exc_type=ImportError)
    names = re.findall(r"(\w+)(?:,|\))", real.gemmStridedBatchedEx.__doc__)
    code = Blas.gemmStridedBatchedEx.__code__
    assert names == list(code.co_varnames[1 : code.co_argcount])
    for name in ("CUBLAS_OP_N", "CUBLAS_OP_T", "CUBLAS_COMPUTE_32F", "CUBLAS_COMPUTE_32F_FAST_16F",
                 "CUBLAS_COMPUTE_32F_FAST_TF32"):  # fmt: skip
        assert getattr(real, name) == getattr(Blas, name)


@pytest.mark.parametrize("kernel", ["forward", "backward_weights", "backward_input"])
def test_cudnn_has_these_graphs(kernel: str) -> None:
    """The frontend makes the same nodes, and infers the same sizes, without a device."""
    real = pytest.importorskip("cudnn", exc_type=ImportError)
    for name in ("create_handle", "set_stream", "backend_version_string", "cudnnGraphNotSupportedError"):
        assert hasattr(real, name)
    for name in refused_notes("float32"):
        assert hasattr(real.numerical_note, name)
    for g in [geometry(*s) for s in SHAPES if s[0]["n"] >= 64]:
        for activation in (None, 9, 2, 11, 0, 12, 14) if kernel == "forward" else (None,):
            if not is_symmetric(g):
                continue
            graph, inputs, output = make_graph(real, kernel, g, "float32", activation, None)
            node = graph.nodes[0]
            shapes = [tuple(tensor.dim) for tensor in inputs]
            assert all(list(tensor.stride)[-1] == 1 for tensor in inputs)
            wanted = {"forward": (g.b, g.n, g.oh, g.ow), "backward_weights": (g.n, g.cg, g.k, g.k),
                      "backward_input": (g.b, g.c, g.h, g.w)}[kernel]  # fmt: skip
            assert tuple(output.dim) == wanted
            assert shapes[0] in ((g.b, g.c, g.h, g.w), (g.b, g.n, g.oh, g.ow))
            assert node.params["stride"] == [g.stride_y, g.stride_x]
            assert len(graph.nodes) == 1 + (activation is not None) + (activation not in (None, 9))
