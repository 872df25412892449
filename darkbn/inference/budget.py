"""How much memory the packed filters of a plan may take, and which methods are worth theirs.

Transformed filters take up to four times the memory of the filters themselves. Memory gets a price: of each
convolution's methods that with the least seconds + price * bytes is taken, with the lowest price at which everything
fits. That spends what may be spent where it saves the most time per byte (Lagrange relaxation; H. Everett 1963).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from darkbn.inference.algorithms import Method, packed_bytes
from darkbn.inference.layout import Choose
from darkbn.inference.program import INPUT, Op, Program

#: The methods that can compute a convolution, given whether its input is in the plain layout, and their seconds.
Timed = Callable[[Op, bool], Sequence[tuple[Method, float]]]


@dataclass(frozen=True)
class Option:
    """A method for a convolution, its seconds, and the bytes of its packed filters."""

    method: Method
    seconds: float
    nbytes: int


def cheapest(options: Sequence[Option], price: float) -> Option:
    """The option with the least cost when a byte costs `price` seconds; the smallest for an infinite price."""
    if price == float("inf"):
        return min(options, key=lambda o: (o.nbytes, o.seconds))
    return min(options, key=lambda o: (o.seconds + price * o.nbytes, o.nbytes))


def price_within(rows: Sequence[Sequence[Option]], limit: float) -> float:
    """The lowest price at which the cheapest options, one of each row, have at most `limit` bytes.

    Infinite when no price is high enough: then the smallest ones are chosen.
    """

    def fits(price: float) -> bool:
        return sum(cheapest(row, price).nbytes for row in rows) <= limit

    # What is chosen changes only where two options of a row cost the same.
    pairs = ((a, b) for row in rows for a in row for b in row if a.nbytes > b.nbytes and a.seconds < b.seconds)
    prices = sorted({0.0, *((b.seconds - a.seconds) / (a.nbytes - b.nbytes) for a, b in pairs)})
    low, high = 0, len(prices)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(prices[middle] * (1 + 1e-9)) else (middle + 1, high)
    return prices[low] * (1 + 1e-9) if low < len(prices) else float("inf")


def choose_within(program: Program, timed: Timed, memory: float) -> Choose:
    """The choice of methods with which packed filters take at most `memory` times the bytes of the filters.

    Args:
        program: whose convolutions are chosen for; not laid out yet.
        timed: see `Timed`.
        memory: 1 is as little as possible, infinity as much as is fast.
    """

    def options(op: Op, plain_input: bool) -> list[Option]:
        g = op.arguments.geometry
        return [Option(m, seconds, packed_bytes(g, m.algorithm)) for m, seconds in timed(op, plain_input)]

    convolutions = [op for op in program.ops if op.kind == "convolution"]
    own = sum(packed_bytes(op.arguments.geometry, None) for op in convolutions)
    price = price_within([options(op, op.reads[0] == INPUT) for op in convolutions], memory * own)
    return lambda op, plain_input: cheapest(options(op, plain_input), price).method
