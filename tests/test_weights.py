"""The .weights format: headers, order, errors that change nothing, atomic writing."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import CLASSIFIER, TWO_HEADS

import darkbn
from darkbn.errors import WeightsError
from darkbn.weights import read_header


def parameters(net: darkbn.Network) -> list[np.ndarray]:
    return [getattr(part, name) for l in net.layers for _, part in l.walk() for name in part.weights_order()]


def randomized(text: str, seed: int, **options: object) -> darkbn.Network:
    net = darkbn.load(text, **options)
    rng = np.random.default_rng(seed)
    for array in parameters(net):
        array[...] = rng.standard_normal(array.shape)
    return net


def assert_same(a: darkbn.Network, b: darkbn.Network) -> None:
    for x, y in zip(parameters(a), parameters(b), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("dialect", ["darknet", "alexeyab"])
@pytest.mark.parametrize("text", [TWO_HEADS, CLASSIFIER], ids=["yolo", "classifier"])
def test_round_trip(tmp_path: Path, text: str, dialect: str) -> None:
    net = randomized(text, 1, dialect=dialect)
    net.seen = 6400
    net.save_weights(tmp_path / "a.weights")
    other = darkbn.load(text, tmp_path / "a.weights", dialect=dialect)
    assert_same(net, other)
    assert other.seen == 6400
    assert not [w for w in other.warnings if "weights" in w]
    other.save_weights(tmp_path / "b.weights")
    assert (tmp_path / "a.weights").read_bytes() == (tmp_path / "b.weights").read_bytes()


def test_layout_of_a_convolution_and_a_connected_layer(tmp_path: Path) -> None:
    net = randomized(CLASSIFIER, 2)
    net.save_weights(tmp_path / "x.weights")
    raw = (tmp_path / "x.weights").read_bytes()
    assert struct.unpack("<iiiQ", raw[:20]) == (0, 2, 0, 0)
    values = np.frombuffer(raw[20:], "<f4")
    conv, first = net.layers[0], net.layers[2]
    expected = [conv.biases, conv.weights, first.biases, first.weights, first.scales, first.rolling_mean]
    flat = np.concatenate([a.ravel() for a in expected])
    np.testing.assert_array_equal(values[: flat.size], flat)


@pytest.mark.parametrize(
    ("version", "dialect", "nbytes", "transposed"),
    [
        ((0, 1, 0), "darknet", 16, False),
        ((0, 2, 0), "darknet", 20, False),
        ((0, 2, 5), "alexeyab", 20, False),
        ((1, 0, 0), "darknet", 20, False),
        ((1001, 2, 0), "darknet", 16, True),
        ((1001, 2, 0), "alexeyab", 20, True),
        ((0, 1001, 0), "darknet", 16, True),
    ],
)
def test_headers(tmp_path: Path, version: tuple[int, int, int], dialect: str, nbytes: int, transposed: bool) -> None:
    path = tmp_path / "h.weights"
    path.write_bytes(struct.pack("<iii", *version) + struct.pack("<Q", 77) + bytes(8))
    header = read_header(path, dialect)
    assert (header.nbytes, header.transposed, header.seen) == (nbytes, transposed, 77)


@pytest.mark.parametrize("dialect", ["darknet", "alexeyab"])
def test_transposed_matrices(tmp_path: Path, dialect: str) -> None:
    net = randomized(CLASSIFIER, 3, dialect=dialect)
    path = tmp_path / "t.weights"
    seen = struct.pack("<Q" if dialect == "alexeyab" else "<I", 5)
    pieces = []
    for layer in net.layers:
        for name in layer.weights_order():
            array = getattr(layer, name)
            pieces.append(array.T if layer.type == "connected" and name == "weights" else array)
    data = b"".join(np.ascontiguousarray(p, "<f4").tobytes() for p in pieces)
    path.write_bytes(struct.pack("<iii", 1001, 0, 0) + seen + data)
    other = darkbn.load(CLASSIFIER, path, dialect=dialect)
    assert_same(net, other)


def test_a_short_file_changes_nothing_and_names_the_layer(tmp_path: Path) -> None:
    net = randomized(TWO_HEADS, 4)
    path = tmp_path / "x.weights"
    net.save_weights(path)
    path.write_bytes(path.read_bytes()[:-4])
    other = randomized(TWO_HEADS, 5)
    before = [a.copy() for a in parameters(other)]
    with pytest.raises(WeightsError, match=r"layer 9 \[convolutional\], array weights") as caught:
        other.load_weights(path)
    assert "bytes" in str(caught.value)
    for x, y in zip(before, parameters(other), strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_backbone_loads_with_upto(tmp_path: Path) -> None:
    net = randomized(TWO_HEADS, 6)
    path = tmp_path / "backbone.conv.4"
    net.save_weights(path, upto=4)
    other = randomized(TWO_HEADS, 7)
    with pytest.raises(WeightsError, match="upto=4"):
        other.load_weights(path)
    head = other.layers[4].weights.copy()
    other.load_weights(path, upto=4)
    np.testing.assert_array_equal(other.layers[1].weights, net.layers[1].weights)
    np.testing.assert_array_equal(other.layers[4].weights, head)


def test_left_over_bytes_and_nan_are_reported(tmp_path: Path) -> None:
    net = randomized(TWO_HEADS, 8)
    net.layers[1].rolling_variance[3] = np.nan
    path = tmp_path / "x.weights"
    net.save_weights(path)
    path.write_bytes(path.read_bytes() + bytes(7))
    other = darkbn.load(TWO_HEADS, path)
    assert any("7 bytes are left over" in w for w in other.warnings)
    assert any("layer 1 [convolutional] rolling_variance: 1 of 8 values" in w for w in other.warnings)


@pytest.mark.parametrize("content", [b"", b"abc", struct.pack("<iii", 0, 2, 0) + b"1234"])
def test_files_that_are_no_weights(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.weights"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=f"{len(content)} bytes"):
        darkbn.load(TWO_HEADS, path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="nowhere"):
        darkbn.load(TWO_HEADS, tmp_path / "nowhere.weights")


def test_dontload_dontloadscales_and_numload(tmp_path: Path) -> None:
    text = TWO_HEADS.replace("[net]", "[net]", 1)
    net = randomized(text, 9)
    path = tmp_path / "x.weights"
    net.save_weights(path)
    first = net.layers[0]
    marked = text.replace("filters=8\nsize=3\nstride=2", "filters=8\nsize=3\nstride=2\ndontload=1", 1)
    other = randomized(marked, 10, dialect="darknet")
    kept = other.layers[0].weights.copy()
    other.load_weights(path)  # the bytes of the skipped layer are not skipped in the file
    np.testing.assert_array_equal(other.layers[0].weights, kept)
    np.testing.assert_array_equal(other.layers[1].biases, first.biases)

    marked = text.replace("filters=8\nsize=3\nstride=2", "filters=8\nsize=3\nstride=2\nnumload=3", 1)
    other = randomized(marked, 11, dialect="darknet")
    other.load_weights(path)
    np.testing.assert_array_equal(other.layers[0].biases[:3], first.biases[:3])
    np.testing.assert_array_equal(other.layers[0].scales[:3], first.biases[3:6])

    marked = text.replace("filters=8\nsize=3\nstride=2", "filters=8\nsize=3\nstride=2\ndontloadscales=1", 1)
    other = randomized(marked, 12, dialect="darknet")
    kept = other.layers[0].scales.copy()
    other.load_weights(path)
    np.testing.assert_array_equal(other.layers[0].scales, kept)
    np.testing.assert_array_equal(other.layers[0].weights.ravel()[:8], first.scales)


def test_flipped_convolutions(tmp_path: Path) -> None:
    net = randomized(TWO_HEADS, 13)
    path = tmp_path / "x.weights"
    net.save_weights(path)
    flipped = darkbn.load(
        TWO_HEADS.replace("filters=8\nsize=3\nstride=2", "filters=8\nsize=3\nstride=2\nflipped=1"), path
    )
    stored = net.layers[0].weights.reshape(-1, 8)
    np.testing.assert_array_equal(flipped.layers[0].weights.reshape(8, -1), stored.T)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = randomized(TWO_HEADS, 14)
    path = tmp_path / "x.weights"
    net.save_weights(path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        randomized(TWO_HEADS, 15).save_weights(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.weights"]


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 5), st.sampled_from([1, 2, 3]), st.booleans()),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 2**40),
    st.sampled_from(["darknet", "alexeyab"]),
)
def test_any_stack_of_convolutions_round_trips(
    tmp_path_factory: pytest.TempPathFactory, stack: list[tuple[int, int, bool]], seen: int, dialect: str
) -> None:
    text = "[net]\nwidth=9\nheight=9\nchannels=2\n"
    for filters, size, normalize in stack:
        text += f"[convolutional]\nfilters={filters}\nsize={size}\npad=1\nbatch_normalize={int(normalize)}\n"
    path = tmp_path_factory.mktemp("weights") / "x.weights"
    net = randomized(text, 16, dialect=dialect)
    net.seen = seen
    net.save_weights(path)
    other = darkbn.load(text, path, dialect=dialect)
    assert_same(net, other)
    assert other.seen == seen
