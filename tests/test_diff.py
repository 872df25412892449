"""darkbn diff, darkbn dump, and NumPy files of parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import networks
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import darkbn
from darkbn.cli.main import app
from darkbn.errors import DarkbnError, ShapeError, WeightsError
from darkbn.interop.diff import diff, npz_side, read_side
from darkbn.interop.npz import load_npz, save_dump, save_npz

RECURRENT = "[net]\ninputs=5\n[rnn]\noutput=4\nhidden=7\nbatch_normalize=1\n[lstm]\noutput=5\n[gru]\noutput=3\n"


def run(*arguments: Any) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(app, [str(a) for a in arguments], prog_name="darkbn")


@pytest.fixture
def net() -> Any:
    net = darkbn.load(networks.TWO_HEADS, seed=1, dialect="darknet")
    for layer in net.layers[:2]:
        layer.rolling_variance[...] = 0.01
    net.seen = 77
    return net


@pytest.fixture
def files(net: Any, tmp_path: Path) -> str:
    """The network as `darkbn diff` names it."""
    (tmp_path / "net.cfg").write_text(networks.TWO_HEADS)
    net.save_weights(tmp_path / "net.weights")
    return f"{tmp_path / 'net.cfg'},{tmp_path / 'net.weights'}"


# -- parameters


@pytest.mark.parametrize("cfg", [networks.TWO_HEADS, networks.CLASSIFIER, RECURRENT])
def test_parameters_come_back(cfg: str, tmp_path: Path) -> None:
    net, other = (darkbn.load(cfg, dialect="alexeyab", seed=seed) for seed in (1, 2))
    net.seen = 123
    save_npz(net, tmp_path / "net.npz")
    load_npz(other, tmp_path / "net.npz")
    for one in (net, other):
        one.save_weights(tmp_path / f"{id(one)}.weights")
    assert (tmp_path / f"{id(net)}.weights").read_bytes() == (tmp_path / f"{id(other)}.weights").read_bytes()
    assert other.seen == 123
    with np.load(tmp_path / "net.npz", allow_pickle=False) as found:
        assert sum(found[key].size for key in found.files if "." in key) == sum(
            getattr(part, name).size for l in net.layers for _, part in l.walk() for name in part.weights_order()
        )


def test_files_that_do_not_fit(net: Any, tmp_path: Path) -> None:
    before = net.layers[0].weights.copy()
    save_npz(net, tmp_path / "net.npz")
    arrays = dict(np.load(tmp_path / "net.npz"))
    for change, error, text in (
        ({"layer_9.weights": None}, WeightsError, "lacks layer_9.weights"),
        ({"layer_99.weights": np.zeros(1)}, WeightsError, "has no place for layer_99.weights"),
        ({"layer_1.biases": np.zeros(3)}, ShapeError, r"layer_1.biases: expected \(8,\), found \(3,\)"),
    ):
        changed = {k: v for k, v in {**arrays, **change}.items() if v is not None}
        changed["layer_0.weights"] = changed["layer_0.weights"] + 1
        np.savez(tmp_path / "bad.npz", **changed)
        with pytest.raises(error, match=text):
            load_npz(net, tmp_path / "bad.npz")
    assert (net.layers[0].weights == before).all()
    np.savez(tmp_path / "objects.npz", a=np.array([{}], object), allow_pickle=True)
    (tmp_path / "text.npz").write_text("no archive")
    for name, text in (("objects.npz", "no .npz file"), ("text.npz", "no .npz file"), ("none.npz", "cannot be read")):
        with pytest.raises(WeightsError, match=text):
            load_npz(net, tmp_path / name)


# -- differences


def test_a_network_and_itself(net: Any) -> None:
    result = diff(net, darkbn.load(networks.TWO_HEADS, seed=1, dialect="darknet", batchnorm="exact"))
    assert result.first_parameter is not None  # the rolling variance of layer 0
    assert result.first_parameter.name == "layer_0.rolling_variance"
    same = diff(net, net)
    assert same.equal
    assert len(same.parameters) == 2 * 5 + 2 * 2
    assert len(same.outputs) == 11
    assert "equal: 14 parameters and 11 outputs agree" in same.verdict()


def test_the_first_difference_is_found(net: Any) -> None:
    other = darkbn.load(networks.TWO_HEADS, seed=1, dialect="darknet")
    for layer in other.layers[:2]:
        layer.rolling_variance[...] = 0.01
    other.layers[4].biases[3] += 0.5
    result = diff(net, other)
    assert result.first_parameter is not None
    assert result.first_output is not None
    assert (result.first_parameter.name, result.first_parameter.place) == ("layer_4.biases", (3,))
    assert (result.first_output.name, result.first_output.type) == ("layer_4", "convolutional")
    assert result.first_output.place[1] == 3
    assert [row.error for row in result.outputs[:4]] == [0, 0, 0, 0]


def test_another_convention(net: Any, tmp_path: Path) -> None:
    net.save_weights(tmp_path / "net.weights")
    other = darkbn.load(networks.TWO_HEADS, tmp_path / "net.weights", dialect="darknet", batchnorm="keras")
    result = diff(net, other)
    assert result.first_parameter is None
    assert result.first_output is not None
    assert result.first_output.layer == 0
    assert "all 14 parameters agree; the first output that differs is layer_0 [convolutional]" in result.verdict()


def test_shapes_and_numbers_that_differ() -> None:
    a, b = (darkbn.load(networks.CLASSIFIER.replace("filters=5", f"filters={n}"), dialect="darknet") for n in (5, 6))
    result = diff(a, b)
    assert result.first_parameter is not None
    assert result.first_parameter.error == np.inf
    assert result.first_parameter.note == "shapes 5 and 6"
    a.layers[0].biases[2] = np.nan
    c = darkbn.load(networks.CLASSIFIER, dialect="darknet")
    found = {row.name: row for row in diff(a, c).parameters}
    assert (found["layer_0.biases"].error, found["layer_0.biases"].place) == (np.inf, (2,))


def test_dumps(net: Any, tmp_path: Path) -> None:
    x = np.random.default_rng(3).uniform(0, 1, net.input_shape)
    save_dump(net, x, tmp_path / "a.npz")
    assert diff(net, npz_side(tmp_path / "a.npz")).equal
    arrays = dict(np.load(tmp_path / "a.npz"))
    assert set(arrays) == {"input", "darkbn", *(f"layer_{i}" for i in range(11))}
    arrays["layer_7"][0, 0, 0, 0] += 1
    del arrays["layer_2"]
    np.savez(tmp_path / "b.npz", **arrays)
    result = diff(npz_side(tmp_path / "a.npz"), npz_side(tmp_path / "b.npz"))
    assert result.first_output is not None
    assert (result.first_output.name, result.first_output.type) == ("layer_7", "upsample")
    assert result.only_a == ("layer_2",)


def test_an_onnx_file(net: Any, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    darkbn.export_onnx(net, tmp_path / "a.onnx")
    darkbn.export_onnx(net, tmp_path / "b.onnx", fold=False)
    folded, plain = (diff(net, read_side(str(tmp_path / name))) for name in ("a.onnx", "b.onnx"))
    assert folded.equal
    assert len(folded.outputs) == 11
    assert plain.equal
    assert "layer_0.weights" in {row.name for row in plain.parameters}


# -- command line


def test_command(files: str, tmp_path: Path) -> None:
    done = run("diff", files, f"{files},batchnorm=keras", "--json", tmp_path / "diff.json")
    assert done.exit_code == 1
    assert max(map(len, done.stdout.splitlines()[2:-1])) <= 80
    assert "all 14 parameters agree; the first output that differs is layer_0" in done.stdout
    said = json.loads((tmp_path / "diff.json").read_text())
    assert said["first_output"] == "layer_0"
    assert len(said["outputs"]) == 11
    done = run("diff", files, f"{files},device=reference", "--all")
    assert done.exit_code == 0
    assert any(line.split()[:2] == ["layer_10", "yolo"] for line in done.stdout.splitlines())
    assert "equal: 14 parameters and 11 outputs agree" in done.stdout


def test_command_with_a_picture(files: str, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), (90, 120, 30)).save(tmp_path / "picture.png")
    done = run("dump", *files.split(","), tmp_path / "dump.npz", "--input", tmp_path / "picture.png")
    assert done.exit_code == 0, done.output
    assert np.load(tmp_path / "dump.npz")["input"].shape == (1, 3, 16, 16)
    assert run("diff", files, tmp_path / "dump.npz").exit_code == 0
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 16, 16)))
    done = run("diff", files, files, "--input", tmp_path / "x.npy")
    assert done.exit_code == 0, done.output


def test_plot(files: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = run("diff", files, f"{files},batchnorm=keras", "--plot", tmp_path / "diff.png")
    assert done.exit_code == 1, done.output
    with Image.open(tmp_path / "diff.png") as picture:
        assert picture.size == (1080, 480)
    done = run("diff", files, files, "--plot", tmp_path / "diff.nothing")
    assert done.exit_code == 2
    assert "cannot write the picture" in done.stderr


@pytest.mark.parametrize(
    ("side", "problem"),
    [
        ("a.onnx", "cannot be read"),
        ("a.npz", "cannot be read"),
        ("net.cfg,a.weights,b.weights", "expected FILE.onnx, FILE.npz or CFG,WEIGHTS"),
        ("net.cfg,speed=9", "with the keys batchnorm, device, dialect, height, width"),
        ("net.cfg,width=wide", "invalid literal"),
    ],
)
def test_sides_that_cannot_be(side: str, problem: str, files: str, tmp_path: Path, monkeypatch: Any) -> None:
    if side.endswith(".onnx"):
        pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)
    done = run("diff", side, files)
    assert done.exit_code == 2
    assert problem in " ".join(done.stderr.split())
    with pytest.raises(DarkbnError):
        read_side(side)
