"""The events of a turn: what the agent says, calls and does, in the order in which it happens.

The agent writes them down, so each has a `number`, which is the same for whoever reads it, now or later, from this
process or another: they count up from 1. A `Progress` that the client says itself has the number 0. The last is
`Done` or `Failed`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from flameagent.client.errors import ClientError
    from flameagent.client.reply import Reply
    from flameagent.conversation import Call


@dataclass(frozen=True)
class TextDelta:
    """More of what the agent says."""

    text: str
    number: int = 0


@dataclass(frozen=True)
class ReasoningDelta:
    """More of what the model thinks before it answers, where its server tells that."""

    text: str
    number: int = 0


@dataclass(frozen=True)
class ToolCalled:
    """A call of a tool by an agent; `arguments` are as the model wrote them: mostly a JSON object."""

    id: str
    tool: str
    arguments: str
    agent: str = ""
    number: int = 0


@dataclass(frozen=True)
class ToolOutput:
    """What the call of that ID said, or the first 2000 characters of it."""

    id: str
    output: str
    number: int = 0


@dataclass(frozen=True)
class AgentChanged:
    """Another agent goes on with the turn."""

    agent: str
    number: int = 0


@dataclass(frozen=True)
class MessageTaken:
    """The message of that ID, which came while the turn ran (`Client.steer`), is part of the turn now."""

    id: str
    text: str
    number: int = 0


@dataclass(frozen=True)
class ApprovalNeeded:
    """The turn stops at these calls: it waits for a human's decision on them."""

    calls: tuple[Call, ...]
    number: int = 0


@dataclass(frozen=True)
class AttemptBegan:
    """The turn begins again, since what ran it was lost: what was told of it so far does not count."""

    number: int = 0


@dataclass(frozen=True)
class Progress:
    """A few words for the present step; they come whenever that changes."""

    doing: str
    number: int = 0


@dataclass(frozen=True)
class Done:
    """The turn is in the conversation, or waits for an approval: the reply, as `Client.ask` returns it."""

    reply: Reply
    number: int = 0


@dataclass(frozen=True)
class Failed:
    """The turn has failed, or nobody knows: the error, as `Client.ask` raises it."""

    error: ClientError
    number: int = 0


Event: TypeAlias = (
    TextDelta
    | ReasoningDelta
    | ToolCalled
    | ToolOutput
    | AgentChanged
    | MessageTaken
    | ApprovalNeeded
    | AttemptBegan
    | Progress
    | Done
    | Failed
)
Listener: TypeAlias = Callable[[Event], None]

OnText: TypeAlias = Callable[[str], None]
OnCall: TypeAlias = Callable[[str, str], None]
OnProgress: TypeAlias = Callable[[str], None]


def ignore(event: Event) -> None:
    """The listener of a turn that nobody follows."""


def listener(
    on_progress: OnProgress | None = None, on_text: OnText | None = None, on_call: OnCall | None = None
) -> Listener | None:
    """One listener that hands each event to the function for its kind; None where there is no function at all.

    Calls and their outputs are progress, too: what the turn is at then.
    """
    if not (on_progress or on_text or on_call):
        return None
    running: dict[str, str] = {}  # tools that have not said anything yet, by the call's ID

    def listen(event: Event) -> None:
        doing = ""
        match event:
            case TextDelta(text) if on_text:
                on_text(text)
            case ToolCalled(call, tool, arguments):
                running[call] = tool
                if on_call:
                    on_call(tool, arguments)
                doing = f"calling {tool}"
            case ToolOutput(call):
                running.pop(call, None)
                doing = f"calling {next(iter(running.values()))}" if running else "thinking"
            case Progress(doing):
                pass
        if on_progress and doing:
            on_progress(doing)

    return listen
