"""`darkbn fold`: a network without batch normalization, as files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from darkbn.cli.common import (
    BatchnormOption,
    CfgArgument,
    DebugOption,
    DialectOption,
    WeightsArgument,
    load_network,
    reported_errors,
    show_note,
    stdout,
)
from darkbn.errors import DarkbnError

if TYPE_CHECKING:
    from darkbn.inference.fold_network import Folding

EXAMPLES = """[bold]Examples[/bold]

  darkbn fold yolov3.cfg yolov3.weights --out-cfg folded.cfg --out-weights folded.weights

  darkbn fold yolov3.cfg yolov3.weights --batchnorm darknet     (only compares)
"""


def fold(
    cfg: CfgArgument,
    weights: WeightsArgument,
    out_cfg: Annotated[
        Path | None, typer.Option("--out-cfg", metavar="FILE", help="Write the description.", show_default=False)
    ] = None,
    out_weights: Annotated[
        Path | None, typer.Option("--out-weights", metavar="FILE", help="Write the weights.", show_default=False)
    ] = None,
    batchnorm: BatchnormOption = None,
    dialect: DialectOption = None,
    debug: DebugOption = False,
) -> None:
    """Fold batch normalization into weights and biases.

    Tells the largest change of an output on a random input. The files load in
    darkbn and in Darknet.
    """
    with reported_errors(debug):
        if (out_cfg is None) != (out_weights is None):
            raise DarkbnError("--out-cfg and --out-weights belong together: the weights only fit the new description")
        for source, target in ((cfg, out_cfg), (weights, out_weights)):
            if target is not None and target.exists() and target.samefile(source):
                raise DarkbnError(f"{target}: the folded network would overwrite the one that is read")
        folding = load_network(cfg, weights, "cpu", dialect, None, batchnorm=batchnorm).fold()
        _show(folding)
        if out_cfg is not None and out_weights is not None:
            folding.save(out_cfg, out_weights)
            stdout().print(f"wrote {out_cfg} and {out_weights}", markup=False)


def _show(folding: Folding) -> None:
    console = stdout()
    behind = sum(layer.batchnorm is not None for layer in folding.folded)
    extra = f", {behind} of them with a [batchnorm] layer behind" if behind else ""
    console.print(f"{len(folding.folded)} layers folded{extra} (convention {folding.network.convention.name})")
    for kept in folding.kept:
        show_note(f"layer {kept.index} [{kept.type}] is not folded: {kept.reason}")
    relative = folding.largest_change / folding.largest_output if folding.largest_output else 0.0
    console.print(
        f"largest change of an output: {folding.largest_change:.3g}"
        f" ({relative:.2g} of the largest output, {folding.largest_output:.4g})"
    )
