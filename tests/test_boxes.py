"""Overlap measures, decoding, un-letterboxing and suppression: by definition and as the real Darknets compute them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkbn import boxes
from darkbn.errors import ShapeError

FOLDER = Path(os.environ.get("DARKBN_REFERENCE") or Path(__file__).parents[2] / "shared" / "reference")
MEASURES = {"iou": boxes.iou, "giou": boxes.giou, "diou": boxes.diou, "ciou": boxes.ciou}


def goldens(pattern: str) -> list[object]:
    """Parameters for the golden files of that pattern; one that is skipped when there are none."""
    files = sorted(FOLDER.glob(pattern))
    if not files:
        reason = pytest.mark.skip(reason=f"no {pattern} in {FOLDER}: set DARKBN_REFERENCE")
        return [pytest.param(None, marks=reason, id=pattern)]
    return [pytest.param(file, id=file.stem) for file in files]


def box_pairs(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random pairs of boxes that overlap."""
    rng = np.random.default_rng(seed)
    a = np.concatenate([rng.random((count, 2)), rng.uniform(0.2, 0.6, (count, 2))], axis=1)
    return a, a + rng.uniform(-0.09, 0.09, (count, 4))


def close(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-6) -> bool:
    return np.abs(found - expected).max(initial=0) <= tolerance * max(1, np.abs(expected).max(initial=0))


@pytest.mark.parametrize("file", goldens("box__iou*.npz"))
def test_measures_equal_darknets(file: Path) -> None:
    case = np.load(file)
    a, b = case["a"], case["b"]
    for name in ("iou", "giou", "diou", "ciou", "intersection", "union", "rmse"):
        if name in case:
            found = getattr(boxes, name)(a, b)
            assert found.dtype == np.float32
            assert close(found, case[name], 1e-7), name
    if "diounms_beta0.6" in case:
        assert close(boxes.diou(a, b, 0.6), case["diounms_beta0.6"], 1e-7)


@pytest.mark.parametrize("file", goldens("box__iou*__alexeyab.npz"))
@pytest.mark.parametrize("kind", MEASURES)
def test_gradients_equal_darknets(file: Path, kind: str) -> None:
    case = np.load(file)
    assert close(boxes.iou_gradient(case["a"], case["b"], boxes.IOU_KINDS[kind]), case[f"dx.{kind}"], 2e-6)


@pytest.mark.parametrize("file", goldens("box__decode*.npz"))
def test_decoding_equals_darknets(file: Path) -> None:
    case = np.load(file)
    kinds = [k for k in (0, 1) if f"decode.new_coords{k}.x" in case]
    assert kinds
    for kind in kinds:
        found = boxes.decode(
            case[f"decode.new_coords{kind}.x"], case["decode.anchors"], *case["decode.net"], bool(kind)
        )
        assert close(found, case[f"decode.new_coords{kind}.box"])


@pytest.mark.parametrize("file", goldens("box__decode*.npz"))
def test_correction_equals_darknets(file: Path) -> None:
    case = np.load(file)
    always = "pjreddie" in file.stem
    numbers = [key.split(".")[1] for key in case if key.startswith("correct.") and key.endswith(".args")]
    assert numbers
    for k in numbers:
        width, height, net_width, net_height, relative, letterbox = map(int, case[f"correct.{k}.args"])
        found = boxes.correct_boxes(
            case["correct.bbox"],
            width,
            height,
            net_width,
            net_height,
            letterbox=bool(letterbox) or always,
            relative=bool(relative),
        )
        assert close(found, case[f"correct.{k}.out"], 1e-7), k


@pytest.mark.parametrize("file", goldens("box__nms*.npz"))
def test_suppression_equals_darknets(file: Path) -> None:
    case = np.load(file)
    before = case["bbox"], case["objectness"], case["prob"]
    names = [key.removesuffix(".prob") for key in case if key.endswith(".prob")]
    assert names
    for name in names:
        kind, threshold = name.split(".", 1)
        box, objectness, probability = before
        if kind == "obj":
            objectness, probability = boxes.nms_obj(box, objectness, probability, float(threshold))
        else:
            kind = "default" if kind == "sort" else kind
            probability = boxes.nms_sort(box, probability, float(threshold), objectness=objectness, kind=kind)
        found = {bytes(b): (o, *p) for b, o, p in zip(box, objectness, probability, strict=True)}
        after = case[f"{name}.bbox"], case[f"{name}.objectness"], case[f"{name}.prob"]
        assert found == {bytes(b): (o, *p) for b, o, p in zip(*after, strict=True)}, name


def test_measures_of_boxes_computed_by_hand() -> None:
    a, b = np.array([0.0, 0, 2, 2]), np.array([1.0, 1, 2, 2])
    assert boxes.intersection(a, b) == 1
    assert boxes.union(a, b) == 7
    assert boxes.iou(a, b) == pytest.approx(1 / 7)
    assert boxes.giou(a, b) == pytest.approx(1 / 7 - 2 / 9)
    assert boxes.diou(a, b, 1.0) == pytest.approx(1 / 7 - 2 / 18)
    assert boxes.diou(a, b) == pytest.approx(1 / 7 - (2 / 18) ** 0.6)
    assert boxes.ciou(a, b) == pytest.approx(1 / 7 - 2 / 18)
    wide = np.array([0.0, 0, 2, 1])
    aspect = 4 / np.pi**2 * (np.arctan(2) - np.arctan(1)) ** 2
    assert boxes.ciou(a, wide) == pytest.approx(0.5 - aspect**2 / (0.5 + aspect + 1e-6))
    assert boxes.rmse(a, b) == pytest.approx(np.sqrt(2))


@pytest.mark.parametrize("measure", MEASURES.values())
def test_empty_boxes_have_no_overlap_and_no_gradient(measure: Callable[..., np.ndarray]) -> None:
    empty = np.zeros((3, 4), dtype=np.float32)
    assert (measure(empty, empty) == 0).all()
    for kind in (boxes.IOU, boxes.GIOU, boxes.DIOU, boxes.CIOU):
        assert (boxes.iou_gradient(empty, empty, kind) == 0).all()


def numeric_gradient(measure: Callable[..., np.ndarray], a: np.ndarray, b: np.ndarray) -> np.ndarray:
    step = 1e-6
    moved = [measure(a + d, b) - measure(a - d, b) for d in np.eye(4) * step]
    return np.stack(moved, axis=-1) / (2 * step)


@pytest.mark.parametrize("kind", ["iou", "giou"])
def test_gradients_are_those_of_the_measures(kind: str) -> None:
    """Of overlapping boxes, with twice the derivative for w and h."""
    a, b = box_pairs(200)
    expected = numeric_gradient(MEASURES[kind], a, b) * (1, 1, 2, 2)
    found = boxes.iou_gradient(a, b, boxes.IOU_KINDS[kind])
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


def test_gradient_of_the_centre_distance() -> None:
    """The distance part is the derivative, but the growing enclosing box counts with the wrong sign for x and y."""
    a, b = box_pairs(200)
    part = boxes.iou_gradient(a, b, boxes.DIOU) - boxes.iou_gradient(a, b, boxes.IOU)
    exact = numeric_gradient(lambda a, b: boxes.diou(a, b, 1.0) - boxes.iou(a, b), a, b)
    low = np.minimum(a[:, :2] - a[:, 2:] / 2, b[:, :2] - b[:, 2:] / 2)
    high = np.maximum(a[:, :2] + a[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2)
    fixed = 2 * (b - a)[:, :2] / np.square(high - low).sum(axis=1, keepdims=True)  # with an enclosing box that stays
    exact[:, :2] = 2 * fixed - exact[:, :2]
    np.testing.assert_allclose(part, exact, atol=1e-6 * np.abs(exact).max())


def test_measures_broadcast() -> None:
    a, b = box_pairs(6)
    for measure in MEASURES.values():
        table = measure(a[:, np.newaxis], b)
        assert table.shape == (6, 6)
        assert table[2, 5] == measure(a[2], b[5])


def suppressed_by_definition(box: np.ndarray, probability: np.ndarray, threshold: float) -> np.ndarray:
    """One class: take the best left, drop what overlaps it, repeat."""
    result, left = np.zeros_like(probability), list(np.flatnonzero(probability))
    while left:
        best = max(left, key=lambda i: (probability[i], -i))
        result[best] = probability[best]
        left = [i for i in left if i != best and boxes.iou(box[best], box[i]) <= threshold]
    return result


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 40), st.integers(1, 3), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 0.45, 1.0]))
def test_suppression_by_definition(count: int, classes: int, seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    box = np.concatenate([rng.random((count, 2)) * 0.3, rng.uniform(0.1, 0.4, (count, 2))], axis=1).astype(np.float32)
    probability = (rng.integers(0, 6, (count, classes)) / 5).astype(np.float32)  # many ties and zeros
    found = boxes.nms_sort(box, probability, threshold)
    expected = [suppressed_by_definition(box, column, threshold) for column in probability.T]
    np.testing.assert_array_equal(found, np.array(expected).T.reshape(count, classes))


def test_suppression_keeps_its_arguments_and_does_not_depend_on_threads() -> None:
    box, probability = (
        box_pairs(500)[0].astype(np.float32),
        np.random.default_rng(1).random((500, 9), dtype=np.float32),
    )
    given_box, given_probability = box.copy(), probability.copy()
    results = [boxes.nms_sort(box, probability, 0.4, kind="greedynms", threads=n) for n in (1, 2, 3)]
    assert all(np.array_equal(results[0], other) for other in results[1:])
    assert np.array_equal(box, given_box)
    assert np.array_equal(probability, given_probability)
    assert 9 <= np.count_nonzero(results[0]) < results[0].size


def test_kinds_of_suppression_differ_where_boxes_are_apart() -> None:
    """Two boxes of IoU 1/3 with centres apart: DIoU is below the threshold that the IoU exceeds."""
    box = np.array([[0.5, 0.5, 0.2, 0.2], [0.6, 0.5, 0.2, 0.2]], dtype=np.float32)
    probability = np.array([[0.9], [0.8]], dtype=np.float32)
    kept = {k: np.count_nonzero(boxes.nms_sort(box, probability, 0.3, kind=k, beta=0.9)) for k in boxes.NMS_KINDS}
    assert kept == {"default": 1, "cornersnms": 1, "greedynms": 2, "diounms": 2}
    assert np.count_nonzero(boxes.nms_sort(box, probability, 0.3, kind="diounms", beta=9)) == 1


def test_suppression_by_objectness_takes_all_classes() -> None:
    box = np.array([[0.5, 0.5, 0.2, 0.2], [0.51, 0.5, 0.2, 0.2], [0.1, 0.1, 0.1, 0.1]], dtype=np.float32)
    objectness = np.array([0.6, 0.9, 0.3], dtype=np.float32)
    probability = np.array([[0.5, 0.1], [0.2, 0.7], [0.3, 0]], dtype=np.float32)
    found_objectness, found = boxes.nms_obj(box, objectness, probability, 0.45)
    assert found_objectness.tolist() == pytest.approx([0, 0.9, 0.3])
    np.testing.assert_array_equal(found, probability * [[0], [1], [1]])


def test_wrong_arguments_are_refused() -> None:
    box, probability = np.zeros((3, 4), np.float32), np.zeros((3, 2), np.float32)
    with pytest.raises(ShapeError, match=r"found \(3, 4\) and \(2, 2\)"):
        boxes.nms_sort(box, probability[:2], 0.5)
    with pytest.raises(ShapeError, match=r"boxes \(m, 4\)"):
        boxes.nms_sort(box.T, probability, 0.5)
    with pytest.raises(ShapeError, match="objectness"):
        boxes.nms_obj(box, np.zeros(2, np.float32), probability, 0.5)
    with pytest.raises(ValueError, match="greedynms"):
        boxes.nms_sort(box, probability, 0.5, kind="greedy")


@pytest.mark.parametrize(
    ("size", "net", "expected"),
    [
        ((640, 480), (416, 416), (416, 312)),
        ((300, 500), (416, 416), (249, 416)),
        ((773, 512), (608, 320), (483, 320)),
        ((416, 416), (416, 416), (416, 416)),
    ],
)
def test_letterboxed_corners_come_back(size: tuple[int, int], net: tuple[int, int], expected: tuple[int, int]) -> None:
    assert boxes.letterbox_size(*size, *net) == expected
    inner = np.array([0.5, 0.5, expected[0] / net[0], expected[1] / net[1]])
    np.testing.assert_allclose(boxes.correct_boxes(inner, *size, *net), [0.5, 0.5, 1, 1], rtol=1e-6)
    np.testing.assert_allclose(
        boxes.correct_boxes(inner, *size, *net, relative=False), [size[0] / 2, size[1] / 2, *size], rtol=1e-6
    )
    unchanged = boxes.correct_boxes(inner, *size, *net, letterbox=False)
    np.testing.assert_allclose(unchanged, inner, rtol=1e-12)
