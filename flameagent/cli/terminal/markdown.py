"""Markdown on a terminal: what an answer looks like, and which part of one that still comes is final.

Promises that all that was said can be read: HTML, images and link definitions are text, a link shows where it
leads, a line stays a line.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import rich.markdown
from markdown_it import MarkdownIt
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.syntax import Syntax
from rich.theme import Theme

from flameagent.transcript.sanitize import sanitize

_parser = (
    MarkdownIt("commonmark", {"html": False})
    .enable(["strikethrough", "table"])
    .disable(["image", "reference", "autolink"])
)

_THEME = Theme({"markdown.code": "cyan"})  # without a background, which fits half of all terminals

Lines = list[list[Segment]]


def rendered(text: str, console: Console, width: int | None = None) -> Lines:
    """The lines that show a text on the console, without spaces at their ends; blocks have an empty one between.

    A text of white space alone has none.
    """
    options = console.options if width is None else console.options.update_width(width)
    lines: Lines = []
    with console.use_theme(_THEME):
        for block in _blocks(text):
            shown = [_stripped(line) for line in console.render_lines(_Markdown(block), options, pad=False)]
            while shown and not shown[-1]:
                shown.pop()
            while shown and not shown[0]:
                shown.pop(0)
            lines += [[], *shown] if lines and shown else shown
    return lines


def final(text: str) -> int:
    """How many characters of a text that still comes are blocks which what follows cannot change."""
    return sum(map(len, _blocks(text)[:-1]))


def _blocks(text: str) -> list[str]:
    unreturned = text.replace("\r", "␍")  # which the parser takes for the end of a line
    tokens = [token for token in _parser.parse(unreturned) if token.level == 0 and token.nesting >= 0]
    starts = [0, *(token.map[0] for token in tokens[1:] if token.map), None]
    lines = [f"{line}\n" for line in text.split("\n")]  # as the parser counts them
    lines[-1] = lines[-1][:-1]
    return ["".join(lines[start:end]) for start, end in pairwise(starts)]


class _Heading(rich.markdown.Heading):
    """On the left, as wide as its text: in a conversation it is no page's title."""

    LEVEL_ALIGN: ClassVar = dict.fromkeys(rich.markdown.Heading.LEVEL_ALIGN, "left")


class _Code(rich.markdown.CodeBlock):
    """Indented, on the terminal's own background, which a theme does not know."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        code = str(self.text).rstrip("\n")
        yield Syntax(
            code, self.lexer_name, theme="ansi_dark", background_color="default", word_wrap=True, padding=(0, 2)
        )


class _Markdown(rich.markdown.Markdown):
    elements: ClassVar = {
        **rich.markdown.Markdown.elements,
        "heading_open": _Heading,
        "fence": _Code,
        "code_block": _Code,
    }

    def __init__(self, text: str) -> None:
        super().__init__("", hyperlinks=False)
        self.parsed = _parser.parse(text)
        for token in self.parsed:
            token.content = sanitize(token.content)  # `&#x202e;` is a character only now
            for child in token.children or []:
                child.content = sanitize(child.content)
                if child.type == "softbreak":  # rich would make a space of it
                    child.type = "hardbreak"


def _stripped(line: list[Segment]) -> list[Segment]:
    """The line without spaces at its end, which would wrap where the terminal is made narrower."""
    while line and not line[-1].text.strip():
        line = line[:-1]
    return [*line[:-1], Segment(line[-1].text.rstrip(), line[-1].style)] if line else []
