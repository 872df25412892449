"""Names and codes of the activation functions. Their formulas are in include/darkbn/activations.h."""

from __future__ import annotations

import difflib
import enum
from typing import Any

from darkbn.errors import UnsupportedError
from darkbn.options import option


class Activation(enum.IntEnum):
    """Codes that kernels take; a member's name in lower case is its name in a cfg."""

    LOGISTIC = 0
    LOGGY = 1
    RELU = 2
    ELU = 3
    SELU = 4
    RELIE = 5
    PLSE = 6
    HARDTAN = 7
    LHTAN = 8
    LINEAR = 9
    RAMP = 10
    LEAKY = 11
    TANH = 12
    STAIR = 13
    SWISH = 14
    MISH = 15
    HARD_MISH = 16
    RELU6 = 17
    GELU = 18
    REVLEAKY = 19
    NORMALIZE_CHANNELS = 20
    NORMALIZE_CHANNELS_SOFTMAX = 21
    NORMALIZE_CHANNELS_SOFTMAX_MAXVAL = 22


#: Code by name.
CODES: dict[str, int] = {kind.name.lower(): int(kind) for kind in Activation}

#: Names that a dialect reads: pjreddie's Darknet has the first 14.
NAMES: dict[str, tuple[str, ...]] = {"darknet": tuple(CODES)[:14], "alexeyab": tuple(CODES)}

#: The activations that mix the channels of a pixel; all others work on each value alone.
CHANNEL_KINDS = frozenset(
    {
        Activation.NORMALIZE_CHANNELS,
        Activation.NORMALIZE_CHANNELS_SOFTMAX,
        Activation.NORMALIZE_CHANNELS_SOFTMAX_MAXVAL,
    }
)

_INPUT_KINDS = frozenset(
    {
        Activation.SWISH,
        Activation.MISH,
        Activation.HARD_MISH,
        Activation.GELU,
        Activation.NORMALIZE_CHANNELS,
    }
)

# What other programs call them.
_OTHER_NAMES = {
    "silu": "swish",
    "sigmoid": "logistic",
    "lrelu": "leaky",
    "leakyrelu": "leaky",
    "leaky_relu": "leaky",
    "hardtanh": "hardtan",
    "hard_tanh": "hardtan",
    "hardmish": "hard_mish",
    "identity": "linear",
    "none": "linear",
}


def needs_input(kind: int) -> bool:
    """Whether an activation's gradient is a function of its input; for the others it is one of the output."""
    return kind in _INPUT_KINDS


def mixes_channels(kind: int) -> bool:
    """Whether an activation mixes the channels of a pixel."""
    return kind in CHANNEL_KINDS


def problem(name: str, dialect: str) -> str | None:
    """What is wrong with the name of an activation in that dialect, with the name that was probably meant."""
    names = NAMES[dialect]
    if name in names:
        return None
    if name in CODES:
        return f"activation {name!r} exists in dialect alexeyab only"
    lower = name.lower()
    guess = _OTHER_NAMES.get(lower) or next(iter(difflib.get_close_matches(lower, names, 1)), None)
    where = "" if guess in names else " (dialect alexeyab)"
    hint = f"; did you mean {guess!r}{where}?" if guess else ""
    return f"unknown activation {name!r}{hint} (expected one of {', '.join(names)})"


def activation_code(name: str) -> int:
    """The code of an activation. Raises UnsupportedError for an unknown name."""
    if name not in CODES:
        raise UnsupportedError(problem(name, "alexeyab") or "")
    return CODES[name]


def activation_option(default: str) -> Any:
    """The declaration of an option that names an activation."""
    return option(default, problem=problem)
