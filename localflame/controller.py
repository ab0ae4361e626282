"""Applications, sessions and tasks: what Flame's session manager knows, and the rules it holds.

Statuses and messages are Flame 0.6.0's (session_manager/src, file storage). Memory holds the
applications, the sessions with their counts, and the tasks that have not ended; ended tasks, inputs
and outputs are read from the store. Everything here runs in the event loop; a change is in the store
before it is in memory or in an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from typing import TYPE_CHECKING, Any

import grpc

from flamewire.stubs import types
from localflame import rows
from localflame.application_spec import default_applications, full_application_spec, validate_application_name
from localflame.domain import (
    CANCELLED,
    CLOSED,
    ENDED,
    FAILED,
    OPEN,
    PENDING,
    RUNNING,
    STATES,
    SUCCEED,
    Application,
    Event,
    Session,
    Task,
    TaskRecord,
    now,
)
from localflame.errors import FlameError, Refused, internal, invalid, not_found
from localflame.payload_cache import PayloadCache
from localflame.session_spec import check_same_spec, complete_session_spec
from localflame.store import Store, StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

log = logging.getLogger("localflame.controller")

# common/src/apis/types.rs
SESSION_BIND_FAILED = 1001

#: A task whose instance died this often is not tried again.
MOST_LOSSES = 2
#: Bytes that a list of tasks reads from the store at a time.
LIST_CHUNK = 4 * 1024**2
#: Seconds between two attempts to write the end of a task on a disk that refuses.
WRITE_PAUSE = 2.0
#: Seconds that the end of a task waits for the disk before those who watch it are told.
FULL_PATIENCE = 60.0

_NO_EXECUTOR = "Task stays <Pending>: there is no executor of the wasm shim"
_NO_FILE = "No such file or directory (os error 2)"  # part of the messages of Flame's file storage


class Controller:
    """The state of the engine but for its executors."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._payloads = PayloadCache()
        self.applications: dict[str, Application] = {}
        self.sessions: dict[str, Session] = {}
        #: Called when there may be something to start or to let go: the scheduler's.
        self.changed: Callable[[Session], None] = lambda session: None
        #: Called when an application is gone.
        self.unregistered: Callable[[str], None] = lambda name: None
        store.look(self._load)

    def _load(self, db: sqlite3.Connection) -> None:
        for name, spec, created in db.execute("SELECT name, spec, created FROM applications"):
            self.applications[name] = Application(name, types.ApplicationSpec.FromString(spec), created)
        for id, spec, state, created, completed in db.execute(
            "SELECT id, spec, state, created, completed FROM sessions"
        ):
            self.sessions[id] = Session(id, types.SessionSpec.FromString(spec), state, created, completed)
        for state, id, count in db.execute("SELECT state, session, count(*) FROM tasks GROUP BY state, session"):
            if state != PENDING:
                self.sessions[id].counts[state] = count
        for id, number, created, losses in db.execute(
            "SELECT session, id, created, losses FROM tasks WHERE state = ?", (PENDING,)
        ):
            self.sessions[id].add(Task(id, number, PENDING, created, losses))

    # Applications

    async def register_default_applications(self) -> None:
        """Those that every Flame has, where they are not there."""
        for name, spec in default_applications().items():
            if name not in self.applications:
                await self.register_application(name, spec)

    async def register_application(self, name: str, spec: Any) -> None:
        """Raises FlameError where the spec is bad, Refused where the name is bad or taken."""
        spec = full_application_spec(spec)
        validate_application_name(name)
        at = now()

        def insert(db: sqlite3.Connection) -> None:
            try:
                db.execute("INSERT INTO applications VALUES (?, ?, ?)", (name, spec.SerializeToString(), at))
            except sqlite3.IntegrityError:
                raise Refused(f"Application '{name}' already exists") from None

        await self._store.write(insert)
        self.applications[name] = Application(name, spec, at)

    async def update_application(self, name: str, spec: Any) -> None:
        """Raises FlameError where the spec is bad, Refused where it is absent or has open sessions."""
        spec = full_application_spec(spec)
        validate_application_name(name)
        if name not in self.applications:
            raise Refused(f"Application {name} not found: {_NO_FILE}")
        if self._open_sessions(name):
            raise Refused(f"Cannot update application '{name}': has open sessions")
        await self.replace_application(name, spec)

    async def replace_application(self, name: str, spec: Any) -> None:
        """Update an application also under open sessions; their instances follow before their next task."""
        await self._store.write(
            lambda db: db.execute("UPDATE applications SET spec = ? WHERE name = ?", (spec.SerializeToString(), name))
        )
        application = self.applications[name]
        application.spec = spec
        application.version += 1

    async def unregister_application(self, name: str) -> None:
        """Raises Refused where it is absent or has open sessions. Its closed sessions go with it."""
        if self._open_sessions(name):
            raise Refused(f"Cannot unregister application '{name}': has open sessions")
        if name not in self.applications:
            raise Refused(f"Failed to delete application '{name}': {_NO_FILE}")

        def delete(db: sqlite3.Connection) -> list[str]:
            sessions = db.execute("SELECT id, state FROM sessions WHERE application = ?", (name,)).fetchall()
            if any(state == OPEN for _, state in sessions):
                raise Refused(f"Cannot unregister application '{name}': has open sessions")
            db.execute("DELETE FROM applications WHERE name = ?", (name,))
            for id, _ in sessions:
                rows.delete_session(db, id)
            return [id for id, _ in sessions]

        for id in await self._store.write(delete):
            self._forget(id)
        self.applications.pop(name, None)
        self.unregistered(name)

    def get_application(self, name: str) -> Application:
        """Raises NOT_FOUND."""
        if name not in self.applications:
            raise not_found(f"Application {name} not found: {_NO_FILE}")
        return self.applications[name]

    def _open_sessions(self, application: str) -> bool:
        return any(
            session.spec.application == application and session.state == OPEN for session in self.sessions.values()
        )

    # Sessions

    async def create_session(self, id: str, spec: Any) -> Session:
        """Raises INVALID_ARGUMENT, NOT_FOUND (application) or ALREADY_EXISTS."""
        return await self._create_session(id, complete_session_spec(spec))

    async def _create_session(self, id: str, spec: Any) -> Session:
        application = self.get_application(spec.application)
        common_data = bytes(spec.common_data) or None  # Flame keeps no empty ones
        spec.ClearField("common_data")
        session = Session(id, spec, OPEN, now())

        def insert(db: sqlite3.Connection) -> None:
            if not db.execute("SELECT 1 FROM applications WHERE name = ?", (application.name,)).fetchone():
                raise not_found(f"Application {application.name} not found: {_NO_FILE}")
            try:
                db.execute(
                    "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, NULL)",
                    (id, application.name, spec.SerializeToString(), common_data, OPEN, session.created),
                )
            except sqlite3.IntegrityError:
                raise FlameError(grpc.StatusCode.ALREADY_EXISTS, f"Session '{id}' already exists") from None

        await self._store.write(insert)
        self.sessions[id] = session
        self.changed(session)
        return session

    async def open_session(self, id: str, spec: Any | None) -> Session:
        """Get, or with a spec get or create. Raises INVALID_ARGUMENT where it is closed or differs, NOT_FOUND."""
        wanted = None if spec is None else complete_session_spec(spec)
        session = self.sessions.get(id)
        if session is None:
            if wanted is None:
                raise not_found(f"Session {id} not found")
            try:
                return await self._create_session(id, wanted)
            except FlameError as error:
                if error.code is not grpc.StatusCode.ALREADY_EXISTS:
                    raise
                session = self.sessions[id]  # another call was first
        if not session.runs:
            raise invalid(f"Session {id} is not open")
        if wanted is not None:
            check_same_spec(session, wanted)
        return session

    async def close_session(self, id: str) -> Session:
        """Raises NOT_FOUND, or INTERNAL where a task runs. Pending tasks are cancelled."""
        session = self.sessions.get(id)
        if session is None:
            raise not_found(f"session <{id}>")
        if session.counts[RUNNING]:
            raise internal("Cannot close session with running tasks")
        at = now()

        def close(db: sqlite3.Connection) -> None:
            db.execute("UPDATE sessions SET state = ?, completed = ? WHERE id = ?", (CLOSED, at, id))
            db.execute(
                "UPDATE tasks SET state = ?, completed = ? WHERE session = ? AND state = ?",
                (CANCELLED, at, id, PENDING),
            )

        session.closing = True
        try:
            await self._store.write(close)
            session.state, session.completed = CLOSED, at
            session.cancel_pending(at)
            self._payloads.forget(id)
        finally:
            session.closing = False
            self.changed(session)
        return session

    async def delete_session(self, id: str) -> tuple[Session, bytes | None, list[Event]]:
        """Raises NOT_FOUND, or INTERNAL where it is open. What it was."""
        session = self.sessions.get(id)
        if session is None:
            raise not_found(f"session <{id}>")
        if session.state == OPEN:
            raise internal("Cannot delete open session")
        common_data, events = await self.session_details(id)
        await self._store.write(lambda db: rows.delete_session(db, id))
        self._forget(id)
        return session, common_data, events

    def _forget(self, id: str) -> None:
        session = self.sessions.pop(id, None)
        if session is not None:
            self._payloads.forget(id)
            for task in session.tasks.values():
                task.moved()

    def get_session(self, id: str) -> Session:
        """Raises NOT_FOUND."""
        if id not in self.sessions:
            raise not_found(id)
        return self.sessions[id]

    async def session_details(self, id: str) -> tuple[bytes | None, list[Event]]:
        """What is not kept in memory: the common data, and the events."""

        def read(db: sqlite3.Connection) -> tuple[bytes | None, list[Event]]:
            row = db.execute("SELECT common_data FROM sessions WHERE id = ?", (id,)).fetchone()
            return (row[0] if row else None), rows.read_events(db, id, 0)

        return await self._store.read(read)

    async def sessions_details(self) -> tuple[dict[str, bytes], dict[str, list[Event]]]:
        """`session_details` of all: only those that have any."""

        def read(db: sqlite3.Connection) -> tuple[dict[str, bytes], dict[str, list[Event]]]:
            events: dict[str, list[Event]] = {}
            for id, *event in db.execute(
                "SELECT session, code, message, at FROM events WHERE task = 0 ORDER BY rowid"
            ):
                events.setdefault(id, []).append(Event(*event))
            return dict(db.execute("SELECT id, common_data FROM sessions WHERE common_data IS NOT NULL")), events

        return await self._store.read(read)

    async def bind_failed(self, session: Session, executor: str, node: str, code: int, reason: str) -> None:
        """Note on the session that an executor got no instance for it."""
        message = f"Executor <{executor}> on node <{node}> failed to bind session with return_code <{code}>: {reason}"
        with contextlib.suppress(StoreError):
            await self._store.write(lambda db: rows.add_event(db, session.id, 0, SESSION_BIND_FAILED, message, now()))

    # Tasks

    def runs_here(self, session: Session) -> bool:
        """Whether an executor can be had for it: there are those of the host shim only."""
        application = self.applications.get(session.spec.application)
        return application is None or application.spec.shim == types.Host

    async def create_task(self, id: str, payload: bytes | None) -> TaskRecord:
        """Raises NOT_FOUND, or INVALID_ARGUMENT where the session is closed."""
        at = now()

        def insert(db: sqlite3.Connection) -> int:
            row = db.execute("SELECT state FROM sessions WHERE id = ?", (id,)).fetchone()
            if row is None:
                raise not_found(f"Session {id} not found: {_NO_FILE}")
            if row[0] != OPEN:
                raise invalid("Cannot create task in closed session")
            (last,) = db.execute("SELECT coalesce(max(id), 0) FROM tasks WHERE session = ?", (id,)).fetchone()
            db.execute(
                "INSERT INTO tasks VALUES (?, ?, ?, ?, NULL, 0, ?, NULL)", (id, last + 1, PENDING, at, payload)
            )
            rows.add_event(db, id, last + 1, PENDING, "Task was created with state <Pending>", at)
            if not self.runs_here(self.sessions[id]):
                rows.add_event(db, id, last + 1, PENDING, _NO_EXECUTOR, at)
            return int(last) + 1

        number = await self._store.write(insert)
        self._payloads.keep(id, number, "input", payload)
        session = self.sessions[id]
        session.add(Task(id, number, PENDING, at))
        self.changed(session)
        return TaskRecord(id, number, PENDING, at, None, payload, None, [])

    async def get_task(self, id: str, number: int) -> TaskRecord:
        """The only answer with events. Raises NOT_FOUND, or INTERNAL where its end waits for the disk."""
        session = self.get_session(id)
        record = await self._store.read(lambda db: rows.read_task(db, id, number, with_events=True))
        if record is None:
            raise not_found(str(number))
        task = session.tasks.get(number)
        if task is not None and task.held_up:
            raise internal(task.held_up)
        if task is not None and task.state == RUNNING:
            running = Event(RUNNING, "Task state was updated to <Running>", task.started)
            record = record._replace(state=RUNNING, events=[*record.events, running])
        return record

    async def list_tasks(self, id: str) -> AsyncIterator[TaskRecord]:
        """All tasks of a session by ID, a few at a time."""
        session = self.get_session(id)

        def read(db: sqlite3.Connection) -> list[TaskRecord]:
            records, size = [], 0
            for row in db.execute(f"{rows.SELECT_TASK} WHERE session = ? AND id > ? ORDER BY id", (id, last)):
                records.append(TaskRecord._make((*row, [])))
                size += len(row[5] or b"") + len(row[6] or b"") + 100
                if size > LIST_CHUNK:
                    break
            return records

        last = 0
        while records := await self._store.read(read):
            for record in records:
                task = session.tasks.get(record.id)
                yield record._replace(state=task.state) if task is not None else record
            last = records[-1].id

    async def watch_task(self, id: str, number: int) -> AsyncIterator[TaskRecord]:
        """The task at each change of its state until it has ended, at once where it has; nothing if unknown.

        Raises INTERNAL where its end waits for the disk.
        """
        session = self.sessions.get(id)
        if session is None:
            return
        task = session.tasks.get(number)
        if task is None:
            record = await self._store.read(lambda db: rows.read_task(db, id, number))
            if record is not None and record.state in ENDED:
                yield record
            return
        seen = task.state
        while True:
            if task.held_up:
                raise internal(task.held_up)
            if task.state != seen:
                seen = task.state
                yield await self._record(task)
                if seen in ENDED:
                    return
            elif self.sessions.get(id) is not session:
                return
            else:
                await task.next_move()

    async def _record(self, task: Task) -> TaskRecord:
        state, completed = task.state, task.completed
        payload = await self.payload(task, "input")
        output = await self.payload(task, "output") if state in (SUCCEED, FAILED) else None
        return TaskRecord(task.session, task.id, state, task.created, completed, payload, output, [])

    async def payload(self, task: Task, kind: str) -> bytes | None:
        """The `input` or `output` of a task."""
        kept, payload = self._payloads.get(task.session, task.id, kind)
        if kept:
            return payload

        def read(db: sqlite3.Connection) -> bytes | None:
            query = f"SELECT {kind} FROM tasks WHERE session = ? AND id = ?"  # noqa: S608 - one of two words
            row = db.execute(query, (task.session, task.id)).fetchone()
            return row[0] if row else None

        return await self._store.read(read)

    async def finish(
        self, session: Session, task: Task, state: int, output: bytes | None, message: str | None
    ) -> None:
        """A running task has ended. Where the disk refuses, tries until it takes it: nobody could be told."""
        at = now()
        if state == FAILED:
            text = message or "Task failed with state <Failed>"
        else:
            text = f"Task was completed with state <{STATES[state]}>"

        def update(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE tasks SET state = ?, completed = ?, output = ? WHERE session = ? AND id = ?",
                (state, at, output, session.id, task.id),
            )
            rows.add_event(db, session.id, task.id, RUNNING, "Task state was updated to <Running>", task.started)
            rows.add_event(db, session.id, task.id, state, text, at)

        await self._persist(task, update)
        self._payloads.keep(session.id, task.id, "output", output)
        task.completed = at
        session.move(task, state)
        self.changed(session)

    async def lose(self, session: Session, task: Task, reason: str) -> None:
        """The instance of a running task died: the task is pending again, or failed where that happened too often."""
        task.losses += 1
        if task.losses >= MOST_LOSSES:
            await self.finish(session, task, FAILED, None, reason)
            return
        at = now()

        def update(db: sqlite3.Connection) -> None:
            db.execute("UPDATE tasks SET losses = ? WHERE session = ? AND id = ?", (task.losses, session.id, task.id))
            rows.add_event(db, session.id, task.id, RUNNING, "Task state was updated to <Running>", task.started)
            rows.add_event(db, session.id, task.id, PENDING, f"Task state was updated to <Pending>: {reason}", at)

        await self._persist(task, update)
        session.put_back(task)
        self.changed(session)

    async def _persist(self, task: Task, operation: Callable[[sqlite3.Connection], None]) -> None:
        """Write the end of a task, however long that takes; who watches the task is told when it takes long."""
        begun = time.monotonic()
        while True:
            try:
                await self._store.write(operation)
            except StoreError as error:
                log.error("the end of a task waits for the disk: %s", error)
                if time.monotonic() - begun >= FULL_PATIENCE and not task.held_up:
                    task.held_up = f"the end of task {task.id} of {task.session} waits for the disk: {error}"
                    task.moved()
                await asyncio.sleep(WRITE_PAUSE)
            else:
                task.held_up = ""
                return
