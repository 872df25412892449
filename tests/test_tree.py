"""Hierarchies of classes (YOLO9000): files, probabilities along paths, [region] and [softmax] with tree=, map=."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import darkbn
from darkbn.backend import BACKENDS
from darkbn.detect import classify, read_detections
from darkbn.errors import CfgError, TrainingError
from darkbn.tree import SECRET_NUM, ClassTree, read_map, read_tree

#: animal (dog (terrier, collie), cat), thing (car): groups {0 1} {2 3} {4} {5 6}.
TREE = "animal -1\nthing -1\ndog 0\ncat 0\ncar 1\nterrier 2\ncollie 2\n"
PARENTS = [-1, -1, 0, 0, 1, 2, 2]


@pytest.fixture
def tree(tmp_path: Path) -> ClassTree:
    (tmp_path / "a.tree").write_text(TREE)
    return read_tree(tmp_path / "a.tree")


def path_of(kind: int) -> list[int]:
    """A class and all above it."""
    return [kind, *path_of(PARENTS[kind])] if kind >= 0 else []


def test_groups_are_lines_with_the_same_parent(tree: ClassTree) -> None:
    assert tree.names == ("animal", "thing", "dog", "cat", "car", "terrier", "collie")
    assert tree.parent.tolist() == PARENTS
    assert tree.group.tolist() == [0, 0, 1, 1, 2, 3, 3]
    assert tree.child.tolist() == [1, 2, 3, -1, -1, -1, -1]
    assert tree.group_offset.tolist() == [0, 2, 4, 5]
    assert tree.group_size.tolist() == [2, 2, 1, 2]
    assert tree.leaf.tolist() == [False, False, False, True, True, True, True]
    assert tree.paths.tolist()[5] == [2, 5, 2]
    assert (tree.n, tree.groups) == (7, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a -1\nb 2\n", r"a\.tree:2: parent 2 of b must be -1 or come before: 0 to 0"),
        ("a -1\nb x\n", "a.tree:2: expected NAME PARENT, found 'b x'"),
        ("a -1\nb 0\nc -1\n", "a.tree:3: c: the classes without parent must follow each other"),
        ("a -1\nb -1\nc 0\nd 1\ne 0\n", "a.tree:5: e: the classes of a must follow each other"),
        ("\n", "no classes"),
        (None, "cannot be read"),
    ],
)
def test_trees_that_cannot_be(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "a.tree").write_text(text)
    with pytest.raises(CfgError, match=message):
        read_tree(tmp_path / "a.tree")


def test_maps(tmp_path: Path) -> None:
    (tmp_path / "a.map").write_text("5\n1\n\n")
    assert read_map(tmp_path / "a.map").tolist() == [5, 1]
    (tmp_path / "a.map").write_text("5\nx\n")
    with pytest.raises(CfgError, match=r"a.map:2: expected a class number, found 'x'"):
        read_map(tmp_path / "a.map")


def test_probability_of_a_class_is_the_product_of_its_path(tree: ClassTree) -> None:
    given = np.random.default_rng(0).random((3, 7))
    found = tree.hierarchy_predictions(given)
    for kind in range(7):
        np.testing.assert_allclose(found[:, kind], given[:, path_of(kind)].prod(axis=1))
    leaves = tree.hierarchy_predictions(given, only_leaves=True)
    np.testing.assert_array_equal(leaves[:, 3:], found[:, 3:])
    assert not leaves[:, :3].any()


def test_top_prediction_stops_where_it_becomes_improbable(tree: ClassTree) -> None:
    probabilities = tree.hierarchy_predictions(np.array([0.9, 0.1, 0.8, 0.2, 1, 0.4, 0.6]))
    # animal .9, dog .72, collie .432
    assert [tree.hierarchy_top_prediction(probabilities, t) for t in (0.3, 0.5, 0.8, 0.95)] == [6, 2, 0, 0]


def test_labels_are_completed(tree: ClassTree) -> None:
    truth = np.zeros((2, 7))
    truth[0, 6] = truth[1, 1] = 1
    tree.fill_hierarchy(truth)
    assert truth.tolist() == [[1, 0, 1, 0, SECRET_NUM, 0, 1], [0, 1, *[SECRET_NUM] * 5]]


# Layers

REGION = """[net]
batch=1
width=3
height=2
channels=4
learning_rate=0.01
momentum=0

[convolutional]
filters=24
size=1
activation=linear

[region]
anchors=1,1, 2,1
num=2
classes=7
softmax=1
tree={tree}
{more}
"""


def region_net(tmp_path: Path, dialect: str, more: str = "", **options: Any) -> darkbn.Network:
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "data/a.tree").write_text(TREE)
    (tmp_path / "data/a.map").write_text("6\n4\n")
    (tmp_path / "cfg").mkdir(exist_ok=True)
    path = tmp_path / "cfg/a.cfg"  # data/ lies beside the folder of the description, as in Darknet's repository
    path.write_text(REGION.format(tree="data/a.tree", more=more))
    return darkbn.load(path, dialect=dialect, seed=1, **options)


def by_place(net: darkbn.Network) -> np.ndarray:
    """The head's entries, (place, entry)."""
    head: Any = net.heads[0]
    output = np.asarray(head.output).reshape(head.map_shape)[0]
    return (output if head.in_cells else output.transpose(2, 3, 0, 1)).reshape(-1, 12)


@pytest.mark.parametrize("dialect", ["darknet", "alexeyab"])
@pytest.mark.parametrize("device", BACKENDS)
def test_region_has_a_softmax_per_group(tmp_path: Path, dialect: str, device: str) -> None:
    net = region_net(tmp_path, dialect, device=device)
    x = 3 * np.random.default_rng(0).standard_normal(net.input_shape)
    net.forward(x)
    raw = np.asarray(net.layers[0].output).reshape(2, 12, 2, 3).transpose(2, 3, 0, 1).reshape(-1, 12)[:, 5:]
    classes = by_place(net)[:, 5:]
    for start, end in ((0, 2), (2, 4), (4, 5), (5, 7)):
        parts = np.exp(raw[:, start:end])
        np.testing.assert_allclose(classes[:, start:end], parts / parts.sum(axis=1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("dialect", ["darknet", "alexeyab"])
@pytest.mark.parametrize("hier", [0.0, 0.5, 0.7])
def test_a_detection_has_one_class_of_the_hierarchy(tmp_path: Path, dialect: str, hier: float) -> None:
    net = region_net(tmp_path, dialect)
    net.forward(3 * np.random.default_rng(0).standard_normal(net.input_shape))
    head: Any = net.heads[0]
    entries = by_place(net)
    live = entries[entries[:, 4] > 0.4]
    rows = head.detections(0, 0.4, hier=hier)
    assert 2 < len(live) == len(rows) < 12
    for row, place in zip(rows, live, strict=True):
        probabilities = head.softmax_tree.hierarchy_predictions(place[5:])
        best = head.softmax_tree.hierarchy_top_prediction(probabilities, hier)
        likely = probabilities[best] > hier
        expected = np.zeros(7)
        expected[best] = place[4] if dialect == "darknet" else probabilities[best] if likely else 0
        np.testing.assert_allclose(row[5:], expected, rtol=1e-6)
        np.testing.assert_allclose(row[4], place[4])


def labels(net: darkbn.Network, *rows: tuple[float, ...]) -> np.ndarray:
    head: Any = net.heads[0]
    truth = np.zeros((1, head.truths // head.truth_size, head.truth_size), np.float32)
    for place, row in enumerate(rows):
        truth[0, place, : len(row)] = row
    return truth.reshape(1, -1)


@pytest.mark.parametrize("dialect", ["darknet", "alexeyab"])
@pytest.mark.parametrize("device", BACKENDS)
def test_a_truth_trains_the_groups_of_its_path(tmp_path: Path, dialect: str, device: str) -> None:
    net = region_net(tmp_path, dialect, "class_scale=2", train=True, device=device)
    net.seen = 1 << 20
    x = np.random.default_rng(0).standard_normal(net.input_shape)
    net.forward(x, labels(net, (0.5, 0.3, 0.3, 0.5, 6)), train=True)
    head: Any = net.heads[0]
    delta = np.asarray(head.delta).reshape(2, 12, 2, 3).transpose(2, 3, 0, 1).reshape(-1, 12)
    (place,) = np.flatnonzero((delta[:, 5:] != 0).any(axis=1))
    expected = 2 * (np.array([1, 0, 1, 0, 0, 0, 1]) - by_place(net)[place, 5:])
    expected[4] = 0  # "car" is not on the path of "collie", nor are its siblings
    np.testing.assert_allclose(delta[place, 5:], expected, rtol=1e-5, atol=1e-7)
    category = by_place(net)[place, 5:][path_of(6)].prod()
    assert head.statistics.category == pytest.approx(category, rel=1e-5)


@pytest.mark.parametrize("dialect", ["darknet", "alexeyab"])
def test_a_class_without_a_box_trains_the_place_where_it_is_most_probable(tmp_path: Path, dialect: str) -> None:
    net = region_net(tmp_path, dialect, "noobject_scale=.5", train=True)
    x = np.random.default_rng(0).standard_normal(net.input_shape)
    net.forward(x, labels(net, (0.5, 0.3, 0.3, 0.5, 0), (999999, 999999, 0, 0, 3)), train=True)
    head: Any = net.heads[0]
    delta = np.asarray(head.delta).reshape(2, 12, 2, 3).transpose(2, 3, 0, 1).reshape(-1, 12)
    entries = by_place(net)
    probability = entries[:, 4] * entries[:, [5, 8]].prod(axis=1)
    place = int(probability.argmax())
    assert np.flatnonzero((delta[:, 5:] != 0).any(axis=1)).tolist() == [place]
    assert not delta[:, :4].any()
    expected = np.zeros(12) if dialect == "alexeyab" else 0.5 * (0 - entries[:, 4])
    expected[place] = 0
    np.testing.assert_allclose(delta[:, 4], expected, rtol=1e-6)
    assert head.statistics.count == 0
    assert head.statistics.category == pytest.approx(probability[place] / entries[place, 4], rel=1e-5)
    with pytest.raises(TrainingError, match="has a class that does not exist: there are 0 to 6"):
        net.forward(x, labels(net, (999999, 999999, 0, 0, 7)), train=True)


def test_map_renumbers_classes_of_boxes(tmp_path: Path) -> None:
    mapped, plain = (region_net(tmp_path, "darknet", more, train=True) for more in ("map=data/a.map", ""))
    x = np.random.default_rng(0).standard_normal(mapped.input_shape)
    mapped.forward(x, labels(mapped, (0.5, 0.3, 0.3, 0.5, 1)), train=True)
    plain.forward(x, labels(plain, (0.5, 0.3, 0.3, 0.5, 4)), train=True)
    np.testing.assert_array_equal(mapped.heads[0].delta, plain.heads[0].delta)
    with pytest.raises(TrainingError, match="has a class that does not exist: there are 0 to 1"):
        mapped.forward(x, labels(mapped, (0.5, 0.3, 0.3, 0.5, 2)), train=True)
    for net in (mapped, plain):
        net.forward(x, labels(net, (999999, 999999, 0, 0, 1)), train=True)
    np.testing.assert_array_equal(mapped.heads[0].delta, plain.heads[0].delta)


@pytest.mark.parametrize("section", ["yolo", "Gaussian_yolo"])
def test_map_of_other_heads(tmp_path: Path, section: str) -> None:
    (tmp_path / "a.map").write_text("2\n0\n")
    deltas = []
    for more, kind in ((f"map={tmp_path}/a.map", 0), ("", 2)):
        cfg = REGION.replace("[region]", f"[{section}]").replace("softmax=1\ntree={tree}\n", "").format(more=more)
        cfg = cfg.replace("filters=24", "filters=32" if section == "Gaussian_yolo" else "filters=24")
        net = darkbn.load(cfg, dialect="alexeyab", seed=1, train=True)
        x = np.random.default_rng(0).standard_normal(net.input_shape)
        net.forward(x, labels(net, (0.5, 0.3, 0.3, 0.5, kind)), train=True)
        deltas.append(net.heads[0].delta.copy())
    np.testing.assert_array_equal(*deltas)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            "tree=data/b.tree",
            r"a\.cfg:\d+: \[region\] \(layer 1\) tree: no file data/b.tree in the current folder, that",
        ),
        ("map=data/a.tree", "a.tree:1: expected a class number"),
    ],
)
def test_side_files_that_cannot_be(tmp_path: Path, more: str, message: str) -> None:
    with pytest.raises(CfgError, match=message):
        region_net(tmp_path, "darknet", more) if more.startswith("map") else darkbn.load(
            _with_tree(tmp_path, "data/b.tree")
        )


def _with_tree(tmp_path: Path, name: str) -> Path:
    path = tmp_path / "a.cfg"
    path.write_text(REGION.format(tree=name, more=""))
    return path


def test_trees_and_maps_must_fit_the_classes(tmp_path: Path) -> None:
    (tmp_path / "b.tree").write_text("a -1\nb -1\n")
    with pytest.raises(CfgError, match=r"tree: b.tree has 2 classes, the layer has 7"):
        darkbn.load(_with_tree(tmp_path, "b.tree"))
    (tmp_path / "b.map").write_text("3\n7\n")
    with pytest.raises(CfgError, match=r"map: .*b.map maps class 1 to 7; there are 0 to 6"):
        region_net(tmp_path, "darknet", f"map={tmp_path}/b.map")


@pytest.mark.parametrize("dialect", ["darknet", "alexeyab"])
def test_a_network_learns_boxes_and_classes_of_a_hierarchy(tmp_path: Path, dialect: str) -> None:
    net = region_net(tmp_path, dialect, "bias_match=1\nobject_scale=5\ncoord_scale=5\nthresh=.6", train=True)
    x = np.random.default_rng(0).standard_normal(net.input_shape)
    truth = labels(net, (0.5, 0.3, 0.3, 0.5, 6))
    for _ in range(400):
        net.train_step(x, truth)
    net.forward(x)
    (found,) = read_detections(net, 0, 3, 2, threshold=0.5, letterbox=False)
    assert (found.class_id, found.label) == (6, "collie")
    np.testing.assert_allclose(found.box, (0.5, 0.3, 0.3, 0.5), atol=0.05)


SOFTMAX = (
    "[net]\nbatch=2\ninputs=7\nlearning_rate=.5\nmomentum=0\ndecay=0\n\n[connected]\noutput=7\nactivation=linear\n"
)


@pytest.mark.parametrize("device", BACKENDS)
def test_softmax_over_a_hierarchy_learns_labelled_groups_only(tmp_path: Path, device: str, tree: ClassTree) -> None:
    cfg = f"{SOFTMAX}\n[softmax]\ntree={tmp_path}/a.tree\n"
    net = darkbn.load(cfg, train=True, seed=0, device=device)
    truth = np.zeros((2, 7))
    truth[0, 6] = truth[1, 1] = 1
    tree.fill_hierarchy(truth)
    x = np.random.default_rng(0).standard_normal((2, 7))
    out = np.array(net.forward(x, truth, train=True)).reshape(2, 7)
    for start, end in ((0, 2), (2, 4), (4, 5), (5, 7)):
        np.testing.assert_allclose(out[:, start:end].sum(axis=1), 1, rtol=1e-6)
    known = truth != SECRET_NUM
    np.testing.assert_allclose(net.layers[1].delta.reshape(2, 7), np.where(known, truth - out, 0), atol=1e-6)
    assert net.cost == pytest.approx(-np.log(out[truth == 1]).sum(), rel=1e-5)
    losses = [net.train_step(x, truth) for _ in range(60)]
    assert losses[-1] < 0.2 * losses[0]
    with pytest.raises(CfgError, match=r"tree: .*a.tree has 7 classes, the layer has 5"):
        darkbn.load(cfg.replace("output=7", "output=5"))


def test_classify_multiplies_along_the_path(tmp_path: Path, tree: ClassTree) -> None:
    cfg = "[net]\nwidth=4\nheight=4\nchannels=3\n\n[connected]\noutput=7\nactivation=linear\n\n[softmax]\n"
    picture = np.random.default_rng(0).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    for dialect in ("darknet", "alexeyab"):
        net = darkbn.load(f"{cfg}tree={tmp_path}/a.tree\n", dialect=dialect, seed=0)
        found = classify(net, picture, 7)
        expected = tree.hierarchy_predictions(np.asarray(net.output_layer.output).reshape(-1), dialect == "darknet")
        assert {one.class_id: pytest.approx(one.probability, rel=1e-5) for one in found} == dict(enumerate(expected))
        assert found[0].label == tree.names[found[0].class_id]
