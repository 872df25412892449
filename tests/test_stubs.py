"""The stubs of the Cython modules say what the compiled modules have (mypy's stubtest)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import darkbn
from darkbn import cpu

PACKAGE = Path(darkbn.__file__).parent
LEVEL = f"_{cpu.level()}"


def stub_tree(folder: Path) -> list[str]:
    """Copy the stubs to where the compiled modules are, into a package beside what they import.

    They lie in darkbn/cpu, the modules of a level in darkbn/cpu/_<level>. Returns the names of the modules.
    """
    target = folder / "darkbn" / "cpu" / LEVEL
    target.mkdir(parents=True)
    for package in (folder / "darkbn", target.parent, target):
        (package / "__init__.py").touch()
    for name in ("signature.py", "errors.py"):
        shutil.copy(PACKAGE / name, folder / "darkbn")
    names = []
    for stub in sorted((PACKAGE / "cpu").glob("*.pyi")):
        shared = stub.stem == "simd"
        shutil.copy(stub, target.parent if shared else target)
        names.append(f"darkbn.cpu.{stub.stem}" if shared else f"darkbn.cpu.{LEVEL}.{stub.stem}")
    return names


def stubtest(folder: Path, names: list[str]) -> subprocess.CompletedProcess[str]:
    config = folder / "mypy.ini"
    config.write_text(f"[mypy]\nmypy_path = {folder}\ncache_dir = {folder / 'cache'}\n")
    allowed = folder / "allowed"
    allowed.write_text(r"darkbn\.cpu\..*\.__test__" "\n")  # Cython puts it into every module
    options = ["--concise", "--mypy-config-file", str(config), "--allowlist", str(allowed)]
    command = [sys.executable, "-m", "mypy.stubtest", *options, *names]
    elsewhere = folder / "empty"  # `python -m` would import the stub tree from the current folder
    elsewhere.mkdir()
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}  # wherever this run's darkbn is
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=elsewhere, check=False)


def test_stubs_match_the_compiled_modules(tmp_path: Path) -> None:
    done = stubtest(tmp_path, stub_tree(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_wrong_stubs_are_found(tmp_path: Path) -> None:
    stub_tree(tmp_path)
    stub = tmp_path / "darkbn" / "cpu" / LEVEL / "bias.pyi"
    text = stub.read_text()
    text = text.replace("threads: int) -> None", "threads: int, more: int) -> None", 1)  # of add_bias
    text = text.replace("scales: Array", "scale: Array")
    stub.write_text(text.replace("def backward_bias", "def backwards_bias"))
    done = stubtest(tmp_path, [f"darkbn.cpu.{LEVEL}.bias"])
    assert done.returncode != 0
    for name in ("add_bias", "scale_bias", "backward_bias", "backwards_bias"):
        assert f"darkbn.cpu.{LEVEL}.bias.{name} " in done.stdout
