"""The network runner: passes, updates, sizes, errors."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from networks import CLASSIFIER, TWO_HEADS

import darkbn
from darkbn.errors import CfgError, DarkbnError, DeviceError, ShapeError


def inputs(net: darkbn.Network, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(net.input_shape, dtype=np.float32)


def test_load_reads_sizes_and_batches() -> None:
    net = darkbn.load(TWO_HEADS)
    assert (net.batch, net.subdivisions, net.width, net.height, net.channels) == (1, 1, 16, 16, 3)
    net = darkbn.load(TWO_HEADS, train=True)
    assert (net.batch, net.subdivisions) == (2, 2)
    net = darkbn.load(TWO_HEADS, batch=3, width=32, height=24)
    assert net.input_shape == (3, 3, 24, 32)
    assert net.layers[0].output.shape == (3, 8, 12, 16)


def test_predict_equals_forward_for_any_number_of_inputs() -> None:
    net = darkbn.load(TWO_HEADS, batch=2, seed=1)
    x = np.random.default_rng(0).random((5, 3, 16, 16), dtype=np.float32)
    many = net.predict(x)
    assert [m.shape for m in many] == [(5, 16, 4, 4), (5, 16, 8, 8)]
    net.forward(x[2:4])
    for got, layer in zip(many, net.heads, strict=True):
        assert np.abs(got[2:4] - layer.output).max() <= 1e-5 * np.abs(layer.output).max()
    one = net.predict(x[4])
    np.testing.assert_array_equal(one[0][0], many[0][4])


def test_reference_and_cpu_agree() -> None:
    for text in (TWO_HEADS, CLASSIFIER):
        nets = [darkbn.load(text, batch=2, device=device, seed=3) for device in ("cpu", "reference")]
        x = inputs(nets[0])
        for name in ("scales", "rolling_mean", "rolling_variance"):
            for a, b in zip(nets[0].layers, nets[1].layers, strict=True):
                if hasattr(a, name):
                    values = np.random.default_rng(a.context.index).random(getattr(a, name).shape) + 0.5
                    getattr(a, name)[...] = getattr(b, name)[...] = values.astype(np.float32)
        for net in nets:
            net.forward(x)
        for a, b in zip(nets[0].layers, nets[1].layers, strict=True):
            np.testing.assert_allclose(a.output, b.output, atol=1e-5 * max(1e-3, np.abs(b.output).max()))


def test_threads_do_not_change_a_bit() -> None:
    results = []
    for threads in (1, 2, 3):
        net = darkbn.load(TWO_HEADS, train=True, seed=2, threads=threads, dialect="darknet")
        truth = np.zeros((net.batch, 450), np.float32)
        truth[:, :5] = [0.4, 0.6, 0.3, 0.2, 1]
        for step in range(4):
            net.train_step(inputs(net, step), truth)
        results.append([net.layers[0].weights.copy(), net.layers[-1].output.copy()])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_training_lowers_the_loss_and_updates_on_batch_boundaries() -> None:
    net = darkbn.load(CLASSIFIER, train=True, seed=4)
    x = inputs(net)
    truth = np.eye(4, dtype=np.float32)[np.arange(6) % 4]
    losses = [net.train_step(x, truth) for _ in range(300)]
    assert np.mean(losses[-20:]) < 0.5 * np.mean(losses[:20])
    assert net.seen == 300 * 6
    net = darkbn.load(TWO_HEADS, train=True, seed=4)
    before = net.layers[0].weights.copy()
    labels = np.zeros((2, 450 if net.dialect == "darknet" else 1200), np.float32)
    net.train_step(inputs(net), labels)
    np.testing.assert_array_equal(before, net.layers[0].weights)
    net.train_step(inputs(net), labels)
    assert not np.array_equal(before, net.layers[0].weights)


def test_an_inference_network_can_start_to_train() -> None:
    net = darkbn.load(CLASSIFIER, batch=6, seed=4)
    assert net.layers[0].delta is None
    net.train_step(inputs(net), np.eye(4, dtype=np.float32)[np.arange(6) % 4])
    assert net.layers[0].delta.shape == net.layers[0].output.shape


def test_backward_gives_the_input_gradient() -> None:
    net = darkbn.load(CLASSIFIER, batch=6, train=True, seed=4)
    with pytest.raises(DarkbnError, match="training pass"):
        net.backward()
    net.forward(inputs(net), np.eye(4, dtype=np.float32)[np.arange(6) % 4], train=True)
    net.backward()
    assert net.input_delta.shape == net.input_shape
    assert np.abs(net.input_delta).max() > 0


def test_resize_keeps_parameters_and_is_all_or_nothing() -> None:
    net = darkbn.load(TWO_HEADS, seed=1)
    weights = net.layers[0].weights.copy()
    net.resize(32, 48)
    np.testing.assert_array_equal(net.layers[0].weights, weights)
    assert net.forward(inputs(net)).shape == (1, 16, 24, 16)
    fixed = darkbn.load(CLASSIFIER.replace("[avgpool]", ""), seed=1)
    x = inputs(fixed)
    before = fixed.forward(x).copy()
    with pytest.raises(CfgError, match="cannot take"):
        fixed.resize(16, 16)
    np.testing.assert_array_equal(fixed.forward(x), before)


def test_dialect_is_decided_and_explained() -> None:
    assert darkbn.load(TWO_HEADS).dialect == "darknet"
    net = darkbn.load(TWO_HEADS.replace("num=4", "num=4\nscale_x_y=1.05"))
    assert net.dialect == "alexeyab"
    assert "scale_x_y" in str(net.summary())
    assert darkbn.load(TWO_HEADS.replace("leaky", "mish")).dialect == "alexeyab"
    assert darkbn.load(TWO_HEADS, dialect="alexeyab").dialect_reason == "asked for"


def test_summary_lists_every_layer() -> None:
    net = darkbn.load(TWO_HEADS)
    summary = net.summary()
    assert [row.type for row in summary.rows] == [layer.type for layer in net.layers]
    assert summary.rows[0].parameters == 8 * 3 * 9 + 4 * 8
    assert summary.rows[0].flops == 2 * 8 * 3 * 9 * 8 * 8
    assert all(len(line) <= 110 for line in str(summary).splitlines()[: len(net.layers) + 1])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[maxpool]", "[maxpol]", "did you mean \\[maxpool\\]"),
        ("activation=leaky", "activation=silu", "did you mean 'swish'"),
        ("from=-2", "from=-9", "-9"),
        ("layers=-1,-7", "layers=-1,40", "40"),
        (
            "filters=16\nsize=1\nactivation=linear\n\n[yolo]",
            "filters=18\nsize=1\nactivation=linear\n\n[yolo]",
            "filters: must be 16",
        ),
        ("width=16", "width=100000\nbatch_=1", "GiB"),
        ("size=3\nstride=2\npad=1", "size=30\nstride=2", "output would be"),
        ("channels=3", "", "width, height and channels"),
        ("mask=2,3", "mask=2,4", "mask"),
    ],
)
def test_errors_name_line_and_layer(old: str, new: str, words: str) -> None:
    text = TWO_HEADS.replace("height=16", "height=100000") if "GiB" in words else TWO_HEADS
    assert old in text
    with pytest.raises(CfgError, match=words) as caught:
        darkbn.load(text.replace(old, new, 1))
    assert "<text>:" in str(caught.value)


def test_wrong_inputs() -> None:
    net = darkbn.load(TWO_HEADS)
    with pytest.raises(ShapeError, match=r"batch=2"):
        net.forward(np.zeros((2, 3, 16, 16), np.float32))
    with pytest.raises(ShapeError, match=r"\(1, 3, 16, 16\)"):
        net.forward(np.zeros((1, 3, 16, 15), np.float32))
    with pytest.raises(ShapeError, match="predict"):
        net.predict(np.zeros((1, 3, 8, 8), np.float32))
    with pytest.raises(DeviceError, match="unknown device"):
        darkbn.load(TWO_HEADS, device="tpu")
    with pytest.raises(DarkbnError, match="unknown dialect"):
        darkbn.load(TWO_HEADS, dialect="pytorch")


def test_networks_in_several_threads_do_not_disturb_each_other() -> None:
    nets = [darkbn.load(TWO_HEADS, seed=seed, threads=2) for seed in range(4)]
    x = inputs(nets[0])
    alone = [net.forward(x).copy() for net in nets]
    results: list[list[np.ndarray]] = [[] for _ in nets]

    def run(index: int) -> None:
        for _ in range(20):
            results[index].append(nets[index].forward(x).copy())

    workers = [threading.Thread(target=run, args=(i,)) for i in range(len(nets))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for expected, outputs in zip(alone, results, strict=True):
        for output in outputs:
            np.testing.assert_array_equal(output, expected)
