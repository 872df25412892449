"""`darkbn diff` and `darkbn dump`: where two networks or two runs differ."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from darkbn.cli.common import (
    SOME_FAILED,
    BatchnormOption,
    CfgArgument,
    DebugOption,
    DeviceOption,
    DialectOption,
    JsonOption,
    WeightsArgument,
    reported_errors,
    stdout,
    write_json,
)

if TYPE_CHECKING:
    from rich.table import Table

    from darkbn.interop.diff import Comparison, Difference
    from darkbn.network import Network

DIFF_EXAMPLES = """[bold]Examples[/bold]

  darkbn diff my.cfg,my.weights my.onnx

  darkbn diff my.cfg,my.weights my.cfg,my.weights,batchnorm=keras

  darkbn diff my.cfg,old.weights my.cfg,new.weights --plot diff.png

  darkbn diff my.cfg,my.weights other_program.npz --input dog.jpg
"""
DUMP_EXAMPLES = """[bold]Examples[/bold]

  darkbn dump yolov3.cfg yolov3.weights layers.npz --input dog.jpg
"""

_SIDE = "CFG,WEIGHTS[,key=value], FILE.onnx or FILE.npz."
InputOption = Annotated[
    Path | None,
    typer.Option(
        "--input", "-i", metavar="FILE", help="A picture, .npy or .npz (its array input); noise by default.",
        show_default=False,
    ),
]  # fmt: skip


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help=_SIDE, show_default=False)],
    b: Annotated[str, typer.Argument(metavar="B", help="The same.", show_default=False)],
    input: InputOption = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, metavar="E", help="What is equal, as a part of the largest value.")
    ] = 1e-4,
    all: Annotated[bool, typer.Option("--all", help="Show layers that agree, too.")] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw the errors over the layers.", show_default=False)
    ] = None,
    json: JsonOption = None,
    debug: DebugOption = False,
) -> None:
    """Compare two networks or two runs, parameters and outputs, layer by layer.

    Keys of a network: device, batchnorm, dialect, width, height. A dump (.npz)
    has the array input and the outputs layer_0, layer_1, ... of any program.

    Exit status: 0; 1 when they differ; 2 when they could not be compared.
    """
    with reported_errors(debug):
        from darkbn.interop import diff as tool

        sides = tool.read_side(a), tool.read_side(b)
        net = next((side.network for side in sides if side.network is not None), None)
        x = None if input is None else read_input(input, net)
        result = tool.diff(*sides, x, tolerance=tolerance)
        if plot is not None:
            tool.save_plot(result, plot)
        if json is not None:
            write_json(_document(result), json)
        if json != "-":
            _show(result, all)
    if not result.equal or not (result.parameters or result.outputs):
        raise typer.Exit(SOME_FAILED)


def dump(
    cfg: CfgArgument,
    weights: WeightsArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write (.npz).", show_default=False)],
    input: InputOption = None,
    parameters: Annotated[bool, typer.Option("--parameters", help="Write the parameters, too.")] = False,
    batchnorm: BatchnormOption = None,
    device: DeviceOption = "cpu",
    dialect: DialectOption = None,
    debug: DebugOption = False,
) -> None:
    """Write the outputs of all layers for an input as a NumPy file.

    Its arrays are input, layer_0, layer_1, ...; darkbn diff compares it.
    """
    import numpy as np

    import darkbn

    with reported_errors(debug):
        from darkbn.interop.npz import save_dump

        net = darkbn.load(cfg, weights, device=device, dialect=dialect, batchnorm=batchnorm)
        x = np.random.default_rng(0).uniform(0, 1, net.input_shape) if input is None else read_input(input, net)
        save_dump(net, x, out, with_parameters=parameters)
        stdout().print(f"{out}: {len(net.layers)} layers", markup=False)


def read_input(path: Path, net: Network | None) -> Any:
    """An input from a file: .npy, .npz with the array `input`, or a picture as this network's Darknet takes it."""
    import numpy as np

    from darkbn.errors import DarkbnError
    from darkbn.interop.npz import INPUT, read_arrays

    if path.suffix == ".npz":
        arrays = read_arrays(path)
        if INPUT not in arrays:
            raise DarkbnError(f"{path}: expected an array named input, found {', '.join(list(arrays)[:5])}")
        return arrays[INPUT]
    if path.suffix == ".npy":
        try:
            return np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DarkbnError(f"{path}: cannot be read: {error}") from error
    if net is None:
        raise DarkbnError(f"{path}: only a network (CFG,WEIGHTS) says how a picture becomes an input")
    return _picture(path, net)


def _picture(path: Path, net: Network) -> Any:
    import numpy as np

    from darkbn.detect import default_letterbox
    from darkbn.errors import DarkbnError
    from darkbn.imageio import read_pixels
    from darkbn.images import letterbox_image, resize_image

    if len(net.input_shape) != 4:
        raise DarkbnError(f"{path}: the input of {net.cfg.file} is no picture")
    place = letterbox_image if default_letterbox(net) else resize_image
    image = np.asarray(place(read_pixels(path, net.channels), net.width, net.height))
    return np.repeat(image[np.newaxis], net.batch, axis=0)


def _show(result: Comparison, everything: bool) -> None:
    console = stdout()
    console.print(f"A: {result.a}\nB: {result.b}", markup=False)
    rows = [*_merged(result.parameters), *result.outputs]
    shown = [row for row in rows if everything or not row.error <= result.tolerance]
    shown.sort(key=lambda row: (row.layer, "." not in row.name))
    limit = len(shown) if everything else 20
    if shown:
        console.print(_table(shown[:limit], result.tolerance))
        if len(shown) > limit:
            console.print(f"{len(shown) - limit} more differ (--all shows everything)")
    for side, names in (("A", result.only_a), ("B", result.only_b)):
        if names:
            listed = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
            console.print(f"only in {side}, {len(names)}: {listed}", markup=False)
    console.print(result.verdict(), markup=False)


def _merged(rows: tuple[Difference, ...]) -> list[Difference]:
    """The worst parameter of each layer."""
    worst: dict[int, Difference] = {}
    for row in rows:
        if row.layer not in worst or row.error > worst[row.layer].error:
            worst[row.layer] = row
    return list(worst.values())


def _table(rows: list[Difference], tolerance: float) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("value", no_wrap=True, overflow="ellipsis")
    table.add_column("layer", no_wrap=True, overflow="ellipsis")
    for heading in ("error", "mean", "largest"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("at", no_wrap=True, overflow="ellipsis")
    for row in rows:
        style = "" if row.error <= tolerance else "bold"
        place = row.note or ", ".join(map(str, row.place))
        cells = (f"{row.error:.1e}", f"{row.mean:.1e}", f"{row.largest:.3g}", place)
        table.add_row(row.name, row.type, *cells, style=style)
    return table


def _document(result: Comparison) -> dict[str, Any]:
    """The same as JSON; infinite errors are null."""

    def listed(rows: tuple[Difference, ...]) -> list[dict[str, Any]]:
        return [
            {
                "name": row.name,
                "layer": row.layer,
                "type": row.type,
                "error": row.error if row.error < float("inf") else None,
                "mean": row.mean if row.mean < float("inf") else None,
                "largest": row.largest,
                "place": list(row.place),
                "note": row.note,
            }
            for row in rows
        ]

    return {
        "a": result.a,
        "b": result.b,
        "equal": result.equal,
        "tolerance": result.tolerance,
        "verdict": result.verdict(),
        "first_parameter": result.first_parameter.name if result.first_parameter else None,
        "first_output": result.first_output.name if result.first_output else None,
        "parameters": listed(result.parameters),
        "outputs": listed(result.outputs),
        "only_a": list(result.only_a),
        "only_b": list(result.only_b),
    }
