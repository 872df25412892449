"""`darkbn verify`: does an ONNX file compute what the network computes?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from darkbn.cli.common import (
    SOME_FAILED,
    BatchnormOption,
    CfgArgument,
    DebugOption,
    DialectOption,
    JsonOption,
    WeightsArgument,
    reported_errors,
    show_error,
    stdout,
    write_json,
)
from darkbn.cli.export import ToleranceOption

if TYPE_CHECKING:
    from rich.table import Table

    from darkbn.interop.onnx import Verification

EXAMPLES = """[bold]Examples[/bold]

  darkbn verify yolov4.cfg yolov4.weights yolov4.onnx

  darkbn verify yolov4.cfg yolov4.weights yolov4.onnx --layers
"""


def verify(
    cfg: CfgArgument,
    weights: WeightsArgument,
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX file.", show_default=False)],
    layers: Annotated[bool, typer.Option("--layers", help="Show the error of every layer.")] = False,
    inputs: Annotated[int, typer.Option("--inputs", min=1, metavar="N", help="How many inputs to try.")] = 3,
    tolerance: ToleranceOption = None,
    batchnorm: BatchnormOption = None,
    dialect: DialectOption = None,
    json: JsonOption = None,
    debug: DebugOption = False,
) -> None:
    """Compare an ONNX file with the network it was made from, layer by layer.

    Both run on the same inputs. Values that are named layer_0, layer_1, ... are
    compared with those layers, outputs with what Darknet computes.

    Exit status: 0; 1 when they differ; 2 when they could not be compared.
    """
    with reported_errors(debug):
        result = _compare(cfg, weights, model, inputs, tolerance, batchnorm, dialect)
        if json is not None:
            write_json(_document(result), json)
        if json != "-":
            if layers:
                stdout().print(_table(result))
            _say(result)
    if not result.good:
        raise typer.Exit(SOME_FAILED)


def _compare(
    cfg: Path,
    weights: Path,
    model: Path,
    inputs: int,
    tolerance: float | None,
    batchnorm: str | None,
    dialect: str | None,
) -> Verification:
    import darkbn
    from darkbn.interop.onnx import read_description

    known = read_description(model)
    net = darkbn.load(
        cfg,
        weights,
        batch=known.batch,
        width=known.width,
        height=known.height,
        dialect=dialect or known.dialect,
        batchnorm=batchnorm or known.batchnorm,
    )
    return darkbn.verify_onnx(net, model, tolerance=tolerance, inputs=inputs)


def _say(result: Verification) -> None:
    if result.good:
        stdout().print(f"{result.model}: {result.summary()}", markup=False)
    else:
        show_error(f"{result.model}: {result.summary()}")
    if result.missing:
        listed = ", ".join(map(str, result.missing[:10])) + (", ..." if len(result.missing) > 10 else "")
        stdout().print(f"the model has no value for {len(result.missing)} layers: {listed}", markup=False)


def _table(result: Verification) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("value")
    table.add_column("layer")
    for heading in ("largest value", "error"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for row in (*result.layers, *result.outputs):
        mark = "" if row.error <= result.tolerance else "differs"
        table.add_row(row.name, row.type, f"{row.largest:.4g}", f"{row.error:.1e}", mark)
    return table


def _document(result: Verification) -> dict[str, Any]:
    """The same as JSON; errors that are infinite are null."""
    rows = [
        {
            "index": row.index,
            "name": row.name,
            "type": row.type,
            "error": row.error if row.error < float("inf") else None,
            "largest": row.largest,
        }
        for row in (*result.layers, *result.outputs)
    ]
    first = result.first_difference
    return {
        "model": result.model,
        "good": result.good,
        "tolerance": result.tolerance,
        "inputs": result.inputs,
        "first_difference": first.name if first else None,
        "missing_layers": list(result.missing),
        "values": rows,
    }
