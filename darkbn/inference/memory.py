"""One piece of memory for everything: which arrays live at the same time, and where each of them lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Arrays start at multiples of so many bytes: a cache line, and the longest vector.
ALIGNMENT = 64


@dataclass(frozen=True)
class Interval:
    """An array that is needed from step `first` to step `last`, both included, and takes `size` bytes."""

    first: int
    last: int
    size: int

    def meets(self, other: Interval) -> bool:
        """Whether there is a step in which both are needed."""
        return self.first <= other.last and other.first <= self.last


def assign_offsets(intervals: Sequence[Interval]) -> tuple[list[int], int]:
    """Offsets in bytes, and the size of the whole: arrays that live at the same time do not overlap.

    The largest are placed first, each at the lowest offset where it fits between those that are placed already and live
    at the same time (M. Pisarchyk, J. Lee: Efficient Memory Management for Deep Neural Net Inference, 2020, greedy by
    size).
    """
    offsets = [0] * len(intervals)
    placed: list[int] = []
    for index in sorted(range(len(intervals)), key=lambda i: (-intervals[i].size, intervals[i].first, i)):
        interval = intervals[index]
        neighbours = sorted((i for i in placed if intervals[i].meets(interval)), key=offsets.__getitem__)
        at = 0
        for neighbour in neighbours:
            if at + interval.size <= offsets[neighbour]:
                break
            at = max(at, _aligned(offsets[neighbour] + intervals[neighbour].size))
        offsets[index] = at
        placed.append(index)
    total = max((offset + interval.size for offset, interval in zip(offsets, intervals, strict=True)), default=0)
    return offsets, _aligned(total)


def lower_bound(intervals: Sequence[Interval]) -> int:
    """Bytes that no plan can do without: the most that is needed in one step."""
    steps = range(min((i.first for i in intervals), default=0), max((i.last for i in intervals), default=-1) + 1)
    return max((sum(_aligned(i.size) for i in intervals if i.first <= s <= i.last) for s in steps), default=0)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
