"""Starting, finding and stopping the engine of a home, from any other process.

`start` is safe to call from many processes at once: they get one engine. The engine that it returns
is this home's, because it was reached over this home's control socket.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localflame.control import ask
from localflame.home import LOG_LIMIT, EngineError, Home, default_home, private_file

#: Seconds that a starting engine has until it answers.
START_TIMEOUT = 40.0
#: Seconds that a stopping engine has: its instances get 6 of them, its databases the rest.
STOP_TIMEOUT = 20.0


_SOCKETS = ("frontend", "cache", "writes")


@dataclass(frozen=True)
class Engine:
    """An engine that answers: at two addresses, and quicker on Unix sockets.

    One of an older release has no sockets.
    """

    endpoint: str
    cache_endpoint: str
    pid: int
    home: Path
    frontend_socket: Path | None = None
    cache_socket: Path | None = None
    writes_socket: Path | None = None

    @classmethod
    def from_status(cls, status: dict[str, Any]) -> Engine:
        """The engine that a status answer describes."""
        sockets = {}
        if "sockets" in status:
            served = status.get("serves", _SOCKETS[:2])  # an older release does not say
            sockets = {f"{name}_socket": Path(status["sockets"]) / name for name in _SOCKETS if name in served}
        return cls(status["endpoint"], status["cache_endpoint"], status["pid"], Path(status["home"]), **sockets)


def find(home: Path | None = None) -> Engine | None:
    """The engine that runs in `home`, or None."""
    status = ask(Home(home or default_home()), {"do": "status"})
    return None if status is None else Engine.from_status(status)


def last_addresses(home: Path) -> tuple[str, str] | None:
    """The endpoint and cache endpoint that the engine of `home` has or had last, and takes again where they are free.

    None where it never ran. Asks nobody.
    """
    place = Home(home)
    ports = place.read_json(place.ports)
    frontend, cache = ports.get("frontend"), ports.get("cache")
    if not (isinstance(frontend, int) and isinstance(cache, int)):
        return None
    return f"http://127.0.0.1:{frontend}", f"grpc://127.0.0.1:{cache}"


def start(home: Path | None = None) -> Engine:
    """The engine of `home`, started where none runs. Raises EngineError with the reason."""
    path = home or default_home()
    engine = find(path)
    if engine is not None:
        return engine
    place = Home(path)
    place.prepare()
    try:
        with place.hold_lock(place.starting):
            return find(path) or _spawn(place)
    except OSError as error:
        raise EngineError(place.describe_error(error)) from error


def stop(home: Path | None = None) -> bool:
    """End the engine of `home` and wait until its process is gone. False where none ran."""
    place = Home(home or default_home())
    if not place.is_locked():
        return False
    running, asked = find(place.path), False
    deadline = time.monotonic() + STOP_TIMEOUT
    while place.is_locked():
        asked = asked or _ask_to_stop(place)
        if running is not None and place.read_engine_record().get("pid", running.pid) != running.pid:
            return True  # it is gone, and somebody has started another
        if time.monotonic() > deadline:
            raise EngineError(f"The engine of {place.path} does not end; its log is {place.log}.")
        time.sleep(0.02)
    return True


def _ask_to_stop(home: Home) -> bool:
    """Ask the engine of `home` to stop. False where it has just begun to start, and has not said yet who it is."""
    if ask(home, {"do": "stop"}) is not None:
        return True
    # It is starting, leaving, or stuck; a signal means the same to it.
    pid = home.read_engine_record().get("pid")
    if not isinstance(pid, int) or not _is_engine(pid):
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    return True


def _is_engine(pid: int) -> bool:
    """True if the process is a localflame at all: the record can be older than the process with its number."""
    found = subprocess.run(["/bin/ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return "localflame" in found.stdout


def _spawn(home: Home) -> Engine:
    """Start `localflame serve` for good: a session of its own, nothing inherited but the pipe on which it reports."""
    with contextlib.suppress(OSError):
        if home.log.stat().st_size > LOG_LIMIT:
            home.log.replace(home.log.with_suffix(".log.1"))
    reads, writes = os.pipe()
    try:
        with private_file(home.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "localflame", "serve", "--report", str(writes)],
                cwd=Path(__file__).resolve().parent.parent,
                env={**os.environ, "LOCALFLAME_HOME": str(home.path)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(writes,),
                start_new_session=True,
            )
    except OSError as error:
        os.close(reads)
        raise EngineError(f"The engine of {home.path} could not be started: {error}.") from error
    finally:
        os.close(writes)
    try:
        report = _read_report(reads)
    finally:
        os.close(reads)
    # The engine outlives this process; Popen would otherwise warn that it still runs.
    child.returncode = 0
    if report is None:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        raise EngineError(f"The engine of {home.path} did not start. The end of {home.log}:\n{home.log_tail()}")
    if "error" in report:
        raise EngineError(report["error"])
    return Engine.from_status(report)


def _read_report(descriptor: int) -> dict[str, Any] | None:
    """The report of the new engine, one JSON line; None where it died or stays silent."""
    deadline = time.monotonic() + START_TIMEOUT
    received = b""
    while not received.endswith(b"\n"):
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        part = os.read(descriptor, 65536) if ready else b""
        if not part:
            return None
        received += part
    report: dict[str, Any] = json.loads(received)
    return report
