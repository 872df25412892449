"""A training step of darkbn beside PyTorch's: forward, backward and update, in one run.

    pip install 'darkbn[bench]'
    python benchmarks/bench_training.py --cfg-dir darknet/cfg [--only resnet18] [--rounds 5] [--threads 2]
        [--json raw.json]

Both train the same network (`darkbn.interop.torch.to_module`) on the same input with momentum and decay, batch
normalization by the convention `pytorch`, for which PyTorch has its own fast layers. darkbn computes the network's
losses; PyTorch gets a linear one, which costs it nothing. They take turns; medians, spreads (half the distance between
the quartiles) and the ratio are shown. Beforehand, the outputs of both in training are compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import darkbn


@dataclass(frozen=True)
class Row:
    """One line of the table: a network, the size of its input, images per step."""

    cfg: str
    size: int
    batch: int

    @property
    def name(self) -> str:
        return f"{Path(self.cfg).stem} {self.size} batch {self.batch}"


ROWS = (
    Row("yolov3-tiny.cfg", 416, 4),
    Row("darknet19.cfg", 224, 8),
    Row("resnet18.cfg", 224, 8),
    Row("cifar.cfg", 28, 128),
)


def make_data(net: Any, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An input, and labels that a network of its kind takes: a few boxes an image, or a class."""
    x = rng.random(net.input_shape, np.float32)
    if net.heads:
        boxes = np.zeros((net.batch, 90, 5), np.float32)
        boxes[:, :5, :2] = rng.uniform(0.2, 0.8, (net.batch, 5, 2))
        boxes[:, :5, 2:4] = rng.uniform(0.1, 0.4, (net.batch, 5, 2))
        boxes[:, :5, 4] = rng.integers(0, net.heads[0].classes, (net.batch, 5))
        return x, boxes.reshape(net.batch, -1)
    labels = np.zeros((net.batch, net.output_layer.outputs), np.float32)
    labels[np.arange(net.batch), rng.integers(0, labels.shape[1], net.batch)] = 1
    return x, labels


def torch_step(module: Any, x: np.ndarray, net: Any, threads: int) -> Callable[[], None]:
    import torch

    torch.set_num_threads(threads)
    module.train()
    options = net.options
    optimizer = torch.optim.SGD(module.parameters(), 1e-6, options.momentum, weight_decay=options.decay)
    data = torch.from_numpy(x)

    def step() -> None:
        found = module(data)
        loss = sum(y.sum() for y in (found if isinstance(found, list | tuple) else [found]))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def difference(module: Any, net: Any, x: np.ndarray, truth: np.ndarray) -> float:
    """Largest difference of the outputs in training, over the largest magnitude."""
    import torch

    module.train()
    with torch.no_grad():
        found = module(torch.from_numpy(x))
    net.forward(x, truth, train=True)
    layers = net.heads or [net.output_layer]
    pairs = zip(found if isinstance(found, list | tuple) else [found], layers, strict=True)
    return max(
        float(np.abs(y.numpy().ravel() - layer.output.ravel()).max() / np.abs(layer.output).max()) for y, layer in pairs
    )


def measure(cfg: Path, row: Row, rounds: int, threads: int) -> dict[str, Any]:
    from darkbn.interop.torch import to_module

    options: dict[str, Any] = {"batch": row.batch, "train": True, "seed": 1, "threads": threads, "batchnorm": "pytorch"}
    net = darkbn.load(cfg, width=row.size, height=row.size, **options)
    x, truth = make_data(net, np.random.default_rng(2))
    module = to_module(net)
    entry: dict[str, Any] = {"network": row.name, "difference": difference(module, net, x, truth)}
    steps: dict[str, Callable[[], Any]] = {
        "darkbn": lambda: net.train_step(x, truth),
        "torch": torch_step(module, x, net, threads),
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):  # the first is for warming up
        for name, step in steps.items():
            time.sleep(0.3)  # the other's threads may still spin
            start = time.perf_counter()
            step()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return entry | {"seconds": seconds}


def line(entry: dict[str, Any]) -> str:
    cells = []
    for values in entry["seconds"].values():
        low, _, high = statistics.quantiles(values, n=4)
        cells.append(f"{1e3 * statistics.median(values):8.1f} ±{1e3 * (high - low) / 2:5.1f}")
    ours, theirs = (statistics.median(values) for values in entry["seconds"].values())
    return f"{entry['network']:26} {'  '.join(cells)}  {theirs / ours:5.2f}  {entry['difference']:.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--cfg-dir", type=Path, nargs="+", required=True, help="folders with the networks' .cfg")
    parser.add_argument("--only", nargs="*", help="names of networks")
    parser.add_argument("--rounds", type=int, default=5, help="measured steps of each")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="file for all times")
    args = parser.parse_args()
    write = sys.stdout.write
    write(f"{'ms, median ± spread':26} {'darkbn':>15}  {'torch':>15}  ratio  difference\n")
    entries = []
    for row in ROWS:
        cfg = next((path for folder in args.cfg_dir for path in sorted(folder.rglob(row.cfg))), None)
        if args.only and Path(row.cfg).stem not in args.only:
            continue
        if cfg is None:
            write(f"{row.name:26} {row.cfg} is not in {', '.join(map(str, args.cfg_dir))}\n")
            continue
        entries.append(measure(cfg, row, max(args.rounds, 2), args.threads))
        write(line(entries[-1]) + "\n")
        sys.stdout.flush()
    if args.json:
        args.json.write_text(json.dumps(entries, indent=1))


if __name__ == "__main__":
    main()
