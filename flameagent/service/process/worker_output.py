"""The output of a worker and its tools, passed on to the instance's log with the session and the task it is of.

Promises that one turn does not fill the log: of more than about a megabyte, it is said how much was left out.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import IO

from flameagent.service import log

_LINE = 8192  # bytes of one line of output that are kept together
_LAST_LINES = 8
_MOST = 1_000_000  # bytes of the log that one turn's output gets, about
_BESIDE = 64  # bytes that stand beside a line in the log, about


class WorkerOutput:
    """What a worker prints: once there is something to `read`, until its end, in a thread of its own."""

    def __init__(self) -> None:
        self.session_id = ""
        self._task_id = ""
        self._lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._counting = threading.Lock()
        self._printed = self._left_out = 0
        self._thread: threading.Thread | None = None

    def read(self, output: IO[bytes]) -> None:
        """Pass on what comes there."""
        self._thread = threading.Thread(target=self._relay, args=[output], daemon=True)
        self._thread.start()

    def begin(self, task_id: str) -> None:
        """Count anew: what comes is this task's."""
        self.end()  # what came late
        self._task_id = task_id

    def end(self) -> None:
        """Say how much was left out, and count anew: what comes was still on its way, or is of no task."""
        with self._counting:
            left_out, self._printed, self._left_out = self._left_out, 0, 0
        if left_out:
            said = f"{left_out} bytes of output were left out here: a turn gets {_MOST} bytes of this log"
            log.write(said, self.session_id, self._task_id)

    def last_words(self, patience: float) -> str:
        """Return the last lines, as a sentence; waits `patience` seconds for the end of the output."""
        if self._thread:
            self._thread.join(patience)
        lines = " | ".join(self._lines)
        return f"Its last output: {lines}" if lines else "It printed nothing."

    def _relay(self, output: IO[bytes]) -> None:
        while line := output.readline(_LINE):
            text = line.decode(errors="replace").rstrip("\n")
            self._lines.append(text)
            with self._counting:
                self._printed += len(line) + _BESIDE
                if self._printed > _MOST:
                    self._left_out += len(line)
                    continue
            log.write(text, self.session_id, self._task_id)
        self.end()
