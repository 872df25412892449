"""Every error that darkbn raises on purpose. All derive from DarkbnError; nothing in the library ends the process."""

from __future__ import annotations


class DarkbnError(Exception):
    """Base of all errors of this package."""


class CfgError(DarkbnError):
    """A network description that cannot be meant.

    Attributes:
        file: path of the cfg, or "<text>".
        line: line number, from 1; None when the error belongs to no line.
        section: name of the section without brackets.
        index: layer index of the section as Darknet counts ([net] has none).
        key: option the error is about.
        problem: what was found and what would be right.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: str | None = None,
        line: int | None = None,
        section: str | None = None,
        index: int | None = None,
        key: str | None = None,
    ) -> None:
        self.problem, self.file, self.line = problem, file, line
        self.section, self.index, self.key = section, index, key
        place = file or "<text>"
        if line is not None:
            place += f":{line}"
        where = f" [{section}]" if section else ""
        if index is not None:
            where += f" (layer {index})"
        what = f" {key}:" if key else ""
        super().__init__(f"{place}:{where}{what} {problem}")


class WeightsError(DarkbnError):
    """A .weights file that does not fit the network, or is damaged."""


class ShapeError(DarkbnError, ValueError):
    """An array of the wrong shape, rank or memory layout."""


class DtypeError(DarkbnError, TypeError):
    """An array of the wrong element type, or no array at all."""


class NonFiniteError(DarkbnError, ArithmeticError):
    """NaN or infinity where only numbers make sense.

    Attributes:
        iteration: of training, from 1; None outside of it.
        layer: index of the layer; None when it is the input or the truth.
        type: of the layer.
        array: name of the array: "input", "truth", "output", "cost", "delta", "weight_updates", "weights", ...
    """

    def __init__(
        self,
        problem: str,
        *,
        iteration: int | None = None,
        layer: int | None = None,
        type: str | None = None,
        array: str | None = None,
    ) -> None:
        self.iteration, self.layer, self.type, self.array = iteration, layer, type, array
        super().__init__(problem)


class TrainingError(DarkbnError):
    """A training step that cannot be right (for example batch normalization over one value per channel)."""


class ImageError(DarkbnError):
    """A picture that cannot be read."""


class DeviceError(DarkbnError):
    """A device or backend that is not there, with the reason."""


class UnsupportedError(DarkbnError):
    """Something understood but not supported; the message says what and what would work instead."""
