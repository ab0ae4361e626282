"""Refusals of calls: Flame's statuses, its results of -1, and its words."""

from __future__ import annotations

import os

import grpc

from flamewire.limits import MESSAGE_LIMIT

#: A part of the messages of Flame's file storage, where something is not there.
NO_FILE = "No such file or directory (os error 2)"


def too_large(size: int) -> str:
    """The sentence of Flame about a message of that size."""
    return f"Error, decoded message length too large: found {size} bytes, the limit is: {MESSAGE_LIMIT} bytes"


def os_error(error: OSError, known: str = "") -> str:
    """The sentence of Rust about an error; with the file that it is about, unless that is the `known` one."""
    reason = f"{os.strerror(error.errno)} (os error {error.errno})" if error.errno else str(error)
    file = str(error.filename or "")
    return f"{reason}: {file}" if file and file != known else reason


class FlameError(Exception):
    """A refusal as Flame words it: a gRPC status and a message."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def not_found(message: str) -> FlameError:
    """A NOT_FOUND with Flame's message."""
    return FlameError(grpc.StatusCode.NOT_FOUND, message)


def already_exists(message: str) -> FlameError:
    """An ALREADY_EXISTS with Flame's message."""
    return FlameError(grpc.StatusCode.ALREADY_EXISTS, message)


def invalid(message: str) -> FlameError:
    """An INVALID_ARGUMENT with Flame's message."""
    return FlameError(grpc.StatusCode.INVALID_ARGUMENT, message)


def internal(message: str) -> FlameError:
    """An INTERNAL with Flame's message."""
    return FlameError(grpc.StatusCode.INTERNAL, message)


class Refused(Exception):
    """A change of an application that Flame answers with a Result of -1 and this message."""
