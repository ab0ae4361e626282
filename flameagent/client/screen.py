"""The terminal or the pipe: data on standard output, everything else on standard error.

Promises that what users, models and tools wrote is shown as text, never obeyed: nothing of it is markup, and on
a terminal no control character of it reaches the terminal. Colour and a spinner only on a terminal.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, TextIO

from flameagent.client import items
from flameagent.client.errors import ClientError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_LABEL = 9
_COLOURS = {"user": "cyan", "assistant": "green", "call": "yellow", "result": "magenta"}
# Each control character but tab and newline becomes its picture; those of C1 begin escapes too (0x9b is CSI).
_PICTURES = {code: chr(0x2400 + code) for code in range(0x20) if code not in (9, 10)}
_PICTURES |= {0x7F: "␡", **{code: f"\\x{code:02x}" for code in range(0x80, 0xA0)}}
# JSON itself escapes none of these.
_ESCAPES = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}


class Screen:
    """Standard output and standard error, in one of three ways: for people, `quiet`, or `as_json`."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self._out = _Stream(sys.stdout)
        self._err = _Stream(sys.stderr)

    @property
    def shows(self) -> bool:
        """Whether someone sees the answer while it comes: standard output is a terminal."""
        return self._out.terminal and not self.as_json

    @property
    def asks(self) -> bool:
        """Whether someone is there who can be asked: standard input is a terminal, too."""
        return self.shows and sys.stdin is not None and sys.stdin.isatty()

    def data(self, value: Any) -> None:
        """JSON on standard output, one value a line."""
        self._out.write(_json(value))

    def text(self, text: str) -> None:
        """Text on standard output, as it is."""
        self._out.write(text)

    def part(self, text: str) -> None:
        """Text on standard output without an end of the line: more of it comes."""
        self._out.part(text)

    def heading(self, text: str) -> None:
        """A line of our own on standard output that others stand under."""
        self._out.write(text, "bold")

    def aside(self, text: str) -> None:
        """A line of our own on standard output that matters less."""
        self._out.write(text, "dim")

    def notice(self, text: str) -> None:
        """A line on standard error; nothing where only data is wanted."""
        if not (self.quiet or self.as_json):
            self._err.write(text, "dim")

    def warning(self, text: str) -> None:
        """A line on standard error that is said in any case, but among JSON."""
        if not self.as_json:
            self._err.write(text, "yellow")

    def error(self, error: ClientError) -> None:
        """What went wrong, on standard error."""
        if self.as_json:
            about: dict[str, Any] = {"code": error.code, "message": str(error)}
            if error.session_id:
                about["session_id"] = error.session_id
            self._err.write(_json({"error": about}))
        else:
            self._err.write(str(error), "red")
            if error.advice:
                self._err.write(error.advice, "dim")

    def item(self, item: dict[str, Any], *, marked: bool = False, whole: bool = False) -> None:
        """One item of a conversation; a long one folded, unless it is a message and `whole` asks for it."""
        label, text = items.described(item)
        if not (whole and label in ("user", "assistant", "system", "developer")):
            text = items.folded(text)
        lines = text.split("\n") or [""]
        self._out.label(f"{'*' if marked else ' '} {label:<{_LABEL}}  ", _COLOURS.get(label, "dim"), lines[0])
        for line in lines[1:]:
            self._out.write(f"{'':{_LABEL + 4}}{line}")

    def fact(self, text: str) -> None:
        """What a turn remembered or forgot."""
        self._out.label(f"  {'memory':<{_LABEL}}  ", "blue", text)

    @contextlib.contextmanager
    def progress(self) -> Iterator[Activity]:
        """Show what is happening and for how long, while inside; on a terminal only."""
        if self.quiet or self.as_json or not self._err.terminal or not self._err.console.is_interactive:
            yield Activity(None)
            return
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        with Progress(*columns, console=self._err.console, transient=True) as shown:
            yield Activity(shown)

    def leave(self) -> None:
        """Have the terminal as it was: a spinner that is left in a hurry hides the cursor."""
        if self._err.terminal:
            self._err.console.show_cursor(True)


class Activity:
    """What is happening and for how long: a spinner, or nothing."""

    def __init__(self, shown: Progress | None) -> None:
        self._shown = shown
        self._task = shown.add_task("", total=None) if shown else None

    def __call__(self, text: str) -> None:
        """Say what is happening now."""
        if self._shown is not None and self._task is not None:
            self._shown.update(self._task, description=text)

    def hide(self) -> None:
        """Leave the line to what is written there."""
        if self._shown is not None:
            self._shown.stop()

    def show(self) -> None:
        """Be on the last line again, which must be empty."""
        if self._shown is not None:
            self._shown.start()


def _json(value: Any) -> str:
    """JSON that stays JSON in any encoding and on any terminal."""
    ascii_only = (sys.stdout.encoding or "").lower() not in ("utf-8", "utf8")
    return json.dumps(value, ensure_ascii=ascii_only, default=str).translate(_ESCAPES)


class _Stream:
    """Standard output or standard error. A reader that has gone away (`| head`) is no error."""

    def __init__(self, file: TextIO) -> None:
        self.terminal = file.isatty()
        self._file = file

    @cached_property
    def console(self) -> Console:
        """The terminal."""
        from rich.console import Console  # 0.1 s that only a terminal is worth

        # Rich is not asked whether this is a terminal: it takes FORCE_COLOR for one.
        return Console(file=self._file, force_terminal=True, highlight=False, markup=False, emoji=False)

    def write(self, text: str, style: str = "") -> None:
        self.label("", "", text, style)

    def label(self, label: str, label_style: str, text: str, style: str = "") -> None:
        with self._flushed():
            if self.terminal:
                from rich.text import Text

                parts = (label.translate(_PICTURES), label_style), (text.translate(_PICTURES), style)
                self.console.print(Text.assemble(*parts), soft_wrap=True)
            else:
                print(f"{label}{text}", file=self._file)

    def part(self, text: str) -> None:
        with self._flushed():
            self._file.write(text.translate(_PICTURES) if self.terminal else text)

    @contextlib.contextmanager
    def _flushed(self) -> Iterator[None]:
        try:
            yield
            self._file.flush()
        except BrokenPipeError:
            # What is still buffered must not fail at exit either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._file.fileno())
