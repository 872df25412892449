"""Average precision: hand-made cases, labels on disk, the command. The goldens of kind `map` are in test_goldens.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import colours
import numpy as np
import pytest
from goldens import Case, folder
from PIL import Image
from test_cli import PICTURE, run

import darkbn
import darkbn.evaluate
from darkbn.errors import DarkbnError, ShapeError
from darkbn.evaluate import average_precision, evaluate, mean_average_precision
from darkbn.labels import label_path, list_of_data, read_labels, read_list

BOX = (0.5, 0.5, 0.2, 0.2)
FAR = (0.1, 0.1, 0.1, 0.1)


def found(*rows: tuple[Any, ...]) -> np.ndarray:
    """Detections (image, class, probability, box)."""
    return np.array([(*row[:3], *row[3]) for row in rows], np.float32).reshape(-1, 7)


def labels(*images: list[tuple[int, tuple[float, ...]]]) -> list[np.ndarray]:
    return [np.array([(kind, *box) for kind, box in rows], np.float32).reshape(-1, 5) for rows in images]


def test_average_precision_by_hand() -> None:
    hits = np.array([1, 0, 1, 0])
    assert average_precision(hits, 2) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert average_precision(hits, 4) == pytest.approx(0.25 * 1 + 0.25 * 2 / 3)
    # Recall 0 to .5 has precision 1, .6 to 1 has 2/3.
    assert average_precision(hits, 2, 11) == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    assert average_precision(hits, 0) == average_precision(np.array([]), 3) == 0


def test_one_label_is_found_once() -> None:
    scores = evaluate(found((0, 0, 0.9, BOX), (0, 0, 0.8, BOX)), labels([(0, BOX)]), 1)
    assert (scores.true_positives, scores.false_positives, scores.false_negatives) == (1, 1, 0)
    assert scores.mean_average_precision == 1
    assert (scores.precision, scores.recall) == (0.5, 1)
    assert scores.average_iou == pytest.approx(0.5)


def test_order_decides_counts_but_not_precision() -> None:
    """In Darknet a weak box that comes first claims the label, and the strong one is false."""
    rows, truths = found((0, 0, 0.1, BOX), (0, 0, 0.9, BOX)), labels([(0, BOX)])
    ours, darknets = evaluate(rows, truths, 1), evaluate(rows, truths, 1, order="given")
    assert (ours.true_positives, darknets.true_positives) == (1, 0)
    assert ours.mean_average_precision == darknets.mean_average_precision == 1


def test_class_image_and_overlap_must_fit() -> None:
    truths = labels([(0, BOX)], [(1, BOX)])
    for row in ((0, 1, 0.9, BOX), (1, 0, 0.9, BOX), (0, 0, 0.9, FAR)):
        assert mean_average_precision(found(row), truths, 2) == 0
    assert mean_average_precision(found((0, 0, 0.9, BOX)), truths, 2) == 0.5
    shifted = (0.55, 0.5, 0.2, 0.2)  # overlap 0.6
    assert mean_average_precision(found((0, 0, 0.9, shifted)), truths, 2, 0.59) == 0.5
    assert mean_average_precision(found((0, 0, 0.9, shifted)), truths, 2, 0.61) == 0


def test_absent_classes_count_as_zero() -> None:
    assert mean_average_precision(found((0, 2, 0.9, BOX)), labels([(2, BOX)]), 4) == 0.25


def test_no_detections_and_no_labels() -> None:
    assert mean_average_precision(found(), labels([(0, BOX)], []), 1) == 0
    nothing = evaluate(found((0, 0, 0.9, BOX)), labels([]), 1, points=11)
    assert (nothing.mean_average_precision, nothing.recall, nothing.f1, nothing.false_positives) == (0, 0, 0, 1)


def test_difficult_labels_need_not_be_found() -> None:
    rows = found((0, 0, 0.9, FAR), (0, 0, 0.8, BOX))
    truths, hard = labels([(0, BOX)]), labels([(0, FAR)])
    assert mean_average_precision(rows, truths, 1) == 0.5
    scores = evaluate(rows, truths, 1, difficult=hard)
    assert (scores.mean_average_precision, scores.detections, scores.false_positives) == (1, 1, 0)


def test_wrong_arguments() -> None:
    rows, truths = found((0, 0, 0.9, BOX)), labels([(0, BOX)])
    with pytest.raises(ShapeError, match="rows of 7"):
        evaluate(rows[:, :5], truths, 1)
    with pytest.raises(DarkbnError, match=r"detections: class 0\.5 does not exist"):
        evaluate(found((0, 0.5, 0.9, BOX)), truths, 1)
    with pytest.raises(DarkbnError, match="detections: image 1 does not exist: there are 0 to 0"):
        evaluate(found((1, 0, 0.9, BOX)), truths, 1)
    with pytest.raises(DarkbnError, match="labels of image 0: class 3 does not exist"):
        evaluate(rows, labels([(3, BOX)]), 3)
    with pytest.raises(DarkbnError, match="points must be 0"):
        evaluate(rows, truths, 1, points=1)
    with pytest.raises(DarkbnError, match="order must be"):
        evaluate(rows, truths, 1, order="random")
    with pytest.raises(ShapeError, match="difficult: 0 images"):
        evaluate(rows, truths, 1, difficult=[])
    with pytest.raises(DarkbnError, match="classes must be"):
        evaluate(rows, truths, 0)


# Files


def test_label_paths(tmp_path: Path) -> None:
    places = {
        "images/a/one.jpg": "labels/a/one.txt",
        "VOC/images/JPEGImages/two.png": "VOC/images/labels/two.txt",
        "photos/three.jpeg": "photos/three.txt",
        "images/images/four.jpg": "images/labels/four.txt",
    }
    for image, file in places.items():
        assert label_path(tmp_path / image) is None
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
        assert label_path(tmp_path / image) == tmp_path / file
    assert label_path("elsewhere/one.jpg", tmp_path / "labels" / "a") == tmp_path / "labels" / "a" / "one.txt"
    assert label_path("elsewhere/two.jpg", tmp_path / "labels" / "a") is None


def test_label_files(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\ufeff1 .5 .5 .25 1\r\n\n0 0.1 0.2 0.3 0.4 7\n", encoding="utf-8")
    assert np.allclose(read_labels(path, 2), [[1, 0.5, 0.5, 0.25, 1], [0, 0.1, 0.2, 0.3, 0.4]])
    for text, problem in {
        "0 .5 .5 .2": r"a.txt:1: expected class x y w h, found '0 .5 .5 .2'",
        "0 .5 .5 .2 .2\ndog .5 .5 .2 .2": r"a.txt:2: expected class",
        "0 .5 .5 .2 0": r"a.txt:1: the box .* has no size",
        "0 .5 .5 nan .2": r"a.txt:1: the box .* has no size",
        "2 .5 .5 .2 .2": r"a.txt:1: class 2 does not exist: they are 0 to 1",
        "-1 .5 .5 .2 .2": r"a.txt:1: class -1 does not exist",
    }.items():
        path.write_text(text)
        with pytest.raises(DarkbnError, match=problem):
            read_labels(path, 2)
    with pytest.raises(DarkbnError, match="cannot read the file"):
        read_labels(tmp_path / "none.txt")


def test_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").touch()
    path = tmp_path / "list.txt"
    path.write_text("a.jpg\n\n missing.jpg \n")
    assert read_list(path) == [tmp_path / "a.jpg", Path("missing.jpg")]
    monkeypatch.chdir(tmp_path)
    assert read_list(path) == [Path("a.jpg"), Path("missing.jpg")]
    (tmp_path / "my.data").write_text("classes = 1\nvalid = list.txt\n")
    assert list_of_data(tmp_path / "my.data", "difficult") is None
    assert list_of_data(tmp_path / "my.data", "valid", "train") == [Path("a.jpg"), Path("missing.jpg")]
    path.write_text("\n")
    with pytest.raises(DarkbnError, match="no pictures in this list"):
        read_list(path)


# The command


@pytest.fixture
def data(tmp_path: Path) -> list[str]:
    """A detector of red and blue, and a data set of two pictures, one broken picture and one broken label file."""
    files = colours.save(colours.detector(), tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for name in ("a", "b", "c"):
        Image.fromarray(PICTURE).save(tmp_path / "images" / f"{name}.png")
    (tmp_path / "images" / "broken.png").write_bytes(b"nothing")
    red, blue = "0 .375 .625 .25 .25\n", "1 .875 .125 .25 .25\n"
    texts = {"a": red + blue, "b": red + "1 .1 .1 .1 .1\n", "c": "7 .5 .5 .1 .1\n", "broken": red}
    for name, text in texts.items():
        (tmp_path / "labels" / f"{name}.txt").write_text(text)
    (tmp_path / "valid.txt").write_text("".join(f"images/{name}.png\n" for name in texts))
    (tmp_path / "my.names").write_text("red\nblue\n")
    (tmp_path / "my.data").write_text("valid = valid.txt\nnames = my.names\n")
    return files


def test_map_command(data: list[str], tmp_path: Path) -> None:
    done = run("map", *data, "--data", tmp_path / "my.data", "--json", tmp_path / "map.json")
    assert done.exit_code == 1, done.output
    assert "broken.png" in done.output
    assert "c.txt:1: class 7 does not exist" in done.output
    assert "red" in done.output
    assert "mAP@0.5 = 75.00%" in done.output
    document = json.loads((tmp_path / "map.json").read_text())
    assert document["mean_average_precision"] == 0.75
    assert [one["average_precision"] for one in document["classes"]] == [1, 0.5]
    assert [one["label"] for one in document["classes"]] == ["red", "blue"]
    assert document["pictures"] == 2
    assert (document["true_positives"], document["false_positives"], document["false_negatives"]) == (3, 1, 1)
    assert len(document["errors"]) == 2


def test_map_command_with_images(data: list[str], tmp_path: Path) -> None:
    done = run("map", *data, "--images", tmp_path / "images" / "a.png", "--names", tmp_path / "my.names", "--json", "-")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["mean_average_precision"] == 1
    done = run("map", *data, "--images", tmp_path / "valid.txt", "--labels", tmp_path / "images")
    assert done.exit_code == 2
    assert "no label file for any of 4 pictures" in done.output
    assert run("map", *data).exit_code == 2
    assert "--labels" in run("map", *data, "--images", tmp_path / "images", "--labels", tmp_path / "nowhere").output


CASES = sorted(folder().glob("map__*.npz")) or [None]


@pytest.mark.skipif(CASES == [None], reason=f"no map cases in {folder()}: set DARKBN_REFERENCE")
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem if path else "none")
def test_from_pictures(path: Path, tmp_path: Path) -> None:
    """From pictures to the number that Darknet prints."""
    case = Case(path)
    pictures, truths = [], []
    for index in range(case["images"]):
        pictures.append(tmp_path / f"{index}.png")
        pictures[-1].write_bytes(case[f"image.{index}"].tobytes())
        truths.append(case[f"labels.{index}"])
    model = folder() / "models" / case["model"] / f"{case['model']}.weights"
    net = darkbn.load(case["cfg"], model, dialect=case.oracle)
    scores, errors = darkbn.evaluate.evaluate_images(net, pictures, truths)
    assert errors == []
    assert scores.mean_average_precision == pytest.approx(case["run.0.map"], abs=1e-3)
