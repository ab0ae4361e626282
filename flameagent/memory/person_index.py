"""What is remembered of a person, made of their log: the turns, the facts, and how far the log was read.

Promises that the three agree, whoever is killed in between, and that nothing stays of what was erased. It is in a
file of the node, which all processes of a user share, or in memory.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from flameagent.conversation import EditBody, Facts, StoredTurn, Turn, TurnBody
from flameagent.conversation.codec import decode, encode
from flameagent.conversation.reader import Mark
from flameagent.conversation.records import Body, Envelope, Source
from flameagent.conversation.vectors import Vectors
from flameagent.memory import index_file, vector_table
from flameagent.memory.index import (
    COLUMNS,
    TABLES,
    IndexedTurn,
    TurnIndex,
    in_memory,
    read_text,
    read_turn,
    stored,
)
from flameagent.memory.index_file import transaction
from flameagent.memory.vector_table import VectorTable
from flamewire.failpoints import failpoint

VERSION = 2
"""That of the tables: a program of another version has a file of its own."""

_TABLES = f"""{TABLES}{vector_table.TABLES}
CREATE TABLE facts (id INTEGER PRIMARY KEY, row INTEGER, key TEXT, value TEXT);
CREATE INDEX facts_by_row ON facts (row);
CREATE TABLE old_turns (start INTEGER PRIMARY KEY, digests BLOB);
CREATE TABLE log (key TEXT, url TEXT, boot TEXT, seq INTEGER, last TEXT, learned TEXT, turns INTEGER, mark BLOB);
CREATE TRIGGER turn_gone AFTER DELETE ON turns BEGIN
    DELETE FROM facts WHERE row = old.id;
    DELETE FROM vectors WHERE row = old.id;
END;
"""  # noqa: S608
_PIECE = 4096  # bytes of old turns' digests in one row: they only grow at the end

Records = list[tuple[Envelope, Body]]


class Position(NamedTuple):
    """How far a log was read: so many records, the last of which has that ID.

    `learned` is the ID of the last that changed facts, `turns` how many are remembered.
    """

    seq: int
    last: str
    learned: str
    turns: int


class PersonIndex:
    """An index of a person's log, whose first object is `key` in the cache at `url`. For one thread at a time.

    Methods raise `sqlite3.Error`.
    """

    def __init__(self, key: str, url: str = "", *, in_file: bool = True) -> None:
        self.path: Path | None = None
        self._key, self._url, self._boot, self._file = key, url, index_file.boot(), 0
        path = index_file.path_of(key, VERSION) if in_file else None
        if path is None:
            self._db = in_memory(_TABLES)
        else:
            self._db = index_file.connect(path)
            self.path, self._file = path, path.stat().st_ino
            self._prepare()
        self._turns = TurnIndex(self._db)
        self.vectors = VectorTable(self._db)

    def __del__(self) -> None:
        with suppress(AttributeError):  # it may not have come to be
            self._db.close()

    @property
    def is_there(self) -> bool:
        """False where its file was removed, or is another one now."""
        try:
            return self.path is None or os.stat(self.path).st_ino == self._file  # noqa: PTH116 - each turn does this
        except OSError:
            return False

    def reading(self) -> AbstractContextManager[None]:
        """In it nobody changes anything."""
        return transaction(self._db)

    def position(self) -> Position | None:
        """How far the log was read; None where nothing was, or it cannot be relied on."""
        found = self._db.execute("SELECT seq, last, learned, turns, key, boot FROM log").fetchone()
        return None if found is None or found[4:] != (self._key, self._boot) else Position(*found[:4])

    def mark(self) -> Mark:
        """The same for a reader that goes on there. There must be a position."""
        (data,) = self._db.execute("SELECT mark FROM log").fetchone()
        digests = self._db.execute("SELECT digests FROM old_turns ORDER BY start")
        try:
            mark: Mark = decode(data, Mark)
        except (TypeError, ValueError) as error:
            raise sqlite3.DatabaseError(str(error)) from error
        mark.state.old_turn_digests = bytearray(b"".join(each for (each,) in digests))
        return mark

    def fill(
        self, turns: Iterable[Turn], vectors: Iterable[Vectors], mark: Mark, known: Position | None
    ) -> Position | None:
        """Begin again with these turns and vectors; None where it is no longer at the position `known`."""
        with transaction(self._db, "IMMEDIATE"):
            if self.position() != known:
                return None
            self._clear()
            self._add(list(map(_turn, turns)))
            for record in vectors:
                self.vectors.add(record)
            return self._kept(mark, mark.state.last)

    def update(self, records: Records, mark: Mark, known: Position) -> Position | None:
        """Take records in that follow the position `known`; None where it is no longer there."""
        with transaction(self._db, "IMMEDIATE"):
            if self.position() != known:
                return None
            changed = False
            for is_turn, bodies in groupby((body for _, body in records), lambda body: isinstance(body, TurnBody)):
                if is_turn:
                    changed |= self._add(_turns(bodies))
                    continue
                for body in bodies:
                    changed |= self._edit(body)
            return self._kept(mark, mark.state.last if changed else known.learned)

    def turns(self, session: str | None = None) -> list[IndexedTurn]:
        """The turns that are remembered, or those of a session, in the order in which they came."""
        where, values = ("", ()) if session is None else ("WHERE session = ?", (stored(session),))
        found = self._db.execute(f"SELECT {COLUMNS} FROM turns {where} ORDER BY id", values)  # noqa: S608
        return [read_turn(columns) for columns in found]

    def learned(self) -> list[tuple[IndexedTurn, Facts]]:
        """All turns, each with the facts that it changed."""
        changed: dict[int, Facts] = {}
        for row, key, value in self._db.execute("SELECT row, key, value FROM facts ORDER BY id"):
            changed.setdefault(row, {})[read_text(key)] = None if value is None else read_text(value)
        found = self._db.execute(f"SELECT id, {COLUMNS} FROM turns ORDER BY id")  # noqa: S608
        return [(read_turn(columns), changed.get(row, {})) for row, *columns in found]

    def said(self) -> Iterator[tuple[str, str | None, str, int, int]]:
        """What was said under each key, None where it was forgotten, with session, turn and time, oldest first."""
        found = self._db.execute(
            "SELECT key, value, session, number, at FROM facts JOIN turns ON turns.id = row"
            " ORDER BY at, turns.id, facts.id"
        )
        for key, value, session, number, at in found:
            yield read_text(key), None if value is None else read_text(value), read_text(session), number, at

    def is_known_fact(self, key: str) -> bool:
        """True where something was said under the key."""
        return self._db.execute("SELECT 1 FROM facts WHERE key = ?", (stored(key),)).fetchone() is not None

    @property
    def searched(self) -> TurnIndex:
        """The turns as they are searched."""
        return self._turns

    def _prepare(self) -> None:
        version = "PRAGMA user_version"
        if self._db.execute(version).fetchone()[0] != VERSION:
            with transaction(self._db, "IMMEDIATE"):
                if self._db.execute(version).fetchone()[0] != VERSION:  # else somebody has just made them
                    for statement in _statements(_TABLES):
                        self._db.execute(statement)
                    self._db.execute(f"{version} = {VERSION}")

    def _clear(self) -> None:
        self._turns.clear()
        self.vectors.clear()
        self._db.execute("DELETE FROM facts")
        self._db.execute("DELETE FROM old_turns")
        self._db.execute("DELETE FROM log")

    def _add(self, turns: list[tuple[IndexedTurn, Facts]]) -> bool:
        rows = self._turns.add(turn for turn, _ in turns)
        facts = [
            (row, stored(key), stored(value))
            for row, (_, changed) in zip(rows, turns, strict=True)
            for key, value in changed.items()
        ]
        self._db.executemany("INSERT INTO facts (row, key, value) VALUES (?, ?, ?)", facts)
        return bool(facts)

    def _edit(self, body: Body) -> bool:
        """What an edit does to the turns; whether facts may be others."""
        if not isinstance(body, EditBody) or body.op in ("cancel", "title", "summary"):
            return False
        if body.op == "vectors":
            self.vectors.add(body.vectors)
            return False
        if body.op == "withdraw":
            return self._turns.remove(body.turns)
        if body.op in ("erase", "clear"):
            self._turns.clear()
        elif body.op == "forget" and body.keys:
            self._db.executemany("DELETE FROM facts WHERE key = ?", [(stored(key),) for key in body.keys])
        elif body.op == "forget":
            self._db.execute("DELETE FROM facts")
        return True

    def _kept(self, mark: Mark, learned: str) -> Position:
        state = mark.state
        # What was said in the newest turns is in their rows, and goes with them; their IDs are all that is asked for.
        recent = [StoredTurn(turn.turn, "", {}) for turn in state.recent]
        data = encode(replace(mark, state=replace(state, recent=recent, old_turn_digests=bytearray())))
        self._keep_digests(bytes(state.old_turn_digests))
        self._db.execute("DELETE FROM log")
        position = Position(state.seq, state.last, learned, len(self._turns))
        values = (self._key, self._url, self._boot, *position, data)
        self._db.execute("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        failpoint("memory: indexed")
        return position

    def _keep_digests(self, digests: bytes) -> None:
        last = self._db.execute("SELECT max(start) FROM old_turns").fetchone()[0] or 0
        for start in range(last, len(digests), _PIECE):
            piece = digests[start : start + _PIECE]
            self._db.execute("INSERT OR REPLACE INTO old_turns VALUES (?, ?)", (start, piece))


def is_plain(body: Body) -> bool:
    """True for a record that an index can take in by itself; otherwise it is to be filled anew."""
    if isinstance(body, TurnBody):
        return body.source is not None
    return not (isinstance(body, EditBody) and body.op in ("add", "pop", "rewind", "copy"))


def _indexed(where: Source, turn: str, question: str, answer: dict[str, object]) -> IndexedTurn:
    return IndexedTurn(where.session, where.turn, turn, where.at, question, str(answer.get("answer", "")))


def _turn(turn: Turn) -> tuple[IndexedTurn, Facts]:
    where = turn.source or Source("", turn.number, turn.at)
    return _indexed(where, turn.id, turn.question, turn.answer), turn.facts


def _turns(bodies: Iterable[Body]) -> list[tuple[IndexedTurn, Facts]]:
    found = []
    for body in bodies:
        assert isinstance(body, TurnBody) and body.source is not None
        found.append((_indexed(body.source, body.turn, body.question, body.answer), body.facts))
    return found


def _statements(script: str) -> Iterator[str]:
    """The statements of a script; `executescript` would end the transaction that goes on."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
