"""`darkbn inspect`: what the batch normalization of a trained network looks like."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from darkbn.cli.common import (
    BatchnormOption,
    CfgArgument,
    DebugOption,
    DialectOption,
    JsonOption,
    WeightsArgument,
    load_network,
    reported_errors,
    stdout,
    write_json,
)

if TYPE_CHECKING:
    from rich.table import Table

    from darkbn.inspection import Distribution, Inspection, LayerInspection

EXAMPLES = """[bold]Examples[/bold]

  darkbn inspect yolov3.cfg yolov3.weights

  darkbn inspect yolov3.cfg yolov3.weights --html yolov3.html
"""


def inspect(
    cfg: CfgArgument,
    weights: WeightsArgument,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a page (extra plot).", show_default=False),
    ] = None,
    png: Annotated[
        Path | None,
        typer.Option("--png", metavar="FILE", help="Write a picture (extra plot).", show_default=False),
    ] = None,
    json: JsonOption = None,
    batchnorm: BatchnormOption = None,
    dialect: DialectOption = None,
    debug: DebugOption = False,
) -> None:
    """Show the batch normalization of a trained network.

    Distributions per layer, dead channels, collapsed or exploding variances,
    NaN, and what folding would do to the weights.
    """
    from darkbn.inspection import inspect as inspect_network

    with reported_errors(debug):
        inspection = inspect_network(load_network(cfg, weights, "cpu", dialect, None, batchnorm=batchnorm))
        if json != "-":
            _show(inspection)
        if json is not None:
            write_json(inspection.document(), json)
        _write(inspection, html, png)


def _write(inspection: Inspection, html: Path | None, png: Path | None) -> None:
    from darkbn.errors import DarkbnError

    if html is None and png is None:
        return
    from darkbn.inspection_page import write_html, write_png

    for path, write in ((html, write_html), (png, write_png)):
        if path is not None:
            try:
                write(inspection, path)
            except OSError as error:
                raise DarkbnError(f"{path}: cannot write the file: {error.strerror or error}") from error


def _show(inspection: Inspection) -> None:
    console = stdout()
    if not inspection.layers:
        console.print(f"{inspection.file}: no layer has batch normalization", markup=False)
        return
    console.print(_table(inspection))
    console.print(
        f"{len(inspection.layers)} layers, {inspection.channels:,} channels, convention {inspection.convention};"
        f" {inspection.plain} layers with weights have none",
        markup=False,
    )
    found = ", ".join(f"{count} {name}" for name, count in inspection.findings.items())
    console.print(f"findings, in channels: {found or 'none'}", markup=False)
    console.print("scale, variance: smallest, median, largest channel; growth: of weights, by folding", style="dim")


def _table(inspection: Inspection) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for heading in ("layer", "channels", "scale", "variance", "growth", "findings"):
        left = heading in ("layer", "findings")
        table.add_column(heading, justify="left" if left else "right", no_wrap=heading != "findings")
    for layer in inspection.layers:
        table.add_row(*_cells(layer), style="red" if layer.findings else None)
    return table


def _cells(layer: LayerInspection) -> tuple[Any, ...]:
    growth = f"{layer.folding.amplified[0][1]:.3g}" if layer.folding and layer.folding.amplified else ""
    findings = ", ".join(f"{count} {name}" for name, count in layer.findings.items())
    return (
        layer.name,
        str(layer.channels),
        _span(layer.scales, 6),
        _span(layer.rolling_variance, 8),
        growth,
        findings,
    )


def _span(d: Distribution, width: int) -> str:
    return " ".join(f"{value:.2g}".rjust(width) for value in (d.minimum, d.median, d.maximum))
