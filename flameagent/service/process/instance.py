"""The process that Flame starts: it binds its socket at once, keeps a worker, and hands it the tasks.

Promises to answer every call and never to die because of a task: an instance that dies wedges its
session for ever (Flame 0.6.0). It imports neither the agent nor the Agents SDK; its worker does.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from flameagent.service.process.grpc_connection import INTERNAL
from flameagent.service.process.grpc_server import GrpcServer, Method, Refusal
from flameagent.service.process.messages import Done, Enter, Failed, Invoke
from flameagent.service.process.nursery_place import starter
from flameagent.service.process.supervisor import Supervisor
from flamewire import instance_messages
from flamewire.failpoints import failpoint

_ENDPOINT = "FLAME_INSTANCE_ENDPOINT"
_ENTER_TIMEOUT = 60.0
_LEAVE_TIMEOUT = 4.0
_TURN_TIMEOUT = 300.0


def main() -> None:
    """Serve the session that Flame gives this process, until it is told to leave."""
    if len(sys.argv) != 2:
        sys.exit(
            "usage: python -m flameagent.service MODULE[:OBJECT]   (an Agent or a FlameInstance: desk.agents:desk)"
        )
    endpoint = os.environ.get(_ENDPOINT)
    if not endpoint:
        print(
            f"This is a Flame service: Flame starts it, with {_ENDPOINT} set. "
            f'To talk to it here, run: flame-agent --app {sys.argv[1]} -m "…"',
            file=sys.stderr,
        )
        sys.exit(2)
    os._exit(_serve(endpoint, Supervisor(sys.argv[1], endpoint, _turn_timeout())))


def _serve(socket: str, supervisor: Supervisor) -> int:
    started_by = starter()  # before Flame knows of this process, and so before it can be missed
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    signal.signal(signal.SIGINT, lambda *_: ended.set())
    supervisor.start()
    failpoint("instance: started")

    instance = _Instance(supervisor)
    # Flame 0.6.0 connects as soon as the file exists, between bind and listen too, and counts a failure
    # against the session: so the name that it waits for appears only when the server listens.
    GrpcServer(instance.methods()).start(f"{socket}.tmp")
    os.rename(f"{socket}.tmp", socket)
    failpoint("instance: listening")

    deadline = time.monotonic() + _ENTER_TIMEOUT
    # Who started this process can be killed, and then nobody ends it; what runs may still be added.
    while not ended.wait(1.0) and (starter() == started_by or supervisor.busy):
        if not instance.entered.is_set() and time.monotonic() > deadline:
            print("Flame gave this instance no session: it ends.", file=sys.stderr)
            break
    supervisor.end(_LEAVE_TIMEOUT)
    return 0


class _Instance:
    """Flame's instance protocol (`shim.proto`)."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._session: Enter | None = None
        self.entered = threading.Event()

    def methods(self) -> dict[bytes, Method]:
        """Its methods, by their paths."""
        return {
            b"/flame.v1.Instance/OnSessionEnter": self._on_session_enter,
            b"/flame.v1.Instance/OnTaskInvoke": self._on_task_invoke,
            b"/flame.v1.Instance/OnSessionLeave": self._on_session_leave,
        }

    def _on_session_enter(self, request: bytes) -> bytes:
        """Flame gives this instance its session: the only one."""
        try:
            session = instance_messages.read_session(request)
        except ValueError as error:
            raise Refusal(INTERNAL, f"This is no SessionContext: {error}") from None
        self.entered.set()
        self._session = Enter(*session)
        self._supervisor.enter(self._session)
        failpoint("instance: entered")
        return instance_messages.RESULT

    def _on_task_invoke(self, request: bytes) -> bytes:
        """One task; answered, whatever becomes of the worker."""
        try:
            task = instance_messages.read_task(request)
        except ValueError as error:
            raise Refusal(INTERNAL, f"This is no TaskContext: {error}") from None
        outcome: Done | Failed
        began = time.time()
        try:
            outcome = self._supervisor.run(Invoke(*task, received=time.time()))
        except Exception as error:  # whatever it is: raising here would end in Python's words, not ours
            outcome = Failed(f"The instance failed: {type(error).__name__}: {error}")
        failpoint("instance: before its answer")
        if isinstance(outcome, Failed) and outcome.code and _is_question(task.input):
            from flameagent import wire
            from flameagent.apis import Answer
            from flameagent.service.process import refusal_note

            if self._session is not None:
                said = outcome.message, outcome.code
                refusal_note.note(self._session, Invoke(*task), *said, int(began * 1000))
            outcome = Done(wire.write(Answer("", error=outcome.message, code=outcome.code)))
        if isinstance(outcome, Failed):
            return instance_messages.write_task_result(-1, message=outcome.message)
        return instance_messages.write_task_result(0, outcome.output)

    def _on_session_leave(self, request: bytes) -> bytes:
        """The session does not need this instance any more; SIGTERM follows."""
        try:
            instance_messages.read_empty(request)
        except ValueError as error:
            raise Refusal(INTERNAL, f"This is no EmptyRequest: {error}") from None
        self._supervisor.end(_LEAVE_TIMEOUT)
        return instance_messages.RESULT


def _is_question(data: bytes | None) -> bool:
    """Whether who asked reads an `Answer`."""
    from flameagent import wire
    from flameagent.apis import Decision, Question

    try:
        return isinstance(wire.read(data, Question, Decision), Question)
    except ValueError:
        return False


def _turn_timeout() -> float:
    """Seconds that a turn may take: `AGENT_TIMEOUT`."""
    try:
        return max(float(os.environ.get("AGENT_TIMEOUT", "")), 1.0)
    except ValueError:
        return _TURN_TIMEOUT
