"""Typed options: a section's text to a frozen dataclass whose fields carry the only defaults.

    @dataclass(frozen=True, kw_only=True)
    class DropoutOptions(LayerOptions):
        probability: float = option(darknet=0.5, alexeyab=0.2, minimum=0, maximum=1)

Values are read as Darknet reads them: the number at the start of the text counts (`32#x` is 32).
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, get_type_hints

from darkbn.cfg import Section
from darkbn.errors import UnsupportedError

DIALECTS = ("darknet", "alexeyab")

_INTEGER = re.compile(r"[+-]?\d+")
_FLOAT = re.compile(r"[+-]?(?:inf(?:inity)?|nan|\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?)", re.IGNORECASE)
_NONE: Any = object()


@dataclass(frozen=True)
class _Derived:
    """A default that follows from the options declared before it."""

    function: Callable[[Any], Any]


def option(
    default: Any = _NONE,
    *,
    darknet: Any = _NONE,
    alexeyab: Any = _NONE,
    derived: Callable[[Any], Any] | None = None,
    key: str | None = None,
    only: str | None = None,
    hints: str | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] | None = None,
    problem: Callable[[Any, str], str | None] | None = None,
    unsupported: str | None = None,
    inference_only: str | None = None,
    required: bool = False,
    evidence: bool = True,
) -> Any:
    """Declare an option.

    Args:
        default: its default in both dialects.
        darknet, alexeyab: its default per dialect, instead of `default`.
        derived: a function of the options so far that gives the default, instead of `default`.
        key: name in the cfg when it is not the field's name.
        only: the one dialect that reads it; in the other it is reported as unused.
        hints: the dialect that it comes from, where darkbn reads it in both.
        minimum, maximum: bounds that are checked, inclusive.
        choices: the words allowed; others are an error (Darknet falls back silently).
        problem: a function of value and dialect that says what is wrong with a value, or None.
        unsupported: why any value but the default is an error.
        inference_only: why any value but the default is an error as soon as the network is trained.
        required: whether the section must give it.
        evidence: whether its presence says that a description is meant for the dialect in `only`.
    """
    if derived is not None:
        default = _Derived(derived)
    by_dialect = {
        "darknet": default if darknet is _NONE else darknet,
        "alexeyab": default if alexeyab is _NONE else alexeyab,
    }
    metadata = {
        "key": key,
        "only": only,
        "comes_from": (only or hints) if evidence else None,
        "bounds": (minimum, maximum),
        "choices": choices,
        "problem": problem,
        "unsupported": unsupported,
        "inference_only": inference_only,
        "required": required,
        "by_dialect": by_dialect,
    }
    if required:
        return dataclasses.field(metadata=metadata)
    python_default = next(v for v in (default, darknet, alexeyab) if v is not _NONE)
    return dataclasses.field(default=python_default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of all option classes. Fields: int, float, bool, str, tuple[int, ...], tuple[float, ...]."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, _Derived):
                object.__setattr__(self, item.name, value.function(self))

    @classmethod
    def keys_only(cls, dialect: str) -> frozenset[str]:
        """Keys whose presence says that a description is meant for this dialect."""
        fields = dataclasses.fields(cls)
        return frozenset(f.metadata["key"] or f.name for f in fields if f.metadata["comes_from"] == dialect)

    def untrainable(self, dialect: str) -> list[str]:
        """Why this cannot be trained: one sentence per option that only inference supports."""
        return [
            f"{f.metadata['key'] or f.name}={getattr(self, f.name)}: {f.metadata['inference_only']}"
            for f in dataclasses.fields(self)
            if f.metadata["inference_only"] and getattr(self, f.name) != f.metadata["by_dialect"][dialect]
        ]

    @classmethod
    def read(cls, section: Section, dialect: str, warnings: list[str], index: int | None = None) -> Self:
        """Options of a section.

        Args:
            section: the text.
            dialect: "darknet" or "alexeyab": decides defaults and which options exist.
            warnings: unknown keys and values that were cut are reported here.
            index: layer index, for messages.

        Raises:
            CfgError: a value of the wrong kind, out of bounds, an unknown word, a missing required option.
            UnsupportedError: an option that is understood but not supported.
        """
        values: dict[str, Any] = {}
        known: list[str] = []
        types = get_type_hints(cls)
        for item in dataclasses.fields(cls):
            meta, key = item.metadata, item.metadata["key"] or item.name
            if meta["only"] not in (None, dialect):
                values[item.name] = meta["by_dialect"][meta["only"]]
                continue
            known.append(key)
            entry = section.find(key)
            if entry is None:
                if meta["required"]:
                    raise section.error(f"{key}= is missing", index=index)
                values[item.name] = meta["by_dialect"][dialect]
                continue
            reader = _Reader(section, key, index, warnings)
            values[item.name] = reader.read(entry.value, types[item.name], meta)
            wrong = meta["problem"](values[item.name], dialect) if meta["problem"] else None
            if wrong:
                raise section.error(wrong, key=key, index=index)
            if meta["unsupported"] and values[item.name] != meta["by_dialect"][dialect]:
                raise UnsupportedError(
                    str(section.error(f"{entry.value}: {meta['unsupported']}", key=key, index=index))
                )
        _report_unused(section, known, warnings, index, dialect, cls)
        return cls(**values)


@dataclass(frozen=True)
class _Reader:
    """Turns one value's text into a typed value, with the place for messages."""

    section: Section
    key: str
    index: int | None
    warnings: list[str]

    def read(self, text: str, kind: Any, meta: Any) -> Any:
        if kind is str:
            return self._word(text, meta["choices"])
        if kind in (int, bool):
            value = self._bounded(self._integer(text), meta["bounds"])
            return bool(value) if kind is bool else value
        if kind is float:
            return self._bounded(self._float(text), meta["bounds"])
        return self._list(text, self._integer if kind == tuple[int, ...] else self._float)

    def _word(self, text: str, choices: tuple[str, ...] | None) -> str:
        if choices is None or text in choices:
            return text
        close = difflib.get_close_matches(text, choices, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise self._error(f"expected one of {', '.join(choices)}, found {text!r}{hint}")

    def _integer(self, text: str) -> int:
        match = _INTEGER.match(text)
        if match is None:
            if _FLOAT.match(text):  # atoi of ".5" is 0
                self._cut(text, "0")
                return 0
            raise self._error(f"expected a whole number, found {text!r}")
        value = int(match.group())
        if not -(2**31) <= value < 2**31:
            raise self._error(f"{value} does not fit into 32 bits")
        self._note_rest(text, match.end(), str(value))
        return value

    def _float(self, text: str) -> float:
        match = _FLOAT.match(text)
        if match is None:
            raise self._error(f"expected a number, found {text!r}")
        self._note_rest(text, match.end(), match.group())
        value = float(match.group())
        if math.isnan(value):
            raise self._error(f"expected a number, found {text!r}")
        return value

    def _list(self, text: str, item: Callable[[str], Any]) -> tuple[Any, ...]:
        # A trailing comment ends the list: "0,1,2 # coarse".
        parts = [part for part in text.partition("#")[0].split(",") if part]
        return tuple(item(part) for part in parts)

    def _bounded(self, value: Any, bounds: tuple[float | None, float | None]) -> Any:
        low, high = bounds
        if low is not None and value < low:
            raise self._error(f"must be at least {low}, found {value}")
        if high is not None and value > high:
            raise self._error(f"must be at most {high}, found {value}")
        return value

    def _note_rest(self, text: str, end: int, used: str) -> None:
        if end < len(text) and text[end] not in "#;":
            self._cut(text, used)

    def _cut(self, text: str, used: str) -> None:
        self.warnings.append(str(self._error(f"{text!r} is read as {used}")))

    def _error(self, problem: str) -> Exception:
        return self.section.error(problem, key=self.key, index=self.index)


def _report_unused(
    section: Section,
    known: list[str],
    warnings: list[str],
    index: int | None,
    dialect: str,
    cls: type[Options],
) -> None:
    other = {f.metadata["key"] or f.name: f.metadata["only"] for f in dataclasses.fields(cls)}
    for key in dict.fromkeys(entry.key for entry in section.entries):
        if key in known:
            continue
        close = difflib.get_close_matches(key, known, 1, cutoff=0.8)
        if other.get(key):
            reason = f"read by dialect {other[key]} only (this network's is {dialect}): ignored"
        elif close:
            reason = f"unknown option, ignored; did you mean {close[0]}?"
        else:
            reason = "unknown option, ignored"
        warnings.append(str(section.error(reason, key=key, index=index)))
