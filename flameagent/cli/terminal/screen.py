"""The output streams, a terminal or pipes: data on standard output, everything else on standard error.

Promises that what users, models and tools wrote is shown as text, never obeyed: nothing of it is markup, and a
terminal gets it sanitized. Lines that change only on a terminal that can, colour
only there and where `FORCE_COLOR` asks for it, never where `NO_COLOR` forbids it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, cast

from flameagent.client.errors import ClientError, OutputError
from flameagent.transcript.sanitize import sanitize, sanitize_json
from flamewire.standard_streams import silence

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live as Region

_LABEL = 9
_BRIEF_LINES, _BRIEF_CHARACTERS = 3, 200
_COLOURS = {"user": "cyan", "assistant": "green", "call": "yellow", "result": "magenta"}

# A path goes on behind a space where a word with a slash follows soon: ~/Library/Application Support/….
_PATH = r"""['"(]?~?/\S*(?:(?<![.,:;)'"])(?: [^\s/.,:;()'"]+){0,2} [^\s/:('"~]+/\S*)+"""
_WHOLE = re.compile(rf"(?:{_PATH}|\S+)\s*|\s+")


class Screen:
    """Standard output and standard error, in one of three ways: for people, `quiet`, or `as_json`."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        forced = bool(os.environ.get("FORCE_COLOR")) and not (as_json or quiet)
        self._out = _Stream(sys.stdout, forced)
        self._err = _Stream(sys.stderr, forced)
        self._told: ClientError | None = None

    @property
    def shows(self) -> bool:
        """True where someone sees the answer while it comes: standard output is a terminal."""
        return self._out.terminal and not self.as_json

    @property
    def asks(self) -> bool:
        """True where someone is there who can be asked: standard input is a terminal, too."""
        return self.shows and sys.stdin is not None and sys.stdin.isatty()

    @property
    def waits_visibly(self) -> bool:
        """Someone sees what happens while they wait: standard error is a terminal whose lines can change."""
        return not (self.quiet or self.as_json) and self._err.interactive

    @property
    def renders(self) -> bool:
        """True where answers are shown as Markdown: standard output is a terminal that can change lines."""
        return not (self.quiet or self.as_json) and self._out.interactive

    @property
    def height(self) -> int:
        """Lines of the terminal."""
        return self._out.console.height

    def data(self, value: Any) -> None:
        """JSON on standard output, one value a line."""
        self._out.write(_json(value))

    def text(self, text: str, *, folded: bool = False, wrapped: bool = False) -> None:
        """Text on standard output, as it is; `folded`, a line that ends where the terminal does; `wrapped`, words."""
        self._out.write(self._fitting(text) if folded and self._out.terminal else text, wrapped=wrapped)

    def field(self, label: str, text: str) -> None:
        """A label on standard output, and beside it words, which a terminal breaks under each other, none inside."""
        self._out.item(label, "", text, whole_words=True)

    def value(self, label: str, value: str, about: str = "") -> None:
        """A label, a value that stays in one piece to be copied, and what there is to say about it."""
        fits = self.width is None or len(label) + len(value) + 1 + len(about) <= self.width
        self._out.write(f"{label}{value} {about}".rstrip() if fits else f"{label}{value}")
        if about and not fits:
            self._out.item(" " * len(label), "", about, whole_words=True)

    def part(self, text: str) -> None:
        """Text on standard output without an end of the line: more of it comes."""
        self._out.part(sanitize(text) if self._out.styled else text)

    def heading(self, text: str) -> None:
        """A line of our own on standard output that others stand under."""
        self._out.write(text, "bold", wrapped=True)

    def aside(self, text: str, *, folded: bool = False) -> None:
        """A line of our own on standard output that matters less; `folded`, it ends where the terminal does."""
        self._out.write(self._fitting(text) if folded and self._out.terminal else text, "dim")

    def notice(self, text: str, *, wrapped: bool = False) -> None:
        """A line on standard error; nothing where only data is wanted. `wrapped`, it is words and no command."""
        if not (self.quiet or self.as_json):
            self._err.write(text, "dim", wrapped=wrapped)

    def warning(self, text: str) -> None:
        """A line on standard error that is said in any case, but among JSON."""
        if not self.as_json:
            self._err.write(text, "yellow", wrapped=True)

    def error(self, error: ClientError) -> None:
        """An error, on standard error, once."""
        if error is self._told:
            return
        self._told = error
        if self.as_json:
            about: dict[str, Any] = {"code": error.code, "message": str(error)}
            if error.session_id:
                about["session_id"] = error.session_id
            self._err.write(_json({"error": about}))
        else:
            self._err.write(str(error), "red", wrapped=True)
            if error.advice:
                self._err.write(error.advice, "dim")

    def item(self, item: dict[str, Any], *, marked: bool = False, whole: bool = False, brief: bool = False) -> None:
        """One item of a conversation; a long one folded, unless it is a message and `whole` asks for it.

        `brief`, it has a few lines, and those of an answer are rendered where answers are.
        """
        from flameagent.conversation import item_text  # msgspec: 0.1 s that only a conversation is worth

        label, text = item_text.describe_item(item)
        beside, colour = f"{'*' if marked else ' '} {label:<{_LABEL}}  ", _COLOURS.get(label, "dim")
        if brief:
            text = item_text.shorten(text, lines=_BRIEF_LINES, characters=_BRIEF_CHARACTERS)
            if self.renders and label == "assistant" and (lines := self._rendered_beside(beside, text)):
                self._out.segments(beside, colour, lines)
                return
        elif not (whole and label in ("user", "assistant", "system", "developer")):
            text = item_text.shorten(text)
        self._out.item(beside, colour, text)

    def _rendered_beside(self, label: str, text: str) -> list[Any]:
        """The lines of Markdown that fit beside a label, none of them empty, as rich's segments."""
        from flameagent.cli.terminal.markdown import rendered

        room = max(self._out.console.width - len(label), 1)
        return [line for line in rendered(sanitize(text), self._out.console, room) if line]

    def note(self, label: str, colour: str, text: str) -> None:
        """A line of ours among items: what a turn remembered, who decided."""
        self._out.item(f"  {label:<{_LABEL}}  ", colour, text)

    @property
    def unread(self) -> bool:
        """True once the reader of standard output has been found to have gone away (`| head`)."""
        return self._out.unread

    @property
    def width(self) -> int | None:
        """The columns of the terminal; None where standard output is none."""
        return self._out.console.width if self._out.terminal else None

    @contextlib.contextmanager
    def paged(self) -> Iterator[None]:
        """Show what is written inside by the user's pager, on a terminal; `less` ends at once when it fits."""
        import shlex
        import shutil
        import signal
        import subprocess

        try:
            command = shlex.split(os.environ.get("PAGER", "less"))
        except ValueError:  # quotes that do not close
            command = []
        if not self._out.interactive or self.as_json or not command or shutil.which(command[0]) is None:
            yield
            return
        environment = {"LESS": "FRX", **os.environ}
        pager = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, encoding="utf-8", errors="replace")
        assert pager.stdin is not None
        terminal, self._out = self._out, _Stream(pager.stdin, forced=True, terminal=True)
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the pager's
        try:
            yield
        finally:
            with contextlib.suppress(BrokenPipeError):
                pager.stdin.close()
            pager.wait()
            self._out = terminal
            signal.signal(signal.SIGINT, before)

    def markdown(self, text: str, *, more: bool = False) -> None:
        """Blocks of Markdown on standard output; with `more`, others stand above them."""
        from rich.segment import SegmentLines

        with self._out.flushed():
            if lines := self.lines(text):
                above: list[Any] = [[]] if more else []
                self._out.console.print(SegmentLines([*above, *lines], new_lines=True), end="")

    def lines(self, text: str) -> list[Any]:
        """The lines that show Markdown on standard output, as rich's segments."""
        from flameagent.cli.terminal.markdown import rendered

        return rendered(sanitize(text), self._out.console)

    def region(self, shown: Callable[[], RenderableType]) -> Region:
        """The terminal's last lines while it is entered, drawn again and again, gone afterwards.

        What is printed on standard output meanwhile stands above them.
        """
        from rich.live import Live as Region

        console = self._out.console if self.renders else self._err.console
        return Region(
            console=console,
            get_renderable=shown,
            transient=True,
            refresh_per_second=10,
            vertical_overflow="crop",
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def at_once(self, controls: str) -> None:
        """Move the cursor of the terminal that has the `region`, past what buffers and locks: in a signal handler."""
        with contextlib.suppress(OSError):
            os.write((sys.stdout if self.renders else sys.stderr).fileno(), controls.encode())

    def _fitting(self, text: str) -> str:
        from rich.text import Text

        line = Text(sanitize(text))
        line.truncate(self._out.console.width, overflow="ellipsis")
        return line.plain

    def leave(self) -> None:
        """Have the terminal as it was: lines that change, left in a hurry, hide the cursor."""
        if self._err.interactive:
            self._err.console.show_cursor(True)
            self._err.part("\r\x1b[K")


def finish() -> None:
    """Have what others printed written, too. Raises `OutputError` where standard output cannot be written."""
    _Stream(sys.stderr, forced=False).part("")
    _Stream(sys.stdout, forced=False).part("")


def _json(value: Any) -> str:
    """JSON that stays JSON in any encoding and on any terminal."""
    ascii_only = (sys.stdout.encoding or "").lower() not in ("utf-8", "utf8")
    return sanitize_json(json.dumps(value, ensure_ascii=ascii_only, default=str))


def _between_words(text: str, width: int) -> list[str]:
    """Its lines, broken between words only: a path or a URL stays in one piece, so that it can be copied."""
    from rich.cells import cell_len

    lines = []
    for line in text.split("\n"):
        begun = ""
        for word in _WHOLE.findall(line):
            if begun.strip() and cell_len(begun + word.rstrip()) > width:
                lines.append(begun.rstrip())
                begun = ""
            begun += word
        lines.append(begun.rstrip())
    return lines


class _Output:
    """A file that does not fail while it is written, on rich's thread neither: it is given up, and `lost` says why.

    A reader that has gone away (`| head`) is no error.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self.lost: OSError | None = None
        self.unread = False

    def write(self, text: str) -> int:
        try:
            return self._file.write(text)
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._file.flush()
        except OSError as error:
            self._give_up(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def _give_up(self, error: OSError) -> None:
        silence(self._file)
        self.unread = isinstance(error, BrokenPipeError)
        if not self.unread and self._file is not sys.stderr:  # of which nobody can be told
            self.lost = error


class _Stream:
    """Standard output or standard error.

    What writes raises `OutputError` where that, or something before it, could not be written, once.
    `forced` asks for colour where there is no terminal either.
    """

    def __init__(self, file: IO[str], forced: bool, *, terminal: bool | None = None) -> None:
        self.terminal = file.isatty() if terminal is None else terminal
        self.styled = self.terminal or forced
        self._output = _Output(file)
        self._file = cast("IO[str]", self._output)

    @cached_property
    def console(self) -> Console:
        """The terminal."""
        from rich.console import Console  # 0.1 s that only a terminal is worth

        # Rich is not asked whether this is a terminal: it takes FORCE_COLOR for one.
        return Console(file=self._file, force_terminal=True, highlight=False, markup=False, emoji=False)

    @property
    def unread(self) -> bool:
        """True once its reader has been found to have gone away."""
        return self._output.unread

    @property
    def interactive(self) -> bool:
        """True for a terminal whose lines can be changed."""
        return self.terminal and self.console.is_interactive

    def write(self, text: str, style: str = "", *, wrapped: bool = False) -> None:
        """A line; `wrapped`, a terminal breaks it between words. Commands are not: they are to be copied."""
        with self.flushed():
            if self.styled:
                from rich.text import Text

                shown = sanitize(text)
                for line in _between_words(shown, self.console.width) if wrapped and self.terminal else [shown]:
                    self.console.print(Text(line, style), soft_wrap=True)
            else:
                print(text, file=self._file)

    def item(self, label: str, style: str, text: str, *, whole_words: bool = False) -> None:
        """A label, and beside it a text, whose lines stand under each other."""
        with self.flushed():
            if self.styled:
                from rich.text import Text

                label = sanitize(label)
                shown, room = Text(sanitize(text)), self.console.width - len(label)
                if not self.terminal:
                    lines = list(shown.split("\n", allow_blank=True))
                elif whole_words:
                    lines = [Text(line) for line in _between_words(shown.plain, room)]
                else:
                    lines = list(shown.wrap(self.console, room))
                for number, line in enumerate(lines or [Text()]):
                    beside = (label, style) if number == 0 else " " * len(label)
                    self.console.print(Text.assemble(beside, line), soft_wrap=True)
            else:
                print(label + text.replace("\n", f"\n{'':{len(label)}}"), file=self._file)

    def segments(self, label: str, style: str, lines: list[Any]) -> None:
        """A label, and beside it lines of rich's segments."""
        from rich.segment import Segment, SegmentLines
        from rich.style import Style

        beside = [Segment(label, Style.parse(style)), *(Segment(" " * len(label)) for _ in lines[1:])]
        with self.flushed():
            shown = [[start, *line] for start, line in zip(beside, lines, strict=True)]
            self.console.print(SegmentLines(shown, new_lines=True), end="")

    def part(self, text: str) -> None:
        with self.flushed():
            self._file.write(text)

    @contextlib.contextmanager
    def flushed(self) -> Iterator[None]:
        yield
        self._output.flush()
        error, self._output.lost = self._output.lost, None
        if error is not None:
            raise OutputError(error.strerror or str(error)) from error
