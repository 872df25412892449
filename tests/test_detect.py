"""Pictures in, objects and classes out, on networks that see colours."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import colours
import numpy as np
import pytest
from PIL import Image

from darkbn import detect, images
from darkbn.errors import DarkbnError, ImageError

RED, BLUE = (8, 16, 16, 24), (24, 0, 32, 8)  # left, top, right, bottom: cells of the detector
BOTH = colours.picture(red=RED, blue=BLUE)


def found(result: Any, width: int, height: int) -> list[tuple[int, tuple[int, ...]]]:
    """Class and corners in pixels."""
    return sorted((d.class_id, d.box.pixels(width, height)) for d in result)


@pytest.fixture(scope="module")
def net() -> Any:
    return colours.detector()


def test_objects_are_where_they_are(net: Any) -> None:
    result = net.detect(BOTH)
    assert found(result, 32, 32) == [(0, RED), (1, BLUE)]
    assert all(d.probability > 0.99 for d in result)
    assert {d.label for d in result} == {"class 0", "class 1"}
    assert net.detect(colours.picture()) == []


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize("dialect", ["darknet", "alexeyab"])
def test_sources_and_devices_agree(device: str, dialect: str) -> None:
    net = colours.detector(dialect, device=device)
    file = io.BytesIO()
    Image.fromarray(BOTH).save(file, "PNG")
    for source in (BOTH, Image.fromarray(BOTH), file, images.load_image(BOTH)):
        assert found(net.detect(source), 32, 32) == [(0, RED), (1, BLUE)]


def test_letterbox_is_the_dialects() -> None:
    """A picture twice as wide as high, red on its left quarter: stretched that is 8 x 32, fitted 8 x 16."""
    wide = colours.picture(64, 32, red=(0, 0, 16, 32))
    for dialect, net, yes in [("darknet", "", True), ("alexeyab", "", False), ("alexeyab", "letter_box=1", True)]:
        network = colours.detector(dialect, net)
        assert detect.default_letterbox(network) is yes
        assert network.detect(wide) == network.detect(wide, letterbox=yes)
        assert network.detect(wide) != network.detect(wide, letterbox=not yes)


def test_boxes_are_relative_to_the_picture() -> None:
    wide = colours.picture(64, 32, red=(16, 16, 32, 32))
    net = colours.detector()
    assert found(net.detect(wide, letterbox=True), 64, 32) == [(0, (16, 16, 32, 32))]
    assert found(net.detect(wide, letterbox=False), 64, 32) == [(0, (16, 16, 32, 24)), (0, (16, 24, 32, 32))]


def test_thresholds(net: Any) -> None:
    faint = colours.picture(red=RED, blue=BLUE)
    faint[16:24, 8:16] = faint[16:24, 8:16] * 0.52  # objectness .6, class .9999
    (weak,) = [d for d in net.detect(faint) if d.class_id == 0]
    assert 0.55 < weak.probability < 0.65
    assert len(net.detect(faint, threshold=weak.probability + 1e-3)) == 1
    assert [d.class_id for d in net.detect(faint)] == [1, 0], "the most probable first"
    assert len(net.detect(faint, threshold=1)) == 0


def test_a_box_of_two_classes_appears_twice() -> None:
    net = colours.detector()
    net.layers[0].biases[5:] = 30
    result = net.detect(colours.picture(red=RED))
    assert found(result, 32, 32) == [(0, RED), (1, RED)]
    assert result[0].box == result[1].box


def test_suppression() -> None:
    """Boxes three times as large as a cell share half of their area with those of the next cell (IoU .5)."""
    net = colours.detector()
    net.layers[1].biases[...] = 24
    red = colours.picture(red=(8, 16, 24, 24))
    assert len(net.detect(red, nms=0)) == 2, "0 keeps all"
    assert len(net.detect(red, nms=0.45)) == 1
    assert len(net.detect(red, nms=0.51)) == 2


def test_names(net: Any) -> None:
    assert {d.label for d in net.detect(BOTH, names=["rouge", "bleu"])} == {"rouge", "bleu"}
    with pytest.raises(DarkbnError, match="1 names for 2 classes"):
        net.detect(BOTH, names=["rouge"])


def test_exif_orientation_on_request(net: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(BOTH).save(file, "PNG", exif=exif)
    assert found(net.detect(file), 32, 32) == [(0, RED), (1, BLUE)]
    turned = np.ascontiguousarray(np.rot90(BOTH, -1))
    assert net.detect(file, exif=True) == net.detect(turned)


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_batches(batch: int, tmp_path: Path) -> None:
    """Every picture gives what it gives alone, whatever is beside it; a bad one stands for itself."""
    net = colours.detector(batch=batch)
    pictures: list[Any] = [BOTH, colours.picture(64, 20, red=(10, 0, 30, 20)), tmp_path / "gone.jpg", colours.picture()]
    pictures += [np.zeros((3, 3), np.uint16), BOTH[:, ::-1]]
    results = net.detect_batch(pictures)
    assert [isinstance(r, ImageError) for r in results] == [False, False, True, False, True, False]
    assert "gone.jpg" in str(results[2])
    for picture, result in zip(pictures, results, strict=True):
        if not isinstance(result, ImageError):
            assert result == net.detect(picture)
    assert net.detect_batch([]) == []


def test_results_come_one_by_one(net: Any) -> None:
    """detect_each takes no more pictures than a pass needs."""
    taken = []

    def pictures() -> Any:
        for number in range(5):
            taken.append(number)
            yield BOTH

    results = detect.detect_each(net, pictures())
    next(results)
    assert taken == [0]


def test_one_bad_picture_is_raised(net: Any, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.jpg"):
        net.detect(tmp_path / "gone.jpg")


def test_classes_of_pictures() -> None:
    """Colours fill the classifier's input differently: fitted in darknet, the middle square in alexeyab."""
    wide = colours.picture(64, 32, red=(0, 0, 16, 32), green=(16, 0, 48, 32), blue=(48, 0, 64, 32))
    (green, *others) = colours.classifier("alexeyab").classify(wide)
    assert (green.class_id, green.label) == (1, "class 1")
    assert green.probability == pytest.approx(1, abs=0.02)
    assert all(c.probability < 0.05 for c in others)
    fitted = {c.class_id: c.probability for c in colours.classifier("darknet").classify(wide)}
    assert fitted == pytest.approx({0: 0.375, 1: 0.5, 2: 0.375}, abs=0.03), "half the input is 0.5"
    (best,) = colours.classifier("alexeyab").classify(wide, top=1, names=["r", "g", "b"])
    assert best.label == "g"
    high = wide.transpose(1, 0, 2)
    assert colours.classifier("alexeyab").classify(high)[0].class_id == 1


def test_classifiers_of_high_pictures_repeat_the_edge() -> None:
    """AlexeyAB scales the shorter side to the width of the input; a higher input is filled with the edge."""
    import darkbn

    net = darkbn.load(colours.CLASSIFIER.replace("height=32", "height=64"), dialect="alexeyab")
    x = net.backend.zeros(net.input_shape)
    square = colours.picture(32, 32, red=(0, 0, 32, 8), blue=(0, 8, 32, 32))
    detect._fill_classifier_input(net, square, x[0])
    assert (x[0, 0, :23] == 1).all()
    assert (x[0, 2, 25:] == 1).all()


def test_wrong_kinds_of_network(net: Any) -> None:
    with pytest.raises(DarkbnError, match=r"no detection layer.*\[convolutional\]"):
        colours.classifier().detect(BOTH)
    with pytest.raises(DarkbnError, match=r"a detector \(\[yolo\]\)"):
        net.classify(BOTH)


def test_inputs_that_are_no_pictures() -> None:
    import darkbn

    flat = darkbn.load("[net]\ninputs=12\n[connected]\noutput=3\n")
    with pytest.raises(DarkbnError, match="no picture"):
        flat.classify(BOTH)
