"""The messages of an instance and its worker, over a socket pair, and of an instance and a nursery.

Promises whole messages, and an end of file at once when the other side is gone.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, NamedTuple, TypeAlias, get_args, get_type_hints

from flameagent.service.process.connection import Connection


class Enter(NamedTuple):
    """To the worker: the session that it serves, for all its life."""

    session_id: str
    application: str
    common_data: bytes | None


class Invoke(NamedTuple):
    """To the worker: run a task; `input` is what the client pickled.

    `received` is when Flame gave it to the instance, in epoch seconds. With `died`, which says how, an attempt before
    this one was broken off by its worker's end: it had begun at `began`, and that was at `ended`.
    """

    task_id: str
    input: bytes | None
    received: float = 0.0
    died: str = ""
    began: float = 0.0
    ended: float = 0.0


class Lost(NamedTuple):
    """To the worker, where it counts that: the one before it has ended without being told to, in that way."""

    cause: str


class Ready(NamedTuple):
    """From the worker: the agent is imported; a turn's clock may start."""


class Stale(NamedTuple):
    """From the worker, in place of running a task: the agent's code has changed, start another worker."""


class Replaceable(NamedTuple):
    """From the worker that founded a nursery: nothing goes on in it, and one that is forked weighs less."""


class Appending(NamedTuple):
    """From the worker: a write to the cache begins; until `Appended` it must not be ended."""


class Appended(NamedTuple):
    """From the worker: the write has ended."""


class Done(NamedTuple):
    """From the worker: the task's pickled output."""

    output: bytes | None


class Failed(NamedTuple):
    """From the worker: the task failed, or the agent cannot be imported; `message` is for the user.

    `code` is that of an Answer, where the failure is of a kind of its own.
    """

    message: str
    code: str = ""


class Fork(NamedTuple):
    """To a nursery: fork a worker. With it come two descriptors: its end of the socket pair, and its output.

    `environment` is what each instance has of its own; None is a variable that it has not.
    """

    environment: dict[str, str | None]
    umask: int


class Leave(NamedTuple):
    """To a nursery: another one needs its place; it leaves if it has one worker at most."""


class Forked(NamedTuple):
    """From a nursery: the worker's process, which leads a group of its own. Its ID is its own until who asked for it
    closes the connection."""

    pid: int


class Declined(NamedTuple):
    """From a nursery: it has not forked. With an empty `reason` because the agent's code has changed: it leaves."""

    reason: str = ""


class Ended(NamedTuple):
    """From a nursery: the worker has ended, with that exit code, or minus the signal's number."""

    code: int


_LONGEST = 256 * 1024 * 1024
"""Bytes of a message; Flame takes 4 MB, and says so of what is longer."""

FromWorker: TypeAlias = Ready | Stale | Replaceable | Appending | Appended | Done | Failed
ToWorker: TypeAlias = Enter | Invoke | Lost
ToNursery: TypeAlias = Fork | Leave
FromNursery: TypeAlias = Forked | Declined | Ended


def send(connection: Connection, message: FromWorker | ToWorker) -> None:
    """Send one message. Raises `OSError` when the other side is gone."""
    connection.send_bytes(encode(message))


def receive(connection: Connection, kind: Any) -> Any:
    """Wait for one message of the given union. Raises `EOFError` when the other side is gone, or talks nonsense."""
    try:
        return decode(connection.recv_bytes(_LONGEST), kind)
    except (OSError, ValueError) as error:
        raise EOFError from error


def encode(message: NamedTuple) -> bytes:
    """A message as bytes: a line of JSON, which has the lengths of what is bytes, and then those.

    msgspec would take an instance 9 ms and 1 MB more to import.
    """
    fields = [[len(value)] if isinstance(value, bytes) else value for value in message]
    line = json.dumps([type(message).__name__, *fields]).encode() + b"\n"
    return b"".join([line, *(value for value in message if isinstance(value, bytes))])


def decode(data: bytes | bytearray, kind: Any) -> Any:
    """The message of the given union in these bytes. Raises `ValueError` when there is none."""
    try:
        end = data.index(b"\n")
        name, *fields = json.loads(data[:end])
        rest = memoryview(data)[end + 1 :]
        for number, value in enumerate(fields):
            if isinstance(value, list):
                fields[number], rest = bytes(rest[: value[0]]), rest[value[0] :]
        found = {each.__name__: each for each in get_args(kind)}[name]
        message = found(*fields)
        if rest or not all(map(isinstance, message, _declared(found))):
            raise ValueError("not as it is declared")
        return message
    except (TypeError, LookupError, RecursionError) as error:
        raise ValueError("not one of these messages") from error


@cache
def _declared(kind: Any) -> list[Any]:
    """What the fields of a message are instances of."""
    return [getattr(hint, "__origin__", hint) for hint in get_type_hints(kind).values()]
