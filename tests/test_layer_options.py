"""Options that Darknet honours in its CUDA code only, or for training only, on every backend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gradient_check import differences

import darkbn
from darkbn.backend import BACKENDS
from darkbn.errors import CfgError, DarkbnError, TrainingError
from darkbn.layers.deformation import matrices
from darkbn.layers.dropblock import dropped
from darkbn.layers.excitation import strength
from darkbn.state import NetworkState, UpdateArgs

HEAD = "[net]\nbatch={batch}\nsubdivisions={subdivisions}\nwidth=6\nheight=5\nchannels=3\nmomentum=.5\n"
CONV = "[convolutional]\nfilters=4\nsize=3\npad=1\nactivation=leaky\n"


def net_of(*sections: str, net: str = "", batch: int = 2, subdivisions: int = 1, **options: Any) -> darkbn.Network:
    head = HEAD.format(batch=batch, subdivisions=subdivisions)
    options = {"dialect": "alexeyab", "train": True, "seed": 1, **options}
    return darkbn.load("\n".join([head + net, *sections, ""]), **options)


def random_input(net: darkbn.Network, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(net.input_shape)


def pull(net: darkbn.Network, x: np.ndarray, seed: int = 5) -> None:
    """A training pass with random deltas behind the last layer."""
    net.forward(x, train=True)
    net.layers[-1].delta[...] = np.random.default_rng(seed).standard_normal(net.layers[-1].delta.shape)
    net.backward()


# Cross-iteration batch normalization


@pytest.mark.parametrize("option", ["batch_normalize=2", "cbn=1\nbatch_normalize=1"])
@pytest.mark.parametrize("device", BACKENDS)
def test_statistics_are_averaged_over_the_passes_of_an_iteration(option: str, device: str) -> None:
    net = net_of(CONV.replace("leaky", "linear") + option, "[cost]", batch=6, subdivisions=3, device=device)
    l: Any = net.layers[0]
    plain = net_of(CONV.replace("leaky", "linear"), batch=2, device=device)
    rolling_mean, rolling_variance = np.zeros(4), np.zeros(4)
    for _ in range(2):
        means, squares = [], []
        for part in range(3):
            x = random_input(net, part) + 0.3 * part
            plain.layers[0].weights[...] = l.weights
            z = np.asarray(plain.forward(x), np.float64)
            means.append(z.mean(axis=(0, 2, 3)))
            squares.append((z**2).mean(axis=(0, 2, 3)))
            mean = np.mean(means, axis=0)
            variance = np.mean(squares, axis=0) - mean**2
            rolling_mean = 0.99 * rolling_mean + 0.01 * mean
            rolling_variance = 0.99 * rolling_variance + 0.01 * variance
            scales, biases = np.array(l.scales), np.array(l.biases)
            net.train_step(x, np.zeros((2, net.layers[0].outputs)))
            shape = (1, 4, 1, 1)
            expected = (z - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + 1e-5)
            expected = expected * scales.reshape(shape) + biases.reshape(shape)
            np.testing.assert_allclose(l.output, expected, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(l.rolling_mean, rolling_mean, rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(l.rolling_variance, rolling_variance, rtol=1e-4)


def test_dialect_darknet_has_no_cross_iteration_batch_normalization() -> None:
    nets = [net_of(f"{CONV}batch_normalize={kind}", dialect="darknet") for kind in (1, 2)]
    outputs = [np.array(net.forward(random_input(net), train=True)) for net in nets]
    np.testing.assert_array_equal(*outputs)


# Dropblock


def test_dropped_squares() -> None:
    rand = np.full((2, 3, 5, 6), 0.9)
    rand[0, 0, 1, 2] = rand[0, 1, 4, 0] = rand[1, 2, 0, 5] = 0.1
    rand[1, 0, 3, 3] = 0.3
    found = dropped(rand, 2, 0.2)
    expected = np.zeros(rand.shape, bool)
    expected[0, 0, 1:3, 2:4] = True
    expected[0, 1, 1:3, 0:2] = True  # the last row has no room for a square: it starts anew, 4 - 3
    expected[1, 2, 0:2, 1:3] = True
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("device", BACKENDS)
def test_dropblock_scales_each_sample_by_what_is_left(device: str) -> None:
    net = net_of("[dropout]\nprobability=.1\ndropblock=1\ndropblock_size_abs=2", device=device)
    x = np.ones(net.input_shape)
    counts = set()
    for _ in range(5):
        out = np.array(net.forward(x, train=True))
        gone = (out == 0).sum(axis=(1, 2, 3))
        counts |= set(gone.tolist())
        for sample, count in zip(out, gone, strict=True):
            np.testing.assert_allclose(sample[sample != 0], 90 / (90 - count), rtol=1e-6)
        net.layers[0].delta.fill(1)
        net.backward()
        np.testing.assert_allclose(net.input_delta, out, rtol=1e-6)
    assert counts <= {0, 4, 8, 12}
    assert len(counts) > 1
    np.testing.assert_array_equal(net.forward(x), x)


def test_dropblock_grows_over_the_training() -> None:
    section = "[dropout]\nprobability=.9\ndropblock=1\ndropblock_size_rel=.9"
    net = net_of(section, net="max_batches=100\n")
    x = np.ones(net.input_shape)
    areas = []
    for completed in (0, 43, 85, 99):
        net.seen = completed * 2 + 2
        out = np.concatenate([np.array(net.forward(x, train=True)) for _ in range(20)])
        gone = (out == 0).reshape(-1, 30).sum(axis=1)
        areas.append((gone.max(), gone.mean()))
    assert areas[0] == (0, 0)
    assert [area for area, _ in areas[1:]] == [4, 16, 16]  # sides of .9 * 5 = 4 pixels, half of it in the middle
    assert 0 < areas[1][1] < areas[2][1]


@pytest.mark.parametrize(
    ("options", "sizes", "warning"),
    [
        ("dropblock_size_abs=9", (5, 0.0), "9 is more than the map's 6 x 5: 5"),
        ("dropblock_size_abs=2\ndropblock_size_rel=.5", (2, 0.0), "has no effect beside dropblock_size_abs"),
        ("dropblock_size_rel=.5", (0, 0.5), ""),
        ("", (7, 0.0), ""),
    ],
)
def test_dropblock_sizes(options: str, sizes: tuple[int, float], warning: str) -> None:
    net = net_of(f"[dropout]\ndropblock=1\n{options}")
    l: Any = net.layers[0]
    assert l.block_sizes == sizes
    assert [text for text in net.warnings if warning in text] if warning else not net.warnings
    net.forward(random_input(net), train=True)


def test_dropblock_needs_an_image() -> None:
    with pytest.raises(CfgError, match="needs an input with width, height"):
        darkbn.load("[net]\ninputs=5\n\n[dropout]\ndropblock=1\n", dialect="alexeyab")


# [maxpool] maxpool_zero_nonmax


@pytest.mark.parametrize("device", BACKENDS)
def test_only_maxima_stay(device: str) -> None:
    net = net_of("[maxpool]\nsize=3\nstride=1\nmaxpool_zero_nonmax=1", device=device)
    plain = net_of("[maxpool]\nsize=3\nstride=1", device=device)
    x = random_input(net).astype(np.float32)
    maxima = np.array(plain.forward(x))
    expected = np.where(maxima == x, x, 0)
    assert 5 < np.count_nonzero(expected) < 60
    for train in (False, True):
        np.testing.assert_array_equal(net.forward(x, train=train), expected)
    np.testing.assert_array_equal(net.predict(x), expected)
    net.layers[0].delta.fill(2)
    net.backward()
    np.testing.assert_array_equal(net.input_delta, np.where(maxima == x, 2, 0))


def test_only_maxima_need_as_large_an_output() -> None:
    with pytest.raises(CfgError, match=r"maxpool_zero_nonmax: .* as large as the input, 6 x 5; .* 3 x 3"):
        net_of("[maxpool]\nsize=2\nstride=2\nmaxpool_zero_nonmax=1")


# [convolutional] coordconv


@pytest.mark.parametrize("more", ["", "antialiasing=1\n", "xnor=1\n", "batch_normalize=1\nfilters=2\n"])
@pytest.mark.parametrize("device", BACKENDS)
def test_first_channels_are_coordinates(more: str, device: str) -> None:
    section = CONV.replace("filters=4\n", "") + more + ("" if "filters" in more else "filters=4\n")
    net, plain = (net_of(section + c, device=device) for c in ("coordconv=1", ""))
    x = random_input(net)
    out, expected = np.array(net.forward(x)), np.array(plain.forward(x))
    h, w = out.shape[2:]
    across = np.broadcast_to(2 * np.arange(w) / w - 1, (h, w))
    down = np.broadcast_to((2 * np.arange(h) / h - 1)[:, np.newaxis], (h, w))
    for channel, values in enumerate((across, down, np.sqrt(across**2 + down**2))[: out.shape[1]]):
        np.testing.assert_allclose(out[:, channel], np.broadcast_to(values, (2, h, w)), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(out[:, 3:], expected[:, 3:], rtol=1e-5)
    np.testing.assert_allclose(net.predict(x), out, rtol=1e-5, atol=1e-6)
    pull(net, x)
    plain.forward(x, train=True)
    plain.layers[0].delta[...] = np.random.default_rng(5).standard_normal(out.shape)
    plain.layers[0].delta[:, :3] = 0
    plain.backward()
    np.testing.assert_allclose(net.input_delta, plain.input_delta, rtol=1e-4, atol=1e-6)
    assert net.layers[0].filters if hasattr(net.layers[0], "filters") else net.layers[0].n == out.shape[1]


def test_coordinates_follow_the_size_and_weights_are_saved(tmp_path: Any) -> None:
    net = net_of(CONV + "coordconv=1", CONV, train=False)
    net.resize(12, 10)
    out = np.array(net.forward(random_input(net)))
    assert out.shape == (1, 4, 10, 12)
    net.save_weights(tmp_path / "a.weights")
    again = net_of(CONV + "coordconv=1", CONV, train=False, weights=tmp_path / "a.weights", width=12, height=10, seed=2)
    np.testing.assert_allclose(again.forward(random_input(net)), out, rtol=1e-6)


def test_filters_of_a_wrapped_layer_can_be_shared() -> None:
    net = net_of(CONV.replace("=4", "=3") + "coordconv=1", CONV.replace("=4", "=3") + "share_index=0")
    first, second = net.layers
    assert second.weights is first.weights


# [convolutional] assisted_excitation


def boxes(*rows: tuple[float, ...]) -> np.ndarray:
    truth = np.zeros((2, 3, 6))
    for place, row in enumerate(rows):
        truth[0, place, : len(row)] = row
    return truth.reshape(2, -1)


@pytest.mark.parametrize(
    ("option", "iteration", "expected"),
    [(1, 0, 1), (1, 25, 0.8535534), (1, 50, 0.5), (1, 51, 0), (30, 9, 0), (30, 10, 0.8535534), (30, 30, 0.1464466),
     (30, 31, 0)],
)  # fmt: skip
def test_excitation_falls(option: int, iteration: int, expected: float) -> None:
    state = NetworkState(completed=iteration, max_batches=100, burn_in=10)
    assert strength(option, state) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("device", BACKENDS)
def test_pixels_of_boxes_are_excited(device: str) -> None:
    section = CONV + "assisted_excitation=1"
    net, plain = (net_of(s, net="max_batches=10\n", device=device) for s in (section, CONV))
    x = random_input(net)
    truth = boxes((0.5, 0.5, 0.34, 0.3), (0, 0.1, 0.1, 0.1), (0.9, 0.9, 0.1, 0.1))
    out = np.array(net.forward(x, truth, train=True))
    maps = np.array(plain.forward(x, train=True))
    expected = maps.copy()
    expected[0, :, 1:4, 1:5] += maps[0, :, 1:4, 1:5].mean(axis=0)  # columns 1.98 to 4.02, rows 1.75 to 3.25
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(net.forward(x), maps, rtol=1e-6)
    net.seen = 2 * 6 + 1
    np.testing.assert_allclose(net.forward(x, truth, train=True), maps, rtol=1e-6)


def test_gradient_of_an_excitation() -> None:
    section = CONV.replace("leaky", "logistic") + "assisted_excitation=1"
    net = net_of(CONV.replace("leaky", "tanh").replace("=4", "=3"), section, net="max_batches=10\n", device="reference")
    x, truth = random_input(net), boxes((0.5, 0.5, 0.34, 0.3))
    net.seen = 2 * 3  # alpha is .79
    delta = np.random.default_rng(1).standard_normal(net.layers[1].output.shape)
    net.forward(x, truth, train=True)
    net.layers[1].delta[...] = delta
    net.backward()
    found = net.input_delta.copy()

    def total() -> float:
        return float((delta * net.forward(x, truth, train=True)).sum())

    for index, slope in differences(total, x):
        assert found.reshape(-1)[index] == pytest.approx(slope, rel=1e-5, abs=1e-7)


def test_excitation_needs_labels_of_boxes() -> None:
    net = net_of(CONV + "assisted_excitation=1", net="max_batches=10\n")
    for truth, message in ((None, "found none"), (np.zeros((2, 7)), r"found an array of shape \(2, 7\)")):
        with pytest.raises(TrainingError, match=rf"layer 0 \[convolutional\] assisted_excitation: .*{message}"):
            net.forward(random_input(net), truth, train=True)


# Steps


def step(net: darkbn.Network, iteration: int = 1, **scalars: Any) -> UpdateArgs:
    args = UpdateArgs(learning_rate=0.1, momentum=0.5, decay=0.01, batch=2, iteration=iteration, max_batches=10)
    args = replace(args, **scalars)
    for layer in net.layers:
        layer.update(args)
    return args


@pytest.mark.parametrize("device", BACKENDS)
def test_gradient_centralization(device: str) -> None:
    found, plain = (net_of(f"{CONV}batch_normalize=1\n{o}", device=device) for o in ("grad_centr=1", ""))
    for net in (found, plain):
        net.layers[0].weight_updates[...] = np.random.default_rng(0).standard_normal((4, 3, 3, 3)) + 2
    plain.layers[0].weight_updates -= np.asarray(plain.layers[0].weight_updates).mean(axis=(1, 2, 3), keepdims=True)
    for net in (found, plain):
        step(net)
    np.testing.assert_allclose(found.layers[0].weights, plain.layers[0].weights, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("device", BACKENDS)
def test_reversed_updates(device: str) -> None:
    net = net_of(f"{CONV}reverse=-.5", device=device)
    l = net.layers[0]
    updates = np.random.default_rng(0).standard_normal((4, 3, 3, 3))
    l.weight_updates[...] = updates
    before = np.array(l.weights, np.float64)
    step(net)
    taken = np.sign(updates) / np.sqrt(10 * np.abs(updates) + 1) - 0.01 * 2 * before
    np.testing.assert_allclose(l.weights, before + 0.1 / 2 * taken, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(l.weight_updates, 0.5 * updates, rtol=1e-6)


def naive_turn(kernel: np.ndarray, degrees: float) -> np.ndarray:
    """A turned kernel, place by place."""
    size, c, s = len(kernel), np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    out, outside, middle = np.zeros_like(kernel), 0.0, len(kernel) // 2
    for y in range(size):
        for x in range(size):
            sx = middle + (x - middle) * c + (y - middle) * s
            sy = middle - (x - middle) * s + (y - middle) * c
            x0, y0 = int(np.floor(sx)), int(np.floor(sy))
            for yy, wy in ((y0, y0 + 1 - sy), (y0 + 1, sy - y0)):
                for xx, wx in ((x0, x0 + 1 - sx), (x0 + 1, sx - x0)):
                    if 0 <= yy < size and 0 <= xx < size:
                        out[y, x] += kernel[yy, xx] * wx * wy
                    else:
                        outside += wx * wy
    return out * size * size / (size * size - outside)


KERNEL = np.random.default_rng(3).standard_normal((5, 5))


def deformed(kind: str, part: int, reverse: bool = False, angle: float = 20.0) -> np.ndarray:
    return (matrices(kind, 5, angle, reverse)[part] @ KERNEL.reshape(-1)).reshape(5, 5)


def test_deformations() -> None:
    for kind in ("rotate", "sway", "stretch", "stretch_sway"):
        np.testing.assert_array_equal(deformed(kind, 0), KERNEL)
    for turns in (1, 2, 3):
        np.testing.assert_array_equal(deformed("rotate", turns), np.rot90(KERNEL, -turns))  # clockwise
        np.testing.assert_array_equal(deformed("rotate", turns, reverse=True), np.rot90(KERNEL, turns))
    for kind, first in (("sway", 1), ("stretch_sway", 5)):
        np.testing.assert_allclose(deformed(kind, first), naive_turn(KERNEL, 20))
        np.testing.assert_allclose(deformed(kind, first + 1), naive_turn(KERNEL, -20))
        np.testing.assert_allclose(deformed(kind, first, reverse=True), naive_turn(KERNEL, -20))
        np.testing.assert_array_equal(deformed(kind, first + 2), KERNEL[:, ::-1])
    # A stretch by .8: the pixel 2 right of the middle is that at 2.5, half of which lies outside.
    assert deformed("stretch", 2)[2, 4] == pytest.approx(KERNEL[2, 4] / 2 / 0.8)
    assert deformed("stretch_sway", 2)[2, 4] == pytest.approx(KERNEL[2, 4] / 2)
    assert deformed("stretch_sway", 4)[2, 2] == pytest.approx(KERNEL[2, 2] / 1.4)
    assert deformed("stretch", 2, reverse=True)[2, 3] == pytest.approx((0.2 * KERNEL[2, 2] + 0.8 * KERNEL[2, 3]) / 1.25)


@pytest.mark.parametrize("device", BACKENDS)
@pytest.mark.parametrize(("kind", "parts"), [("rotate", 4), ("sway", 4), ("stretch", 4), ("stretch_sway", 8)])
def test_filters_stay_deformed_copies_in_the_first_half(kind: str, parts: int, device: str) -> None:
    net = net_of(f"{CONV.replace('=4', '=8')}{kind}=1\nangle=20", device=device)
    l = net.layers[0]
    updates = np.random.default_rng(0).standard_normal((8, 3, 3, 3))
    l.weight_updates[...] = updates
    before = np.array(l.weights, np.float64)
    step(net, decay=0)
    back, to = (matrices(kind, 3, 20, reverse) for reverse in (True, False))
    mean = np.einsum("pij,pkj->pki", back, updates.reshape(parts, -1, 9)).mean(axis=0)
    first = before.reshape(parts, -1, 9)[0] + 0.05 * mean
    expected = np.einsum("pij,kj->pki", to, first).reshape(before.shape)
    np.testing.assert_allclose(l.weights, expected, rtol=1e-4, atol=1e-6)
    l.weight_updates[...] = updates
    kept = np.array(l.weights, np.float64)
    step(net, iteration=6, decay=0)
    np.testing.assert_allclose(l.weights, kept + 0.05 * updates, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("rotate=1\nsway=1", "sway: excludes rotate=1"),
        ("rotate=1\nsize=1", "rotate: needs kernels larger than 1 x 1"),
        ("stretch_sway=1", r"stretch_sway: makes parts of the 12 kernels \(filters \* channels\): .* divisible by 8"),
    ],
)
def test_deformations_that_cannot_be(options: str, message: str) -> None:
    with pytest.raises(CfgError, match=message):
        net_of(CONV.replace("size=3\n", "" if "size" in options else "size=3\n") + options)


def moved(net: darkbn.Network, index: int, act: Callable[[], None]) -> set[str]:
    """Parameters of a layer that something changes."""
    l = net.layers[index]
    names = [name for name in ("weights", "biases", "scales") if hasattr(l, name)]
    before = {name: np.array(getattr(l, name)) for name in names}
    act()
    return {name for name in names if not np.array_equal(before[name], getattr(l, name))}


NORMALIZED = CONV + "batch_normalize=1"
EVERYTHING = {"weights", "biases", "scales"}


@pytest.mark.parametrize("device", BACKENDS)
def test_train_only_bn_holds_for_a_layer_and_all_before_it(device: str) -> None:
    sections = (CONV, f"{NORMALIZED}\nrotate=1", f"{NORMALIZED}\ntrain_only_bn=1", NORMALIZED, "[cost]")
    net = net_of(*sections, net="max_batches=100\n", device=device)
    x, truth = random_input(net), np.ones((2, net.layers[3].outputs))
    rolling = np.array(net.layers[1].rolling_mean)
    found = []
    for index in range(4):
        found.append(moved(net, index, lambda: [net.train_step(x, truth) for _ in range(2)]))
    assert found == [set(), {"biases", "scales"}, {"biases", "scales"}, EVERYTHING]
    assert not np.array_equal(rolling, net.layers[1].rolling_mean)


@pytest.mark.parametrize(
    ("options", "net", "first"), [("dont_update=2", "", 3), ("burnin_update=2", "burn_in=2\n", 4), ("", "", 1)]
)
def test_layers_rest_until_an_iteration(options: str, net: str, first: int) -> None:
    trained = net_of(NORMALIZED, f"{NORMALIZED}\n{options}", CONV, "[cost]", net=net, batch=4, subdivisions=2)
    x, truth = random_input(trained), np.ones((2, trained.layers[2].outputs))
    for iteration in range(1, 6):
        before = [np.array(l.weights) for l in trained.layers[:3]]
        rolling = np.array(trained.layers[1].rolling_mean)
        for _ in range(2):
            trained.train_step(x, truth)
        changed = [not np.array_equal(b, l.weights) for b, l in zip(before, trained.layers, strict=False)]
        assert changed == [True, iteration >= first, True], iteration
        assert np.array_equal(rolling, trained.layers[1].rolling_mean) == (iteration < first)
        assert np.any(trained.layers[1].weight_updates) == (iteration >= first)


@pytest.mark.parametrize("device", BACKENDS)
def test_smooth_pulls_outputs_to_their_neighbours(device: str) -> None:
    net, plain = (
        net_of(CONV.replace("leaky", "linear") + o, dialect="darknet", device=device) for o in ("smooth=.3", "")
    )
    x = random_input(net)
    pull(net, x)
    out = np.array(plain.forward(x, train=True), np.float64)
    delta = np.random.default_rng(5).standard_normal(out.shape)
    for b, c, i, j in np.ndindex(out.shape):
        window = out[b, c, max(i - 2, 0) : i + 3, max(j - 2, 0) : j + 3]
        delta[b, c, i, j] += 0.3 * (window - out[b, c, i, j]).sum()
    plain.layers[0].delta[...] = delta
    plain.backward()
    np.testing.assert_allclose(net.input_delta, plain.input_delta, rtol=1e-4, atol=1e-4)


def test_export_to_onnx_names_the_option_it_does_not_know(tmp_path: Any) -> None:
    pytest.importorskip("onnx")
    from darkbn.interop.onnx import export_onnx

    net = net_of("[maxpool]\nsize=3\nstride=1\nmaxpool_zero_nonmax=1", train=False)
    with pytest.raises(DarkbnError, match="no operators are known for maxpool_zero_nonmax="):
        export_onnx(net, tmp_path / "a.onnx")


def test_modules_of_pytorch_name_the_options_they_do_not_know() -> None:
    pytest.importorskip("torch")
    from darkbn.interop.torch import to_module

    with pytest.raises(
        DarkbnError, match=r"no PyTorch module for layer 0 \[convolutional\] xnor=, layer 1 .* coordconv="
    ):
        to_module(net_of(CONV + "xnor=1", CONV + "coordconv=1", train=False))
