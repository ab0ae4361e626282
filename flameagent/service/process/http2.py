"""HTTP/2 as a server has it, for calls and their answers (RFC 9113). It does no input or output: bytes go in and out.

In the place of the h2 package, which with hpack takes a quarter of an instance's memory; the tests hold it to that
package. Nothing is pushed, priorities are not looked at. All that comes is taken at once, so a client's windows are
always open; what is too much is for who reads the events to say.
"""

from __future__ import annotations

import struct
from typing import NamedTuple, TypeAlias

from flameagent.service.process import hpack
from flameagent.service.process.hpack import Decoder, HpackError

Fields: TypeAlias = list[tuple[bytes, bytes]]

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _PRIORITY, _RESET, _SETTINGS, _PUSH, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = range(10)
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _WITH_PRIORITY = 1, 1, 4, 8, 32
_NO_ERROR, _PROTOCOL, _FLOW_CONTROL, _FRAME_SIZE, _REFUSED, _COMPRESSION, _CALM = 0, 1, 3, 6, 7, 9, 11
_MAX_STREAMS, _INITIAL_WINDOW, _MAX_FRAME, _MAX_HEADERS = 3, 4, 5, 6  # settings

_HEAD = struct.Struct("!HBBBL")  # of a frame: its length in 16 and 8 bits, kind, flags, stream
_SETTING = struct.Struct("!HL")
_NUMBER = struct.Struct("!L")

_STREAMS = 100
_WINDOW = 2**20
"""Bytes that a client may send ahead, in a stream and in all: the 64 KB of HTTP/2 hold up large messages."""
_HEADERS_LIMIT = 2**16
_PIECES = 64  # of headers, in which they come at most
_LARGEST_WINDOW = 2**31 - 1
_FIRST_WINDOW = 65535
_FRAME_LIMIT = 2**14


class Request(NamedTuple):
    """The head of a request has come."""

    stream: int
    fields: Fields


class Data(NamedTuple):
    """More of a request's body."""

    stream: int
    data: bytes


class End(NamedTuple):
    """A request has come whole."""

    stream: int


class Reset(NamedTuple):
    """A request was given up; it cannot be answered any more."""

    stream: int


Event: TypeAlias = Request | Data | End | Reset


class _Broken(Exception):
    """The client has broken a rule: of the connection, or of a stream alone."""

    def __init__(self, code: int, stream: int = 0) -> None:
        super().__init__(code, stream)
        self.code = code
        self.stream = stream


class _Stream:
    def __init__(self, window: int) -> None:
        self.window = window  # that it may be sent yet
        self.taken = 0  # since its client's window was opened last
        self.whole = False  # nothing more comes
        self.rest: memoryview | None = None  # of the answer's body
        self.trailers: Fields = []


class Connection:
    """One client's connection. `ended` says that nothing more comes: the client said so, or broke the rules."""

    def __init__(self) -> None:
        self.ended = False
        self._received = bytearray()
        self._greeted = False
        self._decoder = Decoder(_HEADERS_LIMIT)
        self._block: tuple[int, int, list[bytes]] | None = None  # headers that go on: their stream, flags, and pieces
        self._streams: dict[int, _Stream] = {}
        self._last = 0  # the newest stream
        self._window = self._first_window = _FIRST_WINDOW  # of the connection, and of a new stream
        self._frame = _FRAME_LIMIT  # the longest that it takes
        self._taken = 0
        self._sending = bytearray()
        settings = (_MAX_STREAMS, _STREAMS), (_INITIAL_WINDOW, _WINDOW), (_MAX_HEADERS, _HEADERS_LIMIT)
        self._write(_SETTINGS, 0, 0, b"".join(_SETTING.pack(*each) for each in settings))
        self._write(_WINDOW_UPDATE, 0, 0, _NUMBER.pack(_WINDOW))

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes from the client; what has come with them."""
        events: list[Event] = []
        self._received += data
        try:
            while not self.ended and (frame := self._next_frame()):
                try:
                    self._take(*frame, events)
                except _Broken as broken:
                    if not broken.stream:
                        raise
                    self.reset(broken.stream, broken.code)
                    events.append(Reset(broken.stream))
        except _Broken as broken:
            self._write(_GOAWAY, 0, 0, _NUMBER.pack(self._last) + _NUMBER.pack(broken.code))
            self.ended = True
        return events

    def to_send(self) -> bytes:
        """The bytes for the client that have not been asked for yet."""
        data, self._sending = bytes(self._sending), bytearray()
        return data

    def answer(self, stream: int, fields: Fields, body: bytes, trailers: Fields) -> None:
        """Answer a request, unless it was given up. What the windows have no room for is sent when they have."""
        if (known := self._streams.get(stream)) is None or self.ended:
            return
        self._write_headers(stream, fields, 0)
        known.rest, known.trailers = memoryview(body), trailers
        self._send(stream)

    def answer_early(self, stream: int, fields: Fields) -> None:
        """Answer with these fields alone, also a request that has not come whole, the rest of which nobody reads."""
        if (known := self._streams.get(stream)) is None or self.ended:
            return
        self._write_headers(stream, fields, _END_STREAM)
        if known.whole:
            del self._streams[stream]
        else:
            self.reset(stream, _NO_ERROR)

    def reset(self, stream: int, code: int) -> None:
        """Give up a request, with a code of HTTP/2."""
        self._streams.pop(stream, None)
        self._write(_RESET, 0, stream, _NUMBER.pack(code))

    # What comes

    def _next_frame(self) -> tuple[int, int, int, bytes] | None:
        """The kind, flags, stream and payload of the next frame; None where it has not come whole."""
        received = self._received
        if not self._greeted:
            if not _PREFACE.startswith(bytes(received[: len(_PREFACE)])):
                raise _Broken(_PROTOCOL)
            if len(received) < len(_PREFACE):
                return None
            del received[: len(_PREFACE)]
            self._greeted = True
        if len(received) < _HEAD.size:
            return None
        high, low, kind, flags, stream = _HEAD.unpack_from(received)
        length = high << 8 | low
        if length > _FRAME_LIMIT:
            raise _Broken(_FRAME_SIZE)
        end = _HEAD.size + length
        if len(received) < end:
            return None
        payload = bytes(memoryview(received)[_HEAD.size : end])
        del received[:end]
        return kind, flags, stream & _LARGEST_WINDOW, payload

    def _take(self, kind: int, flags: int, stream: int, payload: bytes, events: list[Event]) -> None:
        self._check(kind, stream, payload)
        if kind == _DATA:
            self._take_data(flags, stream, payload, events)
        elif kind in (_HEADERS, _CONTINUATION):
            self._take_piece(flags, stream, payload)
            if flags & _END_HEADERS:
                self._take_headers(events)
        elif kind == _RESET:
            if self._streams.pop(stream, None) is not None:
                events.append(Reset(stream))
        elif kind == _SETTINGS:
            self._take_settings(flags, payload)
        elif kind == _PING and not flags & _ACK:
            self._write(_PING, _ACK, 0, payload)
        elif kind == _GOAWAY:
            self.ended = True  # clients of gRPC say it last
        elif kind == _WINDOW_UPDATE:
            self._take_window(stream, _NUMBER.unpack(payload)[0] & _LARGEST_WINDOW)

    def _check(self, kind: int, stream: int, payload: bytes) -> None:
        """See that such a frame may come now, on that stream, and is as long as it has to be."""
        if kind in _SIZES and len(payload) != _SIZES[kind]:
            raise _Broken(_FRAME_SIZE)
        if (stream if kind == _CONTINUATION else None) != (self._block[0] if self._block else None):
            raise _Broken(_PROTOCOL)
        if kind == _PUSH or kind in (_OF_CONNECTIONS if stream else _OF_STREAMS):
            raise _Broken(_PROTOCOL)
        if stream > self._last and kind in _OF_STREAMS_THAT_BEGAN:
            raise _Broken(_PROTOCOL)

    def _take_piece(self, flags: int, stream: int, payload: bytes) -> None:
        """Note a piece of headers, which come whole before any other frame."""
        if self._block is not None:
            pieces = self._block[2]
            pieces.append(payload)
            if len(pieces) > _PIECES or sum(map(len, pieces)) > _HEADERS_LIMIT:
                raise _Broken(_CALM)
            return
        if not stream % 2:
            raise _Broken(_PROTOCOL)
        piece = _unpadded(flags, payload)
        if flags & _WITH_PRIORITY:
            if len(piece) < _SIZES[_PRIORITY]:
                raise _Broken(_FRAME_SIZE)
            piece = piece[_SIZES[_PRIORITY] :]
        self._block = stream, flags, [piece]

    def _take_data(self, flags: int, stream: int, payload: bytes, events: list[Event]) -> None:
        data, known = _unpadded(flags, payload), self._streams.get(stream)
        self._taken = self._opened(0, self._taken + len(payload))
        if known is None:  # given up, or answered early
            return
        if known.whole:
            raise _Broken(_PROTOCOL)
        if data:
            events.append(Data(stream, data))
        if flags & _END_STREAM:
            known.whole = True
            events.append(End(stream))
        else:
            known.taken = self._opened(stream, known.taken + len(payload))

    def _opened(self, stream: int, taken: int) -> int:
        """What was taken since the client's window was opened, which is done where it is half of that."""
        if taken < _WINDOW // 2:
            return taken
        self._write(_WINDOW_UPDATE, 0, stream, _NUMBER.pack(taken))
        return 0

    def _take_headers(self, events: list[Event]) -> None:
        assert self._block is not None
        (stream, flags, pieces), self._block = self._block, None
        try:
            fields = self._decoder.decode(b"".join(pieces))
        except HpackError:
            raise _Broken(_COMPRESSION) from None
        if stream > self._last:
            self._last = stream
            if len(self._streams) >= _STREAMS:
                raise _Broken(_REFUSED, stream)
            if not any(name == b":path" for name, _ in fields):
                raise _Broken(_PROTOCOL, stream)
            known = self._streams[stream] = _Stream(self._first_window)
            events.append(Request(stream, fields))
        elif (found := self._streams.get(stream)) is None:
            return
        else:  # trailers, which nobody looks at
            known = found
            if known.whole or not flags & _END_STREAM:
                raise _Broken(_PROTOCOL)
        if flags & _END_STREAM:
            known.whole = True
            events.append(End(stream))

    def _take_settings(self, flags: int, payload: bytes) -> None:
        if len(payload) % _SETTING.size or (flags & _ACK and payload):
            raise _Broken(_FRAME_SIZE)
        if flags & _ACK:
            return
        for setting, value in _SETTING.iter_unpack(payload):
            if setting == _INITIAL_WINDOW:
                if value > _LARGEST_WINDOW:
                    raise _Broken(_FLOW_CONTROL)
                more, self._first_window = value - self._first_window, value
                for known in self._streams.values():
                    known.window += more
                    if known.window > _LARGEST_WINDOW:
                        raise _Broken(_FLOW_CONTROL)
            elif setting == _MAX_FRAME:
                if not _FRAME_LIMIT <= value < 2**24:
                    raise _Broken(_PROTOCOL)
                self._frame = value
        self._write(_SETTINGS, _ACK, 0, b"")
        self._send_all()

    def _take_window(self, stream: int, more: int) -> None:
        known = self._streams.get(stream)
        if stream and known is None:
            return
        window = (known.window if known else self._window) + more
        if not more or window > _LARGEST_WINDOW:
            raise _Broken(_FLOW_CONTROL if more else _PROTOCOL, stream)
        if known:
            known.window = window
            self._send(stream)
        else:
            self._window = window
            self._send_all()

    # What is sent

    def _send_all(self) -> None:
        for stream in list(self._streams):
            self._send(stream)

    def _send(self, stream: int) -> None:
        """Send of an answer what there is room for, and its end when that was all."""
        known = self._streams[stream]
        if known.rest is None:
            return
        while known.rest and (room := min(self._window, known.window, self._frame)) > 0:
            piece, known.rest = known.rest[:room], known.rest[room:]
            self._write(_DATA, 0, stream, piece)
            self._window -= len(piece)
            known.window -= len(piece)
        if not known.rest:
            self._write_headers(stream, known.trailers, _END_STREAM)
            del self._streams[stream]
            if not known.whole:
                self.reset(stream, _NO_ERROR)

    def _write_headers(self, stream: int, fields: Fields, flags: int) -> None:
        block, kind = memoryview(hpack.encode(fields)), _HEADERS
        while len(block) > _FRAME_LIMIT:
            self._write(kind, flags, stream, block[:_FRAME_LIMIT])
            block, kind, flags = block[_FRAME_LIMIT:], _CONTINUATION, 0
        self._write(kind, flags | _END_HEADERS, stream, block)

    def _write(self, kind: int, flags: int, stream: int, payload: bytes | memoryview) -> None:
        self._sending += _HEAD.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream)
        self._sending += payload


_OF_STREAMS = frozenset({_DATA, _HEADERS, _PRIORITY, _RESET, _PUSH, _CONTINUATION})
_OF_CONNECTIONS = frozenset({_SETTINGS, _PING, _GOAWAY})
_OF_STREAMS_THAT_BEGAN = frozenset({_DATA, _RESET, _WINDOW_UPDATE})
_SIZES = {_PRIORITY: 5, _RESET: 4, _PING: 8, _WINDOW_UPDATE: 4}


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & _PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise _Broken(_PROTOCOL)
    return payload[1 : len(payload) - payload[0]]
