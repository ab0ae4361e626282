"""The server of writes as frames (`flamewire.write_frames`): the way of this machine's programs to the object cache.

What it does is what the cache does with a PUT, a PATCH and a DELETE. An answer is sent from the thread that has
committed: so a write wakes three threads, from its client and back.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import threading
import time
from typing import TYPE_CHECKING

from flamewire.write_frames import Answer, Kind, Outcome, Write, Writes, answer_bytes
from localflame.listening import connections, listen
from localflame.objects import Key, delete_objects, failure_of, patch_key, patch_object, put_key, put_object

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from concurrent.futures import Future
    from pathlib import Path

    from localflame.activity import Activity
    from localflame.metrics import Metrics
    from localflame.store import Store

_READ = 2**18
_OUTCOMES = {"disk": Outcome.FAILED, "not_found": Outcome.NOT_FOUND, "refused": Outcome.REFUSED}
_NAMES = {Kind.PATCH: "append", Kind.PUT: "put", Kind.DELETE: "delete"}


class WriteServer:
    """Serves from when it is made until `close`, in the event loop that it was made in."""

    def __init__(self, store: Store, activity: Activity, metrics: Metrics, path: Path) -> None:
        """Listens on a Unix socket of that name. Raises OSError."""
        self._store, self._activity, self._metrics = store, activity, metrics
        self._loop = asyncio.get_running_loop()
        self._clients: set[_Client] = set()
        self._accepting = self._loop.create_task(self._accept(listen(path)))

    def close(self) -> None:
        """Accept and read nothing more; what was read is done, and its answer may be lost."""
        self._accepting.cancel()
        for client in list(self._clients):
            self._leave(client)

    async def _accept(self, listener: socket.socket) -> None:
        async for accepted in connections(listener):
            client = _Client(accepted)
            self._clients.add(client)
            self._loop.add_reader(accepted, self._read, client)

    def _read(self, client: _Client) -> None:
        try:
            data = client.socket.recv(_READ)
            writes = client.writes.receive(data)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            data, writes = b"", []
        for write in writes:
            self._begin(client, write)
        if not data:
            self._leave(client)

    def _leave(self, client: _Client) -> None:
        self._clients.discard(client)
        self._loop.remove_reader(client.socket)
        client.close()

    def _begin(self, client: _Client, write: Write) -> None:
        began = time.perf_counter()
        self._activity.touch()
        if write.kind is Kind.NOTHING:
            client.send(Answer(Outcome.DONE))
            return

        def end(done: Future[int]) -> None:
            client.send(self._answer(write, began, done))

        try:
            future = self._store.submit(_operation(write))
        except Exception as error:
            client.send(self._failed(write, began, error))
        else:
            future.add_done_callback(end)

    def _answer(self, write: Write, began: float, done: Future[int]) -> Answer:
        if (error := done.exception()) is not None:
            return self._failed(write, began, error)
        self._metrics.cache.observe(time.perf_counter() - began, _NAMES[write.kind])
        return Answer(Outcome.DONE, done.result())

    def _failed(self, write: Write, began: float, error: BaseException) -> Answer:
        named = _NAMES[write.kind]
        outcome = failure_of(error)
        self._metrics.cache_failures.count(named, outcome)
        self._metrics.cache.observe(time.perf_counter() - began, named)
        return Answer(_OUTCOMES[outcome], 0, str(error))


def _operation(write: Write) -> Callable[[sqlite3.Connection], int]:
    """What the store is to do. Raises CacheRefused for a key that is none."""
    if write.kind is Kind.PATCH:
        return functools.partial(patch_object, key=patch_key(write.key), row=write.data)
    if write.kind is Kind.PUT:
        return functools.partial(put_object, key=put_key(write.key), arrow=False, data=write.data)
    return functools.partial(delete_objects, key=Key.parse(write.key))


class _Client:
    """A connection, which is read in the event loop, and answered in the thread of the store."""

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        self.writes = Writes()
        self._lock = threading.Lock()
        self._open = True

    def send(self, answer: Answer) -> None:
        """Answer, if somebody is there; who has left so many answers unread that there is no room hears no more."""
        frame = answer_bytes(answer)
        with self._lock:
            if not self._open:
                return
            try:
                sent = self.socket.send(frame)
            except OSError:
                sent = 0
            if sent < len(frame):
                with contextlib.suppress(OSError):
                    self.socket.shutdown(socket.SHUT_RDWR)  # which the event loop reads as its end

    def close(self) -> None:
        with self._lock:
            self._open = False
            self.socket.close()
