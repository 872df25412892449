"""The table of Darknet's faults and the page about them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from quirks import GOLDEN_TESTS, MORE_QUIRKS, PAGE, POSSIBLE_QUIRKS, QUIRKS, page

TESTS = Path(__file__).parent


@pytest.mark.skipif(not PAGE.parent.exists(), reason="no docs beside the tests")
def test_the_page_is_that_of_the_table() -> None:
    assert PAGE.read_text() == page(), "run python tests/quirks.py"


def test_the_page_has_every_id_once() -> None:
    assert sorted(re.findall(r"^## (.*)$", page(), re.MULTILINE)) == sorted(QUIRKS)


def test_more_quirks_are_declared() -> None:
    assert {name for names in MORE_QUIRKS.values() for name in names} | set(POSSIBLE_QUIRKS.values()) <= QUIRKS.keys()


@pytest.mark.parametrize("name", QUIRKS)
def test_what_holds_a_quirk_exists(name: str) -> None:
    quirk = QUIRKS[name]
    assert quirk.kinds or quirk.tests
    for test in [f"test_goldens.py::{GOLDEN_TESTS[kind]}" for kind in quirk.kinds] + list(quirk.tests):
        file, _, function = test.partition("::")
        assert f"def {function}(" in (TESTS / file).read_text(), test


def test_departures_say_what_may_differ() -> None:
    for name, quirk in QUIRKS.items():
        assert re.compile(quirk.changes) is not None
        assert not (quirk.imitated and quirk.raises), name
