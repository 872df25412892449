"""Tiny networks that see colours, made by hand: what they find in a picture is known beforehand."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import darkbn

#: Size of the detector's input, and of its cells.
SIZE, CELL = 32, 8

DETECTOR = f"""[net]
width={SIZE}
height={SIZE}
channels=3
batch=1
{{net}}

[convolutional]
filters=7
size={CELL}
stride={CELL}
activation=linear

[yolo]
mask=0
anchors={CELL},{CELL}
classes=2
num=1
{{yolo}}
"""

CLASSIFIER = f"""[net]
width={SIZE}
height={SIZE}
channels=3

[convolutional]
filters=3
size={SIZE}
stride={SIZE}
activation=linear
"""


def detector(
    dialect: str = "darknet", net: str = "", yolo: str = "", batch: int = 1, device: str = "cpu"
) -> darkbn.Network:
    """Finds cells that are red (class 0) or blue (class 1): one box of the cell's size in its middle."""
    found = darkbn.load(DETECTOR.format(net=net, yolo=yolo), dialect=dialect, batch=batch, device=device)
    weights, biases = np.zeros((7, 3, CELL * CELL)), np.zeros(7)
    weights[4] = [[20], [-20], [20]]
    weights[5] = [[20], [0], [-20]]
    weights[6] = [[-20], [0], [20]]
    biases[4] = -10
    _set(found, weights / CELL**2, biases)
    return found


def classifier(dialect: str = "darknet") -> darkbn.Network:
    """Gives the means of red, green and blue."""
    found = darkbn.load(CLASSIFIER, dialect=dialect)
    _set(found, np.eye(3)[:, :, np.newaxis].repeat(SIZE**2, axis=2) / SIZE**2, np.zeros(3))
    return found


def _set(net: darkbn.Network, weights: np.ndarray, biases: np.ndarray) -> None:
    layer = net.layers[0]
    layer.weights[...] = weights.reshape(layer.weights.shape)
    layer.biases[...] = biases


def save(net: darkbn.Network, folder: Path, cfg: str = DETECTOR.format(net="", yolo="")) -> list[str]:
    """Write cfg and weights; returns their paths."""
    paths = [folder / "colours.cfg", folder / "colours.weights"]
    paths[0].write_text(cfg)
    net.save_weights(paths[1])
    return [str(path) for path in paths]


def picture(width: int = SIZE, height: int = SIZE, **cells: tuple[int, int, int, int]) -> np.ndarray:
    """Black pixels (height, width, 3) with rectangles (left, top, right, bottom) named red, blue, ..."""
    colours = {"red": (255, 0, 0), "blue": (0, 0, 255), "green": (0, 255, 0)}
    pixels = np.zeros((height, width, 3), np.uint8)
    for name, (left, top, right, bottom) in cells.items():
        pixels[top:bottom, left:right] = colours[name]
    return pixels
