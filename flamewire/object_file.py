"""Objects of the cache as the embedded engine's file has them: how they are found and read.

For the engine itself, and for who reads its file beside it: what the engine has answered is in it.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA_VERSION = 1
"""The version of the file's tables that this code reads."""

_TIMEOUT = 0.5
_PAGES = 64
"""Pages of the file (4 KB) that one who reads it keeps: there are many of them, and each reads what is new."""


class ObjectRow(NamedTuple):
    """An object's row."""

    id: int
    arrow: bool
    base: int
    version: int
    patches: int


def find_object(db: sqlite3.Connection, key: str) -> ObjectRow | None:
    """The object of that key."""
    row = db.execute("SELECT id, arrow, base, version, patches FROM objects WHERE key = ?", (key,)).fetchone()
    return None if row is None else ObjectRow(*row)


def read_object(db: sqlite3.Connection, key: str, known: int) -> tuple[ObjectRow, list[tuple[int, bytes]]] | None:
    """The object and what a client that knows the version `known` (0: none) lacks of it; None where there is none."""
    stored = find_object(db, key)
    if stored is None:
        return None
    if known == stored.version:
        return stored, []
    # Versions of patches follow each other without a gap, so the client's is one of them or the base's.
    after = known if stored.base <= known < stored.version and not stored.arrow else 0
    query = "SELECT version, data FROM payloads WHERE object = ? AND version > ? ORDER BY version"
    return stored, db.execute(query, (stored.id, after)).fetchall()


def read_sizes(db: sqlite3.Connection) -> list[tuple[str, int]]:
    """The key of each object, and its bytes: those of its base and of all patches."""
    return db.execute("SELECT key, size FROM objects ORDER BY key").fetchall()


class ObjectFile:
    """An engine's file, open for reading by any number of threads; its methods raise `sqlite3.Error`."""

    def __init__(self, path: Path) -> None:
        """Raises `sqlite3.Error` also for a file whose tables are another version's."""
        self._reading = threading.Lock()
        self._db = connect(path)
        with ExitStack() as unless_known:
            unless_known.callback(self.close)
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version != SCHEMA_VERSION:
                raise sqlite3.DatabaseError(f"schema {version}, not {SCHEMA_VERSION}")
            self._db.execute(f"PRAGMA cache_size={_PAGES}")
            unless_known.pop_all()

    def close(self) -> None:
        """Close it, behind who reads."""
        with self._reading:
            self._db.close()

    def read(self, key: str, known: int) -> tuple[ObjectRow, list[tuple[int, bytes]]] | None:
        """See `read_object`."""
        with self._reading:
            self._db.execute("BEGIN")  # the object and its rows are of one moment
            try:
                return read_object(self._db, key, known)
            finally:
                self._db.execute("ROLLBACK")


def connect(path: Path) -> sqlite3.Connection:
    """A connection to an engine's file, for reading only. Raises `sqlite3.Error`."""
    return sqlite3.connect(
        f"{path.as_uri()}?mode=ro", uri=True, timeout=_TIMEOUT, isolation_level=None, check_same_thread=False
    )
