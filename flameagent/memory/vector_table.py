"""The vectors of a person's turns beside their index, in the same database.

Of each model there are those that were recorded last, all of one length: where a record has another, the model's
earlier ones go.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import NamedTuple

from flameagent.conversation.vectors import Vectors
from flameagent.memory.index import COLUMNS, IndexedTurn, read_turn, stored

TABLES = """
CREATE TABLE vectors (id INTEGER PRIMARY KEY AUTOINCREMENT, row INTEGER, model TEXT, vector BLOB,
    UNIQUE (row, model));
CREATE TABLE lengths (model TEXT PRIMARY KEY, dimensions INTEGER);
"""
"""`row` is a turn's number in the index, with which its vectors go."""


class State(NamedTuple):
    """What there is of a model: how many vectors, the number of the last that was added, and their length."""

    size: int
    last: int
    dimensions: int


class VectorTable:
    """The vectors in a database with the `TABLES`, and those of a `TurnIndex`. Methods raise `sqlite3.Error`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def add(self, vectors: Vectors) -> None:
        """Take in a record, of the turns that are there."""
        if not vectors.fits:
            return
        model, size = stored(vectors.model), vectors.dimensions
        if self.state(vectors.model).dimensions != size:
            self._db.execute("DELETE FROM vectors WHERE model = ?", (model,))
            self._db.execute("INSERT OR REPLACE INTO lengths VALUES (?, ?)", (model, size))
        self._db.executemany(
            "INSERT OR REPLACE INTO vectors (row, model, vector) SELECT id, ?, ? FROM turns WHERE turn = ?",
            (
                (model, vectors.data[place * size : (place + 1) * size], stored(turn))
                for place, turn in enumerate(vectors.turns)
            ),
        )

    def clear(self) -> None:
        """Take all away."""
        self._db.execute("DELETE FROM vectors")
        self._db.execute("DELETE FROM lengths")

    def state(self, model: str) -> State:
        """What there is of a model."""
        name = (stored(model),)
        counted = "SELECT count(*), ifnull(max(id), 0) FROM vectors WHERE model = ?"
        count, last = self._db.execute(counted, name).fetchone()
        found = self._db.execute("SELECT dimensions FROM lengths WHERE model = ?", name).fetchone()
        return State(count, last, found[0] if found else 0)

    def added(self, model: str, after: int) -> list[tuple[int, bytes]]:
        """The vectors of a model behind that number, each with the row of its turn, in their order."""
        found = self._db.execute(
            "SELECT row, vector FROM vectors WHERE model = ? AND id > ? ORDER BY id", (stored(model), after)
        )
        return found.fetchall()

    def lacking(self, model: str, limit: int) -> list[IndexedTurn]:
        """The oldest turns of which the model has made no vectors."""
        (turns,) = self._db.execute("SELECT count(*) FROM turns").fetchone()
        if self.state(model).size == turns:
            return []
        found = self._db.execute(
            f"SELECT {COLUMNS} FROM turns WHERE NOT EXISTS"  # noqa: S608
            " (SELECT 1 FROM vectors WHERE row = turns.id AND model = ?) ORDER BY id LIMIT ?",
            (stored(model), limit),
        )
        return [read_turn(columns) for columns in found]

    def wanted(self, vectors: Vectors) -> Vectors:
        """Those of turns that are there and have none of this model and length."""
        same = self.state(vectors.model).dimensions == vectors.dimensions
        missing = (
            "SELECT 1 FROM turns WHERE turn = ? AND NOT (? AND EXISTS"
            " (SELECT 1 FROM vectors WHERE row = turns.id AND model = ?))"
        )
        model = stored(vectors.model)
        kept = [turn for turn in vectors.turns if self._db.execute(missing, (stored(turn), same, model)).fetchone()]
        return vectors.of(kept)

    def turns(self, rows: Collection[int]) -> dict[int, IndexedTurn]:
        """The turns in these rows."""
        query = f"SELECT {COLUMNS} FROM turns WHERE id = ?"  # noqa: S608
        found = ((row, self._db.execute(query, (row,)).fetchone()) for row in rows)
        return {row: read_turn(columns) for row, columns in found if columns is not None}
