"""Training steps: optimizers, frozen layers, bounds, averages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import darkbn
from darkbn.layers.base import UPDATES, Layer, Role

CONV = "[convolutional]\nfilters=4\nsize=3\npad=1\nbatch_normalize=1\nactivation=leaky"
PLAIN = "[convolutional]\nfilters=3\nsize=1\nactivation=linear"
COST = "[cost]\ntype=sse"


def cfg(*sections: str, net: str = "", batch: int = 2, time_steps: int = 1, rate: float = 0.01) -> str:
    """A network on 6 x 6 x 3."""
    head = f"[net]\nbatch={batch}\ntime_steps={time_steps}\nwidth=6\nheight=6\nchannels=3\nlearning_rate={rate}\n{net}"
    return "\n\n".join([head, *sections, ""])


def load(text: str, **options: Any) -> darkbn.Network:
    return darkbn.load(text, train=True, seed=3, **options)


def batch(net: darkbn.Network, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Input and truth."""
    rng = np.random.default_rng(seed)
    shape = net.output_layer.output_shape
    return rng.standard_normal(net.input_shape).astype(np.float32), rng.standard_normal((net.batch, *shape[1:]))


def step(net: darkbn.Network, times: int = 1) -> None:
    for number in range(times):
        net.train_step(*batch(net, number))


def parts(net: darkbn.Network) -> list[tuple[int, str, Layer]]:
    return [(index, prefix, part) for index, layer in enumerate(net.layers) for prefix, part in layer.walk()]


def arrays(net: darkbn.Network, *roles: Role) -> dict[str, np.ndarray]:
    """Copies of all arrays with these roles."""
    return {
        f"{index}.{prefix}{b.name}": getattr(part, b.name).copy()
        for index, prefix, part in parts(net)
        for b in part.all_buffers()
        if b.role in roles
    }


def learned(net: darkbn.Network) -> dict[str, np.ndarray]:
    return arrays(net, Role.PARAMETER, Role.STATISTIC)


# Adam


@pytest.mark.parametrize(("dialect", "eps"), [("darknet", 1e-7), ("alexeyab", 1e-6)])
def test_adam_by_hand(dialect: str, eps: float) -> None:
    """Three steps of one layer against the formula, decay of biases included, as in both CUDA builds."""
    text = cfg("[connected]\noutput=4\nactivation=linear", COST, net="adam=1\ndecay=0.01\nB1=0.8")
    net = load(text, dialect=dialect, device="reference")
    l = net.layers[0]
    wanted = [np.array(l.weights), np.array(l.biases)]
    means = [(np.zeros_like(w), np.zeros_like(w)) for w in wanted]
    for t in (1, 2, 3):
        x, truth = batch(net, t)
        net.train_step(x, truth)
        rows = x.reshape(2, -1).astype(np.float64)
        delta = truth.reshape(2, -1) - (rows @ wanted[0].T + wanted[1])
        for i, gradient in enumerate((delta.T @ rows, delta.sum(axis=0))):
            d = gradient - 0.01 * 2 * wanted[i]
            m, v = means[i] = (0.8 * means[i][0] + 0.2 * d, 0.999 * means[i][1] + 0.001 * d * d)
            wanted[i] = wanted[i] + 0.01 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.999**t)) + eps)
    assert np.allclose(l.weights, wanted[0], rtol=1e-9)
    assert np.allclose(l.biases, wanted[1], rtol=1e-9)
    assert not l.weight_updates.any()


ADAM = {
    "convolutional": ("darknet", (CONV, PLAIN)),
    "deconvolutional": ("darknet", ("[deconvolutional]\nfilters=3\nsize=2\nstride=2\nbatch_normalize=1", PLAIN)),
    "connected": ("darknet", ("[connected]\noutput=5\nbatch_normalize=1", "[connected]\noutput=3")),
    "local": ("darknet", ("[local]\nfilters=2\nsize=3\npad=1\nactivation=tanh",)),
    "batchnorm": ("alexeyab", ("[batchnorm]", PLAIN)),
    "shortcut": (
        "alexeyab",
        (CONV, CONV, "[shortcut]\nfrom=-2\nweights_type=per_channel\nweights_normalization=softmax", PLAIN),
    ),
    "antialiased": ("alexeyab", (CONV + "\nstride=2\nantialiasing=1", PLAIN)),
    "crnn": ("alexeyab", ("[crnn]\noutput=3\nhidden=2\nsize=3\npad=1\nbatch_normalize=0\nactivation=tanh", PLAIN)),
    "conv_lstm": ("alexeyab", ("[conv_lstm]\noutput=3\nsize=3\npad=1\npeephole=1", PLAIN)),
    "rnn": ("darknet", ("[rnn]\noutput=4\nactivation=tanh", "[connected]\noutput=3")),
    "gru": ("alexeyab", ("[gru]\noutput=4", "[connected]\noutput=3")),
    "lstm": ("darknet", ("[lstm]\noutput=4", "[connected]\noutput=3")),
}


@pytest.mark.parametrize("name", ADAM)
def test_adam_trains_every_layer(name: str) -> None:
    """The first step is the rate times the sign of the gradient, on both backends."""
    dialect, sections = ADAM[name]
    steps = 2 if name in ("crnn", "conv_lstm", "rnn", "gru", "lstm") else 1
    moved = {}
    for device in ("cpu", "reference"):
        net = load(cfg(*sections, COST, net="adam=1\ndecay=0", time_steps=steps), dialect=dialect, device=device)
        before = arrays(net, Role.PARAMETER)
        net.forward(*batch(net), train=True)
        net.backward()
        updates = arrays(net, Role.UPDATE)
        net.update()
        moved[device] = arrays(net, Role.PARAMETER)
        for index, prefix, part in parts(net):
            for parameter, update, m, v in UPDATES:
                place = f"{index}.{prefix}"
                if f"{place}{update}" not in updates:
                    continue
                gradient, change = updates[place + update], moved[device][place + parameter] - before[place + parameter]
                clear = np.abs(gradient) > 1e-4
                assert clear.any(), place + parameter
                assert np.allclose(change[clear], 0.01 * np.sign(gradient[clear]), rtol=0.05), place + parameter
                assert getattr(part, m).shape == getattr(part, v).shape == gradient.shape
    assert moved["cpu"].keys() == moved["reference"].keys()


def test_shared_filters_take_one_step_of_adam() -> None:
    shared = CONV.replace("filters=4", "filters=3")
    net = load(cfg(shared, f"{shared}\nshare_index=0", COST, net="adam=1\ndecay=0.1"), dialect="alexeyab")
    before = net.layers[0].weights.copy()
    step(net)
    assert np.abs(net.layers[0].weights - before).max() <= 0.01 * 1.001
    assert net.layers[1].weights is net.layers[0].weights


def test_means_of_adam_are_declared(tmp_path: Any) -> None:
    """They count as memory, survive a resize, and do not reach the weights file."""
    plain, net = load(cfg(CONV, PLAIN)), load(cfg(CONV, PLAIN, net="adam=1"))
    floats = 3 * 4 * 9 + 2 * 4 + 4 * 3 + 3
    assert sum(l.nbytes(True) for l in net.layers) - sum(l.nbytes(True) for l in plain.layers) == 2 * 4 * floats
    assert sum(l.nbytes(False) for l in net.layers) == sum(l.nbytes(False) for l in plain.layers)
    net.layers[0].m.fill(7)
    net.resize(12, 12)
    assert (net.layers[0].m == 7).all()
    plain.save_weights(tmp_path / "a")
    net.save_weights(tmp_path / "b")
    assert (tmp_path / "a").stat().st_size == (tmp_path / "b").stat().st_size


# Frozen layers


def frozen_state(net: darkbn.Network, upto: int) -> dict[str, np.ndarray]:
    return {key: value for key, value in learned(net).items() if int(key.split(".")[0]) <= upto}


FROZEN = {
    "darknet": ("darknet", (CONV, CONV + "\nstopbackward=1", CONV, PLAIN)),
    "alexeyab": ("alexeyab", (CONV, CONV + "\nstopbackward=1", CONV, PLAIN)),
    "deconvolutional": ("darknet", ("[batchnorm]", "[deconvolutional]\nstopbackward=1\nbatch_normalize=1", CONV)),
    "recurrent": (
        "alexeyab",
        (
            "[crnn]\noutput=3\nhidden=2\nsize=3\npad=1\nbatch_normalize=1\nactivation=tanh",
            CONV + "\nstopbackward=1",
            PLAIN,
        ),
    ),
    "connected": (
        "darknet",
        (
            "[lstm]\noutput=4\nbatch_normalize=1",
            "[connected]\nbatch_normalize=1\noutput=4\nstopbackward=1",
            "[connected]\noutput=2\nbatch_normalize=1",
        ),
    ),
}


@pytest.mark.parametrize("optimizer", ["", "adam=1\n"])
@pytest.mark.parametrize("name", FROZEN)
def test_frozen_layers_do_not_move(name: str, optimizer: str) -> None:
    """Neither parameters (decay included) nor rolling statistics; the others learn."""
    dialect, sections = FROZEN[name]
    net = load(cfg(*sections, COST, net=f"{optimizer}decay=0.1", batch=4), dialect=dialect)
    frozen, before = frozen_state(net, 1), learned(net)
    assert net.frozen[:2] == [True, True]
    assert not any(net.frozen[2:])
    step(net, 3)
    after = learned(net)
    for key, value in frozen.items():
        assert np.array_equal(after[key], value), key
    moved = [key for key in before if key not in frozen and not np.array_equal(after[key], before[key])]
    assert moved == [key for key in before if key not in frozen]


def test_frozen_layers_see_what_they_see_in_tests() -> None:
    """Batch normalization of a frozen layer uses the rolling statistics."""
    net = load(cfg(CONV + "\nstopbackward=1", PLAIN, COST))
    x, truth = batch(net)
    net.forward(x)
    tested = net.layers[0].output.copy()
    net.forward(x, truth, train=True)
    assert np.array_equal(net.layers[0].output, tested)


def test_stopbackward_until_an_iteration() -> None:
    """AlexeyAB's stopbackward=N, N > 1: the first N iterations."""
    net = load(cfg(CONV + "\nstopbackward=2", PLAIN, COST, batch=4, net="subdivisions=2"), dialect="alexeyab")
    seen = []
    for _ in range(6):
        before = learned(net)["0.weights"]
        step(net)
        seen.append(np.array_equal(before, learned(net)["0.weights"]))
    assert seen == [True, True, True, True, True, False]
    assert load(cfg(CONV + "\nstopbackward=2", PLAIN, COST), dialect="darknet").frozen == [True, False, False]


def test_onlyforward_freezes_in_alexeyab() -> None:
    net = load(cfg(CONV, CONV + "\nonlyforward=1", PLAIN, COST, batch=4, net="decay=0.1"), dialect="alexeyab")
    assert net.frozen == [False, True, False, False]
    before = learned(net)
    step(net)
    same = {key for key, value in learned(net).items() if np.array_equal(value, before[key])}
    assert {key for key in before if key.startswith("1.")} <= same


# Rates, bounds, averages


def test_learning_rate_of_a_layer() -> None:
    """A layer's learning_rate multiplies the network's, in both optimizers."""
    for optimizer in ("decay=0", "decay=0\nadam=1"):
        half, whole = (
            load(cfg(PLAIN + f"\nlearning_rate={factor}", COST, net=optimizer), device="reference")
            for factor in (0.5, 1)
        )
        before = whole.layers[0].weights.copy()
        assert np.array_equal(before, half.layers[0].weights)
        step(half)
        step(whole)
        assert np.allclose(2 * (half.layers[0].weights - before), whole.layers[0].weights - before)


@pytest.mark.parametrize("optimizer", ["", "adam=1\n"])
def test_clip_bounds_weights_after_a_step(optimizer: str) -> None:
    """[net] clip= in dialect darknet, clip= of a section in alexeyab: convolutions' weights, as the CUDA builds do."""
    for dialect, net_option, option in (("darknet", "clip=0.05\n", ""), ("alexeyab", "", "\nclip=0.05")):
        text = cfg(
            CONV + option, "[connected]\noutput=3\nactivation=linear", COST, net=net_option + optimizer, rate=1e-5
        )
        net = load(text, dialect=dialect)
        net.layers[0].biases.fill(1)
        net.layers[1].weights.fill(1)
        step(net)
        assert np.abs(net.layers[0].weights).max() == np.float32(0.05)
        assert net.layers[0].biases.min() > 0.5
        assert np.abs(net.layers[1].weights).max() > 0.5


def test_clip_of_a_layer_that_has_no_bound_is_reported() -> None:
    net = load(cfg("[connected]\noutput=3\nclip=1", COST), dialect="alexeyab")
    assert any("clip" in text and "ignored" in text for text in net.warnings)


def test_moving_averages(tmp_path: Any) -> None:
    """They start in the middle of training and take the parameters' place 1000 iterations before its end."""
    text = cfg(CONV, PLAIN, COST, net="ema_alpha=0.75\nmax_batches=2004\ndecay=0", batch=2)
    net = load(text, dialect="alexeyab", device="reference")
    net.seen = 2 * 1000  # the middle is after 1002 iterations, they are applied after 1004
    wanted, saved = None, tmp_path / "ema.weights"
    step(net)
    assert not net.averaged
    with pytest.raises(darkbn.TrainingError, match=r"ema_alpha.*after iteration 1002"):
        net.save_weights(saved, average=True)
    for _ in range(2):
        step(net)
        now = net.layers[0].weights
        wanted = now.copy() if wanted is None else 0.75 * wanted + 0.25 * now
        assert net.averaged
        assert np.allclose(net.layers[0].weights_ema, wanted)
    net.save_weights(saved, average=True)
    again = darkbn.load(text, saved, dialect="alexeyab")
    assert np.allclose(again.layers[0].weights, wanted, atol=1e-6)
    assert np.allclose(again.layers[0].scales, net.layers[0].scales_ema, atol=1e-6)
    assert np.allclose(again.layers[0].rolling_mean, net.layers[0].rolling_mean, atol=1e-6)
    assert not np.allclose(net.layers[0].weights, wanted)
    step(net)
    assert net.iteration == 1004
    assert np.array_equal(net.layers[0].weights, net.layers[0].weights_ema)
    last = net.layers[0].weights_ema.copy()
    step(net)
    assert np.array_equal(net.layers[0].weights_ema, last)
    assert not np.array_equal(net.layers[0].weights, last)


def test_averages_that_nobody_asked_for(tmp_path: Any) -> None:
    with pytest.raises(darkbn.TrainingError, match="ema_alpha= is not set"):
        load(cfg(CONV)).save_weights(tmp_path / "a", average=True)


def test_similar_filters_are_drawn_anew() -> None:
    sections = (CONV, CONV, PLAIN)
    net = load(cfg(*sections, COST, net="weights_reject_freq=2\nmax_batches=100", rate=0), dialect="alexeyab")
    for l in net.layers[:2]:
        l.weights[2] = 2 * l.weights[1]
        l.biases.fill(1)
        l.scales.fill(2)
    kept = net.layers[1].weights.copy()
    step(net)
    assert np.array_equal(net.layers[1].weights, kept)
    step(net)
    l = net.layers[1]
    assert not np.array_equal(l.weights[1], kept[1])
    assert np.abs(l.weights[1]).max() <= np.sqrt(2 / 36)
    assert np.array_equal(l.weights[[0, 2, 3]], kept[[0, 2, 3]])
    assert (l.biases[1], l.scales[1], l.scales[2]) == (0, 1, 2)
    assert np.array_equal(net.layers[0].weights[2], 2 * net.layers[0].weights[1])  # the first layer is left alone


def test_try_fix_nan_bounds_deltas() -> None:
    net = load(cfg(PLAIN, COST, net="try_fix_nan=1"), dialect="alexeyab")
    x, truth = batch(net)
    net.forward(x, 100 + truth, train=True)
    net.backward()
    assert np.array_equal(net.layers[0].bias_updates, [2 * 36] * 3)


def test_sequences_divide_the_step() -> None:
    """sequential_subdivisions= below subdivisions: each sequence counts as one step's batch."""
    changes = []
    for option in ("", "sequential_subdivisions=2\n", "track=1\nsequential_subdivisions=1\nseq_scales=2\n"):
        text = cfg(PLAIN, COST, net=f"subdivisions=4\ndecay=0\n{option}policy=steps\nsteps=1\nscales=1", batch=4)
        net = load(text, dialect="alexeyab", device="reference")
        before = net.layers[0].weights.copy()
        step(net, 4)
        changes.append(net.layers[0].weights - before)
    assert np.allclose(changes[0], 2 * changes[1])
    assert np.allclose(changes[1], changes[2])
