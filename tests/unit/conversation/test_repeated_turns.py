"""Turns that are sent again: answered once, and by what was stored."""

from __future__ import annotations

import pytest

from flameagent.apis import Answer
from flameagent.conversation import (
    ConflictError,
    EditBody,
)
from tests.support.conversations import (
    answered,
    ask,
    everything,
    message,
    open_session,
)
from tests.support.memory_cache import MemoryCache


async def test_a_repeated_turn_is_answered_with_the_stored_answer(cache: MemoryCache, key: str) -> None:
    first = await ask(open_session(cache, key), "t1", "?", "the first answer")
    session = open_session(cache, key)
    assert await ask(session, "t1", "?", "another answer") == first
    assert [item["content"] for item in await session.get_items()] == ["?", "the first answer"]
    assert await session.stored("t1", "?") == first
    assert await session.stored("t2", "?") is None


async def test_a_repeated_turn_is_known_in_later_segments_too(cache: MemoryCache, key: str) -> None:
    session = open_session(cache, key)
    for number in range(30):
        await ask(session, f"t{number}", "?", str(number))
    late = open_session(cache, key, window=4)  # which reads the newest segments only
    assert await ask(late, "t0", "?", "another") == answered("0", 1, "t0")
    assert late._log.conversation.segments > 5
    assert late._log.conversation.unloaded_items > 40
    assert late._log.conversation.turn_count == 30


async def test_a_repeated_turn_is_answered_once_however_long_ago_it_was(cache: MemoryCache, key: str) -> None:
    session = open_session(cache, key)
    for number in range(70):
        await ask(session, f"t{number}", "?", str(number))
    for late in open_session(cache, key, window=4), session:
        assert await late.stored("t2", "?") == answered("2", 3, "t2")
        with pytest.raises(ConflictError, match="another question"):
            await ask(late, "t3", "??")
    assert await ask(open_session(cache, key, window=4), "t1", "?", "another") == answered("1", 2, "t1")
    assert await open_session(cache, key, window=4).stored("t70", "?") is None
    assert everything(session._log)["turn_count"] == 70


async def test_a_turn_that_was_cancelled_long_ago_or_cleared_is_refused(cache: MemoryCache, key: str) -> None:
    session = open_session(cache, key)
    await ask(session, "t0", "?")
    await session.clear_session()
    for number in range(40):
        session._log.append(EditBody("cancel", turn=f"c{number}"))
        await ask(session, f"t{number + 1}", "?")
    for old in "c0", "t0":
        with pytest.raises(ConflictError, match="nothing was added"):
            await ask(open_session(cache, key, window=2), old, "?")
    assert everything(session._log)["turn_count"] == 41


async def test_two_that_run_the_same_turn_at_once_get_one_answer(cache: MemoryCache, key: str) -> None:
    one, two = open_session(cache, key), open_session(cache, key)
    async with one.turn("t1", "?") as first:
        first.answer = Answer("one")
        await one.add_items([message("one")])
        assert await ask(two, "t1", "?", "two") == answered("two", 1, "t1")
    assert first.answer == answered("two", 1, "t1")
    assert everything(one._log)["turn_count"] == 1


async def test_a_turn_id_that_answered_another_question_conflicts(cache: MemoryCache, key: str) -> None:
    session = open_session(cache, key)
    await ask(session, "t1", "?")
    with pytest.raises(ConflictError, match="another question"):
        await session.stored("t1", "!")
    with pytest.raises(ConflictError, match="another question"):
        await ask(session, "t1", "!")
    assert len(await session.get_items()) == 2
