"""Flame's host shim as a test needs it: starts an instance, and calls it over its unix socket."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import grpc

from flamewire.stubs import shim, shim_grpc, types

ROOT = Path(__file__).parents[2]


class Shim:
    """An instance of the module `module` in `folder`; a context manager that ends it.

    Its socket is in `sockets`, which the instances of a node share, or in a folder of its own: then its worker is its
    child and stays.
    """

    def __init__(self, folder: Path, module: str = "agent", sockets: Path | None = None, **environment: str) -> None:
        self._sockets = tempfile.TemporaryDirectory(prefix="fl")
        self.socket = (sockets or Path(self._sockets.name)) / f"{uuid.uuid4().hex[:8]}.sock"
        self.log = folder / "instance.log"
        not_kept = ("FLAME_", "OPENAI_", "AGENT_", "PYTEST_")  # pytest's is another for each part of a test
        kept = {name: value for name, value in os.environ.items() if not name.startswith(not_kept)}
        environ = {
            **kept,
            "PYTHONPATH": str(ROOT),
            "FLAME_INSTANCE_ENDPOINT": str(self.socket),
            **({} if sockets else {"AGENT_FORK": "off"}),
            **environment,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flameagent.service", module],
            cwd=folder,
            env=environ,
            stdout=self.log.open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._channel: grpc.Channel | None = None
        self._stub: Any = None

    def __enter__(self) -> Shim:
        deadline = time.monotonic() + 90
        while not self.socket.exists():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, "the instance does not bind"
            time.sleep(0.005)
        self._channel = grpc.insecure_channel(f"unix:{self.socket}")
        self._stub = shim_grpc.InstanceStub(self._channel)
        return self

    def __exit__(self, *_: object) -> None:
        if self._channel:
            self._channel.close()
        if self.process.poll() is None:
            self.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._sockets.cleanup()

    def terminate(self) -> None:
        """What Flame does at the end: SIGTERM to the group."""
        os.killpg(self.process.pid, signal.SIGTERM)

    def enter(self, session_id: str = "s-1", common_data: bytes | None = None) -> Shim:
        """OnSessionEnter."""
        request = shim.SessionContext(
            session_id=session_id, application=shim.ApplicationContext(name="app"), common_data=common_data
        )
        assert self._stub.OnSessionEnter(request, timeout=60).return_code == 0
        return self

    def invoke(self, asked: Any, task_id: str = "1", timeout: float = 100) -> Any:
        """OnTaskInvoke with pickled input and output; raises `TaskFailed` with the message."""
        request = shim.TaskContext(task_id=task_id, session_id="s-1", input=pickle.dumps(asked))
        result = self._stub.OnTaskInvoke(request, timeout=timeout)
        if result.return_code != 0:
            raise TaskFailed(result.message)
        return pickle.loads(result.output) if result.HasField("output") else None

    def call(self, method: str, request: Any, timeout: float = 100) -> bytes:
        """Any call with any bytes, or a message; the bytes of its answer. Raises `grpc.RpcError`."""
        assert self._channel is not None
        data = request if isinstance(request, bytes) else request.SerializeToString()
        answer: bytes = self._channel.unary_unary(f"/flame.v1.Instance/{method}", bytes, bytes)(data, timeout=timeout)
        return answer

    def leave(self) -> None:
        """OnSessionLeave."""
        assert self._stub.OnSessionLeave(types.EmptyRequest(), timeout=60).return_code == 0

    def descendants(self) -> list[int]:
        """The instance's worker and whatever that has started."""
        found, parents = [], [self.process.pid]
        while parents:
            parent = parents.pop()
            listed = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True).stdout
            children = [int(line) for line in listed.split()]
            found += children
            parents += children
        return found


class TaskFailed(Exception):
    """The task's result had a return code; the message is the instance's."""
