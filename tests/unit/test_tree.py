"""The page that says where everything is."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_modules_is_up_to_date() -> None:
    made = runpy.run_path(str(DOCS / "tree.py"))
    assert made["PAGE"].read_text(encoding="utf-8") == made["page"](), "run: uv run python docs/tree.py"


def test_every_module_says_what_it_is() -> None:
    lines = (DOCS / "tree.md").read_text(encoding="utf-8").partition("```\n")[2].splitlines()
    silent = [line for line in lines if line.strip("` ") and not line[26:].strip()]
    assert silent == []
