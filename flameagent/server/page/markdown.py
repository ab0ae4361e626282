"""Markdown that a model wrote, as HTML: a list of blocks, so that of an answer which grows only the end is new.

Promises that each block is whole HTML, which loads nothing and runs nothing; links lead to other sites alone, and
headings are below the page's own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from flameagent.transcript.pages import reader
from flameagent.transcript.sanitize import sanitize

_HIGHEST = 4
"""The level of an answer's highest heading: those of the page and of its turns are above."""

_LEADS_ELSEWHERE = re.compile(r"(https?://|mailto:)", re.IGNORECASE)


def blocks(text: str) -> list[str]:
    """The HTML of each paragraph, list, table and so on."""
    definitions: dict[str, Any] = {}
    markdown = _reader()
    tokens, found, begun = markdown.parse(sanitize(text.replace("\r\n", "\n")), definitions), [], 0
    depth = 0
    for index, token in enumerate(tokens):
        depth += token.nesting
        if depth == 0:
            found.append(markdown.renderer.render(tokens[begun : index + 1], markdown.options, definitions))
            begun = index + 1
    return found


@cache
def _reader() -> MarkdownIt:
    markdown = reader()
    markdown.validateLink = lambda url: bool(_LEADS_ELSEWHERE.match(url))  # type: ignore[method-assign]
    markdown.core.ruler.push("for_this_page", _for_this_page)
    return markdown


def _for_this_page(state: Any) -> None:
    tokens: Sequence[Token] = state.tokens
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + _HIGHEST - 1, 6)}"
        elif token.type in ("th_open", "td_open") and (style := token.attrs.pop("style", "")):
            token.attrSet("class", str(style).replace("text-align:", "to-"))  # a style the browser is told to refuse
        for each in token.children or ():
            if each.type == "link_open":
                each.attrSet("target", "_blank")
                each.attrSet("rel", "noopener noreferrer nofollow")
