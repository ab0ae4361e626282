"""Traces: what a turn did and how long each part took, as OpenTelemetry has it, from the client to the worker.

Promises to cost nothing where `AGENT_TRACING` asks for none: then nothing is imported and nothing noted. Where it
does, a turn waits for no exporter; what cannot be sent is dropped.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

if TYPE_CHECKING:
    from flameagent.tracing.recording import Recorder

SETTING = "AGENT_TRACING"
CONTENT = "AGENT_TRACE_CONTENT"
"""The variable that is `1` where texts of messages and calls are to be in traces."""

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")

_recorder: Recorder | None = None
_starting = threading.Lock()


class Remote(NamedTuple):
    """A span of another process: what a `traceparent` names."""

    trace_id: str
    span_id: str
    sampled: bool
    inside: str = ""


class Span:
    """A part of a turn. This one is not recorded: tracing is off, or whoever began the trace does not want it.

    As a context manager it is what spans that begin inside belong to, and ends with the block, as failed where that
    raises.
    """

    @property
    def traceparent(self) -> str:
        """It as another process is told of it; "" where there is nothing to tell."""
        return ""

    def set(self, attributes: Mapping[str, Any]) -> None:
        """Note more about it."""

    def fail(self, kind: str, message: str = "") -> None:
        """Note that it failed: of what kind the error is, and its message."""

    def end(self) -> None:
        """It has ended; what comes later is not counted."""

    def entered(self) -> AbstractContextManager[object]:
        """While that is open, spans that begin belong to it, and it does not end with it."""
        return nullcontext()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


NOTHING = Span()


def start(service: str, say: Callable[[str], object] = lambda sentence: None) -> None:
    """Record from now on in this process, where its environment asks for it. Can be repeated.

    `service` is the name of what this process is; `say` is given a sentence where spans cannot be kept or sent, once.
    """
    global _recorder
    if _recorder is not None or not os.environ.get(SETTING, "").strip():
        return
    from flameagent.tracing import modes

    if wanted := modes.chosen(os.environ):
        from flameagent.tracing.recording import Recorder

        with _starting:
            _recorder = _recorder or Recorder.to(wanted, service, say)


def stop() -> None:
    """Send what is there, and record no more."""
    global _recorder
    recorder, _recorder = _recorder, None
    if recorder is not None:
        recorder.close()


def flush(patience: float) -> None:
    """Wait so many seconds at most until all that has ended is written and sent."""
    if _recorder is not None:
        _recorder.flush(patience)


def recorder() -> Recorder | None:
    """Who records; None where tracing is off."""
    return _recorder


def with_content() -> bool:
    """True where texts of messages and calls are to be in traces."""
    return _recorder is not None and os.environ.get(CONTENT, "").strip() == "1"


def span(name: str, attributes: Mapping[str, Any] | None = None, kind: str = "internal") -> Span:
    """A span that begins now, inside the one that this code runs in; to be used as a context manager."""
    return NOTHING if _recorder is None else _recorder.begin(name, attributes, kind=kind)


def begin(
    name: str,
    attributes: Mapping[str, Any] | None = None,
    *,
    kind: str = "internal",
    parent: str = "",
    start: int | None = None,
    key: str = "",
) -> Span:
    """A span whose end is said with `end`: below the one that a traceparent names, else that which this code runs in.

    `start` is when it began, in epoch nanoseconds; now, unless it is given. Its IDs follow from the `key`, where that
    is given, so that another process knows them.
    """
    if _recorder is None:
        return NOTHING
    above = read(parent) if parent else None
    return _recorder.begin(name, attributes, kind=kind, parent=above, start=start, key=key)


def note(
    name: str,
    start: int,
    end: int,
    attributes: Mapping[str, Any] | None = None,
    *,
    of: Span,
    error: str = "",
    key: str = "",
) -> None:
    """A part of the span `of` that has ended, with its times in epoch nanoseconds; `key` as for `begin`."""
    if _recorder is not None and of is not NOTHING:
        _recorder.note(name, start, end, attributes, of, error, key)


def annotate(attributes: Mapping[str, Any]) -> None:
    """Note more about the span that this code runs in."""
    if _recorder is not None:
        _recorder.annotate(attributes)


def now() -> int:
    """The time in epoch nanoseconds; 0 where nobody wants it."""
    if _recorder is None:
        return 0
    import time

    return time.time_ns()


def read(traceparent: str) -> Remote | None:
    """The span that a W3C `traceparent` names; None for what is none."""
    found = _TRACEPARENT.fullmatch(traceparent.strip())
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    if not (found[2].strip("0") and found[3].strip("0")):
        return None
    return Remote(found[2], found[3], bool(int(found[4], 16) & 1))


def here() -> str:
    """The traceparent of the span that this code runs in; "" without one."""
    return "" if _recorder is None else _recorder.traceparent()
