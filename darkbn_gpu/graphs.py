"""Plans on a GPU: the same kernels on the same memory in every pass, so a pass is captured once as a CUDA graph."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from darkbn.errors import DeviceError

log = logging.getLogger(__name__)


class Runner:
    """Runs the same calls again and again.

    The first pass makes the calls: it compiles kernels and makes what they allocate. The second captures them as a
    graph, which it and all later ones replay. Calls that cannot be captured (those that wait for the device, or CuPy's
    of cuBLAS) are made in every pass, after a warning that says why.

    All happens on a stream of its own: it begins when what was put on the caller's current stream is done, and what
    comes there later waits for it. What calls allocate comes from a memory pool of its own, so that nobody else writes
    to the places that the graph knows.

    Attributes:
        reason: why there is no graph and never will be; empty otherwise.
    """

    def __init__(self, calls: Iterable[Callable[[], Any]], label: str) -> None:
        """
        Args:
            calls: what a pass consists of; the arrays that they work on must stay where they are.
            label: of the network, for messages.
        """
        import cupy

        self._cuda: Any = cupy.cuda
        self._calls, self._label = tuple(calls), label
        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._pool = cupy.cuda.MemoryPool()
        self._before, self._after = (cupy.cuda.Event(disable_timing=True) for _ in range(2))
        self._graph: Any = None
        self._warm = False
        self.reason = ""

    @property
    def captured(self) -> bool:
        """Whether passes replay a graph."""
        return self._graph is not None

    def __call__(self) -> None:
        """One pass, put on the stream; it may still be at work when this returns.

        Raises DeviceError when the device cannot replay the graph.
        """
        caller = self._cuda.get_current_stream()
        self._before.record(caller)
        self._stream.wait_event(self._before)
        if self._warm and self._graph is None and not self.reason:
            self._capture()
        if self._graph is not None:
            try:
                self._graph.launch(self._stream)
            except Exception as error:  # CuPy's, for a lost device or no memory
                raise DeviceError(f"{self._label}: the device cannot replay the CUDA graph: {error}") from error
        else:
            with self._stream, self._cuda.using_allocator(self._pool.malloc):
                self._make_calls()
            self._warm = True
        self._after.record(self._stream)
        caller.wait_event(self._after)

    def _make_calls(self) -> None:
        for call in self._calls:
            call()

    def _capture(self) -> None:
        graph = problem = None
        with self._stream, self._cuda.using_allocator(self._pool.malloc):
            self._stream.begin_capture()
            try:
                self._make_calls()
            except Exception as error:  # whatever the device refuses; the calls are made once more, uncaptured
                problem = error
            try:
                graph = self._stream.end_capture()
            except Exception as error:
                problem = problem or error
        if problem is None:
            self._graph = graph
            return
        self.reason = f"{type(problem).__name__}: {problem}"
        log.warning("%s: predictions start every kernel themselves, no CUDA graph: %s", self._label, self.reason)
