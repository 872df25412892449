"""`darkbn export`: a network as an ONNX file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from darkbn.cli.common import (
    BatchnormOption,
    CfgArgument,
    DataOption,
    DebugOption,
    DialectOption,
    NamesOption,
    WeightsArgument,
    choose_names,
    reported_errors,
    show_note,
    stdout,
)
from darkbn.errors import DarkbnError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from darkbn.network import Network

EXAMPLES = """[bold]Examples[/bold]

  darkbn export yolov4.cfg yolov4.weights yolov4.onnx

  darkbn export my.cfg my.weights my.onnx --heads nms --names my.names

  darkbn export my.cfg my.weights my.onnx --batch dynamic --size dynamic
"""

ToleranceOption = Annotated[
    float | None,
    typer.Option(
        "--tolerance", min=0, metavar="E", help="Allowed error, as a part of the largest value: 1e-4 (float16: 5e-2).",
        show_default=False,
    ),
]  # fmt: skip


def export(
    cfg: CfgArgument,
    weights: WeightsArgument,
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The file to write (.onnx).", show_default=False)],
    batch: Annotated[str, typer.Option("--batch", metavar="N", help="Images per run, or dynamic.")] = "1",
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="WxH", help="Size of the input instead of the cfg's, or dynamic."),
    ] = None,
    heads: Annotated[
        str, typer.Option("--heads", metavar="KIND", help="raw maps, decoded boxes and scores, or nms: detections.")
    ] = "raw",
    threshold: Annotated[
        float, typer.Option("--threshold", "-t", min=0, max=1, metavar="P", help="With nms: score to exceed.")
    ] = 0.25,
    nms: Annotated[float, typer.Option("--nms", min=0, max=1, metavar="IOU", help="With nms: allowed overlap.")] = 0.45,
    nms_kind: Annotated[
        str | None,
        typer.Option("--nms-kind", metavar="KIND", help="With nms: the cfg's, or default for the plain operator."),
    ] = None,
    fold: Annotated[
        bool, typer.Option("--fold/--no-fold", help="Put batch normalization into the weights, or keep it.")
    ] = True,
    float16: Annotated[bool, typer.Option("--float16", help="Half precision inside.")] = False,
    opset: Annotated[int, typer.Option("--opset", metavar="N", help="Version of the ONNX operators.")] = 17,
    names: NamesOption = None,
    data: DataOption = None,
    verify: Annotated[
        bool | None,
        typer.Option(
            "--verify/--no-verify",
            help="Compare with darkbn in onnxruntime; by default if it is installed.",
            show_default=False,
        ),
    ] = None,
    tolerance: ToleranceOption = None,
    batchnorm: BatchnormOption = None,
    dialect: DialectOption = None,
    debug: DebugOption = False,
) -> None:
    """Write a network as an ONNX file and prove that it computes the same.

    The input is RGB, 0 to 1, (batch, channels, height, width); layer i is the
    value layer_i. A file that computes something else is not written.

    Exit status: 0; 2 when nothing was written.
    """
    import darkbn

    with reported_errors(debug):
        count = None if batch == "dynamic" else _count(batch)
        width, height = _size(size)
        net = darkbn.load(cfg, weights, batch=count, width=width, height=height, dialect=dialect, batchnorm=batchnorm)
        done = darkbn.export_onnx(
            net,
            model,
            batch="dynamic" if count is None else None,
            dynamic_size=size == "dynamic",
            opset=opset,
            fold=fold,
            heads=heads,
            float16=float16,
            threshold=threshold,
            nms=nms,
            nms_kind=nms_kind,
            names=_names(net, names, data),
            verify=verify,
            tolerance=tolerance,
        )
        out = stdout()
        out.print(f"{model}: {done.nbytes / 2**20:.1f} MiB, outputs {', '.join(done.outputs)}", markup=False)
        if done.verification is not None:
            out.print(f"verified: {done.verification.summary()}", markup=False)
        else:
            show_note(f"not verified: {done.not_verified}")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise DarkbnError(f"--batch: expected a number from 1 on or dynamic, found {text!r}")
    return int(text)


def _size(text: str | None) -> tuple[int | None, int | None]:
    if text is None or text == "dynamic":
        return None, None
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise DarkbnError(f"--size: expected WIDTHxHEIGHT (416x416) or dynamic, found {text!r}")
    return int(match[1]), int(match[2])


def _names(net: Network, names: Path | None, data: Path | None) -> Sequence[str] | None:
    if not net.heads and names is None and data is None:
        return None
    layers = net.heads or [net.output_layer]
    return choose_names(names, data, max(getattr(layer.options, "classes", layer.outputs) for layer in layers))
