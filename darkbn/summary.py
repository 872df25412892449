"""The table of a network's layers, as Darknet prints it, with parameters and memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from darkbn.layers.base import Layer
from darkbn.layers.batchnorm import BatchNormalized
from darkbn.net_options import NetOptions

if TYPE_CHECKING:
    from darkbn.network import Network


@dataclass(frozen=True)
class SummaryRow:
    """One layer. `flops` is per image; `parameters` counts learned values and statistics; `nbytes` all arrays.

    `normalized` is the effective batch of its batch normalization, (images, height, width): how many values of a
    channel a training pass takes the statistics of, with batch/subdivisions images; None without normalization.
    """

    index: int
    type: str
    filters: str
    size: str
    input: str
    output: str
    flops: int
    parameters: int
    nbytes: int
    normalized: tuple[int, int, int] | None

    @property
    def effective_batch(self) -> int | None:
        """Values of a channel that a training pass takes the statistics of, or None."""
        return None if self.normalized is None else math.prod(self.normalized)


@dataclass(frozen=True)
class Summary:
    """What `Network.summary` returns. `rows` has the layers, `lines` what is true of the whole network."""

    rows: tuple[SummaryRow, ...]
    lines: tuple[str, ...]

    HEADINGS = ("layer", "filters", "size/strd(dil)", "input", "output", "BFLOPs", "params", "MiB", "BN over")

    @classmethod
    def of(cls, net: Network) -> Summary:
        """The table of a network."""
        images = _images(net)
        rows = tuple(_row(index, layer, net.training, images) for index, layer in enumerate(net.layers))
        mebibytes = sum(r.nbytes for r in rows) / 2**20
        flops, parameters = sum(r.flops for r in rows), sum(r.parameters for r in rows)
        lines = (
            f"dialect {net.dialect} ({net.dialect_reason})",
            _batchnorm_line(net.convention.name, rows),
            f"input {net.width} x {net.height} x {net.channels}, batch {net.batch}, device {net.backend.name}"
            if net.width
            else f"input {net.inputs}, batch {net.batch}, device {net.backend.name}",
            f"total {flops / 1e9:.3f} BFLOPs, {parameters:,} parameters, {mebibytes:,.1f} MiB",
        )
        return cls(rows, lines)

    def cells(self) -> list[tuple[str, ...]]:
        """The rows as text, one cell per heading."""
        return [
            (
                f"{r.index:4d} {r.type}",
                r.filters,
                r.size,
                r.input,
                r.output,
                f"{r.flops / 1e9:.3f}" if r.flops else "",
                f"{r.parameters:,}" if r.parameters else "",
                f"{r.nbytes / 2**20:.1f}",
                "x".join(map(str, r.normalized)) if r.normalized else "",
            )
            for r in self.rows
        ]

    def __str__(self) -> str:
        table = [self.HEADINGS, *self.cells()]
        widths = [max(len(row[column]) for row in table) for column in range(len(self.HEADINGS))]
        # Numbers to the right, words to the left.
        aligned = (
            "  ".join(
                cell.rjust(width) if column in (1, 5, 6, 7, 8) else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in table
        )
        return "\n".join([*aligned, *self.lines])


def _images(net: Network) -> int:
    """Images of a training pass: as loaded when the network was loaded to train, else as its cfg says."""
    if net.training:
        return net.batch
    written = NetOptions.read(net.cfg.net, net.dialect, [])
    return max(1, written.batch // written.subdivisions) * written.time_steps


def _batchnorm_line(convention: str, rows: tuple[SummaryRow, ...]) -> str:
    sizes = [(row.effective_batch, row.index) for row in rows if row.effective_batch is not None]
    if not sizes:
        return f"batch normalization: {convention}, in no layer"
    least, index = min(sizes)
    return f"batch normalization: {convention}, effective batch {least:,} or more (smallest in layer {index})"


def _normalized(layer: Layer, images: int) -> tuple[int, int, int] | None:
    """The smallest effective batch in a layer; recurrent ones normalize step by step."""
    images //= getattr(layer, "steps", 1)
    found = [
        (images, part.out_h or 1, part.out_w or 1)
        for _, part in layer.walk()
        if isinstance(part, BatchNormalized) and getattr(part, "batch_normalize", True)
    ]
    return min(found, key=math.prod, default=None)


def _row(index: int, layer: Layer, training: bool, images: int) -> SummaryRow:
    filters, size = layer.describe()
    return SummaryRow(
        index=index,
        type=layer.type,
        filters=filters,
        size=size,
        input=_shape(layer.w, layer.h, layer.c, layer.inputs),
        output=_shape(layer.out_w, layer.out_h, layer.out_c, layer.outputs),
        flops=layer.flops,
        parameters=_parameters(layer),
        nbytes=layer.nbytes(training),
        normalized=_normalized(layer, images),
    )


def _shape(w: int, h: int, c: int, flat: int) -> str:
    return f"{w:4d} x{h:4d} x{c:4d}" if w and h and c else f"{flat}"


def _parameters(layer: Layer) -> int:
    own = sum(getattr(part, name).size for _, part in layer.walk() for name in part.weights_order())
    return int(own)
