"""darkbn bench layers: rows, roofs, table, JSON, picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from networks import TWO_HEADS
from typer.testing import CliRunner

from darkbn.cli.main import app
from darkbn.layer_bench import LayerBench, LayerTime, Roof, bench_layers

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
    assert "   2%    1.00" in str(bench)


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
