"""The messages of an instance and its worker, over a socket pair.

Promises whole messages, and an end of file at once when the other side is gone.
"""

from __future__ import annotations

from multiprocessing.connection import Connection
from typing import Any, TypeAlias

import msgspec


class Enter(msgspec.Struct, frozen=True, tag=True):
    """To the worker: the session that it serves, for all its life."""

    session_id: str
    application: str
    common_data: bytes | None


class Invoke(msgspec.Struct, frozen=True, tag=True):
    """To the worker: run a task; `input` is what the client pickled."""

    task_id: str
    input: bytes | None


class Ready(msgspec.Struct, frozen=True, tag=True):
    """From the worker: the agent is imported; a turn's clock may start."""


class Stale(msgspec.Struct, frozen=True, tag=True):
    """From the worker, in place of running a task: the agent's code has changed, start another worker."""


class Appending(msgspec.Struct, frozen=True, tag=True):
    """From the worker: a write to the cache begins; until `Appended` it must not be ended."""


class Appended(msgspec.Struct, frozen=True, tag=True):
    """From the worker: the write has ended."""


class Done(msgspec.Struct, frozen=True, tag=True):
    """From the worker: the task's pickled output."""

    output: bytes | None


class Failed(msgspec.Struct, frozen=True, tag=True):
    """From the worker: the task failed, or the agent cannot be imported; `message` is for the user."""

    message: str


_LONGEST = 256 * 1024 * 1024
"""Bytes of a message; Flame takes 4 MB, and says so of what is longer."""

FromWorker: TypeAlias = Ready | Stale | Appending | Appended | Done | Failed
ToWorker: TypeAlias = Enter | Invoke


def send(connection: Connection, message: FromWorker | ToWorker) -> None:
    """Send one message. Raises `OSError` when the other side is gone."""
    connection.send_bytes(msgspec.msgpack.encode(message))


def receive(connection: Connection, kind: Any) -> Any:
    """Wait for one message of the given union. Raises `EOFError` when the other side is gone, or talks nonsense."""
    try:
        return msgspec.msgpack.decode(connection.recv_bytes(_LONGEST), type=kind)
    except (OSError, msgspec.DecodeError, RecursionError) as error:
        raise EOFError from error
