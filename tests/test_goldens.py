"""darkbn against the real Darknets, on every reference case that is there (see goldens.py). One function per kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_blas import CHECKS as BLAS_CHECKS
from goldens import (
    TOLERANCES,
    Case,
    Results,
    cases,
    check,
    decoded_photo,
    error,
    folder,
    helper,
    parameters,
    set_parameters,
    split_header,
    sub_array,
)
from quirks import QUIRKS

from darkbn import boxes, evaluate, images
from darkbn.detect import read_detections
from darkbn.layers.base import Layer
from darkbn.network import Network

# layer: small networks, one per section and option; several training steps on the same input


def layer(case: Case, device: str) -> Results:
    steps = 1 + max((int(key.split(".")[1]) for key in case.keys(r"train\..*")), default=-1)
    time_steps = int((re.search(r"^time_steps=(\d+)", case["cfg"], re.MULTILINE) or [0, 1])[1])
    net = case.load(batch=case["net_batch"] // time_steps, device=device)
    set_parameters(net, case.tree("init"))
    net.forward(case["input"])
    yield from passes(net, "test", case, besides="indexes")
    if steps:
        net = case.load(train=True, device=device)
        set_parameters(net, case.tree("init"))
        net.seen = region_seen(case)
    for step in range(steps):
        yield from layer_step(net, case, step)


def layer_step(net: Network, case: Case, step: int) -> Results:
    """One forward pass, backward pass and update."""
    net.forward(case["input"], case.data.get("truth"), train=True)
    yield from passes(net, f"train.{step}", case)
    if step == 0:  # where maxima are is recorded in training passes only
        yield from ((key, flat_indexes(net.layers[int(key.split(".")[2])])) for key in case.keys(r"test\.indexes\.\d+"))
    if f"back.{step}.delta_last" in case:
        last = net.layers[-1].delta
        last[...] = case[f"back.{step}.delta_last"].reshape(last.shape)
    if not case.keys(rf"back\.{step}\..*"):
        return
    net.backward()
    yield from passes(net, f"back.{step}", case)
    net.update()
    yield from parameters(net, f"after.{step}", case.keys(rf"after\.{step}\..*"))


def passes(net: Network, prefix: str, case: Case, besides: str = "nothing") -> Results:
    """Results for the keys `prefix.<path>.<layer>`, but for those of one path, and the gradient of the input."""
    for key in case.keys(rf"{re.escape(prefix)}\.(?!{besides}\.).*\.\d+"):
        path, _, index = key.removeprefix(f"{prefix}.").rpartition(".")
        yield key, sub_array(net.layers[int(index)], path)
    if f"{prefix}.input_delta" in case:
        yield f"{prefix}.input_delta", net.input_delta


def flat_indexes(l: Layer) -> np.ndarray:
    """Places of maxima in the whole input, as Darknet counts them; here they are places in their channel."""
    planes = np.arange(l.batch * l.c).reshape(l.batch, l.c, 1, 1)
    return l.indexes + planes * l.h * l.w


def region_seen(case: Case) -> int:
    """Images seen before the case: below 12800 a [region] pulls the boxes of all cells, later those of objects only."""
    match = re.search(r"\[region\].*?num=(\d+)", case["cfg"], re.DOTALL)
    head = case.keys(r"train\.0\.delta\.\d+")
    if not match or not head:
        return 0
    delta = case[head[-1]]
    anchors = int(match[1])
    boxes = delta.reshape(len(delta), anchors, -1, *delta.shape[2:])[:, :, :4]
    return 0 if (boxes != 0).any(axis=2).mean() > 0.5 else 12800


@pytest.mark.parametrize("case", cases("layer"))
def test_layer(case: Case) -> None:
    check(case, layer)


# blas: single functions


@pytest.mark.parametrize("case", cases("blas"))
def test_blas(case: Case) -> None:
    for check_function in BLAS_CHECKS[case.name.split("__")[1].split("-")[0]]:
        check_function(case.data)


# batchnorm: one layer, several training passes without updates


def batchnorm(case: Case, device: str) -> Results:
    net = case.load(train=True, device=device)
    l = net.layers[0]
    set_parameters(net, {0: {key.removeprefix("init."): case[key] for key in case.keys(r"init\..*")}})
    net.forward(case["input"][0])
    yield "test.output", l.output
    for step in range(case["steps"]):
        net.forward(case["input"][step], train=True)
        for key in case.keys(rf"train\.{step}\..*"):
            yield key, getattr(l, key.split(".")[2])
        l.delta[...] = case["delta"][step].reshape(l.delta.shape)
        net.backward()
        for key in case.keys(rf"back\.{step}\..*"):
            name = key.split(".")[2]
            yield key, net.input_delta if name == "input_delta" else getattr(l, name.removeprefix("layer_"))
    net.forward(case["input"][-1])
    yield "test_after.output", l.output


@pytest.mark.parametrize("case", cases("batchnorm"))
def test_batchnorm(case: Case) -> None:
    check(case, batchnorm)


# weights: files that Darknet wrote, and what it read from them


def weights(case: Case, device: str, tmp_path: Path) -> Results:
    if "saved.0.biases" in case:
        yield from saved_weights(case, device, tmp_path)
    if "fused.0.biases" in case:
        yield from unfused_outputs(case, device)
    if "loaded_seen" not in case:
        return
    path = tmp_path / "loaded.weights"
    path.write_bytes(case["file_bytes"].tobytes())
    for prefix, upto in (("loaded", None), ("loaded_upto", case.data.get("upto"))):
        keys = case.keys(rf"{prefix}\..*")
        if not keys:
            continue
        net = case.load(device=device)
        set_parameters(net, case.tree("before"))
        net.load_weights(path, upto)
        if upto is None:
            yield "loaded_seen", net.seen
        yield from parameters(net, prefix, keys)


def saved_weights(case: Case, device: str, tmp_path: Path) -> Results:
    net = case.load(train=True, device=device)
    set_parameters(net, case.tree("saved"))
    net.seen = case["seen"]
    for key, upto in (("file_bytes", None), ("file_bytes_upto", case.data.get("upto"))):
        if key in case:
            net.save_weights(tmp_path / key, upto)
            yield key, np.fromfile(tmp_path / key, np.uint8)


def unfused_outputs(case: Case, device: str) -> Results:
    """Darknet's outputs with and without batch normalization folded into the convolutions."""
    net = case.load(device=device)
    set_parameters(net, case.tree("before"))
    net.forward(case["input"][np.newaxis])
    for prefix in ("output_before", "output_after"):
        for key in case.keys(rf"{prefix}\.\d+"):
            yield key, net.layers[int(key.split(".")[1])].output


@pytest.mark.parametrize("case", cases("weights"))
def test_weights(case: Case, tmp_path: Path) -> None:
    check(case, lambda case, device: weights(case, device, tmp_path))


# net: the official networks with generated weights

#: The reference backend computes networks of up to so many parameters and values of input, too.
SMALL = 3_000_000

STATISTICS = {
    "layer_mean": lambda x: x.mean(dtype=np.float64),
    "layer_std": lambda x: x.std(dtype=np.float64),
    "layer_l2": lambda x: np.sqrt(np.square(x, dtype=np.float64).sum()),
    "layer_maxabs": lambda x: np.abs(x).max(),
}


def network(case: Case, device: str, folder: Path) -> Results:
    net = case.load(folder / "net.weights", folder / "net.cfg", device=device)
    net.forward(helper().net_input(case.data))
    if device == "cpu":
        plan_equals_forward(case, net)
    for index, kind in enumerate(case["layer_type"]):
        assert net.layers[index].type in kind, f"layer {index} is {net.layers[index].type}, expected {kind}"
    for key, function in STATISTICS.items():
        yield key, [function(l.output) for l in net.layers]
    yield "sample_value", [l.output.ravel()[i] for l, i in zip(net.layers, case["sample_index"], strict=True)]
    for key in case.keys(r"output\.\d+"):
        yield key, net.layers[int(key.split(".")[1])].output


#: What a plan may differ by from `forward`, relative to the largest magnitude of an output.
PLAN = 1e-5


def plan_equals_forward(case: Case, net: Network) -> None:
    """A plan must give what the last forward pass, from the first state on, left in the outputs; these stay as they
    were, apart from that."""
    plan = net.compile()
    outputs = [net.layers[index].output for index in plan.outputs]
    expected = [output.copy() for output in outputs]
    net.reset_state()
    x = helper().net_input(case.data)
    limit = next((most for pattern, (most, _) in TOLERANCES.items() if re.match(pattern, case.name)), PLAN)
    wrong = {i: e for i, f, w in zip(plan.outputs, plan(x), expected, strict=True) if not (e := error(f, w)) <= limit}
    for output, values in zip(outputs, expected, strict=True):
        output[...] = values
    assert not wrong, f"plan and forward differ in layers: {wrong}"


def write_network(case: Case, folder: Path) -> None:
    """The files of a network: cfg, what it refers to, weights."""
    (folder / "net.cfg").write_text(case["cfg"])
    for key in case.keys(r"file\..*"):
        path = folder / key.removeprefix("file.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(case[key])
    with (folder / "net.weights").open("wb") as file:
        file.write(np.array([0, 2, 0, 0, 0], "<i4").tobytes())
        for row in helper().layout(case.data):
            for chunk in parameter_chunks(case["seed"], *row):
                file.write(chunk.astype("<f4").data)


#: Parameters as functions of uniform numbers in [0, 1); weights are then scaled by sqrt(3 * gain / fan_in).
PARAMETERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "weights": lambda u: 2 * u - 1,
    "biases": lambda u: (u - 0.5) * 0.2,
    "rolling_mean": lambda u: (u - 0.5) * 0.2,
    "scales": lambda u: 0.8 + 0.4 * u,
    "rolling_variance": lambda u: 0.5 + u,
}


def parameter_chunks(seed: int, layer: int, name: str, count: int, fan_in: int, gain: float) -> Iterator[np.ndarray]:
    """What the helper's `array` gives, in pieces that stay in the cache: the largest arrays have 200 million values."""
    leaf, size = name.rpartition(".")[2], 1 << 15
    scale = np.sqrt(3 * gain / fan_in) if leaf == "weights" else 1.0
    ramp = np.arange(size, dtype=np.uint64) * np.uint64(helper().GOLDEN)
    first = first_state(seed, layer, name)
    for start in range(0, count, size):
        state = (first + start * helper().GOLDEN) & helper().MASK
        mixed = mix(ramp[: min(size, count - start)] + np.uint64(state))
        yield PARAMETERS[leaf](mixed * 2.0**-24) * scale


def first_state(seed: int, layer: int, name: str) -> int:
    """State of the generator (splitmix64) for the first element of an array."""
    make = helper()
    key = make._fnv1a(name) ^ ((layer + 1) * 0xD1B54A32D192ED03) ^ (seed * 0xA0761D6478BD642F)
    with np.errstate(over="ignore"):
        base = make._mix(np.array([key & make.MASK], dtype=np.uint64))[0]
    return int(base) + make.GOLDEN


def mix(z: np.ndarray) -> np.ndarray:
    """24 random bits of each state; in place, which is three times faster than the helper's."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z ^= z >> np.uint64(shift)
        z *= np.uint64(factor)
    z ^= z >> np.uint64(31)
    z >>= np.uint64(40)
    return z


@pytest.mark.skipif(not folder().exists(), reason=f"no folder {folder()}: set DARKBN_REFERENCE")
def test_generated_weights_are_the_helpers() -> None:
    row = (3, "uz.weights", 100_000, 17, 1.23)
    made = np.concatenate(list(parameter_chunks(5, *row))).astype(np.float32)
    assert np.array_equal(made, helper().array(5, *row))


@pytest.mark.parametrize("case", cases("net"))
def test_network(case: Case, tmp_path: Path) -> None:
    write_network(case, tmp_path)
    small = case["layout_count"].sum() + case["inputs"] < SMALL
    check(case, lambda case, device: network(case, device, tmp_path), ("cpu", "reference") if small else ("cpu",))


# box: measures of overlap and their gradients, decoding, un-letterboxing, suppression


def box(case: Case, device: str) -> Results:
    for key in case.keys("iou|giou|diou|ciou|intersection|union|rmse"):
        yield key, getattr(boxes, key)(case["a"], case["b"])
    for key in case.keys(r"diounms_beta.*"):
        yield key, boxes.diou(case["a"], case["b"], float(key.removeprefix("diounms_beta")))
    for key in case.keys(r"dx\..*"):
        yield key, boxes.iou_gradient(case["a"], case["b"], boxes.IOU_KINDS[key.removeprefix("dx.")])
    for key in case.keys(r"decode\..*\.box"):
        x = case[key.replace(".box", ".x")]
        yield key, boxes.decode(x, case["decode.anchors"], *case["decode.net"], new_coords="coords1" in key)
    for key in case.keys(r"correct\.\d+\.out"):
        yield key, corrected_boxes(case, case[key.replace(".out", ".args")])
    for key in case.keys(r".*\..*\.prob"):
        yield from suppressed_boxes(case, key.removesuffix(".prob"))


def corrected_boxes(case: Case, args: np.ndarray) -> np.ndarray:
    *sizes, relative, letterbox = map(int, args)
    letterbox |= case.oracle == "pjreddie"  # which always un-letterboxes
    return boxes.correct_boxes(case["correct.bbox"], *sizes, letterbox=bool(letterbox), relative=bool(relative))


def suppressed_boxes(case: Case, name: str) -> Results:
    """Objectness and probabilities after suppression, in the order in which Darknet leaves the boxes."""
    kind, threshold = name.split(".", 1)
    objectness, probabilities = case["objectness"], case["prob"]
    if kind == "obj":
        objectness, probabilities = boxes.nms_obj(case["bbox"], objectness, probabilities, float(threshold))
    else:
        kind = "default" if kind == "sort" else kind
        probabilities = boxes.nms_sort(case["bbox"], probabilities, float(threshold), objectness=objectness, kind=kind)
    place = {row.tobytes(): index for index, row in enumerate(case["bbox"])}
    order = [place[row.tobytes()] for row in case[f"{name}.bbox"]]
    yield f"{name}.objectness", objectness[order]
    yield f"{name}.prob", probabilities[order]


@pytest.mark.parametrize("case", cases("box"))
def test_box(case: Case) -> None:
    check(case, box, ("cpu",))


# image: decoding, scaling, cutting, turning, colours


def image(case: Case, device: str, folder: Path) -> Results:
    if "photo" in case:
        yield "bytes", images.read_pixels(photo(case)).transpose(2, 0, 1)
    for name in case.data.get("names", ()):
        yield from decoded_files(case, str(name), folder)
    if "sizes" in case or "hsv" in case:
        source = case["source"]
        for pattern, function in IMAGE_FUNCTIONS.items():
            for key in case.keys(pattern):
                match, args = re.fullmatch(pattern, key), case.data.get(f"{key}.args", ())
                yield key, function(case.data.get(f"{key}.source", source), device, *match.groups(), *args)


def photo(case: Case) -> Path:
    return folder() / "images" / f"{case['photo']}.jpg"


def decoded_files(case: Case, name: str, folder: Path) -> Results:
    path = folder / name
    path.write_bytes(case[f"file.{name}"].tobytes())
    for key, channels in (("color", 3), ("native", 0), ("gray1", 1)):
        if f"{key}.{name}" in case:
            yield f"{key}.{name}", images.load_image(path, channels)
    if f"resized.{name}" in case:
        h, w = case[f"resized.{name}"].shape[1:]
        yield f"resized.{name}", images.resize_image(images.load_image(path), w, h)


#: Keys of the results: the function of the source image, the device, the numbers in the key, those in `<key>.args`.
IMAGE_FUNCTIONS: dict[str, Callable[..., Any]] = {
    r"resize\.(?:lastrow\.)?(\d+)x(\d+)": lambda x, d, w, h: images.resize_image(x, int(w), int(h), device=d),
    r"letterbox\.(\d+)x(\d+)": lambda x, d, w, h: images.letterbox_image(x, int(w), int(h), device=d),
    r"center_crop\.(\d+)x(\d+)": lambda x, d, w, h: images.center_crop_image(x, int(w), int(h), device=d),
    r"resize_min\.(\d+)": lambda x, d, size: images.resize_min(x, int(size), device=d),
    r"resize_max\.(\d+)": lambda x, d, size: images.resize_max(x, int(size), device=d),
    r"crop\.\d+": lambda x, d, *args: images.crop_image(x, *map(int, args)),
    r"rotate_crop\.\d+": lambda x, d, rad, s, w, h, dx, dy, aspect: images.rotate_crop_image(
        x, rad, s, int(w), int(h), dx, dy, aspect, device=d
    ),
    r"rotate\.\d+": lambda x, d, rad: images.rotate_image(x, rad, device=d),
    r"rotate_cw(\d+)": lambda x, d, times: images.rotate_image_cw(x, int(times)),
    r"flip": lambda x, d: images.flip_image(x),
    r"rgbgr": lambda x, d: images.rgbgr_image(x),
    r"hsv": lambda x, d: images.rgb_to_hsv(x, device=d),
    r"rgb_again": lambda x, d: images.hsv_to_rgb(images.rgb_to_hsv(x, device=d), device=d),
    r"distort\.\d+": lambda x, d, *args: images.distort_image(x, *args, device=d),
    r"saturate\.(.*)": lambda x, d, s: images.saturate_image(x, float(s), device=d),
    r"exposure\.(.*)": lambda x, d, s: images.exposure_image(x, float(s), device=d),
    r"hue\.(.*)": lambda x, d, s: images.hue_image(x, float(s), device=d),
    r"normalize": lambda x, d: images.normalize_image(x),
    r"translate\.(.*)": lambda x, d, s: images.translate_image(x, float(s)),
    r"scale\.(.*)": lambda x, d, s: images.scale_image(x, float(s)),
    r"grayscale": lambda x, d: images.grayscale_image(x),
    r"threshold\.(.*)": lambda x, d, s: images.threshold_image(x, float(s)),
    r"constrain": lambda x, d: images.constrain_image(x),
}


@pytest.mark.parametrize("case", cases("image"))
def test_image(case: Case, tmp_path: Path) -> None:
    check(case, lambda case, device: image(case, device, tmp_path))


# detect: network inputs from photos, heads and detections of trained models


def detection(case: Case, device: str) -> Results:
    if "tensor" in case:
        yield "tensor", network_input(case, device)
        return
    net = model(case, device)
    tensor = Case(folder() / case["input_case"])["tensor"]
    net.forward(tensor[np.newaxis])
    for index in case["head_layers"]:
        yield f"head.{index}", net.layers[index].output
    for key in case.keys(r"thresh.*\.detections"):
        prefix = key.removesuffix("detections")
        threshold = float(prefix.removeprefix("thresh").removesuffix("."))
        rows = np.concatenate([head.detections(0, threshold, net.threads) for head in net.heads])
        yield f"{prefix}boxes_before_nms", len(rows)
        yield f"{prefix}class_scores_before_nms", np.count_nonzero(rows[:, 5:])
        how = {"threshold": threshold, "nms": case["nms"], "letterbox": bool(case["letterbox"])}
        found = read_detections(net, 0, *map(int, case["image_size"]), **how)
        yield f"{key}.class", [one.class_id for one in found]
        yield f"{key}.values", [(one.probability, *one.box) for one in found]


def model(case: Case, device: str) -> Network:
    path = folder() / "models" / case["model"] / case["model"]
    return case.load(path.with_name(path.name + ".weights"), path.with_name(path.name + ".cfg"), device=device)


def network_input(case: Case, device: str) -> np.ndarray:
    pixels = decoded_photo(case)
    pixels = images.read_pixels(photo(case)) if pixels is None else pixels
    place = images.letterbox_image if case["letterbox"] else images.resize_image
    h, w = case["tensor"].shape[1:]
    return place(pixels, w, h, device=device)


@pytest.mark.parametrize("case", cases("detect"))
def test_detect(case: Case) -> None:
    check(case, detection, ("cpu",))


@pytest.mark.parametrize("case", [case for case in cases("detect") if "input-" not in case.id])
def test_photo(case: Case) -> None:
    """From the photo itself every object above 0.3 is found: probability within 0.02, box within 0.01."""
    found = model(case, "cpu").detect(photo(case), 0.25, case["nms"], bool(case["letterbox"]))
    for kind, probability, *box in case["thresh0.25.detections"]:
        alike = [one for one in found if one.class_id == kind and np.abs(np.subtract(one.box, box)).max() <= 0.01]
        assert probability <= 0.3 or any(abs(one.probability - probability) <= 0.02 for one in alike)


# lr: the rate of each iteration


def learning_rate(case: Case, device: str) -> Results:
    net = case.load(train=True, device=device)
    rates = []
    for batch in case["current_batch"]:
        net.seen = int(batch) * net.batch * net.subdivisions
        rates.append(net.learning_rate)
    yield "rate", rates


@pytest.mark.parametrize("case", cases("lr"))
def test_learning_rate(case: Case) -> None:
    check(case, learning_rate, ("cpu",))


# train: Darknet's own training loop


def training(case: Case, device: str, folder: Path) -> Results:
    path = folder / "initial.weights"
    path.write_bytes(case["initial_weights"].tobytes())
    net = case.load(path, train=True, device=device)
    net.seen = case["seen0"]
    loop: dict[str, list[float]] = {"loss": [], "rate": [], "seen": []}
    for iteration in range(case["iterations"]):
        losses = [
            net.train_step(x, truth)
            for x, truth in zip(
                np.split(case["x"][iteration], net.subdivisions),
                np.split(case["truth"][iteration], net.subdivisions),
                strict=True,
            )
        ]
        loop["loss"].append(sum(losses) / (net.subdivisions * net.batch))
        loop["rate"].append(net.learning_rate)
        loop["seen"].append(net.seen)
        yield from parameters(net, f"after.{iteration}", case.keys(rf"after\.{iteration}\..*"))
    yield from loop.items()
    net.save_weights(folder / "final.weights")
    header, values = split_header((folder / "final.weights").read_bytes())
    yield "final_header", header
    yield "final_weights", values


@pytest.mark.parametrize("case", cases("train"))
def test_training(case: Case, tmp_path: Path) -> None:
    check(case, lambda case, device: training(case, device, tmp_path))


# rnn: characters one by one


def characters(case: Case, device: str) -> Results:
    net = case.load(device=device)
    set_parameters(net, case.tree("init"))
    outputs: dict[str, list[Any]] = {key: [] for key in case.keys(r"output\.\d+")}
    for character in case["sequence"]:
        net.forward(np.eye(case["inputs"], dtype=np.float32)[character][np.newaxis])
        for key, rows in outputs.items():
            rows.append(net.layers[int(key.split(".")[1])].output.copy())
    yield from outputs.items()


@pytest.mark.parametrize("case", cases("rnn"))
def test_characters(case: Case) -> None:
    check(case, characters)


# map: what `detector map` reports of stored detections


def mean_average_precision(case: Case, device: str) -> Results:
    labels = [case[f"labels.{index}"] for index in range(case["images"])]
    for key in case.keys(r"run\.\d+\.map"):
        run = key.removesuffix("map")
        arguments = (case["detections"], labels, case["classes"], case[f"{run}iou_thresh"], case[f"{run}points"])
        yield key, evaluate.mean_average_precision(*arguments)
        scores = evaluate.evaluate(*arguments, confidence=case["thresh_calc_avg_iou"], order="given")
        yield f"{run}ap_percent", [round(100 * one.average_precision, 2) for one in scores.classes]
        yield f"{run}tp_fp_per_class", [(one.true_positives, one.false_positives) for one in scores.classes]
        yield f"{run}tp_fp_fn", (scores.true_positives, scores.false_positives, scores.false_negatives)
        yield f"{run}average_iou_percent", round(100 * scores.average_iou, 2)
        yield f"{run}counts", (scores.detections, scores.labels)


@pytest.mark.parametrize("case", cases("map"))
def test_mean_average_precision(case: Case) -> None:
    check(case, mean_average_precision, ("cpu",))


# What the folder holds is known


def all_cases() -> list[Case]:
    return [Case(path) for path in sorted(folder().glob("*__*.npz"))]


def test_every_kind_has_a_test() -> None:
    tested = set(re.findall(r'cases\("(\w+)"\)', Path(__file__).read_text()))
    assert {case.kind for case in all_cases()} <= tested


def test_every_quirk_is_declared() -> None:
    assert sorted({quirk for case in all_cases() for quirk in case.quirks} - QUIRKS.keys()) == []


def test_quirks_say_which_kinds_they_decide() -> None:
    found = {(quirk, case.kind) for case in all_cases() for quirk in case.quirks if quirk in QUIRKS}
    assert sorted(found - {(name, kind) for name, quirk in QUIRKS.items() for kind in quirk.kinds}) == []


def test_an_unknown_quirk_is_named() -> None:
    case = Case(Path("layer__new__pjreddie.npz"))
    case.__dict__["data"] = {"quirks": np.array(["ab-unheard-of"])}
    with pytest.raises(AssertionError, match="layer__new__pjreddie names ab-unheard-of: declare"):
        check(case, layer)


def test_pictures_are_compared_whole() -> None:
    """Every result of an image case has a function."""
    known = r"quirks|note|oracle|compile|photo|names|sizes|lastrow_heights|random\.\w+|.*\.args|.*source"
    inputs = rf"{known}|(file|color|native|gray1|resized)\..*|bytes"
    for case in all_cases():
        if case.kind == "image":
            results = case.keys(rf"(?!({inputs})$).*")
            assert [key for key in results if not any(re.fullmatch(p, key) for p in IMAGE_FUNCTIONS)] == []
