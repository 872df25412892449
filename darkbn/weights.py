"""Darknet's .weights files: a header, then float32 arrays in the order of the layers, nothing else.

Header: int32 major, minor, revision; then the number of images seen, 64 bits wide if major*10 + minor >= 2, else 32.
A major or minor above 1000 says that connected matrices are stored transposed (dialect darknet then reads 32 bits).
"""

from __future__ import annotations

import io
import math
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from darkbn.backend import to_host
from darkbn.errors import WeightsError
from darkbn.files import atomic_write
from darkbn.layers.base import Layer, Role

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
    """One array as it lies in a file: of a layer, or of a part of it."""

    layer: int
    type: str
    name: str
    part: Layer
    attribute: str
    start: int  # values before it
    count: int
    layout: str  # "plain", "transposed": (columns, rows) of the flattened matrix

    def store(self, values: np.ndarray[Any, Any]) -> None:
        """Write the file's values into the layer's array."""
        target = getattr(self.part, self.attribute)
        if self.layout == "transposed":
            rows = target.shape[0]
            self.part.backend.assign(target, values.reshape(-1, rows).T.reshape(target.shape))
        else:
            self.part.backend.assign(target.reshape(-1)[: self.count], values)

    def own_values(self) -> np.ndarray[Any, Any] | None:
        """The layer's array where the file's bytes can be read straight into it."""
        target = getattr(self.part, self.attribute)
        direct = isinstance(target, np.ndarray) and target.dtype == np.dtype("<f4") and target.flags.c_contiguous
        return target.reshape(-1)[: self.count] if direct and self.layout == "plain" else None


def _pieces_to_load(layers: Sequence[Layer], upto: int, transposed: bool) -> Iterator[_Piece]:
    start = 0
    for index, layer in enumerate(layers[:upto]):
        if layer.options.dontload:
            continue
        for prefix, part in layer.walk():
            shapes = {buffer.name: buffer.shape for buffer in part.buffers()}
            for name in part.weights_order():
                if part.options.dontloadscales and name in _SCALES:
                    continue
                count = _count(part, shapes[name])
                layout = _layout(part, name, transposed)
                yield _Piece(index, layer.type, prefix + name, part, name, start, count, layout)
                start += count


def _count(layer: Layer, shape: tuple[int, ...]) -> int:
    filters = layer.options.numload
    if filters and layer.type in ("convolutional", "deconvolutional"):
        return math.prod(shape[1:]) * int(min(filters, shape[0]))
    return math.prod(shape)


def _layout(layer: Layer, name: str, transposed: bool) -> str:
    if name == "weights" and ((layer.type == "connected" and transposed) or getattr(layer.options, "flipped", False)):
        return "transposed"
    return "plain"


def is_loaded_whole(layer: Layer) -> bool:
    """Whether a weights file has all parameters of a layer, so that initial values would be lost."""
    return all(_is_part_loaded_whole(part) for _, part in layer.walk())


def _is_part_loaded_whole(part: Layer) -> bool:
    o = part.options
    parameters = {buffer.name for buffer in part.buffers() if buffer.role in (Role.PARAMETER, Role.STATISTIC)}
    partial = o.dontload or o.dontloadscales or o.numload
    return not partial and (parameters <= set(part.weights_order()) or vars(part).get("share_layer") is not None)


class WeightsFile:
    """A .weights file for a network: checked whole, read when and as far as it is wanted.

    Attributes:
        path: the file.
        header: its header.
        warnings: bytes that are left over.
    """

    def __init__(
        self, layers: Sequence[Layer], path: str | os.PathLike[str], dialect: str, upto: int | None = None
    ) -> None:
        """
        Args:
            layers: of the network; they need not be allocated yet.
            path: the file.
            dialect: "darknet" or "alexeyab".
            upto: only the first so many layers (None: all).

        Raises:
            WeightsError: a file too short, naming the layer in which it ends.
        """
        self.path, self.header, self.warnings = path, read_header(path, dialect), list[str]()
        limit = len(layers) if upto is None else upto
        self._pieces = list(_pieces_to_load(layers, limit, self.header.transposed))
        self._state = _state(os.stat(path))
        found = os.path.getsize(path) - self.header.nbytes
        expected = 4 * sum(piece.count for piece in self._pieces)
        if found < expected:
            raise _too_short(path, self._pieces, found, expected)
        if found > expected:
            self.warnings.append(
                f"{path}: {found - expected} bytes are left over after the last layer"
                f" (the network needs {expected}, the file has {found}): is it the right cfg?"
            )

    def read(self, parts: Iterable[Layer] | None = None) -> list[str]:
        """Read the arrays of these layers (or layers inside them), or of all.

        Returns:
            Warnings (NaN or infinity inside).

        Raises:
            WeightsError: the file cannot be read, or is another one than it was.
        """
        wanted = None if parts is None else {id(part) for part in parts}
        pieces = [piece for piece in self._pieces if wanted is None or id(piece.part) in wanted]
        try:
            with open(self.path, "rb", buffering=0) as file:
                if _state(os.fstat(file.fileno())) != self._state:
                    raise WeightsError(f"{self.path}: was changed since it was opened for this network; load it again")
                return [text for piece in pieces for text in self._read(file, piece)]
        except OSError as error:
            raise WeightsError(f"{self.path}: cannot be read: {error.strerror or error}") from error

    def _read(self, file: io.FileIO, piece: _Piece) -> list[str]:
        own = piece.own_values()
        values = np.empty(piece.count, "<f4") if own is None else own
        file.seek(self.header.nbytes + 4 * piece.start)
        rest = values.view(np.uint8).data
        while len(rest):
            count = file.readinto(rest)
            if not count:
                raise WeightsError(f"{self.path}: ends in layer {piece.layer} [{piece.type}], array {piece.name}")
            rest = rest[count:]
        if own is None:
            piece.store(values)
        bad = sum(part.size - np.count_nonzero(np.isfinite(part)) for part in _chunks(values))
        where = f"{self.path}: layer {piece.layer} [{piece.type}] {piece.name}"
        return [f"{where}: {bad} of {values.size} values are NaN or infinite"] if bad else []


def _state(stat: os.stat_result) -> tuple[int, ...]:
    """What changes when a file does."""
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def _chunks(values: np.ndarray[Any, Any], count: int = 1 << 18) -> Iterator[np.ndarray[Any, Any]]:
    return (values[at : at + count] for at in range(0, values.size, count))


def load_weights(
    layers: Sequence[Layer], path: str | os.PathLike[str], dialect: str, upto: int | None = None
) -> tuple[Header, list[str]]:
    """Read a .weights file into the layers' arrays.

    Args:
        layers: allocated layers.
        path, dialect, upto: as of `WeightsFile`.

    Returns:
        The header and warnings (bytes left over, NaN or infinity inside).

    Raises:
        WeightsError: a file too short, naming the layer in which it ends. Nothing has been changed then.
    """
    file = WeightsFile(layers, path, dialect, upto)
    return file.header, file.warnings + file.read()


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
