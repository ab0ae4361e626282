"""What our own routes take: the parameters of a query, and bodies."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

Count = Annotated[int, Meta(ge=1, le=1000)]
Text = Annotated[str, Meta(min_length=1)]


class ListQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which sessions: of one `agent`, in a `state`, with a text in title or history, the newest so many."""

    agent: str = ""
    state: Literal["", "open", "waiting", "closed"] = ""
    search: str = ""
    limit: Count = 100


class NewSession(msgspec.Struct, forbid_unknown_fields=True):
    """A session that begins: with which agent (the first that is served), its system prompt and its title.

    `messages` are items of the Agents SDK that it begins with: messages, calls and what they gave.
    """

    agent: str = ""
    prompt: str = ""
    title: str = ""
    messages: list[dict[str, Any]] = []


class Title(msgspec.Struct, forbid_unknown_fields=True):
    """A title; an empty one takes it away."""

    title: str


class HistoryQuery(msgspec.Struct, forbid_unknown_fields=True):
    """One `turn` alone, or with `all` those that were taken back, too."""

    turn: int | UnsetType = UNSET
    all: bool = False


class ExportQuery(msgspec.Struct, forbid_unknown_fields=True):
    """In which form."""

    format: Literal["md", "json", "html"] = "json"


class ForkBody(msgspec.Struct, forbid_unknown_fields=True):
    """A copy of the first `at` turns; of all without it."""

    at: Annotated[int, Meta(ge=0)] | None = None


class RewindBody(msgspec.Struct, forbid_unknown_fields=True):
    """How many turns stay. With `force` a turn that runs is cancelled first."""

    turns: Annotated[int, Meta(ge=0)]
    force: bool = False


class GivenAttachment(msgspec.Struct, forbid_unknown_fields=True):
    """An image, a file or a text: its name and its bytes in base64."""

    name: Text
    data: str


class QuestionBody(msgspec.Struct, forbid_unknown_fields=True):
    """A question. While a turn runs it waits behind it, or steers or interrupts it.

    `data` is a JSON object for the agent's tools. With `stream` events come in place of the reply.
    """

    question: Text
    model: str = ""
    data: dict[str, Any] | None = None
    attachments: list[GivenAttachment] = []
    running: Literal["wait", "steer", "interrupt"] = "wait"
    stream: bool = False


class RetryBody(msgspec.Struct, forbid_unknown_fields=True):
    """The last question again, of another model if one is named."""

    model: str = ""
    stream: bool = False


class DecisionBody(msgspec.Struct, forbid_unknown_fields=True):
    """Which of the calls that wait are approved and rejected, by ID; `always`: also later ones of those tools."""

    approve: list[str] = []
    reject: list[str] = []
    reason: str = ""
    always: bool = False
    stream: bool = False


class EventsQuery(msgspec.Struct, forbid_unknown_fields=True):
    """The events after that number."""

    after: Annotated[int, Meta(ge=0)] = 0


class AgentQuery(msgspec.Struct, forbid_unknown_fields=True):
    """With which agent; without it the first that is served."""

    agent: str = ""


class SearchQuery(msgspec.Struct, forbid_unknown_fields=True):
    """What is looked for, and how many turns at most."""

    text: Text
    limit: Count = 10
    agent: str = ""


class EraseQuery(msgspec.Struct, forbid_unknown_fields=True):
    """With `sessions` all sessions of the user with that agent are deleted, too."""

    sessions: bool = False
    agent: str = ""
