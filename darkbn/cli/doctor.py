"""`darkbn doctor`: what this installation is."""

from __future__ import annotations

from darkbn.cli.common import DebugOption, reported_errors, stdout


def doctor(debug: DebugOption = False) -> None:
    """Show version, instruction set, OpenMP, threads and GPU of this installation."""
    from rich.table import Table

    from darkbn.config import show_config

    with reported_errors(debug):
        table = Table.grid(padding=(0, 2))
        for name, value in show_config().items():
            table.add_row(f"[bold]{name}[/bold]", value)
        stdout().print(table)
