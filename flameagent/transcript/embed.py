"""Markdown that others wrote, embedded in a document of ours, which it cannot change.

Promises that what is embedded ends where it ends: the rest of the document reads the same, whatever an answer leaves
open, and whatever it calls a heading. It stays as it came, where that is so by itself; otherwise its headings go
below the document's, a block of code that was broken off is closed, and what still reaches out is shown as text.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

from markdown_it import MarkdownIt

from flameagent.transcript.sanitize import sanitize

LEVEL = 3
"""The level of the highest heading that a part may have: the document's own are above."""

_PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
_READERS = (_PARSER, MarkdownIt("commonmark"))  # without tables, one of a single column is a heading
_WITHOUT_END = {"br", "hr", "img", "input", "wbr"}
_SPECIAL = re.compile(r"[\\`*\[\]<~]|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])|\A[-+=#>]|(?<=\A\d)[.)]|(?<=\A\d\d)[.)]")


def embed(text: str, *, quoted: bool = False) -> str:
    """The text as Markdown, or as a quote of it, that nothing around it is changed by."""
    shown = _quote if quoted else str
    text = _lowered(sanitize(text.replace("\r\n", "\n")))
    fences = [token.markup for token in _PARSER.parse(text) if token.type == "fence" and token.level == 0]
    for candidate in (text, *(f"{text}\n{fence}" for fence in fences[-1:])):
        if all(_stands_alone(shown(candidate), reader) for reader in _READERS):
            return shown(candidate)
    return shown(fenced(text, "markdown"))


def _quote(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))


def fenced(text: str, language: str = "") -> str:
    """The text as a block of code."""
    fence = "`" * max(_longest(text) + 1, 3)
    return f"{fence}{language}\n{text}\n{fence}"


def code(text: str) -> str:
    """The text as code in a line."""
    line = " ".join(text.split())
    fence, blank = "`" * (_longest(line) + 1), " " if line[:1] == "`" or line[-1:] == "`" else ""
    return f"{fence}{blank}{line}{blank}{fence}"


def literal(text: str) -> str:
    """The text as a line in which nothing is Markdown."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))


def _longest(text: str) -> int:
    return max(map(len, re.findall(r"`+", text)), default=0)


def _lowered(text: str) -> str:
    """The text with its headings below the document's; they keep their distances."""
    headings = [token for token in _PARSER.parse(text) if token.type == "heading_open"]
    lower = LEVEL - min((int(token.tag[1]) for token in headings), default=LEVEL)
    lines = text.split("\n")
    for token in headings if lower > 0 else ():
        start, end = token.map or (0, 0)
        marks = "#" * min(int(token.tag[1]) + lower, 6)
        if token.markup.startswith("#"):
            before, _, after = lines[start].partition(token.markup)
            lines[start] = f"{before}{marks}{after}"
        elif token.level == 0:  # underlined, maybe on several lines
            title = " ".join(line.strip() for line in lines[start : end - 1])
            lines[start:end] = [f"{marks} {title}", *[""] * (end - start - 1)]
    return "\n".join(lines)


def _stands_alone(text: str, reader: MarkdownIt) -> bool:
    """True where that reader reads the same of what follows: no block, no element of HTML is open, and no link is
    defined."""
    definitions: dict[str, object] = {}
    tokens = reader.parse(f"{text}\n\n# end\n", definitions)
    inside, end = tokens[:-3], tokens[-3:]
    elements = _Elements()
    try:
        elements.feed(reader.renderer.render(inside, reader.options, definitions))
    except AssertionError:  # what Python's parser says of `<![x[`
        return False
    return (
        [(token.type, token.level) for token in end[:1]] == [("heading_open", 0)]
        and not definitions.get("references")
        and not any(token.tag in ("h1", "h2") for token in inside)
        and elements.closed
    )


class _Elements(HTMLParser):
    """Which elements of HTML are open."""

    def __init__(self) -> None:
        super().__init__()
        self._open: list[str] = []
        self._stray = False

    @property
    def closed(self) -> bool:
        return not (self._open or self._stray or self.rawdata)  # `rawdata` begins something, such as a comment

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in _WITHOUT_END:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.handle_starttag(tag, attrs)  # HTML takes no notice of the slash

    def handle_endtag(self, tag: str) -> None:
        if self._open[-1:] == [tag]:
            self._open.pop()
        else:
            self._stray = True
