"""Every kernel of every backend on every row of the table, and the checks themselves on wrong kernels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
import pytest
from backends import EVERY_BACKEND, backends_with, has_family
from cases import KernelCase, kernel_cases
from kernel_check import OPAQUE, check_backend, check_kernel, defects, expected_results, fill_values, prepare, shape_of

from darkbn.backend import families, get_backend, reference_family
from darkbn.errors import DtypeError, ShapeError
from darkbn.signature import Array, Kernel, array_specs, kernel_names

KERNELS = [
    f"{family}.{name}"
    for family in families()
    for name in kernel_names(reference_family(family))
    if array_specs(getattr(reference_family(family), name))
]


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("case", kernel_cases(), ids=str)
def test_kernel(case: KernelCase, backend: str) -> None:
    if not has_family(backend, case.family):
        pytest.skip("a family of other devices")
    check_backend(case, get_backend(backend))


def test_every_kernel_has_rows() -> None:
    with_rows = {case.kernel for case in kernel_cases()}
    assert not sorted(set(KERNELS) - with_rows), "kernels without a row in tests/cases_<family>.py"
    assert not sorted(with_rows - set(KERNELS)), "rows of kernels that do not exist"


@pytest.mark.parametrize("kernel", KERNELS)
def test_rows_vary_every_argument(kernel: str) -> None:
    """No kernel can pass that ignores an argument: its rows have several values of each, and arrays with contents."""
    rows = [case for case in kernel_cases() if case.kernel == kernel]
    specs = array_specs(getattr(reference_family(rows[0].family), rows[0].function))
    symbols = {dim.removeprefix("*") for spec in specs.values() for dim in spec.dims if spec.name not in OPAQUE}
    names = {*rows[0].scalars, *(symbols & rows[0].sizes.keys())}
    values = {name: {repr({**case.scalars, **case.sizes}[name]) for case in rows} for name in names}
    assert {name: found for name, found in values.items() if len(found) == 1} == {}, f"{kernel}: the same in all rows"
    for name, spec in specs.items():
        given = [case for case in rows if name not in case.none]
        assert given, f"{kernel}: no row gives {name}"
        may_be_none = spec.optional and name != "workspace"
        assert not may_be_none or len(given) < len(rows), f"{kernel}: no row has {name}=None"
        if spec.direction != "out" and name not in OPAQUE:
            contents = (fill_values(case, spec, shape_of(spec, case.sizes)) for case in given)
            assert any(len(np.unique(array)) > 1 for array in contents), f"{kernel}: {name} is constant in all rows"


def refusal(kernel: Kernel, arguments: dict[str, Any]) -> Exception | None:
    """The error about its arguments that a call ends with."""
    try:
        kernel(*arguments.values())
    except (DtypeError, ShapeError) as error:
        return error
    return None


@pytest.mark.parametrize("kernel", KERNELS)
def test_bad_arguments_are_refused_alike(kernel: str) -> None:
    """Each defect raises the same exception on every backend, and nothing is written."""
    rows = [case for case in kernel_cases() if case.kernel == kernel]
    case = min(rows, key=lambda row: len(row.none), default=None)
    assert case is not None, "no row"
    reference = getattr(reference_family(case.family), case.function)
    raised: dict[str, set[type]] = {}
    for name in backends_with(case.family):
        backend = get_backend(name)
        family = getattr(backend, case.family)
        call = prepare(case, reference, family, backend.dtype, threads=1)
        for what, arguments in defects(call):
            error = refusal(getattr(family, case.function), arguments)
            assert error is not None, f"{name}: {kernel} is called although {what}"
            assert kernel in str(error)
            changed = [array for array, guarded in call.guarded.items() if guarded.changed()]
            assert not changed, f"{name}: {kernel} writes {changed} although {what}"
            raised.setdefault(what, set()).add(type(error))
    assert raised
    assert {what: types for what, types in raised.items() if len(types) > 1} == {}


# A kernel and wrong versions of it: what the runner is worth.


def scan(
    x: Annotated[Array, "in b n"],
    total: Annotated[Array, "io b"],
    out: Annotated[Array, "out b n"],
    index: Annotated[Array, "out:int32 b"],
    workspace: Annotated[Array, "io w"],
    scale: float,
    threads: int,
) -> None:
    """Something that has every kind of array."""
    workspace[: x.shape[1]] = x[-1]
    np.multiply(x, scale, out=out)
    total += x.sum(axis=1, dtype=np.float64)
    index[:] = x.argmax(axis=1)


def scan_workspace(n: int, threads: int) -> int:
    return n * threads


def off_by_one_element(x, total, out, index, workspace, scale, threads):
    scan(x, total, out, index, workspace, scale, threads)
    out[:, :-1] = out[:, 1:].copy()


def slightly_off(x, total, out, index, workspace, scale, threads):
    scan(x, total, out, index, workspace, scale * (1 + 1e-5), threads)


def unscaled(x, total, out, index, workspace, scale, threads):
    scan(x, total, out, index, workspace, 1.0, threads)


def wrong_index(x, total, out, index, workspace, scale, threads):
    scan(x, total, out, index, workspace, scale, threads)
    index[-1] = (index[-1] + 1) % x.shape[1]


def overwrites_instead_of_adding(x, total, out, index, workspace, scale, threads):
    total[:] = 0
    scan(x, total, out, index, workspace, scale, threads)


def at(array, element):
    """A one-element view of what lies that many elements from the start of the array."""
    address = array.__array_interface__["data"][0] - array.base.__array_interface__["data"][0]
    start = address // array.itemsize + element
    return array.base[start : start + 1]


def writes_beyond(x, total, out, index, workspace, scale, threads):
    scan(x, total, out, index, workspace, scale, threads)
    at(out, out.size)[:] = 0


def writes_before(x, total, out, index, workspace, scale, threads):
    scan(x, total, out, index, workspace, scale, threads)
    at(total, -1)[:] = 0


def writes_beyond_its_workspace(x, total, out, index, workspace, scale, threads):
    scan(x, total, out, index, workspace, scale, threads)
    at(workspace, workspace.size)[:] = 0


def reads_beyond(x, total, out, index, workspace, scale, threads):
    scan(x, total, out, index, workspace, scale, threads)
    total[-1] += 0 * at(x, x.size)[0]


def leaves_the_last(x, total, out, index, workspace, scale, threads):
    last = out[-1, -1]
    scan(x, total, out, index, workspace, scale, threads)
    out[-1, -1] = last


def leaves_an_index(x, total, out, index, workspace, scale, threads):
    last = index[-1]
    scan(x, total, out, index, workspace, scale, threads)
    index[-1] = last


def modifies_its_input(x, total, out, index, workspace, scale, threads):
    scan(x, total, out, index, workspace, scale, threads)
    x[0, 0] = 0


def depends_on_threads(x, total, out, index, workspace, scale, threads):
    scan(x, total, out, index, workspace, scale, threads)
    if threads == 3:
        total[0] = np.nextafter(total[0], np.inf, dtype=total.dtype)


def uses_its_workspace(x, total, out, index, workspace, scale, threads):
    total[0] += 0 * workspace[0]
    scan(x, total, out, index, workspace, scale, threads)


MUTANTS = {
    off_by_one_element: "out is .* from the reference",
    slightly_off: "out is .* from the reference",
    unscaled: "out is .* from the reference",
    wrong_index: "index differs from the reference",
    overwrites_instead_of_adding: "total is .* from the reference",
    writes_beyond: "writes beyond out",
    writes_before: "writes before total",
    writes_beyond_its_workspace: "writes beyond workspace",
    reads_beyond: "total is inf from the reference",
    leaves_the_last: r"out is not fully written, first at \(2, 4\)",
    leaves_an_index: "index is not fully written",
    modifies_its_input: "modifies its input x",
    depends_on_threads: r"total depends on threads \(3\)",
    uses_its_workspace: "total is inf from the reference",
}

SCAN_CASE = KernelCase("scan.scan", {"b": 3, "n": 5}, {"scale": 1.5})


def check_scan(kernel: Kernel, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family = SimpleNamespace(scan=scan, scan_workspace=scan_workspace)
    monkeypatch.setattr("kernel_check.reference_family", lambda name: family)
    expected = expected_results(SCAN_CASE, scan, family)
    check_kernel(SCAN_CASE, scan, kernel, dtype, expected, family)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_right_kernel_passes(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_scan(scan, dtype, monkeypatch)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_wrong_kernel_is_caught(mutant: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match=MUTANTS[mutant]):
        check_scan(mutant, "float32", monkeypatch)
