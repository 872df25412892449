"""Building: what the wheel and the source archive contain, and the build's options. Run with `pytest -m build`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.build


def run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run in a folder with these variables added; DARKBN_ variables of this run are not passed on."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("DARKBN_", "PYTHONPATH"))}
    return subprocess.run(command, cwd=folder, env=inherited | environment, capture_output=True, text=True, check=False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the source tree without anything built."""
    built = shutil.ignore_patterns(".*", "build", "dist", "*.so", "*.egg-info", "__pycache__", "venv")
    return Path(shutil.copytree(ROOT, tmp_path / "source", ignore=built))


def build_in_place(source: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    return run(command, source, DARKBN_LEVELS="baseline", **environment)


def python(source: Path, code: str, **environment: str) -> str:
    """What a program prints that uses the package built in `source`."""
    done = run([sys.executable, "-c", code], source, DARKBN_SIMD="baseline", **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def check_table(source: Path, which: str = "cpu") -> None:
    """Run the table of kernel cases on the package built in `source`."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/test_kernels.py", "-k", which]
    done = run(command, source, DARKBN_SIMD="baseline", PYTHONPATH=str(source))
    assert done.returncode == 0, done.stdout
    assert f"darkbn: {source / 'darkbn'}, kernels baseline" in done.stdout


@pytest.fixture
def no_openmp(tmp_path: Path) -> str:
    """A compiler that knows no OpenMP."""
    real = shutil.which("gcc") or shutil.which("cc")
    compiler = tmp_path / "cc"
    compiler.write_text(
        f'#!/bin/sh\ncase " $* " in *" -fopenmp"*|*" -lomp"*) echo "no OpenMP" >&2; exit 1;; esac\nexec {real} "$@"\n'
    )
    compiler.chmod(0o755)
    return str(compiler)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], set[str]]:
    """File names in the source archive and in the wheel that is built from it, in a clean environment."""
    given = os.environ.get("DARKBN_DIST")  # a folder where they have just been built
    if given:
        return archive_names(Path(given))
    folder = tmp_path_factory.mktemp("dist")
    done = run([sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)], folder, DARKBN_LEVELS="baseline")
    assert done.returncode == 0, done.stdout + done.stderr
    return archive_names(folder)


def archive_names(folder: Path) -> tuple[set[str], set[str]]:
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(wheel) as archive:
        return names, set(archive.namelist())


PACKAGES = ("darkbn", "darkbn_gpu")


def package_files(pattern: str) -> set[str]:
    found = [path for package in PACKAGES for path in (ROOT / package).rglob(pattern)]
    return {path.relative_to(ROOT).as_posix() for path in found}


def test_source_archive_has_all_sources(archives: tuple[set[str], set[str]]) -> None:
    sdist, _ = archives
    for pattern in ("*.py", "*.pyx", "*.pxd", "*.pyi", "*.h", "*.cu", "*.cuh", "*.names", "py.typed"):
        assert package_files(pattern) - sdist == set()
    tests = {f"tests/{path.name}" for path in (ROOT / "tests").glob("*.py")}
    assert (tests | {"setup.py", "pyproject.toml", "README.md"}) - sdist == set()
    assert [name for name in sdist if name.endswith((".so", ".c", ".pyc"))] == []


def test_wheel_has_the_package_and_nothing_else(archives: tuple[set[str], set[str]]) -> None:
    _, wheel = archives
    for pattern in ("*.py", "*.pyi", "*.h", "*.cu", "*.cuh", "*.names", "py.typed"):
        assert package_files(pattern) - wheel == set()
    folders = {name.split("/")[0] for name in wheel}
    assert {name for name in folders if not name.endswith(".dist-info")} == set(PACKAGES)
    assert [name for name in wheel if name.endswith((".c", ".pyx", ".pxd", ".pyc"))] == []
    modules = {Path(name).name.split(".")[0] for name in wheel if "/_baseline/" in name and name.endswith(".so")}
    assert modules == {path.stem for path in (ROOT / "darkbn" / "cpu").glob("*.pyx")} - {"simd"}


def test_missing_openmp_warns_and_builds_serial_kernels(source: Path, no_openmp: str) -> None:
    done = build_in_place(source, CC=no_openmp)
    assert done.returncode == 0, done.stderr
    assert "WARNING: OpenMP does not work with this compiler" in done.stderr
    code = "from darkbn.cpu import simd; print(simd.openmp_version(), simd.max_threads())"
    assert python(source, code) == "0 1"
    check_table(source)


def test_missing_openmp_is_an_error_on_request(source: Path, no_openmp: str) -> None:
    done = build_in_place(source, CC=no_openmp, DARKBN_REQUIRE_OPENMP="1")
    assert done.returncode != 0
    assert "error: OpenMP does not work with this compiler" in done.stderr
    assert list(source.rglob("*.so")) == []


def test_unknown_level_is_an_error(source: Path) -> None:
    done = run([sys.executable, "setup.py", "-q", "build_ext"], source, DARKBN_LEVELS="x86_v9")
    assert done.returncode != 0
    assert "DARKBN_LEVELS: unknown ['x86_v9']" in done.stderr


def test_debug_build_checks_bounds(source: Path) -> None:
    done = build_in_place(source, DARKBN_DEBUG="1")
    assert done.returncode == 0, done.stderr
    code = """
import numpy as np
from darkbn.backend import get_backend
bias = get_backend("cpu").raw.bias
try:
    bias.add_bias(np.zeros((1, 3, 4), np.float32), np.zeros(2, np.float32), 1)
except IndexError as error:
    print(error)
"""
    assert "Out of bounds" in python(source, code)
    # Taking the address of an empty array's first element is out of bounds, though nothing is read there.
    check_table(source, "cpu and not empty")
