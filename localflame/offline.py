"""What a home has, told from its file alone, whether its engine runs or not.

For what must not start an engine and must not wait for one, such as a shell's completion, and for who reads much at
once (`File`): what the engine has answered is in its file.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flamewire.object_file import ObjectFile, connect

if TYPE_CHECKING:
    from collections.abc import Sequence

FILE = "flame.db"
"""The name of a home's file."""


class StoredSession(NamedTuple):
    """A session; `created` is in epoch milliseconds."""

    id: str
    open: bool
    created: int
    common_data: bytes | None


class Registered(NamedTuple):
    """An application: its folder, where it has one that is still there, and the arguments of its command."""

    folder: Path | None
    arguments: tuple[str, ...]


def sessions(home: Path, application: str) -> list[tuple[str, bool, int]]:
    """The ID of each session, whether it is open, and when it was made (epoch milliseconds), the newest first.

    An empty list where there is no file, or it cannot be read.
    """
    found = _rows(
        home,
        "SELECT id, state = 0, created FROM sessions WHERE application = ? ORDER BY created DESC, id",
        (application,),
    )
    return [(session_id, bool(is_open), created) for session_id, is_open, created in found]


def application(home: Path, name: str) -> Registered | None:
    """The application of that name; None where there is none, or no file that can be read."""
    for (spec,) in _rows(home, "SELECT spec FROM applications WHERE name = ?", (name,)):
        from flamewire.stubs import types  # a third of a second, where there is one

        known = types.ApplicationSpec.FromString(spec)
        folder = Path(known.working_directory) if known.working_directory else None
        return Registered(folder if folder and folder.is_dir() else None, tuple(known.arguments))
    return None


class File(ObjectFile):
    """A home's file with its sessions and tasks, too."""

    def sessions(self, application: str) -> list[StoredSession]:
        """The application's sessions, the newest first."""
        query = (
            "SELECT id, state = 0, created, common_data FROM sessions WHERE application = ?"
            " ORDER BY created DESC, id DESC"
        )
        return [
            StoredSession(id, bool(is_open), *rest) for id, is_open, *rest in self._db.execute(query, (application,))
        ]

    def sizes(self, application: str) -> dict[str, int]:
        """The bytes of each object of the application, by key."""
        first = f"{application}/"
        last = f"{application}0"  # "0" follows "/"
        return dict(self._db.execute("SELECT key, size FROM objects WHERE key >= ? AND key < ?", (first, last)))

    def sessions_with_failed_tasks(self, since: int) -> set[str]:
        """The IDs of all sessions with tasks that have failed or were cancelled since then (epoch milliseconds)."""
        from localflame.domain import CANCELLED, FAILED

        query = "SELECT DISTINCT session FROM tasks WHERE state IN (?, ?) AND completed >= ?"
        return {session for (session,) in self._db.execute(query, (FAILED, CANCELLED, since))}


def _rows(home: Path, query: str, values: Sequence[str]) -> list[tuple[Any, ...]]:
    try:
        with closing(connect(home / FILE)) as file:
            return file.execute(query, values).fetchall()
    except sqlite3.Error:
        return []
