"""Calls that block: one at a time, and in a thread only where one waits for something."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from flameagent.apis import Answer
from flameagent.conversation.serial_calls import SerialCalls
from tests.support.conversations import ask, message, open_session
from tests.support.memory_cache import MemoryCache


async def test_a_quick_call_is_made_here_and_raises_what_it_raises() -> None:
    calls = SerialCalls()
    assert await calls.call_quickly(threading.get_ident) == threading.get_ident()
    for _ in range(2):  # the first leaves nothing locked
        with pytest.raises(KeyError):
            await calls.call_quickly({}.__getitem__, "x")


async def test_a_quick_call_waits_for_one_that_runs_and_holds_up_nobody() -> None:
    calls, begun, end = SerialCalls(), threading.Event(), threading.Event()
    order: list[str] = []

    def slow() -> None:
        begun.set()
        end.wait()
        order.append("slow")

    running = asyncio.create_task(calls.read(slow))
    await asyncio.to_thread(begun.wait)
    quick = asyncio.create_task(calls.call_quickly(order.append, "quick"))
    done, _ = await asyncio.wait({quick}, timeout=0.05)  # the loop goes on
    assert (done, order) == (set(), [])
    end.set()
    await asyncio.gather(running, quick)
    assert order == ["slow", "quick"]


async def test_a_turn_waits_for_the_cache_in_threads_and_for_nothing_else(
    cache: MemoryCache, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, in_threads = open_session(cache, key, window=4), list[str]()
    for number in range(6):
        await ask(session, f"t{number}", "?")
    to_thread = asyncio.to_thread

    async def noting(function: Callable[..., Any], *arguments: Any) -> Any:
        called = arguments[0]
        in_threads.append(getattr(called, "func", called).__name__)
        return await to_thread(function, *arguments)

    monkeypatch.setattr(asyncio, "to_thread", noting)
    assert await session.stored("new", "?") is None
    async with session.turn("new", "?", read=False) as staged:
        shown = await session.get_items()
        staged.answer = Answer("fine")
    assert len(shown) == 4
    assert in_threads == ["read_turn", "append"]


async def test_a_turn_that_begins_without_reading_reads_what_was_not_read(cache: MemoryCache, key: str) -> None:
    first = open_session(cache, key)
    for number in range(9):
        await ask(first, f"t{number}", f"question {number}", f"answer {number}")
    late = open_session(cache, key)  # begins in a later segment
    assert await late.stored("new", "?") is None
    assert late._log.conversation.unloaded_items
    async with late.turn("new", "?", read=False) as staged:
        shown = await late.get_items()
        staged.answer = Answer("fine")
    assert shown[:2] == [message("question 0"), message("answer 0", "assistant")]
    assert len(shown) == 18
