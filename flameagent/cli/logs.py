"""The embedded engine's log and those of its instances, by their ends, and followed while they are written."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from flameagent.cli.terminal.screen import Screen
    from flameagent.client.engine import Engine, Logs

LINES = 50
"""How many lines of each log are shown: a traceback, and what stands before it."""

_PAUSE = 0.2


def show(screen: Screen, engine: Engine, session_id: str = "", lines: int = LINES) -> None:
    """Show the newest lines of the session's newest instance; without a session, the engine's too, and the newest
    instance's that served one. Raises `UsageError` for a cluster."""
    found = engine.logs()
    shown = False
    for log in _files(found, session_id, newest=True):
        if last := [*log.last(lines), *log.begun()][-lines:]:
            log.show(screen, last)
            shown = True
    if not shown:
        of_it = f" of {session_id}: it has had no instance, or 20 others have had one since" if session_id else " yet"
        screen.notice(f"In {found.engine.parent} are no logs{of_it}.")


def follow(screen: Screen, engine: Engine, session_id: str = "", lines: int = LINES) -> None:
    """Show the newest lines and what is added, also by instances to come: until Ctrl-C, or until nobody reads.

    Raises `UsageError` for a cluster.
    """
    found = engine.logs()
    followed = {log.path: log for log in _files(found, session_id)}
    newest = {log.path for log in _files(found, session_id, newest=True)}
    said: Path | None = None
    for log in followed.values():
        if (last := log.last(lines)) and log.path in newest:
            log.show(screen, last)
            said = log.path
    while not screen.unread:
        for log in list(followed.values()):
            if more := log.more():
                log.show(screen, more, again=log.path == said)
                said = log.path
        time.sleep(_PAUSE)
        for log in _files(engine.logs(), session_id):
            followed.setdefault(log.path, log)


class _Log:
    """A log file that is read on; one that is set aside or removed is read to its end."""

    def __init__(self, path: Path, session_id: str = "") -> None:
        self.path = path
        self._title = f"{path}, of {session_id}:" if session_id else f"{path}:"
        self._file: IO[bytes] | None = None
        self._begun = b""

    def last(self, count: int) -> list[str]:
        """Its last lines; `more` goes on behind them."""
        return list(deque(self._lines(), count))

    def begun(self) -> list[str]:
        """The line at its end that has no end, if there is one."""
        return [self._begun.decode(errors="replace")] if self._begun else []

    def more(self) -> list[str]:
        """The lines that were added since."""
        found = list(self._lines())
        if self._file is not None and self._was_replaced(self._file):
            self._file.close()
            self._file = None
            found += self._lines()
        return found

    def show(self, screen: Screen, lines: list[str], *, again: bool = False) -> None:
        """Show lines of it, under its name, unless those before were of it, too."""
        if not again:
            screen.heading(self._title)
        screen.text("\n".join(lines))

    def _lines(self) -> Iterator[str]:
        """The complete lines that were not read yet."""
        if self._file is None:
            try:
                self._file = self.path.open("rb")
            except OSError:
                return
        for line in self._file:
            line = self._begun + line
            self._begun = b"" if line.endswith(b"\n") else line
            if not self._begun:
                yield line.decode(errors="replace").rstrip("\r\n")

    def _was_replaced(self, file: IO[bytes]) -> bool:
        try:
            return not os.path.samestat(os.fstat(file.fileno()), self.path.stat())
        except OSError:  # it is gone
            return False


def _files(found: Logs, session_id: str, *, newest: bool = False) -> list[_Log]:
    """The files that are about the session, or about all; of instances all of them, or the `newest` one's."""
    instances = [logs for logs in found.instances if session_id in ("", logs.session_id)]
    own = [] if session_id else [_Log(found.engine)]
    shown = instances[-1:] if newest else instances
    return own + [_Log(path, each.session_id) for each in shown for path in (each.out, each.err)]
