"""A training step of darkbn beside PyTorch's: forward, loss, backward and update, in one run.

    pip install 'darkbn[bench]'
    python benchmarks/bench_training.py --cfg-dir darknet/cfg [--only resnet18] [--seconds 40] [--threads 2]
        [--json raw.json] [--png chart.png] [--profile]

Both train the same network (`darkbn.interop.torch.to_module`): same parameters, input, labels, rate, momentum and
decay (of weights only), batch normalization by the convention `pytorch`, for which PyTorch has its own fast layers.
Classifiers have the same loss; PyTorch's is its cross entropy of the values before the softmax. The losses of [yolo]
are computed by darkbn for both, which takes a millisecond. PyTorch gets the memory format (channels last or not) that
it is faster with, and its fused optimizer.

Beforehand both make three steps with fewer images and without dropout. Shown are the largest relative difference of
their losses, and that of the first step of a layer's weights (root mean square): a value within rounding of 0 before
leaky or relu can go back through either branch, so one in a million of them makes a thousandth of a gradient.

They take turns; medians, spreads (half the distance between the quartiles) and the ratio are shown. A network has at
most `--seconds` for its turns, but at least two. With `--json`, rows measured now replace those of the file, so that
networks can be measured one by one; `--png` draws all of the file.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import darkbn
from darkbn import cpu
from darkbn.files import atomic_write
from darkbn.optimizer import LearningRate
from darkbn.state import NetworkState
from darkbn.training_profile import random_batch

#: Rate of both: small, for random labels must not make random networks diverge.
RATE = 1e-4
#: Images per step when results are compared, and when PyTorch's memory format is chosen.
FEW = 8
Step = Callable[[], float]


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


def load(cfg: Path, row: Row, batch: int, threads: int) -> Any:
    net = darkbn.load(
        cfg, width=row.size, height=row.size, batch=batch, train=True, seed=1, threads=threads, batchnorm="pytorch"
    )
    net.rate = LearningRate(RATE)
    net.subdivisions = 1
    return net


def torch_module(net: Any, threads: int) -> Any:
    """The network in PyTorch, in training mode, up to what the losses take."""
    import torch

    from darkbn.interop.torch import to_module

    torch.set_num_threads(threads)
    module = to_module(net)
    losses = [index for index, layer in enumerate(net.layers) if layer.has_cost]
    module.results = [index - 1 for index in losses[: 1 if not net.heads else None]]
    return module.train()


def torch_step(module: Any, net: Any, x: np.ndarray, truth: np.ndarray, channels_last: bool) -> Step:
    """One step of PyTorch; returns the loss as darkbn's `train_step` does."""
    import torch

    layout = torch.channels_last if channels_last else torch.contiguous_format
    module.to(memory_format=layout)
    data = torch.from_numpy(x).contiguous(memory_format=layout)
    options, parameters = net.options, list(module.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": options.decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, RATE, options.momentum, fused=True)
    heads = [layer for layer in net.layers if layer.is_head]
    classes = None if heads else torch.from_numpy(truth.argmax(1))

    def step() -> float:
        found = module(data)
        found = list(found) if isinstance(found, tuple) else [found]
        if classes is None:
            costs, deltas = zip(
                *(head_loss(head, y, net, truth) for head, y in zip(heads, found, strict=True)), strict=True
            )
            cost = sum(costs) / len(costs)
            gradients = [
                torch.from_numpy(delta).reshape(y.shape) / -len(x) for delta, y in zip(deltas, found, strict=True)
            ]
            torch.autograd.backward(found, gradients)
        else:
            loss = torch.nn.functional.cross_entropy(found[0].flatten(1), classes, reduction="sum")
            (loss / len(x)).backward()
            cost = float(loss.detach())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(cost)

    return step


def head_loss(head: Any, y: Any, net: Any, truth: np.ndarray) -> tuple[float, np.ndarray]:
    """Loss of a head and its delta, for an input that PyTorch computed."""
    head.delta.fill(0)
    values = np.ascontiguousarray(y.detach().numpy())
    head.forward(
        NetworkState(input=values, truth=truth, train=True, threads=net.threads, layers=net.layers, seen=net.seen)
    )
    return float(head.cost), head.delta


def without_dropout(net: Any, module: Any) -> None:
    for layer, block in zip(net.layers, module.layers, strict=True):
        if layer.type == "dropout":
            layer.probability, layer.scale, block.probability = 0.0, 1.0, 0.0


def compare(cfg: Path, row: Row, threads: int) -> dict[str, Any]:
    """Losses of the first steps of both, and how far apart the first step leaves their weights."""
    net = load(cfg, row, min(row.batch, FEW), threads)
    module = torch_module(net, threads)
    without_dropout(net, module)
    x, truth = random_batch(net, 2)
    other = load(cfg, row, net.batch, threads)  # computes PyTorch's losses of heads
    step = torch_step(module, other, x, truth, False)
    before = [layer.weights.copy() if "weights" in vars(layer) else None for layer in net.layers]
    losses = [(net.train_step(x, truth), step())]
    pairs = zip(net.layers, before, module.layers, strict=True)
    difference = max(step_difference(layer.weights, old, block) for layer, old, block in pairs if old is not None)
    losses += [(net.train_step(x, truth), step()) for _ in range(2)]
    return {"losses": losses, "difference": difference}


def step_difference(weights: np.ndarray, before: np.ndarray, block: Any) -> float:
    """Root mean square of the difference of a layer's weights over that of their step."""
    off = weights - block.conv.weight.detach().numpy().reshape(before.shape)
    return float(np.linalg.norm(off) / max(np.linalg.norm(weights - before), 1e-30))


def fastest_format(cfg: Path, row: Row, threads: int) -> bool:
    """Whether PyTorch is faster with channels last: a step with few images each, after one that does not count."""
    seconds = []
    for channels_last in (False, True):
        net = load(cfg, row, min(row.batch, FEW), threads)
        step = torch_step(torch_module(net, threads), net, *random_batch(net, 2), channels_last)
        step()
        seconds.append(min(timed(step) for _ in range(2)))
    return seconds[1] < seconds[0]


def timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(cfg: Path, row: Row, seconds: float, threads: int, torch: bool) -> dict[str, Any]:
    net = load(cfg, row, row.batch, threads)
    x, truth = random_batch(net, 2)
    steps: dict[str, Callable[[], Any]] = {"darkbn": lambda: net.train_step(x, truth)}
    entry: dict[str, Any] = {"name": row.name, "size": row.size, "batch": row.batch}
    if torch:
        entry |= compare(cfg, row, threads)
        entry["channels_last"] = fastest_format(cfg, row, threads)
        helper = load(cfg, row, row.batch, threads) if net.heads else net
        steps["torch"] = torch_step(torch_module(net, threads), helper, x, truth, entry["channels_last"])
    times: dict[str, list[float]] = {name: [] for name in steps}
    end = None
    while end is None or time.perf_counter() < end or min(map(len, times.values())) < 2:
        for name, step in steps.items():
            time.sleep(0.2)  # the other's threads may still spin
            if end is not None:
                times[name].append(timed(step))
            else:
                step()  # for warming up
        end = end or time.perf_counter() + seconds
    results = {name: {"seconds": own, **summary(own)} for name, own in times.items()}
    ratio = results["torch"]["median"] / results["darkbn"]["median"] if torch else None
    return entry | {"results": results, "ratio": ratio}


def summary(seconds: list[float]) -> dict[str, float]:
    low, _, high = statistics.quantiles(seconds, n=4)
    return {"median": statistics.median(seconds), "spread": (high - low) / 2, "least": min(seconds)}


def line(entry: dict[str, Any]) -> str:
    cells = [f"{1e3 * r['median']:8.1f} ±{1e3 * r['spread']:6.1f}" for r in entry["results"].values()]
    text = f"{entry['name']:26} {'  '.join(cells)}"
    if entry["ratio"] is None:
        return text
    losses = max(abs(a - b) / abs(b) for a, b in entry["losses"])
    return f"{text}  {entry['ratio']:5.2f}  {losses:.0e} {entry['difference']:.0e}"


def chart(document: dict[str, Any], path: Path) -> None:
    """Bars: milliseconds of a step, and the ratio."""
    from matplotlib.figure import Figure

    rows = [entry for entry in document["rows"] if entry["ratio"] is not None]
    figure = Figure(figsize=(8, 1.2 + 0.7 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for k, name in enumerate(("darkbn", "torch")):
        places = [i + 0.4 * (k - 0.5) for i in range(len(rows))]
        widths = [entry["results"][name]["median"] / entry["results"]["darkbn"]["median"] for entry in rows]
        axes.barh(places, widths, 0.38, label=f"{name} {document['versions'][name]}")
        for place, width, entry in zip(places, widths, rows, strict=True):
            r = entry["results"][name]
            text = f" {1e3 * r['median']:.0f} ± {1e3 * r['spread']:.0f} ms"
            axes.text(width, place, text + (f", {entry['ratio']:.2f}x" if k else ""), va="center", fontsize=8)
    axes.axvline(2, color="black", linewidth=0.5, linestyle="--")
    axes.set_yticks(range(len(rows)), [entry["name"] for entry in rows], fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.25)
    axes.set_xlabel("time of a training step relative to darkbn (dashed: the goal)")
    axes.set_title(f"{document['machine']} ({document['level']}), {document['threads']} threads", fontsize=8)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=130)


def describe(threads: int, torch: bool) -> dict[str, Any]:
    versions = {"darkbn": darkbn.__version__}
    if torch:
        import torch as package

        versions["torch"] = package.__version__
    machine = f"{platform.system()} {platform.machine()}"
    return {"machine": machine, "level": cpu.level(), "threads": threads, "versions": versions}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg-dir", type=Path, nargs="+", required=True, help="folders with the networks' .cfg")
    parser.add_argument("--only", nargs="*", help="names of networks")
    parser.add_argument("--seconds", type=float, default=40, help="most time for the turns of a network")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--profile", action="store_true", help="show where darkbn's time goes, kernel by kernel")
    parser.add_argument("--json", type=Path, help="file for all times; rows measured now replace those of the file")
    parser.add_argument("--png", type=Path, help="chart (needs matplotlib)")
    return parser.parse_args()


def main() -> None:
    args, write = parse(), sys.stdout.write
    torch = importlib.util.find_spec("torch") is not None
    if not torch:
        write("torch: not installed, skipped\n")
    document = json.loads(args.json.read_text()) if args.json and args.json.exists() else {"rows": []}
    document = describe(args.threads, torch) | {"rows": document["rows"]}
    write(f"{'ms, median ± spread':26} {'darkbn':>16}  {'torch':>16}  ratio  difference of losses, of the step\n")
    for row in ROWS:
        if args.only and Path(row.cfg).stem not in args.only:
            continue
        cfg = next((path for folder in args.cfg_dir for path in sorted(folder.rglob(row.cfg))), None)
        if cfg is None:
            write(f"{row.name:26} {row.cfg} is not in {', '.join(map(str, args.cfg_dir))}\n")
            continue
        entry = measure(cfg, row, args.seconds, args.threads, torch)
        write(line(entry) + "\n")
        if args.profile:
            write(f"{load(cfg, row, row.batch, args.threads).profile_training(repeat=3)}\n")
        sys.stdout.flush()
        document["rows"] = [old for old in document["rows"] if old["name"] != row.name] + [entry]
        if args.json:
            with atomic_write(args.json) as file:
                file.write(json.dumps(document, indent=1).encode() + b"\n")
    if args.png and document["rows"]:
        chart(document, args.png)


if __name__ == "__main__":
    main()
