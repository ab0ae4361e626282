"""The parts of the page: Markdown of others in blocks, the same live and from the record, and nothing that acts."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flameagent.client.events import (
    AgentChanged,
    AttemptBegan,
    Event,
    MessageTaken,
    TextDelta,
    ToolCalled,
    ToolOutput,
)
from flameagent.server.page import conversation
from flameagent.server.page.live import LiveTurn
from flameagent.server.page.markdown import blocks
from flameagent.server.page.rendering import render

_HOSTILE = [
    "<script>hacked = 1</script>",
    '<img src=x onerror="hacked = 1">',
    "[a](javascript:hacked=1) [b](JaVaScRiPt:hacked=1) [c](data:text/html,x) [d](/logout) [e](//evil.example)",
    "![i](https://evil.example/i.png)",
    "<a href='x' style='position:fixed'>\n\n</article></main>",
    '[x]: https://evil.example "title\n" onclick="hacked=1"\n\n[x]',
    "`</code><script>`",
    "```</pre><script>\n</pre>\n```",
    "\u202eevil\u2066 \u200f \U000e0041",
]
_ALLOWED = {"href", "target", "rel", "title", "class", "start"}


class _Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in ("br", "hr"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def harmless(html: str) -> _Seen:
    seen = _Seen()
    seen.feed(html)
    assert seen.open == []
    assert not seen.tags & {"script", "img", "style", "iframe", "form", "input", "object", "svg", "base", "meta"}
    for name, value in seen.attributes:
        assert name in _ALLOWED, name
        assert name != "href" or re.match("https?://|mailto:", value or ""), value
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200e\u200f\U000e0000-\U000e007f]", html)
    return seen


@pytest.mark.parametrize("text", _HOSTILE)
def test_markdown_of_others_does_nothing(text: str) -> None:
    for block in blocks(text):
        harmless(block)


@given(st.text(st.sampled_from("<>[]()`*_#|-!\n \"'&/:=aj1\u202e"), max_size=60))
def test_each_block_is_whole_html(text: str) -> None:
    for block in blocks(text):
        assert block.startswith("<")
        harmless(block)


def test_a_block_stays_as_it_is_while_the_answer_grows() -> None:
    text = "# A\n\none\n\n- two\n- three\n\n```\nfour\n```\n\nfive"
    whole = blocks(text)
    assert len(whole) == 5 and whole[0] == "<h4>A</h4>\n"
    for end in range(len(text)):
        so_far = blocks(text[:end])
        assert so_far[:-1] == whole[: max(len(so_far) - 1, 0)]


def test_links_leave_the_page_alone() -> None:
    (block,) = blocks("see [the docs](https://example.org/a?b=1&c=2) or <mailto:a@example.org>")
    assert block.count('target="_blank" rel="noopener noreferrer nofollow"') == 2


def test_columns_of_a_table_are_aligned_by_class() -> None:
    (table,) = blocks("| a | b |\n|--:|:-:|\n| 1 | 2 |")
    assert '<td class="to-right">1</td>' in table and '<td class="to-center">2</td>' in table


_EVENTS: list[Event] = [
    TextDelta("Let me "),
    TextDelta("look."),
    ToolCalled("c1", "weather", '{"place":"<b>"}'),
    MessageTaken("m", "And quickly!"),
    ToolOutput("c1", "<script>"),
    TextDelta("It is *sunny*."),
]
_RECORDED = [
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me look."}]},
    {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"place":"<b>"}'},
    {"type": "function_call_output", "call_id": "c1", "output": "<script>"},
    {"role": "user", "content": "And quickly!"},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "It is *sunny*."}]},
]


def test_a_turn_looks_the_same_live_and_from_the_record() -> None:
    live = LiveTurn()
    for event in _EVENTS:
        live.feed(event)
    parts = conversation.parts(live.items)
    assert parts == conversation.parts(_RECORDED)  # type: ignore[arg-type]
    assert len(parts) == 4 and "<script>" not in "".join(parts) and "<em>sunny</em>" in parts[-1]


def test_an_attempt_that_was_lost_is_not_shown() -> None:
    live = LiveTurn()
    for event in (*_EVENTS, AttemptBegan(), TextDelta("Anew."), AgentChanged("other"), TextDelta("And on.")):
        live.feed(event)
    assert conversation.parts(live.items) == ["<p>Anew.</p>\n", "<p>And on.</p>\n"]


def test_what_others_called_their_tools_is_text() -> None:
    items = [{"type": "function_call", "call_id": "c", "name": "<img src=x>\u202e", "arguments": "</pre><script>"}]
    (part,) = conversation.parts(items)  # type: ignore[arg-type]
    assert "<img" not in part and "<script>" not in part and "\u202e" not in part


def test_where_several_agents_are_served_one_is_chosen() -> None:
    begun = render("begin", root="/r", agents=["one", "two<"], user="ada")
    assert "<option>one</option><option>two&lt;</option>" in begun and 'href="/r/memory"' in begun
    empty = {"facts": [], "count": "0 turns", "text": "", "found": [], "problem": "<b>"}
    remembered = render("memory", root="", agents=["one", "two<"], agent="two<", user="ada", **empty)
    assert '<a class="button quiet" href="?agent=one">one</a>' in remembered and "&lt;b&gt;" in remembered
    assert "<select" not in render("begin", root="", agents=["one"], user="ada")
