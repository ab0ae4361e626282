"""Objects of the cache as the store has them: how they are found and read.

Each function is a reading operation for `Store`, and for who reads the engine's file beside it (`offline`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import sqlite3


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
