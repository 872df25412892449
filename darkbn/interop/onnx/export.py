"""A network as an ONNX model."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from darkbn.backend import to_host
from darkbn.boxes import NMS_KINDS
from darkbn.detect import default_letterbox
from darkbn.errors import DarkbnError
from darkbn.extras import require
from darkbn.files import atomic_write
from darkbn.interop.onnx import heads as head_writers
from darkbn.interop.onnx import recurrent  # noqa: F401  # its writers register themselves in WRITERS
from darkbn.interop.onnx.exporter import Exporter, Wanted, layer_name
from darkbn.interop.onnx.graph import DEFAULT_OPSET
from darkbn.interop.onnx.sections import WRITERS
from darkbn.names import names_for

if TYPE_CHECKING:
    from darkbn.interop.onnx.verify import Verification
    from darkbn.network import Network

log = logging.getLogger(__name__)

#: What comes out of a detector: the heads' maps, boxes and scores, or detections after suppression.
HEADS = ("raw", "decoded", "nms")


@dataclass(frozen=True)
class ExportResult:
    """What `export_onnx` did.

    Attributes:
        path: the file.
        inputs, outputs: names of the model's inputs and outputs.
        nbytes: size of the file.
        verification: how far the model's numbers are from darkbn's; None when it was not run.
        not_verified: why it was not run.
    """

    path: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nbytes: int
    verification: Verification | None
    not_verified: str | None = None


def export_onnx(
    net: Network,
    path: str | os.PathLike[str],
    *,
    batch: int | str | None = None,
    dynamic_size: bool = False,
    opset: int = DEFAULT_OPSET,
    fold: bool = True,
    heads: str = "raw",
    float16: bool = False,
    threshold: float = 0.25,
    nms: float = 0.45,
    nms_kind: str | None = None,
    names: Sequence[str] | None = None,
    letterbox: bool | None = None,
    verify: bool | None = None,
    tolerance: float | None = None,
) -> ExportResult:
    """Write a network as an ONNX file, and compare what it computes with darkbn, layer by layer.

    Values and their names: the input is `input`, (batch, c, h, w) or (batch, inputs) float32; the output of layer i is
    `layer_i`. Recurrent networks are written as one time step with their states as further inputs and outputs (see
    `darkbn.interop.onnx.recurrent`).

    Args:
        net: the network.
        path: the file; it appears whole, or not at all.
        batch: images per run; "dynamic" leaves it open; None = the network's.
        dynamic_size: leave width and height of the input open; otherwise they are the network's (`darkbn.load` takes
            others). Sections that have a fixed number of inputs refuse.
        opset: version of the ONNX operators, 13 or later.
        fold: put batch normalization into the weights, computed in float64, with epsilon where the network's
            convention has it; otherwise it stays a step of its own.
        heads: outputs of a detector. "raw": the map of each head, `layer_i`, as `Layer.output`. "decoded": `boxes`
            (batch, m, 4), centre x, y, width, height relative to the input, and `scores` (batch, m, classes),
            objectness times probability. "nms": `detections` (k, 7): image, class, score, x, y, w, h after
            suppression. Networks without detection layers give their last layer whatever this says.
        float16: weights and computation in half precision; inputs and outputs stay float32.
        threshold, nms: with heads="nms": what scores must exceed, and the overlap that two boxes of a class may have.
        nms_kind: how overlap is measured, as in `darkbn.boxes.nms_sort`; None = as the network says. "default" is the
            NonMaxSuppression operator, which every program has; "greedynms" and "diounms" need Loop, too.
        names: labels of the classes for the metadata; None = the built-in ones when their number fits.
        letterbox: whether pictures are to be letterboxed, for the metadata; None = as the dialect's detector does.
        verify: run the file in onnxruntime and compare; None = if onnxruntime is installed. A file that differs is
            not written.
        tolerance: see `verify_onnx`.

    Raises:
        CannotExportError: sections that cannot be written, each with file, line and reason. Nothing is written.
        DarkbnError: the model computes something else (then nothing is written), or an argument that cannot be.
    """
    model = onnx_model(
        net,
        batch=batch,
        dynamic_size=dynamic_size,
        opset=opset,
        fold=fold,
        heads=heads,
        float16=float16,
        threshold=threshold,
        nms=nms,
        nms_kind=nms_kind,
        names=names,
        letterbox=letterbox,
    )
    data = model.SerializeToString()
    verification, reason = _verified(net, data, os.fspath(path), verify, tolerance)
    if verification is not None and not verification.good:
        raise DarkbnError(f"{os.fspath(path)} is not written: {verification.summary()}")
    _write(path, data)
    return ExportResult(
        path=os.fspath(path),
        inputs=tuple(value.name for value in model.graph.input),
        outputs=tuple(value.name for value in model.graph.output),
        nbytes=len(data),
        verification=verification,
        not_verified=reason,
    )


def _write(path: str | os.PathLike[str], data: bytes) -> None:
    if not Path(path).absolute().parent.is_dir():
        raise DarkbnError(f"{os.fspath(path)}: there is no folder {Path(path).parent}")
    try:
        with atomic_write(path) as file:
            file.write(data)
    except OSError as error:
        raise DarkbnError(f"{os.fspath(path)}: cannot write the file: {error.strerror or error}") from error


def _verified(
    net: Network, data: bytes, name: str, verify: bool | None, tolerance: float | None
) -> tuple[Verification | None, str | None]:
    from darkbn.extras import MissingExtraError
    from darkbn.interop.onnx.verify import verify_onnx

    if verify is False:
        return None, "not asked for"
    try:
        return verify_onnx(net, data, name=name, tolerance=tolerance), None
    except MissingExtraError:
        if verify:
            raise
        log.warning("%s was not verified: onnxruntime is not installed", name)
        return None, "onnxruntime is not installed"


def onnx_model(
    net: Network,
    *,
    batch: int | str | None = None,
    dynamic_size: bool = False,
    opset: int = DEFAULT_OPSET,
    fold: bool = True,
    heads: str = "raw",
    float16: bool = False,
    threshold: float = 0.25,
    nms: float = 0.45,
    nms_kind: str | None = None,
    names: Sequence[str] | None = None,
    letterbox: bool | None = None,
) -> Any:
    """The onnx.ModelProto that `export_onnx` writes; arguments and errors as there."""
    require("onnx", extra="onnx")
    if heads not in HEADS:
        raise DarkbnError(f"heads must be one of {', '.join(HEADS)}, found {heads!r}")
    suppression = _suppression(net, threshold, nms, nms_kind)
    e = Exporter(net, _wanted(net, batch, dynamic_size, fold, opset, float16))
    e.run(WRITERS)
    e.g.dtype = np.float32  # what follows is small, and float16 has too few digits for places
    if heads == "raw" or not net.heads:
        _raw_outputs(e)
    else:
        _box_outputs(e, heads, suppression)
    metadata = _metadata(net, e.wanted, heads, names, letterbox)
    if heads == "nms" and net.heads:
        metadata |= {key: json.dumps(value) for key, value in suppression.items()}
    return e.g.model(Path(net.cfg.file).stem or "darknet", _description(net), metadata)


def _wanted(net: Network, batch: int | str | None, dynamic_size: bool, fold: bool, opset: int, float16: bool) -> Wanted:
    per_step = net.batch // net.options.time_steps
    if batch is None:
        batch = per_step
    if batch != "dynamic" and (not isinstance(batch, int) or batch < 1):
        raise DarkbnError(f"batch must be a number from 1 on or 'dynamic', found {batch!r}")
    if dynamic_size and len(net.input_shape) != 4:
        raise DarkbnError(f"{net.cfg.file}: the input of this network is no picture, so its size cannot be dynamic")
    return Wanted(
        dynamic_batch=batch == "dynamic",
        dynamic_size=dynamic_size,
        fold=fold,
        batch=per_step if batch == "dynamic" else int(batch),
        opset=opset,
        float16=float16,
    )


def _raw_outputs(e: Exporter) -> None:
    layers = e.net.heads or [e.net.output_layer]
    for layer in reversed(layers):
        index = e.net.layers.index(layer)
        name, shape = layer_name(index), _open_shape(e, layer.output_shape)
        if e.wanted.float16:
            _cast_output(e, name)
        e.g.outputs.insert(0, (name, shape))


def _cast_output(e: Exporter, name: str) -> None:
    """Give the name of an output to its float32 copy."""
    half = f"{name}_half"
    e.g.rename(name, half, 0)
    e.g.rename(e.g.cast(half, np.float32), name, len(e.g.nodes) - 1)


def _open_shape(e: Exporter, shape: tuple[int, ...]) -> list[int | str | None]:
    sizes: list[int | str | None] = list(shape)
    sizes[0] = e.g.inputs[0][1][0]
    if e.wanted.dynamic_size and len(shape) == 4:
        sizes[2:] = [None, None]
    return sizes


def _suppression(net: Network, threshold: float, nms: float, kind: str | None) -> dict[str, Any]:
    """What decides which boxes are left, by the names that it has in the metadata."""
    options: Any = net.heads[-1].options if net.heads else None
    kind = getattr(options, "nms_kind", "default") if kind is None else kind
    if kind not in NMS_KINDS:
        raise DarkbnError(f"nms_kind must be one of {', '.join(NMS_KINDS)}, found {kind!r}")
    return {"threshold": threshold, "nms": nms, "nms_kind": kind, "beta_nms": getattr(options, "beta_nms", 0.6)}


def _box_outputs(e: Exporter, heads: str, suppression: dict[str, Any]) -> None:
    boxes, scores = head_writers.decode(e)
    e.g.rename(boxes, "boxes", 0)
    e.g.rename(scores, "scores", 0)
    if heads == "nms":
        e.g.scope = "nms"
        found = head_writers.suppress(
            e,
            "boxes",
            "scores",
            threshold=suppression["threshold"],
            overlap=suppression["nms"],
            kind=suppression["nms_kind"],
            beta=suppression["beta_nms"],
        )
        e.g.rename(found, "detections", 0)
        e.g.outputs.insert(0, ("detections", ["detections", 7]))
        return
    classes = max(head.options.classes for head in e.net.heads)
    batch = e.g.inputs[0][1][0]
    count = None if e.wanted.dynamic_size else sum(_boxes_of(head) for head in e.net.heads)
    e.g.outputs[:0] = [("boxes", [batch, count, 4]), ("scores", [batch, count, classes])]


def _boxes_of(head: Any) -> int:
    return int(head.n * (head.cells if head.type == "detection" else head.w * head.h))


def _description(net: Network) -> str:
    return (
        f"{Path(net.cfg.file).name}, dialect {net.dialect}, batch normalization {net.convention.name}."
        " Input: RGB values 0 to 1."
    )


def _metadata(
    net: Network, wanted: Wanted, heads: str, names: Sequence[str] | None, letterbox: bool | None
) -> dict[str, str]:
    """What a program needs to know besides the graph, as JSON values by name."""
    known: dict[str, Any] = {
        "dialect": net.dialect,
        "batchnorm": net.convention.name,
        "batchnorm_folded": wanted.fold,
        "channels": net.channels,
        "width": net.width,
        "height": net.height,
        "seen": net.seen,
        "color": "RGB",
        "scale": 1 / 255,
    }
    if net.heads:
        classes = max(head.options.classes for head in net.heads)
        known |= {
            "heads": heads,
            "letterbox": default_letterbox(net) if letterbox is None else letterbox,
            "classes": classes,
            "anchors": [_anchors(head) for head in net.heads],
            "layers": [layer_name(head.context.index) for head in net.heads],
            "nms_kind": getattr(net.heads[-1].options, "nms_kind", "default"),
        }
    else:
        classes = net.output_layer.outputs
    if names is not None and len(names) < classes:
        raise DarkbnError(f"{len(names)} names for {classes} classes")
    if names is not None or net.heads:
        known["names"] = list(names if names is not None else names_for(classes))
    return {key: json.dumps(value, ensure_ascii=False) for key, value in known.items()}


def _anchors(head: Any) -> list[list[float]]:
    """Width and height of a head's anchors, in pixels of the input for [yolo], in cells for [region]."""
    if head.type == "detection":
        return []
    anchors = to_host(head.anchors)
    chosen = anchors[to_host(head.mask)] if hasattr(head.options, "mask") else anchors
    return [[float(w), float(h)] for w, h in chosen.tolist()]
