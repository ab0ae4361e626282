"""An answer as it comes, on a terminal.

Promises that what stands there in the end is the Answer: what was shown is gone on with where it is the Answer's
beginning, and given up where it is not. Nothing that was written is changed.
"""

from __future__ import annotations

from flameagent.client import items
from flameagent.client.screen import Activity, Screen

GIVEN_UP = "(That was given up. The answer:)"


class Live:
    """One turn on the screen. `text` and `call` are for `Client.ask`; then `answer`, or `leave` without one.

    `activity` is what is shown while nothing is said.
    """

    def __init__(self, screen: Screen) -> None:
        self.activity = Activity(None)
        self._screen = screen
        self._said = ""

    def text(self, more: str) -> None:
        """Show more of what the agent says."""
        if more:
            self.activity.hide()
            self._screen.part(more)
            self._said += more

    def call(self, tool: str, arguments: str) -> None:
        """Show a tool call in a line; what the agent said before it was not the answer."""
        self.leave()
        if not self._screen.quiet:
            self.activity.hide()
            self._screen.aside(f"→ {items.called(tool, arguments)}")
        self.activity.show()

    def answer(self, text: str) -> None:
        """Have the whole answer there, and nothing twice."""
        if self._said and text.startswith(self._said):
            self._screen.part(text[len(self._said) :] + "\n")
            return
        if self._said:
            self.leave()
            self._screen.aside(GIVEN_UP)
        self._screen.text(text)

    def leave(self) -> None:
        """End the line that was begun."""
        if self._said and not self._said.endswith("\n"):
            self._screen.part("\n")
        self._said = ""
