"""`darkbn bench`: how fast a network runs here, and where its time goes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from darkbn.cli.common import (
    CfgArgument,
    DebugOption,
    DialectOption,
    JsonOption,
    ThreadsOption,
    printable,
    reported_errors,
    show_note,
    stdout,
    write_json,
)
from darkbn.errors import DarkbnError

if TYPE_CHECKING:
    from darkbn.inference.profile import Profile
    from darkbn.training_profile import TrainingProfile

EXAMPLES = """[bold]Examples[/bold]

  darkbn bench net yolov3-tiny.cfg

  darkbn bench net yolov4.cfg --profile --threads 1

  darkbn bench net yolov4.cfg yolov4.weights --profile --png steps.png

  darkbn bench net yolov4.cfg --train --profile --batch 4

  darkbn bench net yolov3-tiny.cfg --device cpu --device gpu --train

  darkbn bench layers yolov3-tiny.cfg --png roofline.png
"""

DevicesOption = Annotated[
    list[str] | None,
    typer.Option("--device", metavar="NAME", help="cpu, gpu or emulated; may be repeated.", show_default=False),
]

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Measure how fast networks run on this machine.")


@app.callback()
def _group() -> None:
    pass


@app.command("net", epilog=EXAMPLES)
def net_(
    cfg: CfgArgument,
    weights: Annotated[
        Path | None, typer.Argument(metavar="WEIGHTS", help="Parameters; random ones by default.", show_default=False)
    ] = None,
    profile: Annotated[bool, typer.Option("--profile", help="Show every step, or kernel.")] = False,
    batch: Annotated[int, typer.Option("--batch", min=1, metavar="N", help="Images per pass.")] = 1,
    width: Annotated[
        int | None, typer.Option("--width", min=1, metavar="W", help="Instead of the cfg's.", show_default=False)
    ] = None,
    height: Annotated[
        int | None, typer.Option("--height", min=1, metavar="H", help="Instead of the cfg's.", show_default=False)
    ] = None,
    repeat: Annotated[int, typer.Option("--repeat", min=1, metavar="N", help="Passes; medians are shown.")] = 10,
    train: Annotated[bool, typer.Option("--train", help="Time training steps, kernel by kernel.")] = False,
    tune: Annotated[bool, typer.Option("--tune", help="Measure how to compute each layer first.")] = False,
    device: DevicesOption = None,
    threads: ThreadsOption = None,
    json: JsonOption = None,
    png: Annotated[
        Path | None,
        typer.Option("--png", metavar="FILE", help="Draw the steps (needs the extra plot).", show_default=False),
    ] = None,
    dialect: DialectOption = None,
    debug: DebugOption = False,
) -> None:
    """Time predictions, or training steps, of a network with random input.

    GFLOP/s count the operations of the direct sum, so that Winograd's
    convolutions can exceed the peak, which is that of a product of matrices.
    With --device, whole passes on each of these devices are compared.
    """
    import darkbn

    with reported_errors(debug):
        options: dict[str, Any] = {"threads": threads, "dialect": dialect, "seed": 0}
        if device:
            if profile or tune or png is not None:
                raise DarkbnError("--profile, --tune and --png show the steps of the CPU: leave out --device")
            sizes = {"batch": batch, "width": width, "height": height, "threads": threads, "dialect": dialect}
            _compare(cfg, weights, tuple(device), json, train=train, repeat=repeat, **sizes)
            return
        network = darkbn.load(cfg, weights, batch=batch, width=width, height=height, train=train, **options)
        if tune:
            network.compile(tune=True)
        found = network.profile_training(repeat=repeat) if train else network.profile(repeat=repeat)
        if json is not None:
            write_json(found.as_dict(), json)
        if json != "-":
            _show(found, profile)
        if png is not None:
            _draw(found, png)


@app.command("layers")
def layers_(
    cfg: CfgArgument,
    device: DevicesOption = None,
    torch: Annotated[bool, typer.Option("--torch", help="PyTorch's layers, too, on the same device.")] = False,
    estimate: Annotated[
        str, typer.Option("--estimate", metavar="GPU", help="T4, L4, RTX 4090, A100, H100 or H200.")
    ] = "H200",
    batch: Annotated[int, typer.Option("--batch", min=1, metavar="N", help="Images per pass.")] = 1,
    width: Annotated[
        int | None, typer.Option("--width", min=1, metavar="W", help="Instead of the cfg's.", show_default=False)
    ] = None,
    height: Annotated[
        int | None, typer.Option("--height", min=1, metavar="H", help="Instead of the cfg's.", show_default=False)
    ] = None,
    repeat: Annotated[int, typer.Option("--repeat", min=1, metavar="N", help="Passes; medians are shown.")] = 5,
    threads: ThreadsOption = None,
    json: JsonOption = None,
    png: Annotated[
        Path | None,
        typer.Option("--png", metavar="FILE", help="Draw a roofline (needs the extra plot).", show_default=False),
    ] = None,
    dialect: DialectOption = None,
    debug: DebugOption = False,
) -> None:
    """Time every layer's forward pass on every device, by default all there are.

    "roof" is the share of what the device could do: the lower of the rate of
    a matrix product and the copy bandwidth, both measured first. "x" compares
    with the first device. Where no GPU is measured, the last column estimates
    what one would add, by what its maker states.
    """
    from darkbn.layer_bench import bench_layers

    with reported_errors(debug):
        sizes = {"batch": batch, "width": width, "height": height}
        names = tuple(device) if device else None
        found = bench_layers(
            cfg, names, repeat=repeat, estimate=estimate, torch=torch, threads=threads, dialect=dialect, **sizes
        )
        if json is not None:
            write_json(found.as_dict(), json)
        if json != "-":
            stdout().print(printable(str(found)), markup=False)
        if png is not None:
            _draw(found, png)


def _compare(cfg: Path, weights: Path | None, devices: tuple[str, ...], json: str | None, **options: Any) -> None:
    from darkbn.net_bench import bench_net

    found = bench_net(cfg, weights, devices, **options)
    if json is not None:
        write_json(found.as_dict(), json)
    if json != "-":
        stdout().print(printable(str(found)), markup=False)


def _show(found: Profile | TrainingProfile, profile: bool) -> None:
    text = str(found) if profile else "\n".join(found.summary())
    stdout().print(printable(text), markup=False)


def _draw(found: Any, png: Path) -> None:
    try:
        found.plot(png)
    except (OSError, ValueError) as error:
        raise DarkbnError(f"{png}: cannot write the picture: {error}") from error
    show_note(f"wrote {printable(png)}")
