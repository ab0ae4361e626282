"""The shorter way to the object cache of this machine's embedded engine.

What the engine has answered is in its file, which is read; what is written goes as frames through a socket
(`flamewire.write_frames`). A call of Arrow Flight takes a millisecond and a half, and its client keeps threads.
"""

from __future__ import annotations

import socket
import sqlite3
import threading
from pathlib import Path

from flameagent.flame.endpoints import Endpoints
from flameagent.flame.errors import NotFound, Refused, Unreachable, refusal
from flameagent.flame.objects import ARROW_TABLE, Rows, row_of, rows_of
from flamewire.object_file import ObjectFile
from flamewire.write_frames import ANSWER_SIZE, Kind, Outcome, Write, read_answer, write_bytes

_TIMEOUT = 30.0


class NoEngineCache(Exception):
    """There is no such way, and nothing was asked; Flight is another."""


class EngineCache:
    """The ways that the endpoints name; each method raises `NoEngineCache` where its way is not there.

    A file that could not be read once is not read again; a socket that nobody listens at is tried again each time.
    """

    def __init__(self, endpoints: Endpoints) -> None:
        self._url = endpoints.cache
        self._lock = threading.Lock()
        self._path = endpoints.file
        self._file: ObjectFile | None = None
        self._socket = endpoints.writes_socket
        self._idle: list[socket.socket] = []

    def close(self) -> None:
        """Close what is open; what is in the middle of a write comes to its end."""
        self._leave_file()
        with self._lock:
            idle, self._idle = self._idle, []
        for each in idle:
            each.close()

    @property
    def has_file(self) -> bool:
        """True where there is a file to read."""
        return self._path is not None

    def get(self, key: str, since: int) -> Rows:
        """As `ObjectCache.get`."""
        try:
            found = self._opened().read(key, since)
        except sqlite3.Error:
            self._leave_file()
            raise NoEngineCache from None
        if found is None:
            if [bool(part) for part in key.split("/")] != [True] * 3:
                raise NoEngineCache  # that is no key, for which Flight has the cache's words
            raise NotFound(f"object <{key}> not found")
        stored, rows = found
        if stored.arrow and rows:
            raise Refused(ARROW_TABLE)
        return rows_of((version, version == stored.base, data) for version, data in rows)

    def greet(self, timeout: float) -> None:
        """As `ObjectCache.greet`."""
        self._write(Write(Kind.NOTHING, "", b""), timeout)

    def put(self, key: str, data: bytes) -> int:
        """As `ObjectCache.put_as`; the version."""
        return self._write(Write(Kind.PUT, key, row_of(data)), None)

    def patch(self, key: str, data: bytes) -> int:
        """As `ObjectCache.patch`, but for `Unreachable` where it may be there."""
        return self._write(Write(Kind.PATCH, key, row_of(data)), None)

    def delete(self, prefix: str) -> None:
        """As `ObjectCache.delete`."""
        self._write(Write(Kind.DELETE, prefix, b""), _TIMEOUT)

    def _opened(self) -> ObjectFile:
        with self._lock:
            if self._file is None:
                if self._path is None:
                    raise NoEngineCache
                self._file = ObjectFile(self._path)
            return self._file

    def _leave_file(self) -> None:
        with self._lock:
            file, self._path, self._file = self._file, None, None
        if file is not None:
            file.close()

    def _write(self, write: Write, timeout: float | None) -> int:
        connection = self._connection()
        try:
            connection.settimeout(timeout)
            connection.sendall(write_bytes(write))
            answer, length = read_answer(_read(connection, ANSWER_SIZE))
            why = _read(connection, length).decode(errors="replace")
        except (OSError, EOFError) as error:
            connection.close()
            raise Unreachable(f"The object cache at {self._url} does not answer.") from error
        except BaseException:
            connection.close()
            raise
        with self._lock:
            self._idle.append(connection)
        if answer.outcome is Outcome.DONE:
            return answer.version
        if answer.outcome is Outcome.NOT_FOUND:
            raise NotFound(why)
        if answer.outcome is Outcome.REFUSED:
            raise refusal(why)
        raise Unreachable(f"The object cache at {self._url} failed: {why}")

    def _connection(self) -> socket.socket:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        if self._socket is None:
            raise NoEngineCache
        return _connected(self._socket)


def _connected(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        raise NoEngineCache from None
    return connection


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        read = connection.recv(size - len(data))
        if not read:
            raise EOFError
        data += read
    return data
