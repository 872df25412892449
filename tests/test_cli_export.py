"""darkbn export and darkbn verify: files, exit status, messages; what happens without the packages of the extra."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import networks
import pytest
from typer.testing import CliRunner, Result

import darkbn
from darkbn.cli.main import app
from darkbn.extras import MissingExtraError


def run(*arguments: Any) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(app, [str(a) for a in arguments], prog_name="darkbn")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """cfg, weights, and where the model goes."""
    net = darkbn.load(networks.TWO_HEADS, seed=1, dialect="darknet")
    for layer in net.layers[:2]:
        layer.rolling_variance[...] = 0.5
    (tmp_path / "net.cfg").write_text(networks.TWO_HEADS)
    net.save_weights(tmp_path / "net.weights")
    return [tmp_path / "net.cfg", tmp_path / "net.weights", tmp_path / "net.onnx"]


@pytest.fixture
def packages() -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")


@pytest.mark.usefixtures("packages")
def test_export_and_verify(files: list[Path], tmp_path: Path) -> None:
    done = run(
        "export", *files, "--heads", "decoded", "--batch", "dynamic", "--size", "dynamic", "--batchnorm", "exact"
    )
    assert done.exit_code == 0, done.output
    assert f"{files[2]}: " in done.stdout
    assert "outputs boxes, scores" in done.stdout
    assert "verified: 11 layers and 2 outputs agree on 3 inputs" in done.stdout
    # Dialect and convention are taken from the file's metadata.
    done = run("verify", *files, "--layers", "--json", tmp_path / "result.json")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert any(line.split()[:2] == ["layer_5", "yolo"] for line in lines)
    assert max(map(len, lines[:-1])) <= 80
    said = json.loads((tmp_path / "result.json").read_text())
    assert said["good"] is True
    assert [value["name"] for value in said["values"]] == [*(f"layer_{i}" for i in range(11)), "boxes", "scores"]


@pytest.mark.usefixtures("packages")
def test_another_networks_file_is_no_good(files: list[Path]) -> None:
    assert run("export", *files).exit_code == 0
    other = darkbn.load(networks.TWO_HEADS, seed=2, dialect="darknet")
    other.save_weights(files[1])
    done = run("verify", *files)
    assert done.exit_code == 1
    assert "computes something else: layer_0 [convolutional] is the first value" in " ".join(done.stderr.split())
    done = run("verify", *files, "--batchnorm", "keras", "--tolerance", "1e9")
    assert done.exit_code == 0


@pytest.mark.usefixtures("packages")
def test_size_and_batch(files: list[Path]) -> None:
    import onnx

    assert run("export", *files, "--size", "32x48", "--batch", "3", "--opset", "14").exit_code == 0
    model = onnx.load(files[2])
    assert [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [3, 3, 48, 32]
    assert run("verify", *files, "--inputs", "1").exit_code == 0


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--size", "32"], "--size: expected WIDTHxHEIGHT (416x416) or dynamic, found '32'"),
        (["--batch", "many"], "--batch: expected a number from 1 on or dynamic"),
        (["--heads", "boxes"], "heads must be one of raw, decoded, nms"),
        (["--opset", "9"], "opset must be 13"),
        (["--batchnorm", "exakt"], "did you mean 'exact'?"),
    ],
)
def test_bad_options(options: list[str], problem: str, files: list[Path]) -> None:
    done = run("export", *files, *options)
    assert done.exit_code == 2
    assert problem in " ".join(done.stderr.split())
    assert not files[2].exists()


@pytest.mark.usefixtures("packages")
def test_sections_that_cannot_be_exported_are_named(tmp_path: Path) -> None:
    net = darkbn.load(networks.CLASSIFIER, dialect="darknet")
    (tmp_path / "net.cfg").write_text(networks.CLASSIFIER)
    net.save_weights(tmp_path / "net.weights")
    target = tmp_path / "model.onnx"
    done = run("export", tmp_path / "net.cfg", tmp_path / "net.weights", target, "--size", "dynamic")
    assert done.exit_code == 2
    line = networks.CLASSIFIER[: networks.CLASSIFIER.index("[connected]")].count("\n") + 1
    assert f"net.cfg:{line}: [connected] (layer 2): has weights for 5 inputs" in " ".join(done.stderr.split())
    assert not target.exists()


def test_without_the_packages(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    net = darkbn.load(files[0], files[1])
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"needs the package onnx .*pip install 'darkbn\[onnx\]'"):
        darkbn.export_onnx(net, files[2])
    done = run("export", *files)
    assert done.exit_code == 2
    assert "pip install 'darkbn[onnx]'" in " ".join(done.stderr.split())
    assert not files[2].exists()


@pytest.mark.usefixtures("packages")
def test_without_onnxruntime_it_says_that_nothing_was_verified(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = run("export", *files)
    assert done.exit_code == 0
    assert "not verified: onnxruntime is not installed" in done.stderr
    assert files[2].exists()
    files[2].unlink()
    done = run("export", *files, "--verify")
    assert done.exit_code == 2
    assert not files[2].exists()


def test_torch_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from darkbn.interop.torch import to_module

    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"needs the package torch .*pip install 'darkbn\[peers\]'"):
        to_module(darkbn.load(networks.CLASSIFIER))
