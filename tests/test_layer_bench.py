"""darkbn bench layers: rows, roofs, table, JSON, picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from networks import TWO_HEADS
from typer.testing import CliRunner

from darkbn.cli.main import app
from darkbn.errors import UnsupportedError
from darkbn.layer_bench import STATED, LayerBench, LayerTime, Roof, bench_layers
from darkbn.net_bench import bench_net

COMMAND = ("bench", "layers", "--device", "cpu", "--repeat", "1")


def test_every_layer_on_every_device() -> None:
    found = bench_layers(TWO_HEADS, ("cpu", "reference"), repeat=1, batch=2)
    assert [(row.index, row.device) for row in found.rows] == [(i, d) for i in range(11) for d in ("cpu", "reference")]
    assert [roof.device for roof in found.roofs] == ["cpu", "reference"]
    first = found.rows[0]
    assert first.flops == 2 * 2 * 3 * 3 * 3 * 8 * 8 * 8
    parameters = 8 * 3 * 9 + 2 * 8  # weights, scales, biases
    assert first.nbytes == 4 * (2 * 3 * 16 * 16 + parameters + 2 * 8 * 8 * 8)
    assert all(row.seconds > 0 for row in found.rows)


def test_shares_and_speed_ups() -> None:
    roofs = (Roof("cpu", 100.0, 10.0), Roof("gpu", 1000.0, 100.0))
    rows = (
        LayerTime(0, "convolutional", "cpu", 0.5, 10**9, 10**8, 0.02),
        LayerTime(0, "convolutional", "gpu", 0.1, 10**9, 10**8, 0.01),
    )
    bench = LayerBench("net.cfg", 1, roofs, rows)
    assert [bench.speed_up(row) for row in rows] == [1, 5]
    assert rows[1].gflops == pytest.approx(10)
    assert rows[1].bandwidth == pytest.approx(1)
    assert all(len(line) <= 80 for line in str(bench).splitlines())
    assert "   2%      1.00" in str(bench)


def test_what_a_gpu_would_add_is_an_estimate() -> None:
    """By hand: 10^9 operations at half of 67 TFLOP/s, 10^8 bytes at half of 4800 GB/s."""
    rows = (
        LayerTime(0, "convolutional", "cpu", 0.5, 10**12, 10**8, 0.02),
        LayerTime(1, "maxpool", "cpu", 0.5, 0, 10**10, 0.02),
        LayerTime(2, "route", "cpu", 1e-5, 0, 100, 0.02),
    )
    stated = next(roof for roof in STATED if roof.device == "H200")
    bench = LayerBench("net.cfg", 1, (Roof("cpu", 100.0, 10.0),), rows, stated)
    seconds = [2 * 10**12 / 67e12, 2 * 10**10 / 4800e9, 1e-5]
    assert [bench.estimate(row) for row in rows] == pytest.approx(seconds)
    text = str(bench)
    assert "~H200 is an estimate, no measurement" in text
    assert f"    ~{0.5 / seconds[0]:.1f}" in text
    assert all(len(line) <= 80 for line in text.splitlines())
    found = bench.as_dict()["estimate"]
    assert found["seconds"] == pytest.approx(sum(seconds))
    assert found["stated"]["device"] == "H200"
    with pytest.raises(UnsupportedError, match="no limits are stated for GPU 'H2000': expected one of T4"):
        bench_layers(TWO_HEADS, ("cpu",), estimate="H2000")


def test_pytorch_beside() -> None:
    pytest.importorskip("torch")
    found = bench_layers(TWO_HEADS, ("cpu",), repeat=1, torch=True, threads=1)
    rows = [row for row in found.rows if row.device == "torch"]
    assert [row.index for row in rows] == list(range(11))
    assert all(row.seconds > 0 and row.share > 0 for row in rows)
    assert [row.device for row in found.rows][:2] == ["cpu", "torch"]


@pytest.mark.parametrize("what", ["prediction", "training step"])
def test_whole_networks(what: str) -> None:
    train = what == "training step"
    found = bench_net(TWO_HEADS, devices=("cpu", "reference"), batch=2, repeat=1, train=train)
    assert [row.device for row in found.rows] == ["cpu", "reference"]
    assert all(row.seconds > 0 and row.images == 2 for row in found.rows)
    assert found.rows[0].flops >= 2 * 2 * 3 * 3 * 3 * 8 * 8 * 8
    assert all(len(line) <= 80 for line in str(found).splitlines())
    assert what in str(found)


def test_whole_networks_by_command(tmp_path: Path) -> None:
    cfg, target = tmp_path / "two.cfg", tmp_path / "net.json"
    cfg.write_text(TWO_HEADS)
    command = ["bench", "net", str(cfg), "--device", "cpu", "--device", "reference", "--repeat", "1"]
    done = CliRunner().invoke(app, [*command, "--json", str(target)])
    assert done.exit_code == 0, done.output
    assert "reference" in done.output
    assert [row["device"] for row in json.loads(target.read_text())["devices"]] == ["cpu", "reference"]
    done = CliRunner().invoke(app, [*command, "--profile"])
    assert done.exit_code != 0
    assert "leave out --device" in done.output + (done.stderr or "")


def test_command(tmp_path: Path) -> None:
    cfg = tmp_path / "two.cfg"
    cfg.write_text(TWO_HEADS)
    target = tmp_path / "layers.json"
    done = CliRunner().invoke(
        app, ["bench", "layers", str(cfg), "--device", "cpu", "--repeat", "1", "--json", str(target)]
    )
    assert done.exit_code == 0, done.output
    assert "all layers" in done.output
    assert len(json.loads(target.read_text())["layers"]) == 11
    pytest.importorskip("matplotlib")
    picture = tmp_path / "roofline.png"
    done = CliRunner().invoke(
        app, ["bench", "layers", str(cfg), "--device", "cpu", "--repeat", "1", "--png", str(picture)]
    )
    assert done.exit_code == 0, done.output
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_an_unknown_device(tmp_path: Path) -> None:
    cfg = tmp_path / "two.cfg"
    cfg.write_text(TWO_HEADS)
    done = CliRunner().invoke(app, ["bench", "layers", str(cfg), "--device", "gpus"])
    assert done.exit_code != 0
    assert "unknown device 'gpus'" in done.output + (done.stderr or "")
