"""Reading of Darknet's network descriptions: text to sections, exactly as Darknet reads them.

Line based. Blanks, tabs and carriage returns are removed everywhere in a line; a line that starts with `#` or `;` is a
comment, there are no comments behind a value. The first of two equal keys wins. Values stay text here;
`darkbn.options` gives them types.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from darkbn.errors import CfgError

_BLANKS = str.maketrans("", "", " \t\r\v\f")


@dataclass(frozen=True)
class Entry:
    """One `key=value` line. `value` has no blanks; `line` counts from 1."""

    key: str
    value: str
    line: int


@dataclass
class Section:
    """One `[name]` and its entries.

    Attributes:
        name: as written, without brackets.
        line: line of the name, from 1.
        file: where it was read from, for messages.
        entries: all entries in order, duplicates included.
    """

    name: str
    line: int = 0
    file: str = "<text>"
    entries: list[Entry] = field(default_factory=list)

    def find(self, key: str) -> Entry | None:
        """The first entry with that key, or None."""
        return next((entry for entry in self.entries if entry.key == key), None)

    def error(self, problem: str, *, key: str | None = None, index: int | None = None) -> CfgError:
        """A CfgError that points to this section, or to the line of `key` in it."""
        entry = self.find(key) if key else None
        line = entry.line if entry else self.line or None
        return CfgError(problem, file=self.file, line=line, section=self.name, index=index, key=key)


@dataclass
class Cfg:
    """A whole network description.

    Attributes:
        file: path, or "<text>".
        folder: folder that side files (`tree=`, `map=`) are relative to.
        sections: in order; the first is [net] or [network].
        warnings: lines that Darknet would skip, and duplicates that say something else than the first.
        text: what was read, comments included.
    """

    file: str
    folder: Path
    sections: list[Section] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    text: str = ""

    @property
    def net(self) -> Section:
        """The [net] section."""
        return self.sections[0]

    @property
    def layers(self) -> list[Section]:
        """The sections after [net]: index = layer index."""
        return self.sections[1:]

    def to_text(self) -> str:
        """The description as text that reads back to the same sections."""
        blocks = (
            "\n".join([f"[{section.name}]", *(f"{e.key}={e.value}" for e in section.entries)])
            for section in self.sections
        )
        return "\n\n".join(blocks) + "\n"


def read_cfg(source: str | os.PathLike[str]) -> Cfg:
    """Read a network description.

    Args:
        source: path of a .cfg file, or the text itself when it contains a newline.

    Returns:
        The sections with their lines; warnings collected on the result.

    Raises:
        CfgError: no such file, no section, an option before the first section, a first section that is not [net].
    """
    if isinstance(source, str) and "\n" in source:
        return _parse(source, "<text>", Path())
    path = Path(source)
    try:
        # Darknet reads bytes; names and comments in old encodings must not stop a load.
        text = path.read_bytes().decode("utf-8", errors="surrogateescape")
    except OSError as error:
        raise CfgError(f"cannot be read: {error.strerror or error}", file=str(path)) from error
    return _parse(text, str(path), path.parent)


def _parse(text: str, file: str, folder: Path) -> Cfg:
    cfg = Cfg(file=file, folder=folder, text=text)
    for number, line in _lines(text):
        if line.startswith("["):
            cfg.sections.append(Section(_section_name(line, file, number), number, file))
        elif not cfg.sections:
            raise CfgError(f"expected a section such as [net], found {line!r}", file=file, line=number)
        else:
            _add_entry(cfg, cfg.sections[-1], line, number)
    if not cfg.sections:
        raise CfgError("no section found: a network description starts with [net]", file=file)
    first = cfg.sections[0]
    if first.name not in ("net", "network"):
        raise first.error("the first section must be [net] or [network]")
    return cfg


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        line = raw.translate(_BLANKS)
        if line and line[0] not in "#;\0":
            yield number, line


def _section_name(line: str, file: str, number: int) -> str:
    name, bracket, rest = line[1:].partition("]")
    if not bracket or not name or (rest and rest[0] not in "#;"):
        raise CfgError(f"expected a section such as [convolutional], found {line!r}", file=file, line=number)
    return name


def _add_entry(cfg: Cfg, section: Section, line: str, number: int) -> None:
    key, _, value = line.partition("=")
    place = f"{cfg.file}:{number}: [{section.name}]"
    if not value:
        cfg.warnings.append(f"{place} {line!r} is not key=value: ignored")
        return
    first = section.find(key)
    if first is not None and first.value != value:
        cfg.warnings.append(
            f"{place} {key}={value} is ignored: line {first.line} said {first.value} (the first one wins)"
        )
    section.entries.append(Entry(key, value, number))
