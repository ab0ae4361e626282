"""The file of spans: a line of JSON each, in the user's folder of what is remembered between runs.

Any number of processes append to it: a span is one write at the end, and begins on a line of its own, so that what
a killed process has left half does no harm to the next one. Only the user can read it, and it is never more than two
files of `_MOST` bytes.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flameagent.tracing.recording import RecordedSpan

NAME = "spans.jsonl"
_OLDER = "spans.1.jsonl"
_MOST = 32 * 1024 * 1024


def folder() -> Path | None:
    """Where the files are; None for a user without a home."""
    import platformdirs  # as `flameagent.client.places`

    try:
        return Path(platformdirs.user_state_dir("flame-openai-agent", appauthor=False)) / "traces"
    except RuntimeError:
        return None


class FileSink:
    """Appends spans to the file, and begins another where it is full."""

    def __init__(self, service: str, most: int = _MOST) -> None:
        self._most = most
        self._resource = {
            "service.name": os.environ.get("OTEL_SERVICE_NAME", "").strip() or service,
            "process.pid": os.getpid(),
            "host.name": socket.gethostname(),
        }

    def prepare(self) -> None:
        """Nothing takes long here."""

    def export(self, spans: list[RecordedSpan]) -> str:
        where = folder()
        if where is None:
            return "Traces are not kept: this user has no home."
        try:
            where.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._append(where, spans)
        except OSError as error:
            return f"Traces are not kept: {where / NAME} cannot be written: {error.strerror or error}."
        return ""

    def patience(self) -> float:
        return 2.0

    def _append(self, where: Path, spans: list[RecordedSpan]) -> None:
        descriptor = self._opened(where / NAME)
        try:
            for span in spans:
                if os.fstat(descriptor).st_size > self._most:
                    os.close(descriptor)
                    descriptor = -1
                    self._turn_over(where)
                    descriptor = self._opened(where / NAME)
                os.write(descriptor, b"\n%s\n" % json.dumps(self._line(span), default=str).encode())
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    @staticmethod
    def _opened(path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def _turn_over(self, where: Path) -> None:
        """Put the full file in the place of the older one, unless another process just has."""
        lock = os.open(where / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if (where / NAME).stat().st_size > self._most:
                    (where / NAME).replace(where / _OLDER)
        finally:
            os.close(lock)

    def _line(self, span: RecordedSpan) -> dict[str, Any]:
        return {
            "trace_id": span.trace_id,
            "span_id": span.span_id,
            "parent_id": span.parent_id,
            "name": span.name,
            "kind": span.kind,
            "start": span.started,
            "end": span.ended,
            "error": span.error,
            "attributes": span.attributes,
            "resource": self._resource,
        }


def lines(where: Path) -> Iterator[dict[str, Any]]:
    """The spans in the files, oldest file first; lines that are none are passed over. Raises `OSError`."""
    for name in (_OLDER, NAME):
        try:
            with (where / name).open("rb") as file:
                for line in file:
                    if (span := _span(line)) is not None:
                        yield span
        except FileNotFoundError:
            continue


_KINDS: dict[str, type | tuple[type, ...]] = {
    "trace_id": str,
    "span_id": str,
    "parent_id": str,
    "name": str,
    "kind": str,
    "start": int,
    "end": int,
    "attributes": dict,
    "resource": dict,
}


def _span(line: bytes) -> dict[str, Any] | None:
    try:
        span = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(span, dict) or not all(isinstance(span.get(name), kind) for name, kind in _KINDS.items()):
        return None
    return span if 0 <= span["start"] <= span["end"] < 2**63 else None
