"""Darknet's .weights files: a header, then float32 arrays in the order of the layers, nothing else.

Header: int32 major, minor, revision; then the number of images seen, 64 bits wide if major*10 + minor >= 2, else 32.
A major or minor above 1000 says that connected matrices are stored transposed (dialect darknet then reads 32 bits).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from darkbn.backend import Backend, to_host
from darkbn.errors import WeightsError
from darkbn.files import atomic_write
from darkbn.layers.base import Layer

#: major, minor, revision as each Darknet writes them.
VERSIONS = {"darknet": (0, 2, 0), "alexeyab": (0, 2, 5)}
#: Arrays that `dontloadscales` leaves out.
_SCALES = frozenset({"scales", "rolling_mean", "rolling_variance"})


@dataclass(frozen=True)
class Header:
    """Header of a file.

    Attributes:
        major, minor, revision: version.
        seen: images seen in training.
        nbytes: its length in the file.
    """

    major: int
    minor: int
    revision: int
    seen: int
    nbytes: int

    @property
    def transposed(self) -> bool:
        """Whether connected matrices are stored as (inputs, outputs)."""
        return self.major > 1000 or self.minor > 1000

    @property
    def dialect(self) -> str | None:
        """The Darknet that wrote the file, if the version tells (revision 5 is AlexeyAB's)."""
        return "alexeyab" if (self.major, self.minor, self.revision) == VERSIONS["alexeyab"] else None


def read_header(path: str | os.PathLike[str], dialect: str | None = None) -> Header:
    """Header of a .weights file; raises WeightsError when the file is missing or shorter than one."""
    try:
        with open(path, "rb") as file:
            start = file.read(20)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(start) < 16:
        raise WeightsError(f"{path}: {len(start)} bytes are no .weights file: the header alone has 16 or 20")
    major, minor, revision = struct.unpack_from("<iii", start)
    wide = major * 10 + minor >= 2 and (dialect == "alexeyab" or (major < 1000 and minor < 1000))
    if wide and len(start) < 20:
        raise WeightsError(f"{path}: {len(start)} bytes are no .weights file: version {major}.{minor} has 20 of header")
    seen = struct.unpack_from("<Q" if wide else "<I", start, 12)[0]
    return Header(major, minor, revision, seen, 20 if wide else 16)


@dataclass(frozen=True)
class _Piece:
    """One array as it lies in a file."""

    layer: int
    type: str
    name: str
    array: Any
    backend: Backend
    count: int
    layout: str  # "plain", "transposed": (columns, rows) of the flattened matrix

    def store(self, values: np.ndarray[Any, Any]) -> None:
        """Write the file's values into the layer's array."""
        target = self.array
        if self.layout == "transposed":
            rows = target.shape[0]
            self.backend.assign(target, values.reshape(-1, rows).T.reshape(target.shape))
        else:
            self.backend.assign(target.reshape(-1)[: self.count], values)


def _pieces_to_load(layers: Sequence[Layer], upto: int, transposed: bool) -> Iterator[_Piece]:
    for index, layer in enumerate(layers[:upto]):
        if layer.options.dontload:
            continue
        for prefix, part in layer.walk():
            for name in part.weights_order():
                if part.options.dontloadscales and name in _SCALES:
                    continue
                array = getattr(part, name)
                yield _Piece(
                    index,
                    layer.type,
                    prefix + name,
                    array,
                    part.backend,
                    _count(part, array),
                    _layout(part, name, transposed),
                )


def _count(layer: Layer, array: Any) -> int:
    filters = layer.options.numload
    if filters and layer.type in ("convolutional", "deconvolutional"):
        return int(array.size // array.shape[0] * min(filters, array.shape[0]))
    return int(array.size)


def _layout(layer: Layer, name: str, transposed: bool) -> str:
    if name == "weights" and ((layer.type == "connected" and transposed) or getattr(layer.options, "flipped", False)):
        return "transposed"
    return "plain"


def load_weights(
    layers: Sequence[Layer], path: str | os.PathLike[str], dialect: str, upto: int | None = None
) -> tuple[Header, list[str]]:
    """Read a .weights file into the layers' arrays.

    Args:
        layers: allocated layers.
        path: the file; it is memory-mapped.
        dialect: "darknet" or "alexeyab".
        upto: only the first so many layers (None: all).

    Returns:
        The header and warnings (bytes left over, NaN or infinity inside).

    Raises:
        WeightsError: a file too short, naming the layer in which it ends. Nothing has been changed then.
    """
    header = read_header(path, dialect)
    limit = len(layers) if upto is None else upto
    pieces = list(_pieces_to_load(layers, limit, header.transposed))
    found = os.path.getsize(path) - header.nbytes
    expected = 4 * sum(piece.count for piece in pieces)
    if found < expected:
        raise _too_short(path, pieces, found, expected)
    warnings = []
    if found > expected:
        warnings.append(
            f"{path}: {found - expected} bytes are left over after the last layer"
            f" (the network needs {expected}, the file has {found}): is it the right cfg?"
        )
    if not pieces:
        return header, warnings
    values = np.memmap(path, dtype="<f4", mode="r", offset=header.nbytes, shape=(expected // 4,))
    position = 0
    for piece in pieces:
        part = values[position : position + piece.count]
        position += piece.count
        bad = int(part.size - np.count_nonzero(np.isfinite(part)))
        if bad:
            where = f"{path}: layer {piece.layer} [{piece.type}] {piece.name}"
            warnings.append(f"{where}: {bad} of {part.size} values are NaN or infinite")
        piece.store(part)
    return header, warnings


def _too_short(path: str | os.PathLike[str], pieces: list[_Piece], found: int, expected: int) -> WeightsError:
    position = 0
    for piece in pieces:
        if position + 4 * piece.count > found:
            break
        position += 4 * piece.count
    first = next(p for p in pieces if p.layer == piece.layer)
    hint = ""
    if position == found and piece is first:
        hint = f"; the file ends exactly before this layer: upto={piece.layer} loads just the layers it has"
    return WeightsError(
        f"{path}: ends in layer {piece.layer} [{piece.type}], array {piece.name}: the network needs {expected} bytes"
        f" after the header, the file has {found}{hint}"
    )


def save_weights(
    layers: Sequence[Layer],
    path: str | os.PathLike[str],
    dialect: str,
    seen: int,
    upto: int | None = None,
    average: bool = False,
) -> None:
    """Write the layers' parameters and statistics as this dialect's Darknet writes them, atomically.

    Args:
        layers: the layers.
        path: the file; replaced only when everything has been written.
        dialect: decides the version in the header and the order inside layers.
        seen: images seen in training.
        upto: only the first so many layers (None: all).
        average: moving averages in place of the parameters that have them.
    """
    with atomic_write(path) as file:
        file.write(struct.pack("<iiiQ", *VERSIONS[dialect], seen))
        for layer in layers[: len(layers) if upto is None else upto]:
            if layer.options.dontsave:
                continue
            for _, part in layer.walk():
                for name in part.weights_order():
                    array = getattr(part, f"{name}_ema", None) if average else None
                    array = getattr(part, name) if array is None else array
                    file.write(np.ascontiguousarray(to_host(array), dtype="<f4").data)
