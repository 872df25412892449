"""What the subcommands share: consoles, errors, arguments, pictures, names, JSON."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from darkbn.errors import DarkbnError

if TYPE_CHECKING:
    from rich.console import Console

    from darkbn.network import Network

#: Exit statuses: some picture could not be processed; nothing could be done.
SOME_FAILED, FAILED = 1, 2

#: Warnings about a network's files that are shown before one has to ask `darkbn info` for the rest.
SHOWN_WARNINGS = 5

CfgArgument = Annotated[Path, typer.Argument(metavar="CFG", help="Network description (.cfg).", show_default=False)]
WeightsArgument = Annotated[
    Path, typer.Argument(metavar="WEIGHTS", help="Trained parameters (.weights).", show_default=False)
]
ImagesArgument = Annotated[
    list[Path], typer.Argument(metavar="IMAGE", help="Pictures, or folders of them.", show_default=False)
]
NamesOption = Annotated[
    Path | None, typer.Option("--names", metavar="FILE", help="Names of the classes, one a line.", show_default=False)
]
DataOption = Annotated[
    Path | None, typer.Option("--data", metavar="FILE", help="A .data file with names = FILE.", show_default=False)
]
JsonOption = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write the results as JSON; - is standard output.", show_default=False),
]
ExifOption = Annotated[
    bool, typer.Option("--exif", help="Turn pictures as their EXIF orientation says (Darknet does not).")
]
LetterboxOption = Annotated[
    bool | None,
    typer.Option(
        "--letterbox/--no-letterbox",
        help="Keep the pictures' aspect, or stretch them; by default as this network's Darknet does.",
        show_default=False,
    ),
]
BatchnormOption = Annotated[
    str | None,
    typer.Option(
        "--batchnorm",
        metavar="NAME",
        help="Convention of batch normalization (darkbn explain); the dialect's by default.",
        show_default=False,
    ),
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, metavar="N", help="Threads; by default all processors.")
]
#: What `--device` takes, as in `darkbn.backend.DEVICES`.
DEVICE_HELP = "cpu; gpu (CUDA); reference (NumPy, float64: slow); emulated (the GPU's kernels on the host: slower)."

DeviceOption = Annotated[str, typer.Option("--device", metavar="NAME", help=DEVICE_HELP)]
DialectOption = Annotated[
    str | None,
    typer.Option(
        "--dialect", metavar="NAME", help="darknet or alexeyab; told from the files by default.", show_default=False
    ),
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show where errors come from, and log.")]


def stdout() -> Console:
    """Where results go."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def stderr() -> Console:
    """Where everything else goes."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def reported_errors(debug: bool) -> Iterator[None]:
    """Turn a DarkbnError into one line and exit status 2; with debug, let it through."""
    logger = logging.getLogger("darkbn")
    if debug:
        logging.basicConfig(level=logging.DEBUG, format="%(name)s: %(message)s")
    else:
        logger.addHandler(logging.NullHandler())  # warnings are shown by show_warnings
    try:
        yield
    except DarkbnError as error:
        if debug:
            raise
        show_error(str(error))
        raise typer.Exit(FAILED) from None


def show_error(text: str) -> None:
    """One line on standard error."""
    from rich.text import Text

    stderr().print(Text.assemble(("error: ", "bold red"), " ".join(printable(text).split())))


def show_note(text: str) -> None:
    """A remark on standard error."""
    from rich.text import Text

    stderr().print(Text(printable(text), style="dim"))


def load_network(
    cfg: Path,
    weights: Path | None,
    device: str,
    dialect: str | None,
    threads: int | None,
    *,
    batchnorm: str | None = None,
    inference: bool = False,
) -> Network:
    """The network, its warnings shown; with `inference` ready to predict, and with no parameters but its plan's."""
    import darkbn

    options: dict[str, Any] = {"device": device, "dialect": dialect, "threads": threads, "batchnorm": batchnorm}
    net = darkbn.load(cfg, weights, inference=inference, **options)
    if inference:
        net.current_plan()
    for warning in net.warnings[:SHOWN_WARNINGS]:
        show_note(f"warning: {warning}")
    if len(net.warnings) > SHOWN_WARNINGS:
        show_note(f"{len(net.warnings) - SHOWN_WARNINGS} more warnings: darkbn info {cfg}")
    return net


def choose_names(
    names: Path | None, data: Path | None, classes: int, known: Sequence[str] | None = None
) -> Sequence[str]:
    """The names of a network's classes: those asked for, else those that the network knows itself, else the built-in
    ones, which is said."""
    from darkbn.names import BUILT_IN, names_for, names_of_data, read_names

    if names is not None and data is not None:
        raise DarkbnError("--names and --data exclude each other")
    if names is None and data is None:
        if known is not None:
            return known
        if classes in BUILT_IN:
            show_note(
                f"{classes} classes: using the built-in names of {BUILT_IN[classes][0]} (--names FILE for others)"
            )
        return names_for(classes)
    source = names or data
    found = read_names(names) if names is not None else names_of_data(data)  # type: ignore[arg-type]
    if len(found) < classes:
        raise DarkbnError(f"{source}: {len(found)} names, but the network has {classes} classes")
    if len(found) > classes:
        show_note(f"warning: {source}: {len(found)} names, but the network has {classes} classes")
    return found


def expand_images(paths: Iterable[Path]) -> list[Path]:
    """The paths, folders replaced by the pictures in them. Raises DarkbnError when a folder has none."""
    from darkbn.imageio import SUFFIXES

    images: list[Path] = []
    for path in paths:
        if not path.is_dir():
            images.append(path)
            continue
        found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
        if not found:
            raise DarkbnError(f"{path}: no pictures in this folder ({' '.join(SUFFIXES)})")
        images += found
    return images


def write_json(document: Any, target: str) -> None:
    """Write JSON to a file, which appears whole or not at all, or to standard output when target is "-"."""
    from darkbn.files import atomic_write

    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return
    try:
        with atomic_write(target) as file:
            file.write(text.encode())
    except OSError as error:
        raise DarkbnError(f"{target}: cannot write the file: {error.strerror or error}") from error


class Progress:
    """A progress bar on standard error while several pictures are processed, when that is a terminal.

    Results are printed above it.
    """

    def __init__(self, total: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self.console = stderr()
        columns = (BarColumn(None), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
        shown = total > 1 and self.console.is_terminal
        self._bar = Bar(
            *columns, console=self.console, transient=True, disable=not shown, redirect_stdout=False, expand=True
        )
        self._task = self._bar.add_task("", total=total)
        self._out = self.console if shown and sys.stdout.isatty() else stdout()

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def start(self, path: Path) -> None:
        """Say which picture is being worked on."""
        self._bar.update(self._task, description=_shortened(path.name, 24))

    def advance(self) -> None:
        self._bar.advance(self._task)

    def at(self, done: int, total: int) -> None:
        """Say how much is done of how much."""
        self._bar.update(self._task, completed=done, total=total)

    def print(self, text: Any) -> None:
        """A result."""
        self._out.print(text)


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def printable(path: str | os.PathLike[str]) -> str:
    """A path, or a message with one, as text that every terminal and JSON file takes."""
    return os.fsencode(path).decode("utf-8", errors="replace")
