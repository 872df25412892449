"""Sections of the older networks and of attention: gradients, options, sizes, errors."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradient_check import check_gradients, differences

import darkbn
from darkbn.backend import get_backend
from darkbn.errors import CfgError, TrainingError
from darkbn.layers.base import Context
from darkbn.layers.contrastive import ContrastiveLayer, make_contrastive_layer
from darkbn.layers.crop import CropLayer, make_crop_layer
from darkbn.layers.deconvolutional import make_deconvolutional_layer
from darkbn.layers.detection import DetectionLayer, make_detection_layer
from darkbn.layers.empty import make_empty_layer
from darkbn.layers.gaussian_yolo import GaussianYoloLayer, make_gaussian_yolo_layer
from darkbn.layers.implicit import make_implicit_layer
from darkbn.layers.iseg import INSTANCES, IsegLayer, make_iseg_layer
from darkbn.layers.l2norm import make_l2norm_layer
from darkbn.layers.local import make_local_layer
from darkbn.layers.local_avgpool import make_local_avgpool_layer
from darkbn.layers.normalization import make_normalization_layer
from darkbn.layers.reorg3d import make_reorg3d_layer
from darkbn.layers.yolo import make_yolo_layer
from darkbn.network import Network
from darkbn.state import NetworkState

CONV = "[convolutional]\nfilters=4\nsize=3\npad=1\nactivation=logistic"


def description(*sections: str, w: int = 6, h: int = 5, c: int = 3, batch: int = 2) -> str:
    return "\n\n".join([f"[net]\nbatch={batch}\nwidth={w}\nheight={h}\nchannels={c}", *sections, ""])


def section(name: str, *, key: str = "", **options: Any) -> str:
    """The text of a section; `source` is written as from=."""
    lines = [f"{'from' if k == 'source' else k}={v}" for k, v in options.items()]
    return "\n".join([f"[{name}]", *lines])


# Gradients

GRADIENTS: dict[str, tuple[str, str]] = {
    "deconvolutional": (
        "darknet",
        description(CONV, section("deconv", filters=3, size=4, stride=2, padding=1, activation="tanh")),
    ),
    "deconvolutional first, batch normalization": (
        "darknet",
        description(section("deconv", filters=3, size=3, stride=2, pad=1, batch_normalize=1, activation="logistic")),
    ),
    "local": ("alexeyab", description(CONV, section("local", filters=3, size=3, activation="swish"))),
    "local, padded": (
        "darknet",
        description(CONV, section("local", filters=3, size=5, stride=2, pad=1, activation="logistic")),
    ),
    "normalization": (
        "darknet",
        description(CONV, section("normalization", alpha=0.3, beta=0.75, kappa=2, size=3), c=2),
    ),
    "normalization, even size": (
        "alexeyab",
        description(section("lrn", alpha=0.01, beta=0.6, size=4), c=9),
    ),
    "l2norm": ("darknet", description(CONV, section("l2norm"))),
    "l2norm without image": (
        "darknet",
        "[net]\nbatch=2\ninputs=7\n\n[connected]\noutput=5\nactivation=tanh\n\n[l2norm]\n",
    ),
    "scale_channels": (
        "alexeyab",
        description(
            CONV,
            section("local", filters=4, size=5, activation="logistic"),
            section("local_avgpool", size=2, stride=2, padding=0),
            section("scale_channels", source=-3, activation="mish"),
            w=6,
            h=6,
        ),
    ),
    "scale_channels by pixel": (
        "alexeyab",
        description(
            CONV,
            section("convolutional", filters=1, activation="logistic"),
            section("scale_channels", source=-2, scale_wh=1, activation="swish"),
            CONV,
        ),
    ),
    "sam": ("alexeyab", description(CONV, CONV, section("sam", source=-2, activation="logistic"), CONV)),
    "sam with itself": ("alexeyab", description(CONV, section("sam", source=-1))),
    "reorg3d": ("alexeyab", description(CONV, section("reorg3d", stride=2), CONV, w=6, h=4)),
    "reorg3d reverse": ("alexeyab", description(CONV, section("reorg3d", stride=2, reverse=1), CONV)),
    "local_avgpool": ("alexeyab", description(CONV, section("local_avgpool", size=3, stride=2))),
    "local_avgpool, strides": ("alexeyab", description(CONV, section("local_avg", size=3, stride_x=1, stride_y=2))),
    "implicit": ("alexeyab", description(CONV, section("implicit", filters=4, atoms=5), CONV)),
    "empty": ("alexeyab", description(CONV, section("empty"), CONV, section("silence"))),
    "empty first": ("alexeyab", description(section("empty"), CONV)),
    "crop": ("darknet", description(CONV, section("crop", crop_height=3, crop_width=4, flip=1), CONV)),
    "crop, everything": (
        "alexeyab",
        description(
            "[convolutional]\nfilters=3\nactivation=logistic",
            section(
                "crop",
                crop_height=4,
                crop_width=3,
                flip=1,
                angle=20,
                saturation=1.5,
                exposure=1.5,
                shift=0.1,
                noadjust=1,
            ),
        ),
    ),
    **{
        f"shortcut, {kind}, {normalization}": (
            "alexeyab",
            description(
                CONV,
                CONV.replace("filters=4", f"filters={filters}"),
                CONV,
                section(
                    "shortcut", source="-2,0", activation="mish", weights_type=kind, weights_normalization=normalization
                ),
            ),
        )
        for kind, filters in (("per_feature", 3), ("per_channel", 6))
        for normalization in ("none", "relu", "softmax")
    },
    "convolutional, antialiasing": (
        "alexeyab",
        description(CONV + "\nbatch_normalize=1\nstride=2\nantialiasing=1", CONV + "\nstride_x=2\nantialiasing=2"),
    ),
    "maxpool, antialiasing": (
        "alexeyab",
        description(CONV, section("maxpool", size=2, stride=2, antialiasing=1), section("maxpool", antialiasing=2)),
    ),
    "share_index": (
        "alexeyab",
        description(*(f"{CONV}\nbatch_normalize=1\n{share}" for share in ("", "share_index=0", "share_index=-2")), c=4),
    ),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name: str) -> None:
    dialect, cfg = GRADIENTS[name]
    check_gradients(cfg, dialect)


# What goes in and out


def net_of(*sections: str, dialect: str = "alexeyab", train: bool = False, **sizes: int) -> Network:
    return darkbn.load(description(*sections, **sizes), dialect=dialect, device="reference", train=train, seed=1)


def test_l2norm_passes_delta_on_like_darknet_unless_gradients_are_exact() -> None:
    for convention, imitated in (("darknet", True), ("exact", False)):
        net = darkbn.load(description(section("l2norm")), dialect="darknet", device="reference", batchnorm=convention)
        x = np.random.default_rng(0).standard_normal(net.input_shape)
        output = net.forward(x, train=True)
        np.testing.assert_allclose(np.square(output).sum(axis=1), 1)
        net.layers[0].delta[...] = 1
        net.backward()
        assert np.array_equal(net.input_delta, np.ones(net.input_shape)) == imitated


def test_l2norm_of_zeros_is_zero() -> None:
    net = darkbn.load(description(section("l2norm")), dialect="darknet", device="cpu")
    assert not net.forward(np.zeros(net.input_shape)).any()


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_reorg3d_reverse_is_the_inverse(device: str) -> None:
    cfg = description(section("reorg3d", stride=2), section("reorg3d", stride=2, reverse=1), w=6, h=4)
    net = darkbn.load(cfg, device=device, batch=2)
    x = np.random.default_rng(0).standard_normal(net.input_shape).astype(np.float32)
    np.testing.assert_array_equal(net.forward(x), x)
    assert net.layers[0].output[1, 3 * 3 + 2, 1, 2] == x[1, 2, 3, 5]  # dy = dx = 1


def test_empty_is_the_layer_before() -> None:
    net = net_of(CONV, section("empty"), train=True)
    assert net.layers[1].output is net.layers[0].output
    assert net.layers[1].delta is net.layers[0].delta
    net.resize(8, 7)
    assert net.layers[1].output is net.layers[0].output
    assert net.layers[1].output.shape == (2, 4, 7, 8)


def test_implicit_learns_and_starts_round_its_mean() -> None:
    l = make_implicit_layer(2, 5.0, 0.25, 3, 4, seed=0, backend=get_backend("reference"))
    assert ((l.weights >= 4.75) & (l.weights <= 5.25)).all()
    assert np.ptp(l.weights) > 0.1
    l.forward(NetworkState())
    assert l.output.shape == (2, 3, 4, 1)
    assert (l.output.reshape(2, -1) == l.weights).all()


def test_shared_parameters_are_the_same_arrays() -> None:
    net = net_of(CONV + "\nbatch_normalize=1", CONV + "\nbatch_normalize=1\nshare_index=0", c=4, train=True)
    first, second = net.layers
    for name in ("weights", "weight_updates", "biases", "scales", "scale_updates", "rolling_mean"):
        assert getattr(first, name) is getattr(second, name)
    for name in ("x", "mean", "variance", "output", "delta"):
        assert getattr(first, name) is not getattr(second, name)


def test_shared_parameters_take_a_step_for_each_layer() -> None:
    """As in Darknet: w += rate*u for the first layer, then momentum, then the same for the second."""
    cfg = description(CONV, CONV + "\nshare_index=0", c=4).replace("batch=2", "batch=2\ndecay=0\nlearning_rate=0.5")
    net = darkbn.load(cfg, dialect="alexeyab", device="reference", train=True)
    before, updates = net.layers[0].weights.copy(), np.ones_like(net.layers[0].weights)
    net.layers[0].weight_updates[...] = updates
    net.update()
    np.testing.assert_allclose(net.layers[1].weights - before, 0.5 / 2 * (1 + 0.9) * updates)


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_antialiasing_blurs_with_the_stride(device: str) -> None:
    """A picture whose rows alternate becomes grey; the border reads zeros with the 3 x 3 blur only."""
    x = np.zeros((1, 1, 6, 6))
    x[:, :, ::2] = 1
    one = "[maxpool]\nsize=1\nstride=2\nantialiasing={}\n"
    for kind, expected in ((1, [[0.375, 0.5, 0.5], [0.375, 0.5, 0.5], [0.375, 0.5, 0.5]]), (2, np.full((3, 3), 0.5))):
        net = darkbn.load(description(one.format(kind), w=6, h=6, c=1, batch=1), dialect="alexeyab", device=device)
        np.testing.assert_allclose(net.forward(x)[0, 0], expected)


def test_antialiased_layers_are_saved_and_resized_as_others(tmp_path: Path) -> None:
    cfg = description(CONV + "\nbatch_normalize=1\nstride=2{}", c=2)
    plain, blurred = (darkbn.load(cfg.replace("{}", a), dialect="alexeyab", seed=3) for a in ("", "\nantialiasing=1"))
    blurred.save_weights(tmp_path / "blurred.weights")
    plain.load_weights(tmp_path / "blurred.weights")
    assert not plain.warnings
    np.testing.assert_array_equal(plain.layers[0].weights, blurred.layers[0].weights)
    assert blurred.layers[0].output_shape == plain.layers[0].output_shape == (1, 4, 3, 3)
    blurred.resize(8, 9)
    assert blurred.forward(np.zeros((1, 2, 9, 8))).shape == (1, 4, 5, 4)
    before = blurred.layers[0].weights.copy()
    blurred.train_step(np.ones((1, 2, 9, 8)), None)
    assert (blurred.layers[0].weights != before).any()  # by weight decay


def test_weighted_shortcut_starts_as_the_mean() -> None:
    sections = (CONV, CONV, section("shortcut", source=0, weights_type="per_channel", weights_normalization="relu"))
    net = net_of(*sections, c=4)
    output = net.forward(np.random.default_rng(0).standard_normal(net.input_shape))
    mean = (net.layers[0].output + net.layers[1].output) / 2
    np.testing.assert_allclose(output, mean, rtol=1e-4)
    assert net.layers[2].weights.shape == (2, 4)


def test_logistic_descends_its_loss() -> None:
    """delta is minus the slope of the cost by the input; certain and right costs nothing."""
    net = darkbn.load("[net]\ninputs=6\n\n[logistic]\n", device="reference", train=True)
    x = np.array([[-3.0, -1, 0, 1, 40, -800]])
    truth = np.array([[0.0, 1, 0.3, 1, 1, 0]])
    net.forward(x, truth, train=True)
    delta = net.layers[0].delta.copy()

    def cost() -> float:
        net.forward(x, truth, train=True)
        return net.cost or 0.0

    slopes = np.array([slope for _, slope in differences(cost, x)])
    np.testing.assert_allclose(delta[0], -slopes, atol=1e-8)
    assert net.layers[0].loss[0, 4:].tolist() == pytest.approx([0, 0])


# [crop]


def crop_pass(l: CropLayer, x: np.ndarray, train: bool, seed: int = 0) -> np.ndarray:
    l.forward(NetworkState(input=x, train=train, rng=np.random.default_rng(seed)))
    return np.array(l.output)


def crop_layer(**options: Any) -> CropLayer:
    values = {"flip": False, "angle": 0.0, "saturation": 1.0, "exposure": 1.0, "noadjust": True, **options}
    return make_crop_layer(4, 9, 10, 3, 5, 7, backend=get_backend("reference"), **values)


PICTURES = np.random.default_rng(3).uniform(0.2, 0.8, (4, 3, 9, 10))


def test_crop_takes_the_centre_in_tests() -> None:
    l = crop_layer(flip=True, angle=30.0, saturation=2.0, exposure=2.0, shift=0.5)
    np.testing.assert_array_equal(crop_pass(l, PICTURES, train=False), PICTURES[:, :, 2:7, 1:8])


def test_crop_takes_any_window_in_training() -> None:
    l = crop_layer(flip=True)
    found = set()
    for seed in range(12):
        output = crop_pass(l, PICTURES, train=True, seed=seed)
        for sample, (top, left, mirrored) in enumerate(l.places):
            picture = PICTURES[sample, :, :, ::-1] if mirrored else PICTURES[sample]
            np.testing.assert_array_equal(output[sample], picture[:, top : top + 5, left : left + 7])
            found.add((int(top), int(left), bool(mirrored)))
    assert {top for top, _, _ in found} == set(range(5))
    assert {left for _, left, _ in found} == set(range(4))
    assert {mirrored for _, _, mirrored in found} == {True, False}


def test_crop_turns_round_the_centre() -> None:
    """A picture that is the distance from the centre of turning stays what it is."""
    rows, columns = np.mgrid[:9, :10]
    x = np.broadcast_to((rows - 4.5) ** 2 + (columns - 5) ** 2, (4, 3, 9, 10)) * 1.0
    l = crop_layer(angle=10.0)
    output = crop_pass(l, x, train=True)
    for sample, (top, left, _) in enumerate(l.places):
        inner = (slice(max(1 - top, 0), 8 - top), slice(max(1 - left, 0), 9 - left))
        expected = x[sample, :, top : top + 5, left : left + 7]
        assert np.abs(output[sample][:, *inner] - expected[:, *inner]).max() < 0.6  # of bilinear values
    assert (np.abs(l.angles) <= math.radians(10)).all()
    assert (l.angles != 0).all()


def test_crop_changes_saturation_and_value() -> None:
    l = crop_layer(saturation=1.3, exposure=1.2)
    output = crop_pass(l, PICTURES, train=True)
    for sample, (top, left, _) in enumerate(l.places):
        window = PICTURES[sample, :, top : top + 5, left : left + 7]
        saturation, exposure = l.factors[sample]
        assert 1 / 1.3 - 1e-12 <= saturation <= 1.3
        assert 1 / 1.2 - 1e-12 <= exposure <= 1.2
        value = window.max(axis=0)
        np.testing.assert_allclose(output[sample].max(axis=0), np.minimum(exposure * value, 1))
        spread = (value - window.min(axis=0)) / value
        unclipped = (saturation * spread < 1) & (exposure * value < 1)
        found = 1 - output[sample].min(axis=0) / output[sample].max(axis=0)
        np.testing.assert_allclose(found[unclipped], saturation * spread[unclipped])


def test_crop_shifts_channels() -> None:
    l = crop_layer(shift=0.4)
    output = crop_pass(l, np.zeros_like(PICTURES), train=True)
    assert (np.abs(l.shifts) <= 0.2).all()
    np.testing.assert_array_equal(output, np.broadcast_to(l.shifts[:, np.newaxis, np.newaxis], output.shape))


def test_crop_resizes_by_the_share_of_the_height() -> None:
    net = net_of(section("crop", crop_height=4, crop_width=4), w=6, h=5)
    net.resize(12, 10)
    assert net.layers[0].output.shape == (1, 3, 8, 9)
    net.resize(6, 5)
    assert net.layers[0].output.shape == (1, 3, 4, 4)


# [detection]


def test_detection_gives_boxes_relative_to_the_picture() -> None:
    cfg = "[net]\nbatch=2\ninputs=44\n\n[detection]\nclasses=1\ncoords=4\nside=2\nnum=2\nsqrt=1\n"
    net = darkbn.load(cfg, device="cpu", batch=2)
    x = np.zeros((2, 44), np.float32)
    x[1, 2] = 0.8  # class of cell 2: row 1, column 0
    x[1, 4 + 2 * 2 + 1] = 0.5  # confidence of its second box
    x[1, 12 + (2 * 2 + 1) * 4 :][:4] = 0.5, 0.25, 0.5, 0.7
    net.forward(x)
    head = net.layers[0]
    assert isinstance(head, DetectionLayer)
    np.testing.assert_allclose(head.detections(1, 0.3), [[0.25, 0.625, 0.25, 0.49, 0.5, 0.4]], rtol=1e-6)
    assert head.detections(1, 0.4).shape == (0, 6)
    assert head.detections(0, 0.0).shape == (0, 6)


def detection_loss(truth: np.ndarray, output: np.ndarray, seen: int = 0, **options: Any) -> DetectionLayer:
    l = make_detection_layer(1, 11, 2, 1, 1, context={"backend": get_backend("reference")}, **options)
    l.forward(NetworkState(input=output, truth=truth, train=True, seen=seen))
    return l


def test_detection_random_picks_boxes_at_first_only() -> None:
    truth = np.array([[1, 1, 0.5, 0.5, 0.5, 0.5]])
    output = np.array([[0, 0, 0, 0.5, 0.5, 0.5, 0.5, 0.9, 0.9, 0.1, 0.1]])  # the first box is responsible
    picked = set()
    for seed in range(8):
        l = make_detection_layer(1, 11, 2, 1, 1, random=1.0, context={"backend": get_backend("reference")})
        l.forward(NetworkState(input=output, truth=truth, train=True, rng=np.random.default_rng(seed)))
        picked.add(int(l.delta[0, 1:3].argmax()))
    assert picked == {0, 1}
    assert detection_loss(truth, output, seen=64000, random=1.0).delta[0, 1:3].tolist() == [1, 0]


def test_detection_takes_the_nearest_box_where_all_are_far() -> None:
    truth = np.array([[1, 1, 0.5, 0.5, 0.5, 0.5]])
    output = np.array([[0.0, 0, 0, 50, 50, 1, 1, 40, 40, 1, 1]])
    assert detection_loss(truth, output).delta[0, 1:3].tolist() == [0, 1]


def test_detection_forced_with_one_box_takes_it() -> None:
    l = make_detection_layer(1, 6, 1, 1, 1, forced=True, context={"backend": get_backend("cpu")})
    truth = np.array([[1, 1, 0.5, 0.5, 0.1, 0.1]], np.float32)
    l.forward(NetworkState(input=np.zeros((1, 6), np.float32), truth=truth, train=True))
    assert l.delta[0].tolist() == pytest.approx([1, 1, 0.5, 0.5, 0.1, 0.1])


# [iseg]


def iseg_layer(truth: np.ndarray, x: np.ndarray, device: str = "reference") -> IsegLayer:
    backend = get_backend(device)
    l = make_iseg_layer(1, 3, 1, 2, 1, backend=backend)
    rows = np.zeros((INSTANCES, 4))
    rows[len(truth) :, 0] = -1
    rows[: len(truth)] = truth
    state = NetworkState(input=backend.array(x), truth=backend.array(rows.reshape(1, -1)), train=True)
    l.forward(state)
    return l


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_iseg_draws_maps_to_masks_and_embeddings_together(device: str) -> None:
    x = np.array([[[[0.0, 0, 0]], [[0, 0, 0]], [[1, 3, 10]]]])
    l = iseg_layer(np.array([[1.0, 1, 1, 0], [0, 0, 0, 1]]), x, device)
    np.testing.assert_allclose(l.output[0, :2], 0.5)
    np.testing.assert_allclose(l.output[0, 2], x[0, 2])
    np.testing.assert_allclose(l.delta[0, 0, 0], [-0.5, -0.5, 0.5])
    np.testing.assert_allclose(l.delta[0, 1, 0], [0.5, 0.5, -0.5])
    # Means are 2 and 10: each pixel goes to its own and away from the other.
    pull = np.array([0.1 - 0.1, -0.1 - 0.1, 0.1 + 0.1])
    np.testing.assert_allclose(l.delta[0, 2, 0], 0.01 * (pull - 0.1 * x[0, 2, 0]), rtol=1e-6)
    assert l.cost == pytest.approx(float(np.square(l.delta).sum()))


def test_iseg_leaves_out_instances_of_unknown_classes() -> None:
    x = np.random.default_rng(0).standard_normal((1, 3, 1, 3))
    without, with_unknown = (
        iseg_layer(np.array(rows), x) for rows in ([[1.0, 1, 0, 0]], [[7.0, 0, 1, 1], [1, 1, 0, 0]])
    )
    np.testing.assert_array_equal(without.delta, with_unknown.delta)


def test_iseg_trains() -> None:
    cfg = description("[convolutional]\nfilters=3\nactivation=linear", section("iseg", classes=2, ids=1), w=3, h=1, c=1)
    net = darkbn.load(cfg, train=True, seed=0)
    truth = np.full((2, INSTANCES, 4), -1.0)
    truth[:, 0] = [1, 1, 0, 1]
    x = np.random.default_rng(0).standard_normal(net.input_shape)
    losses = [net.train_step(x, truth.reshape(2, -1)) for _ in range(30)]
    assert losses[-1] < losses[0]


# Errors

BAD: dict[str, tuple[str, str, str]] = {
    "sam of another shape": (
        "alexeyab",
        description(CONV, CONV.replace("filters=4", "filters=5"), section("sam", source=0)),
        r"layer 2.*must have the shape of layer 0, 6 x 5 x 4",
    ),
    "sam of a later layer": ("alexeyab", description(CONV, section("sam", source=1)), "1 means layer 1"),
    "sam without from": ("alexeyab", description(CONV, section("sam")), "from= is missing"),
    "scales per channel": (
        "alexeyab",
        description(CONV, CONV, section("scale_channels", source=0)),
        "the input must be 1 x 1 x 4, found 6 x 5 x 4",
    ),
    "scales per pixel": (
        "alexeyab",
        description(CONV, CONV, section("scale_channels", source=0, scale_wh=1)),
        "the input must be 6 x 5 x 1, found 6 x 5 x 4",
    ),
    "reorg3d": (
        "alexeyab",
        description(CONV, section("reorg3d", stride=2)),
        "stride: must divide the input's size, 6 x 5",
    ),
    "reorg3d reverse": (
        "alexeyab",
        description(section("reorg3d", stride=2, reverse=1)),
        "divide the 3 input channels",
    ),
    "deconvolutional too small": (
        "darknet",
        description(section("deconv", size=1, padding=8)),
        "the output would be -10 x -11 x 1",
    ),
    "local too small": ("darknet", description(section("local", size=7)), "the output would be 0 x -1 x 1"),
    "weighted shortcut": (
        "alexeyab",
        description(CONV, CONV + "\nstride=2", section("shortcut", source=0, weights_type="per_feature")),
        "is 6 x 5, the input 3 x 3: with weights_type width and height must be equal",
    ),
    "weights_type": (
        "alexeyab",
        description(CONV, section("shortcut", source=0, weights_type="per_chanel")),
        "did you mean 'per_channel'",
    ),
    "crop too large": (
        "darknet",
        description(section("crop", crop_height=4, crop_width=7)),
        "a window of 7 x 4 does not fit into 6 x 5",
    ),
    "crop colours": (
        "darknet",
        description(section("crop", crop_height=4, crop_width=4, saturation=1.5), c=1),
        "need an input of 3 channels, found 1",
    ),
    "detection inputs": (
        "darknet",
        "[net]\ninputs=10\n\n[detection]\ncoords=4\nside=2\nnum=2\nclasses=3\n",
        r"2\*2\*\(2\*5 \+ 3\) = 52 values, found 10",
    ),
    "detection coords": ("darknet", "[net]\ninputs=52\n\n[detection]\nside=2\n", "coords: must be 4"),
    "detection other coords": ("darknet", "[net]\ninputs=52\n\n[detection]\ncoords=5\n", "4 coordinates, found 5"),
    "iseg channels": ("darknet", description(section("iseg", classes=4, ids=4)), "= 8 channels, found 3"),
    "image needed": (
        "darknet",
        "[net]\ninputs=10\n\n[normalization]\n",
        "needs an input with width, height",
    ),
    "l2norm in alexeyab": ("alexeyab", description(section("l2norm")), "exists only in dialect darknet"),
    "sam in darknet": ("darknet", description(CONV, section("sam", source=0)), "exists only in dialect alexeyab"),
    "unshared weights": (
        "alexeyab",
        description(CONV, CONV + "\nshare_index=0"),
        r"layer 0 has weights \(4, 3, 3, 3\), this one needs \(4, 4, 3, 3\)",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_errors(name: str) -> None:
    dialect, cfg, message = BAD[name]
    with pytest.raises(CfgError, match=message):
        darkbn.load(cfg, dialect=dialect)


def test_local_cannot_be_resized() -> None:
    net = net_of(section("local", filters=2, size=3), w=6, h=5)
    before = net.layers[0].weights.copy()
    with pytest.raises(CfgError, match="has weights for 4 x 3 places; an input of 8 x 8 would need 6 x 6"):
        net.resize(8, 8)
    np.testing.assert_array_equal(net.layers[0].weights, before)
    assert net.forward(np.zeros(net.input_shape)).shape == (1, 2, 3, 4)


@pytest.mark.parametrize("name", ["detection", "iseg"])
def test_losses_name_the_truth_they_need(name: str) -> None:
    layer = make_detection_layer(2, 11, 2, 1, 1) if name == "detection" else make_iseg_layer(2, 3, 1, 2, 1)
    x = np.zeros(layer.output_shape, np.float32)
    for truth in (None, np.zeros((2, 5), np.float32)):
        found = "found none" if truth is None else "found 5 values"
        with pytest.raises(TrainingError, match=rf"\[{name}\].*{found}"):
            layer.forward(NetworkState(input=x, truth=truth, train=True))


# The functions that make single layers


def test_make_functions_agree_with_the_sections() -> None:
    shape = {"batch": 2, "h": 5, "w": 6, "c": 3}
    made = [
        make_deconvolutional_layer(**shape, n=3, size=4, stride=2, padding=1, activation="leaky"),
        make_local_layer(**shape, n=3, size=3, stride=1, pad=False, activation="leaky"),
        make_normalization_layer(**shape, size=3, alpha=0.1, beta=0.5, kappa=2.0),
        make_local_avgpool_layer(**shape, size=3, stride_x=1, stride_y=2, padding=1),
        make_l2norm_layer(2, 90, h=5, w=6, c=3),
        make_empty_layer(2, 90, h=5, w=6, c=3),
    ]
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 6)).astype(np.float32)
    for layer in made:
        state = NetworkState(input=x, delta=np.zeros_like(x), train=True)
        layer.forward(state)
        layer.delta[...] = layer.output
        layer.backward(state)
        assert np.isfinite(layer.output).all()
        assert state.delta.any()
    assert [l.output_shape for l in made] == [
        (2, 3, 10, 12),
        (2, 3, 3, 4),
        (2, 3, 5, 6),
        (2, 3, 2, 5),
        (2, 3, 5, 6),
        (2, 3, 5, 6),
    ]
    assert make_reorg3d_layer(2, 6, 4, 3, 2).output_shape == (2, 12, 2, 3)
    assert Context(batch=1).index == 0


# [Gaussian_yolo]

ANCHORS = (10.0, 14.0, 23.0, 27.0)


def gaussian_head(**options: Any) -> GaussianYoloLayer:
    return make_gaussian_yolo_layer(1, 3, 2, 2, 2, None, 2, anchors=ANCHORS, net_w=96, net_h=64, **options)


def gaussian_map(deviation: float) -> np.ndarray:
    """A map of logits whose uncertainties are all the same."""
    x = np.random.default_rng(5).standard_normal((1, 2, 11, 2, 3)).astype(np.float32)
    x[:, :, 1:8:2] = np.log(deviation / (1 - deviation))
    return x


def test_gaussian_yolo_finds_what_yolo_finds_times_its_certainty() -> None:
    x = gaussian_map(0.25)
    gaussian, plain = (
        gaussian_head(),
        make_yolo_layer(1, 3, 2, 2, 2, None, 2, anchors=ANCHORS, net_w=96, net_h=64, dialect="alexeyab"),
    )
    gaussian.forward(NetworkState(input=x.reshape(1, 22, 2, 3)))
    plain.forward(NetworkState(input=np.ascontiguousarray(x[:, :, [0, 2, 4, 6, 8, 9, 10]]).reshape(1, 14, 2, 3)))
    found, expected = gaussian.detections(0, 0.3), plain.detections(0, 0.3)
    assert 1 < len(expected) < 12
    expected[:, 5:] *= 0.75
    expected[:, 5:][expected[:, 5:] <= 0.3] = 0
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(("point", "sign"), [("left_top", 1), ("right_bottom", -1)])
def test_gaussian_yolo_points_are_corners(point: str, sign: int) -> None:
    x = gaussian_map(0.5).reshape(1, 22, 2, 3)
    corner, centre = gaussian_head(yolo_point=point), gaussian_head()
    for l in (corner, centre):
        l.forward(NetworkState(input=x))
    found, expected = corner.detections(0, 0), centre.detections(0, 0)
    expected[:, :2] += sign * expected[:, 2:4] / 2
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("point", ["center", "left_top", "right_bottom"])
def test_gaussian_yolo_learns_a_box(point: str) -> None:
    options = {"iou_loss": "ciou", "iou_thresh": 0.2, "yolo_point": point}
    cfg = description(
        section("convolutional", filters=22, size=3, pad=1, activation="linear"),
        section("Gaussian_yolo", mask="0,1", num=2, anchors="1,2, 3,4", classes=2, max=3, **options),
        w=6,
        h=6,
    ).replace("batch=2", "batch=2\nlearning_rate=0.001")
    net = darkbn.load(cfg, train=True, seed=0)
    x = np.random.default_rng(1).standard_normal(net.input_shape)
    truth = np.zeros((2, 3, 6))
    truth[:, 0] = 0.4, 0.6, 0.3, 0.5, 1, 0
    for _ in range(250):
        net.train_step(x, truth.reshape(2, -1))
    head = net.layers[1]
    assert isinstance(head, GaussianYoloLayer)
    assert head.statistics is not None
    assert head.statistics.iou > 0.7
    assert head.statistics.objectness > 0.7


def test_gaussian_yolo_channels() -> None:
    cfg = description(CONV, section("Gaussian_yolo", classes=2, num=2, anchors="1,1, 2,2"))
    with pytest.raises(CfgError, match=r"filters: must be 22 = \(2 classes \+ 9\) \* 2 of mask"):
        darkbn.load(cfg, dialect="alexeyab")


# [contrastive]


#: Six embeddings with the labels 1, 2, 1, 2, 1, 3, and what AlexeyAB's Darknet (59596d7) makes of them with temperature
#: 0.5, cls_normalizer 2, max_delta 3: as a detector's (one class, at most 3 negative partners), as a classifier's.
EMBEDDINGS = [[-0.7, -0.2, 1.7], [0.7, -1.6, 0], [-0.6, 0.1, -1.6], [0.2, 0.2, 1.6], [0.3, 0.5, -1.5], [2.3, -1.9, 1.1]]
DARKNETS = {
    1: [
        [-2.887539, 0.395368, -0.566468],
        [0.701293, 0.297807, 3],
        [-1.416696, 0.081066, 0.623374],
        [3, -2.60727, -0.62176],
        [-0.753532, 0.595227, 0.304229],
        [0, 0, 0],
    ],
    0: [
        [-3, -0.026596, -1.130673],
        [-3, 1.988722, 0.232248],
        [-3, -2.680844, 1.930942],
        [3, -0.2147, -1.969008],
        [3, 3, 3],
        [0, 0, 0],
    ],
}


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize("detection", DARKNETS)
def test_contrastive_equals_darknet(detection: int, device: str) -> None:
    backend = get_backend(device)
    z, delta, right = backend.array(EMBEDDINGS), backend.empty((6, 3)), backend.empty((6,), "int32")
    same = backend.zeros((6,), "int32")
    workspace = backend.empty((backend.contrastive.loss_workspace(6, 1),))
    labels = backend.array([1, 2, 1, 2, 1, 3], "int32")
    backend.contrastive.loss(z, labels, same, same, delta, right, workspace, 0.5, 3, detection, 1)
    np.testing.assert_allclose((2 * delta).clip(-3, 3), DARKNETS[detection], atol=3e-6)
    assert right.tolist() == [0, 0, 1, 0, 1, -1]


def test_contrastive_draws_images_of_a_class_together() -> None:
    l = make_contrastive_layer(4, 2, 2, context={"backend": get_backend("reference")}, cls_normalizer=2.0)
    x = np.array([[1.0, 0], [0, 1], [-1, 0.1], [0.1, -1]])
    truth = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    accuracies = []
    for _ in range(200):
        l.forward(NetworkState(input=x, truth=truth, train=True))
        accuracies.append(l.accuracy)
        x = x + 0.05 * l.delta
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosines = unit @ unit.T
    assert cosines[0, 1] > 0.3  # 0 at first
    assert cosines[2, 3] > 0.3
    assert cosines[:2, 2:].max() < -0.3
    assert accuracies[0] < 100
    assert accuracies[-1] == 100


def test_contrastive_takes_neighbours_for_views_without_truth() -> None:
    l = make_contrastive_layer(4, 3, 2, context={"backend": get_backend("reference")})
    x = np.random.default_rng(0).standard_normal((4, 3))
    deltas = []
    for truth in (np.zeros((4, 2)), np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]])):
        l.forward(NetworkState(input=x, truth=truth, train=True))
        deltas.append(l.delta.copy())
    np.testing.assert_array_equal(*deltas)


TRACKS = (
    section("convolutional", filters=14, activation="linear"),
    section("yolo", mask="0,1", num=2, anchors="1,1, 4,4", classes=2, max=4, embedding_layer=-1),
    section("route", layers=0),
    section("convolutional", filters=6, activation="linear"),
    section("contrastive", yolo_layer=1, temperature=0.5, max_delta=10, contrastive_neg_max=100),
)


def tracks() -> np.ndarray:
    """Two pictures with the same two tracks of class 0, one of class 1, and a box without track."""
    rows = np.zeros((2, 4, 6))
    rows[:, 0] = [(0.1, 0.1, 0.1, 0.2, 0, 7), (0.9, 0.3, 0.1, 0.2, 0, 7)]
    rows[:, 1] = [(0.5, 0.5, 0.6, 0.7, 0, 8), (0.4, 0.8, 0.6, 0.7, 0, 8)]
    rows[0, 2] = 0.9, 0.9, 0.1, 0.1, 1, 9
    rows[1, 2] = 0.1, 0.9, 0.1, 0.1, 0, -1
    return rows


def test_contrastive_labels_places_by_track() -> None:
    net = net_of(*TRACKS, train=True)
    net.forward(np.random.default_rng(0).standard_normal(net.input_shape), tracks().reshape(2, -1), train=True)
    l = net.layers[4]
    assert isinstance(l, ContrastiveLayer)
    trained = l.delta.reshape(2, 2, 3, 5, 6).any(axis=2)
    # Picture, anchor, row, column. The box of class 1 has no partner, the one without track does not count.
    assert set(zip(*map(list, np.nonzero(trained)), strict=True)) == {
        (0, 0, 0, 0),
        (1, 0, 1, 5),
        (0, 1, 2, 3),
        (1, 1, 4, 2),
    }
    assert l.cost == pytest.approx(float(np.square(l.delta).sum()))


def test_contrastive_learns_tracks() -> None:
    cfg = description(*TRACKS).replace("batch=2", "batch=2\nlearning_rate=0.01")
    net = darkbn.load(cfg, dialect="alexeyab", train=True, seed=2)
    x = np.random.default_rng(0).standard_normal(net.input_shape)
    for _ in range(100):
        net.train_step(x, tracks().reshape(2, -1))
    l = net.layers[4]
    assert isinstance(l, ContrastiveLayer)
    assert l.accuracy == 100
    z = l.output.reshape(2, 2, 3, 5, 6)
    z = np.stack([z[0, 0, :, 0, 0], z[1, 0, :, 1, 5], z[0, 1, :, 2, 3], z[1, 1, :, 4, 2]])
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    assert unit[0] @ unit[1] > 0.8
    assert unit[2] @ unit[3] > 0.8
    assert (unit[:2] @ unit[2:].T).max() < 0.5
    np.testing.assert_array_equal(net.forward(x), net.layers[3].output)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ((CONV, section("contrastive", yolo_layer=0)), "without yolo_layer= the input must be 1 x 1, found 6 x 5"),
        ((CONV, section("contrastive", yolo_layer=-1)), r"layer 0 is \[convolutional\], expected \[yolo\]"),
        ((*TRACKS[:3], CONV + "\nstride=2", TRACKS[4]), r"the \[yolo\] layer is 6 x 5, the input 3 x 3"),
        ((*TRACKS[:3], CONV.replace("=4", "=5"), TRACKS[4]), "5 channels cannot be divided among 2 anchors"),
        ((section("contrastive", temperature=0),), "must be above 0"),
    ],
)
def test_contrastive_errors(sections: tuple[str, ...], message: str) -> None:
    with pytest.raises(CfgError, match=message):
        darkbn.load(description(*sections), dialect="alexeyab")
