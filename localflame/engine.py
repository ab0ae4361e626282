"""The engine's process: the frontend, the object cache and the control socket of one home.

It reports once that it serves (or why it cannot), runs until it is asked to leave or nobody has needed
it for a while, and then ends its instances before it goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localflame.control import ask
from localflame.home import EngineError, Home
from localflame.killpoints import reach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from localflame.controller import Controller
    from localflame.scheduler import Scheduler

log = logging.getLogger("localflame")

#: Seconds without a task or a connection after which the engine leaves; LOCALFLAME_IDLE overrides it.
IDLE = 15 * 60.0
#: Seconds that an engine of the same home has to leave, before a new one gives up.
TAKEOVER_PATIENCE = 20.0
#: Bytes of one request on the control socket.
REQUEST_LIMIT = 4 * 1024**2


def serve(path: Path, report: int | None) -> int:
    """Run the engine of a home; the exit code. Raises EngineError where it cannot start."""
    umask = os.umask(0o077)
    home = Home(path)
    try:
        home.prepare()
        with _held(home):
            return asyncio.run(_run(home, umask, report))
    except EngineError as error:
        if report is None:
            raise
        _tell(report, {"error": str(error)})
        return 5


@contextlib.contextmanager
def _held(home: Home) -> Iterator[None]:
    """Be the engine of this home. Waits for one that is leaving.

    The lock goes with the process, so that whoever waits for the lock (`stop`) waits for the end of the process.
    """
    deadline = time.monotonic() + TAKEOVER_PATIENCE
    while home.try_lock() is None:
        status = ask(home, {"do": "status"})
        if status is not None:
            raise EngineError(f"An engine runs in {home.path} already (pid {status['pid']}, {status['endpoint']}).")
        if time.monotonic() > deadline:
            raise EngineError(f"Another process holds {home.path} and does not answer; see {home.log}.")
        time.sleep(0.02)
    try:
        yield
    finally:
        home.remove_sockets()


async def _run(home: Home, umask: int, report: int | None) -> int:
    # Loaded here: gRPC and Arrow are most of the time that a start takes.
    import grpc

    from localflame import peers
    from localflame.activity import Activity
    from localflame.cache import Cache
    from localflame.controller import Controller
    from localflame.frontend import WIRE_LIMIT, Frontend
    from localflame.scheduler import Scheduler
    from localflame.shim import end_leftovers
    from localflame.store import Store

    _set_up_logging()
    started, activity, leave = time.monotonic(), Activity(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave.set)
    if not peers.known():
        raise EngineError(
            "This system does not say whose connections are whose (/proc/net/tcp), so nobody could be served."
        )
    sockets = home.make_sockets()
    home.write(home.record, {"pid": os.getpid(), "sockets": str(sockets)})
    reach("engine: starting")
    leftovers = end_leftovers(home)
    if leftovers:
        log.warning("ended %d processes that an engine left behind", leftovers)

    store = Store(home.database)
    try:
        kept = home.read(home.ports)
        cache = _cache(lambda port: Cache(store, activity, port), kept.get("cache"))
        controller = Controller(store)
        await controller.register_default_applications()
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", WIRE_LIMIT)])
        port = _bind(server, kept.get("frontend"))
        endpoint = f"http://127.0.0.1:{port}"
        endpoints = {"FLAME_ENDPOINT": endpoint, "FLAME_CACHE_ENDPOINT": cache.endpoint}
        scheduler = Scheduler(controller, home, sockets, endpoints, umask)
        frontend = Frontend(controller, scheduler, activity)
        frontend.port = port
        server.add_generic_rpc_handlers((frontend,))
        await server.start()
        home.write(home.ports, {"frontend": port, "cache": cache.port})
        about = {"endpoint": endpoint, "cache_endpoint": cache.endpoint, "pid": os.getpid(), "home": str(home.path)}
        service = _ControlService(about, started, controller, scheduler, activity, leave)
        control = await asyncio.start_unix_server(service.serve, sockets / "control", limit=REQUEST_LIMIT)
        log.info("serving %s, %s", endpoint, cache.endpoint)
        reach("engine: serving")
        _tell(report, about)
        if report is None:
            print(json.dumps(about), flush=True)

        watcher = asyncio.create_task(_leave_when_idle(leave, service, (port, cache.port)))
        await leave.wait()
        log.info("leaving")
        watcher.cancel()
        control.close()
        (sockets / "control").unlink(missing_ok=True)
        await server.stop(grace=0)
        await scheduler.stop()
        await asyncio.to_thread(cache.shutdown)
    finally:
        store.close()
    return 0


def _set_up_logging() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # pyarrow 26 appends the traceback of an error to the message that the client gets.
    sys.tracebacklimit = 0


class _Formatter(logging.Formatter):
    """Prints tracebacks whatever sys.tracebacklimit is."""

    def formatException(self, ei: Any) -> str:
        return "".join(traceback.format_exception(*ei, limit=50))


def _cache(make: Callable[[int], Any], preferred: object) -> Any:
    """The object cache on the port it had before, or on any."""
    from pyarrow import ArrowException

    if isinstance(preferred, int):
        with contextlib.suppress(OSError, ArrowException):
            return make(preferred)
    try:
        return make(0)
    except (OSError, ArrowException) as error:
        raise EngineError(f"No loopback port could be had for the object cache: {error}.") from error


def _bind(server: Any, preferred: object) -> int:
    """Bind the frontend to the port it had before, or to any."""
    if isinstance(preferred, int):
        with contextlib.suppress(RuntimeError):
            return int(server.add_insecure_port(f"127.0.0.1:{preferred}"))
    try:
        return int(server.add_insecure_port("127.0.0.1:0"))
    except RuntimeError as error:
        raise EngineError(f"No loopback port could be had for the frontend: {error}.") from error


def _tell(report: int | None, content: dict[str, Any]) -> None:
    """Say to the process that started this one how it went."""
    if report is not None:
        with contextlib.suppress(OSError):  # it did not wait
            os.write(report, json.dumps(content).encode() + b"\n")
        with contextlib.suppress(OSError):
            os.close(report)


async def _leave_when_idle(leave: asyncio.Event, service: _ControlService, ports: tuple[int, ...]) -> None:
    from localflame.peers import connections

    try:
        limit = float(os.environ.get("LOCALFLAME_IDLE", IDLE))
    except ValueError:
        limit = IDLE
    while True:
        await asyncio.sleep(min(max(limit / 4, 0.1), 15.0))
        # An idle instance has a connection too; it goes when its application's delay_release is over.
        if service.open_tasks() or any(connections(port) for port in ports):
            service.activity.touch()
        elif service.activity.idle() >= limit:
            log.info("nobody has needed this engine for %.0f seconds", limit)
            leave.set()
            return


def _is_another_folder(folder: str, than: str) -> bool:
    """Whether `folder` exists and is not `than` by another name."""
    return Path(folder).is_dir() and Path(folder).resolve() != Path(than).resolve()


@dataclass
class _ControlService:
    """What the control socket answers."""

    about: dict[str, Any]
    started: float
    controller: Controller
    scheduler: Scheduler
    activity: Any
    leave: asyncio.Event

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, until it hangs up."""
        with contextlib.suppress(ConnectionError, ValueError):  # ValueError: a line beyond the limit
            while line := await reader.readline():
                with self.activity.busy():
                    answer = await self._answer(line)
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        from localflame.errors import FlameError, Refused
        from localflame.store import StoreError

        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict):
            return {"error": "A request is one JSON object on one line."}
        try:
            match request.pop("do", None):
                case "status":
                    return self.status()
                case "application":
                    await self._application(**request)
                case "settings":
                    self._settings(**request)
                case "stop":
                    self.leave.set()
                case other:
                    return {
                        "error": f"This engine does not know the request {other!r}; it may be older than its client."
                    }
        except (EngineError, FlameError, Refused, StoreError) as error:
            return {"error": str(error)}
        except Exception as error:
            log.exception("a request on the control socket failed")
            return {"error": f"The engine could not do this: {error}; see its log."}
        return {"ok": True}

    def open_tasks(self) -> int:
        """Tasks that have not ended."""
        return sum(len(session.tasks) for session in self.controller.sessions.values())

    def status(self) -> dict[str, Any]:
        """See Control.status."""
        from localflame.controller import OPEN, STATES

        sessions = self.controller.sessions.values()
        opened = sum(session.state == OPEN for session in sessions)
        return {
            **self.about,
            "uptime": round(time.monotonic() - self.started, 3),
            "sessions": {"open": opened, "closed": len(sessions) - opened},
            "tasks": {
                name.lower(): sum(session.counts[state] for session in sessions) for state, name in STATES.items()
            },
            "instances": len(self.scheduler.executors),
            "spares": len(self.scheduler.spares),
            "executors": self.scheduler.limit,
        }

    def _settings(self, session_id: str, environment: dict[str, str], clear: list[str]) -> None:
        from localflame.scheduler import Settings

        named = environment.items() if isinstance(environment, dict) else [(environment, None)]
        texts = [session_id, *clear, *(text for variable in named for text in variable)]
        if not all(isinstance(text, str) for text in texts):  # else no instance of the session could be started
            raise EngineError("Settings are texts: a session's ID, variables and their values, and globs.")
        self.scheduler.settings(session_id, Settings(environment, tuple(clear)))

    async def _application(
        self, name: str, folder: str, environments: dict[str, str], spare: bool, **fields: Any
    ) -> None:
        """See Control.application."""
        from localflame.applications import full_application_spec
        from localflame.protos import types

        spec = full_application_spec(
            types.ApplicationSpec(
                shim=types.Host,
                working_directory=folder,
                environments=[types.Environment(name=key, value=value) for key, value in environments.items()],
                **fields,
            )
        )
        known = self.controller.applications.get(name)
        if known is None:
            await self.controller.register_application(name, spec)
        elif (other := known.spec.working_directory) and _is_another_folder(other, folder):
            raise EngineError(
                f"The application {name} runs in {other} on this engine, not in {folder}; "
                "use that folder, or another LOCALFLAME_HOME for this one."
            )
        elif known.spec != spec:
            await self.controller.replace_application(name, spec)
        self.scheduler.spares.want(name, spare)
