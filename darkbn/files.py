"""Writing files so that nothing is ever half written."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def find_file(name: str, near: str | os.PathLike[str] | None) -> Path | None:
    """The file that a description names, None when there is none.

    Darknet takes such a path as relative to the current folder; so is it here, and else to the folder of the file
    `near` that names it and those above it.
    """
    folders = [Path(), *(Path(near).resolve().parents if near is not None else ())]
    return next((file for folder in folders if (file := folder / name).is_file()), None)


def cache_folder() -> Path:
    """Where what can be made again is kept: DARKBN_CACHE, or `darkbn` in the user's cache folder."""
    named = os.environ.get("DARKBN_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "darkbn"


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file that appears under `path` only when the block ends without an exception.

    The bytes go to a temporary file beside it, are flushed to the disk, and renamed. An existing file stays as it was
    when anything fails.
    """
    target = Path(path)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, _mode_of(target))
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _mode_of(target: Path) -> int:
    """Permissions of the existing file, or those that the process gives to new files."""
    with contextlib.suppress(OSError):
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
