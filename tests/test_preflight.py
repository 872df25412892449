"""What is said before training starts."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from test_training import CONV, COST, PLAIN, cfg

import darkbn
from darkbn.errors import TrainingError, UnsupportedError

GOOD = "max_batches=5000\n"


def warnings(net: str = GOOD, *sections: str, batch: int = 16, rate: float = 0.01) -> list[str]:
    """Of a network of dialect alexeyab."""
    text = cfg(*(sections or (CONV, PLAIN, COST)), net=net, batch=batch, rate=rate)
    return darkbn.load(text, dialect="alexeyab").check_training()


def test_nothing_is_odd() -> None:
    assert warnings() == []


@pytest.mark.parametrize(
    ("net", "options", "message"),
    [
        (
            "subdivisions=4\n" + GOOD,
            {"batch": 32},
            r"sees 8 images at a time .*layer 0 .*: 288 values",
        ),
        ("subdivisions=3\n" + GOOD, {"batch": 64}, "batch=64 is no multiple of subdivisions=3: 1 images .* left out"),
        ("subdivisions=32\n" + GOOD, {}, "subdivisions=32 exceeds batch=16"),
        (GOOD, {"rate": 2.5}, "learning_rate=2.5 exceeds 1"),
        ("adam=1\n" + GOOD, {"rate": 0.2}, "learning_rate=0.2 exceeds 0.1 for Adam"),
        (GOOD, {"rate": 0}, "learning_rate=0: nothing will be learned"),
        ("momentum=1\n" + GOOD, {}, "momentum=1 is not in"),
        ("decay=-1\n" + GOOD, {}, "decay=-1 .* will not decay"),
        (
            "policy=steps\nsteps=10,20\nscales=10,20\n" + GOOD,
            {},
            "scales= raise .* to 2 at iteration 20",
        ),
        ("policy=steps\nsteps=10,9000\nscales=.1,.1\n" + GOOD, {}, "steps= 9000 are never reached"),
        ("policy=steps\nsteps=90,20\nscales=.1,.1\n" + GOOD, {}, "steps= 90, 20 do not rise"),
        ("policy=steps\nsteps=90\nscales=.1\nburn_in=100\n" + GOOD, {}, "steps= 90 lie within burn_in=100"),
        ("burn_in=5000\n" + GOOD, {}, "burn_in=5000 lasts longer than training"),
        ("", {}, "max_batches= is not set"),
        ("ema_alpha=.9\nmax_batches=2000", {}, "ema_alpha=0.9 averages between .* never"),
        ("mosaic=1\nhue=.1\n" + GOOD, {}, "hue, mosaic: train_step takes batches as they are"),
        ("ema_alpha=1\n" + GOOD, {}, "ema_alpha=1 is not in"),
        ("policy=sgdr\nlearning_rate_min=.5\n" + GOOD, {}, "learning_rate_min=0.5 exceeds learning_rate=0.01"),
    ],
)
def test_options(net: str, options: dict[str, float], message: str) -> None:
    found = "\n".join(warnings(net, **options))
    assert len(found.splitlines()) == 1 or "subdivisions=32" in net  # that one is a small batch, too

    assert re.search(message, found), found


def test_layers() -> None:
    assert any("no layer has a loss" in text for text in warnings(GOOD, CONV, PLAIN))
    assert any("all layers are frozen" in text for text in warnings(GOOD, PLAIN, COST + "\nstopbackward=1"))
    frozen = warnings("subdivisions=4\n" + GOOD, CONV + "\nstopbackward=1", PLAIN, COST)
    assert frozen == []  # frozen layers do not normalize by the batch


def test_one_value_per_channel_is_an_error() -> None:
    section = "[connected]\noutput=4\nbatch_normalize=1"
    text = cfg(section, COST, net="subdivisions=2\n" + GOOD)
    with pytest.raises(TrainingError, match=r"layer 0 \[connected\].*one value per channel.*lower subdivisions="):
        darkbn.load(text).check_training()
    assert any("sees 2 images" in text for text in warnings(GOOD, section, COST, batch=2))
    recurrent = cfg("[crnn]\nbatch_normalize=1\nsize=3\npad=1", COST, net="subdivisions=2\n" + GOOD)
    with pytest.raises(TrainingError, match="one value"):
        darkbn.load(recurrent, dialect="alexeyab", width=1, height=1).check_training()


def test_what_cannot_be_trained_is_an_error() -> None:
    with pytest.raises(UnsupportedError, match="adversarial_lr"):
        darkbn.load(cfg(PLAIN, COST, net="adversarial_lr=.5"), dialect="alexeyab").check_training()


def test_labels() -> None:
    net = darkbn.load(cfg(CONV, PLAIN, COST, net=GOOD, batch=16))
    truth = np.zeros((16, 108))
    assert any("no labels" in text for text in net.check_training(truth))
    truth[:7, 0] = 1
    assert net.check_training(truth) == ["9 of 16 images have no labels"]
    truth[:8, 0] = 1
    assert net.check_training(truth) == []


def test_label_files(tmp_path: Path) -> None:
    head = "[convolutional]\nfilters=21\nsize=1\nactivation=linear\n\n[yolo]\nclasses=2\nnum=3\nanchors=1,1,2,2,3,3"
    net = darkbn.load(cfg(head, net=GOOD), dialect="darknet")
    images = [tmp_path / "images" / f"{name}.jpg" for name in "abc"]
    (found,) = net.check_training(images=images)
    assert found.startswith("no picture has a label file; for ")
    assert found.endswith("labels/a.txt")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("")
    assert any("no picture has a label: all" in text for text in net.check_training(images=images))
    (tmp_path / "labels" / "a.txt").write_text("1 .5 .5 .1 .1")
    assert [text[:35] for text in net.check_training(images=images)] == ["2 of 3 pictures have no label file,"]
    (tmp_path / "labels" / "b.txt").write_text("2 .5 .5 .1 .1")
    assert "1 label files cannot be used" in net.check_training(images=images)[0]
