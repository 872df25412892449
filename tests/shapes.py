"""Pictures of circles, squares and triangles with their labels, and the training of the detector in tests/data.

python tests/shapes.py          trains tests/data/shapes.weights anew (some minutes) and draws tests/data/shapes.png
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import darkbn

FOLDER = Path(__file__).parent / "data"
CLASSES = ("circle", "square", "triangle")
#: Rows of (x, y, w, h, class) that a picture's labels have room for in dialect darknet.
ROWS = 90


def draw(rng: np.random.Generator, size: int = 96, objects: int = 3) -> tuple[Image.Image, np.ndarray]:
    """A picture and its labels.

    Args:
        rng: where everything random comes from.
        size: width and height.
        objects: the largest number of objects.

    Returns:
        The picture, and (n, 5) rows of relative x, y, w, h (centre form) and class.
    """
    background = rng.integers(0, 256, 3)
    noise = rng.normal(0, 12, (size, size, 3))
    picture = Image.fromarray(np.clip(background + noise, 0, 255).astype(np.uint8))
    canvas, rows = ImageDraw.Draw(picture), []
    for _ in range(rng.integers(1, objects + 1)):
        side = rng.uniform(0.15, 0.45) * size
        x, y = rng.uniform(side / 2, size - side / 2, 2)
        row = [x / size, y / size, side / size, side / size, float(rng.integers(3))]
        if any(_overlap(row, other) for other in rows):
            continue
        _shape(canvas, int(row[4]), x, y, side, _contrasting(rng, background))
        rows.append(row)
    return picture, np.array(rows)


def _overlap(a: list[float], b: list[float]) -> bool:
    return abs(a[0] - b[0]) < (a[2] + b[2]) / 2 and abs(a[1] - b[1]) < (a[3] + b[3]) / 2


def _contrasting(rng: np.random.Generator, background: np.ndarray) -> tuple[int, ...]:
    while True:
        colour = rng.integers(0, 256, 3)
        if np.abs(colour - background).sum() > 200:
            return tuple(int(c) for c in colour)


def _shape(canvas: ImageDraw.ImageDraw, kind: int, x: float, y: float, side: float, colour: tuple[int, ...]) -> None:
    half = side / 2
    if kind == 0:
        canvas.ellipse((x - half, y - half, x + half, y + half), fill=colour)
    elif kind == 1:
        canvas.rectangle((x - half, y - half, x + half, y + half), fill=colour)
    else:
        canvas.polygon([(x, y - half), (x - half, y + half), (x + half, y + half)], fill=colour)


def batch(rng: np.random.Generator, count: int, size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """`count` pictures as network input (count, 3, size, size) and their labels (count, ROWS * 5)."""
    x = np.empty((count, 3, size, size), np.float32)
    truth = np.zeros((count, ROWS, 5), np.float32)
    for index in range(count):
        picture, rows = draw(rng, size)
        x[index] = np.asarray(picture).transpose(2, 0, 1) / 255.0
        truth[index, : len(rows)] = rows
    return x, truth.reshape(count, -1)


def train(iterations: int, seed: int = 0, threads: int | None = None) -> darkbn.Network:
    """The network of tests/data/shapes.cfg after that many updates on pictures drawn on the way."""
    net = darkbn.load(FOLDER / "shapes.cfg", train=True, seed=seed, dialect="darknet", threads=threads)
    rng = np.random.default_rng(seed)
    for iteration in range(iterations):
        loss = net.train_step(*batch(rng, net.batch)) / net.batch
        if iteration % 100 == 0:
            logging.info("iteration %d, loss %.3f", iteration, loss)
    return net


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    train(4500).save_weights(FOLDER / "shapes.weights")
    draw(np.random.default_rng(28), size=256, objects=5)[0].save(FOLDER / "shapes.png")
