"""`AsyncClient` is `Client` for an event loop: the same methods, and no call waits for another."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from typing import Any, cast

import pytest

from flameagent.client import async_client, connect, connect_async
from flameagent.client.async_client import AsyncClient, AsyncMemory, AsyncTurn
from flameagent.client.client import Client
from flameagent.client.errors import TurnFailed, UsageError
from flameagent.client.events import Done, Event, Failed, TextDelta
from flameagent.client.memory import Memory
from flameagent.client.reply import Reply
from flameagent.client.turn import GivenUp, given_up


def _methods(of: type) -> dict[str, inspect.Signature]:
    members = ((name, getattr(of, name)) for name in dir(of) if not name.startswith("_"))
    found = {name: value for name, value in members if callable(value)}
    return {name: inspect.signature(method) for name, method in found.items()}


def test_it_has_the_methods_of_a_client_with_the_same_parameters() -> None:
    ours, theirs = _methods(AsyncClient), _methods(Client)
    memory = ours.pop("memory"), theirs.pop("memory")
    assert memory[0].parameters == memory[1].parameters
    assert memory[0].return_annotation == "AsyncMemory" and memory[1].return_annotation == "Memory"
    assert ours == theirs
    turns = {name for name, signature in theirs.items() if signature.return_annotation == "Turn"}
    awaited = {name for name in theirs if inspect.iscoroutinefunction(vars(AsyncClient)[name])}
    assert turns and awaited == set(theirs) - turns


def test_its_memory_has_the_methods_of_a_memory_with_the_same_parameters() -> None:
    assert _methods(AsyncMemory) == _methods(Memory)
    assert all(inspect.iscoroutinefunction(vars(AsyncMemory)[name]) for name in _methods(Memory))


def test_it_is_connected_as_a_client_is() -> None:
    ours, theirs = inspect.signature(connect_async), inspect.signature(connect)
    assert ours.parameters == theirs.parameters


class _Turn:
    """A turn with these events, which waits before each until it is let."""

    def __init__(self, *events: Event) -> None:
        self.session_id, self.turn_id = "s", "t"
        self.left = list(events)
        self.let = threading.Event()
        self.cancelled = False

    def __iter__(self) -> Any:
        while self.left:
            while not self.let.wait(0.01):
                stop = given_up.get()
                if stop is not None and stop.is_set():
                    return
            yield self.left[0] if len(self.left) == 1 else self.left.pop(0)
            if len(self.left) == 1 and isinstance(self.left[0], Done | Failed):
                yield self.left[0]
                return

    def reply(self) -> Reply:
        end = self.left[-1]
        if isinstance(end, Failed):
            raise end.error
        assert isinstance(end, Done)
        return end.reply

    def cancel(self) -> bool:
        self.cancelled = True
        return True


def _turn(*events: Event) -> tuple[AsyncTurn, _Turn]:
    made = _Turn(*events)
    return AsyncTurn(lambda: cast("Any", made)), made


_REPLY = Reply("s", 1, "t", "yes")


async def test_the_events_of_a_turn_come_on_the_loop_and_then_its_reply() -> None:
    turn, made = _turn(TextDelta("yes", 1), Done(_REPLY, 2))
    made.let.set()
    assert turn.turn_id == ""
    assert [event async for event in turn] == [TextDelta("yes", 1), Done(_REPLY, 2)]
    assert (turn.session_id, turn.turn_id, await turn.reply()) == ("s", "t", _REPLY)


async def test_a_turn_that_fails_raises_with_its_reply() -> None:
    turn, made = _turn(Failed(TurnFailed("No."), 1))
    made.let.set()
    with pytest.raises(TurnFailed, match="No"):
        await turn.reply()


async def test_who_is_cancelled_stops_watching_and_may_go_on_later() -> None:
    turn, made = _turn(TextDelta("yes", 1), Done(_REPLY, 2))
    watching = asyncio.ensure_future(turn.reply())
    await asyncio.sleep(0.05)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    assert not made.cancelled
    made.let.set()
    assert [event async for event in turn] == [TextDelta("yes", 1), Done(_REPLY, 2)]


async def test_a_turn_that_cannot_be_asked_raises_where_it_is_awaited() -> None:
    def fails() -> Any:
        raise UsageError("The message is empty.")

    with pytest.raises(UsageError):
        await AsyncTurn(fails)


class _Client:
    """Calls that wait for each other: each ends when all are there."""

    def __init__(self, number: int) -> None:
        self.all = threading.Barrier(number)

    def history(self, session: str) -> str:
        self.all.wait(60)
        return session

    def reach(self, on_progress: Any = None) -> None:
        on_progress(f"thread {threading.current_thread() is threading.main_thread()}")

    def rename(self, session: str, title: str) -> None:
        stop = given_up.get()
        assert stop is not None
        if stop.wait(60):
            self.all.wait(60)
            raise GivenUp


async def test_two_hundred_calls_wait_for_none_of_the_others() -> None:
    theirs = _Client(200)
    client = AsyncClient(cast("Any", theirs))
    history = async_client._awaited(cast("Any", _Client.history))
    found = await asyncio.gather(*(history(client, str(number)) for number in range(200)))
    assert found == [str(number) for number in range(200)]


async def test_functions_that_a_call_is_given_are_called_on_the_loop() -> None:
    said: list[tuple[str, bool]] = []
    reach = async_client._awaited(cast("Any", _Client.reach))
    client = AsyncClient(cast("Any", _Client(1)))
    here = threading.current_thread()
    await reach(client, on_progress=lambda text: said.append((text, threading.current_thread() is here)))
    assert said == [("thread False", True)]


async def test_a_call_that_is_cancelled_ends_its_wait() -> None:
    theirs = _Client(2)
    rename = async_client._awaited(cast("Any", _Client.rename))
    waiting = asyncio.ensure_future(rename(AsyncClient(cast("Any", theirs)), "s", "t"))
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    began = time.monotonic()
    await asyncio.to_thread(theirs.all.wait, 60)  # the thread comes, too
    assert time.monotonic() - began < 30
