"""The events of a turn, read along from the object that the agent writes them to.

Promises that each event comes once, with its number, and that nothing that goes wrong with the object fails the
turn: the Answer is the truth. Kinds of events that a newer agent writes are counted and not told.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from flameagent.client import events
from flameagent.client.connection import Connection
from flameagent.client.events import Event
from flameagent.conversation import Call
from flameagent.conversation.codec import convert, decode
from flameagent.flame import FlameError, NotFound

_FAILURES = 5  # reads in a row, after which nobody looks again
_PAUSE = 0.25  # seconds between looks for an object that the agent has not made yet


class Stream:
    """The object of one turn, under `key`: `make` it, and `read` it from time to time, from the event `after` on."""

    def __init__(self, connection: Connection, key: str, *, after: int = 0) -> None:
        self.key = key
        self.begun = False
        """The agent has written something."""
        self.number = 0
        """The number of the newest event that was read."""
        self._connection = connection
        self._after = after
        self._seen = 0
        self._patience = _FAILURES
        self._rest_until = 0.0

    def make(self) -> None:
        """Make the object, which nobody else makes; where that fails nothing is streamed."""
        try:
            self._seen = self._connection.cache.put_as(self.key, b"").version
        except FlameError:
            self.key = ""

    def read(self, *, to_the_end: bool = False) -> Iterator[Event]:
        """The events that are new; `to_the_end` where the task has ended, so that there will be no other look."""
        rests = time.monotonic() < self._rest_until and not to_the_end
        if self._patience <= 0 or not self.key or rests:
            return
        try:
            rows = self._connection.cache.get(self.key, self._seen)
        except NotFound:
            self._patience = 0 if self._seen else self._patience  # it is gone, or the agent makes it
            self._rest_until = time.monotonic() + _PAUSE
            return
        except FlameError:
            self._patience -= 1
            return
        self._patience, self._seen = _FAILURES, max(self._seen, rows.base_version)
        for version, row in rows.patches:
            if version > self._seen:
                self._seen = version
                yield from self._events(row)

    def pass_over(self) -> None:
        """Count the events that are there already and tell nobody: who decides on a turn has seen how it began."""
        deque(self.read(), maxlen=0)
        self.begun = False

    def _events(self, row: bytes | None) -> Iterator[Event]:
        try:
            written: list[dict[str, Any]] = decode(row or b"", list[dict[str, Any]])
        except ValueError:
            self._patience = 0  # not what an agent writes
            return
        self.begun = True
        for event in written:
            self.number += 1
            if self.number > self._after and (told := _told(event, self.number)) is not None:
                yield told


def _told(event: Mapping[str, Any], number: int) -> Event | None:
    """The event as it was written; None for one of a newer kind, or that is none."""
    for kind, told in _KINDS.items():
        if kind in event:
            with suppress(TypeError, AttributeError, msgspec.ValidationError):
                return told(event[kind], number)
    return None


def _field(value: Mapping[str, Any], name: str) -> str:
    return str(value.get(name, ""))


_KINDS: dict[str, Callable[[Any, int], Event]] = {
    "text": lambda value, number: events.TextDelta(str(value), number),
    "reasoning": lambda value, number: events.ReasoningDelta(str(value), number),
    "call": lambda value, number: events.ToolCalled(
        _field(value, "id"), _field(value, "tool"), _field(value, "arguments"), _field(value, "agent"), number
    ),
    "output": lambda value, number: events.ToolOutput(_field(value, "id"), _field(value, "output"), number),
    "agent": lambda value, number: events.AgentChanged(str(value), number),
    "message": lambda value, number: events.MessageTaken(_field(value, "id"), _field(value, "text"), number),
    "approval": lambda value, number: events.ApprovalNeeded(tuple(convert(value, list[Call])), number),
    "attempt": lambda value, number: events.AttemptBegan(number),
    "doing": lambda value, number: events.Progress(str(value), number),
}
"""By kind of event: what is made of what the agent writes under it."""
