"""Every kernel file compiles for every architecture, without driver and device: `pytest -m nvrtc`.

`python -m darkbn_gpu.nvrtc` shows what each kernel needs. Both keep what they compiled (`DARKBN_CACHE`).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from darkbn.errors import DeviceError
from darkbn_gpu import modules, nvrtc, resources

without_library = pytest.mark.skipif(nvrtc.library_path() is None, reason="pip install 'darkbn[gpu-test]'")

#: Bytes of shared memory that every architecture gives a block without being asked.
SHARED = 48 * 1024

LOG = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'first' for 'sm_80'
ptxas info    : Function properties for first
ptxas         .     40 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 24 registers, used 1 barriers, 64 bytes smem, 376 bytes cmem[0]
ptxas info    : Compiling entry function 'second' for 'sm_80'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 255 registers, 376 bytes cmem[0]
"""


def test_resources_are_read_from_a_log() -> None:
    assert nvrtc.resources(LOG) == [
        nvrtc.Resources("first", registers=24, stack=40, spilled=12, shared=64),
        nvrtc.Resources("second", registers=255, stack=0, spilled=0, shared=0),
    ]


@without_library
def test_warnings_are_errors(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    prelude = (modules.KERNELS / "prelude.cuh").read_text()
    (tmp_path / "prelude.cuh").write_text(prelude)
    (tmp_path / "grid.cuh").write_text((modules.KERNELS / "grid.cuh").read_text())
    (tmp_path / "odd.cu").write_text(
        '#include "grid.cuh"\nKERNEL odd(int *x)\n{\n    int unused = 1;\n    x[0] = 2;\n}\n'
    )
    monkeypatch.setattr(modules, "KERNELS", tmp_path)
    with pytest.raises(DeviceError, match=r"(?s)kernels/odd.cu does not compile for sm_80:.*odd.cu\(4\): warning"):
        nvrtc.compile_file("odd", "sm_80")


def test_occupancy() -> None:
    """65536 registers, 8 warps a block; on sm_90 2048 threads and 228 KiB, on sm_75 1024 threads."""

    def needs(registers: int, shared: int = 0) -> nvrtc.Resources:
        return nvrtc.Resources("one", registers, 0, 0, shared)

    assert resources.occupancy(needs(32), 90) == 1
    assert resources.occupancy(needs(33), 90) == 0.75  # 40 are handed out: 6 blocks of 10240
    assert resources.occupancy(needs(33), 75) == 1
    assert resources.occupancy(needs(255), 90) == 0.125
    assert resources.occupancy(needs(32, 48 * 1024 - 1024), 90) == 0.5  # 4 blocks of 48 KiB
    assert resources.occupancy(needs(32, 33 * 1024), 75) == 0.25


@without_library
def test_what_was_compiled_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `pytest -m nvrtc` does with all of them, twice."""
    monkeypatch.setenv("DARKBN_CACHE", str(tmp_path))
    assert not nvrtc.is_cached("dropout", "sm_75")
    check_file("dropout", 75)
    assert nvrtc.is_cached("dropout", "sm_75")
    assert not nvrtc.is_cached("dropout", "sm_80")
    monkeypatch.setattr(nvrtc, "compile_file", None)
    check_file("dropout", 75)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".cubin", ".log"]


@without_library
def test_a_device_newer_than_the_compiler_gets_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvrtc, "supported", lambda: (75, 80, 90))
    assert nvrtc.target(80) == "sm_80"
    assert nvrtc.target(130) == "compute_90"
    text, _ = nvrtc.compile_file("dropout", nvrtc.target(130))
    assert b".visible .entry dropout_" in text
    with pytest.raises(DeviceError, match=r"NVRTC \d+\.\d+ compiles for sm_75 and newer, found sm_70"):
        nvrtc.target(70)


def test_without_the_library_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvrtc, "library_path", lambda: None)
    nvrtc._library.cache_clear()
    with pytest.raises(DeviceError, match=r"NVRTC is not installed: pip install 'darkbn\[gpu-test\]'"):
        nvrtc._library()


@without_library
def test_the_table() -> None:
    root = Path(modules.__file__).parents[1]
    command = [sys.executable, "-m", "darkbn_gpu.nvrtc", "--arch", "75", "dropout"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    assert "dropout_backward" in done.stdout
    assert "1 of 1 compiled, 0 kernels spill registers" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    done = subprocess.run([*command, "nothing"], capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 2
    assert "no kernel file nothing; there are activation, batchnorm" in done.stderr


@pytest.mark.nvrtc
@without_library
@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
@pytest.mark.parametrize("name", modules.names())
def test_compiles_without_spills(name: str, architecture: int) -> None:
    check_file(name, architecture)


def check_file(name: str, architecture: int) -> None:
    one = nvrtc.compiled(name, f"sm_{architecture}")
    assert one.path.read_bytes().startswith(b"\x7fELF")
    found = nvrtc.resources(one.log)
    assert {r.kernel for r in found} == set(modules.kernel_names(name))
    assert [r for r in found if r.spilled] == []
    assert [r for r in found if r.shared > SHARED] == []
