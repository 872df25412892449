"""`darkbn recalibrate`: new rolling statistics of batch normalization from pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from darkbn.cli.common import (
    SOME_FAILED,
    BatchnormOption,
    CfgArgument,
    DebugOption,
    DeviceOption,
    DialectOption,
    ExifOption,
    JsonOption,
    LetterboxOption,
    Progress,
    ThreadsOption,
    WeightsArgument,
    expand_images,
    printable,
    reported_errors,
    show_error,
    show_note,
    stdout,
    write_json,
)
from darkbn.errors import DarkbnError, ImageError

if TYPE_CHECKING:
    from rich.table import Table

    from darkbn.network import Network
    from darkbn.recalibrate import Recalibration
    from darkbn.signature import Array

EXAMPLES = """[bold]Examples[/bold]

  darkbn recalibrate net.cfg net.weights --images train/ --out new.weights

  darkbn recalibrate net.cfg net.weights --images train.txt --method paper
  --batch 64 --out new.weights
"""


def recalibrate(
    cfg: CfgArgument,
    weights: WeightsArgument,
    images: Annotated[
        list[Path],
        typer.Option("--images", metavar="PATH", help="Pictures, folders, or a .txt list of them.", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The new .weights.", show_default=False)],
    method: Annotated[
        str, typer.Option("--method", metavar="NAME", help="precise, paper, rolling or sequential.")
    ] = "precise",
    batch: Annotated[int, typer.Option("--batch", min=1, metavar="N", help="Pictures of a pass.")] = 16,
    letterbox: LetterboxOption = None,
    batchnorm: BatchnormOption = None,
    json: JsonOption = None,
    exif: ExifOption = False,
    threads: ThreadsOption = None,
    device: DeviceOption = "cpu",
    dialect: DialectOption = None,
    debug: DebugOption = False,
) -> None:  # fmt: skip
    """Take the rolling statistics of batch normalization anew from pictures.

    precise: mean and variance of all values. paper: mean of the batches'
    means, m/(m-1) times the mean of their variances. rolling: the rolling
    averages go on as in training. With these three a layer sees what layers
    before it normalized by the statistics of their batch, as in training.
    sequential: as precise, but each layer sees what inference will show it;
    it takes a pass over the pictures for every layer.

    Nothing but the statistics changes. Exit status: 0; 1 when a picture could
    not be read; 2 when nothing could be done.
    """
    import darkbn
    from darkbn.recalibrate import passes
    from darkbn.recalibrate import recalibrate as run

    with reported_errors(debug):
        pictures = _Pictures(_paths(images), letterbox, exif)
        net = darkbn.load(
            cfg,
            weights,
            batch=min(batch, len(pictures.paths)),
            device=device,
            dialect=dialect,
            batchnorm=batchnorm,
            threads=threads,
        )
        with Progress(max(2, len(pictures.paths))) as progress:
            pictures.prepare(net, progress, passes(net, method))
            done = run(net, pictures, method)
        try:
            net.save_weights(out)
        except OSError as error:
            raise DarkbnError(f"{out}: cannot write the file: {error.strerror or error}") from error
        if json is not None:
            write_json(dataclasses.asdict(done), json)
        if json != "-":
            _show(done, net, pictures, out)
        if pictures.bad:
            raise typer.Exit(SOME_FAILED)


@dataclass
class _Pictures:
    """Batches of pictures as inputs of a network; those that cannot be read are told once and left out."""

    paths: list[Path]
    letterbox: bool | None
    exif: bool
    bad: set[Path] = field(default_factory=set)
    used: int = 0
    net: Network | None = None
    progress: Progress | None = None
    done: int = 0
    total: int = 0

    def prepare(self, net: Network, progress: Progress, passes: int) -> None:
        """Say for which network, and how often it goes through them."""
        self.net, self.progress, self.total = net, progress, passes * len(self.paths)

    def __iter__(self) -> Iterator[Array]:
        net = self.net
        assert net is not None
        if not (net.width and net.height) or net.channels not in (1, 3, 4):
            raise DarkbnError(f"{net.cfg.file}: the input of this network is no picture")
        x, filled = np.empty(net.input_shape, net.backend.dtype), 0
        self.used = 0
        for path in self.paths:
            filled += self._read(net, path, x[filled])
            if filled == net.batch:
                self.used += filled
                filled = 0
                yield x
        if self.used == 0:
            raise DarkbnError(f"{filled} pictures can be read, fewer than a batch of {net.batch}: lower --batch")

    def _read(self, net: Network, path: Path, x: Array) -> bool:
        from darkbn.detect import fill_input

        self.done += 1
        if self.progress is not None:
            self.progress.at(self.done, self.total)
        if path in self.bad:
            return False
        try:
            fill_input(net, path, x, self.letterbox, exif=self.exif)
        except ImageError as error:
            self.bad.add(path)
            show_error(str(error))
            return False
        return True


def _paths(images: list[Path]) -> list[Path]:
    from darkbn.labels import read_list

    lists = [read_list(path) if path.suffix == ".txt" else expand_images([path]) for path in images]
    return [image for part in lists for image in part]


def _show(done: Recalibration, net: Network, pictures: _Pictures, out: Path) -> None:
    console = stdout()
    console.print(_table(done))
    left = len(pictures.paths) - len(pictures.bad) - pictures.used
    rest = f"; {left} left over, fewer than a batch" if left else ""
    count = f"{pictures.used} picture{'' if pictures.used == 1 else 's'}"
    console.print(f"{done.method}: {count} in batches of {net.batch}{rest}", markup=False)
    console.print(f"batch normalization: {net.convention.name}", markup=False)
    show_note(f"wrote {printable(out)}")


def _table(done: Recalibration) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for column, heading in enumerate(done.HEADINGS):
        table.add_column(heading, justify="left" if column == 1 else "right", no_wrap=True)
    for cells in done.cells():
        table.add_row(*cells)
    return table
