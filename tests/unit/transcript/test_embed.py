"""Markdown of others in a document of ours: the other parts stay what they are."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from flameagent.transcript import export
from flameagent.transcript.embed import code, embed, literal
from tests.unit.transcript.test_export import conversation, history, said, turn

READERS = [MarkdownIt("commonmark"), MarkdownIt("gfm-like", {"linkify": False, "html": True})]
INNOCENT = "Some *text* with [a] and [b][c], `code`, a\n\n- list\n\n> and a quote\n\n1. one"

OPEN = {
    "a fence": "Look:\n\n```python\nprint(1)\n",
    "another fence": "~~~~\ntext",
    "a fence in a list": "1. so\n\n   ```\n   x",
    "a fence in a quote": "> ```\n> x",
    "a fence behind a fence": "```\na\n```\n\n```b\nc\n``",
    "a heading as the document's": "## Turn 9",
    "one that is underlined": "Turn 9\n---",
    "one that is underlined twice": "a\nlong\ntitle\n===\nand text",
    "headings in others": "- ## Turn 9\n- a\n\n> # Turn 8\n> Turn 7\n> ---",
    "the highest": "# Title\n\n## Part\n\n###### deep",
    "a comment": "<!-- and so on",
    "a comment behind text": "text\n<!--\nmore",
    "an element": "<details><summary>more</summary>\n\ntext",
    "an element in a line": "a <b>bold word",
    "an end of an element": "</div></section>",
    "crossed elements": "a <b><i>word</b></i>",
    "a script": "<script>\nif (a < b) {",
    "a declaration": "<!DOCTYPE html",
    "an instruction": "<?php\n\necho",
    "a marked section": "<div>\n<![x[ y ]]>\n</div>",
    "character data": "<![CDATA[",
    "a definition": "[a]: http://example.invalid/ 'title'\n\n[b]: <x>",
    "a definition in a quote": "> [c]: /url",
    "a list": "- one\n- two",
    "a numbered list": "7. one",
    "a list with nothing": "-",
    "a quote": "> quoted\nand going on",
    "a table": "| a | b |\n|---|---|\n| c | d",
    "indented code": "    x\n\n    y",
    "a rule": "text\n\n---",
    "a backslash": "text\\",
    "a lone end of line": "text\r## Turn 9\r```",
    "a code span": "a `b",
    "nothing": "",
    "deep": "> " * 200 + "x",
}


def exported(question: str, answer: str, fact: str = "fact") -> str:
    folded = conversation(
        turn(1, said(question), said(answer, "assistant"), facts={"k": fact}),
        turn(2, said(INNOCENT), said(INNOCENT, "assistant")),
        prompt=question,
    )
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "then", export.written(history(folded), "md"))


def blocks(reader: MarkdownIt, document: str) -> list[tuple[str, str, int, str]]:
    return [(token.type, token.tag, token.level, _inline(token)) for token in reader.parse(document)]


def _inline(token: object) -> str:
    children = getattr(token, "children", None) or []
    return " ".join(f"{child.type}:{child.content}" for child in children) or str(getattr(token, "content", ""))


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("br", "hr", "img", "input", "wbr"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def stands(question: str, answer: str, fact: str = "fact") -> None:
    document, plain = exported(question, answer, fact), exported("question", "answer")
    for reader in READERS:
        found, expected = blocks(reader, document), blocks(reader, plain)
        titles = [
            (found[place][1:3], found[place + 1][3])
            for place, block in enumerate(found)
            if block[0] == "heading_open" and block[1] in ("h1", "h2")
        ]
        assert [(tag, level) for (tag, level), _ in titles] == [("h1", 0), ("h2", 0), ("h2", 0), ("h2", 0)]
        assert [title[5:11] for _, title in titles[1:]] == ["Turn 1", "Turn 2", "Facts"]
        second = next(place for place, block in enumerate(expected) if "Turn 2" in block[3]) - 1
        last = next(place for place, block in enumerate(expected) if block[3] == "text:Facts") - 1
        there = next(place for place, block in enumerate(found) if block[3].startswith("text:Turn 2 ")) - 1
        assert found[there : there + last - second] == expected[second:last]
        elements = Elements()
        elements.feed(reader.render(document))
        elements.close()
        assert elements.open == []


@pytest.mark.parametrize("name", OPEN)
def test_the_other_turns_stay_what_they_are(name: str) -> None:
    text = OPEN[name]
    stands("question", text)
    stands(text, "answer", text)


BLOCKS = ["```", "~~~", "    ", "- ", "> ", "1. ", "## ", "===", "---", "\n\n", "text", "[a]", ": /x", "(y)", "&lt;"]
ELEMENTS = ["<!--", "-->", "<div>", "</div>", "<b>", "<br/>", "<a href='", "'>", "<script>", "<b/>"]
PARTS = st.sampled_from([*"`#-*_|\\\n\r\t\ud800", *BLOCKS, *ELEMENTS])


@settings(max_examples=150, deadline=None)
@given(question=st.lists(PARTS, max_size=12).map("".join), answer=st.lists(PARTS, max_size=12).map("".join))
@example(question="[a]:", answer="```")
@example(question="", answer="<div>\n\n`</div>")
@example(question="", answer="- <div>\n\n</div>")
@example(question="", answer="`|\n---")
def test_whatever_is_said(question: str, answer: str) -> None:
    stands(question, answer, question)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("**so** on\n\n### Plan\n\n- a <br> b\n\n<!-- note -->", None),
        ("```python\nx = 1", "```python\nx = 1\n```"),
        ("# A\n\ntext\n\n## B", "### A\n\ntext\n\n#### B"),
        ("A\n---\ntext", "### A\n\ntext"),
        ("```\n# no heading", "```\n# no heading\n```"),
        ("[x]: /y", "```markdown\n[x]: /y\n```"),
        ("<!--\n````", "`````markdown\n<!--\n````\n`````"),
    ],
)
def test_what_stands_alone_stays_as_it_came(text: str, shown: str | None) -> None:
    assert embed(text) == (text if shown is None else shown)


@pytest.mark.parametrize(
    "text", ["# a", "1. a", "- a", "+ a", "> a", "*a*", "_a_", "[a](b)", "<b>", "&lt;", "a\\", "`a`"]
)
def test_a_line_is_text_and_code_is_code(text: str) -> None:
    for reader in READERS:
        assert MarkdownIt.render(reader, f"- {literal(text)}").replace("&lt;", "<").replace("&gt;", ">").replace(
            "&amp;", "&"
        ) == (f"<ul>\n<li>{text}</li>\n</ul>\n")
        (_, inline, _) = reader.parse(code(text))
        assert inline.children is not None and [child.content for child in inline.children] == [text]
    assert literal("my_name, call_1 (x-y) a.b 3.5") == "my_name, call_1 (x-y) a.b 3.5"
