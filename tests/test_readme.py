"""The README says what is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from darkbn.layers import LAYERS

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.skipif(not README.exists(), reason="no README beside the tests")
def test_the_table_of_sections_is_complete() -> None:
    rows = dict(re.findall(r"^\| `\[(\w+)\]` \| (\w+)", README.read_text(), re.MULTILINE))
    assert rows == {layer.sections[0]: "yes" for layer in LAYERS}


@pytest.mark.skipif(not README.exists(), reason="no README beside the tests")
def test_the_commands_that_set_everything_up_stand_alone() -> None:
    commands = re.findall(r"^python3 -m venv .*$", README.read_text(), re.MULTILINE)
    assert len(commands) == 2
    assert all("pip install" in command for command in commands)
