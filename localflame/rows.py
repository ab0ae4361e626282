"""Rows of the store: how applications, sessions, tasks and events are written and read.

Each function is one operation for `Store.write` or `Store.read`: it gets the connection first. Those that write run
in a transaction, so they check there what must hold in it. The tables are in `store.py`; times are milliseconds since
the epoch.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from flamewire.stubs import types
from localflame.domain import (
    CANCELLED,
    CLOSED,
    OPEN,
    PENDING,
    RUNNING,
    Application,
    Event,
    Session,
    Task,
    TaskRecord,
)
from localflame.errors import NO_FILE, Refused, already_exists, invalid, not_found
from localflame.store import want_wiped

#: Bytes of inputs and outputs in one answer of `read_tasks`.
LIST_CHUNK = 4 * 1024**2

_SELECT_TASK = "SELECT session, id, state, created, completed, input, output FROM tasks"

# Applications


def read_applications(db: sqlite3.Connection) -> dict[str, Application]:
    """All applications by name."""
    return {
        name: Application(name, types.ApplicationSpec.FromString(spec), created)
        for name, spec, created in db.execute("SELECT name, spec, created FROM applications")
    }


def insert_application(db: sqlite3.Connection, name: str, spec: Any, created: int) -> None:
    """Raises Refused where the name is taken."""
    try:
        db.execute("INSERT INTO applications VALUES (?, ?, ?)", (name, spec.SerializeToString(), created))
    except sqlite3.IntegrityError:
        raise Refused(f"Application '{name}' already exists") from None


def update_application(db: sqlite3.Connection, name: str, spec: Any) -> None:
    """Replace the specification."""
    db.execute("UPDATE applications SET spec = ? WHERE name = ?", (spec.SerializeToString(), name))


def delete_application(db: sqlite3.Connection, name: str) -> list[str]:
    """Delete the application with its sessions: their IDs. Raises Refused where one is open."""
    sessions = db.execute("SELECT id, state FROM sessions WHERE application = ?", (name,)).fetchall()
    if any(state == OPEN for _, state in sessions):
        raise Refused(f"Cannot unregister application '{name}': has open sessions")
    db.execute("DELETE FROM applications WHERE name = ?", (name,))
    for id, _ in sessions:
        delete_session(db, id)
    return [id for id, _ in sessions]


# Sessions


def read_sessions(db: sqlite3.Connection) -> dict[str, Session]:
    """All sessions by ID, with their pending tasks and the counts of those that have ended."""
    sessions = {
        id: Session(id, types.SessionSpec.FromString(spec), state, created, completed)
        for id, spec, state, created, completed in db.execute(
            "SELECT id, spec, state, created, completed FROM sessions"
        )
    }
    for state, id, count in db.execute("SELECT state, session, count(*) FROM tasks GROUP BY state, session"):
        if state != PENDING:
            sessions[id].counts[state] = count
    for id, number, created, losses in db.execute(
        "SELECT session, id, created, losses FROM tasks WHERE state = ?", (PENDING,)
    ):
        sessions[id].add_pending(Task(id, number, PENDING, created, losses))
    return sessions


def insert_session(db: sqlite3.Connection, session: Session, common_data: bytes | None) -> None:
    """Raises FlameError: NOT_FOUND where the application is gone, ALREADY_EXISTS where the ID is taken."""
    application = session.spec.application
    if not db.execute("SELECT 1 FROM applications WHERE name = ?", (application,)).fetchone():
        raise not_found(f"Application {application} not found: {NO_FILE}")
    try:
        db.execute(
            "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, NULL)",
            (session.id, application, session.spec.SerializeToString(), common_data, session.state, session.created),
        )
    except sqlite3.IntegrityError:
        raise already_exists(f"Session '{session.id}' already exists") from None


def close_session(db: sqlite3.Connection, id: str, completed: int) -> None:
    """Close the session and cancel its pending tasks."""
    db.execute("UPDATE sessions SET state = ?, completed = ? WHERE id = ?", (CLOSED, completed, id))
    db.execute(
        "UPDATE tasks SET state = ?, completed = ? WHERE session = ? AND state = ?",
        (CANCELLED, completed, id, PENDING),
    )


def delete_session(db: sqlite3.Connection, id: str) -> None:
    """Delete the session with its tasks and events."""
    db.execute("DELETE FROM tasks WHERE session = ?", (id,))
    db.execute("DELETE FROM events WHERE session = ?", (id,))
    db.execute("DELETE FROM sessions WHERE id = ?", (id,))
    want_wiped(db)


def read_session_details(db: sqlite3.Connection, id: str) -> tuple[bytes | None, list[Event]]:
    """The session's common data and its own events."""
    row = db.execute("SELECT common_data FROM sessions WHERE id = ?", (id,)).fetchone()
    return (row[0] if row else None), _read_events(db, id, 0)


def read_all_session_details(db: sqlite3.Connection) -> tuple[dict[str, bytes], dict[str, list[Event]]]:
    """Common data and events by session, of those sessions that have any."""
    events: dict[str, list[Event]] = {}
    for id, *event in db.execute("SELECT session, code, message, at FROM events WHERE task = 0 ORDER BY rowid"):
        events.setdefault(id, []).append(Event(*event))
    return dict(db.execute("SELECT id, common_data FROM sessions WHERE common_data IS NOT NULL")), events


def add_session_event(db: sqlite3.Connection, id: str, code: int, message: str, at: int) -> None:
    """Note what happened to a session."""
    _add_event(db, id, 0, code, message, at)


# Tasks


def insert_task(db: sqlite3.Connection, id: str, payload: bytes | None, created: int, remark: str | None) -> int:
    """Add a pending task to the session `id`, and a second event where there is a remark: the task's ID.

    Raises FlameError: NOT_FOUND where there is no such session, INVALID_ARGUMENT where it is closed.
    """
    row = db.execute("SELECT state FROM sessions WHERE id = ?", (id,)).fetchone()
    if row is None:
        raise not_found(f"Session {id} not found: {NO_FILE}")
    if row[0] != OPEN:
        raise invalid("Cannot create task in closed session")
    (last,) = db.execute("SELECT coalesce(max(id), 0) FROM tasks WHERE session = ?", (id,)).fetchone()
    number = int(last) + 1
    db.execute("INSERT INTO tasks VALUES (?, ?, ?, ?, NULL, 0, ?, NULL)", (id, number, PENDING, created, payload))
    _add_event(db, id, number, PENDING, "Task was created with state <Pending>", created)
    if remark is not None:
        _add_event(db, id, number, PENDING, remark, created)
    return number


def end_task(db: sqlite3.Connection, task: Task, state: int, at: int, output: bytes | None, message: str) -> None:
    """A running task has ended in `state`."""
    db.execute(
        "UPDATE tasks SET state = ?, completed = ?, output = ? WHERE session = ? AND id = ?",
        (state, at, output, task.session, task.id),
    )
    _add_running_event(db, task)
    _add_event(db, task.session, task.id, state, message, at)


def retry_task(db: sqlite3.Connection, task: Task, at: int, reason: str) -> None:
    """A running task is pending again, and has lost as many instances as it says."""
    db.execute("UPDATE tasks SET losses = ? WHERE session = ? AND id = ?", (task.losses, task.session, task.id))
    _add_running_event(db, task)
    _add_event(db, task.session, task.id, PENDING, f"Task state was updated to <Pending>: {reason}", at)


def read_task(db: sqlite3.Connection, session: str, number: int, with_events: bool = False) -> TaskRecord | None:
    """The task, or None where there is none. Running is never written: such a task is pending here."""
    row = db.execute(f"{_SELECT_TASK} WHERE session = ? AND id = ?", (session, number)).fetchone()
    if row is None:
        return None
    return TaskRecord._make((*row, _read_events(db, session, number) if with_events else []))


def read_tasks(db: sqlite3.Connection, session: str, after: int) -> list[TaskRecord]:
    """The tasks of a session with a higher ID than `after`, by ID: about LIST_CHUNK bytes of them, one at least."""
    records: list[TaskRecord] = []
    size = 0
    for row in db.execute(f"{_SELECT_TASK} WHERE session = ? AND id > ? ORDER BY id", (session, after)):
        record = TaskRecord._make((*row, []))
        records.append(record)
        size += len(record.input or b"") + len(record.output or b"") + 100
        if size > LIST_CHUNK:
            break
    return records


def read_payload(db: sqlite3.Connection, task: Task, kind: str) -> bytes | None:
    """The `input` or `output` of a task."""
    query = f"SELECT {kind} FROM tasks WHERE session = ? AND id = ?"  # noqa: S608 - one of two words
    row = db.execute(query, (task.session, task.id)).fetchone()
    return row[0] if row else None


def running_event(task: Task) -> Event:
    """The event of a task's start: written with the task's end, because Running is never written."""
    return Event(RUNNING, "Task state was updated to <Running>", task.started)


def _add_running_event(db: sqlite3.Connection, task: Task) -> None:
    _add_event(db, task.session, task.id, *running_event(task))


# Events: task 0 is the session itself.


def _add_event(db: sqlite3.Connection, session: str, task: int, code: int, message: str, at: int) -> None:
    db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?)", (session, task, code, message, at))


def _read_events(db: sqlite3.Connection, session: str, task: int) -> list[Event]:
    query = "SELECT code, message, at FROM events WHERE session = ? AND task = ? ORDER BY rowid"
    return [Event(*row) for row in db.execute(query, (session, task))]
