"""Writes to the embedded engine's object cache as frames on a Unix socket, for programs of the same machine.

A call of Arrow Flight takes a millisecond and a half between processes that sleep, most of it for waking its
threads; a frame and its answer take a third of that. It does no input or output: bytes go in and come out. A
connection has one write at a time, whose answer comes before the next.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

_REQUEST = struct.Struct("!BHI")  # the kind; bytes of the key, and of the data
_ANSWER = struct.Struct("!BQH")  # the outcome; the version; bytes of the reason


class Kind(IntEnum):
    """What a write does: `PATCH` appends to an object, `PUT` makes one, `DELETE` takes all with that prefix away.

    `NOTHING` is answered, as whoever asks wants to know.
    """

    PATCH = 0
    PUT = 1
    DELETE = 2
    NOTHING = 3


class Outcome(IntEnum):
    """What became of it: it is done; or nothing was changed."""

    DONE = 0
    NOT_FOUND = 1
    REFUSED = 2
    FAILED = 3


class Write(NamedTuple):
    """A write; `data` is a row of the object, as Flame's cache has them."""

    kind: Kind
    key: str
    data: bytes


class Answer(NamedTuple):
    """What a write came to: the version of the object, or why nothing was changed."""

    outcome: Outcome
    version: int = 0
    why: str = ""


def write_bytes(write: Write) -> bytes:
    """The frame of a write. Raises `ValueError` for a key or data beyond all measure."""
    key = write.key.encode()
    try:
        return _REQUEST.pack(write.kind, len(key), len(write.data)) + key + write.data
    except struct.error as error:
        raise ValueError("The key or the data are too long for one write.") from error


class Writes:
    """The writes that come on a connection."""

    def __init__(self) -> None:
        self._received = bytearray()

    def receive(self, data: bytes) -> list[Write]:
        """Take bytes; the writes that are whole now. Raises `ValueError` for what is none."""
        received, found = self._received, list[Write]()
        received += data
        while len(received) >= _REQUEST.size:
            number, key_length, length = _REQUEST.unpack_from(received)
            kind, begin = Kind(number), _REQUEST.size + key_length
            if len(received) < begin + length:
                break
            key = received[_REQUEST.size : begin].decode()
            found.append(Write(kind, key, bytes(memoryview(received)[begin : begin + length])))
            del received[: begin + length]
        return found


def answer_bytes(answer: Answer) -> bytes:
    """The frame of an answer."""
    why = answer.why.encode(errors="replace")[: 2**16 - 1]
    return _ANSWER.pack(answer.outcome, answer.version, len(why)) + why


ANSWER_SIZE = _ANSWER.size
"""Bytes of an answer without its reason."""


def read_answer(head: bytes) -> tuple[Answer, int]:
    """The answer that begins with these bytes, and how many are to come of its reason. Raises `ValueError`."""
    outcome, version, length = _ANSWER.unpack(head)
    return Answer(Outcome(outcome), version), length
