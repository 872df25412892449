"""Reference, CPU kernels, stubs and the GPU's launchers have the same functions with the same parameters."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest
from backends import NOT_ON_CPU, NOT_ON_GPU, ONLY_ON_GPU, backends_with

import darkbn_gpu
from darkbn.backend import families, get_backend, reference_family
from darkbn.signature import array_specs, kernel_names
from darkbn_gpu.modules import names as kernel_files

#: The sources; an installed package has no .pyx.
CPU = Path(__file__).parents[1] / "darkbn" / "cpu"

GPU = Path(darkbn_gpu.__file__).parent

Signatures = dict[str, list[str]]


def reference_signatures(family: str) -> Signatures:
    module = reference_family(family)
    return {name: list(inspect.signature(getattr(module, name)).parameters) for name in kernel_names(module)}


def pyx_signatures(family: str) -> Signatures:
    """Public `def` functions of a .pyx: parameter names without their C types and defaults."""
    source = (CPU / f"{family}.pyx").read_text()
    found = {}
    for name, parameters in re.findall(r"^def (\w+)\(([^)]*)\)", source, re.MULTILINE):
        without_types = re.sub(r"\[[^\]]*\]", "", parameters).split(",")
        found[name] = [p.split("=")[0].split()[-1].lstrip("*") for p in without_types if p.strip()]
    return {name: parameters for name, parameters in found.items() if not name.startswith("_")}


def pyi_signatures(family: str) -> Signatures:
    tree = ast.parse((CPU / f"{family}.pyi").read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {f.name: [a.arg for a in f.args.args] for f in functions if not f.name.startswith("_")}


def test_every_family_has_all_its_files() -> None:
    modules = {path.stem for path in CPU.glob("*.pyx")} - {"simd"}
    stubs = {path.stem for path in CPU.glob("*.pyi")} - {"simd"}
    assert modules == stubs == set(families()) - NOT_ON_CPU
    launchers = {f.stem for f in GPU.glob("*.py") if (GPU / "kernels" / f"{f.stem}.cu").exists()}
    assert launchers == set(kernel_files()) == (set(families()) - NOT_ON_GPU) | ONLY_ON_GPU


@pytest.mark.parametrize("family", sorted(set(families()) - NOT_ON_CPU))
@pytest.mark.parametrize("signatures", [pyx_signatures, pyi_signatures], ids=["pyx", "pyi"])
def test_same_functions_and_parameters(family: str, signatures) -> None:
    assert signatures(family) == reference_signatures(family)


@pytest.mark.parametrize("family", families())
def test_compiled_modules_have_these_functions_and_no_others(family: str) -> None:
    """The module that is loaded was built from this source."""
    for name in backends_with(family):
        module = getattr(get_backend(name).raw, family)
        expected = reference_signatures(family)
        functions = {
            function: value
            for function, value in vars(module).items()
            if inspect.isroutine(value) and value.__module__ == module.__name__ and not function.startswith("_")
        }
        assert {f: list(inspect.signature(value).parameters) for f, value in functions.items()} == expected, name


@pytest.mark.parametrize("family", families())
def test_contracts(family: str) -> None:
    """Kernels take threads last, have no defaults, and a function tells the size of a workspace."""
    module = reference_family(family)
    for name in kernel_names(module):
        function = getattr(module, name)
        parameters = inspect.signature(function).parameters
        specs = array_specs(function)
        label = f"{family}.{name}"
        assert function.__doc__, f"{label} has no docstring"
        assert all(p.default is p.empty for p in parameters.values()), f"{label} has defaults"
        if not specs:
            continue
        assert next(reversed(parameters)) == "threads", f"{label}: threads must be the last parameter"
        returns = inspect.signature(function).return_annotation != "None"
        assert returns or any(spec.writes for spec in specs.values()), f"{label} has no result"
        if "workspace" in specs:
            assert hasattr(module, f"{name}_workspace"), f"{label} has no {name}_workspace"
            assert len(specs["workspace"].dims) == 1, f"{label}: a workspace has one axis"


def test_kernels_have_no_defaults_in_cython() -> None:
    for path in CPU.glob("*.pyx"):
        for name, parameters in re.findall(r"^def (\w+)\(([^)]*)\)", path.read_text(), re.MULTILINE):
            assert "=" not in parameters, f"{path.name}: {name} has defaults"
