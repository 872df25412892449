"""`darkbn explain`: what a convention of batch normalization computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from darkbn.cli.common import DebugOption, reported_errors, stdout

if TYPE_CHECKING:
    from rich.table import Table

    from darkbn.conventions import BatchNormConvention

EXAMPLES = """[bold]Examples[/bold]

  darkbn explain

  darkbn explain alexeyab-gpu
"""


def explain(
    convention: Annotated[
        str | None,
        typer.Argument(metavar="CONVENTION", help="Its name; all are compared without one.", show_default=False),
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Show what a convention of batch normalization computes.

    Decay, divisors, epsilons and their places, formulas forward and backward,
    and where each was read.
    """
    from darkbn.explain import explain_batchnorm

    with reported_errors(debug):
        if convention is None:
            stdout().print(_table())
        else:
            stdout().print(explain_batchnorm(convention), markup=False)


def _table() -> Table:
    from rich.table import Table

    from darkbn.conventions import CONVENTIONS

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for heading in ("convention", "decay", "variance", "rolled", "root", "start", "gradient"):
        table.add_column(heading, no_wrap=True)
    for convention in CONVENTIONS.values():
        table.add_row(*_cells(convention))
    return table


def _cells(c: BatchNormConvention) -> tuple[str, ...]:
    from darkbn.explain import departures

    decay = f"{c.rolling_decay:g}"
    if c.rolling_decay_connected is not None:
        decay += f", {c.rolling_decay_connected:g}"
    return (
        c.name,
        decay,
        _divisor(c.ddof),
        _divisor(c.rolling_ddof),
        f"sqrt(v) + {c.epsilon:g}" if c.epsilon_outside else f"sqrt(v + {c.epsilon:g})",
        f"0, {c.initial_rolling_variance:g}",
        "its own" if departures(c) else "derivative",
    )


def _divisor(ddof: int) -> str:
    return f"/ (N-{ddof})" if ddof else "/ N"
