"""The emulated device: barriers, warps, orders, arguments, and kernels that are wrong on purpose."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from darkbn.errors import DeviceError
from darkbn_gpu import emulation, modules

pytestmark = pytest.mark.skipif(not emulation.available()[0], reason=emulation.available()[1])

KERNELS = r"""
#include "grid.cuh"

/* out[i] = in[n - 1 - i], through shared memory. */
KERNEL reverse(const int *in, int *out, i64 n)
{
    __shared__ int held[THREADS];
    if (threadIdx.x < n) held[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
    if (threadIdx.x < n) out[threadIdx.x] = held[n - 1 - threadIdx.x];
}

KERNEL without_barrier(const int *in, int *out, i64 n)
{
    __shared__ int held[THREADS];
    if (threadIdx.x < n) held[threadIdx.x] = in[threadIdx.x];
    if (threadIdx.x < n) out[threadIdx.x] = held[n - 1 - threadIdx.x];
}

/* The threads of the second block read what those of the first wrote. */
KERNEL between_blocks(int *out)
{
    if (blockIdx.x == 0) out[threadIdx.x] = 1;
    else out[256 + threadIdx.x] = out[threadIdx.x];
}

KERNEL same_word(int *out) { out[threadIdx.x / 2] = 1; }

KERNEL read_then_written(int *out)
{
    out[1 + threadIdx.x] = out[0] + 1;
    if (threadIdx.x == 40) out[0] = 7;
}

KERNEL in_turns(int *out)
{
    for (int k = 0; k < 4; ++k) {
        if ((int)threadIdx.x == 50 * k) out[0] += k;
        __syncthreads();
    }
}

KERNEL neighbours(int *out)
{
    __shared__ int held[THREADS];
    held[threadIdx.x] = (int)threadIdx.x;
    __syncwarp();
    out[threadIdx.x] = held[threadIdx.x ^ 1];
}

KERNEL other_warps(int *out)
{
    __shared__ int held[THREADS];
    held[threadIdx.x] = (int)threadIdx.x;
    __syncwarp();
    out[threadIdx.x] = held[threadIdx.x ^ 32];
}

/* Every block has its own shared memory. */
KERNEL shared_by_none(int *out)
{
    __shared__ int held[2];
    if (threadIdx.x < 2) held[threadIdx.x] = (int)threadIdx.x;
    __syncthreads();
    if (threadIdx.x < 2) out[2 * blockIdx.x + threadIdx.x] = held[1 - threadIdx.x];
}

KERNEL counted(int *counter, int *out)
{
    atomicAdd(counter, 1);
    if (out && threadIdx.x == 3) out[0] = counter[0];
}

KERNEL unset(float *out)
{
    __shared__ float held[THREADS];
    out[threadIdx.x] = held[threadIdx.x];
}

KERNEL diverges(int *out)
{
    if (threadIdx.x < 100) __syncthreads();
    out[threadIdx.x] = 1;
}

KERNEL two_barriers(int *out)
{
    if (threadIdx.x < 100) __syncthreads();
    else
        __syncthreads();
    out[threadIdx.x] = 1;
}

KERNEL half_a_warp(int *out)
{
    if (threadIdx.x % 32 < 16) out[threadIdx.x] = __shfl_down_sync(0xffffffffu, 1, 1);
}

KERNEL warps(const int *in, int *down, int *up, int *all, int *across, int *votes, int *first)
{
    const int value = in[threadIdx.x];
    down[threadIdx.x] = __shfl_down_sync(0xffffffffu, value, 3);
    up[threadIdx.x] = __shfl_up_sync(0xffffffffu, value, 3);
    all[threadIdx.x] = __shfl_sync(0xffffffffu, value, 5);
    across[threadIdx.x] = __shfl_xor_sync(0xffffffffu, value, 1);
    votes[threadIdx.x] = (int)__ballot_sync(0xffffffffu, value % 3 == 0);
    first[threadIdx.x] = threadIdx.x % 32 < 8 ? __shfl_sync(0x000000ffu, value, 7) : -1;
}

KERNEL sums(const float *in, double *out, i64 n)
{
    const double total = block_sum_of(n, [=](i64 i) { return in[i]; });
    const float most = block_max(threadIdx.x < n ? in[threadIdx.x] : -1e30f);
    if (threadIdx.x == 0) out[0] = total, out[1] = most;
}

KERNEL count(int *counter, i64 n)
{
    FOR_EACH(i, n) atomicAdd(counter, 1);
}

KERNEL indexes(int *out)
{
    out[blockIdx.x * 8 + threadIdx.z * 4 + threadIdx.y * 2 + threadIdx.x] =
        100 * (blockIdx.x + 1) + 10 * gridDim.x + threadIdx.x;
}

KERNEL all_kinds(int *out, i64 wide, int narrow, float single, double twice)
{
    if (threadIdx.x == 0) out[0] = (int)(wide + narrow + single + twice);
}
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory):
    """The kernels above, compiled."""
    return compile_own(tmp_path_factory)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory):
    """The same, with a look at every access to memory."""
    return compile_own(tmp_path_factory, DARKBN_RACECHECK="1", DARKBN_SANITIZE="0")


def compile_own(tmp_path_factory: pytest.TempPathFactory, **environment: str) -> emulation.EmulatedModule:
    folder = tmp_path_factory.mktemp("kernels")
    (folder / "own.cu").write_text(KERNELS)
    (folder / "grid.cuh").write_text((modules.KERNELS / "grid.cuh").read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modules, "KERNELS", folder)
        for name, value in {"DARKBN_CACHE": str(folder / "cache"), **environment}.items():
            patch.setenv(name, value)
        return emulation.EmulatedModule("own", emulation._build("own"))


def call(own, kernel: str, *args, blocks: int = 1, threads: tuple[int, ...] = (256,)) -> None:
    own.get_function(kernel)((blocks,), threads, args)


@pytest.mark.parametrize("order", emulation.ORDERS)
def test_barrier_and_shared_memory(own, order: str) -> None:
    values, out = np.arange(200, dtype=np.int32), np.zeros(200, np.int32)
    with emulation.thread_order(order):
        call(own, "reverse", values, out, np.int64(200))
    np.testing.assert_array_equal(out, values[::-1])


def test_a_forgotten_barrier_shows(own) -> None:
    values, results = np.arange(200, dtype=np.int32), []
    for order in emulation.ORDERS:
        out = np.zeros(200, np.int32)
        with emulation.thread_order(order):
            call(own, "without_barrier", values, out, np.int64(200))
        results.append(out.tobytes())
    assert len(set(results)) == 3


RACES = {
    "without_barrier": r"shared memory, byte \d+: thread 99 read at own.cu:\d+, thread 100 writes at own.cu:\d+, and",
    "between_blocks": r"parameter 0, byte 0: thread 0 of another block wrote at own.cu:\d+, thread 0 reads",
    "same_word": r"parameter 0, byte 0: thread 0 wrote at own.cu:\d+, thread 1 writes",
    "read_then_written": r"parameter 0, byte 0: thread 0 read at own.cu:\d+, thread 40 writes",
    "other_warps": r"shared memory, byte \d+: thread 32 wrote at own.cu:\d+, thread 0 reads",
    "counted": r"parameter 0, byte 0: thread 3 read at own.cu:\d+, thread 4 adds atomically at own.cu:\d+, and",
}


@pytest.mark.parametrize("kernel", RACES)
def test_races_are_found(watched, kernel: str) -> None:
    out, other = np.zeros(600, np.int32), np.zeros(600, np.int32)
    args = {"without_barrier": (out, other, np.int64(200)), "counted": (out, other)}.get(kernel, (out,))
    with pytest.raises(DeviceError, match=f"kernel own.{kernel}: block .: data race, {RACES[kernel]}"):
        call(watched, kernel, *args, blocks=2 if kernel == "between_blocks" else 1)


@pytest.mark.parametrize("order", emulation.ORDERS)
def test_what_barriers_order_is_no_race(watched, order: str) -> None:
    values, out = np.arange(200, dtype=np.int32), np.zeros(600, np.int32)
    with emulation.thread_order(order):
        call(watched, "reverse", values, out, np.int64(200))
        call(watched, "in_turns", out)
        call(watched, "neighbours", out)
        call(watched, "counted", out, np.uintp(0))
        call(watched, "sums", np.ones(5000, np.float32), np.zeros(2), np.int64(5000))
        call(watched, "count", out, np.int64(1000), blocks=3)
        call(watched, "shared_by_none", out, blocks=3)


def test_races_and_sanitizers_exclude_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKBN_RACECHECK", "1")
    monkeypatch.setenv("DARKBN_SANITIZE", "1")
    with pytest.raises(DeviceError, match="exclude each other"):
        emulation._build("bias")


def test_shared_memory_is_poisoned(own) -> None:
    out = np.zeros(256, np.float32)
    call(own, "unset", out)
    assert np.isnan(out).all()


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ("diverges", "thread 0 waits at own.cu:.*, thread 255 has ended"),
        ("two_barriers", "thread 0 waits at own.cu:.*, thread 255 waits at own.cu"),
        ("half_a_warp", "not all threads come to the same barrier|never all come"),
    ],
)
def test_threads_that_never_meet_are_an_error(own, kernel: str, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        call(own, kernel, np.zeros(256, np.int32))


@pytest.mark.parametrize("order", emulation.ORDERS)
def test_warp_operations(own, order: str) -> None:
    values = np.random.default_rng(0).integers(0, 1000, 256).astype(np.int32)
    found = [np.zeros(256, np.int32) for _ in range(6)]
    with emulation.thread_order(order):
        call(own, "warps", values, *found)
    lane = np.arange(256) % 32
    rows = np.arange(256) - lane
    down, up, every, across, votes, first = found
    np.testing.assert_array_equal(down, values[rows + np.where(lane + 3 < 32, lane + 3, lane)])
    np.testing.assert_array_equal(up, values[rows + np.where(lane >= 3, lane - 3, lane)])
    np.testing.assert_array_equal(every, values[rows + 5])
    np.testing.assert_array_equal(across, values[rows + (lane ^ 1)])
    bits = (values.reshape(8, 32) % 3 == 0) @ (1 << np.arange(32, dtype=np.uint64)).astype(np.int64)
    np.testing.assert_array_equal(votes.view(np.uint32), bits.repeat(32).astype(np.uint32))
    np.testing.assert_array_equal(first, np.where(lane < 8, values[rows + 7], -1))


@pytest.mark.parametrize("n", [1, 31, 256, 257, 5000])
def test_sums_of_a_block(own, n: int) -> None:
    values = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    results = []
    for order in emulation.ORDERS:
        out = np.zeros(2)
        with emulation.thread_order(order):
            call(own, "sums", values, out, np.int64(n))
        results.append(out)
    np.testing.assert_allclose(results[0][0], values.astype(np.float64).sum(), rtol=0, atol=1e-6 * np.abs(values).sum())
    assert results[0][1] == values[:256].max()
    assert results[0].tobytes() == results[1].tobytes() == results[2].tobytes()


def test_atomics_and_grid_stride(own) -> None:
    counter = np.zeros(1, np.int32)
    call(own, "count", counter, np.int64(1000), blocks=3)
    assert counter[0] == 1000


def test_indexes(own) -> None:
    out = np.zeros(16, np.int32)
    call(own, "indexes", out, blocks=2, threads=(2, 2, 2))
    np.testing.assert_array_equal(out, [120, 121] * 4 + [220, 221] * 4)


def test_arguments_are_checked(own) -> None:
    out = np.zeros(1, np.int32)
    good = (out, np.int64(1), np.int32(2), np.float32(4), np.float64(8))
    call(own, "all_kinds", *good)
    assert out[0] == 15
    for wrong in (good[:-1], (*good, np.int64(1)), (out, np.int64(1), np.int32(2), np.float64(4), np.float64(8))):
        with pytest.raises(DeviceError, match="takes parameters Pqifd, found"):
            call(own, "all_kinds", *wrong)
    with pytest.raises(DeviceError, match="1 to 1024 threads"):
        call(own, "all_kinds", *good, threads=(1025,))
    with pytest.raises(DeviceError, match="no kernel 'nothing'"):
        own.get_function("nothing")


def test_a_file_that_does_not_compile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.cu").write_text("KERNEL broken(int *x) { x[0] = nothing; }\n")
    monkeypatch.setattr(modules, "KERNELS", tmp_path)
    monkeypatch.setenv("DARKBN_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DeviceError, match=r"(?s)cannot compile kernels/broken.cu:.*broken.cu:1"):
        emulation._build("broken")
    assert list((tmp_path / "cache").iterdir()) == []


def test_without_a_compiler_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKBN_CXX", "no-such-compiler")
    found, reason = emulation.available()
    assert not found
    assert "no-such-compiler" in reason


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(ValueError, match="ascending, descending, shuffled"), emulation.thread_order("random"):
        pass


def test_inlined_sources_name_their_files() -> None:
    text = modules.source("activation")
    assert '#line 1 "activations.h"' in text
    assert "#include" not in text
    assert text.count("DARKBN_INLINE float darkbn_mish(float x)") == 1


def test_import_of_the_package_needs_no_cupy() -> None:
    code = "import sys; sys.modules['cupy'] = None; import darkbn_gpu; print(darkbn_gpu.available())"
    environment = os.environ | {"PYTHONPATH": str(Path(modules.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.startswith('(False, "CuPy is not installed')
