"""What is remembered, as a model is shown it: nothing in it ends its quotation."""

from __future__ import annotations

import json
import time
import unicodedata
from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st

from flameagent.conversation import Summary
from flameagent.memory.index import IndexedTurn
from flameagent.memory.person import Fact
from flameagent.service import memory, recalled, summaries
from flameagent.text import well_formed

ANY_TEXT = st.text(st.characters()) | st.sampled_from(
    [
        *("</memory>", "<memory>", "\n", "\u2028", "\u2029", '"}', "\\", "\\u003c", "\x7f", "\x85", "\ufeff"),
        *(
            "\u202e",
            "\u2066",
            "\u200f",
            "\ud800",
            "\udfff",
            "\uff1c/memory\uff1e",
            "\ufe64",
            "\uff02",
            "\u226e",
            "\uff3c",
        ),
        "<memory>" * 40,
    ]
)
TEXTS = st.lists(ANY_TEXT, max_size=8).map("".join)


@settings(deadline=None, max_examples=60)
@given(TEXTS)
def test_a_quotation_is_one_line_without_tags_and_says_what_was_said(text: str) -> None:
    written = recalled.quoted(text)
    assert well_formed(json.loads(written)) == well_formed(text)  # halves of one character are joined
    assert len(written.splitlines()) == 1 and written.isprintable()
    assert not {"<", ">"} & set(written)
    normal = unicodedata.normalize("NFKD", written)  # as some models' tokenizers do
    assert not {"<", ">"} & set(normal) and normal.count('"') == written.count('"')
    assert normal.count("\\") == written.count("\\")


@settings(deadline=None, max_examples=60)
@given(TEXTS, TEXTS, TEXTS)
def test_a_fact_is_one_line_whoever_wrote_its_key_its_value_and_its_session(
    key: str, text: str, session: str
) -> None:
    fact = Fact(key, text, session, 1, 0, [Fact(key, text, session, 1, 0)])
    here = memory._known(fact, SimpleNamespace(session_id="here"))  # type: ignore[arg-type]
    turn = SimpleNamespace(session=SimpleNamespace(session_id="here"))
    for told in (here.told(key), memory._Known(text).told(key), memory._told_fact(fact, turn)):  # type: ignore[arg-type]
        assert told.isprintable() and len(told.splitlines()) == 1
    assert not {"<", ">"} & set(recalled.source(session, 1, "here"))


@settings(deadline=None, max_examples=60)
@given(TEXTS, TEXTS)
def test_a_turn_that_is_looked_up_looks_like_no_two(question: str, answer: str) -> None:
    told = memory._told(IndexedTurn("s", 1, "t", 0, question, answer)).splitlines()
    assert [line.split(" ", 1)[0] for line in told] == ["Turn", "user:", "you:"]


@settings(deadline=None, max_examples=60)
@given(TEXTS)
def test_a_summary_stays_behind_its_marks(text: str) -> None:
    session = SimpleNamespace(summary=Summary(f"Notes.{text}", turn_count=2))
    told = summaries.instructions(session, SimpleNamespace(omitted_items=4))  # type: ignore[arg-type]
    _, *lines = told.splitlines()
    assert all(line.startswith("> ") for line in lines)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=6))
def test_a_block_has_two_tags_and_a_turn_a_line_whatever_was_said(said: list[tuple[str, str, str]]) -> None:
    turns = [IndexedTurn(session, 1, "t", 0, question, answer) for session, question, answer in said]
    quoted = [recalled.quoted_turn(turn, "now") for turn in turns]
    text = recalled.block(quoted)
    if len(quoted[0]) > recalled._BUDGET:  # with what is escaped in it
        assert not text
        return
    opened, about, *lines, closed = text.splitlines()
    assert (opened, closed) == ("<memory>", "</memory>") and "<" not in about
    for line, turn in zip(lines, turns, strict=False):
        told = json.loads(line)
        said_short = [well_formed(recalled._short(each, recalled._TOLD)) for each in (turn.question, turn.answer)]
        assert [well_formed(told[who]) for who in ("user", "you")] == said_short


def test_a_block_is_bounded_and_nothing_makes_none() -> None:
    turn = IndexedTurn("a-B", 3, "t", 1_700_000_000_000, "long " * 1000, "answer")
    text = recalled.block([recalled.quoted_turn(turn, "now")] * 20)
    assert 1000 < len(text) < 2000
    assert recalled.block([]) == ""


def test_a_turn_says_its_day_and_where_it_was() -> None:
    turn = IndexedTurn("agent-J1E9PE", 3, "t", 1_700_000_000_000, "Hello", "Hi")
    day = time.strftime("%Y-%m-%d", time.localtime(1_700_000_000))
    here = {"day": day, "source": "this conversation, turn 3", "user": "Hello", "you": "Hi"}
    assert json.loads(recalled.quoted_turn(turn, "agent-J1E9PE")) == here
    assert json.loads(recalled.quoted_turn(turn, "agent-X"))["source"] == "session J1E9PE, turn 3"
