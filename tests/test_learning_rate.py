"""Learning-rate policies against hand-written values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from darkbn.cfg import read_cfg
from darkbn.errors import CfgError
from darkbn.net_options import NetOptions
from darkbn.optimizer import LearningRate


@pytest.mark.parametrize(
    ("rate", "iteration", "expected"),
    [
        (LearningRate(0.1), 7, 0.1),
        (LearningRate(0.1, burn_in=10, power=4), 5, 0.1 * 0.5**4),
        (LearningRate(0.1, "steps", burn_in=10, power=2, steps=(1,), scales=(3.0,)), 5, 0.1 * 0.25),
        (LearningRate(0.1, "steps", steps=(5, 8), scales=(0.1, 0.5)), 4, 0.1),
        (LearningRate(0.1, "steps", steps=(5, 8), scales=(0.1, 0.5)), 5, 0.01),
        (LearningRate(0.1, "steps", steps=(5, 8), scales=(0.1, 0.5)), 9, 0.005),
        (LearningRate(0.1, "steps", steps=(9, 2), scales=(0.1, 0.5)), 5, 0.1),
        (LearningRate(1.0, "step", step=3, scale=0.5), 8, 0.25),
        (LearningRate(1.0, "exp", gamma=0.5), 3, 0.125),
        (LearningRate(1.0, "poly", power=2, max_batches=10), 4, 0.36),
        (LearningRate(1.0, "sigmoid", gamma=0.5, step=4), 2, 1 / (1 + math.exp(-1))),
        (LearningRate(1.0, "sigmoid", gamma=9.0, step=4), 4000, 0.0),
        (LearningRate(1.0, "sgdr", sgdr_cycle=10, learning_rate_min=0.2), 0, 1.0),
        (LearningRate(1.0, "sgdr", sgdr_cycle=10, learning_rate_min=0.2), 5, 0.6),
        (LearningRate(1.0, "sgdr", sgdr_cycle=10, learning_rate_min=0.2), 10, 0.2),
        (LearningRate(1.0, "sgdr", sgdr_cycle=10, sgdr_mult=2, learning_rate_min=0.2), 20, 0.6),
    ],
)
def test_policies(rate: LearningRate, iteration: int, expected: float) -> None:
    assert rate(iteration) == pytest.approx(expected, rel=1e-12, abs=1e-300)


def test_random_is_drawn_from_the_generator() -> None:
    rate = LearningRate(2.0, "random", power=1)
    assert rate(3, np.random.default_rng(5)) == 2.0 * np.random.default_rng(5).random()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("policy=steps", "needs steps="),
        ("policy=steps\nsteps=1,2\nscales=.1", "2 steps but 1 scales"),
        ("policy=poly", "max_batches"),
        ("policy=sgdr", "max_batches"),
        ("policy=stepps", "did you mean"),
    ],
)
def test_options_that_do_not_fit_together(text: str, words: str) -> None:
    section = read_cfg(f"[net]\n{text}\n").net
    with pytest.raises(CfgError, match=words):
        NetOptions.read(section, "alexeyab", []).schedule(section)


def test_rates_beyond_what_numbers_hold() -> None:
    """As in C, and never an exception: infinite when too large; poly stays 0 after the end."""
    assert LearningRate(0.1, "exp", gamma=10)(1000) == math.inf
    assert LearningRate(0.1, "poly", power=1.5, max_batches=10)(11) == 0
    assert LearningRate(0.1, "poly", power=4, max_batches=10)(30) == 0
    assert LearningRate(0.1, burn_in=10, power=-1)(0) == math.inf
    assert LearningRate(0.1, "step", scale=0.1, step=1)(5000) == 0
