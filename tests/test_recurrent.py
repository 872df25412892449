"""Recurrent layers: gradients against finite differences, state between passes, sizes, options."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

import darkbn
from darkbn.build import guess_dialect
from darkbn.cfg import read_cfg
from darkbn.errors import CfgError, ShapeError, TrainingError
from darkbn.layers import BY_SECTION
from darkbn.layers.base import Layer
from darkbn.layers.conv_lstm import make_conv_lstm_layer
from darkbn.layers.crnn import make_crnn_layer
from darkbn.layers.gru import make_gru_layer
from darkbn.layers.history import make_history_layer
from darkbn.layers.lstm import make_lstm_layer
from darkbn.layers.rnn import make_rnn_layer
from darkbn.state import NetworkState

BATCH = 4  # samples of a step; with two, batch normalization has no gradient


@dataclass(frozen=True)
class Case:
    """One section in a network of its own."""

    section: str
    options: dict[str, Any] = field(default_factory=dict)
    dialect: str = "darknet"
    net: dict[str, Any] = field(default_factory=lambda: {"inputs": 3})

    def __str__(self) -> str:
        options = " ".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.section}-{self.dialect} {options}"

    def cfg(self, steps: int, batch: int = BATCH) -> str:
        lines = [f"{key}={value}" for key, value in {**self.net, "batch": batch, "time_steps": steps}.items()]
        options = [f"{key}={value}" for key, value in self.options.items()]
        return "\n".join(["[net]", *lines, f"[{self.section}]", *options, ""])

    def load(self, steps: int, batch: int = BATCH, **options: Any) -> darkbn.Network:
        """The network with random parameters, the same for every number of steps."""
        net = darkbn.load(self.cfg(steps, batch), batch=batch, **({"dialect": self.dialect} | options))
        rng = np.random.default_rng(7)
        for part, name in parameters(net.layers[0]):
            array = getattr(part, name)
            array[...] = rng.normal(1 if name == "scales" else 0, 0.5, array.shape)
        for _, part in net.layers[0].walk():
            if hasattr(part, "rolling_variance"):
                part.rolling_mean[...] = rng.normal(0, 0.3, part.rolling_mean.shape)
                part.rolling_variance[...] = rng.uniform(0.5, 1.5, part.rolling_variance.shape)
        return net


MAPS = {"width": 3, "height": 4, "channels": 2}
RNN = {"output": 4, "activation": "tanh"}
CRNN = {"output_filters": 2, "hidden_filters": 3, "activation": "tanh"}
CONV_LSTM = {"output": 3, "pad": 1}
BOTTLENECK = {"output": 2, "pad": 1, "bottleneck": 1, "activation": "logistic"}

CASES = [
    Case("rnn", RNN),
    Case("rnn", {**RNN, "shortcut": 1}),
    Case("rnn", {**RNN, "hidden": 5, "logistic": 1}, "alexeyab"),
    Case("rnn", {**RNN, "hidden": 2, "logistic": 2, "shortcut": 1}, "alexeyab"),
    Case("gru", {"output": 4}),
    Case("gru", {"output": 4, "tanh": 1}),
    Case("gru", {"output": 4}, "alexeyab"),
    Case("lstm", {"output": 4}),
    Case("lstm", {"output": 4}, "alexeyab"),
    Case("crnn", CRNN, net=MAPS),
    Case("crnn", {**CRNN, "shortcut": 1}, net=MAPS),
    Case("crnn", {"output": 2, "hidden": 4, "size": 1, "groups": 2, "activation": "logistic"}, "alexeyab", MAPS),
    Case("crnn", {"output": 2, "hidden": 3, "pad": 1, "activation": "tanh"}, "alexeyab", MAPS),
    Case("conv_lstm", CONV_LSTM, "alexeyab", MAPS),
    Case("conv_lstm", {**CONV_LSTM, "activation": "tanh", "lstm_activation": "linear"}, "alexeyab", MAPS),
    Case("conv_lstm", {**CONV_LSTM, "peephole": 1}, "alexeyab", MAPS),
    Case("conv_lstm", {**CONV_LSTM, "peephole": 1, "state_constrain": 1}, "alexeyab", MAPS),
    Case("conv_lstm", BOTTLENECK, "alexeyab", MAPS),
    Case("conv_lstm", {**BOTTLENECK, "shortcut": 1, "peephole": 1}, "alexeyab", MAPS),
]
NORMALIZED = [replace(case, options={**case.options, "batch_normalize": 1}) for case in CASES]
HISTORY = [Case("history", {"history_size": n}, "alexeyab", MAPS) for n in (1, 2, 5)]
ALL = CASES + NORMALIZED + HISTORY


def parameters(layer: Layer) -> Iterator[tuple[Any, str]]:
    """Every learned array inside a layer, as the layer that holds it and its name."""
    for _, part in layer.walk():
        for name in part.weights_order():
            if not name.startswith("rolling"):
                yield part, name


def updates(part: Any, name: str) -> Any:
    return getattr(part, {"weights": "weight_updates", "biases": "bias_updates", "scales": "scale_updates"}[name])


def inputs(net: darkbn.Network, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=net.input_shape)


# gradients


def derivative(net: darkbn.Network, x: Any, weights: Any, arrays: list[Any], directions: list[Any]) -> float:
    """Central difference of sum(weights * output) when the arrays (x: the network's input) move in directions."""
    starts, size = [array.copy() for array in arrays], 1e-6
    values = []
    for step in (size, -size):
        for array, start, direction in zip(arrays, starts, directions, strict=True):
            array[...] = start + step * direction
        values.append((net.forward(x, train=True) * weights).sum())
    for array, start in zip(arrays, starts, strict=True):
        array[...] = start
    return float(values[0] - values[1]) / (2 * size)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("case", ALL, ids=str)
def test_gradient(case: Case, steps: int) -> None:
    """Backward passes on the reference backend are the derivative of the forward pass: by all weights, all biases,
    all scales and by the input, each along a random direction."""
    net = case.load(steps, train=True, device="reference", batchnorm="exact")
    l, x, rng = net.layers[0], inputs(net), np.random.default_rng(5)
    weights = rng.normal(size=net.forward(x, train=True).shape)
    l.delta[...] = weights
    net.backward()
    groups = {"input": [(x, net.input_delta.copy())]}
    for part, name in parameters(l):
        groups.setdefault(name, []).append((getattr(part, name), updates(part, name).copy()))
    for name, pairs in groups.items():
        arrays, gradients = zip(*pairs, strict=True)
        directions = [rng.normal(size=array.shape) / max(0.1, np.linalg.norm(gradient)) for array, gradient in pairs]
        expected = derivative(net, x, weights, list(arrays), directions)
        found = sum((gradient * direction).sum() for gradient, direction in zip(gradients, directions, strict=True))
        assert abs(found - expected) <= 1e-6 * len(pairs), name


@pytest.mark.parametrize("case", ALL, ids=str)
@pytest.mark.parametrize("convention", ["darknet", "exact"])
def test_cpu_trains_as_reference(case: Case, convention: str) -> None:
    """Two training steps give the same parameters on both backends, with Darknet's way through time and without."""
    found = []
    for device in ("cpu", "reference"):
        net = case.load(3, train=True, device=device, batchnorm=convention)
        for seed in range(2):
            output = net.forward(inputs(net, seed), train=True)
            net.layers[0].delta[...] = np.random.default_rng(seed + 8).normal(size=output.shape)
            net.backward()
            net.update()
        arrays = [getattr(part, name) for part, name in parameters(net.layers[0])]
        found.append([output, net.input_delta, *arrays])
    for cpu, reference in zip(*found, strict=True):
        assert np.abs(cpu - reference).max() <= 3e-5 * np.abs(reference).max()


def gradients(case: Case, convention: str) -> list[np.ndarray]:
    net = case.load(3, train=True, device="reference", batchnorm=convention)
    output = net.forward(inputs(net), train=True)
    net.layers[0].delta[...] = np.random.default_rng(5).normal(size=output.shape)
    net.backward()
    return [net.input_delta, *(updates(part, name) for part, name in parameters(net.layers[0]))]


@pytest.mark.parametrize("case", [*CASES, *HISTORY], ids=str)
def test_darknet_through_time(case: Case) -> None:
    """Without batch normalization the conventions differ exactly where Darknet's CPU code leaves the derivative."""
    exact = gradients(case, "exact")
    same = [
        all(np.allclose(a, b, rtol=1e-12) for a, b in zip(gradients(case, convention), exact, strict=True))
        for convention in ("darknet", "alexeyab-cpu", "darknet-gpu", "alexeyab-gpu")
    ]
    imitated = case.section in ("rnn", "crnn", "lstm") or case.options.get("history_size", 1) > 1
    assert same == [not imitated, not imitated, True, True]


def test_time_normalizer_scales_what_goes_back_to_the_state() -> None:
    case = Case("conv_lstm", {**CONV_LSTM, "time_normalizer": 0}, "alexeyab", MAPS)
    net = case.load(2, train=True, device="reference")
    l = net.layers[0]
    net.forward(inputs(net), train=True)
    l.delta[BATCH:] = 1  # the last step; the first sees it through state and cell
    net.backward()
    assert not l.delta[:BATCH].any()
    assert net.input_delta[:BATCH].any()


# state


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize("case", ALL, ids=str)
def test_steps_equal_passes(case: Case, device: str) -> None:
    """Five steps in one pass, or in passes of one step, or of five and more: the same without training."""
    whole = case.load(5, device=device)
    x = inputs(whole)
    expected = whole.forward(x).copy()
    single = case.load(1, device=device)
    for t in range(5):
        rows = slice(t * BATCH, (t + 1) * BATCH)
        assert np.abs(single.forward(x[rows]) - expected[rows]).max() <= 1e-5 * np.abs(expected).max()
    more, carried = inputs(single, 4), inputs(whole, 4)
    carried[:BATCH] = more
    continued = single.forward(more)
    assert np.abs(whole.forward(carried)[:BATCH] - continued).max() <= 1e-5 * np.abs(continued).max()


@pytest.mark.parametrize("case", [c for c in ALL if c.options.get("history_size") != 1], ids=str)
def test_reset_state(case: Case) -> None:
    net = case.load(2)
    x = inputs(net)
    fresh = net.forward(x).copy()
    later = net.forward(x).copy()
    assert np.abs(later - fresh).reshape(2, BATCH, -1).max(axis=2)[0].min() > 1e-4
    net.reset_state()
    assert np.array_equal(net.forward(x), fresh)
    net.reset_state(1)
    partly = net.forward(x)
    of_sample = slice(1, None, BATCH)
    assert np.allclose(partly[of_sample], fresh[of_sample], rtol=1e-5, atol=1e-6)
    others = np.arange(2 * BATCH) % BATCH != 1
    assert np.allclose(partly[others], later[others], rtol=1e-5, atol=1e-6)


def test_reset_state_of_a_sample_that_is_not_there() -> None:
    with pytest.raises(ShapeError, match="0 to 3, found 4"):
        CASES[0].load(2).reset_state(4)


@pytest.mark.parametrize("case", ALL, ids=str)
def test_training_starts_from_zero_and_leaves_zero(case: Case) -> None:
    net = case.load(2, train=True)
    x = inputs(net)
    net.forward(x)
    trained = net.forward(x, train=True).copy()
    assert np.array_equal(net.forward(x, train=True), trained)
    fresh = case.load(2, train=True)
    for (part, name), (other, _) in zip(parameters(net.layers[0]), parameters(fresh.layers[0]), strict=True):
        getattr(part, name)[...] = getattr(other, name)
    for (_, part), (_, other) in zip(net.layers[0].walk(), fresh.layers[0].walk(), strict=True):
        if hasattr(other, "rolling_mean"):
            part.rolling_mean[...], part.rolling_variance[...] = other.rolling_mean, other.rolling_variance
    assert np.array_equal(net.forward(x), fresh.forward(x))


def test_statistics_of_every_step() -> None:
    """Batch normalization in a sub-layer: each step has its own mean, the layer shows that of the last."""
    net = Case("lstm", {"output": 4, "batch_normalize": 1}).load(3, train=True, device="reference")
    x = inputs(net)
    net.forward(x, train=True)
    uf = net.layers[0].uf
    products = (x @ uf.weights.T).reshape(3, BATCH, 4)
    for t in range(3):
        assert np.allclose(net.layers[0].step("uf", t).mean, products[t].mean(axis=0))
    assert np.allclose(uf.mean, products[2].mean(axis=0))


# arrays


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("case", ALL, ids=str)
def test_memory_is_declared(case: Case, training: bool) -> None:
    """nbytes is what the arrays take, views of them not counted again."""
    net = case.load(3, train=training)
    arrays: dict[int, np.ndarray] = {}
    for _, part in net.layers[0].walk():
        arrays |= {id(a): a for a in vars(part).values() if isinstance(a, np.ndarray) and a.base is None}
    assert sum(a.nbytes for a in arrays.values()) == net.layers[0].nbytes(training)


@pytest.mark.parametrize("case", [*CASES[1::3], *NORMALIZED[2::3]], ids=str)
def test_nothing_is_allocated_in_a_pass(case: Case) -> None:
    """No array of the size of a step's is made: only Python's own small objects."""
    maps = "width" in case.net
    wide = replace(case, net={**case.net, "width": 80, "height": 60}) if maps else case
    net = wide.load(3, BATCH if maps else 20000, train=True)
    x = net.backend.array(inputs(net))
    state = NetworkState(input=x, delta=np.zeros_like(x), train=True, layers=net.layers)
    l = net.layers[0]
    for _ in range(2):  # the first passes make the workspace
        tracemalloc.start()
        l.forward(state)
        l.backward(state)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < l.output.nbytes / l.steps / 2


@pytest.mark.parametrize("case", ALL, ids=str)
def test_passes_leave_input_and_delta_of_the_network(case: Case) -> None:
    net = case.load(2, train=True)
    x = net.backend.array(inputs(net))
    delta = np.zeros_like(x)
    state = NetworkState(input=x, delta=delta, train=True, layers=net.layers)
    net.layers[0].forward(state)
    assert state.input is x
    net.layers[0].backward(state)
    assert state.input is x
    assert state.delta is delta


@pytest.mark.parametrize("case", ALL, ids=str)
def test_the_first_layer_needs_no_delta_of_the_input(case: Case) -> None:
    net = case.load(2, train=True)
    net.forward(inputs(net), train=True)
    net.layers[0].delta[...] = 1
    net.backward(input_delta=False)
    assert net.input_delta is None
    assert all(updates(part, name).any() for part, name in parameters(net.layers[0]) if part.type == "connected")


@pytest.mark.parametrize("case", [c for c in ALL if "width" in c.net], ids=str)
def test_resize(case: Case) -> None:
    """Parameters stay, everything else fits the new size, and the network equals one made with that size."""
    net = case.load(2)
    net.forward(inputs(net))
    net.resize(6, 5)
    made = replace(case, net={**MAPS, "width": 6, "height": 5}).load(2)
    x = inputs(made)
    assert np.array_equal(net.forward(x), made.forward(x))


@pytest.mark.parametrize("section", ["rnn", "gru", "lstm"])
def test_connected_sublayers_fix_the_size(section: str) -> None:
    net = Case(section, {"output": 2}, net=MAPS).load(1)
    expected = net.forward(inputs(net)).copy()
    with pytest.raises(CfgError, match="has 24 inputs and cannot take 60"):
        net.resize(6, 5)
    net.reset_state()
    assert np.array_equal(net.forward(inputs(net)), expected)


# files and options

ORDERS = {
    ("rnn", "darknet"): "input_layer self_layer output_layer",
    ("rnn", "alexeyab"): "input_layer self_layer output_layer",
    ("gru", "darknet"): "wz wr wh uz ur uh",
    ("gru", "alexeyab"): "input_z_layer input_r_layer input_h_layer state_z_layer state_r_layer state_h_layer",
    ("lstm", "darknet"): "wi wf wo wg ui uf uo ug",
    ("lstm", "alexeyab"): "wf wi wg wo uf ui ug uo",
    ("conv_lstm", "alexeyab"): "wf wi wg wo uf ui ug uo",
    ("conv_lstm peephole=1", "alexeyab"): "vf vi vo wf wi wg wo uf ui ug uo",
    ("conv_lstm peephole=1 bottleneck=1", "alexeyab"): "vf vi vo wf uf ui ug uo",
}


@pytest.mark.parametrize(("text", "dialect"), ORDERS)
def test_order_of_the_weights_file(text: str, dialect: str) -> None:
    section, *options = text.split()
    given = dict(o.split("=") for o in [*options, *(["size=1"] if "conv" in section else [])])
    case = Case(section, given, dialect, {**MAPS, "channels": 1})
    l = case.load(1).layers[0]
    assert list(l.sublayers) == ORDERS[text, dialect].split()
    assert all(getattr(l, name) is part for name, part in l.sublayers.items())


@pytest.mark.parametrize("case", ALL, ids=str)
def test_weights_round_trip(case: Case, tmp_path: Any) -> None:
    net, other = case.load(2), darkbn.load(case.cfg(2), batch=BATCH, dialect=case.dialect, seed=1)
    net.save_weights(tmp_path / "a.weights")
    other.load_weights(tmp_path / "a.weights")
    x = inputs(net)
    assert np.array_equal(other.forward(x), net.forward(x))


def test_learning_rate_of_the_section_reaches_the_sublayers() -> None:
    net = Case("rnn", {**RNN, "learning_rate": 0}).load(2, train=True)
    before = [getattr(part, name).copy() for part, name in parameters(net.layers[0])]
    net.forward(inputs(net), train=True)
    net.layers[0].delta[...] = 1
    net.backward()
    net.update()
    after = [getattr(part, name) for part, name in parameters(net.layers[0])]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_hidden_is_no_evidence_of_a_dialect() -> None:
    """pjreddie's own descriptions have it, unused."""
    text = "[net]\ninputs=3\n[rnn]\noutput=4\nhidden=5\n"
    assert guess_dialect(read_cfg(text))[0] == "darknet"
    net = darkbn.load(text)
    assert net.layers[0].self_layer.outputs == 4
    assert any("hidden" in warning for warning in net.warnings)
    assert guess_dialect(read_cfg(text + "logistic=1\n"))[0] == "alexeyab"
    assert guess_dialect(read_cfg("[net]\n[crnn]\noutput=4\n"))[0] == "alexeyab"
    assert darkbn.load(text, dialect="alexeyab").layers[0].self_layer.outputs == 5


@pytest.mark.parametrize(
    ("case", "error", "message"),
    [
        (Case("crnn", {"size": 3}, "alexeyab", MAPS), CfgError, "must keep 3 x 4; they give 1 x 2"),
        (Case("conv_lstm", {"pad": 1, "stride": 2}, "alexeyab", MAPS), CfgError, "must keep 3 x 4; they give 2 x 2"),
        (Case("conv_lstm", {**BOTTLENECK, "output": 3}, "alexeyab", MAPS), CfgError, "expected output=2, found 3"),
        (Case("conv_lstm", {"lstm_activation": "mish"}, "alexeyab", MAPS), CfgError, "expected one of tanh, leaky"),
        (Case("crnn", {"groups": 2, "hidden": 3, "pad": 1}, "alexeyab", MAPS), CfgError, "groups=2 must divide"),
        (Case("history", {"history_size": 0}, "alexeyab", MAPS), CfgError, "at least 1, found 0"),
        (Case("history", {}, "alexeyab"), CfgError, "needs an input with width, height and channels"),
        (Case("rnn", {"logistic": 3}, "alexeyab"), CfgError, "at most 2, found 3"),
        (Case("rnn", {"activation": "mish"}), CfgError, "exists in dialect alexeyab only"),
        (Case("conv_lstm", CONV_LSTM, "darknet", MAPS), CfgError, "exists only in dialect alexeyab"),
    ],
    ids=lambda value: str(value) if isinstance(value, Case) else "",
)
def test_bad_options(case: Case, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        case.load(1)


def test_batch_normalization_of_one_sample_in_each_step() -> None:
    net = Case("lstm", {"output": 2, "batch_normalize": 1}).load(3, batch=1, train=True)
    with pytest.raises(TrainingError, match="one value per channel"):
        net.forward(inputs(net), train=True)


def test_steps_must_divide_the_batch() -> None:
    with pytest.raises(CfgError, match="time_steps=3 must divide the batch of 8"):
        make_gru_layer(8, 3, 4, 3)


# functions that make a layer outside a network

MADE = {
    "rnn": lambda **o: make_rnn_layer(6, 5, 4, 3, "tanh", True, shortcut=True, **o),
    "gru": lambda **o: make_gru_layer(6, 5, 4, 3, tanh=True, **o),
    "lstm": lambda **o: make_lstm_layer(6, 5, 4, 3, True, **o),
    "crnn": lambda **o: make_crnn_layer(6, 4, 5, 2, 3, 4, 3, "tanh", **o),
    "conv_lstm": lambda **o: make_conv_lstm_layer(6, 4, 5, 2, 3, 3, peephole=True, **o),
    "history": lambda **o: make_history_layer(6, 4, 5, 2, 3, 3, **o),
}


@pytest.mark.parametrize("section", MADE)
def test_make_layer(section: str) -> None:
    l = MADE[section](**({} if section == "history" else {"seed": 3}))
    assert type(l) is BY_SECTION[section]
    assert l.steps == 3
    x = np.random.default_rng(0).normal(size=(6, l.inputs)).astype(np.float32)
    delta = np.zeros_like(x)
    state = NetworkState(input=x, delta=delta, train=True)
    l.forward(state)
    assert l.output.shape[0] == 6
    assert np.isfinite(l.output).all()
    # Not a constant: batch normalization takes the mean away, and only rounding would be left.
    l.delta[...] = np.random.default_rng(1).normal(size=l.delta.shape)
    l.backward(state)
    assert delta.reshape(3, -1).any(axis=1).all()


def test_make_rnn_layer_with_another_state() -> None:
    assert make_rnn_layer(4, 5, 3, 2, "tanh", hidden=7, dialect="alexeyab").state.shape == (4, 7)
    with pytest.raises(ShapeError, match="hidden=7"):
        make_rnn_layer(4, 5, 3, 2, "tanh", hidden=7)
