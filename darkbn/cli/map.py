"""`darkbn map`: average precision of a detector over labelled pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from darkbn.cli.common import (
    SOME_FAILED,
    CfgArgument,
    DataOption,
    DebugOption,
    DeviceOption,
    DialectOption,
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
    stdout,
    write_json,
)
from darkbn.errors import DarkbnError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from darkbn.evaluate import Evaluation
    from darkbn.signature import Array

EXAMPLES = """[bold]Examples[/bold]

  darkbn map my.cfg my.weights --data my.data

  darkbn map my.cfg my.weights --images photos/ --labels labels/ --names my.names

  darkbn map yolov4.cfg yolov4.weights --data coco.data --points 101 --json map.json
"""


def map_(
    cfg: CfgArgument,
    weights: WeightsArgument,
    data: DataOption = None,
    images: Annotated[
        list[Path] | None,
        typer.Option("--images", metavar="PATH", help="Pictures, folders, or a .txt list of them.", show_default=False),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", metavar="DIR", help="Folder of the label files; else found as Darknet does.",
                     show_default=False),
    ] = None,
    names: NamesOption = None,
    iou: Annotated[
        float, typer.Option("--iou", min=0, max=1, metavar="IOU", help="Overlap that a detection must exceed.")
    ] = 0.5,
    points: Annotated[
        int, typer.Option("--points", min=0, metavar="N", help="Points of recall: 11 (VOC 2007), 101 (COCO); 0: area.")
    ] = 0,
    threshold: Annotated[
        float, typer.Option("--threshold", "-t", min=0, max=1, metavar="P", help="Probability for counts, F1, IoU.")
    ] = 0.25,
    nms: Annotated[
        float, typer.Option("--nms", min=0, max=1, metavar="IOU", help="Overlap at which the weaker box goes; 0: off.")
    ] = 0.45,
    letterbox: LetterboxOption = None,
    json: JsonOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = "cpu",
    dialect: DialectOption = None,
    debug: DebugOption = False,
) -> None:  # fmt: skip
    """Mean average precision over labelled pictures, as Darknet's `detector map`.

    --data is a .data file: its list `valid` (else `train`) says which
    pictures, its `names` how classes are called, its `difficult` which labels
    need not be found. Without it, --images says which. The label file of a
    picture is its path with `images` replaced by `labels` and .txt as suffix,
    or the .txt beside it: a line `class x y w h` per object.

    Exit status: 0; 1 when a picture or label file could not be read; 2 when
    nothing could be done.
    """
    from darkbn.evaluate import evaluate_images

    with reported_errors(debug):
        paths, hard = _pictures(data, images)
        net = load_network(cfg, weights, device, dialect, threads)
        if not net.heads:
            raise DarkbnError(f"{cfg}: no detection layer ([yolo], [region]): mean average precision is of detectors")
        classes = max(head.options.classes for head in net.heads)
        called = choose_names(names, None if names else data, classes)
        good, truths, bad = _read_all(paths, labels, classes)
        difficult = None if hard is None else [_of(path, labels, classes) for path in hard]
        if difficult is not None and len(difficult) != len(paths):
            raise DarkbnError(f"{data}: {len(difficult)} pictures in `difficult`, but {len(paths)} in `valid`")
        with Progress(len(good)) as progress:
            scores, errors = evaluate_images(
                net,
                [paths[index] for index in good],
                truths,
                iou,
                points,
                confidence=threshold,
                nms=nms,
                letterbox=letterbox,
                difficult=None if difficult is None else [difficult[index] for index in good],
                progress=progress.advance,
            )
        bad += [str(error) for error in errors]
        for text in bad:
            show_error(text)
        pictures = len(good) - len(errors)
        if not pictures:
            raise DarkbnError("no picture could be read")
        if json is not None:
            write_json(_document(scores, called, pictures, bad), json)
        if json != "-":
            _show(stdout(), scores, called, pictures)
        if bad:
            raise typer.Exit(SOME_FAILED)


def _pictures(data: Path | None, images: list[Path] | None) -> tuple[list[Path], list[Path] | None]:
    """The pictures, and those whose label files list difficult objects."""
    from darkbn.labels import list_of_data, read_list

    if images:
        lists = [read_list(path) if path.suffix == ".txt" else expand_images([path]) for path in images]
        return [image for part in lists for image in part], None
    if data is None:
        raise DarkbnError("which pictures? --data FILE with valid = LIST, or --images")
    found = list_of_data(data, "valid", "train")
    if found is None:
        raise DarkbnError(f"{data}: expected valid = LIST, found no such line")
    return found, list_of_data(data, "difficult")


def _read_all(paths: list[Path], labels: Path | None, classes: int) -> tuple[list[int], list[Array], list[str]]:
    """Which pictures can be scored, their labels, and what is wrong with the others."""
    from darkbn.labels import label_path

    if labels is not None and not labels.is_dir():
        raise DarkbnError(f"--labels {labels}: no such folder")
    good, truths, bad = [], [], []
    for index, path in enumerate(paths):
        try:
            truths.append(_of(path, labels, classes))
            good.append(index)
        except DarkbnError as error:
            bad.append(str(error))
    without = [paths[index] for index in good if label_path(paths[index], labels) is None]
    if without and len(without) == len(good):
        where = f" in {labels}" if labels else f" ({without[0].with_suffix('.txt').name} or its like)"
        raise DarkbnError(f"no label file for any of {len(good)} pictures{where}")
    if without:
        show_note(f"warning: {len(without)} pictures have no label file, as if nothing were in them: {without[0]} ...")
    return good, truths, bad


def _of(path: Path, labels: Path | None, classes: int) -> Array:
    from darkbn.labels import label_path, read_labels

    file = label_path(path, labels)
    if file is not None:
        return read_labels(file, classes)
    import numpy as np

    return np.zeros((0, 5), np.float32)


def _show(console: Console, scores: Evaluation, names: Sequence[str], pictures: int) -> None:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("class")
    for heading in ("objects", "AP", "true", "false", "IoU"):
        table.add_column(heading, justify="right")
    for one in scores.classes:
        if one.labels or one.false_positives:  # every class has detections of small probability
            row = (f"{one.true_positives}", f"{one.false_positives}", f"{one.average_iou:.1%}")
            table.add_row(printable(names[one.class_id]), f"{one.labels}", f"{one.average_precision:.2%}", *row)
    console.print(table)
    how = f"{scores.points} points of recall" if scores.points else "area under the curve"
    counts = f"{scores.true_positives} true, {scores.false_positives} false, {scores.false_negatives} missed"
    for line in (
        f"{pictures} pictures, {scores.labels} objects, {scores.detections} detections",
        f"above {scores.confidence:g}: {counts}; average IoU {scores.average_iou:.2%}",
        f"precision {scores.precision:.3f}, recall {scores.recall:.3f}, F1 {scores.f1:.3f}",
        f"mAP@{scores.iou_threshold:g} = {scores.mean_average_precision:.2%} ({len(scores.classes)} classes, {how})",
    ):
        console.print(line, markup=False)


def _document(scores: Evaluation, names: Sequence[str], pictures: int, errors: list[str]) -> dict[str, Any]:
    totals = ("mean_average_precision", "labels", "detections", "true_positives", "false_positives", "false_negatives")
    rates = ("precision", "recall", "f1", "average_iou", "iou_threshold", "points", "confidence")
    per_class = ("class_id", "labels", "detections", "average_precision", "true_positives", "false_positives")
    return {
        "pictures": pictures,
        **{name: getattr(scores, name) for name in (*totals, *rates)},
        "classes": [
            {"label": names[one.class_id], **{name: getattr(one, name) for name in (*per_class, "average_iou")}}
            for one in scores.classes
        ],
        "errors": [printable(text) for text in errors],
    }
