"""How much memory packed filters may take."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import darkbn
from darkbn.inference.algorithms import METHODS
from darkbn.inference.budget import Option, cheapest, price_within
from darkbn.inference.plan import has_blocked_kernels

CONVOLUTIONS = """[net]
width=32
height=32
channels=3
""" + "".join(
    f"""
[convolutional]
filters={filters}
size=3
pad=1
stride=1
batch_normalize=1
activation=leaky
"""
    for filters in (16, 64, 128, 96)
)
METHOD = METHODS["gemm"]
options = st.builds(Option, st.just(METHOD), st.floats(1e-6, 1.0), st.integers(1, 10**8))
rows_of_options = st.lists(st.lists(options, min_size=1, max_size=4), max_size=5)


@given(rows_of_options, st.floats(0, 2e8))
def test_what_is_chosen_fits_where_anything_does(rows: list[list[Option]], limit: float) -> None:
    price = price_within(rows, limit)
    total = sum(cheapest(row, price).nbytes for row in rows)
    smallest = sum(min(o.nbytes for o in row) for row in rows)
    assert total <= limit or total == smallest


@given(rows_of_options)
def test_without_a_limit_the_fastest_are_chosen(rows: list[list[Option]]) -> None:
    price = price_within(rows, math.inf)
    for row in rows:
        assert cheapest(row, price).seconds <= min(o.seconds for o in row) * (1 + 1e-6)


def test_what_is_saved_costs_as_little_time_as_possible() -> None:
    rows = [
        [Option(METHOD, 1.0, 400), Option(METHOD, 1.1, 100)],  # 300 bytes for 0.1
        [Option(METHOD, 1.0, 400), Option(METHOD, 1.5, 100)],  # 300 bytes for 0.5
    ]
    chosen = {limit: [cheapest(row, price_within(rows, limit)).nbytes for row in rows] for limit in (800, 500, 200)}
    assert chosen == {800: [400, 400], 500: [100, 400], 200: [100, 100]}
    for limit, found in chosen.items():
        combinations = [c for c in itertools.product(*rows) if sum(o.nbytes for o in c) <= limit]
        best = min(combinations, key=lambda c: sum(o.seconds for o in c))
        assert [o.nbytes for o in best] == found


@pytest.mark.skipif(not has_blocked_kernels(), reason="there is one method only")
def test_plans_of_a_network_keep_to_its_memory() -> None:
    net = darkbn.load(CONVOLUTIONS, seed=3)
    x = np.random.default_rng(0).random(net.input_shape, dtype=np.float32)
    expected = net.forward(x).copy()
    own = sum(layer.weights.nbytes for layer in net.layers)
    taken = {}
    for memory in (1.0, 2.0, math.inf):
        net.memory = memory
        assert np.abs(net.predict(x) - expected).max() <= 1e-5 * np.abs(expected).max()
        plan = net.current_plan()
        assert plan.memory == memory
        assert net.current_plan() is plan
        taken[memory] = plan.parameter_bytes
    assert taken[1.0] < 1.1 * own
    assert taken[1.0] < taken[2.0] <= 2.1 * own
    assert taken[2.0] < taken[math.inf]
