"""Unary gRPC calls over a Unix socket, served by one thread and one more for each call.

In the place of grpcio's server, which takes most of an instance's memory and of its time to start. Promises to answer
every call that comes in whole, whatever else its clients send or do not read, and whatever a method raises.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import selectors
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from typing import TypeAlias

from flameagent.service.process.grpc_connection import (
    RESOURCE_EXHAUSTED,
    UNIMPLEMENTED,
    UNKNOWN,
    Answer,
    Call,
    GrpcConnection,
)

Method: TypeAlias = Callable[[bytes], bytes]
"""What a call does with its message. Raises `Refusal`."""

_READ = 2**16
_UNREAD = 2**16
"""Bytes that a client may leave unread before nothing more is read from it."""
_CONNECTIONS = 64
_CALLS = 100  # at once, of all connections
_PAUSE = 0.1


class Refusal(Exception):
    """The call is answered with a status of gRPC instead of a message."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class GrpcServer:
    """Serves the methods, by their paths (`/package.Service/Method`), from `start` on until the process ends."""

    def __init__(self, methods: Mapping[bytes, Method]) -> None:
        self._methods = methods
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX)
        self._woken, self._wake = socket.socketpair()
        self._answers: deque[tuple[_Client, int, Answer]] = deque()
        self._running = 0

    def start(self, path: str) -> None:
        """Listen on a Unix socket of this name, which nobody else has. Raises `OSError`."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108 - pathlib takes a while to import
        self._listener.bind(path)
        self._listener.listen()
        for end in self._listener, self._woken, self._wake:
            end.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._woken, selectors.EVENT_READ, self._deliver)
        threading.Thread(target=self._serve, name="grpc", daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                for key, ready in self._selector.select():
                    key.data(ready)
            except Exception:  # nothing is known to, but a server that has ended would be a wedged session
                _print_error()
                time.sleep(_PAUSE)

    def _accept(self, _: int) -> None:
        try:
            accepted, _address = self._listener.accept()
        except OSError:  # it is gone again; or no descriptor is free, and it stays ready
            time.sleep(_PAUSE)
            return
        if len(self._selector.get_map()) > _CONNECTIONS:
            accepted.close()
            return
        client = _Client(accepted)
        self._selector.register(accepted, selectors.EVENT_READ, lambda ready: self._attend(client, ready))
        self._attend(client, 0)

    def _attend(self, client: _Client, ready: int, *answers: tuple[int, Answer]) -> None:
        """Do for a client what can be done now: hear it, answer it, and write to it."""
        if client.ended:  # since its socket was found ready
            return
        try:
            if ready & selectors.EVENT_READ:
                for call in client.read():
                    self._begin(client, call)
            for stream, answer in answers:
                client.grpc.answer(stream, answer)
            client.write()
        except Exception as error:
            if not isinstance(error, OSError):
                _print_error()
            client.ended = True
        key = self._selector.get_key(client.socket)
        if client.ended:
            self._selector.unregister(client.socket)
            client.socket.close()
        elif key.events != client.interest:
            self._selector.modify(client.socket, client.interest, key.data)

    def _begin(self, client: _Client, call: Call) -> None:
        method = self._methods.get(call.path)
        if method is None:
            client.grpc.answer(call.stream, Answer(b"", UNIMPLEMENTED, "there is no such method"))
            return
        try:
            if self._running >= _CALLS:
                raise RuntimeError("too many calls at once")
            _thread.start_new_thread(self._run, (method, client, call))  # `Thread.start` waits for it to run
            self._running += 1
        except RuntimeError as error:  # also where the system gives no thread
            client.grpc.answer(call.stream, Answer(b"", RESOURCE_EXHAUSTED, str(error)))

    def _run(self, method: Method, client: _Client, call: Call) -> None:
        try:
            answer = Answer(method(call.message))
        except Refusal as refusal:
            answer = Answer(b"", refusal.status, str(refusal))
        except BaseException as error:
            _print_error()
            answer = Answer(b"", UNKNOWN, f"{type(error).__name__}: {error}")
        self._answers.append((client, call.stream, answer))
        with contextlib.suppress(BlockingIOError):  # so much unread wakes it as well
            self._wake.send(b"\0")

    def _deliver(self, _: int) -> None:
        self._woken.recv(_READ)
        while self._answers:
            client, stream, answer = self._answers.popleft()
            self._running -= 1
            self._attend(client, 0, (stream, answer))


def _print_error() -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody reads the log
        traceback.print_exc()


class _Client:
    """A connection with its socket, which blocks nobody."""

    def __init__(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        self.socket = accepted
        self.grpc = GrpcConnection()
        self._unread = bytearray()
        self.ended = False

    @property
    def interest(self) -> int:
        """What to wait for: a client that reads nothing is not read from, or what it is told would pile up here."""
        reading = selectors.EVENT_READ if len(self._unread) < _UNREAD else 0
        return reading | (selectors.EVENT_WRITE if self._unread else 0)

    def read(self) -> list[Call]:
        """The calls that are complete now. Raises `OSError`."""
        try:
            data = self.socket.recv(_READ)
        except BlockingIOError:
            return []
        if not data:
            self.ended = True
            return []
        return self.grpc.receive(data)

    def write(self) -> None:
        """Send what there is to send, as far as the client takes it. Raises `OSError`."""
        self._unread += self.grpc.to_send()
        with contextlib.suppress(BlockingIOError):
            while self._unread:
                del self._unread[: self.socket.send(self._unread)]
        self.ended = self.ended or self.grpc.ended
