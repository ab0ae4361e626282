"""The recorder: spans while they run, and on their way out.

A span is noted in microseconds by who runs the turn; a thread of its own for each place that they go to does the
rest. Promises that nobody waits for that thread but who leaves, and then for no collector that is away.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar, Token
from functools import lru_cache
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias
from weakref import WeakSet

from flameagent.redact import keys_here, one_line, redact, without_keys
from flameagent.tracing import Remote, Span
from flameagent.tracing.modes import FILE, OTLP

_MOST = 4096  # spans that wait to be written or sent
_TOGETHER = 0.2  # seconds in which spans are gathered
_IMPORT_PATIENCE = 5.0  # seconds
_LONGEST, _LONGEST_ERROR = 32_768, 1000  # characters of an attribute, of an error's message

_SHORT = 80  # characters

# Names that people and programs have given, which stay as they are: they are looked for.
_NAMES = frozenset({"session.id", "gen_ai.conversation.id", "flame.turn.id", "flame.task.id", "flame.application"})

Place: TypeAlias = "RecordedSpan | Remote"

# What is said of all parts of a turn, so that each can be found by itself.
_INHERITED = ("session.id", "gen_ai.conversation.id", "flame.turn.id")

_current: ContextVar[Place | None] = ContextVar("the span that this code runs in", default=None)


class RecordedSpan(Span):
    """A span that is recorded. Times are epoch nanoseconds; `inside` is the Agents SDK's span that it began in."""

    def __init__(
        self,
        recorder: Recorder,
        name: str,
        attributes: Mapping[str, Any] | None,
        kind: str,
        parent: Place | None,
        started: int,
        inside: str,
        key: str = "",
    ) -> None:
        self._recorder = recorder
        self.name = name
        self.kind = kind
        above = parent.attributes if isinstance(parent, RecordedSpan) else {}
        self.attributes: dict[str, Any] = {name: above[name] for name in _INHERITED if name in above} | dict(
            attributes or {}
        )
        self.trace_id: str = parent.trace_id if parent else _hashed(key, 16)
        self.parent_id: str = parent.span_id if parent else ""
        self.sampled: bool = parent.sampled if parent else True
        self.span_id: str = _hashed(key and f"{key} {self.trace_id}", 8)
        self.started, self.ended = started, 0
        self.error: str | None = None
        self.inside = inside
        self.used = False
        self._tokens: list[Token[Place | None]] = []
        self._safe = False

    @property
    def traceparent(self) -> str:
        return traceparent(self)

    def set(self, attributes: Mapping[str, Any]) -> None:
        self.attributes.update({name: value for name, value in attributes.items() if value not in (None, "")})

    def fail(self, kind: str, message: str = "") -> None:
        self.attributes["error.type"], self.error = kind, message

    def end(self) -> None:
        if not self.ended:
            self.ended = time.time_ns()
            self._recorder.put(self)

    def __del__(self) -> None:
        if not self.ended:  # nobody is there to say when
            with suppress(Exception):  # the interpreter may be half gone
                self.set({"flame.unfinished": True})
                self.end()

    def entered(self) -> AbstractContextManager[object]:
        return _entered(self)

    def __enter__(self) -> Self:
        self._tokens.append(_current.set(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ValueError):  # left in another context than it was entered in
            _current.reset(self._tokens.pop())
        if error is not None and self.error is None:
            self.fail(type(error).__name__, str(error))
        self.end()

    def safe(self, keys: tuple[str, ...]) -> RecordedSpan:
        """It without these keys, others that look like one, and no longer than anybody wants."""
        if not self._safe:
            attributes = self.attributes
            for name, value in attributes.items():
                if isinstance(value, str) and name not in _NAMES:
                    attributes[name] = _without(value[:_LONGEST], keys)
                elif isinstance(value, list | tuple):
                    safe = (_without(each, keys) if isinstance(each, str) else each for each in value)
                    attributes[name] = list(safe)
            self.name = one_line(_without(self.name, keys), 200)
            self.error = self.error and one_line(_without(self.error, keys), _LONGEST_ERROR)
            self._safe = True
        return self


def _hashed(key: str, size: int) -> str:
    """So many bytes of a key, in hexadecimal digits; without one, random ones."""
    return hashlib.blake2b(key.encode(), digest_size=size).hexdigest() if key else secrets.token_hex(size)


def _without(text: str, keys: tuple[str, ...]) -> str:
    return _short_without(text, keys) if len(text) <= _SHORT else without_keys(text, keys)


@lru_cache(maxsize=4096)
def _short_without(text: str, keys: tuple[str, ...]) -> str:
    """Names come again and again."""
    return without_keys(text, keys)


@contextmanager
def _entered(span: RecordedSpan) -> Iterator[None]:
    token = _current.set(span)
    try:
        yield
    finally:
        with suppress(ValueError):
            _current.reset(token)


def traceparent(place: Place) -> str:
    """The W3C `traceparent` of a span."""
    return f"00-{place.trace_id}-{place.span_id}-{'01' if place.sampled else '00'}"


class Sink(Protocol):
    """Where spans go."""

    def prepare(self) -> None:
        """Make ready what takes time, in the thread that will use it."""

    def export(self, spans: list[RecordedSpan]) -> str:
        """Write or send them: why that cannot be done, as a sentence; "" where it was."""

    def patience(self) -> float:
        """For how many seconds it is worth waiting at the end of a process until all is there."""


class Recorder:
    """Who records the spans of one process, on their way to the `sinks`.

    `inner` gives the Agents SDK's innermost span that this code runs in, by its ID, where there is one.
    """

    def __init__(self, sinks: Iterable[Sink], service: str, say: Callable[[str], object]) -> None:
        self.service = service
        self.inner: Callable[[], tuple[str, Place] | None] = lambda: None
        self._outboxes = [_Outbox(sink, say) for sink in sinks]
        self._open: WeakSet[RecordedSpan] = WeakSet()
        self._closed = False
        threading.Thread(target=self._close_at_the_end, name="flame-agent-traces-end").start()

    @classmethod
    def to(cls, modes: frozenset[str], service: str, say: Callable[[str], object]) -> Recorder:
        """One that sends where these modes say."""
        sinks: list[Sink] = []
        if FILE in modes:
            from flameagent.tracing.file import FileSink

            sinks.append(FileSink(service))
        if OTLP in modes:
            from flameagent.tracing.otlp import OtlpSink

            sinks.append(OtlpSink(service))
        return cls(sinks, service, say)

    def begin(
        self,
        name: str,
        attributes: Mapping[str, Any] | None = None,
        *,
        kind: str = "internal",
        parent: Place | None = None,
        start: int | None = None,
        key: str = "",
    ) -> RecordedSpan:
        """A span below `parent`, or below the one that this code runs in."""
        inner = self.inner()
        above = parent if parent is not None else self._here(inner)
        if isinstance(above, RecordedSpan):
            above.used = True
        started = time.time_ns() if start is None else start
        span = RecordedSpan(self, name, attributes, kind, above, started, inner[0] if inner else "", key)
        self._open.add(span)
        return span

    def note(
        self,
        name: str,
        start: int,
        end: int,
        attributes: Mapping[str, Any] | None,
        of: Span,
        error: str = "",
        key: str = "",
    ) -> None:
        """A span that has ended."""
        if isinstance(of, RecordedSpan):
            span = RecordedSpan(self, name, attributes, "internal", of, start, "", key)
            if error:
                span.fail("error", error)
            span.ended = max(end, start)
            self.put(span)

    def annotate(self, attributes: Mapping[str, Any]) -> None:
        """Note more about the span that this code runs in."""
        if isinstance(place := self._here(self.inner()), RecordedSpan):
            place.set(attributes)

    def traceparent(self) -> str:
        """That of the span that this code runs in; "" without one."""
        place = self._here(self.inner())
        return traceparent(place) if place else ""

    def put(self, span: RecordedSpan) -> None:
        """Send a span that has ended."""
        self._open.discard(span)
        if span.sampled:
            for outbox in self._outboxes:
                outbox.put(span)

    def discard(self, span: RecordedSpan) -> None:
        """Forget a span that nobody needs."""
        self._open.discard(span)
        span.ended = span.started

    def close(self) -> None:
        """Send what is there, with spans that have not ended, as far as that goes in a moment."""
        if self._closed:
            return
        self._closed = True
        for span in list(self._open):
            span.set({"flame.unfinished": True})
            span.end()
        self.flush()

    def _close_at_the_end(self) -> None:
        """Close when the program has come to its end; in `atexit`, behind that, no thread can be begun.

        A program that ends before the exporter was imported, a quarter of a second after it has begun, says `stop`.
        """
        threading.main_thread().join()
        self.close()

    def flush(self, patience: float | None = None) -> bool:
        """Wait until all is written and sent, so many seconds at most, or as it is worth: whether it is."""
        flushed = [outbox.flush(patience) for outbox in self._outboxes]
        return all(flushed)

    @staticmethod
    def _here(inner: tuple[str, Place] | None) -> Place | None:
        own = _current.get()
        if isinstance(own, RecordedSpan) and own.ended:  # a task that goes on: what it begins is a part of nothing
            own = None
        if inner is None or (own is not None and own.inside == inner[0]):
            return own
        return inner[1]


class _Outbox:
    """Spans on their way to one sink, in a thread of its own. More than wait already are dropped."""

    def __init__(self, sink: Sink, say: Callable[[str], object]) -> None:
        self._sink = sink
        self._say = say
        self._said = False
        self._waiting: deque[RecordedSpan] = deque()
        self._change = threading.Condition()
        self._hurry = False
        self._busy = False
        self._ready = False
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        with suppress(RuntimeError):  # the interpreter ends, or there can be no more threads
            threading.Thread(target=self._run, name="flame-agent-traces", daemon=True).start()

    def put(self, span: RecordedSpan) -> None:
        if self._pid != os.getpid():  # a fork has none of our threads
            self._waiting, self._change, self._busy = deque(), threading.Condition(), False
            self._begin()
        with self._change:
            if len(self._waiting) < _MOST:
                self._waiting.append(span)
                if len(self._waiting) == 1:
                    self._change.notify_all()

    def flush(self, patience: float | None) -> bool:
        with self._change:
            if self._is_idle():
                return True
            self._hurry = True
            self._change.notify_all()
            try:
                if patience is None:
                    # Importing what sends takes a while on a busy machine, but it ends.
                    self._change.wait_for(lambda: self._ready, _IMPORT_PATIENCE)
                    patience = self._sink.patience()
                return self._change.wait_for(self._is_idle, patience)
            finally:
                self._hurry = False

    def _is_idle(self) -> bool:
        return not (self._waiting or self._busy) or self._pid != os.getpid()

    def _run(self) -> None:
        change = self._change
        with suppress(Exception):  # what is wrong is said when it is needed
            self._sink.prepare()
        with change:
            self._ready = True
            change.notify_all()
        while True:
            with change:
                change.wait_for(lambda: self._waiting)
                change.wait_for(lambda: self._hurry, _TOGETHER)
                spans, self._busy = list(self._waiting), True
                self._waiting.clear()
            try:
                keys = tuple(keys_here())
                wrong = self._sink.export([span.safe(keys) for span in spans])
            except Exception as error:  # whatever it is, turns go on
                wrong = f"Traces are lost: {type(error).__name__}: {redact(str(error))}"
            finally:
                with change:
                    self._busy = False
                    change.notify_all()
            if wrong and not self._said:
                self._say(wrong)
            self._said = bool(wrong)
