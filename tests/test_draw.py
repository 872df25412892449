"""Annotated pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkbn.detect import Box, Detection
from darkbn.draw import class_colour, draw_detections, ink_colour, save_detections
from darkbn.images import read_pixels

GREY = np.full((300, 400, 3), 128, np.uint8)


def found(x: float, y: float, w: float, h: float, class_id: int = 0, label: str = "dog") -> Detection:
    return Detection(class_id, label, 0.5, Box(x, y, w, h))


def changed(picture: Image.Image, before: np.ndarray = GREY) -> np.ndarray:
    return (np.asarray(picture) != before).any(axis=2)


def test_boxes_are_where_they_were_found() -> None:
    picture = draw_detections(GREY, [found(0.5, 0.5, 0.5, 0.4)])
    pixels = np.asarray(picture)
    for x, y in ((100, 150), (300, 150), (200, 90), (200, 210)):
        assert tuple(pixels[y, x]) == class_colour(0), (x, y)
    inside = changed(picture)[100:200, 110:290]
    assert not inside.any(), "only the edge is drawn"
    assert not changed(picture)[:, 320:].any()
    assert not changed(picture)[:60].any()


def test_the_given_picture_stays_as_it_was() -> None:
    before = GREY.copy()
    assert changed(draw_detections(GREY, [found(0.5, 0.5, 1, 1)])).any()
    assert np.array_equal(before, GREY)
    assert not changed(draw_detections(GREY, [])).any()


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (40, 30), (3000, 2000)])
@pytest.mark.parametrize(
    "box",
    [(0.5, 0.5, 0.2, 0.2), (0, 0, 3, 3), (0.5, 0.5, 0, 0), (-2, 0.5, 1, 1), (1.5, 1.5, 0.2, 0.2), (0.9, 0, 1, 0.01)],
)
def test_every_box_can_be_drawn(size: tuple[int, int], box: tuple[float, float, float, float]) -> None:
    picture = Image.new("RGB", size, "white")
    label = "a very long label\nof two lines, and more than fits into the picture"
    assert draw_detections(picture, [found(*box, label=label), found(*box, class_id=3)]).size == size


def test_lines_and_letters_grow_with_the_picture() -> None:
    def share(scale: int) -> float:
        picture = np.full((300 * scale, 400 * scale, 3), 128, np.uint8)
        return float(changed(draw_detections(picture, [found(0.5, 0.5, 0.5, 0.4)]), picture).mean())

    assert share(8) == pytest.approx(share(3), rel=0.2)


def test_labels_do_not_hide_each_other() -> None:
    """Labels of two boxes in one place take two places."""
    one = changed(draw_detections(GREY, [found(0.5, 0.5, 0.5, 0.4)])).sum()
    both = draw_detections(GREY, [found(0.5, 0.5, 0.5, 0.4), found(0.5, 0.5, 0.5, 0.4, 1)])
    label = 0.8 * (one - changed(draw_detections(GREY, [found(0.5, 0.5, 0.5, 0.4, label="")])).sum())
    assert changed(both).sum() > one + label


def test_colours() -> None:
    assert len({class_colour(i) for i in range(80)}) == 80
    assert ink_colour((255, 255, 0)) == (0, 0, 0)
    assert ink_colour((20, 20, 120)) == (255, 255, 255)


def test_saved_pictures(tmp_path: Path) -> None:
    for suffix in (".png", ".jpg", ".JPEG", ".webp", ".bmp"):
        path = tmp_path / f"a{suffix}"
        save_detections(Image.new("LA", (80, 60)), [found(0.5, 0.5, 0.5, 0.5)], path)
        assert read_pixels(path).shape == (60, 80, 3)
