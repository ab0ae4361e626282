"""One client's connection to an instance: of gRPC what unary calls need, over HTTP/2.

It does no input or output: bytes go in and come out. What breaks the rules of HTTP/2 ends the connection, what breaks
those of gRPC ends the call with a status.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from flameagent.service.process.http2 import Connection, Data, End, Fields, Request
from flamewire.limits import MESSAGE_LIMIT

# https://grpc.github.io/grpc/core/md_doc_statuscodes.html
OK = 0
UNKNOWN = 2
RESOURCE_EXHAUSTED = 8
UNIMPLEMENTED = 12
INTERNAL = 13

_PREFIX = struct.Struct("!BI")  # of a message: whether it is compressed, and its length
_HEADERS = [(b":status", b"200"), (b"content-type", b"application/grpc"), (b"grpc-accept-encoding", b"identity")]
_PLAIN = frozenset(range(0x20, 0x7F)) - {ord("%")}


class Call(NamedTuple):
    """A call that has come in whole."""

    stream: int
    path: bytes
    message: bytes


class Answer(NamedTuple):
    """What a call is answered with: a message, or a status and the sentence for it."""

    message: bytes = b""
    status: int = OK
    why: str = ""


class GrpcConnection:
    """The state of one connection, for one thread at a time."""

    def __init__(self) -> None:
        self._http = Connection()
        self._incoming: dict[int, tuple[bytes, bytearray]] = {}  # the paths and messages of calls that are not whole

    @property
    def ended(self) -> bool:
        """True when nothing more comes: the client said so, or broke the rules."""
        return self._http.ended

    def receive(self, data: bytes) -> list[Call]:
        """Take bytes from the client; the calls that are complete now."""
        calls: list[Call] = []
        for event in self._http.receive(data):
            if isinstance(event, Request):
                self._begin(event)
            elif isinstance(event, Data):
                self._take(event)
            elif isinstance(event, End):
                calls += self._complete(event.stream)
            else:
                self._incoming.pop(event.stream, None)
        return calls

    def to_send(self) -> bytes:
        """The bytes for the client that have not been asked for yet."""
        return self._http.to_send()

    def answer(self, stream: int, answer: Answer) -> None:
        """Answer a call, unless its client has given it up."""
        self._incoming.pop(stream, None)
        if answer.status == OK:
            body = _PREFIX.pack(0, len(answer.message)) + answer.message
            self._http.answer(stream, _HEADERS, body, _status(answer))
        else:
            self._http.answer_early(stream, [*_HEADERS, *_status(answer)])

    def _begin(self, request: Request) -> None:
        path = dict(request.fields).get(b":path", b"")
        self._incoming[request.stream] = path, bytearray()

    def _take(self, event: Data) -> None:
        if event.stream not in self._incoming:
            return
        _path, body = self._incoming[event.stream]
        body += event.data
        if len(body) > _PREFIX.size + MESSAGE_LIMIT:
            why = f"the message is larger than {MESSAGE_LIMIT} bytes"
            self.answer(event.stream, Answer(b"", RESOURCE_EXHAUSTED, why))

    def _complete(self, stream: int) -> list[Call]:
        if stream not in self._incoming:
            return []
        path, body = self._incoming.pop(stream)
        compressed, length = _PREFIX.unpack_from(body) if len(body) >= _PREFIX.size else (0, -1)
        if compressed:
            self.answer(stream, Answer(b"", UNIMPLEMENTED, "the message is compressed"))
        elif length != len(body) - _PREFIX.size:
            self.answer(stream, Answer(b"", INTERNAL, "the request is not one message"))
        else:
            return [Call(stream, path, bytes(memoryview(body)[_PREFIX.size :]))]
        return []


def _status(answer: Answer) -> Fields:
    status = [(b"grpc-status", b"%d" % answer.status)]
    if answer.why:
        why = b"".join(b"%c" % byte if byte in _PLAIN else b"%%%02X" % byte for byte in answer.why.encode())
        status.append((b"grpc-message", why))
    return status
