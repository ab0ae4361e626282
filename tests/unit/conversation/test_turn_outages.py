"""Turns while the cache goes away, or those who wait for them: what is said of them is true."""

from __future__ import annotations

import asyncio
import threading

import pytest

from flameagent.conversation import (
    DamagedError,
    FlameSession,
    MissingError,
    UnclearError,
)
from flameagent.flame.errors import Mismatch, Unreachable
from tests.support.conversations import PREFIX, answered, ask, cold, everything, message, open_session, turn
from tests.support.memory_cache import MemoryCache


async def test_an_append_that_stays_unclear_says_so_and_the_repeated_turn_finds_its_answer(
    cache: MemoryCache, key: str
) -> None:
    session = FlameSession("s", cold(cache, key))
    session._log._patience = 0.0
    cache.faults.append("answer lost")

    def away_after_the_patch(call: str) -> None:
        if call == "patch":
            cache.on_call = lambda _: setattr(cache, "unreachable", 1)

    cache.on_call = away_after_the_patch
    with pytest.raises(UnclearError, match="may have been added"):
        await ask(session, "t1", "?", "the first")
    cache.on_call = lambda call: None
    answer = await ask(session, "t1", "?", "the second")
    assert answer is not None
    assert answer.answer == "the first"


async def test_a_cache_that_is_away_fails_the_turn_before_anything_is_sent(cache: MemoryCache, key: str) -> None:
    session = open_session(cache, key)
    session._log._patience = 0.0
    with pytest.raises(Unreachable):
        async with session.turn("t1", "?"):
            cache.unreachable = 1
    assert cache.objects[key].patches == []


async def test_a_cache_that_is_away_for_a_while_before_the_append_is_waited_for(cache: MemoryCache, key: str) -> None:
    session = open_session(cache, key)
    async with session.turn("t1", "?") as staged:
        await session.add_items([message("?")])
        cache.unreachable = 2
    assert staged.answer is not None
    assert everything(session._log)["turn_count"] == 1


async def test_a_cache_that_is_away_when_a_turn_begins_is_waited_for(cache: MemoryCache, key: str) -> None:
    session = open_session(cache, key)
    cache.unreachable = 2
    assert await session.stored("t1", "?") is None
    cache.unreachable = 2
    async with session.turn("t1", "?") as staged:
        pass
    assert staged.number == 1
    assert await open_session(cache, key).stored("t1", "?") == staged.answer


async def test_a_cache_that_is_away_for_good_ends_a_turn_before_it_begins(cache: MemoryCache, key: str) -> None:
    session = open_session(cache, key)
    session._log._patience = 0.0
    cache.unreachable = 1
    with pytest.raises(Unreachable):
        await session.stored("t1", "?")


async def test_what_waiting_does_not_change_is_not_waited_for(cache: MemoryCache, key: str) -> None:
    def disagrees(call: str) -> None:
        raise Mismatch("The cache speaks TLS.")

    session = open_session(cache, key)
    cache.on_call = disagrees
    with pytest.raises(Mismatch):
        await session.stored("t1", "?")


async def test_a_deleted_conversation_is_missing_and_not_damaged(cache: MemoryCache, key: str) -> None:
    session = open_session(cache, key)
    await ask(session, "t1", "?")
    cache.delete(PREFIX)
    with pytest.raises(MissingError, match="gone"):
        await ask(session, "t2", "?")
    with pytest.raises(MissingError):
        await open_session(cache, key).get_items()


async def test_a_turn_that_is_cancelled_inside_its_append_is_known_afterwards(cache: MemoryCache, key: str) -> None:
    session = open_session(cache, key)
    inside, go_on = threading.Event(), threading.Event()

    def hold(call: str) -> None:
        if call == "patch":
            inside.set()
            assert go_on.wait(10)

    cache.on_call = hold
    task = asyncio.ensure_future(ask(session, "t1", "?"))
    assert await asyncio.to_thread(inside.wait, 10)
    task.cancel()
    await asyncio.sleep(0.01)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    cache.on_call = lambda call: None
    assert await session.stored("t1", "?") == answered("fine", 1, "t1")


async def test_damage_stops_a_turn_before_it_runs(cache: MemoryCache, key: str) -> None:
    session = open_session(cache, key)
    await ask(session, "t1", "?")
    cache.objects[key].patches.append((3, b"\xff"))
    with pytest.raises(DamagedError) as raised:
        async with session.turn("t2", "?"):
            pytest.fail("it ran")
    assert raised.value.record == 2
    assert await open_session(cache, key).stored("t1", "?") is not None


@pytest.mark.parametrize("guarded", ["put", "patch"])
async def test_every_write_is_announced(cache: MemoryCache, key: str, guarded: str) -> None:
    depth = 0
    unannounced = []

    class Guard:
        def __enter__(self) -> None:
            nonlocal depth
            depth += 1

        def __exit__(self, *_: object) -> None:
            nonlocal depth
            depth -= 1

    log = cold(cache, key, segment_records=2)
    log._guard = Guard
    cache.on_call = lambda call: unannounced.append(call) if call == guarded and not depth else None
    for number in range(8):
        log.append(turn(f"t{number}"))
    assert not unannounced
