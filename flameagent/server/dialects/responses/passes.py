"""The passes of a turn, as its conversation has them: what it brought until it stopped, and after each stop.

Promises that a pass which has come to its end is told the same by every server, for as long as the conversation is
there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from flameagent.client.errors import ClientError
from flameagent.conversation import (
    Attached,
    Call,
    Conversation,
    Item,
    PendingBody,
    Turn,
    TurnDecision,
    Usage,
)
from flameagent.conversation.attachments import of_question
from flameagent.conversation.item_text import describe_item
from flameagent.server.dialects.responses.ids import ResponseId
from flameagent.server.items import Shown, ToolCall, placed

Status: TypeAlias = Literal["queued", "in_progress", "completed", "failed", "cancelled"]


@dataclass(frozen=True)
class Request:
    """A call that waits for an approval, or has waited for one; or one that the client is to run."""

    call: Call

    @property
    def is_clients(self) -> bool:
        """True for a call of a tool of the client."""
        return bool(self.call.runner)

    @property
    def id(self) -> str:
        """The item's ID: the call's own."""
        return f"{'fc' if self.is_clients else 'mcpr'}_{self.call.id}"


@dataclass
class Stop:
    """A stop of a turn for an approval: the items and the usage that it had by then, the calls, and the decisions.

    There is more than one decision where the first was interrupted.
    """

    item_count: int
    usage: Usage
    calls: list[Call]
    decisions: list[TurnDecision] = field(default_factory=list)


@dataclass(frozen=True)
class Passes:
    """A turn by its passes. Where it waits, `waiting` are the calls; `answered` says that it has come to its end."""

    turn_id: str
    question: str
    items: Sequence[Item]
    stops: Sequence[Stop]
    usage: Usage
    at: int
    waiting: Sequence[Call] = ()
    answered: bool = False
    attached: Sequence[Attached] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    number: int = 0

    @classmethod
    def of_turn(cls, turn: Turn, items: Sequence[Item]) -> Passes:
        """Those of a turn in the conversation, or that was taken back."""
        return cls(
            turn.id,
            turn.question,
            items,
            _stops(turn.decisions),
            turn.usage,
            turn.at,
            answered=bool(turn.answer),
            attached=of_question(turn.attachments),
            metadata=metadata_of(turn.context),
            number=turn.number,
        )

    @classmethod
    def of_pending(cls, conversation: Conversation, pending: PendingBody, *, decided: bool) -> Passes:
        """Those of the turn that waits; `decided` says that it goes on behind a decision."""
        return cls(
            pending.turn,
            pending.question,
            pending.items,
            _stops(conversation.decisions),
            pending.usage,
            conversation.changed,
            waiting=() if decided else pending.calls,
            attached=of_question(pending.attachments),
            metadata=metadata_of(pending.context),
            number=conversation.turn_count + 1,
        )

    @property
    def last(self) -> int:
        """The number of the pass that is at work, waits or has answered."""
        return len(self.stops)

    @property
    def requested(self) -> frozenset[str]:
        """The IDs of all calls that have waited for an approval."""
        return frozenset(call.id for stop in self.stops for call in stop.calls)

    def is_whole(self, number: int) -> bool:
        """True for a pass that has come to its end."""
        return number < self.last or (number == self.last and (self.answered or bool(self.waiting)))

    def output(self, number: int) -> list[Shown | Request]:
        """What a pass brought: items in their order, and then the calls at which it stopped."""
        outputs = {
            str(item.get("call_id")): place
            for place, item in enumerate(self.items)
            if item.get("type") == "function_call_output"
        }
        stopped_at = [*self.waiting, *(call for stop in self.stops for call in stop.calls)]
        clients = {call.id for call in stopped_at if call.runner}
        found: list[Shown | Request] = []
        for place, shown in placed(self.turn_id, self.items):
            if isinstance(shown, ToolCall) and shown.call_id in clients:
                continue  # the client runs it, and is asked to
            if isinstance(shown, ToolCall) and not self.answered and shown.call_id not in outputs:
                continue  # it waits, or what it calls does
            ended = outputs.get(shown.call_id, place) if isinstance(shown, ToolCall) else place
            if self._pass_of(ended) == number:
                found.append(shown)
        calls = self.stops[number].calls if number < self.last else self.waiting if number == self.last else ()
        return [*found, *map(Request, calls)]

    def said_of(self, call_id: str) -> str:
        """The output of a call; "" where there is none."""
        found = (item for item in self.items if item.get("type") == "function_call_output")
        return next((describe_item(item)[1] for item in found if item.get("call_id") == call_id), "")

    def used(self, number: int) -> Usage:
        """What a pass used."""
        so_far = self.stops[number].usage if number < self.last else self.usage
        return so_far - self.stops[number - 1].usage if number else so_far

    def _pass_of(self, place: int) -> int:
        return sum(place >= stop.item_count for stop in self.stops)


@dataclass(frozen=True)
class Standing:
    """A response as it stands. `created` and `completed` are in epoch seconds; `prompt` is that of its session."""

    id: ResponseId
    agent: str
    status: Status
    created: float
    prompt: str = ""
    output: Sequence[Shown | Request] = ()
    requested: frozenset[str] = frozenset()
    usage: Usage | None = None
    error: ClientError | None = None
    completed: float | None = None
    metadata: dict[str, str] = field(default_factory=dict)


def find(conversation: Conversation, turn_id: str) -> Passes | None:
    """A turn of a conversation, as far as that was read; None where it has none of that ID."""
    for turn, items in reversed(conversation.turns()):
        if turn.id == turn_id and turn.source is None:
            return Passes.of_turn(turn, items)
    waiting = conversation.waiting
    if waiting is not None and turn_id in (waiting.turn_id, *waiting.pending.steered):
        return Passes.of_pending(conversation, waiting.pending, decided=waiting.decision is not None)
    return None


def has_all_of(conversation: Conversation, turn_id: str) -> bool:
    """True where all records of a turn were read, the decisions on it included."""
    turns = conversation.turns()
    return conversation.whole or any(turn.id == turn_id for turn, _ in turns[1:])


def is_taken_back(conversation: Conversation, turn_id: str) -> bool:
    """True for a turn that was taken back, as far as was read."""
    blocks = (block for rewind in conversation.rewinds for block in rewind.blocks)
    return any(block.turn is not None and block.turn.id == turn_id for block in blocks)


def metadata_of(context: dict[str, Any] | None) -> dict[str, str]:
    """The metadata that came with a question, which its data have."""
    found = (context or {}).get("metadata")
    return {str(key): str(text) for key, text in found.items()} if isinstance(found, dict) else {}


def _stops(decisions: Iterable[TurnDecision]) -> list[Stop]:
    stops: list[Stop] = []
    for each in decisions:
        if not (each.again and stops):
            stops.append(Stop(each.item_count, each.usage, [*each.calls, *each.left]))
        stops[-1].decisions.append(each)
    return stops
