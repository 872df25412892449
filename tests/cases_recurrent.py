"""Rows of the family `recurrent`."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from cases import KernelCase

from darkbn.activations import Activation

# One value, primes, a vector's length +-1, a block (1024) +-1, several blocks on several threads.
SHAPES = [(1,), (7,), (3, 5), (2, 15), (1, 17), (1023,), (2, 3, 5, 7), (5, 205), (3, 8009), (2, 0)]
LARGE = (3, 8009)

LOGISTIC, TANH, LEAKY, LINEAR = (
    int(kind) for kind in (Activation.LOGISTIC, Activation.TANH, Activation.LEAKY, Activation.LINEAR)
)


def gate(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Values of a logistic."""
    return rng.uniform(0.02, 0.98, shape)


def signed(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Values of a hyperbolic tangent."""
    return rng.uniform(-0.98, 0.98, shape)


def rows(
    kernel: str, scalars: Iterable[dict[str, float]] = ({},), none: Iterable[str] = (), **fill: object
) -> list[KernelCase]:
    """All shapes with the first scalars, the others and each set of arrays left out with the large shape."""
    first, *others = scalars
    return [
        *(KernelCase(f"recurrent.{kernel}", {"s": shape}, first, fill=fill) for shape in SHAPES),
        *(KernelCase(f"recurrent.{kernel}", {"s": LARGE}, values, fill=fill) for values in others),
        *(KernelCase(f"recurrent.{kernel}", {"s": LARGE}, first, fill=fill, none=frozenset(n.split())) for n in none),
    ]


KINDS = [{"kind": TANH}, {"kind": LEAKY}, {"kind": LINEAR}]
LIMITS = [{**kind, "constrain": limit} for kind in KINDS for limit in (0.0, 0.7)]

KERNEL_CASES = [
    *rows("next_state", none=["previous"]),
    *rows("accumulate", [{"scale": 1.0}, {"scale": -0.375}, {"scale": 0.0}]),
    *rows("gru_gates"),
    *rows("gru_output", [{"kind": LOGISTIC}, {"kind": TANH}], z=gate, state=gate),
    *rows(
        "gru_backward_output",
        [{"kind": LOGISTIC}, {"kind": TANH}],
        none=["state_delta"],
        z=gate,
        candidate=gate,
    ),
    *rows("gru_backward_gates", none=["state_delta"], r=gate),
    *rows("lstm_cell", KINDS, none=["vf vi", "wf wi wg", "wf wi wg vf vi"]),
    *rows("lstm_output", LIMITS, none=["vo", "wo", "wo vo"]),
    *rows(
        "lstm_backward_output",
        LIMITS,
        none=["cell", "vo_delta", "wo_delta", "wo_delta vo_delta cell"],
        f=gate,
        i=gate,
        g=signed,
        o=gate,
    ),
    *rows(
        "lstm_backward_cell",
        KINDS,
        none=["vf_delta vi_delta", "wf_delta wi_delta wg_delta", "wf_delta wi_delta wg_delta vf_delta vi_delta"],
        f=gate,
        i=gate,
        g=signed,
    ),
]
