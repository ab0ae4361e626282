"""The clock of a turn that runs: when it began, and what took how long."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from flameagent.conversation.timing import NO_TIMING, Timing

_CALLS = 200  # of tools, whose times are kept


class Clock:
    """Begins now; a turn that goes on behind a human's decision adds to what it took `before`."""

    def __init__(self, asked: object = 0) -> None:
        """`asked` is when, in epoch milliseconds, as whoever asked says it."""
        self.began = int(time.time() * 1000)
        self.before = NO_TIMING
        self._waited = self.began - asked if isinstance(asked, int) and 0 < asked <= self.began else None
        self._start = time.monotonic()
        self._model = 0.0
        self._tools: dict[str, float] = {}
        self._failed: list[str] = []

    @contextmanager
    def asking_model(self) -> Iterator[None]:
        """While a model is asked."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._model += time.monotonic() - start

    @contextmanager
    def calling_tool(self, call_id: str) -> Iterator[None]:
        """While a tool is called; one that raises has failed."""
        start = time.monotonic()
        try:
            yield
        except BaseException:
            if len(self._failed) < _CALLS:
                self._failed.append(call_id)
            raise
        finally:
            if len(self._tools) < _CALLS:
                self._tools[call_id] = time.monotonic() - start

    def timing(self, *, stops: bool = False) -> Timing:
        """All times until now, for the turn's record, or for that with which it `stops` for a human."""
        before = self.before
        return Timing(
            waited=before.waited if before.began else self._waited,
            began=before.began or (self.began if stops else 0),
            ran=before.ran + _milliseconds(time.monotonic() - self._start),
            model=before.model + _milliseconds(self._model),
            tools=before.tools | {call_id: _milliseconds(took) for call_id, took in self._tools.items()},
            failed=[*before.failed, *self._failed],
        )


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
