"""The tiny detector in tests/data: trained by darkbn, it finds what tests/shapes.py draws, on every backend."""

from __future__ import annotations

import numpy as np
import pytest
import shapes

import darkbn
from darkbn.errors import ShapeError

CFG, WEIGHTS = shapes.FOLDER / "shapes.cfg", shapes.FOLDER / "shapes.weights"


def found_objects(net: darkbn.Network, pictures: int, seed: int) -> tuple[int, int, int]:
    """Objects drawn, found (right class, centre and size close), and found where there is none."""
    rng = np.random.default_rng(seed)
    drawn = hits = false = 0
    for _ in range(pictures):
        picture, rows = shapes.draw(rng)
        left = [tuple(row) for row in rows]
        drawn += len(left)
        for found in net.detect(picture, threshold=0.5, names=shapes.CLASSES):
            match = next((row for row in left if _close(found, row)), None)
            if match is None:
                false += 1
            else:
                left.remove(match)
                hits += 1
    return drawn, hits, false


def _close(found: object, row: tuple[float, ...]) -> bool:
    box = found.box
    near = abs(box.x - row[0]) < 0.06 and abs(box.y - row[1]) < 0.06
    return near and abs(box.w - row[2]) < 0.12 and abs(box.h - row[3]) < 0.12 and found.class_id == int(row[4])


def test_it_finds_the_shapes() -> None:
    drawn, hits, false = found_objects(darkbn.load(CFG, WEIGHTS), 100, seed=1234)
    assert hits >= 0.85 * drawn
    assert false <= 0.1 * drawn


def test_backends_find_the_same() -> None:
    picture = shapes.draw(np.random.default_rng(7))[0]
    found = [
        darkbn.load(CFG, WEIGHTS, device=device).detect(picture, names=shapes.CLASSES)
        for device in ("cpu", "reference")
    ]
    assert [f.label for f in found[0]] == [f.label for f in found[1]]
    for a, b in zip(*found, strict=True):
        assert a.probability == pytest.approx(b.probability, abs=1e-4)
        assert tuple(a.box) == pytest.approx(tuple(b.box), abs=1e-4)


def test_training_starts_from_labels() -> None:
    net = darkbn.load(CFG, train=True, seed=1, batch=8)
    rng = np.random.default_rng(1)
    x, truth = shapes.batch(rng, 8)
    losses = [net.train_step(x, truth) for _ in range(150)]
    assert np.mean(losses[-10:]) < 0.3 * np.mean(losses[:10])
    with pytest.raises(ShapeError, match="8 images"):
        net.train_step(x, truth[:3])
