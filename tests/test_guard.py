"""NaN stops training, with the place where it came from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_training import CONV, COST, PLAIN, arrays, batch, cfg, load, step

import darkbn
from darkbn.errors import NonFiniteError
from darkbn.layers.base import Role


def net(**options: Any) -> darkbn.Network:
    found = load(cfg(CONV, CONV, PLAIN, COST), **options)
    step(found)
    return found


def spoil_weights(n: darkbn.Network, x: np.ndarray, truth: np.ndarray) -> None:
    n.layers[1].weights[2, 1, 0, 1] = np.inf


def spoil_input(n: darkbn.Network, x: np.ndarray, truth: np.ndarray) -> None:
    x[1, 2, 3, 4] = np.nan


def spoil_truth(n: darkbn.Network, x: np.ndarray, truth: np.ndarray) -> None:
    truth[0, 1, 2, 3] = np.nan


def overflow(n: darkbn.Network, x: np.ndarray, truth: np.ndarray) -> None:
    n.layers[2].weights.fill(1e30 if n.backend.name == "cpu" else 1e300)  # its square is too large


def spoil_update(n: darkbn.Network, x: np.ndarray, truth: np.ndarray) -> None:
    n.layers[1].scale_updates[3] = -np.inf


SPOILED: dict[str, tuple[Callable[..., None], int | None, str | None, str, str]] = {
    "weights": (
        spoil_weights,
        1,
        "convolutional",
        "weights",
        r"layer 1 \[\w+\] weights: 1 of 144 .*\(2, 1, 0, 1\)",
    ),
    "input": (spoil_input, None, None, "input", r"iteration 2: input: 1 of 216 .*\(1, 2, 3, 4\); the data are wrong"),
    "truth": (spoil_truth, None, None, "truth", "truth: 1 of 216 .*; the labels are wrong"),
    "output": (overflow, 3, "cost", "output", r"layer 3 \[cost\] output: 216 of 216 values .*learning_rate"),
    "update": (
        spoil_update,
        1,
        "convolutional",
        "scale_updates",
        r"layer 1 \[\w+\] scale_updates: 1 of 4 .*\(3,\)",
    ),
}


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize("name", SPOILED)
def test_the_culprit_is_named(name: str, device: str) -> None:
    spoil, layer, kind, array, message = SPOILED[name]
    n = net(device=device)
    x, truth = batch(n, 7)
    spoil(n, x, truth)
    before = arrays(n, Role.PARAMETER)
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match=message) as caught:
        n.train_step(x, truth)
    found = caught.value
    assert (found.iteration, found.layer, found.type, found.array) == (2, layer, kind, array)
    after = arrays(n, Role.PARAMETER)
    assert all(np.array_equal(before[key], after[key]) for key in before), "a step was made all the same"


def test_the_second_pass_of_a_batch_is_guarded() -> None:
    n = load(cfg(CONV, PLAIN, COST, net="subdivisions=2", batch=4))
    step(n, 3)
    x, truth = batch(n)
    x[0, 0, 0, 0] = np.inf
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match="iteration 2: input"):
        n.train_step(x, truth)


def test_sublayers_are_named() -> None:
    n = load(cfg("[lstm]\noutput=4", "[connected]\noutput=3", COST))
    step(n)
    n.layers[0].wf.bias_updates[2] = np.nan
    with pytest.raises(NonFiniteError) as caught:
        n.update()
    assert caught.value.array == "wf.bias_updates"
    assert "layer 0 [lstm] wf.bias_updates" in str(caught.value)


def test_it_can_be_turned_off() -> None:
    n = net()
    n.check_finite = False
    x, truth = batch(n)
    x[0, 0, 0, 0] = np.nan
    with np.errstate(all="ignore"):
        assert np.isnan(n.train_step(x, truth))
    assert np.isnan(n.layers[0].weights).any()


def test_frozen_updates_are_not_looked_at() -> None:
    n = load(cfg(CONV + "\nstopbackward=1", PLAIN, COST))
    n.layers[0].weight_updates[0] = np.nan
    step(n)


def test_large_sums_are_finite() -> None:
    """Updates whose sum exceeds float32 are no NaN."""
    n = load(cfg(PLAIN, COST, rate=0), device="cpu")
    n.layers[0].weight_updates.fill(3e38)
    n.update()
