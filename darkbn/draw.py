"""Detections drawn into a picture."""

from __future__ import annotations

import colorsys
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from darkbn.imageio import Source, read_pixels, save_picture

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

    from darkbn.detect import Detection

Colour = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]  # left, top, right, bottom in pixels

# Part of a turn between the hues of neighbouring classes: the golden section, so that no few of them are alike.
_HUE_STEP = 0.6180339887


def draw_detections(image: Source, detections: Iterable[Detection], *, exif: bool = False) -> Image.Image:
    """The picture with a box and a label for each detection; lines and letters are scaled to its size.

    Args:
        image: what `darkbn.images.read_pixels` takes.
        detections: of `darkbn.detect`.
        exif: as in `read_pixels`; the same as for the detection.

    Returns:
        A new Pillow image (RGB).
    """
    from PIL import Image, ImageDraw

    picture = Image.fromarray(read_pixels(image, exif=exif))
    canvas = ImageDraw.Draw(picture)
    style = _Style.for_size(*picture.size)
    strongest_first = sorted(detections, key=lambda d: -d.probability)
    for detection in reversed(strongest_first):
        style.draw_box(canvas, detection)
    taken: list[Rectangle] = []
    labels = [(detection, style.place_label(canvas, detection, taken)) for detection in strongest_first]
    for detection, place in reversed(labels):
        style.draw_label(canvas, detection, place)
    return picture


def save_detections(
    image: Source, detections: Iterable[Detection], path: str | os.PathLike[str], *, exif: bool = False
) -> None:
    """Write `draw_detections` to a file in the format of its suffix; it appears whole or not at all."""
    save_picture(draw_detections(image, detections, exif=exif), path)


def class_colour(class_id: int) -> Colour:
    """A bright colour; classes with near numbers have far hues."""
    turn = class_id * _HUE_STEP + 0.35
    red, green, blue = colorsys.hsv_to_rgb(turn % 1, (0.85, 0.65, 1.0)[class_id % 3], 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def ink_colour(background: Colour) -> Colour:
    """Black or white, whichever reads better on that background (relative luminance of WCAG 2)."""
    linear = [(c / 255 / 12.92 if c < 11 else ((c / 255 + 0.055) / 1.055) ** 2.4) for c in background]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if (luminance + 0.05) ** 2 > 0.05 * 1.05 else (255, 255, 255)


@dataclass(frozen=True)
class _Style:
    """Sizes for one picture: its width and height, line width, height and font of letters, space round them."""

    width: int
    height: int
    line: int
    letters: int
    font: Any
    margin: int

    @classmethod
    def for_size(cls, width: int, height: int) -> _Style:
        from PIL import ImageFont

        side = (width * height) ** 0.5
        letters = max(11, round(side / 42))
        font = ImageFont.load_default(letters)
        return cls(width, height, max(1, round(side / 260)), letters, font, max(2, letters // 6))

    def rectangle(self, detection: Detection) -> Rectangle:
        """The visible part of the box."""
        left, top, right, bottom = detection.box.pixels(self.width, self.height)
        return (
            min(max(left, 0), self.width - 1),
            min(max(top, 0), self.height - 1),
            min(max(right, 0), self.width - 1),
            min(max(bottom, 0), self.height - 1),
        )

    def draw_box(self, canvas: ImageDraw.ImageDraw, detection: Detection) -> None:
        """The box, with a thin dark edge so that it shows on every background."""
        left, top, right, bottom = self.rectangle(detection)
        edge = max(1, self.line // 3)
        outer = (left - edge, top - edge, right + edge, bottom + edge)
        canvas.rectangle(outer, outline=(0, 0, 0), width=self.line + 2 * edge)
        canvas.rectangle((left, top, right, bottom), outline=class_colour(detection.class_id), width=self.line)

    def place_label(self, canvas: ImageDraw.ImageDraw, detection: Detection, taken: list[Rectangle]) -> Rectangle:
        """Where the label goes: at a corner of the box, inside the picture, not on labels that are placed already."""
        left, top, right, bottom = self.rectangle(detection)
        width = canvas.textlength(_label(detection), font=self.font) + 2 * self.margin
        height = self.letters + 2 * self.margin
        half = self.line // 2
        corners = [(left - half, top - height), (left, top + self.line), (left - half, bottom), (right - width, bottom)]
        corners += [(left, bottom - height - self.line), (right - width, top - height), (right - width, top)]
        places = []
        for x, y in corners:
            x = min(max(x, 0), max(0, self.width - width))
            if 0 <= y <= self.height - height:
                places.append((x, y, x + width, y + height))
        places = places or [(min(max(left, 0), max(0, self.width - width)), 0, left + width, height)]
        place = next((p for p in places if not any(_overlap(p, other) for other in taken)), places[0])
        taken.append(place)
        return place

    def draw_label(self, canvas: ImageDraw.ImageDraw, detection: Detection, place: Rectangle) -> None:
        """Letters on a ground of the box's colour."""
        colour, text = class_colour(detection.class_id), _label(detection)
        canvas.rectangle(place, fill=colour)
        middle = (place[0] + self.margin, (place[1] + place[3]) / 2)
        canvas.text(middle, text, fill=ink_colour(colour), font=self.font, anchor="lm")


def _label(detection: Detection) -> str:
    return f"{' '.join(detection.label.split())} {detection.probability:.0%}"


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
