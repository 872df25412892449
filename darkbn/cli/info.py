"""`darkbn info`: the layers of a network, and what is odd in its files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from darkbn.cli.common import (
    CfgArgument,
    DebugOption,
    DeviceOption,
    DialectOption,
    JsonOption,
    reported_errors,
    show_note,
    stdout,
    write_json,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from darkbn.network import Network
    from darkbn.summary import SummaryRow

EXAMPLES = """[bold]Examples[/bold]

  darkbn info yolov3.cfg

  darkbn info yolov3.cfg yolov3.weights --json -
"""

# Headings and alignments of the columns; those after the seventh are left out where the terminal is narrow.
_COLUMNS = (
    ("", "right"),
    ("layer", "left"),
    ("filters", "right"),
    ("size", "left"),
    ("input", "right"),
    ("output", "right"),
    ("BFLOPs", "right"),
    ("params", "right"),
    ("MiB", "right"),
    ("BN over", "right"),
)
_WIDE = 112


def info(
    cfg: CfgArgument,
    weights: Annotated[
        Path | None, typer.Argument(metavar="WEIGHTS", help="Parameters to check against it.", show_default=False)
    ] = None,
    json: JsonOption = None,
    device: DeviceOption = "cpu",
    dialect: DialectOption = None,
    debug: DebugOption = False,
) -> None:
    """Show the layers of a network with shapes, operations and parameters, and warnings about its files."""
    import darkbn

    with reported_errors(debug):
        net = darkbn.load(cfg, weights, device=device, dialect=dialect)
        if json is not None:
            write_json(_document(net), json)
        if json != "-":
            _show(net, weights)


def _show(net: Network, weights: Path | None) -> None:
    console = stdout()
    summary = net.summary()
    console.print(_table(console, list(summary.rows)))
    for line in summary.lines:
        console.print(line, markup=False)
    if weights is not None:
        console.print(f"weights {weights}: trained on {net.seen:,} images", markup=False)
    for warning in net.warnings:
        show_note(f"warning: {warning}")


def _table(console: Console, rows: list[SummaryRow]) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    shown = _COLUMNS if console.width >= _WIDE else _COLUMNS[:8]
    for heading, align in shown:
        table.add_column(heading, justify=align, no_wrap=True)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*_cells(row)[: len(shown)])
    return table


def _cells(row: SummaryRow) -> tuple[str, ...]:
    return (
        str(row.index),
        row.type,
        row.filters,
        _compact(row.size),
        _compact(row.input),
        _compact(row.output),
        f"{row.flops / 1e9:.3f}" if row.flops else "",
        f"{row.parameters:,}" if row.parameters else "",
        f"{row.nbytes / 2**20:.1f}",
        "x".join(map(str, row.normalized)) if row.normalized else "",
    )


def _compact(text: str) -> str:
    """Without the blanks of "3 x 3 / 2"; lists of layers keep theirs."""
    return re.sub(r" *([x/]) *", r"\1", text).strip()


def _document(net: Network) -> dict[str, Any]:
    """The same as JSON."""
    rows = net.summary().rows
    return {
        "cfg": net.cfg.file,
        "dialect": net.dialect,
        "dialect_reason": net.dialect_reason,
        "batchnorm": net.convention.name,
        "width": net.width,
        "height": net.height,
        "channels": net.channels,
        "seen": net.seen,
        "flops": sum(row.flops for row in rows),
        "parameters": sum(row.parameters for row in rows),
        "warnings": net.warnings,
        "layers": [
            {
                "index": row.index,
                "type": row.type,
                "output": [layer.out_c, layer.out_h, layer.out_w] if layer.out_w else [layer.outputs],
                "flops": row.flops,
                "parameters": row.parameters,
                "effective_batch": row.effective_batch,
            }
            for row, layer in zip(rows, net.layers, strict=True)
        ],
    }
