"""The events of a turn, written to an object that clients read along.

Each row is a JSON array of events: `{"text": …}` is more of the answer, `{"reasoning": …}` of what the model thinks,
`{"call": {id, tool, arguments, agent}}` a tool that is called, `{"output": {id, output}}` what it said,
`{"agent": …}` who goes on, `{"message": {id, text}}` one that was taken in, `{"approval": [call, …]}` calls that
wait, `{"attempt": true}` that the turn begins again, `{"doing": …}` what it is at, in words. Promises that nothing
that goes wrong here fails the turn: the Answer is the truth.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from typing import Any

from flameagent.conversation.codec import decode, encode
from flameagent.flame import FlameError, NotFound
from flameagent.flame.cache import ObjectCache

_EVERY = 0.05  # seconds between rows
_ROWS = 900  # Flame takes 1000 on an object
_STAYS = 2.0  # seconds in which whoever reads along comes to the end


class Stream:
    """The object of one turn; `text`, `reasoning` and `event` return at once."""

    def __init__(self, cache: ObjectCache, key: str, guard: Callable[[], AbstractContextManager[None]]) -> None:
        self.key = key
        self._cache = cache
        self._guard = guard
        self._events: list[dict[str, Any]] = []
        self._left: int | None = None  # rows; None: not opened

    def text(self, delta: str) -> None:
        """More of the answer."""
        self._more("text", delta)

    def reasoning(self, delta: str) -> None:
        """More of what the model thinks before it answers."""
        self._more("reasoning", delta)

    def event(self, **event: Any) -> None:
        """Something else that happened."""
        self._events.append(event)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Write while this is open, and what is left when it is left."""
        if self._left is None:
            self._left = await asyncio.to_thread(self._open)
        writer = asyncio.create_task(self._write_on())
        try:
            yield
        finally:
            writer.cancel()
            with suppress(asyncio.CancelledError):
                await writer
            await self._write()

    async def tell(self, **event: Any) -> None:
        """What happened, at once; it is written as the last of what is told before it."""
        async with self.writing():
            self.event(**event)

    def _more(self, kind: str, delta: str) -> None:
        if self._events and kind in self._events[-1]:
            self._events[-1][kind] += delta
        elif delta:
            self._events.append({kind: delta})

    async def _write_on(self) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            await asyncio.shield(self._write())

    async def _write(self) -> None:
        events, self._events = self._events, []
        if events and self._left:
            self._left -= 1
            await asyncio.to_thread(self._append, encode(events))

    def _append(self, row: bytes) -> None:
        try:
            with self._guard():
                self._cache.patch(self.key, row)
        except (FlameError, OSError):
            self._left = 0

    def _open(self) -> int:
        """Make the object, where its client has not; say so if the turn has begun before. The rows that are left."""
        try:
            try:
                rows = [row for _, row in self._cache.get(self.key).patches]
            except NotFound:
                rows = []
                with self._guard():
                    self._cache.put_as(self.key, b"")
        except (FlameError, OSError):
            return 0
        if rows and not _waits(rows[-1]):
            self._events.insert(0, {"attempt": True})
        return _ROWS - len(rows)


def _waits(row: bytes | None) -> bool:
    """Whether the row ends with calls that wait: what follows goes on with the turn."""
    try:
        events: list[dict[str, Any]] = decode(row or b"", list[dict[str, Any]])
    except ValueError:
        return False
    return bool(events) and "approval" in events[-1]


async def forget(cache: ObjectCache, keys: Iterable[str]) -> None:
    """Delete the objects of turns that another has followed, when whoever reads along had time to read their end."""
    await asyncio.sleep(_STAYS)
    for key in keys:
        with suppress(FlameError):
            await asyncio.to_thread(cache.delete, key)
