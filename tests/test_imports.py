"""Imports run one way, and `import darkbn` loads nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import darkbn

PACKAGE = Path(darkbn.__file__).parent

#: Layers of the program from the top; a module may import from its own layer and from those below it.
#: A name is a module, or a package with all its modules. What is not listed is in no layer and not checked.
ORDER = (
    ("cli",),
    ("detect", "train", "evaluate"),
    ("inference",),
    ("network",),
    ("layers",),
    ("backend",),
    ("cpu", "reference"),
    ("signature",),
    ("errors",),
)
LEVEL = {name: len(ORDER) - depth for depth, names in enumerate(ORDER) for name in names}

#: Methods that hand on to a module above: imported when called.
LATE = {
    "darkbn.network": {
        "darkbn.detect",
        "darkbn.inference.fold_network",
        "darkbn.inference.plan",
        "darkbn.inference.profile",
    }
}

#: Modules that would make `import darkbn` slow, or must not be needed for it.
HEAVY = (
    "numpy",
    "PIL",
    "typer",
    "click",
    "rich",
    "cupy",
    "scipy",
    "matplotlib",
    "torch",
    "onnx",
    "onnxruntime",
    "hypothesis",
    "pytest",
)


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, now: bool = False) -> set[str]:
    """Absolute names of what a file imports: modules, and names from modules as they may be modules too.

    Args:
        path: the file.
        now: only what is imported together with the file, not by functions when they are called.
    """
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in statements(ast.parse(path.read_text())) if now else ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *([base] if base else [])])
            found.add(base)
            found.update(f"{base}.{alias.name}" for alias in node.names)
    return found


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run when a module is imported."""
    for child in ast.iter_child_nodes(node):
        typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not typing_only and not isinstance(child, ast.FunctionDef | ast.Lambda):
            yield child
            yield from statements(child)


def part(name: str) -> str | None:
    """The first word after `darkbn` of a module's name."""
    words = name.split(".")
    return words[1] if words[0] == "darkbn" and len(words) > 1 else None


def upward_imports(name: str, names: set[str]) -> list[str]:
    """Imports of a module that go against the order."""
    own = LEVEL.get(part(name) or "")
    if own is None:
        return []
    return sorted(i for i in names if LEVEL.get(part(i) or "", 0) > own)


def backend_imports(name: str, names: set[str]) -> list[str]:
    """Imports with which a layer goes past the backend."""
    if part(name) != "layers":
        return []
    return sorted(i for i in names if part(i) in ("cpu", "reference") or i.startswith(("cupy", "darkbn_gpu")))


@pytest.mark.parametrize("path", modules(), ids=module_name)
def test_imports_run_one_way(path: Path) -> None:
    name, names = module_name(path), imported(path)
    assert backend_imports(name, names) == []
    assert upward_imports(name, imported(path, now=True)) == []
    late = LATE.get(name, set())
    assert [i for i in upward_imports(name, names) if i not in late and i.rpartition(".")[0] not in late] == []


def test_wrong_imports_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path / "darkbn")
    layers = tmp_path / "darkbn" / "layers"
    layers.mkdir(parents=True)
    wrong = layers / "wrong.py"
    wrong.write_text("from darkbn import network\nfrom ..cli import main\ndef f():\n    import darkbn.cpu.bias\n")
    assert imported(wrong, now=True) == {"darkbn", "darkbn.network", "darkbn.cli", "darkbn.cli.main"}
    names = imported(wrong)
    assert upward_imports("darkbn.layers.wrong", names) == ["darkbn.cli", "darkbn.cli.main", "darkbn.network"]
    assert backend_imports("darkbn.layers.wrong", names) == ["darkbn.cpu.bias"]


def test_import_darkbn_is_light() -> None:
    code = "import sys, darkbn; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    out = done.stdout.split()
    assert "darkbn" in out
    assert sorted({name.split(".")[0] for name in out} & set(HEAVY)) == []
    assert [name for name in out if name.startswith(("darkbn.cpu._", "darkbn.cli", "darkbn_gpu"))] == []


def test_public_names_are_written_alike() -> None:
    """For type checkers, for the reader of `__all__`, and for the import on first use."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    typed = {
        (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("darkbn")
        for alias in node.names
    }
    lazy = {(f"darkbn.{home}", name) for home, names in darkbn._HOMES.items() for name in names}
    named = {name for _, name in lazy}
    assert typed == lazy | {("darkbn", name) for name in set(darkbn.__all__) - named}
    assert all(getattr(darkbn, name) is not None for name in darkbn.__all__)
    assert set(darkbn.__all__) <= set(dir(darkbn))
    with pytest.raises(AttributeError, match="nothing"):
        getattr(darkbn, "nothing")  # noqa: B009 - a type checker would refuse the attribute
