"""A run on a terminal, with somebody at it."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
import threading

import pyte

from tests.acceptance.program import PATIENCE, Program, eventually

_LINES = 100


class Terminal:
    """A run as a terminal gets to see it, and the keys that are typed at it."""

    def __init__(self, program: Program, *arguments: str, columns: int = 200) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, columns, 0, 0))
        self._screen = pyte.Screen(columns, _LINES)
        self._screen.write_process_input = self._answer  # type: ignore[method-assign]
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self.run = program.start(*arguments, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        self._seen = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def raw(self) -> str:
        """All bytes so far."""
        return self._seen.decode(errors="replace")

    @property
    def text(self) -> str:
        """The text on the screen, with an end to each line."""
        with self._lock:
            return "\n".join(line.rstrip() for line in self._screen.display).rstrip() + "\n"

    def shows(self, text: str) -> None:
        """Wait until that is on the screen."""
        eventually(lambda: text in self.text, seen=lambda: f"{text!r} is not in\n{self.text}")

    def type(self, keys: str) -> None:
        """Type."""
        os.write(self._ours, keys.encode())

    def type_when(self, shown: str, keys: str) -> None:
        """Type as soon as something is shown; that it ends with a space does not show."""
        self.shows(shown.rstrip())
        self.type(keys)

    def ended(self, code: int = 0) -> str:
        """Wait for the end; what could be read."""
        left = self.run.wait(PATIENCE)
        self._reader.join(PATIENCE)
        os.close(self._ours)
        assert left == code, f"exit code {left}: {self.text}"
        return self.text

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self._ours, 65536)
            except OSError:  # Linux says so at the end
                return
            if not part:
                return
            self._seen.extend(part)
            with self._lock:
                self._stream.feed(part)

    def _answer(self, asked: str) -> None:
        """Where the cursor is, which an editor of lines asks for."""
        os.write(self._ours, asked.encode())


def on_a_terminal(program: Program, *arguments: str) -> str:
    """All bytes that a terminal gets of a run that asks nothing."""
    terminal = Terminal(program, *arguments)
    terminal.ended()
    return terminal.raw
