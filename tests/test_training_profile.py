"""Profiles of training steps, `darkbn bench net --train`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from networks import TWO_HEADS
from typer.testing import CliRunner

import darkbn
from darkbn.cli.main import app
from darkbn.errors import DarkbnError, TrainingError
from darkbn.layers.base import Role
from darkbn.training_profile import BETWEEN, random_batch

CLASSIFIER = """[net]
batch=4
width=16
height=16
channels=3
learning_rate=0.1

[convolutional]
batch_normalize=1
filters=8
size=3
pad=1
activation=leaky

[maxpool]
size=2
stride=2

[connected]
output=5
activation=linear

[softmax]
"""


def test_every_kernel_of_a_step_is_there() -> None:
    net = darkbn.load(CLASSIFIER, batch=4, train=True, seed=1)
    found = net.profile_training(repeat=2)
    kernels = {(row.layer, row.phase, row.kernel): row for row in found.kernels}
    assert all(row.seconds >= 0 for row in found.kernels)
    image = 4 * 8 * 16 * 16 * 4  # bytes of the convolution's output
    pooled = image // 4
    assert kernels[1, "forward", "pooling.maxpool"].nbytes == image + 2 * pooled  # values and places
    convolution = kernels[0, "forward", "convolution.forward"]
    assert convolution.flops == 4 * net.layers[0].flops
    assert convolution.nbytes == 4 * (4 * 3 * 256 + 8 * 27) + image
    assert kernels[0, "update", "optimizer.sgd"].calls == 3  # weights, biases, scales
    assert (None, "", BETWEEN) in kernels
    assert found.floor(convolution) >= convolution.nbytes / found.bandwidth
    assert sum(row.seconds for row in found.by_kernel()) == pytest.approx(sum(row.seconds for row in found.kernels))


def test_a_profile_leaves_no_trace() -> None:
    def state(net: darkbn.Network) -> list[np.ndarray]:
        kept = (Role.PARAMETER, Role.UPDATE, Role.STATISTIC)
        return [getattr(layer, b.name).copy() for layer in net.layers for b in layer.buffers() if b.role in kept]

    net = darkbn.load(CLASSIFIER, batch=4, train=True, seed=1)
    x, truth = random_batch(net)
    net.train_step(x, truth)
    before, counters = state(net), (net.seen, net.steps, net.iteration)
    net.profile_training(repeat=1)
    for old, new in zip(before, state(net), strict=True):
        np.testing.assert_array_equal(old, new)
    assert counters == (net.seen, net.steps, net.iteration)
    assert net.backend is net.layers[0].backend is darkbn.load(CLASSIFIER).backend
    assert not {"forward", "backward", "update"} & set(vars(net.layers[0]))


def test_tables_fit_eighty_columns() -> None:
    text = str(darkbn.load(TWO_HEADS, batch=2, train=True, seed=1).profile_training(repeat=1))
    assert max(map(len, text.splitlines()[:-4])) <= 80
    assert "yolo.loss" in text
    assert "outside of layers" in text


def test_labels_must_be_known() -> None:
    net = darkbn.load(CLASSIFIER.replace("[softmax]", "[dropout]"), train=True, batch=2, seed=1)
    with pytest.raises(TrainingError, match="no loss: there are no random labels for it, give truth"):
        net.profile_training()
    with pytest.raises(DarkbnError, match="profiled on device 'cpu', this network is on 'reference'"):
        darkbn.load(CLASSIFIER, device="reference", train=True).profile_training()


def test_bench_profiles_training(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    cfg, document, picture = tmp_path / "small.cfg", tmp_path / "steps.json", tmp_path / "steps.png"
    cfg.write_text(CLASSIFIER)
    options = ["--train", "--profile", "--batch", "4", "--repeat", "1", "--json", str(document), "--png", str(picture)]
    done = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["bench", "net", str(cfg), *options], prog_name="darkbn")
    assert done.exit_code == 0, done.output
    assert "convolution.backward_weights" in done.stdout
    entry = json.loads(document.read_text())["kernels"][0]
    assert {"layer", "phase", "kernel", "seconds", "nbytes", "flops", "floor_seconds"} <= set(entry)
    assert picture.read_bytes().startswith(b"\x89PNG")
