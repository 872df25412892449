"""Who computes convolutions: cuDNN, cuBLAS or our own kernels; in which precision.

`cudnn` needs the package nvidia-cudnn-frontend (extra cudnn), `cublas` comes with CuPy, `kernels` are always there, and
the only ones in emulation. The first that works is taken unless one is asked for: by `get_backend(name,
convolution=...)`, or by DARKBN_GPU_CONVOLUTION in the environment. What a library does not take (groups of few filters,
padding that differs between sides, a shape that it declines) our kernels compute.

Precision is that of convolutions in plans (`predict`, `detect`, `classify`, `compile`): "float32"; "tf32": operands
rounded to 10 bits of mantissa; "float16": to halves. Sums are floats, and so are all maps in memory, but for the
halves of cuDNN. Layer by layer (`forward`, training) everything is float32.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

from darkbn.errors import DeviceError
from darkbn.signature import Array
from darkbn_gpu import convolution, fused_convolution, product
from darkbn_gpu.fused_convolution import Fused
from darkbn_gpu.library import Library
from darkbn_gpu.product import LINEAR, TILED, Geometry, checked_room, finish, put_biases, weights_start

log = logging.getLogger(__name__)

#: In the order in which they are tried.
PROVIDERS = ("cudnn", "cublas", "kernels")

PRECISIONS = ("float32", "tf32", "float16")

#: Names the provider to take.
VARIABLE = "DARKBN_GPU_CONVOLUTION"


class Convolutions:
    """The convolution families of a backend.

    Attributes:
        provider: one of PROVIDERS.
        precision: one of PRECISIONS.
        passed_over: why the providers before it are not used.
    """

    def __init__(self, library: Library | None, precision: str, passed_over: dict[str, str] | None = None) -> None:
        self.library, self.precision = library, precision
        self.provider = library.name if library else "kernels"
        self.passed_over = passed_over or {}

    def family(self, name: str) -> Any:
        """The functions of "convolution" or "fused_convolution"."""
        if self.library is not None:
            own: type[Any] = LibraryConvolution if name == "convolution" else LibraryFused
            return own(self.library, self.precision)
        modules: dict[str, ModuleType] = {"convolution": convolution, "fused_convolution": fused_convolution}
        if name == "convolution" or self.precision == "float32":
            return modules[name]
        return KernelsFused(self.precision)

    def __repr__(self) -> str:
        return f"convolutions: {self.provider}, {self.precision}"


def available_providers(xp: Any) -> dict[str, str]:
    """Each provider with its version, or why it cannot be used ("not available: ...")."""
    found = {}
    for name in PROVIDERS:
        try:
            library = _open(name, xp)
            found[name] = "always there" if library is None else library.version
        except DeviceError as error:
            found[name] = f"not available: {error}"
    return found


def choose(device: str, xp: Any, precision: str, wanted: str | None) -> Convolutions:
    """The convolutions of a device.

    Args:
        device: "gpu" or "emulated".
        xp: its array module.
        precision: one of PRECISIONS.
        wanted: one of PROVIDERS; None: what DARKBN_GPU_CONVOLUTION says, else the first that works.

    Raises:
        DeviceError: an unknown name, or one that does not work here, with the reason.
    """
    asked = wanted or os.environ.get(VARIABLE) or None
    if precision not in PRECISIONS:
        raise DeviceError(f"unknown precision {precision!r}: expected one of {', '.join(PRECISIONS)}")
    if asked is not None and asked not in PROVIDERS:
        source = "convolution" if wanted else VARIABLE
        raise DeviceError(f"{source}={asked!r}: expected one of {', '.join(PROVIDERS)}")
    if device == "emulated":
        if wanted not in (None, "kernels"):
            raise DeviceError(f"convolution={wanted!r}: device 'emulated' has our own kernels only")
        return Convolutions(None, precision)
    _require_units(xp, precision)
    passed_over: dict[str, str] = {}
    for name in (asked,) if asked else PROVIDERS:
        try:
            chosen = Convolutions(_open(name, xp), precision, passed_over)
        except DeviceError as error:
            if asked:
                raise DeviceError(f"convolution={asked!r}: {error}") from error
            passed_over[name] = str(error)
            continue
        log.info("%r%s", chosen, "".join(f"; {other}: {why}" for other, why in passed_over.items()))
        return chosen
    raise AssertionError("kernels are always there")


def _open(name: str, xp: Any) -> Library | None:
    """The library of that name; None: our kernels. Raises DeviceError when it cannot be used."""
    if name == "kernels":
        return None
    if name == "cudnn":
        from darkbn_gpu.cudnn import Cudnn

        return Cudnn.open(xp)
    from darkbn_gpu.cublas import Cublas

    return Cublas.open(xp)


def _require_units(xp: Any, precision: str) -> None:
    """Raise DeviceError where the device cannot multiply in that precision."""
    if precision == "float32":
        return
    least = 80 if precision == "tf32" else 75
    found = int(xp.cuda.Device().compute_capability)
    if found < least:
        raise DeviceError(
            f"precision {precision!r} needs compute capability {least // 10}.{least % 10},"
            f" this device has {found // 10}.{found % 10}"
        )


class KernelsFused:
    """The family fused_convolution by our kernels in lower precision."""

    def __init__(self, precision: str) -> None:
        self._fused = Fused(precision)

    def packed_size(self, n: int, cg: int, k: int, groups: int) -> int:
        return self._fused.packed_size(n, cg, k, groups)

    def pack(self, weights: Array, biases: Array | None, packed: Array, groups: int, threads: int) -> None:
        self._fused.pack(weights, biases, packed, groups, threads)

    def forward_workspace(self, *sizes: int) -> int:
        """Of the contract's arguments: activations and threads are the last."""
        return self._fused.forward_workspace(Geometry(*sizes[:-3]))

    def forward(
        self, x: Array, packed: Array, residual: Array | None, out: Array, workspace: Array | None, *scalars: int
    ) -> None:
        """k, steps, activation, residual_activation and threads follow the arrays, as in the contract."""
        g, activations = _fused_arguments(x, out, scalars)
        self._fused.forward(g, x, packed, residual, out, workspace, activations)


def _fused_arguments(x: Array, out: Array, scalars: tuple[int, ...]) -> tuple[Geometry, tuple[int, int]]:
    k, *steps, activation, residual_activation, _ = scalars
    (b, c, h, w), (_, n, oh, ow) = x.shape, out.shape
    g = Geometry(b, c, h, w, n, k, oh, ow, *steps)
    g.check("fused_convolution.forward", c // max(g.groups, 1))
    return g, (activation, residual_activation)


class LibraryConvolution:
    """The family convolution: a library where it takes the shape, else our kernels. Always float32."""

    def __init__(self, library: Library, precision: str) -> None:
        self._library = library
        for name in ("im2col", "col2im"):
            setattr(self, name, getattr(convolution, name))

    def _workspace(self, kernel: str, sizes: tuple[int, ...]) -> int:
        *geometry, _, _ = sizes  # algorithm, threads
        g = Geometry(*geometry)
        if _is_taken(self._library, kernel, g, "float32"):
            return self._library.workspace(kernel, g, "float32")
        return int(getattr(convolution, f"{kernel}_workspace")(*sizes))

    def forward_workspace(self, *sizes: int) -> int:
        return self._workspace("forward", sizes)

    def backward_weights_workspace(self, *sizes: int) -> int:
        return self._workspace("backward_weights", sizes)

    def backward_input_workspace(self, *sizes: int) -> int:
        return self._workspace("backward_input", sizes)

    def forward(
        self, x: Array, weights: Array, biases: Array | None, out: Array, workspace: Array | None, *steps: int
    ) -> None:
        g = _checked("forward", x, weights, out, steps)
        if not _is_taken(self._library, "forward", g, "float32"):
            convolution.forward(x, weights, biases, out, workspace, *steps)
            return
        self._library.forward(g, x, weights, out, workspace, "float32")
        if biases is not None:
            finish(out, biases, None, out, 1, (LINEAR, LINEAR))

    def backward_weights(
        self, x: Array, delta: Array, weight_updates: Array, workspace: Array | None, *steps: int
    ) -> None:
        g = _checked("backward_weights", x, weight_updates, delta, steps)
        own: Callable[..., None] = convolution.backward_weights
        if _is_taken(self._library, "backward_weights", g, "float32"):
            self._library.backward_weights(g, x, delta, weight_updates, workspace)
        else:
            own(x, delta, weight_updates, workspace, *steps)

    def backward_input(
        self, weights: Array, delta: Array, input_delta: Array, workspace: Array | None, *steps: int
    ) -> None:
        g = _checked("backward_input", input_delta, weights, delta, steps)
        own: Callable[..., None] = convolution.backward_input
        if _is_taken(self._library, "backward_input", g, "float32"):
            self._library.backward_input(g, weights, delta, input_delta, workspace)
        else:
            own(weights, delta, input_delta, workspace, *steps)


def _checked(kernel: str, x: Array, weights: Array, out: Array, steps: tuple[int, ...]) -> Geometry:
    *geometry, algorithm, _ = steps
    (b, c, h, w), (n, cg, k, _), (_, _, oh, ow) = x.shape, weights.shape, out.shape
    g = Geometry(b, c, h, w, n, k, oh, ow, *geometry)
    g.check(f"convolution.{kernel}", cg, algorithm)
    return g


def _is_taken(library: Library, kernel: str, g: Geometry, precision: str) -> bool:
    """Whether a library computes that; never what is empty, or groups too small for a matrix product."""
    whole = min(g.b, g.n, g.oh, g.ow, g.c, g.h, g.w) > 0
    return whole and min(g.ng, g.cg * g.taps) >= TILED and library.supports(kernel, g, precision)


class LibraryFused:
    """The family fused_convolution: a library where it takes the shape, else our kernels in float32.

    Packed parameters: biases, weights as they are, and what the library wants besides.
    """

    def __init__(self, library: Library, precision: str) -> None:
        self._library, self._precision = library, precision

    def packed_size(self, n: int, cg: int, k: int, groups: int) -> int:
        return weights_start(n) + n * cg * k * k + self._library.extra_floats(n * cg * k * k, self._precision)

    def pack(self, weights: Array, biases: Array | None, packed: Array, groups: int, threads: int) -> None:
        start = put_biases(weights.shape[0], biases, packed)
        packed[start : start + weights.size] = weights.reshape(-1)
        self._library.pack_extra(weights, packed[start + weights.size :], self._precision)

    def forward_workspace(self, *sizes: int) -> int:
        *geometry, activation, _, _ = sizes
        g = Geometry(*geometry)
        if _is_taken(self._library, "forward", g, self._precision):
            return self._library.fused_workspace(g, self._precision, activation)
        return product.forward_floats(g)

    def forward(
        self, x: Array, packed: Array, residual: Array | None, out: Array, workspace: Array | None, *scalars: int
    ) -> None:
        g, activations = _fused_arguments(x, out, scalars)
        start, count = weights_start(g.n), g.n * g.cg * g.taps
        biases, weights = packed[: g.n], packed[start : start + count].reshape(g.n, g.cg, g.k, g.k)
        if _is_taken(self._library, "forward", g, self._precision):
            extra = packed[start + count :]
            ends = (biases, residual, activations)
            self._library.fused(g, x, weights, extra, out, workspace, self._precision, *ends)
            return
        checked_room("fused_convolution.forward", workspace, product.forward_floats(g))
        product.forward(g, x, weights, biases, residual, out, workspace, activations)
