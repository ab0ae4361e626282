"""A run on a terminal, with somebody at it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
import threading

from tests.acceptance.program import PATIENCE, Program, eventually

_PARTS = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)")


class Terminal:
    """What a terminal gets to see of a run, and what is typed at it."""

    def __init__(self, program: Program, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        self.run = program.start(*arguments, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        self._seen = bytearray()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def raw(self) -> str:
        """All bytes so far."""
        return self._seen.decode(errors="replace")

    @property
    def text(self) -> str:
        """What stands on the screen: of escape sequences, those that a spinner goes away by are followed."""
        lines, row, column = [""], 0, 0
        for number, command, returned, fed, written in _PARTS.findall(self.raw):
            if command == "A":
                row = max(row - int(number or 1), 0)
            elif command == "K":
                lines[row] = ""
            elif returned:
                column = 0
            elif fed:
                row += 1
                lines += [""] * (row + 1 - len(lines))
            elif written:
                lines[row] = lines[row][:column].ljust(column) + written + lines[row][column + len(written) :]
                column += len(written)
        return "\n".join(lines)

    def type_when(self, shown: str, keys: str) -> None:
        """Type as soon as something is shown."""
        eventually(lambda: shown in self.text)
        os.write(self._ours, keys.encode())

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


def on_a_terminal(program: Program, *arguments: str) -> str:
    """All bytes that a terminal gets of a run that asks nothing."""
    terminal = Terminal(program, *arguments)
    terminal.ended()
    return terminal.raw
