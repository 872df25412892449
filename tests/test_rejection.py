"""Deltas that [yolo] forgets late in training."""

from __future__ import annotations

import numpy as np
import pytest
from test_training import cfg

import darkbn
from darkbn.errors import CfgError
from darkbn.rejection import LabelRejection


def deltas(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    found = rng.standard_normal(60) * (rng.random(60) < 0.5)
    found[seed % 60] = 9
    return found


def test_outliers_are_forgotten() -> None:
    """Against the rule step by step, over many passes."""
    rule = LabelRejection(sigmas=2, percentage=0, point=0, max_batches=1000)
    assert not rule.apply(np, deltas(0), 6, 750)
    assert rule.largest == 0
    largest = mean = deviation = 0.0
    rejected = 0
    for completed in range(751, 950):
        delta = deltas(completed)
        own = delta[delta != 0]
        largest = largest or abs(own).max()
        largest, mean = 0.99 * largest + 0.01 * abs(own).max(), 0.99 * mean + 0.01 * abs(own).mean()
        final = mean + 2 * deviation
        deviation = 0.99 * deviation + 0.01 * np.sqrt(((own - mean) ** 2).mean())
        limit = max(final, largest - (completed - 750) / 750 * abs(largest - final))
        wanted = np.where(abs(delta) > limit, 0, delta)
        assert rule.apply(np, delta, 6, completed)
        assert np.array_equal(delta, wanted)
        rejected += int((wanted == 0).sum() - (60 - len(own)))
    assert rejected > 0
    assert rule.state == {
        "largest": largest,
        "mean": pytest.approx(mean),
        "deviation": pytest.approx(deviation),
        "threshold": 0,
    }


def test_a_share_is_forgotten() -> None:
    """The threshold falls until about the wanted part of the predictions is rejected."""
    rule = LabelRejection(sigmas=0, percentage=20, point=0, max_batches=1000)
    shares = []
    for completed in range(751, 2500):
        delta = deltas(completed)
        count = np.count_nonzero(delta)
        rule.apply(np, delta, 6, completed)
        shares.append(100 * 6 * (count - np.count_nonzero(delta)) / count)
    assert 0 < rule.threshold < 9
    assert np.mean(shares[-300:]) == pytest.approx(20, abs=6)


def test_small_deltas_are_forgotten_from_a_point_on() -> None:
    rule = LabelRejection(sigmas=0, percentage=0, point=100, max_batches=200)
    delta = deltas(1)
    assert not rule.apply(np, delta, 6, 100)
    for completed in range(101, 180):
        delta = deltas(completed)
        before = delta.copy()
        rule.apply(np, delta, 6, completed)
    limit = rule.mean * 0.79 * 1.4
    assert np.array_equal(delta, np.where(abs(before) < limit, 0, before))
    assert (delta != before).any()
    assert not rule.apply(np, np.zeros(4), 6, 180)


HEAD = """[convolutional]
filters=7
size=1
activation=linear

[yolo]
classes=2
num=1
mask=0
anchors=2,2
max=5
"""


def test_it_acts_in_yolo_and_counts_in_the_cost() -> None:
    """With nearly all of training over and no tolerance, all deltas above the mean go."""
    option = "badlabels_rejection_percentage=1\nmax_batches=8"
    plain, net = (
        darkbn.load(cfg(HEAD, net=text), dialect="alexeyab", train=True, seed=1) for text in ("max_batches=8", option)
    )
    x = np.random.default_rng(0).standard_normal(net.input_shape)
    truth = np.zeros((2, 30))
    truth[:, :5] = 0.5, 0.5, 0.3, 0.3, 1
    for each in (plain, net):
        each.seen = 2 * 7
        each.forward(x, truth, train=True)
    assert net.cost == plain.cost
    for each in (plain, net):
        each.seen = 2 * 7 + 1
    net._state.rejection.threshold = 0.4
    for each in (plain, net):
        each.forward(x, truth, train=True)
    assert np.abs(net.layers[1].delta).max() <= 0.4 < np.abs(plain.layers[1].delta).max()
    assert net.cost == pytest.approx(float(np.square(net.layers[1].delta, dtype=np.float64).sum()), rel=1e-6)


def test_it_needs_an_end_of_training() -> None:
    with pytest.raises(CfgError, match="max_batches"):
        darkbn.load(cfg(HEAD, net="equidistant_point=10"), dialect="alexeyab")
