"""The [yolo] and [region] layers: as the real Darknets compute them, and what they refuse."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import darkbn
from darkbn.backend import BACKENDS, get_backend
from darkbn.boxes import correct_boxes, nms_sort
from darkbn.cfg import read_cfg
from darkbn.errors import CfgError, ShapeError, TrainingError, UnsupportedError
from darkbn.layers import BY_SECTION
from darkbn.layers.base import Context
from darkbn.layers.heads import HeadLayer
from darkbn.layers.region import EARLY_IMAGES, make_region_layer
from darkbn.layers.yolo import make_yolo_layer
from darkbn.state import NetworkState

FOLDER = Path(os.environ.get("DARKBN_REFERENCE") or Path(__file__).parents[2] / "shared" / "reference")
DIALECTS = {"pjreddie": "darknet", "alexeyab": "alexeyab"}


def goldens(*patterns: str) -> list[Any]:
    """Parameters for the golden files of these patterns; one that is skipped when there are none."""
    files = sorted(file for pattern in patterns for file in FOLDER.glob(pattern))
    if not files:
        reason = pytest.mark.skip(reason=f"no {patterns[0]} in {FOLDER}: set DARKBN_REFERENCE")
        return [pytest.param(None, marks=reason, id=patterns[0])]
    return [pytest.param(file, id=file.stem) for file in files]


def heads_of(text: str, dialect: str, shapes: dict[int, Any], batch: int, backend: str) -> dict[int, HeadLayer]:
    """The heads of a description, without the layers before them."""
    cfg = read_cfg(text)
    size = {key: int(cfg.net.find(key).value) for key in ("width", "height")}
    found = {}
    for index, section in enumerate(cfg.layers):
        if section.name not in ("yolo", "region"):
            continue
        c, h, w = map(int, shapes[index])
        context = Context(
            batch=batch,
            h=h,
            w=w,
            c=c,
            inputs=c * h * w,
            backend=get_backend(backend),
            dialect=dialect,
            index=index,
            section=section,
            net_w=size["width"],
            net_h=size["height"],
        )
        cls: Any = BY_SECTION[section.name]
        found[index] = cls(cls.options_class.read(section, dialect, [], index), context)
        found[index].allocate(training=True)
    assert found
    return found


def close(found: Any, expected: Any, tolerance: float) -> bool:
    found, expected = np.asarray(found).reshape(-1), np.asarray(expected).reshape(-1)
    return float(np.abs(found - expected).max()) <= tolerance * float(np.abs(expected).max())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("file", goldens("layer__yolo-*.npz", "layer__region-*.npz"))
def test_output_delta_and_cost_equal_darknets(file: Path, backend: str) -> None:
    case = np.load(file)
    batch = int(case["net_batch"])
    shapes = {int(key.split(".")[1]): case[key] for key in case if key.startswith("shape.")}
    dialect = DIALECTS[str(case["oracle"])]
    seen = 0 if "early" in file.stem else EARLY_IMAGES
    for i, l in heads_of(str(case["cfg"]), dialect, shapes, batch, backend).items():
        x, truth = (l.backend.array(case[key]) for key in (f"test.output.{i - 1}", "truth"))
        before = l.backend.zeros(x.shape)
        l.forward(NetworkState(input=x))
        assert close(l.output, case[f"test.output.{i}"], 1e-6)
        net = NetworkState(input=x, delta=before, truth=truth, train=True, seen=seen, threads=2)
        l.forward(net)
        assert close(l.output, case[f"train.0.output.{i}"], 1e-6)
        assert close(l.delta, case[f"train.0.delta.{i}"], 2e-6)
        assert l.cost == pytest.approx(float(case[f"train.0.cost.{i}"]), rel=5e-6)
        l.backward(net)
        factor = np.float32(getattr(l.options, "delta_normalizer", 1))
        np.testing.assert_allclose(before, factor * l.delta, rtol=1e-6)


@pytest.mark.parametrize("file", [p for p in goldens("detect__*.npz") if "input-" not in str(p.id)])
def test_detections_from_heads_equal_darknets(file: Path) -> None:
    case = np.load(file)
    model = str(case["model"])
    text = (FOLDER / "models" / model / f"{model}.cfg").read_text()
    dialect = DIALECTS[str(case["oracle"])]
    shapes = {int(i): case[f"head.{i}"].shape for i in case["head_layers"]}
    heads = heads_of(text, dialect, shapes, 1, "cpu")
    assert set(heads) == set(shapes)
    for i, l in heads.items():
        l.output[...] = case[f"head.{i}"]
    width, height = map(int, case["image_size"])
    for key in [key for key in case if key.endswith(".detections")]:
        name = key.removesuffix(".detections")
        parts = [l.detections(0, float(name.removeprefix("thresh"))) for l in heads.values()]
        rows = np.concatenate(parts)
        assert len(rows) == case[f"{name}.boxes_before_nms"]
        assert np.count_nonzero(rows[:, 5:]) == case[f"{name}.class_scores_before_nms"]
        context = next(iter(heads.values())).context
        net_size = (context.net_w, context.net_h)
        box = correct_boxes(rows[:, :4], width, height, *net_size, letterbox=bool(case["letterbox"]))
        left = nms_sort(box, rows[:, 5:], float(case["nms"]), kind=str(case["nms_kind"]), beta=float(case["beta_nms"]))
        place, kind = np.nonzero(left)
        found = np.column_stack([kind, left[place, kind], box[place]])
        found = found[np.argsort(-found[:, 1], kind="stable")]
        np.testing.assert_allclose(found, case[key], atol=2e-7)


ANCHORS = (0.4, 0.6, 0.9, 1.1, 1.5, 2.3)


def yolo(dialect: str = "darknet", **options: Any) -> HeadLayer:
    """One image, a map of 4 x 3, 3 classes, a network input of 4 x 3."""
    return make_yolo_layer(1, 4, 3, 2, 3, (2, 0), 3, anchors=ANCHORS, net_w=4, net_h=3, dialect=dialect, **options)


def region(dialect: str = "darknet", **options: Any) -> HeadLayer:
    return make_region_layer(1, 4, 3, 3, 3, anchors=ANCHORS, dialect=dialect, **options)


def truth_of(l: HeadLayer, *rows: tuple[float, ...]) -> np.ndarray:
    table = np.zeros((1, l.truths // l.truth_size, l.truth_size), dtype=np.float32)
    for place, row in enumerate(rows):
        table[0, place, : len(row)] = row
    return table.reshape(1, -1)


def train(l: HeadLayer, truth: np.ndarray | None, x: np.ndarray | None = None, seen: int = 1 << 20) -> HeadLayer:
    x = np.zeros((1, l.inputs), dtype=np.float32) if x is None else x
    l.forward(NetworkState(input=x, truth=truth, train=True, seen=seen))
    return l


@pytest.mark.parametrize("make", [yolo, region])
@pytest.mark.parametrize("dialect", DIALECTS.values())
def test_a_truth_trains_one_place(make: Any, dialect: str) -> None:
    l = make(dialect)
    train(l, truth_of(l, (0.6, 0.4, 0.4, 0.7, 1)))
    delta = l.delta.reshape(l.n, 8, 3, 4)
    places = np.argwhere((delta[:, 5:] != 0).any(axis=1))
    assert len(places) == 1
    n, j, i = places[0]
    assert (j, i) == (1, 2)
    assert (delta[n, 4] > 0).sum() == 1
    assert delta[n, 4, 1, 2] > 0
    assert delta[n, 5:, 1, 2].argmax() == 1
    assert (delta[:, 4] < 0).sum() == l.n * 12 - 1
    assert l.statistics is not None
    assert l.statistics.count == 1
    assert 0 < l.statistics.iou < 1
    assert l.statistics.any_objectness == pytest.approx(0.5)
    assert l.cost == pytest.approx(float(np.square(delta, dtype=np.float64).sum()))


@pytest.mark.parametrize("iou_loss", ["iou", "giou", "diou", "ciou"])
def test_loss_of_an_overlap_kind_is_its_lack_and_the_other_squares(iou_loss: str) -> None:
    options = {"iou_loss": iou_loss, "iou_normalizer": 0.5, "obj_normalizer": 0.25}
    l = yolo("alexeyab", **options)
    train(l, truth_of(l, (0.6, 0.4, 0.4, 0.7, 1)))
    rest = float(np.square(l.delta.reshape(2, 8, 3, 4)[:, 4:], dtype=np.float64).sum())
    assert l.cost is not None
    lack = (l.cost - 0.25 * rest) / 0.5
    box = np.array([2.5 / 4, 1.5 / 3, 1.5 / 4, 2.3 / 3])
    measure = darkbn.boxes.giou if iou_loss == "giou" else darkbn.boxes.iou
    assert lack == pytest.approx(1 - measure(box, np.array([0.6, 0.4, 0.4, 0.7])), rel=1e-5)
    quiet = train(yolo("alexeyab", show_details=0, **options), truth_of(l, (0.6, 0.4, 0.4, 0.7, 1)))
    assert quiet.cost == pytest.approx(float(np.square(l.delta, dtype=np.float64).sum()))


@pytest.mark.parametrize("make", [yolo, region])
def test_without_boxes_only_objectness_falls(make: Any) -> None:
    l = make()
    train(l, truth_of(l))
    delta = l.delta.reshape(l.n, 8, 3, 4)
    assert (delta[:, 4] == -0.5).all()
    assert np.count_nonzero(delta) == delta[:, 4].size
    assert l.statistics.count == 0
    assert l.statistics.iou == 0


@pytest.mark.parametrize("make", [yolo, region])
def test_centres_on_the_far_border_fall_into_the_last_cell(make: Any) -> None:
    l = make()
    train(l, truth_of(l, (1, 1, 0.4, 0.7, 1)))
    delta = l.delta.reshape(l.n, 8, 3, 4)
    assert np.argwhere((delta[:, 5:] != 0).any(axis=1))[:, 1:].tolist() == [[2, 3]]


def test_max_limits_the_rows_that_are_read() -> None:
    rows = [(0.2, 0.2, 0.4, 0.7, 1), (0.7, 0.7, 0.4, 0.7, 1), (0.4, 0.7, 0.4, 0.7, 2)]
    for dialect, numbers in (("darknet", 450), ("alexeyab", 12)):
        l = yolo(dialect, max=2)
        assert l.truths == numbers
        if dialect == "darknet":
            train(l, truth_of(l, *rows))
        else:
            train(l, truth_of(l, *rows[:2]))
        assert l.statistics is not None
        assert l.statistics.count == 2
    assert (yolo().truths, yolo("alexeyab").truths) == (450, 1200)
    assert (region().truths, region("alexeyab").truths) == (150, 1200)


def test_boxes_are_pulled_to_anchors_only_early() -> None:
    x = np.random.default_rng(0).normal(size=(1, 3 * 8 * 12)).astype(np.float32)
    early, late = region(), region()
    train(early, truth_of(early), x, seen=EARLY_IMAGES - 1)
    train(late, truth_of(late), x, seen=EARLY_IMAGES)
    assert not np.any(late.delta.reshape(3, 8, 12)[:, :4])
    values = early.output.reshape(3, 8, 12)[:, :4]
    expected = 0.01 * (np.array([0.5, 0.5, 0, 0])[:, np.newaxis] - values)
    np.testing.assert_allclose(early.delta.reshape(3, 8, 12)[:, :4], expected, rtol=1e-5, atol=1e-9)


def test_both_layouts_of_region_hold_the_same_boxes() -> None:
    x = np.random.default_rng(1).normal(size=(1, 3 * 8 * 12)).astype(np.float32)
    rows = []
    for dialect in DIALECTS.values():
        l = region(dialect, softmax=True)
        l.forward(NetworkState(input=x))
        rows.append(l.detections(0, 0.2))
    strong = rows[0][(rows[0][:, 5:] > 0).any(axis=1)]
    assert 3 < len(strong) < 36
    np.testing.assert_allclose(strong, rows[1], rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_detections_exceed_the_threshold(backend: str) -> None:
    l = make_yolo_layer(
        2, 5, 4, 2, 3, (2, 0), 3, anchors=ANCHORS, net_w=20, net_h=16, dialect="alexeyab", backend=backend
    )
    x = np.random.default_rng(2).normal(size=(2, 2 * 8 * 20))
    l.forward(NetworkState(input=l.backend.array(x)))
    found = l.detections(1, 0.3)
    objectness = l.output[1].reshape(2, 8, 20)[:, 4]
    assert len(found) == np.count_nonzero(objectness > 0.3)
    assert 5 < len(found) < 40
    products = found[:, 5:][found[:, 5:] != 0]
    assert products.min() > 0.3
    assert l.detections(0, 1.0).shape == (0, 8)
    cell, anchor = np.argwhere(objectness.T > 0.3)[0]
    x, y, w, h = l.output[1].reshape(2, 8, 20)[anchor, :4, cell]
    size = np.array(ANCHORS).reshape(3, 2)[[2, 0][anchor]]
    expected = [(cell % 5 + x) / 5, (cell // 5 + y) / 4, np.exp(w) * size[0] / 20, np.exp(h) * size[1] / 16]
    np.testing.assert_allclose(found[0, :4], expected, rtol=1e-5)


CFG = """[net]
width=8
height=8
channels=3

[convolutional]
filters={filters}
size=1
activation=linear

[{section}]
{options}
"""


def load(section: str, options: str, filters: int = 16, dialect: str = "darknet") -> darkbn.Network:
    return darkbn.load(CFG.format(section=section, options=options, filters=filters), dialect=dialect)


YOLO = "classes=3\nnum=2\nanchors=1,2,3,4"


def test_a_resized_network_measures_anchors_by_its_new_size() -> None:
    net = load("yolo", YOLO)
    head: Any = net.layers[1]
    assert head.net_size == (8, 8)
    net.resize(16, 24)
    assert head.net_size == (16, 24)
    net.forward(np.zeros(net.input_shape))
    rows = head.detections(0, 0.1)
    assert len(rows) == 16 * 24 * 2
    assert (rows[0, 2], rows[0, 3]) == pytest.approx((1 / 16, 2 / 24))


@pytest.mark.parametrize(
    ("section", "options", "filters", "dialect", "message"),
    [
        ("yolo", YOLO, 18, "darknet", r":7: \[convolutional\] .* filters: must be 16 = \(3 classes \+ 5\) \* 2"),
        ("region", YOLO, 15, "alexeyab", r":7: \[convolutional\] .* filters: must be 16 = .* found 15"),
        ("yolo", "mask=0,2\n" + YOLO, 16, "darknet", r":12: .* mask: 2 is no anchor: num=2 are 0 to 1"),
        ("yolo", "mask=0,-1\n" + YOLO, 16, "alexeyab", "mask: -1 is no anchor"),
        ("yolo", "num=4\nmask=2,3\nclasses=3\nanchors=1,2,3,4", 16, "darknet", "anchors: 4 numbers .* expected 8"),
        ("region", "num=2\nclasses=3\nanchors=1,2", 16, "darknet", "anchors: 2 numbers .* expected 4"),
        ("yolo", "classes=0", 5, "darknet", "classes: must be at least 1, found 0"),
        ("yolo", YOLO + "\ncounters_per_class=1,2", 16, "alexeyab", "counters_per_class: 2 numbers for 3 classes"),
        ("yolo", YOLO + "\niou_loss=ciu", 16, "alexeyab", "iou_loss: .* found 'ciu'"),
    ],
)  # fmt: skip
def test_descriptions_that_cannot_be_are_refused(
    section: str, options: str, filters: int, dialect: str, message: str
) -> None:
    with pytest.raises(CfgError, match=message):
        load(section, options, filters, dialect)


def test_what_is_not_supported_is_named() -> None:
    with pytest.raises(UnsupportedError, match=r"coords: .*not supported"):
        load("region", f"{YOLO}\ncoords=14")


@pytest.mark.parametrize("anchors", ["1,2,3", "1,2,3,4,5,6"])
def test_odd_numbers_of_anchors_are_reported(anchors: str) -> None:
    """Official descriptions have them."""
    net = load("yolo", f"classes=3\nnum=2\nanchors={anchors}")
    assert [text for text in net.warnings if "expected 4 for num=2" in text]
    given = [float(a) for a in anchors.split(",")]
    head: Any = net.layers[1]
    assert head.biases.tolist() == given + [0.5] * (len(given) % 2)


@pytest.mark.parametrize("make", [yolo, region])
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((0.5, 0.5, 0.1, 0.1, 3), r"image 0, box 1 \(0.5, 0.5, 0.1, 0.1, 3\) has a class .* 0 to 2"),
        ((0.5, 0.5, 0.1, 0.1, -1), "class that does not exist"),
        ((0.5, 1.5, 0.1, 0.1, 1), "centre outside"),
        ((-0.5, 0.5, 0.1, 0.1, 1), "centre outside"),
        ((0.5, 0.5, 0, 0.1, 1), "no width"),
        ((0.5, 0.5, 0.1, np.nan, 1), "not finite"),
    ],
)
def test_truths_that_cannot_be_are_refused(make: Any, row: tuple[float, ...], message: str) -> None:
    l = make()
    with pytest.raises(TrainingError, match=message):
        train(l, truth_of(l, (0.5, 0.5, 0.1, 0.1, 0), row))
    train(l, truth_of(l, (0, 0, 0, 0, 0), row))  # behind the end of the list


@pytest.mark.parametrize("make", [yolo, region])
def test_truth_of_the_wrong_shape_is_refused(make: Any) -> None:
    l = make()
    with pytest.raises(ShapeError, match=rf"expected truth of shape \(1, {l.truths}\), .* \(x, y, w, h, class\)"):
        train(l, np.zeros((1, 7), np.float32))
    with pytest.raises(TrainingError, match="needs truth"):
        train(l, None)


@pytest.mark.parametrize("background", [False, True])
def test_region_passes_the_derivative_of_what_it_activates(background: bool) -> None:
    """x, y and objectness go through the logistic function: what goes back is delta times its derivative."""
    l = region(background=background)
    x = np.random.default_rng(0).standard_normal((1, l.inputs)).astype(np.float32)
    train(l, truth_of(l, (0.6, 0.4, 0.4, 0.7, 1)), x)
    y, delta = (np.array(a, np.float64).reshape(3, 8, 12) for a in (l.output, l.delta))
    factor = np.ones((8, 1))
    factor = np.where(np.isin(np.arange(8), (0, 1) if background else (0, 1, 4))[:, np.newaxis], y * (1 - y), factor)
    back = np.zeros((1, l.inputs), np.float32)
    l.backward(NetworkState(input=x, delta=back, train=True))
    np.testing.assert_allclose(back.reshape(3, 8, 12), factor * delta, rtol=1e-5, atol=1e-9)


def test_delta_normalizer_scales_what_goes_back() -> None:
    l = yolo("alexeyab", delta_normalizer=0.25)
    train(l, truth_of(l, (0.6, 0.4, 0.4, 0.7, 1)))
    back = np.ones((1, l.inputs), np.float32)
    l.backward(NetworkState(delta=back, train=True))
    np.testing.assert_allclose(back, 1 + 0.25 * l.delta.reshape(1, -1))


@pytest.mark.parametrize("make", [yolo, region])
@pytest.mark.parametrize("dialect", DIALECTS.values())
def test_onlyforward_has_no_loss(make: Any, dialect: str) -> None:
    l = train(make(dialect, onlyforward=True), None)
    assert l.cost is None
    assert not l.delta.any()
