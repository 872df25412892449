"""Networks loaded for inference only: the same predictions, parameters in the plan and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from goldens import Case, cases
from networks import CLASSIFIER, TWO_HEADS

import darkbn
from darkbn.errors import DarkbnError, WeightsError
from darkbn.layers.base import Role
from darkbn.network import Network

SHARED = """[net]
width=12
height=12
channels=3

[convolutional]
filters=16
size=3
pad=1
batch_normalize=1
activation=leaky

[convolutional]
filters=16
size=3
pad=1
batch_normalize=1
activation=leaky

[convolutional]
filters=16
size=3
pad=1
batch_normalize=1
activation=mish
share_index=1
"""


def randomize(net: Network) -> None:
    rng = np.random.default_rng(0)
    for layer in net.layers:
        for _, part in layer.walk():
            for buffer in part.buffers():
                if buffer.role is Role.STATISTIC or buffer.name in ("scales", "biases"):
                    getattr(part, buffer.name)[...] = rng.uniform(0.5, 1.5, buffer.shape)


def saved(text: str, path: Path, **options: Any) -> Network:
    net = darkbn.load(text, seed=1, **options)
    randomize(net)
    net.save_weights(path)
    return net


def parameters(net: Network) -> list[str]:
    """Names of the parameters that layers have in memory."""
    return [
        f"{layer.context.index}.{prefix}{buffer.name}"
        for layer in net.layers
        for prefix, part in layer.walk()
        for buffer in part.buffers()
        if buffer.role in (Role.PARAMETER, Role.STATISTIC) and buffer.name in vars(part)
    ]


@pytest.mark.parametrize("case", cases("layer"))
def test_every_section_predicts_the_same(case: Case, tmp_path: Path) -> None:
    net = case.load(seed=3)
    randomize(net)
    net.save_weights(tmp_path / "a.weights")
    other = case.load(tmp_path / "a.weights", seed=3, inference=True)
    resident = case.load(tmp_path / "a.weights", seed=3)
    x = np.random.default_rng(1).standard_normal(net.input_shape, dtype=np.float32)
    outputs = [i for i, l in enumerate(net.layers) if l.type != "cost"]
    for found, value in zip(other.compile(outputs)(x), resident.compile(outputs)(x), strict=True):
        assert np.array_equal(found, value, equal_nan=True)


@pytest.mark.parametrize("text", [TWO_HEADS, CLASSIFIER, SHARED], ids=["two heads", "classifier", "shared"])
def test_parameters_are_in_the_plan_only(text: str, tmp_path: Path) -> None:
    net = saved(text, tmp_path / "a.weights")
    other = darkbn.load(text, tmp_path / "a.weights", inference=True)
    x = np.random.default_rng(1).random(net.input_shape, dtype=np.float32)
    for size in (None, 64):
        if size:
            if not net.heads:
                break
            x = np.random.default_rng(1).random((1, 3, size, size), dtype=np.float32)
            net.resize(size, size)
            other.resize(size, size)
        found, expected = other.predict(x), net.predict(x)
        for a, b in zip(*(v if isinstance(v, list) else [v] for v in (found, expected)), strict=True):
            assert np.array_equal(a, b)
        assert parameters(other) == []
    plan = other.current_plan()
    other.predict(x)
    assert other.current_plan() is plan


def test_detections_are_the_same(tmp_path: Path) -> None:
    net = saved(TWO_HEADS, tmp_path / "a.weights")
    other = darkbn.load(TWO_HEADS, tmp_path / "a.weights", inference=True)
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    expected = net.detect(image, threshold=0.01)
    assert expected
    assert other.detect(image, threshold=0.01) == expected


def test_what_needs_parameters_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.weights"
    net = saved(TWO_HEADS, path)
    other = darkbn.load(TWO_HEADS, path, inference=True)
    x = np.zeros(net.input_shape, np.float32)
    for use in (
        lambda: other.forward(x),
        lambda: other.save_weights(tmp_path / "b.weights"),
        lambda: other.fold(),
        lambda: other.to("reference"),
        lambda: other.load_weights(path, upto=1),
    ):
        with pytest.raises(DarkbnError, match="inference=True"):
            use()
    with pytest.raises(DarkbnError, match="needs a weights file"):
        darkbn.load(TWO_HEADS, inference=True)
    with pytest.raises(DarkbnError, match="excludes train"):
        darkbn.load(TWO_HEADS, path, inference=True, train=True)


def test_a_file_that_changed_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.weights"
    net = saved(TWO_HEADS, path)
    other = darkbn.load(TWO_HEADS, path, inference=True)
    x = np.random.default_rng(1).random(net.input_shape, dtype=np.float32)
    first = [part.copy() for part in other.predict(x)]
    os.utime(path, ns=(1, 1))
    for a, b in zip(other.predict(x), first, strict=True):  # the plan is still that of the old file
        assert np.array_equal(a, b)
    with pytest.raises(WeightsError, match="was changed"):
        other.compile([0])
    other.load_weights(path)
    other.compile([0])


def test_short_files_and_nan_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.weights"
    net = saved(TWO_HEADS, path)
    net.layers[0].weights[...] = np.nan
    net.save_weights(path)
    other = darkbn.load(TWO_HEADS, path, inference=True)
    other.compile()
    other.compile()
    assert sum("NaN" in text for text in other.warnings) == 1
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(WeightsError, match="ends in layer"):
        darkbn.load(TWO_HEADS, path, inference=True)


def test_what_a_file_lacks_has_the_initial_values(tmp_path: Path) -> None:
    text = SHARED.replace("share_index=1", "dontload=1")
    net = saved(SHARED.replace("share_index=1\n", ""), tmp_path / "a.weights")
    seeds = [
        darkbn.load(text, tmp_path / "a.weights", seed=seed, dialect=net.dialect).layers[2].weights for seed in (1, 2)
    ]
    assert not np.array_equal(*seeds)
    a, b = (darkbn.load(text, tmp_path / "a.weights", seed=5, inference=i, dialect=net.dialect) for i in (False, True))
    x = np.random.default_rng(1).random(net.input_shape, dtype=np.float32)
    assert np.array_equal(a.predict(x), b.predict(x))
