"""All sessions of an agent at once, for lists: which there are, how large their objects are, and what is in these.

Promises the same of every engine. Flame tells it over the wire; what the embedded engine has answered is in its file,
which is read where it can be: a session there takes a tenth of a millisecond.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from flameagent.client.agent_connection import AgentConnection
from flameagent.flame.frontend import Session
from flameagent.flame.listing import object_sizes
from flameagent.flame.objects import Rows
from localflame.offline import File

_FEW = 100  # sessions, each of which is rather asked for what is new than the cache for all that it has


class Overview(Protocol):
    """What an engine tells. `readers` is how many threads read from it best."""

    readers: int

    def sessions(self) -> list[Session]:
        """The application's sessions, newest first; tasks are not counted everywhere. Raises `FlameError`."""

    def sizes(self, wanted: int) -> Mapping[str, int] | None:
        """The bytes of each object, by key; None where that is not worth while for so many sessions, or not told."""

    def with_failed_tasks(self, sessions: Collection[Session], since: int) -> set[str]:
        """Those of the listed sessions that have tasks which have failed or were cancelled, then or before."""

    def get(self, key: str, since: int = 0) -> Rows:
        """As `ObjectCache.get`."""


class _Wire:
    """Over the wire."""

    readers = 8

    def __init__(self, connection: AgentConnection) -> None:
        self._connection = connection
        self._cache = connection.cache  # opened once, before the threads that share it

    def sessions(self) -> list[Session]:
        return self._connection.sessions()

    def sizes(self, wanted: int) -> Mapping[str, int] | None:
        return object_sizes(self._connection.endpoints) if wanted > _FEW else None

    def with_failed_tasks(self, sessions: Collection[Session], since: int) -> set[str]:
        return {session.id for session in sessions if session.failed}

    def get(self, key: str, since: int = 0) -> Rows:
        return self._cache.get(key, since)


class _File(_Wire):
    """From the embedded engine's file; what that does not give, over the wire."""

    readers = 1

    def __init__(self, file: File, connection: AgentConnection) -> None:
        super().__init__(connection)
        self._file = file

    def sessions(self) -> list[Session]:
        name = self._connection.application.name
        try:
            found = self._file.sessions(name)
        except sqlite3.Error:
            return super().sessions()
        return [Session(each.id, name, each.open, each.created, each.common_data, 0, 0) for each in found]

    def sizes(self, wanted: int) -> Mapping[str, int] | None:
        if wanted > _FEW:
            with suppress(sqlite3.Error):
                return self._file.sizes(self._connection.application.name)
        return None

    def with_failed_tasks(self, sessions: Collection[Session], since: int) -> set[str]:
        try:
            return self._file.sessions_with_failed_tasks(since)
        except sqlite3.Error:
            return super().with_failed_tasks(self._connection.sessions(), since)


@contextmanager
def overview(connection: AgentConnection) -> Iterator[Overview]:
    """What the engine of a connection tells, which has been greeted."""
    file = _opened(connection.endpoints.file)
    if file is None:
        yield _Wire(connection)
        return
    with closing(file):
        yield _File(file, connection)


def _opened(path: Path | None) -> File | None:
    """The embedded engine's file; None where there is none, or it is another version's."""
    with suppress(sqlite3.Error):
        return File(path) if path else None
    return None
