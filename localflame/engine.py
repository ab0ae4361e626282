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
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flamewire.failpoints import failpoint
from localflame.control import ask
from localflame.home import EngineError, Home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from localflame.control_service import ControlService
    from localflame.servers import Servers

log = logging.getLogger("localflame")

#: Seconds without a task or a connection after which the engine leaves; LOCALFLAME_IDLE overrides it.
IDLE_TIMEOUT = 15 * 60.0
#: Seconds that an engine of the same home has to leave, before a new one gives up.
TAKEOVER_TIMEOUT = 20.0
#: Seconds between two looks at the home and the sockets.
SUPERVISION_INTERVAL = 1.0
#: Open files that the engine may have, where the system lets it.
DESCRIPTORS = 65_536


def serve(path: Path, report: int | None) -> int:
    """Run the engine of a home; the exit code. Raises EngineError where it cannot start.

    Whoever started it with a `report` is told of the engine that runs already, where one does.
    """
    umask = os.umask(0o077)
    home = Home(path)
    try:
        home.prepare()
        with _engine_lock(home) as lock:
            return asyncio.run(_run(home, lock, umask, report))
    except AlreadyRuns as error:
        if report is None:
            raise
        _report(report, error.status)
        return 0
    except (EngineError, OSError) as error:
        sentence = str(error) if isinstance(error, EngineError) else home.describe_error(error)
        if report is None:
            raise EngineError(sentence) from error
        _report(report, {"error": sentence})
        return 5


class AlreadyRuns(EngineError):
    """This home has an engine; `status` is what it says."""

    def __init__(self, home: Home, status: dict[str, Any]) -> None:
        super().__init__(f"An engine runs in {home.path} already (pid {status['pid']}, {status['endpoint']}).")
        self.status = status


@contextlib.contextmanager
def _engine_lock(home: Home) -> Iterator[int]:
    """Be the engine of this home: the descriptor of its lock. Waits for one that is leaving.

    The lock goes with the process, so that whoever waits for the lock (`stop`) waits for the end of the process.
    """
    deadline = time.monotonic() + TAKEOVER_TIMEOUT
    while (lock := home.try_lock()) is None:
        status = ask(home, {"do": "status"})
        if status is not None:
            raise AlreadyRuns(home, status)
        if time.monotonic() > deadline:
            raise EngineError(f"Another process holds {home.path} and does not answer; see {home.log}.")
        time.sleep(0.02)
    yield lock


@contextlib.contextmanager
def _sockets(home: Home) -> Iterator[Path]:
    """A fresh folder for sockets, and the record that says where it is; both go in the end."""
    folder = home.make_sockets()
    record = {"pid": os.getpid(), "sockets": str(folder), "home": home.identity()}
    try:
        home.write_json(home.record, record)
        yield folder
    finally:
        home.remove_sockets(record)


async def _run(home: Home, lock: int, umask: int, report: int | None) -> int:
    # Loaded here: gRPC and Arrow are most of the time that a start takes.
    from localflame import peers
    from localflame.activity import Activity
    from localflame.control_service import ControlService
    from localflame.controller import Controller
    from localflame.frontend import Frontend
    from localflame.instance.leftovers import end_leftovers
    from localflame.metrics import Metrics
    from localflame.scheduler import Scheduler
    from localflame.servers import Servers
    from localflame.store import Store

    # Started in the background, it writes to the home's log; in the foreground, to wherever it was told to.
    rotate_log = home.rotate_log if report is not None else _keep_log
    _set_up_logging(rotate_log)
    _raise_descriptor_limit()
    started, activity, shutdown = time.monotonic(), Activity(), Shutdown()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, shutdown.begin, "asked by a signal")
    if peers.IDENTIFIES_PEERS and not peers.can_identify_peers():
        raise EngineError(
            "This system does not say whose connections are whose (/proc/net/tcp), so nobody could be served."
        )
    with _sockets(home) as folder:
        failpoint("engine: starting")
        leftovers = end_leftovers(home)
        if leftovers:
            log.warning("ended %d processes that an engine left behind", leftovers)
        with contextlib.closing(Store(home.database)) as store:
            servers = Servers(folder, home.read_json(home.ports))
            metrics = Metrics()
            metrics.started.set({(): round(time.time(), 3)})
            controller = Controller(store, metrics)
            await controller.register_default_applications()
            # What instances find in their environment. Flame's clients know addresses; ours take the shorter ways.
            endpoints = {**servers.endpoints, "LOCALFLAME_FILE": str(home.database)}
            scheduler = Scheduler(controller, home, folder, endpoints, umask)
            about = _about(home, servers)
            service = ControlService(about, started, store, controller, scheduler, activity, shutdown)
            await servers.start(Frontend(controller, scheduler, activity), store, activity, metrics, service.serve)
            home.write_json(home.ports, servers.ports)
            log.info("serving %s, %s", servers.endpoint, servers.cache_endpoint)
            failpoint("engine: serving")
            _report(report, about)
            if report is None:
                print(json.dumps(about), flush=True)

            watchers = [
                asyncio.create_task(_leave_when_idle(shutdown, service, servers)),
                asyncio.create_task(_supervise(home, lock, shutdown, servers, rotate_log)),
            ]
            reason = await shutdown.wait()
            log.info("leaving: %s", reason)
            for watcher in watchers:
                watcher.cancel()
            await servers.stop_accepting()
            await scheduler.stop()
            ended = await servers.stop()
    if not ended:  # everything is written and closed, but a server that still waits would keep the interpreter, too
        log.warning("left, although clients still hold calls that they have begun")
        os._exit(0)
    return 0


def _about(home: Home, servers: Servers) -> dict[str, Any]:
    """The part of the status that stays the same: where the engine is."""
    from localflame.servers import NAMES

    return {
        "endpoint": servers.endpoint,
        "cache_endpoint": servers.cache_endpoint,
        "sockets": str(servers.folder),
        "serves": NAMES,
        "pid": os.getpid(),
        "home": str(home.path),
    }


class Shutdown:
    """The end of the engine: asked for once, with a reason."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._reason = ""

    def begin(self, reason: str) -> None:
        """The first reason counts."""
        self._reason = self._reason or reason
        self._asked.set()

    async def wait(self) -> str:
        """The reason, as soon as there is one."""
        await self._asked.wait()
        return self._reason


def _keep_log() -> None:
    """Leave a log alone that is not ours."""


def _set_up_logging(rotate_log: Callable[[], None]) -> None:
    handler = _Handler(rotate_log)
    handler.setFormatter(_Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # pyarrow 26 appends the traceback of an error to the message that the client gets.
    sys.tracebacklimit = 0


class _Handler(logging.StreamHandler[Any]):
    """Writes to standard error."""

    def __init__(self, rotate_log: Callable[[], None]) -> None:
        super().__init__(sys.stderr)
        self._rotate_log = rotate_log

    def emit(self, record: logging.LogRecord) -> None:
        self._rotate_log()
        super().emit(record)


class _Formatter(logging.Formatter):
    """Prints tracebacks whatever sys.tracebacklimit is."""

    def formatException(self, ei: Any) -> str:
        return "".join(traceback.format_exception(*ei, limit=50))


def _raise_descriptor_limit() -> None:
    """Each conversation and each client takes some. What the engine starts has the same limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # macOS has a lower limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _report(report: int | None, content: dict[str, Any]) -> None:
    """Say to the process that started this one how it went."""
    if report is not None:
        with contextlib.suppress(OSError):  # it did not wait
            os.write(report, json.dumps(content).encode() + b"\n")
        with contextlib.suppress(OSError):
            os.close(report)


async def _supervise(
    home: Home, lock: int, shutdown: Shutdown, servers: Servers, rotate_log: Callable[[], None]
) -> None:
    """Find out what somebody does to the engine's files under it."""
    while True:
        try:
            await servers.supervise(SUPERVISION_INTERVAL)
            rotate_log()
            if not home.is_held_by(lock):
                shutdown.begin(f"its home {home.path} is gone")
                return
        except EngineError as error:
            shutdown.begin(str(error))
            return
        except OSError as error:  # no descriptor, no room: it may get better
            log.error("the engine's files could not be looked at: %s", error)


async def _leave_when_idle(shutdown: Shutdown, service: ControlService, servers: Servers) -> None:
    try:
        limit = float(os.environ.get("LOCALFLAME_IDLE", IDLE_TIMEOUT))
    except ValueError:
        limit = IDLE_TIMEOUT
    while True:
        await asyncio.sleep(min(max(limit / 4, 0.1), 15.0))
        # An idle instance has a connection too; it goes when its application's delay_release is over.
        if service.open_tasks() or servers.connections():
            service.activity.touch()
        elif service.activity.idle() >= limit:
            shutdown.begin(f"nobody has needed this engine for {limit:.0f} seconds")
            return
