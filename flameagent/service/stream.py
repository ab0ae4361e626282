"""An answer while it comes, written to an object that the client reads along.

Each row is a JSON array of events: `{"text": …}` is more of the answer, `{"call": {id, tool, arguments}}` a tool
that is called, `{"output": {id, output}}` what it said, `{"doing": …}` what the turn is at, in words. Promises that
nothing that goes wrong here fails the turn, and that a second attempt of a turn writes nothing: the Answer is the
truth.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from typing import Any

from flameagent.conversation.codec import encode
from flameagent.flame import FlameError
from flameagent.flame.cache import ObjectCache

_EVERY = 0.05  # seconds between rows
_ROWS = 900  # Flame takes 1000 on an object


class Stream:
    """The object of one turn; `text` and `event` return at once."""

    def __init__(self, cache: ObjectCache, key: str, guard: Callable[[], AbstractContextManager[None]]) -> None:
        self._cache = cache
        self._key = key
        self._guard = guard
        self._events: list[dict[str, Any]] = []
        self._left = 0

    def text(self, delta: str) -> None:
        """More of the answer."""
        if self._events and "text" in self._events[-1]:
            self._events[-1]["text"] += delta
        else:
            self._events.append({"text": delta})

    def event(self, **event: Any) -> None:
        """Something else that happened."""
        self._events.append(event)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Write while this is open, and what is left when it is left."""
        self._left = await asyncio.to_thread(self._room)
        writer = asyncio.create_task(self._write_on())
        try:
            yield
        finally:
            writer.cancel()
            with suppress(asyncio.CancelledError):
                await writer
            await self._write()

    async def _write_on(self) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            await asyncio.shield(self._write())

    async def _write(self) -> None:
        events, self._events = self._events, []
        if events and self._left > 0:
            self._left -= 1
            await asyncio.to_thread(self._append, encode(events))

    def _append(self, row: bytes) -> None:
        try:
            with self._guard():
                self._cache.patch(self._key, row)
        except (FlameError, OSError):
            self._left = 0

    def _room(self) -> int:
        try:
            return 0 if self._cache.get(self._key).patches else _ROWS
        except FlameError:
            return 0
