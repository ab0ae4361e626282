"""Rows of the store: applications, sessions, tasks and their events, as they are read and written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from localflame.domain import Event, TaskRecord

if TYPE_CHECKING:
    import sqlite3

SELECT_TASK = "SELECT session, id, state, created, completed, input, output FROM tasks"


def read_task(db: sqlite3.Connection, session: str, number: int, with_events: bool = False) -> TaskRecord | None:
    row = db.execute(f"{SELECT_TASK} WHERE session = ? AND id = ?", (session, number)).fetchone()
    if row is None:
        return None
    return TaskRecord._make((*row, read_events(db, session, number) if with_events else []))


def read_events(db: sqlite3.Connection, session: str, task: int) -> list[Event]:
    query = "SELECT code, message, at FROM events WHERE session = ? AND task = ? ORDER BY rowid"
    return [Event(*row) for row in db.execute(query, (session, task))]


def add_event(db: sqlite3.Connection, session: str, task: int, code: int, message: str, at: int) -> None:
    db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?)", (session, task, code, message, at))


def delete_session(db: sqlite3.Connection, id: str) -> None:
    db.execute("DELETE FROM tasks WHERE session = ?", (id,))
    db.execute("DELETE FROM events WHERE session = ?", (id,))
    db.execute("DELETE FROM sessions WHERE id = ?", (id,))
