"""Layers with a loss, and dropout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from darkbn import load
from darkbn.backend import get_backend
from darkbn.errors import CfgError, DarkbnError, TrainingError
from darkbn.layers.base import Context
from darkbn.layers.cost import SECRET_NUM, CostLayer, CostOptions, make_cost_layer
from darkbn.layers.dropout import make_dropout_layer
from darkbn.layers.softmax import make_softmax_layer
from darkbn.state import NetworkState

BACKENDS = ("cpu", "reference")


def state(backend: str, x: Any, truth: Any = None, **more: Any) -> NetworkState:
    b = get_backend(backend)
    given = None if truth is None else b.array(truth)
    return NetworkState(input=b.array(x).copy(), truth=given, delta=b.zeros(np.shape(x)), **more)


def trained(layer: Any, net: NetworkState) -> Any:
    """The gradient that a training pass adds to what is there."""
    net.train = True
    net.delta += 1
    layer.forward(net)
    layer.backward(net)
    return net.delta - 1


X = np.array([[0.5, -2.0, 1.0, 0.0], [1.5, 0.25, -1.0, 3.0]])
TRUTH = np.array([[0.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 1.0]])
D = TRUTH - X


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("kind", "error", "delta"),
    [
        ("sse", D**2, D),
        ("L1", abs(D), np.where(D > 0, 1, -1)),
        ("smooth", np.where(abs(D) < 1, D**2, 2 * abs(D) - 1), np.clip(D, -1, 1)),
        ("wgan", np.where(TRUTH == 1, -X, X), np.where(TRUTH == 1, 1, -1)),
    ],
)
def test_costs(backend: str, kind: str, error: np.ndarray, delta: np.ndarray) -> None:
    l = make_cost_layer(2, 4, kind, 0.5, backend=get_backend(backend))
    np.testing.assert_allclose(trained(l, state(backend, X, TRUTH)), 0.5 * delta, rtol=1e-6)
    np.testing.assert_allclose(l.output, error, rtol=1e-6)
    assert l.cost == pytest.approx(error.sum())


def cost(**options: Any) -> CostLayer:
    l = CostLayer(CostOptions(**options), Context(batch=2, inputs=4, backend=get_backend("reference")))
    l.allocate(training=True)
    return l


def test_masked_truth() -> None:
    truth = TRUTH.copy()
    truth[0, 1] = SECRET_NUM
    net = state("reference", X, truth)
    delta = trained(cost(cost_type="masked"), net)
    expected = D.copy()
    expected[0, 1] = 0
    np.testing.assert_allclose(delta, expected)
    assert net.input[0, 1] == SECRET_NUM


def test_options_of_costs() -> None:
    l = cost(cost_type="seg", noobj=0.5)
    np.testing.assert_allclose(trained(l, state("reference", X, TRUTH)), np.where(TRUTH == 0, 0.5, 1) * D)
    np.testing.assert_allclose(l.output, np.where(TRUTH == 0, 0.5, 1) * D**2)
    delta = trained(cost(thresh=4.0), state("reference", X, TRUTH))
    np.testing.assert_allclose(delta, np.where(abs(D) < 1, 0, D))
    quarter = trained(cost(ratio=0.25), state("reference", X, TRUTH))
    np.testing.assert_allclose(quarter, np.where(abs(D) > 1, D, 0))  # the two largest of eight
    smoothed = TRUTH * 0.9 + 0.1 / 4
    np.testing.assert_allclose(trained(cost(smooth=0.1), state("reference", X, TRUTH)), smoothed - X)


def test_no_truth_no_loss() -> None:
    for l in (cost(), make_softmax_layer(2, 4, backend=get_backend("reference"))):
        assert not trained(l, state("reference", X)).any()
        assert l.cost is None


def test_truth_of_another_size() -> None:
    for l in (cost(), make_softmax_layer(2, 4, backend=get_backend("reference"))):
        with pytest.raises(TrainingError, match="needs 4 values of truth for each of 2 samples"):
            trained(l, state("reference", X, TRUTH[:, :3]))


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(e / e.sum(axis=axis, keepdims=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_softmax_and_cross_entropy(backend: str) -> None:
    l = make_softmax_layer(2, 4, backend=get_backend(backend))
    delta = trained(l, state(backend, X, TRUTH))
    np.testing.assert_allclose(l.output, softmax(X), rtol=1e-6)
    np.testing.assert_allclose(delta, TRUTH - softmax(X), atol=1e-6)
    assert l.cost == pytest.approx(-np.log(softmax(X)[TRUTH == 1]).sum())


def test_softmax_in_groups_and_over_channels() -> None:
    reference = get_backend("reference")
    l = make_softmax_layer(2, 4, 2, temperature=0.5, backend=reference)
    l.forward(state("reference", X))
    np.testing.assert_allclose(l.output, softmax(X.reshape(2, 2, 2) / 0.5).reshape(2, 4))
    image = np.random.default_rng(0).standard_normal((2, 3, 2, 2))
    l = make_softmax_layer(2, 12, spatial=True, h=2, w=2, c=3, backend=reference)
    l.forward(state("reference", image))
    np.testing.assert_allclose(l.output, softmax(image, axis=1))


@pytest.mark.parametrize("backend", BACKENDS)
def test_dropout(backend: str) -> None:
    x = np.random.default_rng(0).standard_normal((50, 40)) + 5
    l = make_dropout_layer(50, 40, 0.25, backend=get_backend(backend))
    net = state(backend, x, rng=np.random.default_rng(7))
    l.forward(net)
    np.testing.assert_allclose(l.output, x, rtol=1e-6)
    l.delta[...] = 3
    delta = trained(l, net)
    kept = np.asarray(l.output) != 0
    assert 0.7 < kept.mean() < 0.8
    assert np.array_equal(kept, np.asarray(l.rand) >= 0.25)
    np.testing.assert_allclose(l.output, np.where(kept, x / 0.75, 0), rtol=1e-6)
    np.testing.assert_allclose(delta, np.where(kept, 3 / 0.75, 0), rtol=1e-6)
    np.testing.assert_allclose(net.input, x, rtol=1e-6)  # unlike Darknet's, which works in place
    first = np.asarray(l.rand).copy()
    trained(l, net)
    assert not np.array_equal(first, np.asarray(l.rand))


NET = "[net]\nbatch=1\ninputs=6\n[connected]\noutput=4\nactivation=linear\n"


@pytest.mark.parametrize(
    ("section", "dialect", "error", "message"),
    [
        ("[dropout]\nprobability=1", "darknet", CfgError, "less than 1"),
        ("[dropout]\nprobability=1.5", "darknet", CfgError, "at most 1"),
        ("[softmax]\ngroups=3", "darknet", CfgError, "groups=3 must divide the 4 inputs"),
        ("[softmax]\ntemperature=0", "darknet", CfgError, "must be positive"),
        ("[softmax]\ntree=9k.tree", "darknet", CfgError, "tree: no file 9k.tree"),
        ("[cost]\ntype=Smooth", "darknet", CfgError, "did you mean 'smooth'"),
    ],
)
def test_errors_in_a_cfg(section: str, dialect: str, error: type[DarkbnError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        load(f"{NET}{section}\n", dialect=dialect)
    assert "<text>:8: " in str(caught.value)


def test_default_probabilities() -> None:
    text = f"{NET}[dropout]\n"
    assert load(text, dialect="darknet").layers[1].probability == 0.5
    assert load(text, dialect="alexeyab").layers[1].probability == 0.2
