"""Steps of all parameters in one launch: the bits of one launch per parameter."""

from __future__ import annotations

import fake_cupy
import numpy as np
import pytest
from networks import TWO_HEADS
from test_devices import labels, train
from test_strict_device import OPTIONS, arrays

import darkbn
from darkbn.backend import Backend, get_backend
from darkbn.errors import NonFiniteError
from darkbn.state import AdamArgs, UpdateArgs
from darkbn.steps import ParameterStep, StepQueue, take_step
from darkbn_gpu import emulation

pytestmark = pytest.mark.skipif(not emulation.available()[0], reason=emulation.available()[1])

#: Sizes round that of a chunk, and none.
SIZES = (1, 4095, 0, 4096, 4097, 3, 9000)
ADAM = AdamArgs(B1=0.9, B2=0.99, eps=1e-6, t=3)


def steps(adam: bool) -> list[ParameterStep]:
    """One for each size, with different rates, some bounded."""
    rng = np.random.default_rng(0)
    found = []
    for index, size in enumerate(SIZES):
        own = [rng.standard_normal(size, dtype=np.float32) for _ in range(4)]
        moments = (own[2], own[3] ** 2) if adam else ()
        bound = 0.5 if index % 2 else 0.0
        found.append(ParameterStep(own[0], own[1], moments, 0.1 + index / 7, 0.003 * index, bound))
    return found


@pytest.mark.parametrize("order", emulation.ORDERS)
@pytest.mark.parametrize("adam", [False, True], ids=["sgd", "adam"])
def test_steps(adam: bool, order: str) -> None:
    backend = get_backend("emulated")
    args = UpdateArgs(learning_rate=0.1, momentum=0.9, decay=0, batch=1, adam=ADAM if adam else None)
    together, single = steps(adam), steps(adam)
    with emulation.thread_order(order):
        backend.together.take_steps(together, args)
        for step in single:
            take_step(step, backend, args)
            if step.bound:
                backend.vector.constrain(step.weights, step.bound, 1)
    for a, b in zip(together, single, strict=True):
        for found, expected in zip((a.weights, a.updates, *a.moments), (b.weights, b.updates, *b.moments), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_averages_and_counts() -> None:
    backend = get_backend("emulated")
    together, single = steps(False), steps(False)
    backend.together.average([(s.weights, s.updates) for s in together], 0.9)
    for step in single:
        backend.optimizer.average(step.weights, step.updates, 0.9, 1)
    for a, b in zip(together, single, strict=True):
        np.testing.assert_array_equal(a.updates, b.updates)
    together[-1].weights[[0, 5000]] = np.nan, np.inf
    together[1].weights[4094] = -np.inf
    count = np.full(1, 7, np.int64)
    backend.together.nonfinite([s.weights for s in together], count)
    assert count[0] == 3


def test_steps_of_shared_arrays_follow_each_other() -> None:
    backend = get_backend("emulated")
    args = UpdateArgs(learning_rate=0.1, momentum=0.9, decay=0, batch=1)
    (shared, *_), (single, *_) = steps(False), steps(False)
    queue = StepQueue(backend)
    for _ in range(3):
        queue.add(shared)
        take_step(single, backend, args)
    queue.bound(shared.weights, 0.25, args)
    backend.vector.constrain(single.weights, 0.25, 1)
    queue.flush(args)
    np.testing.assert_array_equal(shared.weights, single.weights)
    np.testing.assert_array_equal(shared.updates, single.updates)


SHARING = """
[net]
batch=2
width=6
height=6
channels=4
learning_rate=0.1
momentum=0.9
decay=0.1
clip=0.2
max_batches=8

[convolutional]
filters=4
size=3
pad=1
batch_normalize=1
activation=leaky

[convolutional]
filters=4
size=3
pad=1
batch_normalize=1
share_index=0

[convolutional]
filters=4
size=3
pad=1
rotate=1
learning_rate=0.3

[convolutional]
filters=4
size=3
pad=1
grad_centr=1
batch_normalize=1
reverse=1.1

[cost]
"""


@pytest.mark.parametrize("name", [*OPTIONS, "sharing"])
def test_networks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for one_by_one in (False, True):
        if one_by_one:
            monkeypatch.setattr(Backend, "together", None)
        if name == "sharing":
            net = darkbn.load(SHARING, train=True, device="emulated", dialect="alexeyab", seed=3)
            rng = np.random.default_rng(0)
            for _ in range(3):
                net.train_step(rng.random(net.input_shape), rng.random(net.layers[-1].output.shape))
        else:
            text = TWO_HEADS.replace("max_batches=100", OPTIONS[name]).replace("batch=4\nsubdivisions=2", "batch=2")
            net = darkbn.load(text, train=True, device="emulated", dialect="darknet", seed=3)
            train(net, 3)
        results.append(arrays(net))
    for key, expected in results[1].items():
        np.testing.assert_array_equal(results[0][key], expected, key)


def test_a_step_is_one_launch() -> None:
    with fake_cupy.installed() as device:
        net = darkbn.load(TWO_HEADS, train=True, device="gpu", seed=3)
        train(net, 1)
        device.launches.clear()
        net.train_step(np.ones(net.input_shape), labels(net))
        found = [name for name in device.launches if name.startswith(("together", "optimizer"))]
        assert found == ["together_nonfinite", "together_sgd"]
        net.layers[0].scale_updates[3] = np.inf
        with pytest.raises(NonFiniteError, match=r"layer 0 \[convolutional\] scale_updates: 1 of 8 .* at \(3,\)"):
            net.update()
