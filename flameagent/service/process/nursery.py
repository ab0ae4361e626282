"""The nursery: a process that has imported the agent once, and forks workers for the instances of a node.

It begins as a copy of the first worker, made when that has imported the agent and has used nothing yet. It has one
thread, opens no connection and makes no event loop: what it forks is what a fresh worker is after its imports. Nobody
depends on it: without it, whoever needs a worker starts one (`worker_process.py`); when it is killed, workers go on.

It leaves when the agent's code has changed, when its socket is not its own any more, when it had nothing to do for
long, and at once when the process that starts the instances has ended.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import selectors
import signal
import socket
import struct
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from flameagent.service.process.connection import Connection
from flameagent.service.process.messages import (
    Declined,
    Ended,
    Fork,
    Forked,
    FromNursery,
    Leave,
    ToNursery,
    decode,
    encode,
)
from flameagent.service.process.nursery_place import Place
from flameagent.service.process.sources import Sources
from flamewire.failpoints import failpoint

LONGEST = 65536
"""Bytes of a message to a nursery, or from one."""
_IDLE = 600.0
"""Seconds after its last worker in which it stays."""
_LOOK_EVERY = 1.0
"""Seconds between two looks at what it depends on."""
_BACKLOG = 4096
"""Instances that wait to be accepted; the kernel has a limit of its own (net.core.somaxconn)."""
_PAUSE = 0.05
"""Seconds without accepting where there is no descriptor left."""
_EMPTY = sys.getsizeof(b"")
_SMALLEST: dict[int, Callable[[], object]] = {16: object, 32: complex}
"""What makes an object of so many bytes, where they are too few for bytes."""


@dataclass(frozen=True)
class Brood:
    """What a nursery's workers are of: the agent (`MODULE[:OBJECT]`), the code that was imported for it, what is run
    before there are any of them, and what each does with the connection that it is given."""

    target: str
    sources: Sources
    rehearse: Callable[[], None]
    serve: Callable[[Connection], None]


@dataclass(frozen=True)
class Founding:
    """What a worker needs that is to found a nursery: its place with the lock of it, and the process that starts the
    instances, as a pidfd."""

    place: Place
    lock: int
    keeper: int
    threads: frozenset[str] = field(default_factory=lambda: frozenset(_threads()))
    descriptors: frozenset[str] = field(default_factory=lambda: frozenset(_open_descriptors()))

    @classmethod
    def parse(cls, text: str) -> Founding:
        """Read what `Place.argument` has written, before the agent is imported: notes what is open then.

        Those of Arrow's allocator and of numpy's OpenBLAS may stay: they look after themselves around a fork.
        """
        import pyarrow  # noqa: F401 - which imports numpy

        lock, keeper, name, folder = text.split(":", 3)
        founding = cls(Place(folder, name), int(lock), int(keeper))
        for descriptor in (founding.lock, founding.keeper):
            os.set_inheritable(descriptor, False)
        founding.place.note_holder(founding.lock)
        return founding

    def found(self, connection: Connection, brood: Brood) -> socket.socket | None:
        """Make the nursery, a copy of this process, or say that it cannot be. Does not raise.

        `connection` is this worker's own. Returns a connection to the nursery, by which a byte comes when it has
        rehearsed, and the end of file when it has ended; None where there is no nursery.
        """
        try:
            if unsafe := self._unsafe():
                print(f"Workers cannot be forked of this agent: {unsafe}.", file=sys.stderr)
                self.place.refuse(brood.target, unsafe, brood.sources.digests())
                return None
            return self._leave_copy(connection, brood)
        except OSError as error:
            print(f"Workers cannot be forked here: {error}.", file=sys.stderr)
            return None
        finally:
            os.close(self.lock)
            os.close(self.keeper)

    def _unsafe(self) -> str:
        """What the agent has done while it was imported that a fork would copy by half."""
        if started := _threads() - self.threads:
            names = {str(thread.native_id): thread.name for thread in threading.enumerate()}
            return f"it starts a thread while it is imported ({', '.join(names.get(each, each) for each in started)})"
        if has_children():
            return "it starts a process while it is imported"
        for descriptor, opened in _open_descriptors().items():
            if descriptor not in self.descriptors:
                return f"it opens something while it is imported ({opened})"
        if getattr(sys.modules.get("tempfile"), "tempdir", None) is not None:
            return "it looks for the folder of temporary files while it is imported"
        return ""

    def _leave_copy(self, connection: Connection, brood: Brood) -> socket.socket:
        sys.stdout.flush()
        sys.stderr.flush()
        generators = _generators()  # which writes to all objects: before the fork, so that the pages stay shared
        nursery, founder = socket.socketpair()
        failpoint("nursery: before it is founded")
        if middle := _fork():
            founder.close()
            os.waitpid(middle, 0)
            return nursery
        with _exit_after():
            os.setsid()
            if not _fork():  # nobody's child, so nobody has to wait for it
                nursery.close()
                connection.close()
                Nursery(self.place, self.lock, self.keeper, founder, brood, generators).run()
        raise AssertionError("a copy does not come here")


@dataclass
class _Client:
    """Who asked for a worker: an instance, or who needs the place. `pid` is the worker's, 0 before there is one."""

    connection: socket.socket
    pid: int = 0
    told: bool = False

    @property
    def gone(self) -> bool:
        return self.connection.fileno() < 0


class Nursery:
    """Forks workers for whoever asks at its socket."""

    def __init__(
        self,
        place: Place,
        lock: int,
        keeper: int,
        founder: socket.socket,
        brood: Brood,
        generators: list[Callable[[], object]],
    ) -> None:
        self._place = place
        self._lock = lock
        self._keeper = keeper
        self._founder = founder  # the worker that has founded it
        self._brood = brood
        self._generators = generators
        self._rehearsed = False
        self._filling: list[object] = []
        self._clients: dict[int, _Client] = {}
        self._workers: dict[int, _Client] = {}
        self._leaving = False
        self._used = self._looked = time.monotonic()

    def run(self) -> None:
        """Serve until it is time to leave, and the last worker has ended."""
        self._become_daemon()
        self._place.note_holder(self._lock)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as self._listener:
            self._listen()
            failpoint("nursery: listening")
            while not self._leaving or self._workers:
                events = self._selector.select(_LOOK_EVERY)
                for key, _ in events:
                    key.data(key.fd)
                self._look_around()
                if not (events or self._rehearsed or self._leaving):  # nobody waits
                    self._rehearse()
            self._stop_listening()

    def _become_daemon(self) -> None:
        _be_called("agent-nursery")
        with Path(os.devnull).open("r+b") as nowhere:
            for descriptor in (0, 1, 2):
                os.dup2(nowhere.fileno(), descriptor)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._woken, wake = socket.socketpair()
        for end in (self._woken, wake):
            end.setblocking(False)
        self._wake = wake
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)

    def _listen(self) -> None:
        unfinished = Path(f"{self._place.socket}.{os.getpid()}")
        self._listener.bind(os.fspath(unfinished))
        self._listener.listen(_BACKLOG)
        self._listener.setblocking(False)
        self._inode = unfinished.stat().st_ino
        self._place.forget_refusals(self._brood.target)
        unfinished.rename(self._place.socket)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._woken, selectors.EVENT_READ, self._reap)
        self._selector.register(self._keeper, selectors.EVENT_READ, lambda _: self._leave())

    def _leave(self) -> None:
        """Fork no more; another may found a nursery at once."""
        if not self._leaving:
            self._leaving = True
            self._stop_listening()
            self._selector.unregister(self._keeper)
            self._selector.unregister(self._listener)
            self._listener.close()
            os.close(self._lock)

    def _stop_listening(self) -> None:
        with contextlib.suppress(OSError):
            if self._is_own():
                Path(self._place.socket).unlink()

    def _is_own(self) -> bool:
        """True if who connects comes here."""
        try:
            return Path(self._place.socket).stat().st_ino == self._inode
        except OSError:
            return False

    def _look_around(self) -> None:
        if self._leaving or time.monotonic() - self._looked < _LOOK_EVERY:
            return
        self._looked = time.monotonic()
        idle = not self._workers and time.monotonic() - self._used > _IDLE
        if not self._is_own() or idle or self._brood.sources.changed:
            self._leave()

    def _rehearse(self) -> None:
        """What it leaves behind, against what it promises, a fork would copy by half."""
        self._rehearsed = True
        threads, descriptors = _threads(), _open_descriptors()
        with contextlib.suppress(Exception):  # it is not what a worker is for
            self._brood.rehearse()
        if _threads() - threads or _open_descriptors().keys() - descriptors.keys():
            self._place.refuse(self._brood.target, "its turns leave something open", self._brood.sources.digests())
            self._leave()
        gc.collect()
        self._filling = _fill_holes()
        gc.freeze()
        if not self._leaving:
            with contextlib.suppress(OSError):  # it has ended
                self._founder.send(b"\n")

    def _accept(self, _: int) -> None:
        try:
            connection, _address = self._listener.accept()
        except OSError:  # it has gone again, or there is no descriptor left
            time.sleep(_PAUSE)
            return
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        if struct.unpack("3i", credentials)[1] != os.geteuid():
            connection.close()
            return
        self._clients[connection.fileno()] = _Client(connection)
        self._selector.register(connection, selectors.EVENT_READ, self._read)

    def _read(self, number: int) -> None:
        client = self._clients[number]
        descriptors: list[int] = []
        try:
            text, descriptors, _flags, _address = socket.recv_fds(client.connection, LONGEST, 2)
            message = decode(text, ToNursery) if text else None
        except (OSError, ValueError):
            message = None
        if isinstance(message, Fork) and len(descriptors) == 2 and not client.pid:
            self._fork(client, message, *descriptors)
        elif isinstance(message, Leave) and len(self._workers) <= 1:
            self._leave()
            self._workers.clear()  # the one goes on, as where a nursery is killed
            self._let_go(client)  # who asked reads the end of the connection, and finds the place free
        else:
            self._let_go(client)
        for descriptor in descriptors:
            os.close(descriptor)

    def _let_go(self, client: _Client) -> None:
        """Its worker, if it has one, is of no interest to anybody any more."""
        self._selector.unregister(client.connection)
        del self._clients[client.connection.fileno()]
        client.connection.close()
        self._reap(-1)

    def _fork(self, client: _Client, asked: Fork, connection: int, output: int) -> None:
        failpoint("nursery: before a fork")
        if self._leaving or self._brood.sources.changed:
            self._leave()
            self._tell(client, Declined())
            return
        try:
            pid = _fork()
        except OSError as error:
            self._tell(client, Declined(f"it cannot fork: {error}"))
            return
        if not pid:
            with _exit_after():
                os.setpgid(0, 0)
                self._become_worker(asked, connection, output)
        # Both do it: whoever of the two is later finds it done, and it is done before anybody is told.
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        failpoint("nursery: after a fork")
        client.pid = pid
        self._workers[pid] = client
        self._used = time.monotonic()
        with contextlib.suppress(OSError):
            os.utime(self._place.socket)
        self._tell(client, Forked(pid))

    def _become_worker(self, asked: Fork, connection: int, output: int) -> None:
        """In the child: let go of all that is the nursery's, and be what a worker is after its imports."""
        _be_called("agent-worker")
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, lambda *_: None)
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        os.close(output)
        self._selector.close()
        for client in self._clients.values():
            client.connection.close()
        for end in (self._listener, self._woken, self._wake, self._founder):
            end.close()
        for descriptor in (self._lock, self._keeper):
            os.close(descriptor)
        os.umask(asked.umask)
        for name, value in asked.environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        for seed in self._generators:
            seed()
        failpoint("nursery: in a fork")
        self._brood.serve(Connection(connection))

    def _reap(self, _: int) -> None:
        """Tell of workers that have ended. One that somebody may still signal stays a zombie and keeps its ID."""
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)
        for pid, client in list(self._workers.items()):
            found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None:
                continue
            if not client.told:
                client.told = True
                self._tell(client, Ended(found.si_status if found.si_code == os.CLD_EXITED else -found.si_status))
            if client.gone:
                os.waitpid(pid, 0)
                del self._workers[pid]
                self._used = time.monotonic()

    def _tell(self, client: _Client, message: FromNursery) -> None:
        with contextlib.suppress(OSError):  # it has gone: its end of file comes
            client.connection.send(encode(message))


def has_children() -> bool:
    """True if this process has started others that have not been waited for. Raises OSError where nobody tells."""
    if Path(f"/proc/self/task/{os.getpid()}/children").read_text():
        return True
    for task in list(Path("/proc/self/task").iterdir()):
        with contextlib.suppress(OSError):  # the thread has ended, and its children are another's
            if (task / "children").read_text():
                return True
    return False


def _threads() -> set[str]:
    """This process's threads, by the numbers that the system gave them."""
    return {task.name for task in Path("/proc/self/task").iterdir()}


def _open_descriptors() -> dict[str, str]:
    """This process's descriptors, and what each is of."""
    found = {}
    for link in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(FileNotFoundError):  # that of the list itself
            found[link.name] = str(link.readlink())
    return found


def _fill_holes() -> list[object]:
    """Fill the free places between this process's objects, so that what a worker makes comes to lie together: in the
    holes it would change most of the pages that workers share. What fills them, which has to be kept."""
    error, told = os.dup(2), os.memfd_create("told")
    os.dup2(told, 2)
    try:
        sys._debugmallocstats()
    finally:
        os.dup2(error, 2)
        os.close(error)
    with open(told, "rb") as lines:  # noqa: PTH123 - a descriptor
        lines.seek(0)
        table = [line.split() for line in lines]
    filling: list[object] = []
    for columns in table:  # of each size: its number, bytes, pools, blocks in use, and free ones
        if len(columns) == 5 and all(column.isdigit() for column in columns):
            size, free = int(columns[1]), int(columns[4])
            make = _SMALLEST.get(size) or partial(bytes, size - _EMPTY)
            filling += [make() for _ in range(free)]
    return filling


def _be_called(name: str) -> None:
    """Have lists of processes show this one by that name: its command line is that of the first worker."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name)


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # Python 3.12, of other threads: there are only those that look after themselves
        return os.fork()


@contextlib.contextmanager
def _exit_after() -> Iterator[None]:
    """End this process, a copy, when the block ends: what is further up in the stack is not its business."""
    try:
        yield
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(0)


def _generators() -> list[Callable[[], object]]:
    """What gives each generator of random numbers in this process a state of its own, without running what is not."""
    found: list[Callable[[], object]] = []
    gc.unfreeze()
    numpy = sys.modules.get("numpy.random")
    for each in gc.get_objects():
        kind = type(each)  # isinstance would ask a proxy what it stands for
        if issubclass(kind, random.Random) and not issubclass(kind, random.SystemRandom):
            found.append(each.seed)
        elif numpy is not None and issubclass(kind, numpy.Generator):
            found.append(partial(_seed, each.bit_generator))
        elif numpy is not None and issubclass(kind, numpy.RandomState):
            found.append(each.seed)
    gc.freeze()
    return found


def _seed(bits: Any) -> None:
    bits.state = type(bits)().state
