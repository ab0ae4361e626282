"""Whether something has happened in sessions that clients are subscribed to, on this server or on another one.

Asks Flame for counts only: for each session alone, or, of many, for the list, which is one call. The less happens,
the less often it asks; what happens on this server is known at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

from flameagent.client.async_client import in_thread
from flameagent.client.connection import Connection, translate_errors
from flameagent.client.errors import ClientError
from flameagent.flame import NotFound
from flameagent.flame.frontend import Session

_SOONEST, _LATEST, _SLOWER = 0.1, 2.0, 1.3  # seconds between looks, and how fast it goes from one to the other
_ALONE = 8  # sessions that are asked for one by one
_SHARE = 10  # a look takes at most this part of the time


class Changes:
    """The sessions of one engine, for any number of subscribers of one event loop."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._seen: dict[str, tuple[int, ...]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._pause = _SOONEST

    @contextmanager
    def of(self, session_id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever something may have happened in the session."""
        wake = asyncio.Event()
        self._waiting.setdefault(session_id, set()).add(wake)
        self._pause = _SOONEST
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_on())
        try:
            yield wake
        finally:
            self._waiting[session_id].discard(wake)
            if not self._waiting[session_id]:
                del self._waiting[session_id]
                self._seen.pop(session_id, None)

    def tell(self, session_id: str) -> None:
        """Something has happened in it."""
        self._pause = _SOONEST
        for wake in self._waiting.get(session_id, ()):
            wake.set()

    async def _look_on(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(self._pause)
                self._pause = min(self._pause * _SLOWER, _LATEST)
                began = time.monotonic()
                with suppress(ClientError):  # it is asked again
                    wanted = list(self._waiting)
                    for session_id, counts in (await in_thread(partial(self._counts, wanted))).items():
                        if self._seen.get(session_id, counts) != counts:
                            self.tell(session_id)
                        self._seen[session_id] = counts
                self._pause = max(self._pause, _SHARE * (time.monotonic() - began))
        finally:
            self._looking = None

    def _counts(self, wanted: list[str]) -> dict[str, tuple[int, ...]]:
        """What is counted of each; nothing of one that is gone."""
        found: dict[str, tuple[int, ...]] = dict.fromkeys(wanted, ())
        with translate_errors():
            if len(wanted) > _ALONE:
                return found | {
                    each.id: _counted(each) for each in self._connection.frontend.sessions() if each.id in found
                }
            for session_id in wanted:
                with suppress(NotFound):
                    found[session_id] = _counted(self._connection.frontend.session(session_id))
        return found


def _counted(session: Session) -> tuple[int, ...]:
    return session.pending, session.running, session.ended, session.open
