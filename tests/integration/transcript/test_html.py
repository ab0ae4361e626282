"""The web page of an export as a browser lays it out; where there is none, by its style alone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from flameagent.transcript.html import page
from tests.unit.transcript.test_export import conversation, history, said, turn

_TABLE = """| Approach | Characteristics | Considerations for implementation | `configuration_option` |
|---|---|---|---|
| Synchronous processing | Straightforward, predictable | Blocks everything until completion | `is_enabled` |

- in a list:

  | Abbreviation | Internationalization |
  |---|---|
  | i18n | internationalization considerations |

> | Responsibilities | Acknowledgements | Incompatibilities |
> |---|---|---|
> | representatives | straightforwardness | interoperability |
"""

# The words of cells that stand on more than one line, and whether the page is wider than the window.
_LOOK = """<script>
const broken = [];
for (const cell of document.querySelectorAll("th, td")) {
  const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
  for (let node; node = walker.nextNode();) {
    for (const word of node.data.matchAll(/\\S+/g)) {
      const range = document.createRange();
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      if (new Set([...range.getClientRects()].map((box) => box.top)).size > 1) broken.push(word[0]);
    }
  }
}
const cells = document.querySelectorAll("td").length, root = document.documentElement;
document.body.textContent = "[" + JSON.stringify({broken, cells, wide: root.scrollWidth > root.clientWidth}) + "]";
</script>"""


@pytest.fixture
def shown() -> str:
    return page(history(conversation(turn(1, said("a table?"), said(_TABLE, "assistant")))))


def test_a_table_scrolls_and_breaks_its_cells_between_words(shown: str) -> None:
    (rules,) = re.findall(r"^table \{(.*?)\}", shown, re.MULTILINE)
    assert {"overflow-x: auto", "overflow-wrap: normal"} <= {rule.strip() for rule in rules.split(";")}


@pytest.mark.skipif(not shutil.which("chromium"), reason="there is no Chromium")
@pytest.mark.parametrize("width", [500, 1000])  # the narrowest that Chromium makes, and a wide one
def test_a_browser_breaks_cells_between_words(shown: str, width: int, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    unguarded = re.sub(r"<meta [^>]*Content-Security-Policy[^>]*>", "", shown)
    assert unguarded != shown
    file.write_text(unguarded.replace("</body>", f"{_LOOK}</body>"))
    command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'user'}"]
    ran = subprocess.run(
        [*command, f"--window-size={width},900", "--dump-dom", file.as_uri()],
        capture_output=True,
        text=True,
        timeout=90,
    )
    (found,) = re.findall(r"\[(\{.*\})\]", ran.stdout)
    assert json.loads(found) == {"broken": [], "cells": 9, "wide": False}
