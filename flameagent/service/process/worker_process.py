"""The process of a worker, as its instance has it: forked by a nursery, or started.

The first instance starts its worker, which founds a nursery on the way; the others wait for that one and have theirs
forked. Wherever anything is not as it should be, a worker is started, as if there were no nurseries.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from flameagent.service.process.connection import Connection
from flameagent.service.process.messages import (
    Declined,
    Ended,
    Fork,
    Forked,
    FromNursery,
    Leave,
    decode,
    encode,
)
from flameagent.service.process.nursery_place import (
    MOST,
    OWN,
    NoNurseryError,
    Place,
    is_stopped,
    members,
    starter,
)

if TYPE_CHECKING:
    import subprocess

_FOUNDING_PATIENCE = 30.0
"""Seconds that an instance waits for another's worker to import the agent and found the nursery."""
_FORK_PATIENCE = 30.0
"""Seconds that a nursery has to fork, behind all who asked before; one that was stopped is not waited for."""
_LOOK_EVERY = 0.01
"""Seconds between two looks for a nursery that is being founded."""
_EXIT_CODE_PATIENCE = 1.0
"""Seconds in which a nursery tells the exit code of a worker that has ended."""


class WorkerProcess(Protocol):
    """A worker's process, which leads a process group of its own."""

    @property
    def code(self) -> int | None:
        """Its exit code, or minus the number of the signal that ended it; None where nobody knows."""

    def ended(self, timeout: float | None = 0.0) -> bool:
        """Wait so many seconds for its end, None for ever: whether it has ended."""

    def kill(self) -> None:
        """End it and its children now, and wait for its end."""


class Spawned:
    """A worker that was started: a child of this process."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen

    @property
    def code(self) -> int | None:
        return self._popen.returncode

    def ended(self, timeout: float | None = 0.0) -> bool:
        from subprocess import TimeoutExpired

        with contextlib.suppress(TimeoutExpired):
            self._popen.wait(timeout)
            return True
        return False

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()


class ForkedWorker:
    """A worker that a nursery has forked: a child of the nursery, which keeps its ID until `control` is closed."""

    def __init__(self, pid: int, control: socket.socket) -> None:
        self._pid = pid
        self._control = control
        self._session = os.getsid(pid)
        self._pidfd = os.pidfd_open(pid)
        self._one_reader = threading.Lock()
        self._over = False
        self.code: int | None = None

    def ended(self, timeout: float | None = 0.0) -> bool:
        if not (self._over or _readable(self._pidfd, timeout)):
            return False
        with self._one_reader:
            if not self._over and _readable(self._control, _EXIT_CODE_PATIENCE):
                message = _receive(self._control)
                self.code = message.code if isinstance(message, Ended) else None
            self._over = True
        return True

    def kill(self) -> None:
        if self._control.fileno() < 0:
            return
        # While the nursery lives, the ID is this worker's; when it has gone, as long as the worker has not ended.
        with contextlib.suppress(ProcessLookupError):
            if not self.ended() or self._kept():
                os.killpg(self._pid, signal.SIGKILL)
            else:
                self._kill_children()
        self.ended(None)
        self._control.close()
        os.close(self._pidfd)

    def _kept(self) -> bool:
        """True if the nursery lives, which keeps the ID."""
        with contextlib.suppress(OSError):
            return not _readable(self._control, 0.0) or self._control.recv(1, socket.MSG_PEEK) != b""
        return False

    def _kill_children(self) -> None:
        """Kill what is left of its group: what belongs to it is of the nursery's session, too."""
        for pid in members(self._pid, self._session):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Workers:
    """Makes the workers of one instance. `say` is given a sentence where none can be forked, once."""

    def __init__(self, target: str, endpoint: str, say: Callable[[str], None]) -> None:
        self._target = target
        self._endpoint = endpoint
        self._say = say

    def start(self, output: int, cancelled: threading.Event) -> tuple[WorkerProcess, Connection]:
        """A worker with that output, and the connection to it; takes as long as a nursery that is being founded.

        Gives up waiting for one when it is `cancelled`. Raises OSError where there can be no other process.
        """
        try:
            if os.environ.get("AGENT_FORK") == "off":
                raise NoNurseryError("AGENT_FORK is off")
            return self._forked(Place.find(self._target, self._endpoint), output, cancelled)
        except (NoNurseryError, OSError) as error:
            if cancelled.is_set():
                raise OSError("it is not needed any more") from None
            self._say(f"The agent's worker is not forked but started, which takes longer: {error}.")
            self._say = lambda _: None
            return self._spawned(output)

    def fork(self, output: int, cancelled: threading.Event) -> tuple[WorkerProcess, Connection]:
        """A worker of a nursery that there is, with that output, and the connection to it. Raises OSError."""
        try:
            if (forked := _ask(Place.find(self._target, self._endpoint), output)) is not None:
                return forked
        except NoNurseryError as error:
            raise OSError(str(error)) from None
        raise OSError("there is no nursery")

    def _forked(self, place: Place, output: int, cancelled: threading.Event) -> tuple[WorkerProcess, Connection]:
        if refusal := place.refusal():
            raise NoNurseryError(refusal)
        deadline = time.monotonic() + _FOUNDING_PATIENCE
        while True:
            if (worker := _ask(place, output)) is not None:
                return worker
            if (lock := place.lock()) is not None:
                try:
                    return self._founder(place, lock, output)
                finally:
                    os.close(lock)
            if place.holder_is_stopped():
                raise NoNurseryError("the process that would fork it was stopped")
            if cancelled.wait(_LOOK_EVERY) or time.monotonic() > deadline:
                raise NoNurseryError("the one that would fork it has not imported the agent yet")

    def _founder(self, place: Place, lock: int, output: int) -> tuple[WorkerProcess, Connection]:
        """A worker that founds the nursery on the way, if there is room for one."""
        if refusal := place.refusal():  # that of who had the lock before
            raise NoNurseryError(refusal)
        others = place.others()
        if len(others) >= MOST and not any(map(_has_left, others)):
            raise NoNurseryError(f"{MOST} nurseries are at work for other settings or agents")
        keeper = os.pidfd_open(starter())
        try:
            return self._spawned(output, place.argument(lock, keeper), pass_fds=(lock, keeper))
        finally:
            os.close(keeper)

    def _spawned(
        self, output: int, *arguments: str, pass_fds: tuple[int, ...] = ()
    ) -> tuple[WorkerProcess, Connection]:
        import subprocess  # which who has a nursery does without

        ours, theirs = socket.socketpair()
        with ours, theirs:
            number = theirs.fileno()
            module = "flameagent.service.process.worker"
            # Its own process group: it and the children of tools can be ended together, and Flame's SIGTERM to
            # our group does not strike it inside a write.
            popen = subprocess.Popen(
                [sys.executable, "-u", "-m", module, self._target, str(number), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[number, *pass_fds],
                start_new_session=True,
            )
            return Spawned(popen), Connection(ours.detach())


def _ask(place: Place, output: int) -> tuple[WorkerProcess, Connection] | None:
    """Have a nursery fork a worker; None where there is no nursery, or it has just left. Raises `NoNurseryError`.

    The socket pair is of this attempt alone: a nursery that answers too late, or dies before it does, leaves a worker
    all the same, which then finds the other end closed.
    """
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours, theirs = socket.socketpair()
    with control, ours, theirs:
        control.settimeout(_FORK_PATIENCE)
        try:
            control.connect(place.socket)
        except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):  # the last: too many ask at once
            return None
        nursery, user, _ = struct.unpack("3i", control.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if user != os.geteuid():
            raise NoNurseryError("another user listens in the nursery's place")
        asked = Fork({name: os.environ.get(name) for name in OWN}, _umask())
        try:
            socket.send_fds(control, [encode(asked)], [theirs.fileno(), output])
        except (BrokenPipeError, ConnectionResetError):
            return None
        deadline = time.monotonic() + _FORK_PATIENCE
        while not _readable(control, 0.2):
            if is_stopped(nursery) or time.monotonic() > deadline:
                raise NoNurseryError("the nursery does not answer")
        answer = _receive(control)
        if isinstance(answer, Declined) and answer.reason:
            raise NoNurseryError(answer.reason)
        if not isinstance(answer, Forked):
            return None
        kept = socket.socket(fileno=control.detach())
        kept.settimeout(_EXIT_CODE_PATIENCE)
        return ForkedWorker(answer.pid, kept), Connection(ours.detach())


def _has_left(other: str) -> bool:
    """Ask a nursery to leave: whether it has."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control:
        control.settimeout(1.0)
        control.connect(other)
        control.send(encode(Leave()))
        control.recv(1)
    return not os.path.exists(other)


def _receive(control: socket.socket) -> FromNursery | None:
    """The next message; None where the nursery has gone, or says nothing within the socket's time."""
    try:
        text = control.recv(65536)
        found: FromNursery | None = decode(text, FromNursery) if text else None
        return found
    except (OSError, ValueError):
        return None


def _readable(what: int | socket.socket, timeout: float | None) -> bool:
    poller = select.poll()
    poller.register(what, select.POLLIN)
    return bool(poller.poll(None if timeout is None else timeout * 1000))


def _umask() -> int:
    """This process's: Linux tells it, so nobody else is without one for a moment."""
    with open("/proc/self/status", encoding="utf-8", errors="replace") as status:
        for line in status:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    raise NoNurseryError("the system does not tell the mask of new files")
