"""`darkbn classify`: the most probable classes of pictures."""

from __future__ import annotations

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
    write_json,
)

if TYPE_CHECKING:
    from rich.text import Text

    from darkbn.detect import Classification

EXAMPLES = """[bold]Examples[/bold]

  darkbn classify darknet19.cfg darknet19.weights dog.jpg --data imagenet1k.data

  darkbn classify darknet19.cfg darknet19.weights photos/ --top 1 --json -
"""


def classify(
    cfg: CfgArgument,
    weights: WeightsArgument,
    images: ImagesArgument,
    names: NamesOption = None,
    data: DataOption = None,
    top: Annotated[int, typer.Option("--top", min=1, metavar="N", help="How many classes to show.")] = 5,
    json: JsonOption = None,
    exif: ExifOption = False,
    threads: ThreadsOption = None,
    device: DeviceOption = "cpu",
    dialect: DialectOption = None,
    debug: DebugOption = False,
) -> None:
    """Name the most probable classes of pictures.

    Exit status: 0; 1 when a picture could not be read; 2 when nothing could
    be done.
    """
    from darkbn import detect
    from darkbn.errors import DarkbnError, ImageError

    with reported_errors(debug):
        paths = expand_images(images)
        net = load_network(cfg, weights, device, dialect, threads, inference=device == "cpu")
        if net.heads:
            raise DarkbnError(f"{cfg}: a detector ([{net.heads[-1].type}]); darkbn detect runs detectors")
        labels = choose_names(names, data, net.output_layer.outputs, detect.own_names(net))
        document: list[dict[str, Any]] = []
        with Progress(len(paths)) as progress:
            for path in paths:
                progress.start(path)
                start = perf_counter()
                try:
                    found = detect.classify(net, path, top, names=labels, exif=exif)
                except ImageError as error:
                    document.append({"image": printable(path), "error": printable(str(error))})
                    show_error(str(error))
                else:
                    document.append({"image": printable(path), "classes": [_as_dict(c) for c in found]})
                    if json != "-":
                        progress.print(_report(path, found, perf_counter() - start))
                progress.advance()
        if json is not None:
            write_json(document, json)
        if any("error" in entry for entry in document):
            raise typer.Exit(SOME_FAILED)


def _as_dict(found: Classification) -> dict[str, Any]:
    return {"class_id": found.class_id, "label": found.label, "probability": found.probability}


def _report(path: Path, found: list[Classification], seconds: float) -> Text:
    from rich.text import Text

    text = Text.assemble((printable(path), "bold"), f": {1000 * seconds:.0f} ms")
    for one in found:
        text.append(f"\n  {one.probability:7.2%}  {one.label}")
    return text
