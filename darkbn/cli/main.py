"""The `darkbn` command: its subcommands live in the modules beside this one."""

from __future__ import annotations

from typing import Annotated

import typer

from darkbn.cli import (
    bench,
    classify,
    detect,
    diff,
    doctor,
    explain,
    export,
    fold,
    gradcheck,
    info,
    inspect,
    recalibrate,
    verify,
)
from darkbn.cli import map as map_command
from darkbn.version import __version__

app = typer.Typer(
    name="darkbn",
    help="Run Darknet networks (.cfg and .weights): detection and classification.",
    epilog="Each command has examples in its own help: darkbn detect --help",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("detect", epilog=detect.EXAMPLES)(detect.detect)
app.command("classify", epilog=classify.EXAMPLES)(classify.classify)
app.command("map", epilog=map_command.EXAMPLES)(map_command.map_)
app.command("info", epilog=info.EXAMPLES)(info.info)
app.command("inspect", epilog=inspect.EXAMPLES)(inspect.inspect)
app.command("explain", epilog=explain.EXAMPLES)(explain.explain)
app.command("export", epilog=export.EXAMPLES)(export.export)
app.command("verify", epilog=verify.EXAMPLES)(verify.verify)
app.command("diff", epilog=diff.DIFF_EXAMPLES)(diff.diff)
app.command("dump", epilog=diff.DUMP_EXAMPLES)(diff.dump)
app.add_typer(bench.app, name="bench")
app.command("fold", epilog=fold.EXAMPLES)(fold.fold)
app.command("gradcheck", epilog=gradcheck.EXAMPLES)(gradcheck.gradcheck)
app.command("recalibrate", epilog=recalibrate.EXAMPLES)(recalibrate.recalibrate)
app.command("doctor")(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"darkbn {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the command. Exit status: 0, 1 when some picture failed, 2 when nothing could be done."""
    app()
