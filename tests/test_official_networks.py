"""The committed table of official networks is whole."""

from __future__ import annotations

from collections import Counter

import pytest
from official_networks import PAGE, README, key, official, rows, summary

#: Descriptions in the two repositories (pjreddie/darknet f6afaab cfg/*.cfg, AlexeyAB/darknet 59596d7 cfg/**/*.cfg).
COUNTS = {"pjreddie/darknet": 45, "AlexeyAB/darknet": 95}

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="no docs beside the tests")


def test_it_names_every_description() -> None:
    assert Counter(repository for repository, _ in rows(PAGE.read_text())) == COUNTS


def test_it_names_every_case() -> None:
    assert sorted({key(case) for case in official()} - rows(PAGE.read_text()).keys()) == []


def test_nothing_differs() -> None:
    assert [line for line in PAGE.read_text().splitlines() if "DIFFERS" in line] == []


def test_the_readme_has_its_summary() -> None:
    assert summary(rows(PAGE.read_text())) in README.read_text()
