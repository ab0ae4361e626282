"""How many conversations the embedded engine keeps ready at once: as many as the memory has room for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from localflame import scheduler
from localflame.node import free_memory, memory

GB = 1024**3


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine of 16 GB with so much of it free, as one changes it."""
    machine = SimpleNamespace(free=16 * GB)
    monkeypatch.setattr(scheduler, "memory", lambda: 16 * GB)
    monkeypatch.setattr(scheduler, "free_memory", lambda: machine.free)
    return machine


def places(taken: int, *, limit: int = 100, unsettled: int = 0) -> int:
    engine = object.__new__(scheduler.Scheduler)
    engine.max_executors = limit
    engine._unused_memory = 16 * GB
    made = [SimpleNamespace(leaving=False, unsettled=number < unsettled) for number in range(taken)]
    engine.executors = dict(enumerate(made))  # type: ignore[assignment]
    return engine._free_places()


def test_there_are_as_many_as_the_memory_has_room_for(free: Any) -> None:
    assert scheduler._limit("") == 12 * GB // scheduler.LEAST_WEIGHT
    assert places(8, unsettled=5) == 12 * GB // scheduler.MOST_WEIGHT - 5
    free.free = 4 * GB
    assert places(8) == places(20) == 0


def test_who_has_answered_tells_what_the_next_one_weighs(free: Any) -> None:
    free.free = 15 * GB
    assert places(20, limit=1000) == 20 * 11
    assert places(20, limit=1000, unsettled=10) == 20 * 11 - 10
    assert places(8, unsettled=1, limit=1000) == 11 * GB // scheduler.MOST_WEIGHT - 1  # too few to tell
    free.free = 16 * GB  # others have left some
    assert places(10, limit=1000) == 12 * GB // scheduler.LEAST_WEIGHT
    free.free = 12 * GB  # others have taken some
    assert places(10, limit=1000) == 8 * GB // scheduler.MOST_WEIGHT


def test_a_few_there_may_always_be_and_more_only_as_was_said(free: Any) -> None:
    free.free = 0
    assert places(0) == scheduler.MIN_EXECUTORS and places(7) == 1
    free.free = 16 * GB
    assert scheduler._limit("3") == 3 and places(0, limit=3) == 3 and places(2, limit=3) == 1
    assert places(40, limit=40) == 0
    assert scheduler._limit("many") == scheduler._limit("")


def test_the_memory_of_this_machine_is_read() -> None:
    assert 0 < free_memory() <= memory()
