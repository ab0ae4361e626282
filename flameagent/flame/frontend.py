"""The client of Flame's frontend: applications, sessions and tasks, on a channel of its own.

Every call has a deadline and fails with a `FlameError` that is a sentence. Unlike flamepy 0.6.0 it
keeps the status of an error (there, every error is INTERNAL), uses its own channel with a short
reconnect back-off (a default channel comes back up to 80 s after an outage) and starts no threads.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any
from urllib.parse import urlsplit

import grpc
import grpc._channel  # what the first channel would import, in each forked worker for itself: 2 MB

from flameagent.flame.endpoints import Endpoints, address
from flameagent.flame.errors import FlameError, Mismatch, NotFlame, NotFound, NotOpen, Refused, Unclear, Unreachable
from flameagent.flame.resources import Resources
from flamewire.limits import LOCAL_OPTIONS
from flamewire.stubs import frontend, frontend_grpc, types

PORT = 8080
"""Where a frontend listens, if its endpoint does not say."""

_DEADLINE = 15.0
_FAILED_EVENT = 3
_OPTIONS = [
    (
        "grpc.max_receive_message_length",
        -1,
    ),  # a list is one message, whatever it holds; Flame limits what it takes only
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
]


class TaskState(IntEnum):
    """Flame's task states (flamepy 0.6.0 lacks CANCELLED and raises on it)."""

    PENDING = 0
    RUNNING = 1
    SUCCEED = 2
    FAILED = 3
    CANCELLED = 4

    @property
    def terminal(self) -> bool:
        """True once the task does not change again."""
        return self >= TaskState.SUCCEED


@dataclass(frozen=True)
class Application:
    """A registered application."""

    name: str
    command: str
    arguments: tuple[str, ...]
    working_directory: str
    environments: dict[str, str]


@dataclass(frozen=True)
class Session:
    """A session as the frontend tells it; times in epoch milliseconds. `ended` counts its tasks that have, and
    `failed` those of them that have failed or were cancelled."""

    id: str
    application: str
    open: bool
    created: int
    common_data: bytes | None
    pending: int
    running: int
    ended: int = 0
    failed: int = 0


@dataclass(frozen=True)
class Task:
    """A task as the frontend tells it. `message` is why it failed, where Flame says so.

    `created` and `completed` are in epoch milliseconds; 0: it has not, or Flame does not say.
    """

    id: str
    session_id: str
    state: TaskState
    input: bytes | None
    output: bytes | None
    message: str
    created: int = 0
    completed: int = 0


class Frontend:
    """One connection to a Flame frontend."""

    def __init__(self, endpoints: Endpoints) -> None:
        self.url = endpoints.frontend
        self._ca_file, self._ca_source = endpoints.ca_file, endpoints.ca_source
        target, secure = address(endpoints.frontend, PORT)
        if secure:
            from flameagent.flame import tls

            roots = tls.roots(self._ca_file, self._ca_source)
            self._channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(roots), options=_OPTIONS)
        else:
            socket = endpoints.frontend_socket
            target, more = (f"unix:{socket}", LOCAL_OPTIONS) if socket else (target, [])
            self._channel = grpc.insecure_channel(target, options=[*_OPTIONS, *more])
        self._stub: Any = frontend_grpc.FrontendStub(self._channel)

    def close(self) -> None:
        """Close the connection; what waits on it fails."""
        self._channel.close()

    def application(self, name: str, *, timeout: float = _DEADLINE, wait: bool = False) -> Application:
        """The application of that name; with `wait` a frontend that does not listen yet is waited for.

        Raises `NotFound`.
        """
        return _application(self._call("GetApplication", frontend.GetApplicationRequest(name=name), timeout, wait))

    def applications(self) -> list[Application]:
        """All applications, in no order."""
        listed = self._call("ListApplication", frontend.ListApplicationRequest())
        return [_application(found) for found in listed.applications]

    def sessions(self, *, timeout: float = _DEADLINE) -> list[Session]:
        """All sessions, of every application, in no order."""
        listed = self._call("ListSession", frontend.ListSessionRequest(), timeout)
        return [_session(session) for session in listed.sessions]

    def session(self, session_id: str) -> Session:
        """The session, open or closed. Raises `NotFound`."""
        return _session(self._call("GetSession", frontend.GetSessionRequest(session_id=session_id)))

    def has_executor(self, session_id: str) -> bool:
        """True where an executor works for the session, or gets ready to."""
        listed = self._call("ListExecutor", frontend.ListExecutorRequest())
        return any(executor.status.session_id == session_id for executor in listed.executors)

    def create_session(
        self, session_id: str, application: str, common_data: bytes | None, resources: Resources | None = None
    ) -> Session:
        """Get or create an open session with at most one instance; safe to repeat.

        `common_data` is an encoded ObjectRef; without `resources` the cluster says what the session gets. Raises
        `NotFound` (no such application), `NotOpen`, and `Refused` where there is one with another specification.
        """
        spec = types.SessionSpec(
            application=application, common_data=common_data, min_instances=0, max_instances=1, batch_size=1
        )
        if resources is not None:
            spec.resreq.CopyFrom(types.ResourceRequirement(**resources._asdict()))
        request = frontend.OpenSessionRequest(session_id=session_id, session=spec)
        return _session(self._call("OpenSession", request))

    def open_session(self, session_id: str) -> Session:
        """An open session; creates nothing. Raises `NotFound`, `NotOpen`."""
        return _session(self._call("OpenSession", frontend.OpenSessionRequest(session_id=session_id)))

    def close_session(self, session_id: str) -> Session:
        """Close the session; pending tasks are cancelled. Refused while a task runs. Can be repeated."""
        return _session(self._call("CloseSession", frontend.CloseSessionRequest(session_id=session_id)))

    def delete_session(self, session_id: str) -> None:
        """Delete a closed session and its tasks; its objects in the cache stay. Raises `NotFound`, `Refused`."""
        self._call("DeleteSession", frontend.DeleteSessionRequest(session_id=session_id))

    def create_task(self, session_id: str, data: bytes) -> str:
        """Ask for a task; returns its ID.

        Raises `NotOpen`, `NotFound`, `Refused`, and `Unclear` when the call broke off: the list of tasks
        tells whether it is there.
        """
        request = frontend.CreateTaskRequest(task=types.TaskSpec(session_id=session_id, input=data))
        try:
            return str(self._call("CreateTask", request).metadata.id)
        except (Unreachable, NotFlame) as error:  # NotFlame: one that goes away can say CANCELLED
            raise Unclear(str(error)) from error

    def task(self, session_id: str, task_id: str, *, timeout: float = _DEADLINE) -> Task:
        """The task with its output and, where it failed, the reason. Raises `NotFound`."""
        request = frontend.GetTaskRequest(session_id=session_id, task_id=task_id)
        return _task(self._call("GetTask", request, timeout))

    def tasks(self, session_id: str) -> list[Task]:
        """The session's tasks, oldest first."""
        request = frontend.ListTaskRequest(session_id=session_id)
        try:
            found = [_task(task) for task in self._stub.ListTask(request, timeout=_DEADLINE)]
        except grpc.RpcError as error:
            raise self._translated(error) from error
        return sorted(found, key=lambda task: int(task.id) if task.id.isdigit() else 0)

    def watch(self, session_id: str, task_id: str, timeout: float) -> Iterator[Task]:
        """The task at each change of its state, for at most `timeout` seconds; not why it failed: that `task` says.

        Ends after a terminal state, at the timeout, and, for an unknown task, at once. Raises `Unreachable` when the
        frontend goes away.
        """
        request = frontend.WatchTaskRequest(session_id=session_id, task_id=task_id)
        stream = self._stub.WatchTask(request, timeout=timeout)
        deadline = time.monotonic() + timeout
        try:
            for task in stream:
                yield _task(task)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED and time.monotonic() >= deadline - 0.1:
                return
            raise self._translated(error) from error
        finally:
            stream.cancel()

    def _call(self, method: str, request: Any, timeout: float = _DEADLINE, wait: bool = False) -> Any:
        try:
            return getattr(self._stub, method)(request, timeout=timeout, wait_for_ready=wait)
        except grpc.RpcError as error:
            raise self._translated(error) from error

    def _translated(self, error: Any) -> FlameError:
        if error.code() == grpc.StatusCode.UNAVAILABLE:
            from flameagent.flame import tls

            if why := tls.disagreement(self.url, PORT, self._ca_file, self._ca_source):
                return Mismatch(why)
        return _translated(error, self.url)


def _application(found: Any) -> Application:
    return Application(
        name=found.metadata.name,
        command=found.spec.command,
        arguments=tuple(found.spec.arguments),
        working_directory=found.spec.working_directory,
        environments={item.name: item.value for item in found.spec.environments},
    )


def _session(message: Any) -> Session:
    return Session(
        id=message.metadata.id,
        application=message.spec.application,
        open=message.status.state == 0,
        created=message.status.creation_time,
        common_data=message.spec.common_data if message.spec.HasField("common_data") else None,
        pending=message.status.pending,
        running=message.status.running,
        ended=message.status.succeed + message.status.failed + message.status.cancelled,
        failed=message.status.failed + message.status.cancelled,
    )


def _task(message: Any) -> Task:
    reasons = [event.message for event in message.status.events if event.code == _FAILED_EVENT and event.message]
    return Task(
        id=message.metadata.id,
        session_id=message.spec.session_id,
        state=TaskState(message.status.state),
        input=message.spec.input if message.spec.HasField("input") else None,
        output=message.spec.output if message.spec.HasField("output") else None,
        message=reasons[-1] if reasons else "",
        created=message.status.creation_time,
        completed=message.status.completion_time,
    )


def _translated(error: Any, url: str) -> FlameError:
    code, details = error.code(), (error.details() or "").strip()
    if code == grpc.StatusCode.NOT_FOUND:
        return NotFound(details)
    if code == grpc.StatusCode.INVALID_ARGUMENT:
        return NotOpen(details) if "is not open" in details else Refused(details)
    if code == grpc.StatusCode.UNAVAILABLE:
        return Unreachable(f"Nobody answers as Flame at {url} ({_reason(details, url)}).")
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unreachable(f"Flame at {url} did not answer in time.")
    if code == grpc.StatusCode.UNIMPLEMENTED and not details.startswith("localflame"):
        return NotFlame(f"What answers at {url} is not Flame 0.6 ({_first_line(details)}).")
    if code in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED):
        return NotFlame(f"What answers at {url} does not speak Flame's protocol ({_first_line(details)}).")
    return Refused(_first_line(details) or code.name)


def _reason(details: str, url: str) -> str:
    """Why gRPC has no connection, without its own words around it."""
    if "resol" in details or "lookup" in details:
        return f"no machine is known as {urlsplit(url).hostname}"
    return _first_line(details).rpartition(": ")[2].rstrip("]")


def _first_line(text: str) -> str:
    return text.splitlines()[0][:200] if text else "no details"
