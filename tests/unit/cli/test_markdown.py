"""Markdown on a terminal: nothing that was said is lost, blocks come out as they are complete."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from flameagent.cli.terminal.markdown import final, rendered

_PAGE = """# Lisbon

It is **sunny**, `18 °C`, see [there](http://a.example/?b=1&c=2).
A line of its own 😀 日本語日本語日本語日本語日本語

[1]: http://b.example
![map](http://c.example)
<b>bold</b>

- one
- two
  - below two, which is long enough to be wrapped

3. third

```python
def f() -> str:

    return "what is longer than a line of forty columns"
```

| day | °C |
|---|---|
| Mon | 18 |

> said

<div>block</div>

---
The end"""

_AT_40 = """Lisbon

It is sunny, 18 °C, see there
(http://a.example/?b=1&c=2).
A line of its own 😀
日本語日本語日本語日本語日本語

[1]: http://b.example
!map (http://c.example)
<b>bold</b>

 • one
 • two
    • below two, which is long enough to
      be wrapped

 3 third

  def f() -> str:

      return "what is longer than a
  line of forty columns"

 day  °C
 ───────
 Mon  18

▌ said

<div>block</div>

----------------------------------------

The end"""


def _console() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=40)


def _shown(text: str) -> str:
    return "\n".join("".join(segment.text for segment in line) for line in rendered(text, _console()))


def test_a_page_is_rendered_as_wide_as_the_terminal() -> None:
    assert _shown(_PAGE) == _AT_40


def test_blocks_that_come_one_after_another_make_the_whole() -> None:
    written, blocks = 0, []
    for end in range(len(_PAGE) + 1):
        characters = final(_PAGE[written:end])
        if characters:
            blocks.append(_PAGE[written : written + characters])
            written += characters
    blocks.append(_PAGE[written:])
    assert "".join(blocks) == _PAGE and len(blocks) > 8
    assert "\n\n".join(map(_shown, blocks)) == _AT_40


@pytest.mark.parametrize("text", ["", " \n\n", "\n"])
def test_white_space_has_no_lines(text: str) -> None:
    assert rendered(text, _console()) == [] and final(text) == 0


@pytest.mark.parametrize("text", ["a\u2028b\n\nc\x0bd\n\ne", "a\r\rb\n\nc", "- a\n\n\n\n  b\n\nc"])
def test_no_character_is_lost_between_blocks(text: str) -> None:
    first = final(text)
    assert 0 <= first <= len(text) and text.endswith(text[first:].strip("\n")) and text[first:].strip()
