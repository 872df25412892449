"""Proof that an ONNX file computes what darkbn computes: both run on the same inputs, compared layer by layer."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from darkbn.boxes import nms_sort
from darkbn.errors import DarkbnError
from darkbn.extras import require
from darkbn.interop.onnx.exporter import INPUT, layer_name
from darkbn.interop.onnx.graph import Array
from darkbn.interop.onnx.recurrent import CARRIED, carried_names

if TYPE_CHECKING:
    from darkbn.network import Network

#: Largest error of a layer, as a part of its largest value, for a file to be good.
TOLERANCE, TOLERANCE_FLOAT16 = 1e-4, 5e-2

#: Inputs that a file is tried with.
INPUTS = 3


@dataclass(frozen=True)
class LayerError:
    """How far one value of the model is from darkbn's.

    Attributes:
        index: of the layer; None for boxes, scores and detections.
        name: of the value in the model.
        type: of the section, or what the value is.
        error: largest difference over the largest magnitude, over all inputs.
        largest: largest magnitude.
    """

    index: int | None
    name: str
    type: str
    error: float
    largest: float


@dataclass(frozen=True)
class Verification:
    """Result of `verify_onnx`.

    Attributes:
        model: name of the file.
        layers: every layer that the model has a value for, in order.
        outputs: the model's outputs, computed by the file as it is.
        missing: layers that the model has no value for.
        tolerance: what errors may not exceed.
        inputs: how many inputs were tried.
    """

    model: str
    layers: tuple[LayerError, ...]
    outputs: tuple[LayerError, ...]
    missing: tuple[int, ...]
    tolerance: float
    inputs: int

    @property
    def first_difference(self) -> LayerError | None:
        """The first layer whose error exceeds the tolerance; else such an output; None when there is none."""
        return next((row for row in (*self.layers, *self.outputs) if not row.error <= self.tolerance), None)

    @property
    def good(self) -> bool:
        """Whether nothing differs, and something was compared."""
        return self.first_difference is None and bool(self.outputs)

    @property
    def error(self) -> float:
        """The largest error of all."""
        return max((row.error for row in (*self.layers, *self.outputs)), default=float("inf"))

    def summary(self) -> str:
        """One sentence."""
        bad = self.first_difference
        if bad is None:
            names = ", ".join(row.name for row in self.outputs)
            return (
                f"{len(self.layers)} layers and the outputs {names} agree on {self.inputs} inputs: largest error"
                f" {self.error:.1e} of the largest value (allowed {self.tolerance:g})"
            )
        return (
            f"it computes something else: {bad.name} [{bad.type}] is the first value that differs, by {bad.error:.1e}"
            f" of its largest value {bad.largest:.3g} (allowed {self.tolerance:g})"
        )


def verify_onnx(
    net: Network,
    model: str | os.PathLike[str] | bytes,
    *,
    name: str | None = None,
    tolerance: float | None = None,
    inputs: int = INPUTS,
    seed: int = 0,
) -> Verification:
    """Run an ONNX file and darkbn on the same inputs and compare every layer and every output.

    Args:
        net: the network; its state (of recurrent layers, and outputs) is overwritten.
        model: the file, or its bytes. Values named layer_i are compared with layer i, as `export_onnx` names them.
        name: of the model in messages.
        tolerance: largest error that is allowed, as a part of a layer's largest value; None = 1e-4, for float16
            models 5e-2.
        inputs: how many inputs are tried: noise first, then a smooth picture, then noise of a normal distribution.
        seed: of the noise.

    Raises:
        DarkbnError: the file cannot be read or run, or its input is another one than the network's.
    """
    data, label = _read(model, name)
    onnx = require("onnx", extra="onnx")
    parsed = _parsed(onnx, data, label)
    produced = [out for node in parsed.graph.node for out in node.output]
    indexes = [i for i in range(len(net.layers)) if layer_name(i) in produced]
    half = any(t.data_type == onnx.TensorProto.FLOAT16 for t in parsed.graph.initializer)
    outputs = [value.name for value in parsed.graph.output]
    plain, tapped = _Runner(data, net, label), _Runner(_tapped(onnx, parsed, indexes), net, label)
    layers, ends = _Worst(), _Worst()
    for x in _inputs(plain.shape(net), inputs, seed):
        found, taps = plain.run(x), tapped.run(x)
        for start in range(0, len(x), net.batch):
            _compare_pass(net, x, start, indexes, taps, layers)
            _compare_outputs(net, x, start, outputs, found, parsed, ends)
    net.reset_state()
    return Verification(
        model=label,
        layers=tuple(layers.row(layer_name(i), net.layers[i].type, i) for i in indexes),
        outputs=tuple(ends.row(name, "output", None) for name in ends.worst),
        missing=tuple(sorted(set(range(len(net.layers))) - set(indexes))),
        tolerance=tolerance if tolerance is not None else TOLERANCE_FLOAT16 if half else TOLERANCE,
        inputs=inputs,
    )


def relative_error(found: Array, expected: Array) -> tuple[float, float]:
    """Largest difference over the largest expected magnitude (infinite where NaN or infinities differ), and that
    magnitude."""
    found, expected = (np.asarray(a, dtype=np.float64).ravel() for a in (found, expected))
    if found.shape != expected.shape:
        return float("inf"), float(np.abs(expected).max(initial=0))
    finite = np.isfinite(expected)
    largest = float(np.abs(expected[finite]).max(initial=0))
    if not np.array_equal(found[~finite], expected[~finite], equal_nan=True) or not np.isfinite(found[finite]).all():
        return float("inf"), largest
    difference = float(np.abs(found[finite] - expected[finite]).max(initial=0))
    return (0.0 if difference == 0 else difference / largest if largest else float("inf")), largest


class _Worst:
    """The largest error of each value over several inputs."""

    def __init__(self) -> None:
        self.worst: dict[str, tuple[float, float]] = {}

    def add(self, name: str, found: Array, expected: Array) -> None:
        """Compare one value once more."""
        error, largest = relative_error(found, expected)
        before, before_largest = self.worst.get(name, (0.0, 0.0))
        self.worst[name] = max(error, before), max(largest, before_largest)

    def row(self, name: str, kind: str, index: int | None) -> LayerError:
        """The result."""
        error, largest = self.worst[name]
        return LayerError(index, name, kind, error, largest)


# -- the model ---------------------------------------------------------------------------------------------------------


def _read(model: str | os.PathLike[str] | bytes, name: str | None) -> tuple[bytes, str]:
    if isinstance(model, bytes):
        return model, name or "the model"
    try:
        return Path(model).read_bytes(), name or os.fspath(model)
    except OSError as error:
        raise DarkbnError(f"{os.fspath(model)}: cannot read the file: {error.strerror or error}") from error


def _parsed(onnx: Any, data: bytes, label: str) -> Any:
    try:
        model = onnx.load_model_from_string(data)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf and the checker have errors of their own kinds
        raise DarkbnError(f"{label}: no valid ONNX model: {str(error).splitlines()[0]}") from error
    return model


def _tapped(onnx: Any, model: Any, indexes: list[int]) -> bytes:
    """The same model with every layer's value as an output."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    present = {value.name for value in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=layer_name(i)) for i in indexes if layer_name(i) not in present)
    data: bytes = copy.SerializeToString()
    return data


class _Runner:
    """A model in onnxruntime."""

    def __init__(self, data: bytes, net: Network, label: str) -> None:
        runtime = require("onnxruntime", extra="onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = net.threads, 3
        try:
            self.session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has one class per kind of failure, without a common base
            raise DarkbnError(f"{label}: onnxruntime cannot run it: {str(error).splitlines()[0]}") from error
        self.label = label
        self.names = [value.name for value in self.session.get_outputs()]
        self.inputs = {value.name: value for value in self.session.get_inputs()}
        self.carried = _carried(net, self.inputs)
        self.steps = net.options.time_steps if self.carried else 1
        unknown = set(self.inputs) - {INPUT} - {name for name, _, _ in self.carried}
        if unknown or INPUT not in self.inputs:
            raise DarkbnError(f"{label}: expected an input named {INPUT!r}, found {', '.join(self.inputs)}")

    def shape(self, net: Network) -> tuple[int, ...]:
        """Shape of all steps' inputs; where the model leaves a length open it is the network's (twice its batch)."""
        wanted = self.inputs[INPUT].shape
        expected = net.input_shape
        if len(wanted) != len(expected) or any(
            isinstance(a, int) and a != b for a, b in zip(wanted[1:], expected[1:], strict=True)
        ):
            raise DarkbnError(f"{self.label}: its input is {wanted}, the network's {list(expected)}")
        per_step = net.batch // net.options.time_steps
        rows = wanted[0] if isinstance(wanted[0], int) else per_step if self.carried else 2 * per_step
        if self.carried and rows != per_step:
            raise DarkbnError(f"{self.label}: a step has {rows} samples, the network's {per_step}")
        return (rows * self.steps, *expected[1:])

    def run(self, x: Array) -> dict[str, Array]:
        """All outputs; those of several steps one behind the other."""
        rows = len(x) // self.steps
        state = {name: np.zeros((rows, *shape), np.float32) for name, _, shape in self.carried}
        parts = []
        for t in range(self.steps):
            given = {INPUT: x[t * rows : (t + 1) * rows], **state}
            parts.append(dict(zip(self.names, self.session.run(self.names, given), strict=True)))
            state = {before: parts[-1][after] for before, after, _ in self.carried}
        return {name: np.concatenate([part[name] for part in parts]) for name in self.names}


def _carried(net: Network, inputs: dict[str, Any]) -> list[tuple[str, str, tuple[int, ...]]]:
    """Inputs and outputs that carry a state, with the shape of a sample."""
    found = []
    for index, layer in enumerate(net.layers):
        for attribute in CARRIED:
            before, after = carried_names(index, attribute)
            if before in inputs:
                found.append((before, after, getattr(layer, attribute).shape[1:]))
    return found


# -- both runs ---------------------------------------------------------------------------------------------------------


def _inputs(shape: tuple[int, ...], count: int, seed: int) -> Iterator[Array]:
    """Noise between 0 and 1, a smooth picture, normal noise; then more noise between 0 and 1."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        if number == 1:
            ramps = [np.linspace(0, 1, length) for length in shape[1:]]
            x = sum(np.meshgrid(*ramps, indexing="ij")) / len(ramps)
            yield np.broadcast_to(x, shape).astype(np.float32)
        elif number == 2:
            yield rng.normal(0.4, 0.3, shape).astype(np.float32)
        else:
            yield rng.uniform(0, 1, shape).astype(np.float32)


def _compare_pass(net: Network, x: Array, start: int, indexes: list[int], taps: dict[str, Array], worst: _Worst) -> None:
    """Run darkbn on net.batch rows (filled up with zeros) and compare its layers with the model's rows."""
    part = x[start : start + net.batch]
    padded = np.zeros((net.batch, *x.shape[1:]), np.float32)
    padded[: len(part)] = part
    net.reset_state()
    net.forward(padded)
    for index in indexes:
        name, output = layer_name(index), _host(net.layers[index].output)
        if net.layers[index].type != "cost":  # without a truth it has no value
            worst.add(name, taps[name][start : start + len(part)], output[: len(part)])
        else:
            worst.add(name, output[:0], output[:0])


def _host(array: Any) -> Array:
    return np.asarray(array.get() if hasattr(array, "get") else array)


def _compare_outputs(
    net: Network, x: Array, start: int, names: list[str], found: dict[str, Array], model: Any, worst: _Worst
) -> None:
    """Compare the outputs of the unchanged file with the last pass of darkbn."""
    rows = min(net.batch, len(x) - start)
    for name in names:
        match = re.fullmatch(r"layer_(\d+)", name)
        if match and int(match[1]) < len(net.layers):
            worst.add(name, found[name][start : start + rows], _host(net.layers[int(match[1])].output)[:rows])
    if "boxes" in names and "scores" in names:
        for image in range(rows):
            boxes, scores = found["boxes"][start + image], found["scores"][start + image]
            expected = _all_rows(net, image)
            if len(expected) != len(boxes):  # heads leave out boxes without any positive score
                kept = (scores > 0).any(axis=1)
                boxes, scores = boxes[kept], scores[kept]
            worst.add("boxes", boxes, expected[:, :4])
            worst.add("scores", scores, expected[:, 5:])
    if "detections" in names:
        options = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
        for image in range(rows):
            mine = found["detections"][found["detections"][:, 0] == start + image, 1:]
            worst.add("detections", *_matched(mine, _suppressed(net, image, options["threshold"], options["nms"])))


def _all_rows(net: Network, image: int, threshold: float = -1.0) -> Array:
    """Rows of all heads (x, y, w, h, objectness, scores) of an image of the last pass."""
    parts = [_host(head.detections(image, threshold, net.threads)) for head in net.heads]  # type: ignore[attr-defined]
    width = max(part.shape[1] for part in parts)
    return np.concatenate([np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts])


def _suppressed(net: Network, image: int, threshold: float, nms: float) -> Array:
    """Rows of class, score, x, y, w, h that darkbn keeps, by IoU as the ONNX operator does."""
    rows = _all_rows(net, image, threshold)
    scores = nms_sort(rows[:, :4], rows[:, 5:], nms, threads=net.threads)
    places, classes = np.nonzero(scores)
    return np.column_stack([classes, scores[places, classes], rows[places, :4]]).reshape(-1, 6)


def _matched(found: Array, expected: Array) -> tuple[Array, Array]:
    """Both lists of detections in the same order, by class, then by falling score."""
    return tuple(rows[np.lexsort((-rows[:, 1], rows[:, 0]))] for rows in (found, expected))  # type: ignore[return-value]
