"""Profiles of plans, `darkbn bench net`, and the tuner with its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import TWO_HEADS
from typer.testing import CliRunner, Result

import darkbn
from darkbn.backend import get_backend
from darkbn.cli.main import app
from darkbn.errors import DarkbnError
from darkbn.inference.algorithms import METHODS, Method
from darkbn.inference.plan import has_blocked_kernels, methods
from darkbn.inference.program import Convolution, Geometry, Op
from darkbn.inference.tune import Tuner, cache_file, geometry_key, read_measurements


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    monkeypatch.setenv("DARKBN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def cfg(tmp_path: Path) -> Path:
    path = tmp_path / "two.cfg"
    path.write_text(TWO_HEADS)
    return path


def run(*arguments: Any) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(app, [str(a) for a in arguments], prog_name="darkbn")


# Profiles


def test_a_profile_has_every_step_and_what_it_costs() -> None:
    net = darkbn.load(TWO_HEADS, seed=1)
    found = net.profile(repeat=2)
    assert [step.kind for step in found.steps] == [step.kind for step in net.current_plan().steps]
    assert all(step.seconds > 0 for step in found.steps)
    assert {index for step in found.steps for index in step.layers} >= set(range(11)) - {6, 8}  # routes vanish
    assert found.flops == sum(layer.flops for layer in net.layers if layer.type == "convolutional")
    assert found.steps[0].flops == 2 * 27 * 8 * 64
    assert found.parameter_bytes >= 4 * sum(l.weights.size for l in net.layers if l.type == "convolutional")
    assert found.arena_bytes < sum(layer.output.nbytes for layer in net.layers) + 2**20
    assert found.peak > 1e8


def test_a_profile_fits_eighty_columns() -> None:
    text = str(darkbn.load(TWO_HEADS, seed=1).profile(repeat=1))
    assert max(map(len, text.splitlines()[:-3])) <= 80
    assert "2 shortcut" in text
    assert "[to_plain]" in text or not has_blocked_kernels()


def test_a_profile_takes_an_input() -> None:
    net = darkbn.load(TWO_HEADS, seed=1)
    x = np.full(net.input_shape, 0.25, np.float32)
    net.profile(x, repeat=1)
    np.testing.assert_array_equal(net.predict(x)[0], net.heads[0].output)


def test_bench_prints_writes_and_draws(cfg: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    document, picture = tmp_path / "profile.json", tmp_path / "profile.png"
    done = run("bench", "net", cfg, "--profile", "--threads", 1, "--json", document, "--png", picture, "--repeat", 2)
    assert done.exit_code == 0, done.output
    assert "1 threads" in done.stdout
    assert "convolutional" in done.stdout
    found = json.loads(document.read_text())
    assert found["threads"] == 1
    assert {"name", "seconds", "gflops", "share_of_peak"} <= set(found["steps"][0])
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_bench_without_profile_is_short_and_batches(cfg: Path) -> None:
    done = run("bench", "net", cfg, "--batch", 2, "--width", 32, "--height", 32, "--repeat", 1)
    assert len(done.stdout.splitlines()) == 3
    assert "input 2 x 3 x 32 x 32" in done.stdout
    assert json.loads(run("bench", "net", cfg, "--json", "-", "--repeat", 1).stdout)["input_shape"] == [1, 3, 16, 16]


def test_bench_says_what_is_wrong(tmp_path: Path) -> None:
    assert run("bench", "net", tmp_path / "missing.cfg").exit_code == 2


def test_bench_says_where_it_cannot_write(cfg: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = run("bench", "net", cfg, "--repeat", 1, "--png", tmp_path / "no" / "folder.png")
    assert done.exit_code == 2
    assert "folder.png" in done.stderr


# Tuning

needs_blocked = pytest.mark.skipif(not has_blocked_kernels(), reason="there is one method only")


def convolution() -> Op:
    return Op("convolution", (0,), 1, (0,), None, Convolution(Geometry(1, 32, 8, 8, 32, 3, 8, 8, pad=1), 9))


def tuner(times: dict[str, float], calls: list[str] | None = None) -> Tuner:
    def measure(g: Geometry, method: Method, *_: Any) -> float:
        if calls is not None:
            calls.append(method.name)
        return times.get(method.name, 1.0)

    return Tuner(get_backend("cpu"), "level", 2, methods, measure)


@needs_blocked
def test_the_fastest_by_measurement_is_taken_if_it_is_clearly_faster() -> None:
    estimated = methods(convolution(), False)[0].name
    for other in ("gemm", "winograd_2", "winograd_4", "winograd_2_taps", "winograd_4_taps"):
        assert tuner({other: 0.5})(convolution(), False).name == other
    assert tuner({"gemm": 0.99})(convolution(), False).name == estimated


@needs_blocked
def test_measurements_are_remembered_and_broken_files_are_not_believed(cache: Path) -> None:
    calls: list[str] = []
    first = tuner({"gemm": 0.5}, calls)
    first(convolution(), False)
    first(convolution(), False)
    assert sorted(calls) == sorted(m.name for m in methods(convolution(), False))
    assert len(calls) > 1
    first.save()
    again = tuner({}, calls)
    assert again(convolution(), False).name == "gemm"
    assert len(calls) == len(set(calls))
    path = cache_file("level", 2)
    assert path.parent == cache
    assert read_measurements(path)[geometry_key(convolution().arguments.geometry)]["gemm"] == 0.5
    assert cache_file("level", 1) != path != cache_file("baseline", 2)
    for broken in ("{", "[]", '{"seconds": {"a": {"gemm": "fast"}}}'):
        path.write_text(broken)
        assert read_measurements(path) == {}


@needs_blocked
def test_a_folder_that_cannot_be_written_to_is_no_error(cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    made = tuner({})
    made(convolution(), False)
    made.save()


@needs_blocked
def test_a_tuned_network_computes_the_same(cache: Path) -> None:
    net = darkbn.load(TWO_HEADS, seed=1)
    x = np.random.default_rng(0).random(net.input_shape, dtype=np.float32)
    expected = [part.copy() for part in net.predict(x)]
    net.compile(tune=True)
    assert len(list(cache.glob("methods-*.json"))) == 1
    for found, value in zip(net.predict(x), expected, strict=True):
        assert np.abs(found - value).max() <= 1e-5 * np.abs(value).max()
    with pytest.raises(DarkbnError, match="tune"):
        darkbn.load(TWO_HEADS, device="reference").compile(tune=True)


def test_methods_have_names_of_their_own() -> None:
    assert all(METHODS[name].name == name for name in METHODS)


@needs_blocked
def test_deep_networks_do_without_large_tiles() -> None:
    assert "winograd_4" in {method.name for method in methods(convolution(), False)}
    assert {method.name for method in methods(convolution(), False, deep=True)} == {
        "gemm",
        "winograd_2",
        "winograd_2_taps",
    }
