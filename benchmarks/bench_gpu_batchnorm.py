"""Batch normalization beside a copy of the same device and beside PyTorch: passes of tensors larger than 64 MB.

    python benchmarks/bench_gpu_batchnorm.py [--device gpu] [--json FILE]

A pass that reads and writes every value as often as it must would take the time of that many bytes at the copy's rate:
the share says how near it comes. Times on a GPU are medians of events after a warm-up, PyTorch's as well (with CUDA;
torch.native_batch_norm and native_batch_norm_backward, contiguous). On the CPU it runs with --device cpu.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from darkbn.activations import Activation
from darkbn.backend import Backend, get_backend
from darkbn.layer_bench import seconds_of

LINEAR = int(Activation.LINEAR)

log = logging.getLogger(__name__)

#: Batch, channels, places of a channel: 177 and 354 MB; few and many channels, rows that are no multiple of 16 bytes.
SHAPES = ((64, 64, 104 * 104), (64, 32, 208 * 208), (128, 256, 52 * 52), (256, 512, 26 * 26), (512, 1024, 13 * 13))

#: Values that a pass reads or writes per value of the tensor. Training reads x twice and writes; the way back reads
#: x and delta twice and writes delta.
SWEEPS = {"inference": 2, "training forward": 3, "training backward": 5}

#: Passes of which medians are taken.
REPEAT = 20


def passes(backend: Backend, shape: tuple[int, int, int]) -> dict[str, Callable[[], Any]]:
    """Our three passes on arrays of a shape."""
    b, c, s = shape
    x, out, delta = (backend.array(backend.xp.ones((b, c, s), "float32")) for _ in range(3))
    mean, variance, rolling_mean, rolling_variance, scales, biases, *updates = (
        backend.array(backend.xp.ones(c, "float32")) for _ in range(10)
    )
    kernels = backend.raw.batchnorm
    rolling = (rolling_mean, rolling_variance)
    return {
        "inference": lambda: kernels.forward(x, out, mean, variance, scales, biases, 1e-5, 0, 0),
        "training forward": lambda: kernels.forward_train(
            x, out, mean, variance, *rolling, scales, biases, 0.99, 1, 1, 1e-5, 0, LINEAR, 0
        ),
        "training backward": lambda: kernels.backward(
            x, delta, mean, variance, scales, biases, *updates, 1e-5, 0, 1e-5, 0, 1e-5, 0, 1, LINEAR, 0
        ),
    }


def torch_passes(backend: Backend, shape: tuple[int, int, int]) -> dict[str, Callable[[], Any]]:
    """PyTorch's, on the same device; none where it is not installed or has no CUDA."""
    try:
        import torch
    except ImportError:
        return {}
    if backend.name == "gpu" and not torch.cuda.is_available():
        return {}
    device = "cuda" if backend.name == "gpu" else "cpu"
    x, delta = (torch.ones(shape, device=device) for _ in range(2))
    weight, bias, mean, variance = (torch.ones(shape[1], device=device) for _ in range(4))
    _, saved_mean, saved_root = torch.native_batch_norm(x, weight, bias, mean, variance, True, 0.01, 1e-5)
    kept = (saved_mean, saved_root)
    return {
        "inference": lambda: torch.native_batch_norm(x, weight, bias, mean, variance, False, 0.01, 1e-5),
        "training forward": lambda: torch.native_batch_norm(x, weight, bias, mean, variance, True, 0.01, 1e-5),
        "training backward": lambda: torch.ops.aten.native_batch_norm_backward(
            delta, x, weight, mean, variance, *kept, True, 1e-5, [True, True, True]
        ),
    }


def copy_rate(backend: Backend, values: int) -> float:
    """Bytes a second, read and written, of a copy of so many floats."""
    source, target = backend.zeros((values,)), backend.empty((values,))
    return 8 * values / seconds_of(lambda: backend.xp.copyto(target, source), backend, REPEAT)


def measure(backend: Backend, shape: tuple[int, int, int]) -> list[dict[str, Any]]:
    """One row per pass: milliseconds, GB/s, share of the copy, ratio to PyTorch."""
    values = shape[0] * shape[1] * shape[2]
    copy = copy_rate(backend, values)
    own = {name: seconds_of(work, backend, REPEAT) for name, work in passes(backend, shape).items()}
    peers = {name: seconds_of(work, backend, REPEAT) for name, work in torch_passes(backend, shape).items()}
    return [
        {
            "shape": shape,
            "pass": name,
            "ms": 1e3 * seconds,
            "gigabytes_per_second": 4e-9 * SWEEPS[name] * values / seconds,
            "share_of_copy": 4 * SWEEPS[name] * values / seconds / copy,
            "torch_ms": 1e3 * peers[name] if name in peers else None,
            "times_as_fast_as_torch": peers[name] / seconds if name in peers else None,
        }
        for name, seconds in own.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="gpu")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of shapes, from 0")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    backend = get_backend(arguments.device)
    log.info(f"{'shape':<18} {'pass':<18} {'ms':>9} {'GB/s':>8} {'copy':>6} {'torch ms':>9} {'x':>6}")
    rows = []
    for number, shape in enumerate(SHAPES):
        if arguments.only is not None and number not in arguments.only:
            continue
        for row in measure(backend, shape):
            rows.append(row)
            peer = f"{row['torch_ms']:9.3f} {row['times_as_fast_as_torch']:6.2f}" if row["torch_ms"] else ""
            log.info(
                f"{'x'.join(map(str, shape)):<18} {row['pass']:<18} {row['ms']:9.3f}"
                f" {row['gigabytes_per_second']:8.1f} {row['share_of_copy']:6.0%} {peer}"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
