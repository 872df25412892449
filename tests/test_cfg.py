"""Reading of cfg files and typed options: Darknet's rules, and errors that name the place."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkbn.cfg import Cfg, Entry, Section, read_cfg
from darkbn.errors import CfgError, UnsupportedError
from darkbn.options import Options, option


def test_sections_entries_and_lines() -> None:
    cfg = read_cfg("# head\n[net]\nwidth = 4 16\n; note\n\n[convolutional]\r\nactivation= leaky\r\n")
    assert [section.name for section in cfg.sections] == ["net", "convolutional"]
    assert cfg.net.entries == [Entry("width", "416", 3)]
    assert cfg.layers[0].entries == [Entry("activation", "leaky", 7)]
    assert cfg.layers[0].line == 6


def test_first_duplicate_wins_and_is_reported() -> None:
    cfg = read_cfg("[net]\nbatch=1\nbatch=64\n")
    entry = cfg.net.find("batch")
    assert entry is not None
    assert entry.value == "1"
    assert len(cfg.warnings) == 1
    assert "<text>:3" in cfg.warnings[0]
    assert "line 2" in cfg.warnings[0]


def test_equal_duplicates_are_silent() -> None:
    assert not read_cfg("[net]\nbatch=1\nbatch=1\n").warnings


@pytest.mark.parametrize("line", ["width", "width="])
def test_lines_without_a_value_are_reported(line: str) -> None:
    cfg = read_cfg(f"[net]\n{line}\n")
    assert not cfg.net.entries
    assert "<text>:2" in cfg.warnings[0]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("\n", None, "no section"),
        ("width=3\n[net]\n", 1, "width=3"),
        ("[net\n", 1, "[net"),
        ("[]\n", 1, "[]"),
        ("[convolutional]\nfilters=3\n", 1, "must be [net]"),
    ],
)
def test_broken_descriptions(text: str, line: int | None, words: str) -> None:
    with pytest.raises(CfgError) as caught:
        read_cfg(text)
    assert caught.value.line == line
    assert words in str(caught.value)


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(CfgError, match=r"nothing\.cfg"):
        read_cfg(tmp_path / "nothing.cfg")


def test_a_file_in_an_old_encoding_loads(tmp_path) -> None:
    path = tmp_path / "latin.cfg"
    path.write_bytes(b"\xef\xbb\xbf[net]\n# Gr\xf6\xdfe\nwidth=3\n")
    cfg = read_cfg(path)
    assert cfg.net.entries == [Entry("width", "3", 3)]
    assert cfg.file == str(path)


names = st.text("abcdefghijklmnopqrstuvwxyz_0123456789", min_size=1, max_size=12)
values = st.text("abcXYZ0123456789.,-+#/=", min_size=1, max_size=20)


@given(st.lists(st.tuples(names, st.lists(st.tuples(names, values), max_size=6)), max_size=6))
def test_round_trip(blocks: list[tuple[str, list[tuple[str, str]]]]) -> None:
    sections = [Section("net")]
    sections += [Section(name, entries=[Entry(k, v, 0) for k, v in entries]) for name, entries in blocks]
    back = read_cfg(Cfg("<text>", None, sections).to_text() + "\n")  # type: ignore[arg-type]
    assert [(s.name, [(e.key, e.value) for e in s.entries]) for s in back.sections] == [
        (s.name, [(e.key, e.value) for e in s.entries]) for s in sections
    ]


@dataclass(frozen=True, kw_only=True)
class Sample(Options):
    count: int = option(1, minimum=1, maximum=9)
    flag: bool = option(False)
    ratio: float = option(darknet=0.5, alexeyab=0.2)
    twice: int = option(derived=lambda o: 2 * o.count)
    word: str = option("red", choices=("red", "green"))
    numbers: tuple[int, ...] = option(())
    parts: tuple[float, ...] = option(())
    extra: int = option(3, only="alexeyab")
    never: int = option(0, unsupported="needs a time machine")


def read(text: str, dialect: str = "darknet") -> tuple[Sample, list[str]]:
    warnings: list[str] = []
    section = read_cfg(f"[net]\n[sample]\n{text}\n").layers[0]
    return Sample.read(section, dialect, warnings, 7), warnings


def test_defaults_follow_the_dialect() -> None:
    assert read("")[0] == Sample()
    assert read("", "darknet")[0].ratio == 0.5
    assert read("", "alexeyab")[0].ratio == 0.2
    assert read("count=4")[0].twice == 8
    assert read("count=4\ntwice=1")[0].twice == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [("5", 5), ("5#x", 5), ("+5", 5), ("005", 5), ("5.9", 5)],
)
def test_integers_are_number_prefixes(text: str, value: int) -> None:
    assert read(f"count={text}")[0].count == value


@pytest.mark.parametrize(("text", "value"), [(".25", 0.25), ("1e-3#x", 1e-3), ("-2.", -2.0), ("3", 3.0), ("1e", 1.0)])
def test_floats_are_number_prefixes(text: str, value: float) -> None:
    assert read(f"ratio={text}")[0].ratio == value


def test_lists() -> None:
    assert read("numbers=1, 2,3 # four")[0].numbers == (1, 2, 3)
    assert read("parts=10,13,  16.5,")[0].parts == (10.0, 13.0, 16.5)


def test_cut_values_are_reported_comments_are_not() -> None:
    assert read("count=3x")[1]
    assert not read("count=3#x")[1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("count=0", "at least 1"),
        ("count=10", "at most 9"),
        ("count=many", "whole number"),
        ("count=99999999999", "32 bits"),
        ("ratio=leaky", "expected a number"),
        ("ratio=nan", "expected a number"),
        ("word=gren", "did you mean 'green'"),
        ("numbers=1,x", "whole number"),
    ],
)
def test_bad_values_name_the_place(text: str, words: str) -> None:
    with pytest.raises(CfgError, match=words) as caught:
        read(text)
    assert (caught.value.line, caught.value.section, caught.value.index) == (3, "sample", 7)
    assert caught.value.key == text.partition("=")[0]


def test_unsupported_options_are_errors_only_when_used() -> None:
    assert read("never=0")[0].never == 0
    with pytest.raises(UnsupportedError, match="time machine"):
        read("never=1")


def test_unknown_and_foreign_options_are_reported() -> None:
    _, warnings = read("colour=1\ncuont=2\nextra=9")
    assert len(warnings) == 3
    assert "did you mean count" in warnings[1]
    assert "dialect alexeyab" in warnings[2]
    assert read("extra=9", "alexeyab")[0].extra == 9
    assert read("extra=9")[0].extra == 3
