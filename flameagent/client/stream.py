"""An answer while it comes, read along from the object that the agent writes it to.

What the rows are: `flameagent.service.stream`. Promises that each event is told once, and that nothing that goes
wrong with the object fails the turn: the Answer is the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from flameagent.client.connection import Connection
from flameagent.conversation.records import decode
from flameagent.flame import FlameError, NotFound

OnText = Callable[[str], None]
"""Is told more of what the agent says, as it comes."""
OnCall = Callable[[str, str], None]
"""Is told which tool is called, and its arguments as the model wrote them: mostly a JSON object."""
Progress = Callable[[str], None]
"""Is told what happens, in a few words, whenever that changes."""

_FAILURES = 5  # reads in a row, after which nobody looks again


class Stream:
    """The object of one turn, under `prefix`: `open` it, `read` it from time to time, `close` it."""

    def __init__(
        self,
        connection: Connection,
        prefix: str,
        on_text: OnText | None,
        on_call: OnCall | None,
        on_progress: Progress | None = None,
    ) -> None:
        self._connection = connection
        self._prefix = prefix
        self._on_text = on_text or (lambda _: None)
        self._on_call = on_call or (lambda *_: None)
        self._on_progress = on_progress or (lambda _: None)
        self._called: dict[str, str] = {}  # tools that have not said anything yet, by the call's ID
        self.told = False
        """Whether the agent has written anything."""
        self._key = ""
        self._seen = 0
        self._patience = 0

    def open(self) -> str:
        """Make the object, and return its key; "" where that fails: then nothing is streamed."""
        with suppress(FlameError):
            made = self._connection.cache.put(self._prefix, b"")
            self._key, self._seen, self._patience = made.key, made.version, _FAILURES
        return self._key

    def read(self) -> None:
        """Tell what is new."""
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
                self._tell(row)

    def close(self) -> None:
        """Delete the object. Can be repeated."""
        key, self._key, self._patience = self._key, "", 0
        if key:
            with suppress(FlameError):
                self._connection.cache.delete(key)

    def _tell(self, row: bytes | None) -> None:
        try:
            events: list[dict[str, Any]] = decode(row or b"", list[dict[str, Any]])
        except ValueError:
            self._patience = 0  # not what an agent writes
            return
        self.told = True
        for event in events:
            if isinstance(text := event.get("text"), str):
                self._on_text(text)
            elif isinstance(call := event.get("call"), dict):
                tool = str(call.get("tool", ""))
                self._called[str(call.get("id", ""))] = tool
                self._on_call(tool, str(call.get("arguments", "")))
                self._on_progress(f"calling {tool}")
            elif isinstance(output := event.get("output"), dict):
                self._called.pop(str(output.get("id", "")), None)
                self._on_progress(f"calling {next(iter(self._called.values()))}" if self._called else "thinking")
            elif isinstance(doing := event.get("doing"), str):
                self._on_progress(doing)
