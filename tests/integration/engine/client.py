"""Engine processes in temporary homes, and a small client of their three doors: gRPC, Flight, control."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pyarrow as pa
from pyarrow import flight

from flamewire.stubs import frontend as messages
from flamewire.stubs import frontend_grpc, types
from localflame import Control, find, stop

if TYPE_CHECKING:
    from collections.abc import Callable

SERVICE = Path(__file__).parent / "echo_service.py"
REPOSITORY = Path(__file__).parents[3]
PATIENCE = 90.0

ROWS = pa.schema([pa.field("version", pa.uint64()), pa.field("data", pa.binary())])


def localflame(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m localflame …` for a home."""
    return subprocess.run(
        [sys.executable, "-m", "localflame", *arguments],
        env={**os.environ, "LOCALFLAME_HOME": str(home), **environment},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def eventually(condition: Callable[[], Any], what: str = "the condition") -> Any:
    """The condition's value, as soon as that is true."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        result = condition()
        if result:
            return result
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come true in {PATIENCE:.0f} s")


def find_pid(client: Client) -> int:
    """The engine's process."""
    return int(client.control.status()["pid"])


def alive(pid: int) -> bool:
    """True if the process runs; one that nobody has reaped does not."""
    found = subprocess.run(["/bin/ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(found.stdout) and not found.stdout.startswith("Z")


class Client:
    """Calls of an engine, as its clients make them."""

    def __init__(self, home: Path, endpoint: str, cache_endpoint: str) -> None:
        self.home = home
        self.endpoint, self.cache_endpoint = endpoint, cache_endpoint
        self.channel = grpc.insecure_channel(
            endpoint.removeprefix("http://"), options=[("grpc.use_local_subchannel_pool", 1)]
        )
        self.frontend = frontend_grpc.FrontendStub(self.channel)
        self.flight = flight.connect(cache_endpoint)
        self.control = Control(home)
        self._applications: list[str] = []
        self._sessions: list[str] = []

    def clean_up(self) -> None:
        """Remove the sessions and applications that were made here, as far as nothing runs in them."""
        for id in self._sessions:
            with contextlib.suppress(grpc.RpcError):
                self.close_session(id)
                self.frontend.DeleteSession(messages.DeleteSessionRequest(session_id=id))
        for name in self._applications:
            self.frontend.UnregisterApplication(messages.UnregisterApplicationRequest(name=name))

    def close(self) -> None:
        self.channel.close()
        self.flight.close()

    def register(self, **spec: Any) -> str:
        """A new application that runs the echo service."""
        name = f"echo-{uuid.uuid4().hex[:8]}"
        fields = {"command": sys.executable, "arguments": [str(SERVICE)], **spec}
        environments = [
            types.Environment(name=key, value=text) for key, text in fields.pop("environments", {}).items()
        ]
        application = types.ApplicationSpec(environments=environments, **fields)
        result = self.frontend.RegisterApplication(
            messages.RegisterApplicationRequest(name=name, application=application)
        )
        assert result.return_code == 0, result.message
        self._applications.append(name)
        return name

    def session(self, application: str, **spec: Any) -> str:
        """A new session; one instance at most, if nothing else is said."""
        id = f"s-{uuid.uuid4().hex[:8]}"
        spec = {"max_instances": 1, **spec}
        request = messages.CreateSessionRequest(
            session_id=id, session=types.SessionSpec(application=application, **spec)
        )
        self.frontend.CreateSession(request)
        self._sessions.append(id)
        return id

    def create(self, session: str, **order: Any) -> str:
        """A new task's ID."""
        task = types.TaskSpec(session_id=session, input=json.dumps(order).encode())
        return str(self.frontend.CreateTask(messages.CreateTaskRequest(task=task)).metadata.id)

    def watch(self, session: str, task: str) -> list[Any]:
        """All that a watcher sees until the end."""
        return list(
            self.frontend.WatchTask(messages.WatchTaskRequest(session_id=session, task_id=task), timeout=PATIENCE)
        )

    def task(self, session: str, task: str) -> Any:
        return self.frontend.GetTask(messages.GetTaskRequest(session_id=session, task_id=task))

    def run(self, session: str, **order: Any) -> Any:
        """The answer of the echo service to an order."""
        task = self.watch(session, self.create(session, **order))[-1]
        assert task.status.state == types.Succeed, self.task(session, task.metadata.id).status.events
        return json.loads(task.spec.output)

    def failure(self, session: str, **order: Any) -> str:
        """The message of the event that says why the task failed."""
        id = self.create(session, **order)
        assert self.watch(session, id)[-1].status.state == types.Failed
        return next(
            str(event.message) for event in self.task(session, id).status.events if event.code == types.Failed
        )

    def close_session(self, session: str) -> Any:
        return self.frontend.CloseSession(messages.CloseSessionRequest(session_id=session))

    def get_session(self, session: str) -> Any:
        return self.frontend.GetSession(messages.GetSessionRequest(session_id=session))

    def executors(self) -> list[Any]:
        return list(self.frontend.ListExecutor(messages.ListExecutorRequest()).executors)

    def send(self, descriptor: flight.FlightDescriptor, *rows: bytes) -> dict[str, Any]:
        """Put or patch, as the descriptor says: the reference in the answer."""
        import bson

        writer, reader = self.flight.do_put(descriptor, ROWS)
        for row in rows:
            writer.write_batch(
                pa.record_batch([pa.array([0], pa.uint64()), pa.array([row], pa.binary())], schema=ROWS)
            )
        writer.done_writing()
        answer = reader.read()
        writer.close()  # raises what the server said
        return dict(bson.decode(bytes(answer)))

    def put(self, key: str, *rows: bytes) -> dict[str, Any]:
        return self.send(flight.FlightDescriptor.for_path(key), *rows)

    def patch(self, key: str, row: bytes) -> dict[str, Any]:
        return self.send(flight.FlightDescriptor.for_command(f"PATCH:{key}".encode()), row)

    def get(self, key: str, version: int = 0) -> list[tuple[int, str, bytes]]:
        """The rows that a client with this version gets."""
        table = self.flight.do_get(flight.Ticket(f"{key}:{version}".encode())).read_all()
        return [(row["version"], row["kind"], row["data"]) for row in table.to_pylist()]

    def delete(self, key: str) -> None:
        assert [result.body.to_pybytes() for result in self.flight.do_action(("DELETE", key.encode()))] == [b"OK"]


class Engines:
    """Starts engines and ends what is left of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.homes: list[Path] = []
        self.clients: list[Client] = []

    def home(self) -> Path:
        """A home that nobody has used."""
        self.homes.append(self.folder / uuid.uuid4().hex[:8])
        return self.homes[-1]

    def start(self, home: Path, **environment: str) -> Client:
        """An engine in this home, and a client of it."""
        done = localflame(home, "start", **environment)
        assert done.returncode == 0, done.stderr
        where = json.loads(done.stdout)
        self.clients.append(Client(home, where["endpoint"], where["cache_endpoint"]))
        return self.clients[-1]

    def end(self) -> None:
        for client in self.clients:
            client.close()
        for home in self.homes:
            if find(home):
                stop(home)
