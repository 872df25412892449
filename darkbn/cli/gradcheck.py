"""`darkbn gradcheck`: the backward pass of a network against finite differences."""

from __future__ import annotations

import dataclasses
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
    Progress,
    reported_errors,
    show_note,
    stdout,
    write_json,
)

if TYPE_CHECKING:
    from rich.table import Table

    from darkbn.gradients import GradientReport
    from darkbn.network import Network

EXAMPLES = """[bold]Examples[/bold]

  darkbn gradcheck yolov3-tiny.cfg

  darkbn gradcheck net.cfg net.weights --batchnorm alexeyab-cpu --batch 4
"""

# Without --size, larger inputs are made this small: every difference takes two passes in float64.
_SMALL = 64


def gradcheck(
    cfg: CfgArgument,
    weights: Annotated[
        Path | None,
        typer.Argument(metavar="WEIGHTS", help="Parameters; random ones without.", show_default=False),
    ] = None,
    batchnorm: BatchnormOption = None,
    batch: Annotated[int, typer.Option("--batch", min=1, metavar="N", help="Images of a pass.")] = 2,
    size: Annotated[
        int | None,
        typer.Option(
            "--size", min=1, metavar="N", help=f"Width and height of the input; by default at most {_SMALL}.",
            show_default=False,
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", min=1, metavar="N", help="Elements of each array to compare.")
    ] = 2,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, metavar="E", help="Relative error that is accepted.")
    ] = 1e-5,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of everything random.")] = 0,
    json: JsonOption = None,
    dialect: DialectOption = None,
    debug: DebugOption = False,
) -> None:  # fmt: skip
    """Compare the gradients of a network with finite differences, in float64.

    One line for each array: elements compared, largest derivative, largest
    error relative to it. Where the convention of batch normalization has a
    gradient that is not the derivative, as Darknet's have, "own" tells by how
    much, 1/N and epsilon which parts of it come from the divisor of the
    variance and from the epsilons.

    Exit status: 0; 1 when gradients are wrong; 2 when nothing could be done.
    """
    import darkbn

    with reported_errors(debug):
        options: dict[str, Any] = {"dialect": dialect, "batchnorm": batchnorm, "batch": batch, "seed": seed}
        net = _small_network(cfg, weights, size, options)
        with Progress(2) as progress:
            report = darkbn.gradcheck(
                net,
                seed=seed,
                samples=samples,
                tolerance=tolerance,
                perturb=0.0 if weights is not None else 0.1,
                progress=progress.at,
            )
        if json is not None:
            write_json(_document(report), json)
        if json != "-":
            _show(net, report)
        if not report.passed:
            raise typer.Exit(SOME_FAILED)


def _small_network(cfg: Path, weights: Path | None, size: int | None, options: dict[str, Any]) -> Network:
    """The network with a small input, where it can have one."""
    import darkbn
    from darkbn.errors import DarkbnError

    if size is not None:
        return darkbn.load(cfg, weights, width=size, height=size, **options)
    net = darkbn.load(cfg, weights, **options)
    if max(net.width, net.height) <= _SMALL:
        return net
    try:
        net.resize(_SMALL, _SMALL)
    except DarkbnError:  # a fully connected layer fixes the size
        show_note(f"checked at {net.width} x {net.height}: this network cannot be made smaller")
    return net


def _show(net: Network, report: GradientReport) -> None:
    console = stdout()
    console.print(_table(report))
    console.print(f"input {net.width} x {net.height} x {net.channels}, batch {net.batch}" if net.width else "")
    for line in report.lines:
        console.print(line, markup=False)


def _table(report: GradientReport) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for column, heading in enumerate(report.HEADINGS):
        table.add_column(heading, justify="right" if column in report.RIGHT else "left", no_wrap=column != 2)
    for cells in report.cells():
        table.add_row(*cells, style="red" if cells[-1] else None)
    return table


def _document(report: GradientReport) -> dict[str, Any]:
    return {
        "convention": report.convention,
        "tolerance": report.tolerance,
        "passed": report.passed,
        "gradients": [dataclasses.asdict(row) for row in report.rows],
    }
