"""The tables of the documentation say what the program's tables say."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

MADE = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "tables.py"))


@pytest.mark.parametrize("page", MADE["TABLES"], ids=lambda page: page.name)
def test_the_tables_of_a_page_are_up_to_date(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == MADE["updated"](page), "run: uv run python docs/tables.py"
