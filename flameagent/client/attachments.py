"""Images, files and texts for a question: read and checked before anything is sent, and stored in its session."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import to_builtins

from flameagent import files
from flameagent.client.errors import UsageError
from flameagent.conversation import Attached, attachments
from flameagent.flame.objects import patiently
from flameagent.settings import ATTACHMENT, ATTACHMENTS, megabytes
from flameagent.text import well_formed

if TYPE_CHECKING:
    from flameagent.client.connection import Connection
    from flameagent.flame.frontend import Session

TEXT_LIMIT = 1_000_000
"""Bytes of a text: more no model reads."""

_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Attachment:
    """An image, a file or a text for a question; `name` is for the model and for people."""

    name: str
    data: bytes

    @cached_property
    def described(self) -> Attached:
        """It as a turn names it: with its type, its size and the hash of its bytes."""
        return attachments.describe(self.name, self.data)


Attachable: TypeAlias = str | os.PathLike[str] | tuple[str, bytes] | Attachment
"""A path (`-` is standard input), a name and bytes, or an `Attachment`."""


def gather(given: Iterable[Attachable], environ: Mapping[str, str]) -> list[Attachment]:
    """Read and check what is to go with a question. Raises `UsageError`, before anything is sent.

    `environ` has the limits, where they are other than the usual.
    """
    if isinstance(given, str | bytes):
        raise UsageError("The attachments of a question are a list.")
    each, together = (_limit(environ, *setting) for setting in (ATTACHMENT, ATTACHMENTS))
    found: list[Attachment] = []
    for one in given:
        found.append(_checked(_read(one, each), each))
        if sum(len(other.data) for other in found) > together:
            raise UsageError(
                f"The attachments have more than {together / _MEGABYTE:g} MB together; nothing was asked."
            )
    return found


def upload(connection: Connection, session: Session, given: Iterable[Attachment]) -> None:
    """Store them as objects of the session, where they are not there. Raises `FlameError`, `UsageError`."""
    log = None
    for one in given:
        log = log or connection.log(session)
        if log is None:
            raise UsageError("This session has no context: it keeps no attachments; nothing was asked.")
        patiently(partial(log.attachments.put, one.data), connection.patience)


def question_field(given: Iterable[Attached]) -> list[dict[str, Any]] | None:
    """They as a `Question` names them; None where there are none."""
    named: list[dict[str, Any]] = to_builtins(list(given))
    return named or None


def dropped(line: str) -> list[Path]:
    """The files that a line names and nothing else: what a terminal writes where files are dropped on it.

    That is absolute paths and `file://` URLs, quoted or with backslashes where they need it; [] for any other line.
    """
    import shlex
    from urllib.parse import unquote, urlsplit

    line = line.strip()
    if Path(line).is_absolute() and _is_file(Path(line)):  # as it is, blanks included
        return [Path(line)]
    try:
        words = shlex.split(line)
    except ValueError:
        return []
    paths = [Path(unquote(urlsplit(word).path) if word.startswith("file://") else word) for word in words]
    return paths if all(path.is_absolute() and _is_file(path) for path in paths) else []


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _limit(environ: Mapping[str, str], variable: str, usual: float) -> int:
    given = environ.get(variable, "").strip()
    if given and (complaint := megabytes(given)):
        raise UsageError(f"{variable} {complaint}.")
    return int(float(given or usual) * _MEGABYTE)


def _read(given: Attachable, limit: int) -> Attachment:
    if isinstance(given, Attachment):
        given = given.name, given.data
    if isinstance(given, tuple):
        name, data = given if len(given) == 2 else (None, None)
        if not (isinstance(name, str) and name.strip() and isinstance(data, bytes | bytearray)):
            raise UsageError("An attachment is a path, or a name and its bytes.")
        return Attachment(well_formed(name), bytes(data))
    if not isinstance(given, str | os.PathLike):
        raise UsageError(f"An attachment is a path, or a name and its bytes, not {type(given).__name__}.")
    path = Path(given)
    try:
        if str(path) == "-":
            return Attachment("standard input", sys.stdin.buffer.read(limit + 1))
        name = "pipe" if str(path).startswith(("/dev/fd/", "/proc/")) else path.name or str(path)
        return Attachment(well_formed(name), _content(path, limit))
    except (OSError, ValueError) as error:
        raise UsageError(f"The attachment {path} cannot be read: {files.why(error)}; nothing was asked.") from error


def _content(path: Path, limit: int) -> bytes:
    """The bytes of a file, or of a pipe such as `<(…)`: no more than say that it is too large."""
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise ValueError("it is a folder")
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISFIFO(found.st_mode)):
        raise ValueError("it is a device or a socket, no file")
    with path.open("rb") as file:
        return file.read(limit + 1)


def _checked(one: Attachment, limit: int) -> Attachment:
    if not one.data:
        raise UsageError(f"The attachment {one.name} is empty; nothing was asked.")
    if len(one.data) > limit:
        raise UsageError(f"The attachment {one.name} has more than {limit / _MEGABYTE:g} MB; nothing was asked.")
    kind = one.described.media_type
    if kind == attachments.UNKNOWN:
        raise UsageError(
            f"The attachment {one.name} is nothing that a model takes: attach images (PNG, JPEG, GIF, WebP), PDF, "
            "Word, Excel and PowerPoint files, and texts. Nothing was asked."
        )
    if attachments.is_text(kind) and len(one.data) > TEXT_LIMIT:
        raise UsageError(
            f"The text {one.name} has more than {TEXT_LIMIT / _MEGABYTE:g} MB, which is too much: nothing was asked."
        )
    return one
