"""Proof that an ONNX file computes what darkbn computes: both run on the same inputs, compared layer by layer."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from darkbn.backend import to_host
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


#: How many times the error may be what darkbn's own outputs move by when its input is rounded differently.
AMPLIFIED = 30


@dataclass(frozen=True)
class LayerError:
    """How far one value of the model is from darkbn's.

    Attributes:
        index: of the layer; None for boxes, scores and detections.
        name: of the value in the model.
        type: of the section, or "output".
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
        layers: error of every layer that the model has a value for, in order, given the values that darkbn has for the
            layers before: what the layer itself does differently.
        outputs: error of the model's outputs, computed from the input by the file as it is.
        missing: layers that the model has no value for.
        tolerance: what errors may not exceed.
        noise: by how much darkbn's own outputs change when its input changes by one rounding; measured only where
            outputs exceed the tolerance though no layer does, else 0.
        inputs: how many inputs were tried.
    """

    model: str
    layers: tuple[LayerError, ...]
    outputs: tuple[LayerError, ...]
    missing: tuple[int, ...]
    tolerance: float
    noise: float
    inputs: int

    @property
    def first_difference(self) -> LayerError | None:
        """The first layer whose error exceeds the tolerance; else such an output; None when there is none.

        Outputs may differ by what rounding makes of them in this network (`noise`).
        """
        allowed = max(self.tolerance, min(AMPLIFIED * self.noise, 1.0))
        bad_layer = next((row for row in self.layers if not row.error <= self.tolerance), None)
        return bad_layer or next((row for row in self.outputs if not row.error <= allowed), None)

    @property
    def good(self) -> bool:
        """Whether nothing differs."""
        return self.first_difference is None

    @property
    def error(self) -> float:
        """The largest error of all."""
        return max(row.error for row in (*self.layers, *self.outputs))

    def summary(self) -> str:
        """One sentence."""
        bad = self.first_difference
        if bad is not None:
            return (
                f"it computes something else: {bad.name} [{bad.type}] is the first value that differs, by"
                f" {bad.error:.1e} of its largest value {bad.largest:.3g} (allowed {self.tolerance:g})"
            )
        layers = max((row.error for row in self.layers), default=0.0)
        outputs = max(row.error for row in self.outputs)
        text = (
            f"{len(self.layers)} layers and {len(self.outputs)} outputs agree on {self.inputs} inputs: largest error"
            f" {layers:.1e} (layers), {outputs:.1e} (outputs) of the largest value, allowed {self.tolerance:g}"
        )
        if self.noise:
            text += f"; outputs may differ more, as one rounding of the input already moves them by {self.noise:.1e}"
        return text


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
    half = any(t.data_type == onnx.TensorProto.FLOAT16 for t in parsed.graph.initializer)
    limit = tolerance if tolerance is not None else TOLERANCE_FLOAT16 if half else TOLERANCE
    comparison = _Comparison(net, parsed, data, label)
    for x in _inputs(comparison.shape, inputs, seed):
        comparison.run(x)
    noise = 0.0
    if comparison.layers.largest_error() <= limit < comparison.outputs.largest_error():
        noise = _rounding_noise(net, next(_inputs(net.input_shape, 1, seed)))
    net.reset_state()
    indexes = comparison.indexes
    return Verification(
        model=label,
        layers=tuple(comparison.layers.row(layer_name(i), net.layers[i].type, i) for i in indexes),
        outputs=tuple(comparison.outputs.row(name, "output", None) for name in comparison.outputs.worst),
        missing=tuple(sorted(set(range(len(net.layers))) - set(indexes))),
        tolerance=limit,
        noise=noise,
        inputs=inputs,
    )


def _rounding_noise(net: Network, x: Array) -> float:
    """How far the network's outputs move, as a part of their largest value, when its input changes by roundings."""
    layers = net.heads or [net.output_layer]
    results = []
    for factor in (1.0, 1 + 2.0**-23, 1 - 2.0**-23):
        net.reset_state()
        net.forward((x * np.float64(factor)).astype(np.float32))
        results.append([_host(layer.output).copy() for layer in layers])
    return max(relative_error(b, a)[0] for other in results[1:] for a, b in zip(results[0], other, strict=True))


@dataclass(frozen=True)
class Description:
    """What a file says of the network it was made from: how that must be loaded. None = not said, or left open."""

    batch: int | None
    width: int | None
    height: int | None
    dialect: str | None
    batchnorm: str | None


def read_description(path: str | os.PathLike[str]) -> Description:
    """The `Description` in a file. Raises DarkbnError when it cannot be read or is no ONNX model."""
    data, label = _read(path, None)
    model = _parsed(require("onnx", extra="onnx"), data, label)
    said = {entry.key: entry.value for entry in model.metadata_props}
    shape = next((v.type.tensor_type.shape.dim for v in model.graph.input if v.name == INPUT), ())
    sizes = [dim.dim_value or None for dim in shape]
    image = len(sizes) == 4
    return Description(
        batch=sizes[0] if sizes else None,
        width=sizes[3] if image else None,
        height=sizes[2] if image else None,
        dialect=_text(said, "dialect"),
        batchnorm=_text(said, "batchnorm"),
    )


def _text(said: dict[str, str], key: str) -> str | None:
    try:
        value = json.loads(said.get(key, "null"))
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, str) else None


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

    def largest_error(self) -> float:
        """The largest error of all values."""
        return max((error for error, _ in self.worst.values()), default=0.0)

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


def _with_outputs(onnx: Any, model: Any, names: list[str]) -> bytes:
    """The same model with some more values as outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _add_outputs(onnx, copy, names)
    data: bytes = copy.SerializeToString()
    return data


def _add_outputs(onnx: Any, model: Any, names: list[str]) -> None:
    present = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)


def _in_pieces(onnx: Any, model: Any, indexes: list[int]) -> tuple[bytes, dict[str, int]]:
    """The model cut behind every layer: each takes the layers before it as inputs, and all are outputs.

    Returns:
        The model, and the inputs that it has instead of layers: which layer each stands for.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    half = any(t.data_type == onnx.TensorProto.FLOAT16 for t in model.graph.initializer)
    outputs = {value.name for value in model.graph.output}
    indexes_of = {layer_name(i): i for i in indexes}
    used: dict[str, int] = {}
    for node in copy.graph.node:
        for place, name in enumerate(node.input):
            if name in indexes_of:
                node.input[place] = f"{name}_given"
                used[f"{name}_given"] = indexes_of[name]
    for name, index in used.items():
        kind = onnx.TensorProto.FLOAT16 if half and layer_name(index) not in outputs else onnx.TensorProto.FLOAT
        copy.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, None))
    _add_outputs(onnx, copy, [layer_name(i) for i in indexes])
    return copy.SerializeToString(), used


class _Runner:
    """A model in onnxruntime."""

    def __init__(self, data: bytes, net: Network, label: str, given: set[str]) -> None:
        runtime = require("onnxruntime", extra="onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = net.threads, 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # darkbn works between the runs
        try:
            self.session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has one class per kind of failure, without a common base
            raise DarkbnError(f"{label}: onnxruntime cannot run it: {str(error).splitlines()[0]}") from error
        self.label = label
        self.names = [value.name for value in self.session.get_outputs()]
        self.inputs = {value.name: value for value in self.session.get_inputs()}
        self.carried = _carried(net, self.inputs)
        self.steps = net.options.time_steps if self.carried else 1
        unknown = set(self.inputs) - {INPUT} - {name for name, _, _ in self.carried} - given
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

    def step(self, x: Array, given: dict[str, Array]) -> dict[str, Array]:
        """All outputs of one time step; `given` has the inputs besides x."""
        types = {"tensor(float16)": np.float16, "tensor(float)": np.float32}
        fed = {name: array.astype(types[self.inputs[name].type], copy=False) for name, array in given.items()}
        return dict(zip(self.names, self.session.run(self.names, {INPUT: x, **fed}), strict=True))

    def run(self, x: Array, given: dict[str, Array]) -> dict[str, Array]:
        """All outputs; those of several time steps one behind the other. `given` has further inputs for all steps."""
        rows = len(x) // self.steps
        state = {name: np.zeros((rows, *shape), np.float32) for name, _, shape in self.carried}
        parts = []
        for t in range(self.steps):
            here = slice(t * rows, (t + 1) * rows)
            parts.append(self.step(x[here], {name: array[here] for name, array in given.items()} | state))
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


class _Comparison:
    """Both programs, and the largest errors so far."""

    def __init__(self, net: Network, parsed: Any, data: bytes, label: str) -> None:
        onnx = require("onnx", extra="onnx")
        produced = {out for node in parsed.graph.node for out in node.output}
        self.net = net
        self.indexes = [i for i in range(len(net.layers)) if layer_name(i) in produced]
        self.names = [value.name for value in parsed.graph.output]
        if not {*(layer_name(i) for i in self.indexes), "boxes", "scores", "detections"} & set(self.names):
            raise DarkbnError(f"{label}: nothing to compare: no output is named layer_N, boxes, scores or detections")
        self.said = {entry.key: entry.value for entry in parsed.metadata_props}
        if "detections" in self.names:
            data = _with_outputs(onnx, parsed, ["boxes", "scores"])
        self.whole = _Runner(data, net, label, set())
        pieces, self.given = _in_pieces(onnx, parsed, self.indexes)
        self.pieces = _Runner(pieces, net, label, set(self.given))
        self.shape = self.whole.shape(net)
        self.layers, self.outputs = _Worst(), _Worst()

    def run(self, x: Array) -> None:
        """Try one more input."""
        found = self.whole.run(x, {})
        results: dict[int, list[Array]] = {index: [] for index in self.indexes}
        for start in range(0, len(x), self.net.batch):
            rows = self._forward(x[start : start + self.net.batch])
            for index, parts in results.items():
                parts.append(_host(self.net.layers[index].output)[:rows].copy())
            if "scores" in found:
                self._compare_boxes(found, start, rows)
        expected = {index: np.concatenate(parts) for index, parts in results.items()}
        for index, values in expected.items():
            if layer_name(index) in self.names:
                self.outputs.add(layer_name(index), found[layer_name(index)], values)
        if "detections" in found:
            self._compare_detections(found)
        self._compare_layers(x, expected)

    def _forward(self, part: Array) -> int:
        """Run darkbn on at most net.batch rows; returns how many."""
        padded = np.zeros((self.net.batch, *part.shape[1:]), np.float32)
        padded[: len(part)] = part
        self.net.reset_state()
        self.net.forward(padded)
        return len(part)

    def _compare_layers(self, x: Array, expected: dict[int, Array]) -> None:
        """Each layer of the model on darkbn's values of the layers before."""
        alone = self.pieces.run(x, {name: expected[index] for name, index in self.given.items()})
        for index, values in expected.items():
            found = alone[layer_name(index)]
            # Without a truth, [cost] has no value.
            self.layers.add(layer_name(index), found, found if self.net.layers[index].type == "cost" else values)

    def _compare_boxes(self, found: dict[str, Array], start: int, rows: int) -> None:
        for image in range(rows):
            boxes, scores = found["boxes"][start + image], found["scores"][start + image]
            expected = _all_rows(self.net, image)
            if len(expected) != len(boxes):  # heads leave out boxes without any positive score
                kept = (scores > 0).any(axis=1)
                boxes, scores = boxes[kept], scores[kept]
            self.outputs.add("boxes", boxes, expected[:, :4])
            self.outputs.add("scores", scores, expected[:, 5:])

    def _compare_detections(self, found: dict[str, Array]) -> None:
        """Suppress the model's own boxes with darkbn: that must give the same, number for number."""
        how = {key: json.loads(self.said[key]) for key in ("threshold", "nms", "nms_kind", "beta_nms")}
        options = {"kind": how["nms_kind"], "beta": how["beta_nms"], "threads": self.net.threads}
        rows = found["detections"]
        for image, (boxes, scores) in enumerate(zip(found["boxes"], found["scores"], strict=True)):
            above = np.where(scores > np.float32(how["threshold"]), scores, 0)
            left = nms_sort(boxes, above, how["nms"], **options)
            places, classes = np.nonzero(left)
            expected = np.column_stack([classes, left[places, classes], boxes[places]]).reshape(-1, 6)
            self.outputs.add("detections", _sorted(rows[rows[:, 0] == image, 1:]), _sorted(expected))


def _host(array: Any) -> Array:
    return np.asarray(to_host(array))


def _all_rows(net: Network, image: int) -> Array:
    """Rows of all heads (x, y, w, h, objectness, scores) of an image of the last pass."""
    heads: list[Any] = net.heads
    parts = [_host(head.detections(image, -np.inf, net.threads)) for head in heads]
    width = max(part.shape[1] for part in parts)
    return np.concatenate([np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts])


def _sorted(rows: Array) -> Array:
    """Detections in an order that only their numbers decide."""
    ordered: Array = rows[np.lexsort(rows.T[::-1])]
    return ordered
