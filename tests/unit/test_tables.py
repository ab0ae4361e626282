"""The tables of the documentation say what the program's tables say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tables import TABLES, updated


@pytest.mark.parametrize("page", TABLES, ids=lambda page: page.name)
def test_the_tables_of_a_page_are_up_to_date(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == updated(page), "run: uv run python -m tests.support.tables"
