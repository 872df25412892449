"""Times batch normalization beside PyTorch, NumPy and onnxruntime, and against the least memory traffic there can be.

    python benchmarks/bench_batchnorm.py [--threads 2] [--only 0 2] [--json FILE] [--png FILE]

Everything takes turns in every round, each called once untimed and then timed, so that a busy machine slows all alike;
medians and quartiles are printed. All outputs exist before, except where a library insists on making its own.

The floor of a pass is the time of moving the bytes that it must move, with darkbn's own copy and y += a*x, by as many
threads, in the same rounds:

    inference          x is read, the output written: a copy
    training forward   the same; and where a channel has more than 512 KiB (second-level caches hold the others) x is
                       read again from wherever it lies: as fast as an array of a channel's size can be read again and
                       again
    backward           x and delta are read, delta is written: y += a*x; large channels of both are read again, as fast
                       as an array of twice a channel's size
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from darkbn import cpu
from darkbn.activations import Activation
from darkbn.backend import get_backend
from darkbn.files import atomic_write

SHAPES = ((8, 64, 104, 104), (16, 256, 52, 52), (32, 512, 13, 13), (64, 32, 208, 208), (128, 1024, 1, 1))
PASSES = ("train", "backward", "inference")
LIBRARIES = ("darkbn", "torch", "onnxruntime", "numpy")
EPSILON, MOMENTUM = 1e-5, 0.1
#: Bytes of a channel that are in a second-level cache when they are read again.
SMALL = 512 * 1024

Calls = dict[str, Callable[[], Any]]


class Data:
    """Arrays of one shape, as every library gets them."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        rng = np.random.default_rng(0)
        self.shape = shape
        self.x = rng.standard_normal(shape, dtype=np.float32)
        self.delta = rng.standard_normal(shape, dtype=np.float32)
        self.out = np.zeros(shape, np.float32)
        channels = shape[1]
        self.mean, self.variance = np.zeros(channels, np.float32), np.ones(channels, np.float32)
        self.rolling = np.zeros(channels, np.float32), np.ones(channels, np.float32)
        self.scales = rng.uniform(0.5, 2, channels).astype(np.float32)
        self.biases = rng.standard_normal(channels, dtype=np.float32)

    def planes(self, array: np.ndarray) -> np.ndarray:
        return array.reshape(*self.shape[:2], -1)


def darkbn_calls(d: Data, threads: int) -> Calls:
    kernels = get_backend("cpu").raw.batchnorm
    x, out, delta = d.planes(d.x), d.planes(d.out), d.planes(d.delta.copy())
    sums = [np.zeros_like(d.mean) for _ in range(4)]
    root, gradient = (EPSILON, 0), (EPSILON, 0, EPSILON, 0, EPSILON, 0, 0)
    keep = 1 - MOMENTUM
    return {
        "train": lambda: kernels.forward_train(
            x, out, d.mean, d.variance, *d.rolling, d.scales, d.biases, keep, 0, 1, *root, Activation.LINEAR, threads
        ),
        "backward": lambda: kernels.backward(
            x, delta, d.mean, d.variance, d.scales, d.biases, *sums, *gradient, Activation.LINEAR, threads
        ),
        "inference": lambda: kernels.forward(x, out, *d.rolling, d.scales, d.biases, *root, threads),
    }


def floor_calls(d: Data, threads: int) -> Calls:
    """Copying, y += a*x, reading as much as one channel has, and two, again and again."""
    vector, batchnorm = get_backend("cpu").raw.vector, get_backend("cpu").raw.batchnorm
    flat, out, y = d.x.reshape(-1), d.out.reshape(-1), d.delta.copy().reshape(-1)
    rows, size = 64, d.x.size // d.shape[1]  # threads share the rows
    one, two = (flat[: max(n * size // rows, 1) * rows].reshape(1, rows, -1) for n in (1, min(2, d.shape[1])))
    result = np.zeros(rows, np.float32)
    return {
        "read a channel": lambda: batchnorm.mean(one, result, threads),
        "read two channels": lambda: batchnorm.mean(two, result, threads),
        "copy": lambda: vector.copy(flat, out, threads),
        "triad": lambda: vector.axpy(flat, y, 1e-3, threads),
    }


def torch_calls(d: Data, threads: int) -> Calls:
    import torch

    torch.set_num_threads(threads)
    x, delta, weight, bias, out = (torch.from_numpy(a) for a in (d.x, d.delta, d.scales, d.biases, d.out))
    mean, variance = (torch.from_numpy(a.copy()) for a in d.rolling)
    saved = torch.empty_like(mean), torch.empty_like(mean)
    into = torch.ops.aten.native_batch_norm.out
    given = (x, weight, bias, mean, variance)

    def train() -> Any:
        return into(*given, True, MOMENTUM, EPSILON, out=out, save_mean=saved[0], save_invstd=saved[1])

    def backward() -> Any:
        state = (x, weight, mean, variance, *saved, True, EPSILON, [True, True, True])
        return torch.ops.aten.native_batch_norm_backward(delta, *state)

    train()
    return {
        "train": train,
        "train, own output": lambda: torch.native_batch_norm(*given, True, MOMENTUM, EPSILON),
        "backward": backward,
        "inference": lambda: into(*given, False, 0.0, EPSILON, out=out, save_mean=saved[0], save_invstd=saved[1]),
    }


def numpy_forward(rows: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Training forward of (N, D) as one writes it for CS231n."""
    mean = rows.mean(axis=0)
    centered = rows - mean
    inverse = 1 / np.sqrt((centered**2).mean(axis=0) + np.float32(EPSILON))
    normal = centered * inverse
    return normal * gamma + beta, (normal, inverse, gamma)


def numpy_backward(dout: np.ndarray, cache: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    normal, inverse, gamma = cache
    dbeta, dgamma = dout.sum(axis=0), (dout * normal).sum(axis=0)
    return gamma * inverse / len(dout) * (len(dout) * dout - dbeta - normal * dgamma), dgamma, dbeta


def numpy_calls(d: Data) -> Calls:
    """Images as rows of channels and back, as CS231n's spatial batch normalization does."""

    def rows(array: np.ndarray) -> np.ndarray:
        return array.transpose(0, 2, 3, 1).reshape(-1, d.shape[1])

    def images(array: np.ndarray) -> np.ndarray:
        b, c, h, w = d.shape
        return np.ascontiguousarray(array.reshape(b, h, w, c).transpose(0, 3, 1, 2))

    cache = numpy_forward(rows(d.x), d.scales, d.biases)[1]
    shape = (1, -1, 1, 1)

    def inference() -> np.ndarray:
        factor = d.scales / np.sqrt(d.rolling[1] + np.float32(EPSILON))
        np.multiply(d.x, factor.reshape(shape), out=d.out)
        return np.add(d.out, (d.biases - d.rolling[0] * factor).reshape(shape), out=d.out)

    return {
        "train": lambda: images(numpy_forward(rows(d.x), d.scales, d.biases)[0]),
        "backward": lambda: images(numpy_backward(rows(d.delta), cache)[0]),
        "inference": inference,
    }


def onnxruntime_calls(d: Data, threads: int) -> Calls:
    import onnx
    import onnxruntime

    names = ("scale", "bias", "mean", "variance")
    values = (d.scales, d.biases, *d.rolling)
    node = onnx.helper.make_node("BatchNormalization", ["x", *names], ["y"], epsilon=EPSILON)
    info = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, d.shape) for n in "xy"]
    tensors = [onnx.numpy_helper.from_array(v, n) for n, v in zip(names, values, strict=True)]
    graph = onnx.helper.make_graph([node], "batchnorm", info[:1], info[1:], tensors)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 15)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(d.x))
    output = onnxruntime.OrtValue.ortvalue_from_shape_and_type(d.shape, np.float32)
    binding.bind_ortvalue_output("y", output)
    return {"inference": lambda: session.run_with_iobinding(binding)}


def all_calls(d: Data, threads: int, libraries: list[str]) -> dict[tuple[str, str], Callable[[], Any]]:
    """Every call by library and pass; two threads are compared with one."""
    found = {("floor", name): call for name, call in floor_calls(d, threads).items()}
    found |= {("darkbn", name): call for name, call in darkbn_calls(d, threads).items()}
    if threads > 1:
        found |= {("darkbn, 1 thread", name): call for name, call in darkbn_calls(d, 1).items()}
    if "torch" in libraries:
        found |= {("torch", name): call for name, call in torch_calls(d, threads).items()}
    if "onnxruntime" in libraries:
        found |= {("onnxruntime", name): call for name, call in onnxruntime_calls(d, threads).items()}
    if "numpy" in libraries:
        found |= {("numpy", name): call for name, call in numpy_calls(d).items()}
    return found


def measure(calls: dict[tuple[str, str], Callable[[], Any]], seconds: float) -> dict[str, list[float]]:
    """Seconds of each call, taking turns for about so long; slow ones take part in the first rounds only."""
    times: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    share = seconds / len(calls)
    start = time.perf_counter()
    for turn in range(200):
        for key, call in calls.items():
            if turn and sum(times[key]) * 2 > share * (5 if turn < 5 else 1):
                continue
            # What one call leaves in the cache and in the write buffers is not the next one's business.
            for _ in range(2):
                began = time.perf_counter()
                call()
                last = time.perf_counter() - began
                if last > share:  # the caches do not matter then
                    break
            times[key].append(last)
        if time.perf_counter() - start > seconds:
            break
    return {" / ".join(key): values for key, values in times.items()}


def summarize(shape: tuple[int, ...], threads: int, times: dict[str, list[float]]) -> dict[str, Any]:
    """Medians, quartiles and floors of a shape, in milliseconds."""
    median = {key: 1e3 * statistics.median(values) for key, values in times.items()}
    again = 4 * int(np.prod(shape)) // shape[1] > SMALL
    channels, copy, triad = shape[1] * again, median["floor / copy"], median["floor / triad"]
    floors = {
        "inference": copy,
        "train": copy + channels * median["floor / read a channel"],
        "backward": triad + channels * median["floor / read two channels"],
    }
    spread = {key: [1e3 * float(np.quantile(values, q)) for q in (0.25, 0.75)] for key, values in times.items()}
    return {
        "shape": shape,
        "threads": threads,
        "mebibytes": 4 * int(np.prod(shape)) / 2**20,
        "large_channels": again,
        "floors_ms": floors,
        "median_ms": median,
        "quartiles_ms": spread,
        "samples": {key: len(values) for key, values in times.items()},
    }


def show(row: dict[str, Any]) -> None:
    write = sys.stdout.write
    size, threads = "x".join(map(str, row["shape"])), row["threads"]
    write(f"\n{size} ({row['mebibytes']:.1f} MiB), {threads} threads\n")
    write(f"{'pass':18s}{'library':18s}{'ms':>9s}{'quartiles':>18s}{'/ floor':>9s}{'/ darkbn':>9s}\n")
    for name in ("train", "train, own output", "backward", "inference"):
        base = name.split(",")[0]
        if name == base:
            write(f"{name:18s}{'floor':18s}{row['floors_ms'][base]:9.3f}\n")
        for library in ("darkbn", "darkbn, 1 thread", *LIBRARIES[1:]):
            key = f"{library} / {name}"
            if key not in row["median_ms"]:
                continue
            ms, (low, high) = row["median_ms"][key], row["quartiles_ms"][key]
            ratio, peer = ms / row["floors_ms"][base], ms / row["median_ms"][f"darkbn / {base}"]
            label, spread = "" if name == base else name, f"{low:.3f}-{high:.3f}"
            write(f"{label:18s}{library:18s}{ms:9.3f}{spread:>18s}{ratio:9.2f}{peer:9.2f}\n")
    sys.stdout.flush()


def plot(rows: list[dict[str, Any]], path: str) -> None:
    """Time over floor per shape and library."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    colors = {"darkbn": "#1f6f54", "torch": "#d95f02", "onnxruntime": "#7570b3", "numpy": "#999999"}
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), sharey=True, layout="constrained")
    for axis, name in zip(axes, PASSES, strict=True):
        for place, library in enumerate(LIBRARIES):
            key = f"{library} / {name}"
            shown = [
                (i, r["median_ms"][key] / r["floors_ms"][name]) for i, r in enumerate(rows) if key in r["median_ms"]
            ]
            if not shown:
                continue
            at, heights = [i + 0.21 * (place - 1.5) for i, _ in shown], [h for _, h in shown]
            bars = axis.bar(at, heights, 0.2, label=library, color=colors[library])
            if library in ("darkbn", "torch"):
                axis.bar_label(bars, [f"{h:.1f}" for h in heights], fontsize=7)
        axis.axhline(1, color="black", linewidth=0.8)
        title = {"train": "training forward", "backward": "backward", "inference": "inference"}[name]
        axis.set_title(title)
        axis.set_yscale("log")
        labels = [" x ".join(map(str, row["shape"])) for row in rows]
        axis.set_xticks(range(len(rows)), labels, rotation=25, ha="right", fontsize=8)
    axes[0].set_ylabel("time / floor (1 = memory traffic alone)")
    axes[2].legend(fontsize=8)
    figure.suptitle(f"Batch normalization, {rows[0]['threads']} threads: time over the floor of its memory traffic")
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=100)


def versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version(), "machine": platform.machine(), "level": cpu.level()}
    for name in ("numpy", "torch", "onnxruntime"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", nargs="+", type=int, choices=range(len(SHAPES)), default=list(range(len(SHAPES))))
    parser.add_argument("--libraries", nargs="*", choices=LIBRARIES[1:], default=list(LIBRARIES[1:]))
    parser.add_argument("--seconds", type=float, default=8, help="for each shape")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--png", metavar="FILE")
    arguments = parser.parse_args()
    rows = []
    for index in arguments.only:
        calls = all_calls(Data(SHAPES[index]), arguments.threads, arguments.libraries)
        rows.append(summarize(SHAPES[index], arguments.threads, measure(calls, arguments.seconds)))
        show(rows[-1])
    if arguments.json:
        document = {"versions": versions(), "threads": arguments.threads, "rows": rows}
        Path(arguments.json).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(arguments.json) as file:
            file.write((json.dumps(document, indent=1) + "\n").encode())
    if arguments.png:
        plot(rows, arguments.png)


if __name__ == "__main__":
    main()
