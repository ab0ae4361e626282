"""A replay on a terminal: each turn as it was recorded beside what it is now, or below it where there is no room."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from flameagent.conversation.item_text import shorten
from flameagent.transcript.sanitize import sanitize

if TYPE_CHECKING:
    from flameagent.cli.terminal.screen import Screen
    from flameagent.trying.comparison import Compared, Comparison
    from flameagent.trying.words import Side

_WIDTH, _NARROW = 100, 60
_LINES, _CHARACTERS = 14, 900
_BETWEEN = " │ "


def turn(screen: Screen, each: Compared) -> None:
    """One turn."""
    from flameagent.trying import words

    pair, width = words.pair(each), screen.width or _WIDTH
    about = f" · {', '.join(pair.differs)}" if pair.differs else " · the same"
    screen.heading(f"{pair.heading}{about}")
    screen.text(shorten(pair.question, lines=4, characters=400), wrapped=True)
    for line in pair.attached:
        screen.aside(line)
    if width < _NARROW:
        for side in (pair.recorded, pair.replayed):
            for line in _lines(side, width):
                screen.text(line)
            screen.text("")
        return
    half = (width - len(_BETWEEN)) // 2
    left, right = _lines(pair.recorded, half), _lines(pair.replayed, half)
    from rich.cells import set_cell_size

    for place in range(max(len(left), len(right))):
        a, b = (lines[place] if place < len(lines) else "" for lines in (left, right))
        screen.text(f"{set_cell_size(a, half)}{_BETWEEN}{b}".rstrip())
    screen.text("")


def end(screen: Screen, found: Comparison) -> None:
    """What came of all turns."""
    from flameagent.trying import words

    screen.heading(words.summary(found))
    screen.aside(words.how(found))


def _lines(side: Side, width: int) -> list[str]:
    lines = [*_wrapped(side.who, width), "─" * min(width, len(side.who))]
    for call, word in side.calls:
        lines += _wrapped(f"call {call.tool}({_plain(call.arguments)}){f' [{word}]' if word else ''}", width)
    lines += _wrapped(shorten(side.answer, lines=_LINES, characters=_CHARACTERS), width)
    for note in side.notes:
        lines += _wrapped(f"({note})", width)
    return [*lines, *_wrapped(side.took, width)]


def _plain(arguments: str) -> str:
    with suppress(ValueError, RecursionError):
        arguments = json.dumps(json.loads(arguments), ensure_ascii=False)
    return shorten(arguments, lines=3, characters=200)


def _wrapped(text: str, width: int) -> list[str]:
    from rich.console import Console
    from rich.text import Text

    console = Console(width=width, color_system=None, legacy_windows=False)
    made = []
    for line in sanitize(text).expandtabs(4).split("\n"):
        made += [part.plain.rstrip() for part in Text(line).wrap(console, width)] or [""]
    return made
