"""Which kernels are started, and whether their files were compiled for it or came from the cache."""

from __future__ import annotations

import contextlib
import contextvars
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass
class UsedFile:
    """A kernel file that was used.

    Attributes:
        name: of the file, without ending.
        compiled: whether it had to be compiled; otherwise the cache had it.
        seconds: that compiling or loading it took; next to nothing when it was loaded already.
        kernels: names of the kernels that were started.
    """

    name: str
    compiled: bool
    seconds: float
    kernels: set[str] = field(default_factory=set)


class Recording:
    """What was used since `recording` began; `files` by name."""

    def __init__(self) -> None:
        self.files: dict[str, UsedFile] = {}

    def use(self, file: str, kernel: str, is_cached: Callable[[str], bool], load: Callable[[str], object]) -> None:
        """Note a kernel that is about to start; its file is loaded here the first time."""
        if file not in self.files:
            cached, start = is_cached(file), time.perf_counter()
            load(file)
            self.files[file] = UsedFile(file, not cached, time.perf_counter() - start)
        self.files[file].kernels.add(kernel)


_current: contextvars.ContextVar[Recording | None] = contextvars.ContextVar("recording", default=None)


def current() -> Recording | None:
    """The recording that is going on; None mostly."""
    return _current.get()


@contextlib.contextmanager
def recording() -> Iterator[Recording]:
    """Record the kernels that are started inside."""
    found = Recording()
    token = _current.set(found)
    try:
        yield found
    finally:
        _current.reset(token)
