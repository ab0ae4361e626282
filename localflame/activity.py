"""The time since the engine was last of use to anybody."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Activity:
    """The calls that are being served, and the end of the last one. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls = 0
        self._last = time.monotonic()

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """A call is being served."""
        with self._lock:
            self._calls += 1
        try:
            yield
        finally:
            with self._lock:
                self._calls -= 1
            self._last = time.monotonic()

    def touch(self) -> None:
        """Something was served."""
        self._last = time.monotonic()

    def idle(self) -> float:
        """Seconds without a call."""
        return 0.0 if self._calls else time.monotonic() - self._last
