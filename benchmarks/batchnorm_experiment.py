"""What batch normalization does to training: the first experiment of its paper, small (Ioffe and Szegedy 2015, 4.1).

    python benchmarks/batchnorm_experiment.py [--png FILE] [--json FILE]

Three hidden layers of 100 logistic units learn the digits of scikit-learn (8 x 8 pixels) with darkbn, by gradient
descent with momentum, at several learning rates: without batch normalization, with it before the activation, and with
it after the activation. Loss and accuracy are means over a few seeds. The drift is that of the input of the last hidden
layer's activation: 15th, 50th and 85th percentile of one unit over a fixed set of images while the network learns.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import darkbn
from darkbn.extras import require
from darkbn.files import atomic_write

BATCH, TEST, EPOCHS, CLASSES = 64, 512, 25, 10
RATES = (0.01, 0.1, 0.3, 1.0)
SEEDS = (0, 1, 2)
VARIANTS = {"without": "#d95f02", "before the activation": "#1f6f54", "after the activation": "#7570b3"}
#: Steps between two looks at the network; the rate whose drift is shown; how often a hidden unit is looked at.
EVERY, DRIFT_RATE, UNIT = 10, 0.1, 0


@dataclass
class Run:
    """What one training looked like, every EVERY steps."""

    variant: str
    rate: float
    seed: int
    steps: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    percentiles: list[list[float]] = field(default_factory=list)


def description(variant: str, rate: float) -> str:
    """The network as a cfg."""
    normalize = int(variant == "before the activation")
    hidden = f"[connected]\noutput=100\nactivation=logistic\nbatch_normalize={normalize}\n"
    if variant == "after the activation":
        hidden += "[batchnorm]\n"
    head = f"[net]\nbatch={BATCH}\ninputs=64\nlearning_rate={rate}\nmomentum=0.9\ndecay=0\n"
    return head + 3 * hidden + f"[connected]\noutput={CLASSES}\nactivation=linear\n[softmax]\n"


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 64) with mean 0 and deviation 1, classes (n,), in an order that is random and always the same."""
    found = require("sklearn.datasets", extra="experiment").load_digits()
    order = np.random.default_rng(0).permutation(len(found.data))
    images = found.data[order].astype(np.float32)
    return (images - images.mean()) / images.std(), found.target[order]


def train(variant: str, rate: float, seed: int, images: np.ndarray, classes: np.ndarray) -> Run:
    """One training; the last TEST images are not learned."""
    net = darkbn.load(
        description(variant, rate), train=True, dialect="alexeyab", batchnorm="pytorch", seed=seed, threads=1
    )
    net.check_finite = False  # a network that diverges is a result here
    last_hidden = [layer for layer in net.layers if layer.type == "connected"][2]
    run, rng = Run(variant, rate, seed), np.random.default_rng(seed)
    truth = np.eye(CLASSES, dtype=np.float32)[classes]
    known, step, losses = len(images) - TEST, 0, []
    for _ in range(EPOCHS):
        order = rng.permutation(known)
        for start in range(0, known - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            losses.append(net.train_step(images[chosen], truth[chosen]) / BATCH)
            step += 1
            if step % EVERY == 0:
                look(net, last_hidden, images[known:], classes[known:], run)
                run.steps.append(step)
                run.loss.append(float(np.mean(losses)))
                losses = []
    return run


def look(net: Any, hidden: Any, images: np.ndarray, classes: np.ndarray, run: Run) -> None:
    """Accuracy on images that are not learned, and percentiles of a hidden unit's input."""
    right, inputs = 0, []
    for start in range(0, len(images), BATCH):
        scores = net.forward(images[start : start + BATCH])
        right += int((scores.reshape(BATCH, -1).argmax(axis=1) == classes[start : start + BATCH]).sum())
        value = np.clip(hidden.output[:, UNIT].astype(np.float64), 1e-7, 1 - 1e-7)
        inputs.append(np.log(value / (1 - value)))  # the activation is logistic: this is what went into it
    run.accuracy.append(right / len(images))
    run.percentiles.append(np.percentile(np.concatenate(inputs), [15, 50, 85]).tolist())


def mean_of(runs: list[Run], variant: str, rate: float, name: str) -> tuple[list[int], np.ndarray]:
    chosen = [run for run in runs if (run.variant, run.rate) == (variant, rate)]
    return chosen[0].steps, np.mean([getattr(run, name) for run in chosen], axis=0)


def plot(runs: list[Run], path: str) -> None:
    """Accuracy and loss per rate; drift per variant."""
    matplotlib = require("matplotlib", extra="experiment")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, len(RATES), figsize=(11, 7.2), layout="constrained")
    for column, rate in enumerate(RATES):
        for variant, color in VARIANTS.items():
            steps, accuracy = mean_of(runs, variant, rate, "accuracy")
            axes[0, column].plot(steps, accuracy, color=color, label=variant)
            axes[1, column].plot(steps, mean_of(runs, variant, rate, "loss")[1], color=color)
        axes[0, column].set(title=f"learning rate {rate:g}", ylim=(0, 1.02))
        axes[1, column].set(yscale="log", ylim=(1e-4, 20), xlabel="steps")
    axes[0, 0].set_ylabel("accuracy, new digits")
    axes[1, 0].set_ylabel("training loss")
    axes[0, 0].legend(fontsize=8, title="batch normalization", title_fontsize=8)
    for column, (variant, color) in enumerate(VARIANTS.items()):
        run = next(r for r in runs if (r.variant, r.rate, r.seed) == (variant, DRIFT_RATE, SEEDS[0]))
        low, middle, high = np.transpose(run.percentiles)
        axes[2, column].fill_between(run.steps, low, high, color=color, alpha=0.25, linewidth=0)
        axes[2, column].plot(run.steps, middle, color=color)
        axes[2, column].set(title=f"{variant}, rate {DRIFT_RATE:g}", ylim=(-6, 6), xlabel="steps")
        axes[2, column].title.set_fontsize(10)
    axes[2, 0].set_ylabel("input of a hidden unit\n15, 50, 85 % of the digits")
    axes[2, 3].axis("off")
    axes[2, 3].text(0, 0.5, caption(runs), fontsize=9, va="center")
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=80)


def reached(runs: list[Run], variant: str, rate: float, accuracy: float) -> int | None:
    """Steps until the mean accuracy first reaches a value; None: never."""
    steps, values = mean_of(runs, variant, rate, "accuracy")
    return next((s for s, v in zip(steps, values, strict=True) if v >= accuracy), None)


def caption(runs: list[Run]) -> str:
    lines = ["Steps to 90 % of the new digits:", ""]
    for variant in VARIANTS:
        found = {rate: reached(runs, variant, rate, 0.9) for rate in RATES}
        lines.append(variant)
        lines += [f"    rate {rate:g}: {steps or 'never'}" for rate, steps in found.items()]
    return "\n".join(lines)


def report(runs: list[Run]) -> None:
    """The numbers of the figure as a table."""
    write = sys.stdout.write
    write(f"{'batch normalization':24s}{'rate':>6s}{'to 90 %':>9s}{'accuracy':>10s}{'loss':>10s}{'drift':>8s}\n")
    for variant in VARIANTS:
        for rate in RATES:
            accuracy, loss = (mean_of(runs, variant, rate, name)[1][-1] for name in ("accuracy", "loss"))
            steps = str(reached(runs, variant, rate, 0.9) or "never")
            write(f"{variant:24s}{rate:6g}{steps:>9s}{accuracy:10.3f}{loss:10.2g}")
            write(f"{drift(runs, variant, rate):8.2f}\n")
    write("nan: the training diverged\n")
    write("drift: how far the median of the hidden unit's input goes (range over the run), mean over the seeds\n")


def drift(runs: list[Run], variant: str, rate: float) -> float:
    chosen = [run for run in runs if (run.variant, run.rate) == (variant, rate)]
    return float(np.mean([np.ptp(np.array(run.percentiles)[:, 1]) for run in chosen]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--png", metavar="FILE", default="docs/images/batchnorm_experiment.png")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    start = time.perf_counter()
    images, classes = digits()
    runs = [train(variant, rate, seed, images, classes) for variant in VARIANTS for rate in RATES for seed in SEEDS]
    report(runs)
    plot(runs, arguments.png)
    if arguments.json:
        with atomic_write(arguments.json) as file:
            file.write(json.dumps([vars(run) for run in runs]).encode())
    sys.stdout.write(f"{time.perf_counter() - start:.0f} s, {arguments.png}\n")


if __name__ == "__main__":
    main()
