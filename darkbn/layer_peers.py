"""PyTorch's layers beside ours: the same network as modules, channels last, with its own batch normalization."""

from __future__ import annotations

import dataclasses
import os
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

import darkbn
from darkbn.extras import require

if TYPE_CHECKING:
    from darkbn.layer_bench import LayerTime, Roof


def time_torch(
    cfg: str | os.PathLike[str], rows: list[LayerTime], roof: Roof, repeat: int, options: dict[str, Any]
) -> list[LayerTime]:
    """Rows of PyTorch for the layers of `rows`, measured on the device that these are of.

    Batch normalization follows PyTorch's convention, so that its own kernel does it. CUDA's times are those of events,
    after a warm-up in which cuDNN chooses its algorithms.

    Raises:
        DeviceError: rows of a GPU, and PyTorch has no CUDA.
        UnsupportedError: it has no module for a layer.
    """
    torch = require("torch", extra="peers")
    from darkbn.interop.torch import to_module

    on_gpu = bool(rows) and rows[0].device == "gpu"
    if on_gpu and not torch.cuda.is_available():
        raise darkbn.DeviceError("this PyTorch has no CUDA: install one that has, or measure without it")
    net = darkbn.load(cfg, seed=0, batchnorm="pytorch", **options)
    device, layout = torch.device("cuda" if on_gpu else "cpu"), torch.channels_last
    module = to_module(net).to(device)
    x = torch.from_numpy(np.random.default_rng(0).random(net.input_shape, dtype=np.float32)).to(device)
    if x.ndim == 4:
        module, x = module.to(memory_format=layout), x.contiguous(memory_format=layout)
    before = torch.get_num_threads()
    torch.set_num_threads(net.threads)
    try:
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False):
            times = _time_blocks(torch, module.layers, x, on_gpu, repeat)
    finally:
        torch.set_num_threads(before)
    return [
        dataclasses.replace(row, device="torch", seconds=s, share=roof.seconds(row.flops, row.nbytes) / s)
        for row, s in zip(rows, times, strict=True)
    ]


def _time_blocks(torch: Any, blocks: Any, x: Any, on_gpu: bool, repeat: int) -> list[float]:
    outputs: list[Any] = []
    times = []
    for block in blocks:
        times.append(_seconds(torch, lambda block=block, x=x: block(x, outputs), on_gpu, repeat))  # type: ignore[misc]
        x = block(x, outputs)
        outputs.append(x)
    return times


def _seconds(torch: Any, work: Callable[[], Any], on_gpu: bool, repeat: int) -> float:
    work()
    times: list[float] = []
    for _ in range(repeat):
        if on_gpu:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            work()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) / 1e3)
        else:
            begun = time.perf_counter()
            work()
            times.append(time.perf_counter() - begun)
    return max(statistics.median(times), 1e-9)
