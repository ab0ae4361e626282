"""The items of a turn as every dialect shows them: messages, reasoning, and tool calls with their outputs.

Promises that an item has the same ID in a stream, in the stream of whoever comes back, on another server, and in the
conversation later: it is made of the turn's ID and of which message, or which call, it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from flameagent.client.events import (
    AgentChanged,
    ApprovalNeeded,
    AttemptBegan,
    Event,
    ReasoningDelta,
    TextDelta,
    ToolCalled,
    ToolOutput,
)
from flameagent.conversation import Item
from flameagent.conversation.item_text import describe_item


@dataclass(frozen=True)
class Message:
    """What the agent says, or with the role `user` what was asked."""

    id: str
    text: str
    role: str = "assistant"


@dataclass(frozen=True)
class Reasoning:
    """What the model has thought, where its server tells that."""

    id: str
    text: str


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool of the agent; without an `output` it has not come to its end. `arguments` are mostly JSON."""

    id: str
    call_id: str
    name: str
    arguments: str
    output: str | None = None


Shown: TypeAlias = Message | Reasoning | ToolCall


@dataclass(frozen=True)
class Added:
    """An item begins; `index` counts the items of the turn from 0."""

    item: Shown
    index: int


@dataclass(frozen=True)
class Delta:
    """More text of a message or of reasoning; `item` has all its text so far."""

    item: Message | Reasoning
    index: int
    text: str


@dataclass(frozen=True)
class Completed:
    """An item is whole."""

    item: Shown
    index: int


Change: TypeAlias = Added | Delta | Completed


def of_question(turn_id: str, question: str) -> Message:
    """The message that a turn begins with."""
    return Message(f"msg_{turn_id}_0", question, "user")


def of_turn(turn_id: str, added: Sequence[Item]) -> list[Shown]:
    """What a turn has added, but for its question, in order."""
    return [shown for _, shown in placed(turn_id, added)]


def placed(turn_id: str, added: Sequence[Item]) -> list[tuple[int, Shown]]:
    """The same, each with the place of its item among those that were added."""
    outputs = {
        str(item.get("call_id")): describe_item(item)[1]
        for item in added
        if item.get("type") == "function_call_output"
    }
    found: list[tuple[int, Shown]] = []
    numbers = {"message": 0, "reasoning": 0}
    for place, item in enumerate(added):
        kind = str(item.get("type") or "message")
        if kind == "message" and item.get("role") == "assistant":
            numbers[kind] += 1
            found.append((place, Message(_message_id(turn_id, numbers[kind]), describe_item(item)[1])))
        elif kind == "reasoning":
            numbers[kind] += 1
            found.append((place, Reasoning(_reasoning_id(turn_id, numbers[kind]), describe_item(item)[1])))
        elif kind == "function_call":
            call, name = str(item.get("call_id", "")), str(item.get("name", ""))
            arguments = str(item.get("arguments") or "")
            found.append((place, ToolCall(_call_id(turn_id, call), call, name, arguments, outputs.get(call))))
    return found


class LiveItems:
    """The items of a turn while it runs: `feed` its events, and at its end the items that it `finish`ed with."""

    def __init__(self, turn_id: str) -> None:
        self._turn_id = turn_id
        self._open: tuple[Message | Reasoning, int] | None = None
        self._calls: dict[str, tuple[ToolCall, int]] = {}
        self._messages = self._reasonings = 0
        self._told: dict[str, int] = {}  # the index of each item, by its ID
        self._stop()

    def _stop(self) -> None:
        """What was told counts: the turn has stopped for an approval."""
        self._stopped = dict(self._calls), self._messages, self._reasonings, dict(self._told)

    def _begin_anew(self) -> None:
        """What was told since the turn last stopped does not count."""
        calls, self._messages, self._reasonings, told = self._stopped
        self._open, self._calls, self._told = None, dict(calls), dict(told)

    def feed(self, event: Event) -> Iterator[Change]:
        """What an event changes."""
        match event:
            case TextDelta(text):
                yield from self._more(Message, text)
            case ReasoningDelta(text):
                yield from self._more(Reasoning, text)
            case ToolCalled(call, tool, arguments):
                yield from self.close()
                made = ToolCall(_call_id(self._turn_id, call), call, tool, arguments)
                self._calls[call] = (made, self._next(made))
                yield Added(*self._calls[call])
            case ToolOutput(call, output):
                yield from self.close()
                if call in self._calls:
                    made, index = self._calls.pop(call)
                    yield Completed(replace(made, output=output), index)
            case AgentChanged():
                yield from self.close()
            case ApprovalNeeded():
                yield from self.close()
                self._stop()
            case AttemptBegan():
                self._begin_anew()

    def close(self) -> Iterator[Change]:
        """The message that is being said is whole."""
        if self._open is not None:
            (item, index), self._open = self._open, None
            yield Completed(item, index)

    def finish(self, added: Sequence[Item]) -> Iterator[Change]:
        """What of the items that the turn has brought was not told, or is whole only now."""
        final = {item.id: item for item in of_turn(self._turn_id, added)}
        if self._open is not None:
            (said, index), self._open = self._open, None
            yield Completed(final.get(said.id, said), index)
        for call, index in self._calls.values():
            yield Completed(final.get(call.id, call), index)
        self._calls = {}
        for item in final.values():
            if item.id not in self._told:
                index = self._next(item)
                yield Added(_begun(item), index)
                yield Completed(item, index)

    def _more(self, kind: type[Message] | type[Reasoning], text: str) -> Iterator[Change]:
        if self._open is not None and not isinstance(self._open[0], kind):
            yield from self.close()
        if self._open is None:
            made: Message | Reasoning
            if kind is Message:
                self._messages += 1
                made = Message(_message_id(self._turn_id, self._messages), "")
            else:
                self._reasonings += 1
                made = Reasoning(_reasoning_id(self._turn_id, self._reasonings), "")
            self._open = (made, self._next(made))
            yield Added(made, self._open[1])
        item, index = self._open
        item = replace(item, text=item.text + text)
        self._open = (item, index)
        yield Delta(item, index, text)

    def _next(self, item: Shown) -> int:
        index = self._told[item.id] = len(self._told)
        return index


def _begun(item: Shown) -> Shown:
    return replace(item, output=None) if isinstance(item, ToolCall) else item


def _message_id(turn_id: str, number: int) -> str:
    return f"msg_{turn_id}_{number}"


def _reasoning_id(turn_id: str, number: int) -> str:
    return f"rs_{turn_id}_{number}"


def _call_id(turn_id: str, call: str) -> str:
    return f"mcp_{turn_id}_{call}"
