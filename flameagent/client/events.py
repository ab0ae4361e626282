"""The events of a turn: what the agent says, calls and does, in the order in which it happens.

Whoever follows a turn is one `Listener`, which is told event after event on the thread that waits for the turn. What
counts is the reply: of a turn that had to begin again, the events are those of the first attempt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    """More of what the agent says."""

    text: str


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool; `arguments` are as the model wrote them: mostly a JSON object."""

    tool: str
    arguments: str


@dataclass(frozen=True)
class Progress:
    """A few words for the present step; they come whenever that changes."""

    doing: str


Event = Text | ToolCall | Progress
Listener = Callable[[Event], None]

OnText = Callable[[str], None]
OnCall = Callable[[str, str], None]
OnProgress = Callable[[str], None]


def ignore(event: Event) -> None:
    """The listener of a turn that nobody follows."""


def listener(
    on_progress: OnProgress | None = None, on_text: OnText | None = None, on_call: OnCall | None = None
) -> Listener | None:
    """One listener that hands each event to the function for its kind; None where there is no function at all."""
    if not (on_progress or on_text or on_call):
        return None

    def listen(event: Event) -> None:
        match event:
            case Text(text) if on_text:
                on_text(text)
            case ToolCall(tool, arguments) if on_call:
                on_call(tool, arguments)
            case Progress(doing) if on_progress:
                on_progress(doing)

    return listen
