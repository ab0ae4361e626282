"""An answer while it comes, read along from the object that the agent writes it to.

The rows are those of `flameagent.service.stream`. Promises that each event comes once, and that nothing that goes
wrong with the object fails the turn: the Answer is the truth.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from flameagent.client.connection import Connection
from flameagent.client.events import Event, Progress, Text, ToolCall
from flameagent.conversation.codec import decode
from flameagent.flame import FlameError, NotFound

_FAILURES = 5  # reads in a row, after which nobody looks again


class Stream:
    """The object of one turn, under `prefix`: `open` it, `read` it from time to time, `close` it."""

    def __init__(self, connection: Connection, prefix: str) -> None:
        self.begun = False
        """The agent has written something."""
        self._connection = connection
        self._prefix = prefix
        self._called: dict[str, str] = {}  # tools that have not said anything yet, by the call's ID
        self._key = ""
        self._seen = 0
        self._patience = 0

    def open(self) -> str:
        """Make the object, and return its key; "" where that fails: then nothing is streamed."""
        with suppress(FlameError):
            made = self._connection.cache.put(self._prefix, b"")
            self._key, self._seen, self._patience = made.key, made.version, _FAILURES
        return self._key

    def read(self) -> Iterator[Event]:
        """The events that are new."""
        if self._patience <= 0:
            return
        try:
            rows = self._connection.cache.get(self._key, self._seen)
        except NotFound:
            self._patience = 0
            return
        except FlameError:
            self._patience -= 1
            return
        self._patience = _FAILURES
        for version, row in rows.patches:
            if version > self._seen:
                self._seen = version
                yield from self._events(row)

    def close(self) -> None:
        """Delete the object. Can be repeated."""
        key, self._key, self._patience = self._key, "", 0
        if key:
            with suppress(FlameError):
                self._connection.cache.delete(key)

    def _events(self, row: bytes | None) -> Iterator[Event]:
        try:
            written: list[dict[str, Any]] = decode(row or b"", list[dict[str, Any]])
        except ValueError:
            self._patience = 0  # not what an agent writes
            return
        self.begun = True
        for event in written:
            if isinstance(text := event.get("text"), str):
                yield Text(text)
            elif isinstance(call := event.get("call"), dict):
                tool = str(call.get("tool", ""))
                self._called[str(call.get("id", ""))] = tool
                yield ToolCall(tool, str(call.get("arguments", "")))
                yield Progress(f"calling {tool}")
            elif isinstance(output := event.get("output"), dict):
                self._called.pop(str(output.get("id", "")), None)
                yield Progress(f"calling {next(iter(self._called.values()))}" if self._called else "thinking")
            elif isinstance(doing := event.get("doing"), str):
                yield Progress(doing)
