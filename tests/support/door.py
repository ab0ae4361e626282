"""A door in front of a server: it hangs up on whoever comes, a number of times, before it lets them in.

So a test sees a server that is away and comes back, and waits for nothing.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self
from urllib.parse import urlsplit


class Door:
    """A port on loopback before the server at `url`; a context manager. `closed` is how often it hangs up yet."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._server = (parts.hostname or "127.0.0.1", parts.port or 0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._scheme = parts.scheme
        self.closed = 0
        self._connections: list[socket.socket] = []

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.close(0)

    def close(self, times: int) -> None:
        """Drop who is connected, and hang up on the next that come."""
        self.closed = times
        connections, self._connections = self._connections, []
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                visitor = self._listener.accept()[0]
                if self.closed:
                    self.closed -= 1
                    visitor.close()
                    continue
                server = socket.create_connection(self._server)
                self._connections += [visitor, server]
                for one, other in ((visitor, server), (server, visitor)):
                    threading.Thread(target=_pass_on, args=[one, other], daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
