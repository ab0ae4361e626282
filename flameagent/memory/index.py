"""An index of turns, searched by words: SQLite's FTS5.

A turn is found by what was said in it, by its day, and with less weight by what was said in the two turns before and
after it in its session: an answer often stands beside the words that it is asked for with. The weights were chosen by
`python -m benchmarks.memory`.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator
from itertools import chain, islice
from typing import NamedTuple

from flameagent.memory.index_file import transaction
from flameagent.memory.query import any_of, has_unspaced, pieces, words

TABLES = """
CREATE TABLE turns (id INTEGER PRIMARY KEY, session TEXT, number INTEGER, turn TEXT, at INTEGER, question TEXT,
    answer TEXT, day TEXT);
CREATE INDEX turns_by_session ON turns (session);
CREATE INDEX turns_by_turn ON turns (turn);
CREATE VIRTUAL TABLE words USING fts5(own, near, far, day, content='',
    tokenize='porter unicode61 remove_diacritics 2');
CREATE VIRTUAL TABLE letters USING fts5(own, content='', tokenize='trigram');
"""
"""`day` is that of the zone in which a turn was added: `words` has to be told what it holds when a turn goes."""

COLUMNS = "session, number, turn, at, question, answer"
_ADD_WORDS = "INSERT INTO words (rowid, own, near, far, day) VALUES (?, ?, ?, ?, ?)"
_DROP_WORDS = "INSERT INTO words (words, rowid, own, near, far, day) VALUES ('delete', ?, ?, ?, ?, ?)"
_ADD_LETTERS = "INSERT INTO letters (rowid, own) VALUES (?, ?)"
_DROP_LETTERS = "INSERT INTO letters (letters, rowid, own) VALUES ('delete', ?, ?)"
_WEIGHTS = "0.4, 0.2, 0.08, 0.4"  # of a turn's own words, those one and two turns away, and its day
_REACH = 2
_OFTEN = 1000  # turns with a word; one that more have is as common as one that all have
_RANKS = 60  # how fast a turn counts less the later it comes, where two ways of searching are one


class IndexedTurn(NamedTuple):
    """A turn as it is searched; `number` counts from 1 in its session, `at` is in epoch milliseconds."""

    session: str
    number: int
    turn: str
    at: int
    question: str
    answer: str


class _Row(NamedTuple):
    """A turn with its number in the index, and its day."""

    row: int
    turn: IndexedTurn
    day: str


class TurnIndex:
    """Turns in the order in which they were added, each session's one after the other. For one thread at a time.

    `db` is a database with the `TABLES`; without one the index is in memory. Each change is all or nothing, and part
    of the `transaction` that goes on, if one does.
    """

    def __init__(self, db: sqlite3.Connection | None = None) -> None:
        self._db = db or in_memory(TABLES)

    def __len__(self) -> int:
        count: int = self._db.execute("SELECT count(*) FROM turns").fetchone()[0]
        return count

    @property
    def last(self) -> IndexedTurn | None:
        """The turn that was added last."""
        rows = self._newest(1)
        return rows[0].turn if rows else None

    def add(self, turns: Iterable[IndexedTurn]) -> range:
        """Add turns behind those that are there; the numbers that they have in the index."""
        before = self._newest(2 * _REACH)
        first = before[-1].row + 1 if before else 1
        added = [_Row(row, turn, _day(turn.at)) for row, turn in enumerate(turns, first)]
        changed = max(len(before) - _REACH, 0)  # from there on turns get another neighbour
        columns = [(row, *map(stored, turn), day) for row, turn, day in added]
        with transaction(self._db):
            self._db.executemany(_DROP_WORDS, _searched(before, changed))
            self._db.executemany("INSERT INTO turns VALUES (?, ?, ?, ?, ?, ?, ?, ?)", columns)
            self._db.executemany(_ADD_LETTERS, _unspaced(added))
            self._db.executemany(_ADD_WORDS, _searched([*before, *added], changed))
        return range(first, first + len(added))

    def remove(self, turns: Iterable[str]) -> bool:
        """Take turns away, by ID; False where none of them is there."""
        named = "SELECT id FROM turns WHERE turn = ?"
        gone = {row for turn in turns for (row,) in self._db.execute(named, (stored(turn),))}
        if not gone:
            return False
        around = {row: self._around(row) for row in gone}
        touched = {each.row: each for rows in around.values() for each in rows}  # they have one of them beside them
        with transaction(self._db):
            self._db.executemany(_DROP_WORDS, [self._searched(row) for row in sorted(touched)])
            self._db.executemany(_DROP_LETTERS, _unspaced(touched[row] for row in gone))
            self._db.executemany("DELETE FROM turns WHERE id = ?", [(row,) for row in gone])
            self._db.executemany(_ADD_WORDS, [self._searched(row) for row in sorted(touched.keys() - gone)])
        return True

    def clear(self) -> None:
        """Take all turns away."""
        with transaction(self._db):
            self._db.execute("INSERT INTO words (words) VALUES ('delete-all')")
            self._db.execute("INSERT INTO letters (letters) VALUES ('delete-all')")
            self._db.execute("DELETE FROM turns")

    def search(
        self, question: str, limit: int = 10, *, without: Collection[str] = (), share: float = 0.0
    ) -> list[tuple[IndexedTurn, float]]:
        """The turns that fit a question best, each with a score above 0, the best first; none that is in `without`.

        `share` is how much of what the question looks for is to be in a turn itself, counted by how rare it is: 0 any
        of it, 1 all.
        """
        wanted = limit + len(without)
        found = self._by_words(question, wanted), self._by_letters(question, wanted)
        ranked = found[0] or found[1]
        if all(found):
            scores: dict[int, float] = {}
            for place, (row, _) in chain(*map(enumerate, found)):
                scores[row] = scores.get(row, 0.0) + 1 / (_RANKS + place)
            ranked = sorted(scores.items(), key=lambda each: -each[1])
        read = ((row, self._turn(row), score) for row, score in ranked[:wanted])  # as few as it takes
        turns = list(islice((each for each in read if each[1].turn not in without), limit))
        shares = self._shares(question, [row for row, _, _ in turns]) if share else {}
        return [(turn, score) for row, turn, score in turns if shares.get(row, 1.0) >= share]

    def _shares(self, question: str, rows: list[int]) -> dict[int, float]:
        """How much of what a question looks for is in each of these turns, by how rare that is in all of them."""
        total, found = 0.0, dict.fromkeys(rows, 0.0)
        terms = [("words", f'own : "{word}"') for word in words(question)]
        terms += [("letters", f'"{piece}"') for piece in pieces(question)[0]]
        for table, term in terms:
            match = f"SELECT rowid FROM {table} WHERE {table} MATCH ?"  # noqa: S608
            often = self._db.execute(f"SELECT count(*) FROM ({match} LIMIT {_OFTEN})", (term,)).fetchone()[0]  # noqa: S608
            weight = 1 / (1 + math.log1p(often))
            total += weight
            there = f"{match} AND rowid IN ({','.join('?' * len(rows))})"
            for (row,) in self._db.execute(there, (term, *rows)):
                found[row] += weight
        return {row: value / total if total else 1.0 for row, value in found.items()}

    def _by_words(self, question: str, limit: int) -> list[tuple[int, float]]:
        terms = words(question)
        if not terms:
            return []
        ranked = self._db.execute(
            f"SELECT rowid, -bm25(words, {_WEIGHTS}) FROM words WHERE words MATCH ? ORDER BY 2 DESC, 1 DESC LIMIT ?",  # noqa: S608
            (any_of(terms), limit),
        )
        return ranked.fetchall()

    def _by_letters(self, question: str, limit: int) -> list[tuple[int, float]]:
        long, short = pieces(question)
        ranked: list[tuple[int, float]] = []
        if long:
            ranked = self._db.execute(
                "SELECT rowid, -bm25(letters) FROM letters WHERE letters MATCH ? ORDER BY 2 DESC, 1 DESC LIMIT ?",
                (any_of(long), limit),
            ).fetchall()
        if short and not ranked:
            there = " + ".join("(instr(question || ' ' || answer, ?) > 0)" for _ in short)
            ranked = self._db.execute(
                f"SELECT id, {there} AS score FROM turns WHERE score > 0 ORDER BY 2 DESC, 1 DESC LIMIT ?",  # noqa: S608
                (*short, limit),
            ).fetchall()
        return ranked

    def _turn(self, row: int) -> IndexedTurn:
        found = self._db.execute(f"SELECT {COLUMNS} FROM turns WHERE id = ?", (row,)).fetchone()  # noqa: S608
        return read_turn(found)

    def _newest(self, count: int) -> list[_Row]:
        return self._rows("ORDER BY id DESC LIMIT ?", count)[::-1]

    def _around(self, row: int) -> list[_Row]:
        """A turn and those within reach of it, before and after."""
        before = self._rows("WHERE id < ? ORDER BY id DESC LIMIT ?", row, _REACH)[::-1]
        return [*before, *self._rows("WHERE id >= ? ORDER BY id LIMIT ?", row, _REACH + 1)]

    def _rows(self, which: str, *values: int) -> list[_Row]:
        found = self._db.execute(f"SELECT id, day, {COLUMNS} FROM turns {which}", values)  # noqa: S608
        return [_Row(row, read_turn(turn), day) for row, day, *turn in found]

    def _searched(self, row: int) -> tuple[int, str, str, str, str]:
        around = self._around(row)
        return next(_searched(around, [each.row for each in around].index(row)))


def in_memory(tables: str) -> sqlite3.Connection:
    """A database in memory, with these tables. For one thread at a time."""
    db = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    db.executescript(tables)
    return db


def stored(value: object) -> object:
    """A value as a column takes it: SQLite has no text with halves of surrogate pairs, which JSON may have."""
    if isinstance(value, str) and not value.isascii() and _plain(value) != value:
        return value.encode("utf-8", "surrogatepass")
    return value


def read_text(value: str | bytes) -> str:
    """The text that was `stored`."""
    return value if isinstance(value, str) else value.decode("utf-8", "surrogatepass")


def read_turn(columns: Iterable[str | int | bytes]) -> IndexedTurn:
    """The turn of these `COLUMNS`."""
    session, number, turn, at, question, answer = (
        value if isinstance(value, int) else read_text(value) for value in columns
    )
    return IndexedTurn(str(session), int(number), str(turn), int(at), str(question), str(answer))


def _plain(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _searched(turns: list[_Row], start: int) -> Iterator[tuple[int, str, str, str, str]]:
    """What is searched of the turns from `start` on: their own words, those one and two turns away, and their day."""
    texts = [_text(turn) for _, turn, _ in turns]
    for place in range(start, len(turns)):
        row, turn, day = turns[place]

        def at(*places: int, session: str = turn.session) -> str:
            there = (each for each in places if 0 <= each < len(turns) and turns[each].turn.session == session)
            return "\n".join(texts[each] for each in there)

        yield row, texts[place], at(place - 1, place + 1), at(place - 2, place + 2), day


def _unspaced(turns: Iterable[_Row]) -> Iterator[tuple[int, str]]:
    for row, turn, _ in turns:
        if has_unspaced(text := _text(turn)):
            yield row, text


def _text(turn: IndexedTurn) -> str:
    return _plain(f"{turn.question}\n{turn.answer}")


def _day(at: int) -> str:
    """The day in the words in which it is asked for; none for a time that no calendar has."""
    try:
        return time.strftime("%d %B %Y %A %Y-%m-%d", time.localtime(at / 1000)).lstrip("0")
    except (ValueError, OverflowError, OSError):
        return ""
