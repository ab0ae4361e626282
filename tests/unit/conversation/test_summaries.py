"""Summaries of what left the window: which passage is next, what counts, and what a rewind takes back."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flameagent.conversation import ConflictError, ConversationLog, EditBody, Summary, copy_edit
from flameagent.conversation.passages import Passage, add_summary, next_passage, without_middle
from tests.support.conversations import (
    added,
    ask,
    begin,
    cold,
    conversation,
    everything,
    open_session,
    state,
    turn,
)
from tests.support.memory_cache import MemoryCache


def rolled(log: ConversationLog, limit: int = 20) -> Passage | None:
    """Summarize the next passage."""
    log.refresh()
    passage = next_passage(log, limit)
    if passage is not None:
        text = f"until {passage.turn_count}"
        assert add_summary(log, passage, Summary(text, passage.turn_count, passage.end, passage.start, "m"))
    return passage


def test_nothing_is_next_before_the_window_moves() -> None:
    _, _, log = conversation(10)
    assert next_passage(log, 20) is None
    assert next_passage(log, None) is None


@pytest.mark.parametrize("segment_records", [3, 256])
def test_what_left_the_window_is_next_once(segment_records: int) -> None:
    cache, key, _ = conversation(11, segment_records)
    log = cold(cache, key, segment_records)
    first = rolled(log)
    assert first is not None and (first.start, first.end, first.turn_count) == (0, 10, 5)
    assert "<t4> 1" in first.text and "<t5>" not in first.text
    assert rolled(log) is None and rolled(cold(cache, key, segment_records)) is None
    for number in range(11, 17):
        log.append(turn(f"t{number}"))
    second = rolled(cold(cache, key, segment_records))
    assert second is not None and (second.start, second.end, second.turn_count) == (10, 20, 10)
    assert "<t4>" not in second.text and "<t5> 0" in second.text
    log.refresh()
    assert (log.conversation.summary.text, log.conversation.summary.start) == ("until 10", 10)
    assert state(cold(cache, key)) != state(log) or segment_records  # a cold reader has read nothing
    assert [each.summary.turn_count for each in log.load_all().summaries] == [5, 10]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=30), st.integers(2, 12), st.integers(2, 9))
def test_the_passages_are_whole_turns_and_leave_nothing_out(sizes: list[int], limit: int, segment: int) -> None:
    cache = MemoryCache()
    key = begin(cache)
    log = cold(cache, key, segment)
    for number, size in enumerate(sizes):
        log.append(turn(f"t{number}", items=size))
    end = log.load_window(limit).start
    reader, seen = cold(cache, key, segment), 0
    while (passage := rolled(reader, limit)) is not None:
        assert passage.start == seen and passage.end == sum(sizes[: passage.turn_count])
        seen = passage.end
    assert seen == end


def test_a_long_passage_is_summarized_in_parts_and_of_what_is_long_the_middle_is_left_out() -> None:
    cache = MemoryCache()
    log = cold(cache, begin(cache))
    for number in range(60):
        body = turn(f"t{number}")
        body.items[0]["content"] = f"begin {number} " + "x" * 5000 + f" end {number}"
        log.append(body)
    ends = []
    while (passage := rolled(log)) is not None:
        assert len(passage.text) < 41_000
        assert f"begin {passage.turn_count - 1} " in passage.text and f" end {passage.turn_count - 1}" in passage.text
        ends.append(passage.end)
    assert len(ends) > 2 and ends[-1] == log.load_window(20).start


def test_items_that_no_turn_added_are_in_a_passage() -> None:
    cache = MemoryCache()
    log = cold(cache, begin(cache))
    for number in range(30):
        log.append(added(f"a{number}"))
    passage = rolled(log)
    assert passage is not None and (passage.end, passage.turn_count) == (10, 0)
    assert passage.text.startswith("user: <a0> 0")


def test_of_two_summaries_of_the_same_turns_the_first_counts() -> None:
    cache, key, log = conversation(11)
    other = cold(cache, key)
    other.refresh()
    mine, theirs = next_passage(log, 20), next_passage(other, 20)
    assert mine and theirs
    assert add_summary(log, mine, Summary("mine", 5, 10))
    assert not add_summary(other, theirs, Summary("theirs", 5, 10))
    with pytest.raises(ConflictError):
        other.append(EditBody("summary", summary=Summary("theirs", 5, 10)))
    assert everything(other)["summary"].text == "mine"
    assert other.conversation.seq == 12


def test_a_summary_of_turns_that_were_taken_back_meanwhile_is_not_added() -> None:
    cache, key, log = conversation(11)
    passage = next_passage(log, 20)
    assert passage
    other = cold(cache, key)
    other.append(other.load_all().rewind_edit(2))
    for number in range(20):
        other.append(turn(f"other {number}"))
    assert not add_summary(log, passage, Summary("of what is gone", 5, 10))
    assert not everything(log)["summary"].text


def test_a_summary_is_no_change_of_the_conversation_and_a_turn_is_no_change_of_a_summary() -> None:
    cache, key, log = conversation(11)
    passage = next_passage(log, 20)
    other = cold(cache, key)
    revision = other.refresh().revision
    log.append(turn("beside"))
    assert passage and add_summary(log, passage, Summary("s", 5, 10))
    assert log.conversation.revision == revision + 1
    assert log.conversation.summary.text == "s"


@pytest.mark.parametrize("segment_records", [3, 256])
@pytest.mark.parametrize(("kept", "text"), [(16, "until 10"), (14, "until 5"), (9, ""), (0, "")])
def test_a_rewind_brings_back_the_summary_of_that_time(kept: int, text: str, segment_records: int) -> None:
    cache = MemoryCache()
    key = begin(cache)
    log = cold(cache, key, segment_records)
    for number in range(17):
        log.append(turn(f"t{number}"))
        rolled(log)
    assert log.conversation.summary.text == "until 10"
    other = cold(cache, key, segment_records)
    other.refresh()
    other.append(other.load_all().rewind_edit(kept))
    for reader in (log, other, cold(cache, key, segment_records)):
        assert everything(reader)["summary"].text == text
        assert [each.summary.text for each in reader.conversation.summaries][-1:] == [text][: bool(text)]


def test_a_copy_has_the_summary_and_loses_it_with_what_it_is_of() -> None:
    cache = MemoryCache()
    log = cold(cache, begin(cache))
    for number in range(17):
        log.append(turn(f"t{number}"))
        rolled(log)
    end, blocks = log.load_all().checkpoint_at(15)
    copy = cold(cache, begin(cache, prefix="openai-agent/copy"))
    copy.append(copy_edit(end, blocks, origin="o", title=""))
    assert copy.conversation.summary.text == "until 5"
    assert len(copy.conversation.summaries) == 1
    copy.append(copy.conversation.rewind_edit(4))
    assert not copy.conversation.summary.text and not copy.conversation.summaries


@pytest.mark.parametrize("edit", [EditBody("clear"), EditBody("pop")])
def test_a_summary_of_items_that_are_gone_is_gone(edit: EditBody) -> None:
    cache = MemoryCache()
    log = cold(cache, begin(cache))
    log.append(turn("t", items=3))
    log.append(EditBody("summary", summary=Summary("of three", 1, 3)))
    log.append(edit)
    assert not everything(log)["summary"].text


def test_what_a_summary_took_counts() -> None:
    _, _, log = conversation(11)
    before, passage = log.conversation.usage, next_passage(log, 20)
    assert passage and add_summary(log, passage, Summary("s", 5, 10, usage=type(before)(1, 100, 0, 10)))
    assert log.conversation.usage - before == type(before)(1, 100, 0, 10)


def test_a_session_tells_its_summary() -> None:
    async def talked() -> None:
        cache = MemoryCache()
        session = open_session(cache, begin(cache), window=4)
        for number in range(3):
            await ask(session, f"t{number}", f"question {number}")
        passage = await session.next_passage()
        assert passage is not None and await session.add_summary(passage, Summary("s", 1, 2))
        assert session.summary.text == "s" and await session.next_passage() is None

    asyncio.run(talked())


@given(st.text(max_size=300), st.integers(2, 100))
def test_the_middle_is_left_out(text: str, limit: int) -> None:
    short = without_middle(text, limit)
    assert short == text or (len(text) > limit and text.startswith(short.split(" … (")[0]))
