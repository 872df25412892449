"""Where two networks, or two runs of one, differ: parameters and outputs, layer by layer.

A side is a network (with a device and a convention of batch normalization of its own), an ONNX file, or a NumPy file
with parameters or a dump of outputs. What both sides have under the same name is compared.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from darkbn.errors import DarkbnError
from darkbn.interop import npz
from darkbn.signature import Array

if TYPE_CHECKING:
    from darkbn.network import Network

#: Largest difference, as a part of the largest value, of what counts as equal.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Difference:
    """How two arrays differ.

    Attributes:
        name: of the value: `layer_3` for an output, `layer_3.weights` for a parameter.
        layer: its index.
        type: of the layer's section, "" where neither side says.
        error: largest difference over the largest magnitude in A; infinite where shapes or NaN differ.
        mean: mean difference over the mean magnitude in A.
        largest: largest magnitude in A.
        place: index of the largest difference.
        note: what else is to say: different shapes.
    """

    name: str
    layer: int
    type: str
    error: float
    mean: float
    largest: float
    place: tuple[int, ...]
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """Result of `diff`.

    Attributes:
        a, b: what was compared.
        parameters, outputs: all that both have, in the order of the layers.
        only_a, only_b: names that one side alone has; of parameters only where both sides have some.
        tolerance: what counts as equal.
    """

    a: str
    b: str
    parameters: tuple[Difference, ...]
    outputs: tuple[Difference, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    tolerance: float

    @property
    def first_parameter(self) -> Difference | None:
        """The first parameter that differs."""
        return next((row for row in self.parameters if not row.error <= self.tolerance), None)

    @property
    def first_output(self) -> Difference | None:
        """The first layer whose output differs."""
        return next((row for row in self.outputs if not row.error <= self.tolerance), None)

    @property
    def equal(self) -> bool:
        """Whether nothing differs by more than the tolerance."""
        return self.first_parameter is None and self.first_output is None

    def verdict(self) -> str:
        """What the numbers mean, in one or two sentences."""
        parameter, output = self.first_parameter, self.first_output
        if not self.parameters and not self.outputs:
            return "nothing to compare: no name is on both sides"
        if output is None and parameter is None:
            worst = max((row.error for row in (*self.parameters, *self.outputs)), default=0.0)
            counts = f"{len(self.parameters)} parameters and {len(self.outputs)} outputs"
            return f"equal: {counts} agree to {worst:.1e} of the largest value (allowed {self.tolerance:g})"
        parts = []
        if parameter is not None:
            count = sum(not row.error <= self.tolerance for row in self.parameters)
            parts.append(f"{count} of {len(self.parameters)} parameters differ, the first is {_named(parameter)}")
        elif self.parameters:
            parts.append(f"all {len(self.parameters)} parameters agree")
        if output is not None:
            parts.append(f"the first output that differs is {_named(output)}")
        elif self.outputs:
            parts.append(f"all {len(self.outputs)} outputs agree")
        return "; ".join(parts)


def _named(row: Difference) -> str:
    kind = f" [{row.type}]" if row.type else ""
    return f"{row.name}{kind}, by {row.error:.1e} of its largest value {row.largest:.3g}"


# -- sides -------------------------------------------------------------------------------------------------------------


@dataclass
class Side:
    """One side of the comparison.

    Attributes:
        label: what it is called.
        parameters: by name.
        types: of the layers, where known.
        network: that computes the outputs, or None.
        model: bytes of an ONNX file that does, or None.
        dump: outputs that are there already, by name.
        input: of the dump, or None.
    """

    label: str
    parameters: dict[str, Array]
    types: list[str]
    network: Network | None = None
    model: bytes | None = None
    dump: dict[str, Array] | None = None
    input: Array | None = None

    def outputs(self, x: Array | None) -> dict[str, Array]:
        """Outputs of all layers for an input, by name."""
        if self.dump is not None:
            return self.dump
        if x is None:
            return {}
        if self.network is not None:
            return npz.activations(self.network, x)
        return {} if self.model is None else _onnx_outputs(self.model, x, self.label)

    def shape(self) -> tuple[int, ...] | None:
        """Shape of the input, where the side knows one."""
        if self.network is not None:
            return self.network.input_shape
        return None if self.input is None else self.input.shape


def network_side(net: Network, label: str | None = None) -> Side:
    """A network in memory."""
    return Side(label or net.cfg.file, npz.parameters(net), [layer.type for layer in net.layers], network=net)


def npz_side(path: str | os.PathLike[str]) -> Side:
    """A file that `darkbn.interop.npz` wrote: parameters, outputs, or both."""
    arrays = npz.read_arrays(path)
    dump = {key: value for key, value in arrays.items() if re.fullmatch(r"layer_\d+", key)}
    named = {key: value for key, value in arrays.items() if re.match(r"layer_\d+\.", key)}
    if not dump and not named:
        raise DarkbnError(f"{os.fspath(path)}: expected arrays named layer_0, layer_0.weights, ..., found none")
    types = npz.description(arrays).get("types", [])
    return Side(os.fspath(path), named, list(types), dump=dump, input=arrays.get(npz.INPUT))


def onnx_side(path: str | os.PathLike[str]) -> Side:
    """An ONNX file whose values have the names that `export_onnx` gives. Its parameters are folded, mostly."""
    from darkbn.extras import require

    onnx = require("onnx", extra="onnx")
    try:
        data = Path(path).read_bytes()
        model = onnx.load_model_from_string(data)
    except OSError as error:
        raise DarkbnError(f"{os.fspath(path)}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # protobuf has errors of its own kinds
        raise DarkbnError(f"{os.fspath(path)}: no valid ONNX model: {error}") from error
    named = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    folded = {e.key: e.value for e in model.metadata_props}.get("batchnorm_folded") == "true"
    return Side(os.fspath(path), {} if folded else named, [], model=data)


def read_side(text: str) -> Side:
    """A side as the command line names it: FILE.onnx, FILE.npz, or CFG[,WEIGHTS][,key=value...] with the keys device,
    batchnorm, dialect, width, height of `darkbn.load`."""
    first, *rest = text.split(",")
    if not rest and first.endswith(".onnx"):
        return onnx_side(first)
    if not rest and first.endswith(".npz"):
        return npz_side(first)
    from darkbn.network import load

    files = [part for part in rest if "=" not in part]
    options: dict[str, Any] = dict(part.split("=", 1) for part in rest if "=" in part)
    known = {"device", "batchnorm", "dialect", "width", "height"}
    if len(files) > 1 or not set(options) <= known:
        raise DarkbnError(
            f"{text!r}: expected FILE.onnx, FILE.npz or CFG,WEIGHTS,key=value with the keys {', '.join(sorted(known))}"
        )
    try:
        options |= {key: int(options[key]) for key in ("width", "height") if key in options}
    except ValueError as error:
        raise DarkbnError(f"{text!r}: {error}") from error
    return network_side(load(first, files[0] if files else None, **options), text)


def _onnx_outputs(data: bytes, x: Array, label: str) -> dict[str, Array]:
    from darkbn.extras import require

    onnx, runtime = require("onnx", extra="onnx"), require("onnxruntime", extra="onnx")
    model = onnx.load_model_from_string(data)
    made = [name for node in model.graph.node for name in node.output if re.fullmatch(r"layer_\d+", name)]
    present = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made if name not in present)
    try:
        session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        given = {session.get_inputs()[0].name: np.asarray(x, np.float32)}
        found = session.run(made, given)
    except Exception as error:  # onnxruntime has one class per kind of failure, without a common base
        raise DarkbnError(f"{label}: onnxruntime cannot run it: {str(error).splitlines()[0]}") from error
    return dict(zip(made, found, strict=True))


# -- comparison --------------------------------------------------------------------------------------------------------


def diff(
    a: Side | Network, b: Side | Network, x: Any = None, *, tolerance: float = TOLERANCE, seed: int = 0
) -> Comparison:
    """Compare two sides.

    Args:
        a, b: sides, or networks.
        x: the input that both run on; None: that of a dump, where one side is one, else noise between 0 and 1.
        tolerance: largest difference, as a part of a value's largest magnitude, that counts as equal.
        seed: of the noise.

    Raises:
        DarkbnError, ShapeError: a side cannot be run on the input.
    """
    a, b = (side if isinstance(side, Side) else network_side(side) for side in (a, b))
    x = _input(a, b, x, seed)
    outputs_a, outputs_b = a.outputs(x), b.outputs(x)
    types = a.types or b.types
    both = bool(a.parameters and b.parameters)  # a side without any has not lost some
    own = [*(a.parameters if both else ()), *outputs_a]
    others = [*(b.parameters if both else ()), *outputs_b]
    return Comparison(
        a=a.label,
        b=b.label,
        parameters=_differences(a.parameters, b.parameters, types),
        outputs=_differences(outputs_a, outputs_b, types, skip="cost"),
        only_a=tuple(name for name in own if name not in set(others)),
        only_b=tuple(name for name in others if name not in set(own)),
        tolerance=tolerance,
    )


def _input(a: Side, b: Side, x: Any, seed: int) -> Array | None:
    if x is not None:
        return np.asarray(x, np.float32)
    for side in (a, b):
        if side.dump and side.input is not None:
            return side.input
    shape = a.shape() or b.shape()
    return None if shape is None else np.random.default_rng(seed).uniform(0, 1, shape).astype(np.float32)


def _differences(
    a: dict[str, Array], b: dict[str, Array], types: Sequence[str], skip: str = ""
) -> tuple[Difference, ...]:
    rows = []
    for name in a:
        match = re.match(r"layer_(\d+)", name)
        if name not in b or match is None:
            continue
        index = int(match[1])
        kind = types[index] if index < len(types) else ""
        if not skip or kind != skip:
            rows.append(_difference(name, index, kind, a[name], b[name]))
    return tuple(sorted(rows, key=lambda row: row.layer))


def _difference(name: str, index: int, kind: str, a: Array, b: Array) -> Difference:
    largest = float(np.abs(a, dtype=np.float64).max(initial=0, where=np.isfinite(a)))
    if a.size != b.size:
        note = f"shapes {_shape(a)} and {_shape(b)}"
        return Difference(name, index, kind, float("inf"), float("inf"), largest, (), note)
    first, second = a.astype(np.float64), b.astype(np.float64).reshape(a.shape)
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(first - second))
    apart = np.where(np.isnan(apart), np.inf, apart)
    worst = float(apart.max(initial=0))
    place = tuple(int(i) for i in np.unravel_index(apart.argmax(), apart.shape)) if apart.size else ()
    magnitude = float(np.abs(first).mean()) if first.size else 0.0
    mean = float(apart.mean()) if apart.size else 0.0
    return Difference(name, index, kind, _part(worst, largest), _part(mean, magnitude), largest, place)


def _part(value: float, whole: float) -> float:
    return 0.0 if value == 0 else value / whole if whole else float("inf")


def _shape(array: Array) -> str:
    return "x".join(map(str, array.shape))


def _shortened(label: str) -> str:
    """Without the folders."""
    return ",".join(Path(part).name if "=" not in part else part for part in label.split(","))


# -- picture -----------------------------------------------------------------------------------------------------------


def save_plot(result: Comparison, path: str | os.PathLike[str]) -> None:
    """Draw the errors of outputs and parameters over the layers, logarithmically; the suffix decides the format."""
    from darkbn.extras import require
    from darkbn.files import atomic_write

    figure = require("matplotlib.figure", extra="plot").Figure(figsize=(9, 4), layout="constrained")
    axes = figure.add_subplot()
    shown = [row.error for row in (*result.outputs, *result.parameters) if 0 < row.error < float("inf")]
    floor = min([*shown, result.tolerance]) / 10
    ceiling = max([*shown, result.tolerance]) * 10
    for rows, label, style in ((result.parameters, "parameters", "s"), (result.outputs, "outputs", "o-")):
        if rows:
            errors = [min(max(row.error, floor), ceiling) for row in rows]
            axes.plot([row.layer for row in rows], errors, style, label=label, markersize=3, linewidth=1)
    axes.axhline(result.tolerance, color="gray", linestyle="--", linewidth=1, label=f"allowed ({result.tolerance:g})")
    axes.set_yscale("log")
    axes.set_ylim(floor / 2, ceiling * 2)
    axes.set_xlabel("layer")
    axes.set_ylabel("largest difference / largest value")
    axes.set_title(f"A: {_shortened(result.a)}\nB: {_shortened(result.b)}", fontsize=9, loc="left")
    axes.legend(frameon=False)
    suffix = Path(path).suffix.removeprefix(".").lower() or "png"
    try:
        with atomic_write(path) as file:
            figure.savefig(file, format=suffix, dpi=120)
    except (OSError, ValueError) as error:
        raise DarkbnError(f"{os.fspath(path)}: cannot write the picture: {error}") from error
