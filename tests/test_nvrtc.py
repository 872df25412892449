"""Every kernel file compiles for every architecture, without driver and device: `pytest -m nvrtc`.

With `--log-cli-level=INFO` it tells the registers and the memory of each kernel.
"""

from __future__ import annotations

import logging

import pytest

from darkbn.errors import DeviceError
from darkbn_gpu import modules, nvrtc

without_library = pytest.mark.skipif(nvrtc.library_path() is None, reason="pip install 'darkbn[gpu-test]'")

log = logging.getLogger(__name__)

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
        nvrtc.compile_file("odd", 80)


@without_library
def test_a_small_file_compiles() -> None:
    """What `pytest -m nvrtc` does with all of them."""
    check_file("dropout", 75)


@pytest.mark.nvrtc
@without_library
@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
@pytest.mark.parametrize("name", modules.names())
def test_compiles_without_spills(name: str, architecture: int) -> None:
    check_file(name, architecture)


def check_file(name: str, architecture: int) -> None:
    machine_code, text = nvrtc.compile_file(name, architecture)
    assert machine_code.startswith(b"\x7fELF")
    found = nvrtc.resources(text)
    for r in found:
        log.info(
            "%-44s sm_%d %4d registers %5d stack %6d shared", r.kernel, architecture, r.registers, r.stack, r.shared
        )
    assert {r.kernel for r in found} == set(modules.kernel_names(name))
    assert [r for r in found if r.spilled] == []
    assert [r for r in found if r.shared > SHARED] == []
