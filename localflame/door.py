"""A loopback port in front of a Unix socket, for programs that know addresses only (flamepy, flmctl).

The engine's servers listen on Unix sockets in a folder of mode 0700. Who comes to the port instead is identified
before the first byte is read: a connection of our own user is passed on, and of anybody else's not one byte
reaches a server. A stranger holds none of our descriptors: the connection is refused in the moment it is accepted.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import os
import selectors
import socket
import threading
import time
from typing import TYPE_CHECKING, cast

from localflame import peers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger("localflame.door")

#: Connections that wait to be accepted; the kernel has a limit of its own (net.core.somaxconn).
_BACKLOG = 4096
#: Seconds between two lines about refusals.
_REPORT_EVERY = 60.0
#: Seconds without accepting where there is no descriptor left.
_PAUSE = 0.05


#: What a stranger reads, so that it is no riddle. gRPC's clients say "HTTP status 403", at once.
_REFUSAL = (
    b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"localflame serves the user that started it only; this connection is another's.\n"
)


class Door:
    """One port, open from the beginning until `close`. All methods are for the loop's thread."""

    def __init__(self, target: Path, preferred: object = None) -> None:
        """A port in front of the socket `target`: the preferred one, or any. Raises OSError."""
        self._target = target
        self._loop = asyncio.get_running_loop()
        self._listener = _listen(preferred)
        self.port = int(self._listener.getsockname()[1])
        self._relays: set[asyncio.Task[None]] = set()
        self._open: set[End] = set()
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._accept_all, name=f"door-{self.port}", daemon=True)
        self._thread.start()

    @property
    def connections(self) -> int:
        """The number of open connections of our own user."""
        return len(self._open)

    def close(self) -> None:
        """Close the port and what came through it."""
        self._wake.close()
        self._thread.join()
        self._woken.close()
        self._listener.close()
        for half in list(self._open):
            half.transport.abort()

    def _accept_all(self) -> None:
        """The thread: nobody's turn waits for strangers, and no stranger's for the loop."""
        refusals = _Refusals(self.port)
        self._listener.setblocking(False)
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select(refusals.due())}
                refusals.report()
                if self._woken in ready:
                    return
                if self._listener in ready:
                    try:
                        accepted, _ = self._listener.accept()
                    except (BlockingIOError, ConnectionError, InterruptedError):
                        continue  # it went while it waited
                    except OSError as error:  # no descriptor, or no memory: it may get better
                        refusals.count_error(error)
                        time.sleep(_PAUSE)
                        continue
                    try:
                        self._admit(accepted, refusals)
                    except Exception:  # whatever the kernel said: nobody is let in by it, and the door stays open
                        log.exception("a connection could not be identified")
                        accepted.close()

    def _admit(self, accepted: socket.socket, refusals: _Refusals) -> None:
        user = peers.peer_user(accepted) if peers.IDENTIFIES_PEERS else os.getuid()
        if user == os.getuid():
            accepted.setblocking(False)
            # asyncio sets it on sockets whose `proto` says TCP, which those that were accepted do not. Without it the
            # second half of a request waits 40 ms for the acknowledgement of the first.
            with contextlib.suppress(OSError):
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(RuntimeError):  # the loop is closed: the engine has left
                self._loop.call_soon_threadsafe(self._begin, accepted)
            return
        refusals.count(user)
        with contextlib.suppress(OSError):
            accepted.setblocking(False)
            accepted.send(_REFUSAL)
        accepted.close()

    def _begin(self, accepted: socket.socket) -> None:
        task = self._loop.create_task(relay(accepted, self._target, self._open))
        self._relays.add(task)
        task.add_done_callback(self._relays.discard)


async def relay(accepted: socket.socket, target: Path, open_ends: set[End]) -> None:
    """Connect it with the server at `target`; from then on each side's bytes go to the other.

    As long as it is open, its end is one of the `open_ends`.
    """
    loop = asyncio.get_running_loop()
    try:
        inner_transport, inner = await loop.create_unix_connection(End, os.fspath(target))
    except OSError:  # the server is just being replaced
        accepted.close()
        return
    try:
        outer_transport, outer = await loop.connect_accepted_socket(End, accepted)
    except OSError:
        inner_transport.abort()
        accepted.close()
        return
    inner.other, outer.other = outer, inner
    open_ends.add(outer)
    outer.closed = lambda: open_ends.discard(outer)
    for transport in (inner_transport, outer_transport):
        if transport.is_closing():  # it went before it had an other side
            outer_transport.close()
            inner_transport.close()
        else:
            transport.resume_reading()


class End(asyncio.Protocol):
    """One end of a connection: passes everything on to the other end, and reads no faster than that takes it.

    Where one end is shut, so is the other, after what was on its way: HTTP/2 knows no half of a connection.
    """

    transport: asyncio.Transport
    other: End | None = None
    #: Called when it has gone.
    closed: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.pause_reading()  # until there is another end

    def data_received(self, data: bytes) -> None:
        assert self.other is not None
        self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if self.closed is not None:
            self.closed()
        if self.other is not None:
            self.other.transport.close()


class _Refusals:
    """Counts who was refused, and says it once in a while: a million connections get a line, not a million."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._counts: collections.Counter[str] = collections.Counter()
        self._said = -_REPORT_EVERY

    def count(self, user: int | None) -> None:
        """Count a connection of this user; None: nobody's any more."""
        self._counts["already gone" if user is None else f"user {user}"] += 1

    def count_error(self, error: OSError) -> None:
        """Count a connection that could not be accepted."""
        self._counts[f"not accepted: {error.strerror}"] += 1

    def due(self) -> float | None:
        """Seconds until there is something to say; None where there is nothing."""
        return max(0.0, self._said + _REPORT_EVERY - time.monotonic()) if self._counts else None

    def report(self) -> None:
        """Say it, where it is time."""
        if self.due() == 0.0:
            who = ", ".join(f"{count} ({whose})" for whose, count in self._counts.most_common(10))
            log.warning("connections to port %d that were not our user's, refused: %s", self._port, who)
            self._counts.clear()
            self._said = time.monotonic()


def _listen(preferred: object) -> socket.socket:
    """A listening socket on the preferred port of 127.0.0.1, or on any."""
    if isinstance(preferred, int) and 0 < preferred < 65536:
        with contextlib.suppress(OSError):
            return socket.create_server(("127.0.0.1", preferred), backlog=_BACKLOG)
    return socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
