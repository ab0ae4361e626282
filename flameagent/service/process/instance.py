"""The process that Flame starts: it binds its socket at once, keeps a worker, and hands it the tasks.

Promises to answer every call and never to die because of a task: an instance that dies wedges its
session for ever (Flame 0.6.0). It imports neither the agent nor the Agents SDK; its worker does.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

from flameagent.service.process.messages import Enter, Failed, Invoke
from flameagent.service.process.supervisor import Supervisor
from flamewire.failpoints import failpoint
from flamewire.stubs import shim_grpc, types

_ENDPOINT = "FLAME_INSTANCE_ENDPOINT"
_SPARE = "LOCALFLAME_SPARE"  # the embedded engine keeps it for a session to come
_ENTER_TIMEOUT = 60.0
_LEAVE_TIMEOUT = 4.0
_TURN_TIMEOUT = 300.0


def main() -> None:
    """Serve the session that Flame gives this process, until it is told to leave."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m flameagent.service MODULE   (the module with the FlameInstance, such as agent)")
    endpoint = os.environ.get(_ENDPOINT)
    if not endpoint:
        print(
            f"This is a Flame service: Flame starts it, with {_ENDPOINT} set. "
            'To talk to it here, run: uv run client.py -m "…"',
            file=sys.stderr,
        )
        sys.exit(2)
    os._exit(_serve(Path(endpoint), Supervisor(sys.argv[1], _turn_timeout())))


def _serve(socket: Path, supervisor: Supervisor) -> int:
    ended, spare = threading.Event(), os.environ.pop(_SPARE, "")
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    signal.signal(signal.SIGINT, lambda *_: ended.set())
    supervisor.start()
    failpoint("instance: started")

    instance = _Instance(supervisor)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    shim_grpc.add_InstanceServicer_to_server(instance, server)
    # Flame 0.6.0 connects as soon as the file exists, between bind and listen too, and counts a failure
    # against the session: so the name that it waits for appears only when the server listens.
    unfinished = socket.with_name(f"{socket.name}.tmp")
    server.add_insecure_port(f"unix:{unfinished}")
    server.start()
    unfinished.rename(socket)
    failpoint("instance: listening")

    parent, patience = os.getppid(), math.inf if spare else _ENTER_TIMEOUT
    deadline = time.monotonic() + patience
    # Who started this process can be killed, and then nobody ends it; what runs may still be added.
    while not ended.wait(1.0) and (os.getppid() == parent or supervisor.busy):
        if not instance.entered.is_set() and time.monotonic() > deadline:
            print("Flame gave this instance no session: it ends.", file=sys.stderr)
            break
    supervisor.end(_LEAVE_TIMEOUT)
    server.stop(grace=None)
    return 0


class _Instance(shim_grpc.InstanceServicer):  # type: ignore[misc,name-defined]
    """Flame's instance protocol (`shim.proto`)."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self.entered = threading.Event()

    def OnSessionEnter(self, request: Any, context: Any) -> Any:
        """Flame gives this instance its session: the only one."""
        self.entered.set()
        data = request.common_data if request.HasField("common_data") else None
        self._supervisor.enter(Enter(request.session_id, request.application.name, data))
        failpoint("instance: entered")
        return types.Result(return_code=0)

    def OnTaskInvoke(self, request: Any, context: Any) -> Any:
        """One task; answered, whatever becomes of the worker."""
        try:
            data = request.input if request.HasField("input") else None
            outcome = self._supervisor.run(Invoke(request.task_id, data))
        except Exception as error:  # whatever it is: raising here would end in Flame's words, not ours
            outcome = Failed(f"The instance failed: {type(error).__name__}: {error}")
        failpoint("instance: before its answer")
        if isinstance(outcome, Failed):
            return types.TaskResult(return_code=-1, message=outcome.message)
        return types.TaskResult(return_code=0, output=outcome.output)

    def OnSessionLeave(self, request: Any, context: Any) -> Any:
        """The session does not need this instance any more; SIGTERM follows."""
        self._supervisor.end(_LEAVE_TIMEOUT)
        return types.Result(return_code=0)


def _turn_timeout() -> float:
    """Seconds that a turn may take: `AGENT_TIMEOUT`."""
    try:
        return max(float(os.environ.get("AGENT_TIMEOUT", "")), 1.0)
    except ValueError:
        return _TURN_TIMEOUT
