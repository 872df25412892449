"""Names of classes: .names files, .data files that point to them, and the built-in ones of COCO and VOC."""

from __future__ import annotations

import functools
import importlib.resources
import os
from pathlib import Path

from darkbn.errors import CfgError, DarkbnError
from darkbn.files import find_file

#: Built-in names by number of classes: the data set and the file in darkbn/data.
BUILT_IN = {80: ("COCO", "coco.names"), 20: ("VOC", "voc.names")}


def read_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The lines of a .names file: one class each, in the order of their numbers. Empty lines at the end do not count.

    Raises DarkbnError when the file cannot be read or names nothing.
    """
    names = _names_of(_read_text(path))
    if not names:
        raise DarkbnError(f"{os.fspath(path)}: no names in this file")
    return names


def read_data(path: str | os.PathLike[str]) -> dict[str, str]:
    """The `key = value` lines of a .data file. The first of two equal keys counts; `#` and `;` start comments.

    Raises CfgError for a line without `=`, DarkbnError when the file cannot be read.
    """
    options: dict[str, str] = {}
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        if not line.strip() or line.lstrip()[0] in "#;":
            continue
        key, equals, value = line.partition("=")
        if not equals:
            raise CfgError(f"expected key = value, found {line.strip()!r}", file=os.fspath(path), line=number)
        options.setdefault(key.strip(), value.strip())
    return options


def names_of_data(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The names that a .data file points to with `names` (or `labels`).

    Darknet takes the path as relative to the current folder; so is it here, and else to the folder of the .data file
    and those above it.
    """
    options = read_data(path)
    value = options.get("names") or options.get("labels")
    if not value:
        raise CfgError("expected names = FILE, found no such line", file=os.fspath(path), key="names")
    found = find_file(value, path)
    if found is None:
        raise CfgError(
            f"no file {value!r} in the current folder, beside this file or above it", file=os.fspath(path), key="names"
        )
    return read_names(found)


@functools.cache
def built_in_names(classes: int) -> tuple[str, ...] | None:
    """The names of the well-known data set with so many classes (`BUILT_IN`), None when there is none."""
    if classes not in BUILT_IN:
        return None
    file = importlib.resources.files("darkbn") / "data" / BUILT_IN[classes][1]
    return _names_of(file.read_text(encoding="utf-8"))


def names_for(classes: int) -> tuple[str, ...]:
    """The built-in names for so many classes, else "class 0", "class 1", ..."""
    return built_in_names(classes) or tuple(f"class {index}" for index in range(classes))


def _names_of(text: str) -> tuple[str, ...]:
    names = [line.strip() for line in text.splitlines()]
    while names and not names[-1]:
        names.pop()
    return tuple(names)


def _read_text(path: str | os.PathLike[str]) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise DarkbnError(f"{os.fspath(path)}: cannot read the file: {error.strerror}") from error
