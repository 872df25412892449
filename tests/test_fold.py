"""Folding of batch normalization into weights and biases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import CLASSIFIER, TWO_HEADS
from typer.testing import CliRunner

import darkbn
from darkbn import Network
from darkbn.cli.main import app
from darkbn.conventions import CONVENTIONS, get_convention
from darkbn.errors import DarkbnError
from darkbn.inference.fold import folded_parameters
from darkbn.inference.fold_network import Folding
from darkbn.layers.base import Layer
from darkbn.layers.batchnorm import make_batchnorm_layer
from darkbn.layers.connected import make_connected_layer
from darkbn.layers.convolutional import make_convolutional_layer
from darkbn.layers.deconvolutional import make_deconvolutional_layer
from darkbn.state import NetworkState

KINDS = ("convolutional", "groups", "deconvolutional", "connected")


def make(kind: str, batch_normalize: bool, **context: Any) -> Layer:
    """A layer with six outputs and an activation that shows every error."""
    common: Any = {"batch_normalize": batch_normalize, "seed": 3, **context}
    if kind == "connected":
        return make_connected_layer(2, 20, 6, "linear", **common)
    if kind == "deconvolutional":
        return make_deconvolutional_layer(2, 5, 4, 4, 6, 3, 2, 1, "linear", **common)
    return make_convolutional_layer(2, 5, 4, 4, 6, 2 if kind == "groups" else 1, 3, 1, 1, "linear", **common)


def randomize(layer: Layer, rng: np.random.Generator) -> None:
    """Statistics small enough that the place of epsilon shows."""
    for name in ("scales", "biases", "rolling_mean"):
        array = getattr(layer, name)
        array[...] = rng.standard_normal(array.shape)
    layer.rolling_variance[...] = rng.uniform(1e-5, 1e-3, layer.rolling_variance.shape)


def outputs(layer: Layer, x: np.ndarray) -> np.ndarray:
    layer.forward(NetworkState(input=x))
    return np.array(layer.output)


def close(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-5) -> bool:
    return bool(np.abs(found - expected).max() <= tolerance * np.abs(expected).max())


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_folded_parameters_compute_the_same(kind: str, convention: str) -> None:
    rng = np.random.default_rng(1)
    layer = make(kind, True, convention=get_convention(convention))
    randomize(layer, rng)
    x = rng.standard_normal((2, layer.inputs)).astype(np.float32)
    expected, before = outputs(layer, x), layer.weights.copy()
    plain = make(kind, False)
    plain.weights[...], plain.biases[...] = folded_parameters(layer)
    assert close(outputs(plain, x), expected)
    assert np.array_equal(layer.weights, before)
    # The epsilon of another convention would show.
    other = make(kind, True, convention=get_convention("pytorch" if layer.convention.epsilon == 1e-3 else "keras"))
    for name in ("weights", "scales", "biases", "rolling_mean", "rolling_variance"):
        getattr(other, name)[...] = getattr(layer, name)
    assert not close(outputs(other, x), expected, 1e-3)


def test_nothing_to_fold_copies() -> None:
    layer = make("convolutional", False)
    weights, biases = folded_parameters(layer)
    assert np.array_equal(weights, layer.weights)
    assert np.array_equal(biases, layer.biases)
    assert not np.shares_memory(weights, layer.weights)
    assert not np.shares_memory(biases, layer.biases)


@pytest.mark.parametrize("batch_normalize", [False, True])
@pytest.mark.parametrize("kind", ["convolutional", "deconvolutional"])
def test_a_batchnorm_layer_behind_a_linear_one(kind: str, batch_normalize: bool) -> None:
    rng = np.random.default_rng(2)
    layer = make(kind, batch_normalize)
    then = make_batchnorm_layer(2, layer.out_w, layer.out_h, layer.out_c)
    for part in (layer, then) if batch_normalize else (then,):
        randomize(part, rng)
    layer.biases[...] = rng.standard_normal(6)
    x = rng.standard_normal((2, layer.inputs)).astype(np.float32)
    expected = outputs(then, outputs(layer, x))
    plain = make(kind, False)
    plain.weights[...], plain.biases[...] = folded_parameters(layer, then)
    assert close(outputs(plain, x), expected)


def test_a_dead_variance_of_zero_folds_as_it_runs() -> None:
    """Darknet's convention divides by 1e-6 there."""
    layer = make("convolutional", True)
    layer.rolling_mean[...], layer.rolling_variance[...], layer.scales[...] = 0.5, 0, 1e-6
    x = np.random.default_rng(4).standard_normal((2, layer.inputs)).astype(np.float32)
    expected = outputs(layer, x)
    plain = make("convolutional", False)
    plain.weights[...], plain.biases[...] = folded_parameters(layer)
    assert close(outputs(plain, x), expected)


# ------------------------------------------------------------------------------------------------- whole networks


NET = "[net]\nwidth=8\nheight=8\nchannels=3\ntime_steps={steps}\nbatch={steps}\n"
CONV = "[convolutional]\nfilters={n}\nsize=3\npad=1\nactivation={a}\nbatch_normalize={bn}\n"


def network(*sections: str, steps: int = 1, **options: Any) -> Network:
    """A network with random parameters and statistics, but for what its weights files have no room for."""
    net = darkbn.load(NET.format(steps=steps) + "".join(sections), seed=5, **options)
    rng = np.random.default_rng(6)
    for layer in net.layers:
        for _, part in layer.walk():
            for buffer in part.buffers():
                if buffer.name == "rolling_variance":
                    part.rolling_variance[...] = rng.uniform(0.01, 2, part.rolling_variance.shape)
                elif buffer.name in part.weights_order() and buffer.name != "weights":
                    array = getattr(part, buffer.name)
                    array[...] = rng.standard_normal(array.shape)
    return net


def conv(n: int = 4, a: str = "leaky", bn: int = 1) -> str:
    return CONV.format(n=n, a=a, bn=bn)


def state(net: Network) -> list[np.ndarray]:
    return [
        getattr(part, buffer.name).copy()
        for layer in net.layers
        for _, part in layer.walk()
        for buffer in part.buffers()
        if not buffer.training
    ]


def check(net: Network, tmp_path: Path) -> Folding:
    """Folds, saves, loads: nothing normalizes any more, outputs are the same, the given network keeps every bit."""
    before = state(net)
    folding = net.fold()
    assert all(np.array_equal(a, b) for a, b in zip(before, state(net), strict=True))
    assert folding.largest_change <= 1e-5 * folding.largest_output
    folding.save(tmp_path / "f.cfg", tmp_path / "f.weights")
    loaded = darkbn.load(tmp_path / "f.cfg", tmp_path / "f.weights", dialect=net.dialect)
    assert len(loaded.warnings) == len(net.warnings)
    x = np.random.default_rng(7).random(net.input_shape, dtype=np.float32)
    expected, found = net.forward(x).copy(), loaded.forward(x)
    assert close(found, expected)
    assert np.array_equal(found, folding.network.forward(x))
    return folding


@pytest.mark.parametrize("text", [TWO_HEADS, CLASSIFIER])
@pytest.mark.parametrize("dialect", ["darknet", "alexeyab"])
def test_networks(text: str, dialect: str, tmp_path: Path) -> None:
    net = darkbn.load(text, seed=1, dialect=dialect)
    for layer in net.layers:
        if getattr(layer, "batch_normalize", False):
            randomize(layer, np.random.default_rng(8))
            layer.rolling_variance[...] += 0.1
    folding = check(net, tmp_path)
    assert folding.kept == ()
    assert not any(getattr(layer, "batch_normalize", False) for layer in folding.network.layers)


def test_the_description_keeps_its_lines(tmp_path: Path) -> None:
    text = NET.format(steps=1) + "# first\n" + conv() + "; second = 2\n[convolutional]\nfilters = 3 \nbatch_normalize=1"
    folding = darkbn.load(text, seed=1).fold()
    folding.save(tmp_path / "f.cfg", tmp_path / "f.weights")
    lines = [line for line in text.split("\n") if not line.startswith("batch_normalize")]
    assert (tmp_path / "f.cfg").read_text() == "\n".join(lines)


RECURRENT = {
    "rnn": "[rnn]\noutput=5\nactivation=tanh\nbatch_normalize=1\n",
    "gru": "[gru]\noutput=5\nbatch_normalize=1\n",
    "lstm": "[lstm]\noutput=5\nbatch_normalize=1\n",
    "crnn": "[crnn]\noutput=4\nhidden=5\npad=1\nsize=3\nactivation=leaky\nbatch_normalize=1\n",
    "conv_lstm": "[conv_lstm]\noutput=4\nsize=3\npad=1\nactivation=leaky\nbatch_normalize=1\npeephole=1\n",
}


@pytest.mark.parametrize("kind", RECURRENT)
def test_recurrent_layers(kind: str, tmp_path: Path) -> None:
    folding = check(network(RECURRENT[kind], steps=2), tmp_path)
    assert len(folding.folded) == len(folding.network.layers[0].sublayers)


def test_deconvolution_and_antialiasing(tmp_path: Path) -> None:
    deconv = "[deconvolutional]\nfilters=4\nsize=4\nstride=2\npadding=1\nactivation=relu\nbatch_normalize=1\n"
    check(network(deconv, conv()), tmp_path)
    check(network(conv() + "antialiasing=1\nstride=2\n", conv()), tmp_path)


@pytest.mark.parametrize("bn", [0, 1])
@pytest.mark.parametrize("dialect", ["darknet", "alexeyab"])
def test_standalone_behind_a_linear_layer(bn: int, dialect: str, tmp_path: Path) -> None:
    net = network(conv(a="linear", bn=bn), "[batchnorm]\n", conv(), "[route]\nlayers=1,-1\n", dialect=dialect)
    folding = check(net, tmp_path)
    assert folding.kept == ()
    assert folding.folded[0].batchnorm == 1
    assert [layer.type for layer in folding.network.layers] == ["convolutional", "activation", "convolutional", "route"]


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        (("[batchnorm]\n", conv()), "no weights that could take it over"),
        ((conv(), "[batchnorm]\n"), "activation leaky"),
        ((conv(), conv(a="linear"), "[batchnorm]\n", "[route]\nlayers=1,2\n"), "another layer reads"),
        ((conv(), "[maxpool]\nsize=2\n", "[batchnorm]\n"), "no weights"),
        ((conv(), conv(a="linear"), conv(a="linear") + "share_index=1\n", "[batchnorm]\n"), "shares its weights"),
    ],
)
def test_batchnorm_layers_that_stay(sections: tuple[str, ...], reason: str, tmp_path: Path) -> None:
    folding = check(network(*sections), tmp_path)
    assert len(folding.kept) == 1
    assert reason in folding.kept[0].reason
    assert "[batchnorm]" in folding.network.cfg.text


def test_shared_weights(tmp_path: Path) -> None:
    folding = check(network(conv(3), conv(3), conv(3) + "share_index=1\n"), tmp_path)
    assert [layer.index for layer in folding.folded] == [0, 1, 2]
    net = network(conv(3), conv(3), conv(3, bn=0) + "share_index=1\n")
    folding = check(net, tmp_path)
    assert [layer.index for layer in folding.folded] == [0]
    assert [layer.index for layer in folding.kept] == [1]


def test_partly_loaded_networks_are_saved_whole(tmp_path: Path) -> None:
    net = network(conv() + "dontload=1\n", conv() + "dontsave=1\nnumload=1\nflipped=1\ndontloadscales=1\n")
    folding = check(net, tmp_path)
    assert all(key not in folding.network.cfg.text for key in ("dontload", "dontsave", "numload", "flipped"))


def test_nothing_to_fold(tmp_path: Path) -> None:
    with pytest.raises(DarkbnError, match="no batch normalization to fold \\(no layer has any\\)"):
        network(conv(bn=0)).fold()
    with pytest.raises(DarkbnError, match="layer 1 \\[batchnorm\\]: the layer before has the activation leaky"):
        network(conv(bn=0), "[batchnorm]\n").fold()


def test_a_missing_folder_writes_nothing(tmp_path: Path) -> None:
    folding = network(conv()).fold()
    with pytest.raises(DarkbnError, match="there is no folder"):
        folding.save(tmp_path / "no" / "f.cfg", tmp_path / "f.weights")
    assert list(tmp_path.iterdir()) == []


def test_command(tmp_path: Path) -> None:
    cfg, weights = tmp_path / "a.cfg", tmp_path / "a.weights"
    cfg.write_text(NET.format(steps=1) + conv() + "[batchnorm]\n")
    net = darkbn.load(cfg, seed=1)
    net.save_weights(weights)
    out = ["--out-cfg", str(tmp_path / "b.cfg"), "--out-weights", str(tmp_path / "b.weights")]
    done = CliRunner().invoke(app, ["fold", str(cfg), str(weights), *out])
    assert done.exit_code == 0, done.output
    assert "1 layers folded (convention darknet)" in done.output
    assert "layer 1 [batchnorm] is not folded: the layer before has the activation leaky" in done.output
    assert "largest change of an output:" in done.output
    assert "batch_normalize" not in (tmp_path / "b.cfg").read_text()
    for wrong in (["--out-cfg", str(cfg), *out[2:]], out[:2]):
        assert CliRunner().invoke(app, ["fold", str(cfg), str(weights), *wrong]).exit_code == 2
    assert "batch_normalize" in cfg.read_text()
