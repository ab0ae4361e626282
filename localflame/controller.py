"""Applications, sessions and tasks: what Flame's session manager knows, and the rules it holds.

Statuses and messages are Flame 0.6.0's (session_manager/src, file storage). Memory holds the
applications, the sessions with their counts, and the tasks that have not ended; ended tasks, inputs
and outputs are read from the store. Everything here runs in the event loop; a change is in the store
before it is in memory or in an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from typing import TYPE_CHECKING, Any

import grpc

from flamewire.stubs import types
from localflame import rows
from localflame.application_spec import default_applications, full_application_spec, validate_application_name
from localflame.domain import (
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
from localflame.errors import NO_FILE, FlameError, Refused, internal, invalid, not_found
from localflame.metrics import Metrics
from localflame.payload_cache import PayloadCache
from localflame.session_spec import check_same_spec, full_session_spec
from localflame.store import Store, StoreError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator, Callable

log = logging.getLogger("localflame.controller")

# common/src/apis/types.rs
SESSION_BIND_FAILED = 1001

#: A task whose instance died this often is not tried again.
MAX_LOSSES = 2
#: Seconds between two attempts to write the end of a task on a disk that refuses.
WRITE_RETRY_INTERVAL = 2.0
#: Seconds that the end of a task waits for the disk before those who watch it get an error.
WRITE_TIMEOUT = 60.0

_NO_EXECUTOR = "Task stays <Pending>: there is no executor of the wasm shim"


class Controller:
    """The state of the engine but for its executors. Methods that take a session's `id` raise FlameError."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self.metrics = metrics
        self._payloads = PayloadCache()
        self.applications: dict[str, Application] = {}
        self.sessions: dict[str, Session] = {}
        #: Called when there may be something to start or to let go: the scheduler's.
        self.on_session_changed: Callable[[Session], None] = lambda session: None
        #: Called when an application is gone.
        self.on_unregistered: Callable[[str], None] = lambda name: None
        store.read_sync(self._load)

    def _load(self, db: sqlite3.Connection) -> None:
        self.applications = rows.read_applications(db)
        self.sessions = rows.read_sessions(db)

    # Applications

    async def register_default_applications(self) -> None:
        """Register those that every Flame has, where they are not there."""
        for name, spec in default_applications().items():
            if name not in self.applications:
                await self._add_application(name, spec)

    async def register_application(self, name: str, spec: Any) -> None:
        """Raises FlameError where the spec is bad, Refused where the name is bad or taken."""
        spec = full_application_spec(spec)
        validate_application_name(name)
        await self._add_application(name, spec)

    async def _add_application(self, name: str, spec: Any) -> None:
        at = now()
        await self._store.write(lambda db: rows.insert_application(db, name, spec, at))
        self.applications[name] = Application(name, spec, at)

    async def update_application(self, name: str, spec: Any) -> None:
        """Raises FlameError where the spec is bad, Refused where it is absent or has open sessions."""
        spec = full_application_spec(spec)
        validate_application_name(name)
        if name not in self.applications:
            raise Refused(f"Application {name} not found: {NO_FILE}")
        if self._has_open_sessions(name):
            raise Refused(f"Cannot update application '{name}': has open sessions")
        await self.replace_application(name, spec)

    async def replace_application(self, name: str, spec: Any) -> None:
        """Update an application also under open sessions; their instances follow before their next task."""
        await self._store.write(lambda db: rows.update_application(db, name, spec))
        application = self.applications[name]
        application.spec = spec
        application.version += 1

    async def unregister_application(self, name: str) -> None:
        """Raises Refused where it is absent or has open sessions. Its closed sessions go with it."""
        if self._has_open_sessions(name):
            raise Refused(f"Cannot unregister application '{name}': has open sessions")
        if name not in self.applications:
            raise Refused(f"Failed to delete application '{name}': {NO_FILE}")
        for id in await self._store.write(lambda db: rows.delete_application(db, name)):
            self._forget(id)
        self.applications.pop(name, None)
        self.on_unregistered(name)

    def get_application(self, name: str) -> Application:
        """Raises NOT_FOUND."""
        if name not in self.applications:
            raise not_found(f"Application {name} not found: {NO_FILE}")
        return self.applications[name]

    def _has_open_sessions(self, application: str) -> bool:
        return any(
            session.spec.application == application and session.state == OPEN for session in self.sessions.values()
        )

    # Sessions

    async def create_session(self, id: str, spec: Any) -> Session:
        """Raises INVALID_ARGUMENT, NOT_FOUND (application) or ALREADY_EXISTS."""
        return await self._create_session(id, full_session_spec(spec))

    async def _create_session(self, id: str, spec: Any) -> Session:
        self.get_application(spec.application)
        common_data = bytes(spec.common_data) or None  # Flame keeps no empty ones
        spec.ClearField("common_data")
        session = Session(id, spec, OPEN, now())
        await self._store.write(lambda db: rows.insert_session(db, session, common_data))
        self.sessions[id] = session
        self.on_session_changed(session)
        return session

    async def open_session(self, id: str, spec: Any | None) -> Session:
        """Get, or with a spec get or create. Raises INVALID_ARGUMENT where it is closed or differs, NOT_FOUND."""
        wanted = None if spec is None else full_session_spec(spec)
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
        if not session.can_start_tasks:
            raise invalid(f"Session {id} is not open")
        if wanted is not None:
            check_same_spec(id, session.spec, wanted)
        return session

    async def close_session(self, id: str) -> Session:
        """Cancel pending tasks and close. Raises NOT_FOUND, or INTERNAL where a task runs."""
        session = self.sessions.get(id)
        if session is None:
            raise not_found(f"session <{id}>")
        if session.counts[RUNNING]:
            raise internal("Cannot close session with running tasks")
        at = now()
        session.closing = True
        try:
            await self._store.write(lambda db: rows.close_session(db, id, at))
            session.state, session.completed = CLOSED, at
            if session.pending_count:
                self.metrics.tasks_ended.count(session.spec.application, "cancelled", by=session.pending_count)
            session.cancel_pending(at)
            self._payloads.forget(id)
        finally:
            session.closing = False
            self.on_session_changed(session)
        return session

    async def delete_session(self, id: str) -> tuple[Session, bytes | None, list[Event]]:
        """Delete a closed session: what it was, its common data and its events.

        Raises NOT_FOUND, or INTERNAL where it is open.
        """
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
                task.notify()

    def get_session(self, id: str) -> Session:
        """Raises NOT_FOUND."""
        if id not in self.sessions:
            raise not_found(id)
        return self.sessions[id]

    async def session_details(self, id: str) -> tuple[bytes | None, list[Event]]:
        """The common data and the events, which are not kept in memory."""
        return await self._store.read(lambda db: rows.read_session_details(db, id))

    async def all_session_details(self) -> tuple[dict[str, bytes], dict[str, list[Event]]]:
        """`session_details` by session, of those that have any."""
        return await self._store.read(rows.read_all_session_details)

    async def record_bind_failure(self, session: Session, executor: str, node: str, code: int, reason: str) -> None:
        """Note on the session that an executor got no instance for it."""
        message = f"Executor <{executor}> on node <{node}> failed to bind session with return_code <{code}>: {reason}"
        with contextlib.suppress(StoreError):
            await self._store.write(
                lambda db: rows.add_session_event(db, session.id, SESSION_BIND_FAILED, message, now())
            )

    # Tasks

    def can_run(self, session: Session) -> bool:
        """False where no executor can be had for it: there are those of the host shim only."""
        application = self.applications.get(session.spec.application)
        return application is None or application.spec.shim == types.Host

    async def create_task(self, id: str, payload: bytes | None) -> TaskRecord:
        """Raises NOT_FOUND, or INVALID_ARGUMENT where the session is closed."""
        at, session = now(), self.sessions.get(id)
        remark = None if session is None or self.can_run(session) else _NO_EXECUTOR
        number = await self._store.write(lambda db: rows.insert_task(db, id, payload, at, remark))
        self._payloads.put(id, number, "input", payload)
        session = self.sessions[id]
        session.add_pending(Task(id, number, PENDING, at))
        self.on_session_changed(session)
        return TaskRecord(id, number, PENDING, at, None, payload, None, [])

    async def get_task(self, id: str, number: int) -> TaskRecord:
        """The only answer with events. Raises NOT_FOUND, or INTERNAL where its end waits for the disk."""
        session = self.get_session(id)
        record = await self._store.read(lambda db: rows.read_task(db, id, number, with_events=True))
        if record is None:
            raise not_found(str(number))
        task = session.tasks.get(number)
        if task is not None and task.write_error:
            raise internal(task.write_error)
        if task is not None and task.state == RUNNING:
            record = record._replace(state=RUNNING, events=[*record.events, rows.running_event(task)])
        return record

    async def list_tasks(self, id: str) -> AsyncIterator[TaskRecord]:
        """All tasks of a session by ID, a few at a time."""
        session = self.get_session(id)
        last = 0
        while records := await self._store.read(functools.partial(rows.read_tasks, session=id, after=last)):
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
            if task.write_error:
                raise internal(task.write_error)
            if task.state != seen:
                seen = task.state
                yield await self._record(task)
                if seen in ENDED:
                    return
            elif self.sessions.get(id) is not session:
                return
            else:
                await task.wait_change()

    async def _record(self, task: Task) -> TaskRecord:
        state, completed = task.state, task.completed
        payload = await self.payload(task, "input")
        output = await self.payload(task, "output") if state in (SUCCEED, FAILED) else None
        return TaskRecord(task.session, task.id, state, task.created, completed, payload, output, [])

    async def payload(self, task: Task, kind: str) -> bytes | None:
        """The `input` or `output` of a task."""
        kept, payload = self._payloads.get(task.session, task.id, kind)
        return payload if kept else await self._store.read(lambda db: rows.read_payload(db, task, kind))

    async def finish(
        self, session: Session, task: Task, state: int, output: bytes | None, message: str | None
    ) -> None:
        """A running task has ended. Where the disk refuses, tries until it takes it: there is nobody to tell."""
        at = now()
        if state == FAILED:
            text = message or "Task failed with state <Failed>"
        else:
            text = f"Task was completed with state <{STATES[state]}>"
        await self._persist(task, lambda db: rows.end_task(db, task, state, at, output, text))
        self._payloads.put(session.id, task.id, "output", output)
        task.completed = at
        application = session.spec.application
        self.metrics.tasks_ended.count(application, "failed" if state == FAILED else "succeeded")
        self.metrics.task_run.observe((at - task.started) / 1000, application)
        session.set_state(task, state)
        self.on_session_changed(session)

    async def retry_or_fail(self, session: Session, task: Task, reason: str) -> None:
        """The instance of a running task died: the task is pending again, or failed where that happened too often."""
        task.losses += 1
        if task.losses >= MAX_LOSSES:
            await self.finish(session, task, FAILED, None, reason)
            return
        at = now()
        await self._persist(task, lambda db: rows.retry_task(db, task, at, reason))
        self.metrics.task_retries.count(session.spec.application)
        session.requeue(task)
        self.on_session_changed(session)

    async def _persist(self, task: Task, operation: Callable[[sqlite3.Connection], None]) -> None:
        """Write the end of a task, however long that takes; after WRITE_TIMEOUT who watches it gets an error."""
        begun = time.monotonic()
        while True:
            try:
                await self._store.write(operation)
            except StoreError as error:
                log.error("the end of a task waits for the disk: %s", error)
                if time.monotonic() - begun >= WRITE_TIMEOUT and not task.write_error:
                    task.write_error = f"the end of task {task.id} of {task.session} waits for the disk: {error}"
                    task.notify()
                await asyncio.sleep(WRITE_RETRY_INTERVAL)
            else:
                task.write_error = ""
                return
