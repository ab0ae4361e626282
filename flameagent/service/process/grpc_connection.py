"""One client's connection to an instance: HTTP/2 by `h2`, and of gRPC what unary calls need.

It does no input or output: bytes go in and come out. What breaks the rules of HTTP/2 ends the connection, what breaks
those of gRPC ends the call with a status.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from flamewire.limits import MESSAGE_LIMIT

# https://grpc.github.io/grpc/core/md_doc_statuscodes.html
OK = 0
UNKNOWN = 2
RESOURCE_EXHAUSTED = 8
UNIMPLEMENTED = 12
INTERNAL = 13

_PREFIX = struct.Struct("!BI")  # of a message: whether it is compressed, and its length
_WINDOW = 2**20
"""Bytes that a client may send ahead, of a call and of all: the 64 KB of HTTP/2 hold up large messages."""
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
        self._http = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self._http.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: 100,
                SettingCodes.MAX_HEADER_LIST_SIZE: H2Connection.DEFAULT_MAX_HEADER_LIST_SIZE,
                SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW,
            },
        )
        self._http.initiate_connection()
        self._http.increment_flow_control_window(_WINDOW)
        self._calls: dict[int, bytes] = {}  # the paths of those that are not answered
        self._incoming: dict[int, bytearray] = {}  # of those that are not complete
        self._outgoing: dict[int, memoryview] = {}  # of answers, what the client's window has had no room for
        self.ended = False
        """True when nothing more comes: the client said so, or broke the rules."""

    def receive(self, data: bytes) -> list[Call]:
        """Take bytes from the client; the calls that are complete now."""
        calls: list[Call] = []
        try:
            for event in self._http.receive_data(data):
                if isinstance(event, RequestReceived):
                    self._calls[event.stream_id] = dict(event.headers)[b":path"]
                    self._incoming[event.stream_id] = bytearray()
                elif isinstance(event, DataReceived):
                    self._take(event)
                elif isinstance(event, StreamEnded):
                    calls += self._complete(event.stream_id)
                elif isinstance(event, StreamReset):
                    self._forget(event.stream_id)
                elif isinstance(event, WindowUpdated | RemoteSettingsChanged):
                    for stream in list(self._outgoing):
                        self._send(stream)
                elif isinstance(event, ConnectionTerminated):
                    self.ended = True  # clients of gRPC say it last; h2 lets nothing be sent behind it
        except ProtocolError:  # which h2 has put among what is to be sent
            self.ended = True
        return calls

    def to_send(self) -> bytes:
        """The bytes for the client that have not been asked for yet."""
        return self._http.data_to_send()

    def answer(self, stream: int, answer: Answer) -> None:
        """Answer a call, unless its client has given it up."""
        if stream not in self._calls or self.ended:
            return
        try:
            if answer.status != OK:
                self._http.send_headers(stream, [*_HEADERS, *_status(answer)], end_stream=True)
                if stream in self._incoming:
                    self._http.reset_stream(stream)  # nobody reads the rest
                self._forget(stream)
                return
            self._http.send_headers(stream, _HEADERS)
        except ProtocolError:  # given up, as bytes say that are received already and not looked at yet
            self._forget(stream)
            return
        self._outgoing[stream] = memoryview(_PREFIX.pack(0, len(answer.message)) + answer.message)
        self._send(stream)

    def _take(self, event: DataReceived) -> None:
        self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        body = self._incoming.get(event.stream_id)
        if body is None:
            return
        body += event.data
        if len(body) > _PREFIX.size + MESSAGE_LIMIT:
            why = f"the message is larger than {MESSAGE_LIMIT} bytes"
            self.answer(event.stream_id, Answer(b"", RESOURCE_EXHAUSTED, why))

    def _complete(self, stream: int) -> list[Call]:
        body = self._incoming.pop(stream, None)
        if body is None:
            return []
        compressed, length = _PREFIX.unpack_from(body) if len(body) >= _PREFIX.size else (0, -1)
        if compressed:
            self.answer(stream, Answer(b"", UNIMPLEMENTED, "the message is compressed"))
        elif length != len(body) - _PREFIX.size:
            self.answer(stream, Answer(b"", INTERNAL, "the request is not one message"))
        else:
            return [Call(stream, self._calls[stream], bytes(memoryview(body)[_PREFIX.size :]))]
        return []

    def _send(self, stream: int) -> None:
        """Send of an answer what there is room for, and its end when that was all."""
        rest = self._outgoing[stream]
        try:
            while rest and (room := self._http.local_flow_control_window(stream)) > 0:
                piece = rest[: min(room, self._http.max_outbound_frame_size)]
                self._http.send_data(stream, piece)
                rest = rest[len(piece) :]
            self._outgoing[stream] = rest
            if not rest:
                self._http.send_headers(stream, _status(Answer()), end_stream=True)
                self._forget(stream)
        except ProtocolError:  # as above
            self._forget(stream)

    def _forget(self, stream: int) -> None:
        for known in self._calls, self._incoming, self._outgoing:
            known.pop(stream, None)


def _status(answer: Answer) -> list[tuple[bytes, bytes]]:
    status = [(b"grpc-status", b"%d" % answer.status)]
    if answer.why:
        why = b"".join(b"%c" % byte if byte in _PLAIN else b"%%%02X" % byte for byte in answer.why.encode())
        status.append((b"grpc-message", why))
    return status
