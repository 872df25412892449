"""Training that stops and goes on is training that never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_rejection import HEAD
from test_training import CONV, COST, PLAIN, arrays, batch, cfg, load, step

import darkbn
from darkbn.errors import TrainingError, WeightsError
from darkbn.layers.base import Role

EVERYTHING = tuple(Role)

CASES = {
    "momentum": ("darknet", cfg(CONV, PLAIN, COST)),
    "adam": ("darknet", cfg(CONV, "[connected]\noutput=3\nbatch_normalize=1", COST, net="adam=1")),
    "in the middle of a batch": ("darknet", cfg(CONV, PLAIN, COST, net="subdivisions=3", batch=6)),
    "normalization over passes": (
        "alexeyab",
        cfg(CONV.replace("normalize=1", "normalize=2"), PLAIN, COST, net="subdivisions=3", batch=6),
    ),
    "rejected labels": ("alexeyab", cfg(HEAD, net="badlabels_rejection_percentage=5\nmax_batches=4")),
    "dropout": ("alexeyab", cfg(CONV, "[dropout]\nprobability=.5", PLAIN, COST)),
    "averages": ("alexeyab", cfg(CONV, PLAIN, COST, net="ema_alpha=.9\nmax_batches=4")),
    "random rate": ("darknet", cfg(CONV, PLAIN, COST, net="policy=random")),
    "recurrent": ("alexeyab", cfg("[lstm]\noutput=4", "[connected]\noutput=3", COST, time_steps=2)),
    "history": ("alexeyab", cfg("[history]\nhistory_size=2", PLAIN, COST, time_steps=2)),
    "antialiased": ("alexeyab", cfg(f"{CONV}\nstride=2\nantialiasing=1", PLAIN, COST, net="adam=1")),
}


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize("name", CASES)
def test_stop_and_go(name: str, device: str, tmp_path: Path) -> None:
    dialect, text = CASES[name]
    whole = load(text, dialect=dialect, device=device)
    if whole.heads:
        whole.seen = 8  # the late part of training
    else:
        step(whole, 4)
    whole.save_training_state(tmp_path / "state.npz")
    again = darkbn.load(text, dialect=dialect, device=device, seed=99, train=True)
    again.load_training_state(tmp_path / "state.npz")
    assert (again.seen, again.steps, again.averaged) == (whole.seen, whole.steps, whole.averaged)
    for number in range(10, 15):
        x, truth = batch(again, number)
        if again.heads:
            truth = np.tile([0.5, 0.5, 0.3, 0.3, 1, *np.zeros(25)], (2, 1))
        assert again.train_step(x, truth) == whole.train_step(x, truth)
    kept, wanted = arrays(again, *EVERYTHING), arrays(whole, *EVERYTHING)
    assert kept.keys() == wanted.keys()
    assert [key for key in kept if kept[key].tobytes() != wanted[key].tobytes()] == []
    assert again.seen == whole.seen


def test_files_that_do_not_fit_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    net = load(cfg(CONV, PLAIN, COST))
    step(net)
    before = arrays(net, *EVERYTHING)
    for text, options, problem in [
        (cfg(CONV, COST), {}, r"the network has 1\.weights, the file has not"),
        (cfg(CONV, PLAIN, COST, net="adam=1"), {}, r"the file has 0\.m, the network has not.*same optimizer"),
        (
            cfg(CONV.replace("filters=4", "filters=5"), PLAIN, COST),
            {},
            r"0\.weights is float32 \(5,",
        ),
        (cfg(CONV, PLAIN, COST), {"device": "reference"}, r"is float64 .* needs float32 .*device"),
        (cfg(CONV, PLAIN, COST), {"dialect": "alexeyab"}, "written with dialect alexeyab"),
        (cfg(CONV, PLAIN, COST, batch=4), {}, "written with batch 4, the network has 2"),
    ]:
        load(text, **options).save_training_state(path)
        with pytest.raises(WeightsError, match=problem):
            net.load_training_state(path)
    whole = path.read_bytes()
    for content in (b"", b"PK", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="no training state"):
            net.load_training_state(path)
    np.savez(path, weights=np.zeros(3))
    with pytest.raises(WeightsError, match="no training state"):
        net.load_training_state(path)
    with pytest.raises(WeightsError, match="cannot be read"):
        net.load_training_state(tmp_path / "none.npz")
    after = arrays(net, *EVERYTHING)
    assert all(np.array_equal(before[key], after[key], equal_nan=True) for key in before)


def test_objects_are_not_read(tmp_path: Path) -> None:
    path: Any = tmp_path / "state.npz"
    np.savez(path, state=np.array([{"format": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(WeightsError, match="no training state"):
        load(cfg(PLAIN, COST)).load_training_state(path)


def test_only_training_networks_have_a_state(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no training state"):
        darkbn.load(cfg(PLAIN, COST)).save_training_state(tmp_path / "a")
    with pytest.raises(TrainingError, match="train=True"):
        darkbn.load(cfg(PLAIN, COST)).load_training_state(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
