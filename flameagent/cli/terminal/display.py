"""The display of a running turn on a terminal: tool calls, what happens and for how long, and the answer as it
comes.

Promises that what stands there in the end is the Answer, and nothing of the waiting: what was shown is gone on
with where it is the Answer's beginning, and given up where it is not. Nothing that was written is changed.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from flameagent.cli.terminal import signals
from flameagent.cli.terminal.screen import Screen
from flameagent.client import events
from flameagent.client.events import AttemptBegan, Event, Listener, MessageTaken
from flameagent.conversation import item_text
from flameagent.transcript.sanitize import sanitize

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

GIVEN_UP = "(That was given up. The answer:)"

BEGINS_AGAIN = "(What ran this turn was lost: it begins again.)"

_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class TurnDisplay:
    """One turn on the screen: its `listener` follows the turn; then its `answer`, or `leave` without one.

    On a terminal the answer is Markdown: its blocks are written when nothing can change them any more, and the last
    one stands below them, above the line that says what happens. Elsewhere it is written as it comes.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._said = ""
        self._written = 0  # characters of it
        self._doing = ""
        self._since = 0.0
        self._drawn = 1  # lines, the last time

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Show what happens, and the block that is not complete, while inside."""
        if not (self._screen.waits_visibly or self._screen.renders):
            yield
            return
        with self._screen.region(self._last_lines), signals.suspendable(self._step_aside, self._come_back):
            yield

    def listener(self, *, answer: bool) -> Listener | None:
        """The listener of a turn, which shows what can be seen here; None where that is nothing.

        With `answer` the answer is shown while it comes.
        """
        doing = self.doing if self._screen.waits_visibly else None
        if not answer:
            return events.listener(doing)
        told = events.listener(doing, self.text, self.call)

        def listen(event: Event) -> None:
            if isinstance(event, AttemptBegan):
                self._aside(BEGINS_AGAIN)
            elif isinstance(event, MessageTaken):
                self._aside(f"> {event.text}")
            elif told:
                told(event)

        return listen

    def doing(self, text: str) -> None:
        """Say what happens now."""
        if text != self._doing:
            self._doing, self._since = text, time.monotonic()

    def text(self, more: str) -> None:
        """Show more of what the agent says."""
        if not more:
            return
        self._doing = ""
        self._said += more
        if self._screen.renders:
            from flameagent.cli.terminal.markdown import final

            self._write(final(self._said[self._written :]))
        else:
            self._screen.part(more)

    def call(self, tool: str, arguments: str) -> None:
        """Show a tool call in a line; what the agent said before it was not the answer."""
        self._aside(f"→ {item_text.describe_call(tool, arguments)}", folded=True)

    def answer(self, text: str) -> None:
        """Have the whole answer there, and nothing twice."""
        if self._said and not text.startswith(self._said):
            self.leave()
            self._screen.aside(GIVEN_UP)
        more = text[len(self._said) :]
        self._said = text
        if self._screen.renders:
            self._write(len(text) - self._written)
        else:
            self._screen.part(f"{more}\n")
        self._said, self._written = "", 0

    def leave(self) -> None:
        """End what was begun."""
        if self._screen.renders:
            self._write(len(self._said) - self._written)
        elif self._said and not self._said.endswith("\n"):
            self._screen.part("\n")
        self._said, self._written = "", 0

    def _aside(self, text: str, *, folded: bool = False) -> None:
        """Show what happened in a line of its own; what the agent said before it was not the answer."""
        self.leave()
        if not self._screen.quiet:
            self._screen.aside(text, folded=folded)

    def _write(self, characters: int) -> None:
        start, self._written = self._written, self._written + characters
        if characters:
            self._screen.markdown(self._said[start : self._written], more=start > 0)

    def _step_aside(self) -> None:
        """Leave the lines that are drawn behind, and the cursor on a line of its own, where it is seen."""
        self._screen.at_once("\r\n\x1b[?25h")

    def _come_back(self) -> None:
        """Make room for as many lines as were drawn: the next ones are drawn over them, not over the shell's."""
        self._screen.at_once("\x1b[?25l" + "\r\n" * (self._drawn - 1))

    def _last_lines(self) -> Group:
        """The lines that are drawn again and again: the end of the block that is not complete, and what happens."""
        from rich.console import Group
        from rich.segment import SegmentLines
        from rich.text import Text

        height = self._screen.height - 3
        shown: list[RenderableType] = []
        lines: list[Any] = []
        if self._screen.renders and (tail := self._said[self._written :]):
            lines = self._screen.lines(tail)[-height:]
            shown.append(SegmentLines([*([[]] if self._written and lines else []), *lines], new_lines=True))
        if self._doing and self._screen.waits_visibly:
            seconds = int(time.monotonic() - self._since)
            utf8 = (sys.stderr.encoding or "").lower() in ("utf-8", "utf8")
            frames = _SPINNER if utf8 else "|/-\\"
            frame = frames[int(time.monotonic() * 10) % len(frames)]
            waited = f" · {seconds} s" if utf8 else f" ({seconds} s)"
            line = Text.assemble((f"{frame} ", "green"), sanitize(self._doing), (waited if seconds else "", "dim"))
            line.no_wrap, line.overflow = True, "ellipsis"
            shown.append(line)
        self._drawn = max(len(lines) + bool(self._written and lines) + (len(shown) > bool(lines)), 1)
        return Group(*shown)
