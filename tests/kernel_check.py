"""Runs a kernel on a case and says what is wrong with it: the checks that a kernel's contract promises.

Every array lies between poisoned guard bands; `in` arrays must keep their bits, `out` arrays must be written
whole, the result must be bitwise the same for every number of threads and close to the float64 reference.
"""

from __future__ import annotations

import inspect
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from backends import OnDevice, in_turn
from cases import KernelCase

from darkbn.backend import Backend, reference_family
from darkbn.signature import ArraySpec, Kernel, array_specs

#: Numbers of threads that must all give the same bits.
THREADS = (1, 2, 3)

# Elements. Odd, so that arrays are not aligned to vectors; long, so that a kernel that goes a block too far lands here.
# DARKBN_GUARD=0 leaves the watch to an address sanitizer, which also sees what is read there.
GUARD = int(os.environ.get("DARKBN_GUARD", "131"))

# The GPU's kernels do something else with aligned arrays: their rows are run with these guards, too.
ALIGNED_GUARD = GUARD and 132

# Bit patterns of prefilled outputs and guards, by item size. Floats are NaNs with payloads that nothing computes.
POISONS: tuple[dict[int, int], ...] = (
    {8: 0x7FF8DEADBEEF1234, 4: 0x7FC5A5A5, 2: 0x5A5A, 1: 0xA5},
    {8: 0x7FF8C0FFEE123456, 4: 0x7FC3C3C3, 2: 0x3C3C, 1: 0x3C},
)

# Poison of integer arrays. Small, since an index read from a guard should go wrong in a test, not crash it.
INTEGER_POISONS = (-77, -78)

#: Arrays whose contents are a backend's own affair: room to work in, and what the family's `pack` made for itself.
OPAQUE = ("workspace", "packed")


def bits(array: np.ndarray) -> np.ndarray:
    """The array's bytes as unsigned integers."""
    return array.view(f"u{array.itemsize}")


def poison(dtype: np.dtype, which: int) -> np.generic:
    """The value that fills guards and outputs."""
    if dtype.kind == "i":
        return dtype.type(INTEGER_POISONS[which])
    return np.array(POISONS[which][dtype.itemsize], f"u{dtype.itemsize}").view(dtype)[()]


class Guarded:
    """An array between two guard bands, and what it held at first."""

    def __init__(
        self, values: np.ndarray | None, shape: tuple[int, ...], dtype: str, which: int, guard: int = GUARD
    ) -> None:
        size = int(np.prod(shape))
        self.guard = guard
        self.buffer = np.full(size + 2 * guard, poison(np.dtype(dtype), which), dtype)
        self.array = self.buffer[guard : guard + size].reshape(shape)
        if values is not None:
            self.array[...] = values
        self.start = self.buffer.copy()

    def overrun(self) -> str:
        """Which guard was written to; empty when none."""
        changed = bits(self.buffer) != bits(self.start)
        sides = {"before": changed[: self.guard], "beyond": changed[len(changed) - self.guard :]}
        return " and ".join(side for side, found in sides.items() if found.any())

    def changed(self) -> bool:
        return not np.array_equal(bits(self.buffer), bits(self.start))


@dataclass
class Call:
    """Arguments of one call, ready to be made and looked at."""

    case: KernelCase
    specs: dict[str, ArraySpec]
    guarded: dict[str, Guarded]
    arguments: dict[str, Any]

    def written(self) -> dict[str, np.ndarray]:
        """The arrays whose contents are a result."""
        return {n: g.array for n, g in self.guarded.items() if self.specs[n].writes and n != "workspace"}


def fill_values(case: KernelCase, spec: ArraySpec, shape: tuple[int, ...]) -> np.ndarray:
    """The values of an `in` or `io` array, the same on every backend: floats are rounded to float32."""
    rng = np.random.default_rng([zlib.crc32(case.kernel.encode()), zlib.crc32(spec.name.encode())])
    if spec.name in case.fill:
        values = np.asarray(case.fill[spec.name](rng, shape))
        assert values.shape == shape, f"fill of {spec.name} made {values.shape}, wanted {shape}"
    elif spec.dtype and np.dtype(spec.dtype).kind in "iu":
        values = np.zeros(shape, spec.dtype)
    else:
        values = rng.standard_normal(shape)
    return values.astype(np.float32) if spec.dtype is None else values


def shape_of(spec: ArraySpec, sizes: Mapping[str, int | tuple[int, ...]]) -> tuple[int, ...]:
    """The shape that the symbols' values give."""
    shape: list[int] = []
    for dim in spec.dims:
        if dim.isdigit():
            shape.append(int(dim))
            continue
        value = sizes[dim] if dim in sizes else sizes[dim.removeprefix("*")]
        shape.extend(value if isinstance(value, tuple) else (value,))
    return tuple(shape)


def workspace_sizes(case: KernelCase, family: Any, spec: ArraySpec, threads: int) -> dict[str, int]:
    """The workspace's symbol and the size that `<function>_workspace` asks for."""
    needed = getattr(family, f"{case.function}_workspace")
    values = {**case.sizes, **case.scalars, "threads": threads}
    names = inspect.signature(getattr(reference_family(case.family), needed.__name__)).parameters
    return {spec.dims[0]: needed(*[values[name] for name in names])}


def packed_array(case: KernelCase, family: Any, dtype: str) -> np.ndarray:
    """What the family's `pack` makes of weights, and of biases unless the case has none."""
    values = {**case.sizes, **case.scalars}
    reference = reference_family(case.family)
    names = inspect.signature(reference.packed_size).parameters
    packed = np.empty(family.packed_size(*[values[name] for name in names]), dtype)
    specs = array_specs(reference.pack)
    arrays = {
        name: None
        if name in case.none
        else fill_values(case, specs[name], shape_of(specs[name], case.sizes)).astype(dtype)
        for name in ("weights", "biases")
    }
    names = inspect.signature(reference.pack).parameters
    family.pack(*[{**values, **arrays, "packed": packed, "threads": 1}[name] for name in names])
    return packed


def prepare(
    case: KernelCase, reference: Kernel, family: Any, dtype: str, threads: int, which: int = 0, guard: int = GUARD
) -> Call:
    """Arguments for the kernel of one backend.

    Args:
        case: the row.
        reference: the function whose annotations are the contract.
        family: the backend's functions; asked for the size of the workspace.
        dtype: the backend's float type.
        threads: number of threads.
        which: which poison is used.
        guard: elements of a guard band.
    """
    specs = array_specs(reference)
    guarded: dict[str, Guarded] = {}
    for name, spec in specs.items():
        if name in case.none:
            continue
        sizes = dict(case.sizes)
        if name == "workspace":
            sizes.update(workspace_sizes(case, family, spec, threads))
        packed = packed_array(case, family, dtype) if name == "packed" else None
        if packed is not None:
            sizes[spec.dims[0]] = packed.size
        shape = shape_of(spec, sizes)
        unset = spec.direction == "out" or name == "workspace"
        values = None if unset else fill_values(case, spec, shape) if packed is None else packed
        guarded[name] = Guarded(values, shape, spec.dtype or dtype, which, guard)
    arrays = {name: guarded[name].array if name in guarded else None for name in specs}
    arguments = {**case.scalars, **arrays, "threads": threads}
    names = list(inspect.signature(reference).parameters)
    assert set(arguments) == set(names), f"{case}: gives {sorted(arguments)}, the kernel takes {names}"
    return Call(case, specs, guarded, {name: arguments[name] for name in names})


def run(call: Call, kernel: Kernel) -> dict[str, np.ndarray]:
    """Call the kernel and check what it touched. Returns the written arrays and the returned value."""
    returned = kernel(*call.arguments.values())
    for name, guarded in call.guarded.items():
        overrun = guarded.overrun()
        assert not overrun, f"{call.case}: writes {overrun} {name}"
        if call.specs[name].direction == "in":
            assert not guarded.changed(), f"{call.case}: modifies its input {name}"
    results = {name: array.copy() for name, array in call.written().items()}
    if returned is not None:
        results["return"] = np.asarray(returned)
    return results


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Bitwise equality; any NaN equals any NaN, since their payloads mean nothing."""
    different = bits(a) != bits(b)
    if a.dtype.kind == "f":
        different &= ~(np.isnan(a) & np.isnan(b))
    return not different.any()


def error(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference over the largest expected magnitude; infinite where NaN or infinity differ."""
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(expected)
    if not np.array_equal(np.isfinite(found), finite):
        return np.inf
    if not np.array_equal(found[~finite], expected[~finite], equal_nan=True):
        return np.inf
    difference = np.abs(found[finite] - expected[finite]).max(initial=0.0)
    scale = np.abs(expected[finite]).max(initial=0.0)
    return 0.0 if difference == 0 else float(difference / scale) if scale else np.inf


def expected_results(case: KernelCase, reference: Kernel, family: Any) -> dict[str, np.ndarray]:
    """What the float64 reference makes of the case."""
    return run(prepare(case, reference, family, "float64", threads=1), reference)


def check_kernel(
    case: KernelCase,
    reference: Kernel,
    kernel: Kernel,
    dtype: str,
    expected: dict[str, np.ndarray],
    family: Any = None,
    guard: int = GUARD,
) -> None:
    """Raise AssertionError, saying what is wrong, unless the kernel keeps its contract on this case."""
    family = family or SimpleNamespace()
    runs = []
    for turn, threads in enumerate(THREADS):
        call = prepare(case, reference, family, dtype, threads, which=turn % 2, guard=guard)
        runs.append(run(call, kernel))
    for name, spec in array_specs(reference).items():
        if spec.direction == "out" and name in runs[0]:
            check_written(case, name, runs[0][name], runs[1][name])
    for threads, results in zip(THREADS[1:], runs[1:], strict=True):
        for name, value in results.items():
            same = same_bits(value, runs[0][name])
            assert same, f"{case}: {name} depends on threads ({threads}) or on unset memory"
    assert runs[0].keys() == expected.keys(), f"{case}: makes {sorted(runs[0])}, reference {sorted(expected)}"
    for name in runs[0].keys() - set(OPAQUE):
        check_close(case, name, runs[0][name], expected[name])


def check_written(case: KernelCase, name: str, first: np.ndarray, second: np.ndarray) -> None:
    """Each element must differ from its poison in one of two runs with different poisons."""
    kept = [bits(a) == bits(np.asarray(poison(a.dtype, which))) for which, a in enumerate((first, second))]
    unwritten = np.argwhere(kept[0] & kept[1])
    assert not len(unwritten), f"{case}: {name} is not fully written, first at {tuple(unwritten[0].tolist())}"


def check_close(case: KernelCase, name: str, value: np.ndarray, expected: np.ndarray) -> None:
    if value.dtype.kind in "iu":
        assert np.array_equal(value, expected), f"{case}: {name} differs from the reference"
        return
    found = error(value, expected)
    allowed = case.tolerance
    assert found <= allowed, f"{case}: {name} is {found:.3g} from the reference, allowed {allowed:.3g}"


def check_backend(case: KernelCase, backend: Backend) -> None:
    """Check the kernel of a backend on this case."""
    reference_module = reference_family(case.family)
    reference = getattr(reference_module, case.function)
    family = getattr(backend, case.family)
    if backend.name == "gpu":
        family = OnDevice(family)
    kernel = getattr(family, case.function)
    expected = expected_results(case, reference, reference_module)
    if backend.name in ("gpu", "emulated"):
        kernel = kernel if backend.name == "gpu" else in_turn(kernel)
        check_kernel(case, reference, kernel, backend.dtype, expected, family, ALIGNED_GUARD)
    check_kernel(case, reference, kernel, backend.dtype, expected, family)


def defects(call: Call) -> Iterator[tuple[str, dict[str, Any]]]:
    """Calls that must be refused: a description of what is wrong with one argument, and all arguments."""
    shared = [dim for spec in call.specs.values() if spec.name in call.guarded for dim in spec.dims]
    for name, spec in call.specs.items():
        if not spec.optional:
            yield f"{name} is None", {**call.arguments, name: None}
        if name not in call.guarded:
            continue
        for what, array in array_defects(spec, call.guarded[name].array, shared):
            yield f"{name} {what}", {**call.arguments, name: array}


def array_defects(spec: ArraySpec, array: np.ndarray, shared: list[str]) -> Iterator[tuple[str, Any]]:
    """Arrays that do not fit the contract in one way each."""
    yield "is a list", array.tolist()
    yield "has another dtype", array.astype(np.complex64)
    starred = bool(spec.dims) and spec.dims[-1].startswith("*")
    if not starred:
        yield "has an axis too many", array[np.newaxis]
    if len(spec.dims) > starred:
        yield "has no axes", np.zeros((), array.dtype)
    for axis, dim in enumerate(spec.dims):
        if dim.isdigit() or (shared.count(dim) > 1 and not dim.startswith("*")):
            shape = tuple(size + (i == axis) for i, size in enumerate(array.shape))
            yield f"is longer in axis {axis}", np.zeros(shape, array.dtype)
    if starred and shared.count(spec.dims[-1]) > 1:
        yield "has an axis too many", array[..., np.newaxis]
    if array.ndim and array.size > 1:
        doubled = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)[..., ::2]
        if not doubled.flags.c_contiguous:
            yield "is not contiguous", doubled
    if spec.writes:
        fixed = array.view()
        fixed.flags.writeable = False
        yield "is read-only", fixed
