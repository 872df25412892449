"""`darkbn detect`: objects in pictures."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from darkbn.cli.common import (
    SOME_FAILED,
    CfgArgument,
    DataOption,
    DebugOption,
    DeviceOption,
    DialectOption,
    ExifOption,
    ImagesArgument,
    JsonOption,
    LetterboxOption,
    NamesOption,
    Progress,
    ThreadsOption,
    WeightsArgument,
    choose_names,
    expand_images,
    load_network,
    printable,
    reported_errors,
    show_error,
    show_note,
    write_json,
)
from darkbn.errors import DarkbnError, ImageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from darkbn.detect import Detection
    from darkbn.network import Network
    from darkbn.signature import Array

EXAMPLES = """[bold]Examples[/bold]

  darkbn detect yolov3.cfg yolov3.weights dog.jpg

  darkbn detect yolov3.cfg yolov3.weights dog.jpg --out found.jpg

  darkbn detect my.cfg my.weights photos/ --names my.names --out found/

  darkbn detect yolov4.cfg yolov4.weights dog.jpg --threshold 0.5 --json - | jq
"""


def detect(
    cfg: CfgArgument,
    weights: WeightsArgument,
    images: ImagesArgument,
    names: NamesOption = None,
    data: DataOption = None,
    threshold: Annotated[
        float, typer.Option("--threshold", "-t", min=0, max=1, metavar="P", help="Probability to exceed.")
    ] = 0.25,
    nms: Annotated[
        float, typer.Option("--nms", min=0, max=1, metavar="IOU", help="Overlap at which the weaker box goes; 0: off.")
    ] = 0.45,
    letterbox: LetterboxOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="PATH", help="File (for one picture) or folder for annotated pictures.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = None,
    exif: ExifOption = False,
    hier: Annotated[
        float,
        typer.Option(
            "--hier", min=0, max=1, metavar="P", help="Probability to believe a class of a hierarchy (YOLO9000)."
        ),
    ] = 0.5,
    threads: ThreadsOption = None,
    device: DeviceOption = "cpu",
    dialect: DialectOption = None,
    debug: DebugOption = False,
) -> None:  # fmt: skip
    """Find objects in pictures.

    Prints class, probability and box of each object: columns x and rows y
    that it reaches from and to, in pixels. Boxes in JSON are as in Darknet:
    centre, width and height as parts of the picture.

    Exit status: 0; 1 when a picture could not be read or written; 2 when
    nothing could be done.
    """
    from darkbn.detect import own_names

    with reported_errors(debug):
        paths = expand_images(images)
        targets = _targets(paths, out)
        net = load_network(cfg, weights, device, dialect, threads, inference=device == "cpu")
        if not net.heads:
            raise DarkbnError(f"{cfg}: no detection layer ([yolo], [region]); darkbn classify runs classifiers")
        labels = choose_names(names, data, max(head.options.classes for head in net.heads), own_names(net))
        job = _Job(net, threshold, nms, letterbox, labels, exif, hier, show=json != "-")
        with Progress(len(paths)) as progress:
            for path, target in zip(paths, targets, strict=True):
                progress.start(path)
                job.run(path, target, progress)
                progress.advance()
        if len(job.written) > 1:
            show_note(f"wrote {len(job.written)} pictures to {printable(out or '')}")
        elif job.written:
            show_note(f"wrote {printable(job.written[0])}")
        if json is not None:
            write_json(job.document, json)
        if job.failed:
            raise typer.Exit(SOME_FAILED)


@dataclass
class _Job:
    """How pictures are processed, and what came of it."""

    net: Network
    threshold: float
    nms: float
    letterbox: bool | None
    labels: Sequence[str]
    exif: bool
    hier: float
    show: bool
    document: list[dict[str, Any]] = field(default_factory=list)
    written: list[Path] = field(default_factory=list)
    failed: bool = False

    def run(self, path: Path, target: Path | None, progress: Progress) -> None:
        """One picture. What goes wrong with it is reported and remembered."""
        from darkbn.detect import detect
        from darkbn.draw import save_detections
        from darkbn.imageio import read_pixels

        entry: dict[str, Any] = {"image": printable(path)}
        self.document.append(entry)
        try:
            pixels = read_pixels(path, exif=self.exif)
            start = perf_counter()
            found = detect(
                self.net, pixels, self.threshold, self.nms, self.letterbox, names=self.labels, hier=self.hier
            )
            seconds = perf_counter() - start
            entry |= {"width": pixels.shape[1], "height": pixels.shape[0], "detections": [_as_dict(d) for d in found]}
            if self.show:
                progress.print(_report(path, pixels, found, seconds))
            if target is not None:
                save_detections(pixels, found, target)
                self.written.append(target)
        except ImageError as error:
            self.failed = True
            entry["error"] = printable(str(error))
            show_error(str(error))


def _targets(paths: Sequence[Path], out: Path | None) -> Sequence[Path | None]:
    """Where the annotated picture of each path goes. A folder is made; pictures of the same name get numbers."""
    if out is None:
        return [None] * len(paths)
    if not out.is_dir() and out.suffix:
        if len(paths) > 1:
            raise DarkbnError(f"--out {out}: {len(paths)} pictures need a folder, not a file")
        targets = [out]
    else:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DarkbnError(f"--out {out}: cannot make the folder: {error.strerror}") from error
        targets = [out / name for name in _unique_names(paths)]
    pictures = {path.resolve() for path in paths}
    for target in targets:
        if target.resolve() in pictures:
            raise DarkbnError(f"--out {out}: would overwrite the picture {target}")
    return targets


def _unique_names(paths: Sequence[Path]) -> list[str]:
    """File names for annotated pictures; as .png where the name of the picture tells no format."""
    from darkbn.imageio import SUFFIXES

    names: list[str] = []
    for path in paths:
        stem, suffix = (path.stem, path.suffix) if path.suffix.lower() in SUFFIXES else (path.name, ".png")
        numbers = itertools.chain([""], (f"_{number}" for number in itertools.count(2)))
        names.append(next(name for n in numbers if (name := f"{stem}{n}{suffix}") not in names))
    return names


def _as_dict(found: Detection) -> dict[str, Any]:
    return {
        "class_id": found.class_id,
        "label": found.label,
        "probability": found.probability,
        "box": found.box._asdict(),
    }


def _report(path: Path, pixels: Array, found: list[Detection], seconds: float) -> Text:
    """Lines about one picture."""
    from rich.text import Text

    height, width = pixels.shape[:2]
    count = f"{len(found)} object{'' if len(found) == 1 else 's'}" if found else "nothing found"
    text = Text.assemble((printable(path), "bold"), f": {width} x {height}, {count}, {1000 * seconds:.0f} ms")
    column = max((len(d.label) for d in found), default=0)
    digits = len(str(max(width, height)))
    for one in found:
        left, top, right, bottom = (f"{v:{digits}d}" for v in one.box.pixels(width, height))
        label = f"{one.label:<{column}}"
        text.append(f"\n  {label}  {one.probability:6.1%}   x {left} - {right}   y {top} - {bottom}")
    return text
