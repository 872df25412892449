"""Labelled pictures as Darknet keeps them: lists of pictures, and a text file of boxes beside each.

A line of a label file is `class x y w h`: the centre and size of a box as parts of the picture's sides.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from darkbn.errors import DarkbnError
from darkbn.names import read_data
from darkbn.signature import Array

#: Folders of pictures and the folders of their labels, in the order in which they are tried.
FOLDERS = (("JPEGImages", "labels"), ("images", "labels"), ("raw", "labels"))


def label_path(image: str | os.PathLike[str], labels: str | os.PathLike[str] | None = None) -> Path | None:
    """The label file of a picture, None when there is none.

    As in Darknet: its path with the last folder `images` or `JPEGImages` replaced by `labels` and the suffix by .txt,
    else the .txt beside it.

    Args:
        image: path of the picture.
        labels: a folder: look for `<name of the picture>.txt` there only.
    """
    paths = candidates(image) if labels is None else [Path(labels) / f"{Path(image).stem}.txt"]
    return next((path for path in paths if path.is_file()), None)


def candidates(image: str | os.PathLike[str]) -> Iterator[Path]:
    """Where the label file of a picture may lie, in the order in which it is looked for."""
    text = Path(image).with_suffix(".txt")
    parts = text.parts
    for folder, replacement in FOLDERS:
        if folder in parts[:-1]:
            at = len(parts) - 2 - parts[-2::-1].index(folder)
            yield Path(*parts[:at], replacement, *parts[at + 1 :])
    yield text


def read_labels(path: str | os.PathLike[str], classes: int | None = None) -> Array:
    """The boxes of a label file.

    Args:
        path: the file.
        classes: number of classes that there are; None: any.

    Returns:
        float32 rows (class, x, y, w, h).

    Raises:
        DarkbnError: naming the line that is no box, or has a class that does not exist. Darknet stops reading there
            without a word.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise DarkbnError(f"{os.fspath(path)}: cannot read the file: {error.strerror}") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        rows.append(_box(words, f"{os.fspath(path)}:{number}: ", classes))
    return np.array(rows, np.float32).reshape(-1, 5)


def _box(words: list[str], place: str, classes: int | None) -> tuple[float, ...]:
    try:
        kind, *box = int(words[0]), *map(float, words[1:5])
    except ValueError:
        kind, box = -1, []
    if len(box) != 4:
        raise DarkbnError(f"{place}expected class x y w h, found {' '.join(words)!r}")
    if not all(np.isfinite(box)) or box[2] <= 0 or box[3] <= 0:
        raise DarkbnError(f"{place}the box {' '.join(words[1:])} has no size")
    if kind < 0 or (classes is not None and kind >= classes):
        last = f"0 to {classes - 1}" if classes is not None else "not negative"
        raise DarkbnError(f"{place}class {kind} does not exist: they are {last}")
    return (kind, *box)


def read_list(path: str | os.PathLike[str]) -> list[Path]:
    """The pictures of a list, one path a line.

    Darknet takes paths as relative to the current folder; so is it here where such a file exists, else they are
    relative to the list's folder.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
    except OSError as error:
        raise DarkbnError(f"{os.fspath(path)}: cannot read the list: {error.strerror}") from error
    found = [Path(line.strip()) for line in lines if line.strip()]
    if not found:
        raise DarkbnError(f"{os.fspath(path)}: no pictures in this list")
    beside = Path(path).parent
    return [image if image.exists() or not (beside / image).exists() else beside / image for image in found]


def list_of_data(path: str | os.PathLike[str], *keys: str) -> list[Path] | None:
    """The pictures of the list that a .data file names under the first of the keys that it has; None without any."""
    options = read_data(path)
    value = next((options[key] for key in keys if options.get(key)), None)
    if value is None:
        return None
    folders = [Path(), *Path(path).resolve().parents]
    return read_list(next((file for folder in folders if (file := folder / value).is_file()), Path(value)))
