"""Export to ONNX: every section and activation, heads, dynamic shapes, half precision, refusals, verification."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import goldens
import networks
import numpy as np
import pytest

import darkbn
from darkbn.activations import CODES, NAMES
from darkbn.boxes import correct_boxes, nms_sort
from darkbn.errors import DarkbnError
from darkbn.layers import BY_SECTION

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from darkbn.interop.onnx import LayerError, Verification, export_onnx, onnx_model, verify_onnx  # noqa: E402
from darkbn.interop.onnx.exporter import CannotExportError  # noqa: E402
from darkbn.interop.onnx.sections import WRITERS  # noqa: E402

#: Sections without image shape, several sizes at once, and what only one dialect has.
DARKNET = """
[net]
width=12
height=10
channels=8

[reorg]
stride=2

[convolutional]
filters=8
size=3
pad=1
batch_normalize=1
activation=leaky

[upsample]
stride=2

[shortcut]
from=-2
alpha=.5
beta=2
activation=elu

[shortcut]
from=0
activation=plse

[maxpool]
size=3
stride=2
padding=1

[deconvolutional]
filters=6
size=3
stride=2
pad=1
batch_normalize=1
activation=ramp

[normalization]

[batchnorm]

[l2norm]

[local]
filters=3
size=3
stride=2
pad=1
activation=tanh

[reorg]
flatten=1

[reorg]
extra=5

[route]
layers=-1,-5

[connected]
output=6
batch_normalize=1
activation=stair

[batchnorm]

[logistic]
"""

ALEXEYAB = """
[net]
width=12
height=12
channels=8

[convolutional]
filters=8
size=3
dilation=2
stride_x=2
pad=0
padding=3
batch_normalize=1
activation=mish

[convolutional]
filters=8
size=5
dilation=2
pad=0
padding=1
activation=swish

[convolutional]
share_index=0
filters=8
size=3
pad=1
batch_normalize=1
activation=normalize_channels_softmax

[convolutional]
antialiasing=1
stride=2
filters=9
size=3
pad=1
activation=gelu

[maxpool]
maxpool_depth=1
out_channels=4

[local_avgpool]
size=2
stride=1
padding=5

[maxpool]
antialiasing=2
size=2
stride=1

[activation]
activation=mish

[convolutional]
filters=6
activation=linear

[shortcut]
from=-2,-3
weights_type=per_channel
weights_normalization=softmax
activation=hard_mish

[sam]
from=-2
activation=relu6

[reorg3d]
stride=2

[avgpool]

[scale_channels]
from=-2
activation=normalize_channels

[route]
layers=-1,-3
groups=2
group_id=1

[implicit]
filters=7

[dropout]

[empty]

[softmax]
groups=7
temperature=2
"""


def random_net(cfg: str | Path, dialect: str, **options: Any) -> Any:
    """A network whose statistics are not 0 and 1."""
    net = darkbn.load(cfg, dialect=dialect, seed=1, **options)
    rng = np.random.default_rng(2)
    for layer in net.layers:
        for _, part in layer.walk():
            for name in part.weights_order():
                array = getattr(part, name)
                if name == "rolling_variance":
                    array[...] = rng.uniform(0.01, 2, array.shape)
                elif name != "weights" or part.type == "shortcut":
                    array[...] = rng.normal(0, 0.5, array.shape)
    return net


def check(net: Any, tmp_path: Path, **options: Any) -> Any:
    result = export_onnx(net, tmp_path / "model.onnx", verify=True, **options)
    assert result.verification is not None
    assert result.verification.missing == ()
    return result


def some(kind: str, *quick: str) -> list[Any]:
    """Reference cases, of which only those with these words in their names belong to a quick run."""
    found = goldens.cases(kind)
    if not any(case.values[0] for case in found):
        return found
    return [
        case
        if any(word in str(case.id) for word in quick)
        else pytest.param(*case.values, id=case.id, marks=[*case.marks, pytest.mark.slow])
        for case in found
    ]


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize(
    ("cfg", "dialect"), [(DARKNET, "darknet"), (ALEXEYAB, "alexeyab")], ids=["darknet", "alexeyab"]
)
def test_sections(cfg: str, dialect: str, fold: bool, tmp_path: Path) -> None:
    result = check(random_net(cfg, dialect), tmp_path, fold=fold, tolerance=1e-5)
    assert len(result.verification.layers) == cfg.count("[") - 1


BINARY = """
[net]
width=8
height=6
channels=4
[convolutional]
binary=1
filters=6
size=3
pad=1
batch_normalize=1
activation=leaky
[convolutional]
xnor=1
filters=4
size=3
pad=1
groups=2
activation=linear
[convolutional]
coordconv=1
antialiasing=1
filters=5
size=3
stride=2
pad=1
batch_normalize=1
activation=tanh
[convolutional]
coordconv=1
filters=2
activation=linear
[crnn]
xnor=1
size=3
pad=1
hidden=3
output=2
batch_normalize=1
"""


@pytest.mark.parametrize("fold", [True, False])
def test_binary_convolutions_and_coordinates(fold: bool, tmp_path: Path) -> None:
    check(random_net(BINARY, "alexeyab"), tmp_path, fold=fold, batch="dynamic")


TREE = "a -1\nb -1\nc 0\nd 0\ne 0\nf 1\n"


@pytest.mark.parametrize("dialect", ["darknet", "alexeyab"])
@pytest.mark.parametrize("options", ["softmax=1\n", "softmax=1\nbackground=1\n", ""])
def test_hierarchies_of_classes(options: str, dialect: str, tmp_path: Path) -> None:
    (tmp_path / "my.tree").write_text(TREE)
    cfg = REGION.replace("classes=3", "classes=6\ntree=my.tree").replace("filters=16", "filters=22")
    classifier = "[net]\ninputs=4\n[connected]\noutput=6\nactivation=linear\n[softmax]\ntree=my.tree\ntemperature=3\n"
    if dialect == "alexeyab":
        options = options.replace("background=1\n", "")
    for name, text in (("region", cfg + options), ("classifier", classifier)):
        (tmp_path / f"{name}.cfg").write_text(text)
        net = random_net(tmp_path / f"{name}.cfg", dialect, batch=2)
        check(net, tmp_path)
        if net.heads:
            with pytest.raises(CannotExportError, match=r"\[region\] \(layer 1\): the one class of each box"):
                onnx_model(net, heads="nms")


@pytest.mark.parametrize("opset", [13, 18, 21])
def test_opsets(opset: int, tmp_path: Path) -> None:
    check(random_net(ALEXEYAB, "alexeyab"), tmp_path, opset=opset, tolerance=1e-5)
    model = onnx.load(tmp_path / "model.onnx")
    assert [entry.version for entry in model.opset_import] == [opset]


def test_every_section_has_a_writer() -> None:
    assert sorted({layer.type for layer in BY_SECTION.values()} - set(WRITERS)) == []


@pytest.mark.parametrize("name", CODES)
def test_activations(name: str, tmp_path: Path) -> None:
    dialect = "darknet" if name in NAMES["darknet"] else "alexeyab"
    net = darkbn.load(f"[net]\nwidth=9\nheight=9\nchannels=4\n[activation]\nactivation={name}\n", dialect=dialect)
    path = tmp_path / "model.onnx"
    export_onnx(net, path, verify=True, tolerance=1e-6)
    x = np.linspace(-9, 9, 4 * 81, dtype=np.float32).reshape(net.input_shape)
    x.flat[::7] = np.round(x.flat[::7])
    (found,) = onnxruntime.InferenceSession(path).run(None, {"input": x})
    assert goldens.error(found, net.forward(x)) < 1e-6


@pytest.mark.parametrize("case", some("layer", "local-", "shortcut-", "reorg-flatten", "act-plse", "conv_lstm-"))
def test_layers_of_the_reference_cases(case: goldens.Case, tmp_path: Path) -> None:
    if "pj-route-groups-ignored" in case.quirks:
        pytest.skip("its weights are those of another network")
    net = case.load()
    for index, arrays in case.tree("init").items():
        for name, values in arrays.items():
            target: Any = net.layers[index]
            *path, last = name.split(".")
            for step in path:
                target = getattr(target, step)
            if isinstance(getattr(target, last, None), np.ndarray):
                getattr(target, last).reshape(-1)[...] = values.reshape(-1)
    check(net, tmp_path, tolerance=1e-5)


def test_refusals_name_every_section_and_nothing_is_written(tmp_path: Path) -> None:
    net = random_net(DARKNET, "darknet")
    with pytest.raises(CannotExportError) as caught:
        export_onnx(net, tmp_path / "model.onnx", dynamic_size=True)
    text = str(caught.value)
    line = DARKNET[: DARKNET.index("[connected]")].count("\n") + 1
    inputs = net.layers[14].inputs
    why = f"has weights for {inputs} inputs, so the size cannot be dynamic"
    assert f"<text>:{line}: [connected] (layer 14): {why}" in text
    assert "[local] (layer 10)" in text
    assert list(tmp_path.iterdir()) == []


def test_windows_that_see_nothing_but_padding(tmp_path: Path) -> None:
    cfg = "[net]\nwidth=5\nheight=4\nchannels=2\n[maxpool]\nsize=2\nstride=1\npadding=7\n"
    check(darkbn.load(cfg), tmp_path)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"opset": 12}, "opset must be 13"),
        ({"heads": "boxes"}, "heads must be one of raw, decoded, nms"),
        ({"batch": 0}, "batch must be"),
        ({"nms_kind": "soft", "heads": "nms"}, "nms_kind must be one of"),
        ({"names": ["one"]}, "1 names for 3 classes"),
    ],
)
def test_bad_arguments(options: dict[str, Any], problem: str, tmp_path: Path) -> None:
    net = darkbn.load(networks.TWO_HEADS)
    with pytest.raises(DarkbnError, match=problem):
        export_onnx(net, tmp_path / "model.onnx", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(DarkbnError, match="there is no folder"):
        export_onnx(darkbn.load(networks.CLASSIFIER), tmp_path / "no" / "model.onnx", verify=False)


# -- heads


HEADS = {
    "yolo": (networks.TWO_HEADS, "darknet"),
    "yolo-spread": (networks.TWO_HEADS.replace("num=4", "num=4\nscale_x_y=1.2"), "alexeyab"),
    "yolo-new-coords": (
        networks.TWO_HEADS.replace("num=4", "num=4\nnew_coords=1").replace("=linear\n\n[y", "=logistic\n\n[y"),
        "alexeyab",
    ),
    "classes-differ": (
        networks.TWO_HEADS.replace("classes=3", "classes=2", 1).replace("filters=16", "filters=14", 1),
        "darknet",
    ),
}
REGION = """
[net]
width=12
height=8
channels=3
[convolutional]
filters=16
size=3
pad=1
stride=2
activation=linear
[region]
classes=3
num=2
anchors=1,2,3,4
"""
for dialect in ("darknet", "alexeyab"):
    HEADS[f"region-{dialect}"] = (REGION, dialect)
    HEADS[f"region-softmax-{dialect}"] = (REGION + "softmax=1\n", dialect)
HEADS["region-background"] = (REGION + "softmax=1\nbackground=1\n", "darknet")
HEADS["region-background-logistic"] = (REGION + "background=1\n", "darknet")
HEADS["region-sure"] = (REGION + "softmax=1\nclassfix=-1\n", "alexeyab")
GAUSSIAN = REGION.replace("[region]", "[Gaussian_yolo]").replace("filters=16", "filters=24")
for point in ("center", "left_top", "right_bottom"):
    HEADS[f"gaussian-{point}"] = (GAUSSIAN + f"yolo_point={point}\nscale_x_y=1.1\n", "alexeyab")
for extra in ("", "softmax=1\n", "sqrt=1\n"):
    HEADS[f"detection-{extra.strip()}"] = (
        f"[net]\nwidth=6\nheight=6\nchannels=3\n[connected]\noutput=117\nactivation=linear\n"
        f"[detection]\ncoords=4\nclasses=3\nnum=2\nside=3\n{extra}",
        "darknet",
    )


@pytest.mark.parametrize("heads", ["raw", "decoded", "nms"])
@pytest.mark.parametrize("name", HEADS)
def test_heads(name: str, heads: str, tmp_path: Path) -> None:
    cfg, dialect = HEADS[name]
    net = random_net(cfg, dialect, batch=2)
    result = check(net, tmp_path, heads=heads, threshold=0.1)
    expected = {"raw": [f"layer_{h.context.index}" for h in net.heads], "decoded": ["boxes", "scores"]}
    assert list(result.outputs) == expected.get(heads, ["detections"])
    assert {row.name for row in result.verification.outputs} >= set(result.outputs)
    if heads == "nms":
        x = np.random.default_rng(0).uniform(0, 1, net.input_shape).astype(np.float32)
        (found,) = onnxruntime.InferenceSession(result.path).run(None, {"input": x})
        assert found.shape[1] == 7
        assert (found[:, 2] > 0.1).all()
        assert len(found) > 0


@pytest.mark.parametrize("kind", ["default", "greedynms", "diounms", "cornersnms"])
def test_suppression(kind: str, tmp_path: Path) -> None:
    net = random_net(networks.TWO_HEADS.replace("num=4", f"num=4\nnms_kind={kind}\nbeta_nms=.8"), "alexeyab")
    check(net, tmp_path, heads="nms", threshold=0.15, nms=0.3, batch="dynamic")
    nodes = {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert ("Loop" in nodes) == (kind in ("greedynms", "diounms"))
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    x = np.random.default_rng(0).uniform(0, 1, net.input_shape).astype(np.float32)
    (found,) = session.run(None, {"input": x})
    plain = onnx_model(net, heads="nms", threshold=0.15, nms=0.3, nms_kind="default").SerializeToString()
    (other,) = onnxruntime.InferenceSession(plain).run(None, {"input": x})
    assert (len(found) > len(other)) == (kind in ("greedynms", "diounms"))
    net_without_objects = random_net(networks.TWO_HEADS, "darknet")
    for layer in net_without_objects.layers:
        if layer.type == "convolutional":
            layer.biases[...] = -50
    model = onnx_model(net_without_objects, heads="nms", nms_kind=kind).SerializeToString()
    (none,) = onnxruntime.InferenceSession(model).run(None, {"input": x[:1]})
    assert none.shape == (0, 7)


def test_a_wrong_suppression_is_found(tmp_path: Path) -> None:
    net = random_net(networks.TWO_HEADS, "darknet")
    model = onnx_model(net, heads="nms", threshold=0.1, nms=0.3)
    for entry in model.metadata_props:
        if entry.key == "nms":
            entry.value = "0.9"
    result = verify_onnx(net, model.SerializeToString())
    assert result.first_difference is not None
    assert result.first_difference.name == "detections"


# -- shapes and types


@pytest.mark.parametrize("heads", ["raw", "decoded", "nms"])
@pytest.mark.parametrize("name", ["yolo", "region-alexeyab", "region-softmax-darknet", "gaussian-left_top"])
def test_dynamic_batch_and_size(name: str, heads: str, tmp_path: Path) -> None:
    cfg, dialect = HEADS[name]
    net = random_net(cfg, dialect)
    result = check(net, tmp_path, batch="dynamic", dynamic_size=True, heads=heads, threshold=0.1)
    larger = random_net(cfg, dialect, batch=3, width=32, height=48)
    assert verify_onnx(larger, result.path).good


def test_dynamic_batch_with_recurrent_layers(tmp_path: Path) -> None:
    cfg = "[net]\nbatch=6\ntime_steps=3\ninputs=5\n[rnn]\noutput=4\nhidden=7\n[lstm]\noutput=5\n[gru]\noutput=3\n"
    net = random_net(cfg, "alexeyab", batch=2)
    result = check(net, tmp_path, batch="dynamic")
    assert result.inputs == ("input", "layer_0_state_in", "layer_1_state_in", "layer_1_cell_in", "layer_2_state_in")
    assert set(result.outputs) == {"layer_2", *(name.replace("_in", "_out") for name in result.inputs[1:])}


@pytest.mark.parametrize("options", ["", "peephole=1\n", "bottleneck=1\n", "bottleneck=1\nshortcut=1\npeephole=1\n"])
def test_convolutional_recurrent_layers(options: str, tmp_path: Path) -> None:
    cfg = (
        "[net]\nbatch=4\ntime_steps=4\nwidth=5\nheight=4\nchannels=3\n[crnn]\nshortcut=1\nbatch_normalize=1\nsize=3\n"
        "pad=1\nhidden=2\noutput=3\nactivation=tanh\n"
        f"[conv_lstm]\noutput=3\nsize=3\npad=1\nstate_constrain=1\nactivation=leaky\n{options}[history]\nhistory_size=3\n"
    )
    check(random_net(cfg, "alexeyab"), tmp_path, tolerance=1e-5)


def test_other_batch_than_the_networks(tmp_path: Path) -> None:
    net = random_net(networks.CLASSIFIER, "darknet")
    check(net, tmp_path, batch=5)
    (value,) = onnx.load(tmp_path / "model.onnx").graph.input
    assert [dim.dim_value for dim in value.type.tensor_type.shape.dim] == [5, 2, 8, 8]


@pytest.mark.parametrize("heads", ["raw", "decoded", "nms"])
def test_half_precision(heads: str, tmp_path: Path) -> None:
    net = random_net(networks.TWO_HEADS, "darknet")
    result = export_onnx(net, tmp_path / "model.onnx", heads=heads, float16=True, verify=heads != "nms")
    model = onnx.load(result.path)
    assert {t.data_type for t in model.graph.initializer} >= {onnx.TensorProto.FLOAT16}
    assert {v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)} == {onnx.TensorProto.FLOAT}
    whole = export_onnx(net, tmp_path / "whole.onnx", heads=heads, verify=False)
    assert result.nbytes < whole.nbytes - 2000
    if result.verification:
        assert result.verification.error < 1e-2


def test_half_precision_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    net = random_net(networks.CLASSIFIER, "darknet")
    net.layers[2].biases[3] = 1e5
    with pytest.raises(CannotExportError, match=r"\[connected\] \(layer 2\): biases reach .*float16 ends at 65504"):
        export_onnx(net, tmp_path / "model.onnx", float16=True)


def test_metadata(tmp_path: Path) -> None:
    net = random_net(networks.TWO_HEADS, "alexeyab")
    export_onnx(net, tmp_path / "model.onnx", heads="nms", names=["a", "b", "c"], threshold=0.3)
    said = {e.key: json.loads(e.value) for e in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert said["names"] == ["a", "b", "c"]
    assert said["anchors"] == [[[5, 6], [7, 8]], [[1, 2], [3, 4]]]
    assert said["letterbox"] is False
    assert said["dialect"] == "alexeyab"
    assert said["batchnorm"] == "alexeyab-gpu"
    assert said["threshold"] == 0.3


# -- verification


def broken(net: Any, layer: int, tmp_path: Path) -> Path:
    """A model of the network with one weight of a layer changed."""
    weights = net.layers[layer].weights
    model = onnx_model(net)
    for tensor in model.graph.initializer:
        if tensor.name == f"layer_{layer}.weights":
            values = onnx.numpy_helper.to_array(tensor).copy()
            assert values.shape == weights.shape
            values.flat[0] += 0.05
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    path = tmp_path / "broken.onnx"
    onnx.save(model, path)
    return path


def test_the_first_layer_that_differs_is_named(tmp_path: Path) -> None:
    net = random_net(networks.TWO_HEADS, "darknet")
    result = verify_onnx(net, broken(net, 4, tmp_path))
    assert not result.good
    assert result.first_difference is not None
    assert (result.first_difference.index, result.first_difference.type) == (4, "convolutional")
    assert "layer_4 [convolutional] is the first value that differs" in result.summary()


def test_what_a_network_makes_of_roundings_is_allowed_up_to_its_largest_value() -> None:
    def result(layer: float, output: float, noise: float) -> Verification:
        rows = (LayerError(0, "layer_0", "convolutional", layer, 1.0),)
        return Verification("m", rows, (LayerError(None, "layer_1", "output", output, 1.0),), (), 1e-4, noise, 3)

    assert result(1e-5, 1e-5, 0).good
    assert not result(1e-3, 1e-5, 1).good
    assert not result(1e-5, 0.1, 0).good
    assert result(1e-5, 0.1, 0.01).good
    assert "moves them by 1.0e-02" in result(1e-5, 0.1, 0.01).summary()
    assert not result(1e-5, 0.5, 0.01).good
    assert not result(1e-5, np.inf, np.inf).good
    assert not result(np.nan, 1e-5, 0).good


def test_a_wrong_epsilon_is_found(tmp_path: Path) -> None:
    """What other converters do: epsilon 1e-5 inside of the root where Darknet adds 1e-6 to the root."""
    net = random_net(networks.TWO_HEADS, "darknet")
    for layer in (0, 1):
        net.layers[layer].rolling_variance[...] = 1e-3
    other = darkbn.load(networks.TWO_HEADS, dialect="darknet", batchnorm="pytorch")
    net.save_weights(tmp_path / "net.weights")
    other.load_weights(tmp_path / "net.weights")
    result = verify_onnx(net, onnx_model(other).SerializeToString())
    assert result.first_difference is not None
    assert result.first_difference.index == 0


def test_files_that_are_no_models(tmp_path: Path) -> None:
    net = darkbn.load(networks.CLASSIFIER)
    with pytest.raises(DarkbnError, match="cannot read the file"):
        verify_onnx(net, tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(DarkbnError, match=r"text\.onnx: no valid ONNX model"):
        verify_onnx(net, tmp_path / "text.onnx")
    other = onnx_model(darkbn.load(networks.TWO_HEADS)).SerializeToString()
    with pytest.raises(DarkbnError, match="its input is"):
        verify_onnx(net, other)


def test_a_model_that_computes_something_else_is_not_written(tmp_path: Path) -> None:
    net = random_net(networks.TWO_HEADS, "darknet")
    with pytest.raises(DarkbnError, match=r"model\.onnx is not written: .*layer_\d+"):
        export_onnx(net, tmp_path / "model.onnx", tolerance=1e-12)
    assert list(tmp_path.iterdir()) == []


# -- the reference cases


@pytest.mark.parametrize("case", some("net", "cifar.test__pjreddie", "enet-coco"))
def test_official_networks(case: goldens.Case, tmp_path: Path) -> None:
    for key in case.keys(r"file\..*"):
        path = tmp_path / key.removeprefix("file.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(case[key])
    (tmp_path / "net.cfg").write_text(case["cfg"])
    goldens.helper().write_weights(case.data, tmp_path / "net.weights")
    check(case.load(tmp_path / "net.weights", tmp_path / "net.cfg"), tmp_path)


@pytest.mark.parametrize("heads", ["decoded", "nms"])
@pytest.mark.parametrize("case", some("detect", "mobilenetv2-yolov3-nano-coco-horses"))
def test_detections_of_darknet(case: goldens.Case, heads: str, tmp_path: Path) -> None:
    """The model's outputs are what Darknet found in the photos, without any code but un-letterboxing."""
    if "input-" in case.name:
        pytest.skip("an input, no detections")
    path = goldens.folder() / "models" / case["model"] / case["model"]
    net = case.load(path.with_suffix(path.suffix + ".weights"), path.with_suffix(path.suffix + ".cfg"))
    x = goldens.Case(goldens.folder() / case["input_case"])["tensor"][np.newaxis]
    width, height = map(int, case["image_size"])
    letterbox = bool(case["letterbox"])
    for key in case.keys(r"thresh.*\.detections"):
        threshold = float(key.removesuffix(".detections").removeprefix("thresh"))
        how = {"threshold": threshold, "nms": float(case["nms"])}
        model = onnx_model(net, heads=heads, **how).SerializeToString()
        found = onnxruntime.InferenceSession(model).run(None, {"input": x})
        if heads == "decoded":
            boxes = correct_boxes(found[0][0], width, height, net.width, net.height, letterbox=letterbox)
            scores = np.where(found[1][0] > threshold, found[1][0], 0)
            scores = nms_sort(boxes, scores, how["nms"], kind="greedynms")
            places, classes = np.nonzero(scores)
            rows = np.column_stack([classes, scores[places, classes], boxes[places]])
        else:
            boxes = correct_boxes(found[0][:, 3:], width, height, net.width, net.height, letterbox=letterbox)
            rows = np.column_stack([found[0][:, 1:3], boxes])
        rows = rows[np.argsort(-rows[:, 1], kind="stable")]
        if heads == "nms" and letterbox:
            # Overlap is measured before un-letterboxing, which stretches distances: boxes at the limit may differ.
            assert abs(len(rows) - len(case[key])) <= 1
            continue
        assert rows[:, 0].tolist() == case[key][:, 0].tolist()
        assert goldens.error(rows[:, 1:], case[key][:, 1:], 1.0) < 1e-4
