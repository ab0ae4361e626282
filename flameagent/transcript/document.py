"""A conversation as a JSON document, which `import` reads on any engine.

Promises that it brings everything back that a conversation consists of: items as they were, turn IDs, facts, usage,
the title and who decided; and that what is no such file is refused in a sentence, before anything is made of it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from flameagent import files
from flameagent.client.errors import UsageError
from flameagent.client.history import History, turn_as_json
from flameagent.conversation import (
    Block,
    Checkpoint,
    Conversation,
    EditBody,
    Facts,
    Item,
    Turn,
    TurnDecision,
    Usage,
    copy_edit,
)
from flameagent.conversation.codec import decode
from flameagent.text import all_well_formed

FORMAT = "flame-agent conversation"
VERSION = 1

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]  # what every reader of JSON can hold
Moment = Annotated[int, msgspec.Meta(ge=0, le=253_370_764_800_000)]  # to the year 9999


class Counts(msgspec.Struct, frozen=True):
    """Usage in a file."""

    requests: Count = 0
    input_tokens: Count = 0
    cached_tokens: Count = 0
    output_tokens: Count = 0

    def used(self) -> Usage:
        """The same as records have it."""
        return Usage(*msgspec.structs.astuple(self))


class ExportedDecision(TurnDecision, frozen=True):
    """A decision in a file; `at` is epoch milliseconds."""

    at: Moment


class ExportedTurn(msgspec.Struct, frozen=True):
    """A turn in a file; `at` is epoch milliseconds."""

    turn_id: str
    question: str
    answer: str
    items: list[Item]
    turn: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)] = 1
    facts: Facts = {}
    usage: Counts = Counts()
    model: str = ""
    at: Moment = 0
    decisions: list[ExportedDecision] = []
    unseen: Count = 0


class Outside(msgspec.Struct, frozen=True):
    """Items in a file that no turn added: those between the first `after` turns of the file and the others."""

    after: Count
    items: list[Item]


class Exported(msgspec.Struct, frozen=True):
    """A conversation in a file."""

    format: Literal["flame-agent conversation"]
    version: Annotated[int, msgspec.Meta(ge=1)]
    session_id: str
    turns: list[ExportedTurn]
    title: str = ""
    prompt: str = ""
    model: str = ""
    usage: Counts = Counts()
    facts: dict[str, str] = {}
    outside: list[Outside] = []

    def edit(self) -> EditBody:
        """The edit that a conversation with all of it begins with.

        What was approved for good is not in it: a file does not give permissions.
        """
        first = self.turns[0].turn if self.turns else 1
        blocks = []
        for number in range(len(self.turns) + 1):
            blocks += [Block(each.items) for each in self.outside if min(each.after, len(self.turns)) == number]
            if number < len(self.turns):
                blocks.append(_block(self.turns[number], first + number))
        count = first - 1 + len(self.turns)
        end = Checkpoint(turn_count=count, model=self.model, usage=self.usage.used(), facts=self.facts)
        return copy_edit(end, blocks, origin=self.session_id, title=self.title)


def as_json(found: History) -> dict[str, Any]:
    """The conversation as `export --format json` prints it."""
    conversation = found.conversation or Conversation()
    turns: list[dict[str, Any]] = []
    outside: list[dict[str, Any]] = []
    for block in conversation.blocks:
        if block.turn is not None:
            turns.append(turn_as_json(block.turn, block.items))
        elif block.items:
            outside.append({"after": len(turns), "items": block.items})
    return {
        "format": FORMAT,
        "version": VERSION,
        "session_id": found.session_id,
        "title": conversation.title,
        "prompt": conversation.prompt,
        "model": conversation.model,
        "usage": msgspec.structs.asdict(conversation.usage),
        "facts": conversation.facts,
        "outside": outside,
        "turns": turns,
    }


def read(data: bytes, name: str) -> Exported:
    """The conversation in a file of that name. Raises `UsageError` for one that is none."""
    name = "Standard input" if name == "-" else name
    try:
        written = files.decoded(data).encode()
        exported: Exported = decode(written, Exported)
        if b"\\ud" in written.lower():  # JSON may have halves of characters
            exported = msgspec.convert(all_well_formed(msgspec.to_builtins(exported)), Exported)
    except ValueError as error:
        raise UsageError(f"{name} is not what `export --format json` writes: {error}.") from error
    if exported.version > VERSION:
        raise UsageError(f"{name} was written by a newer version of this program (version {exported.version}).")
    return exported


def _block(turn: ExportedTurn, number: int) -> Block:
    answer = {"answer": turn.answer, "turn": number, "turn_id": turn.turn_id}
    if turn.model:
        answer["model"] = turn.model
    usage = turn.usage.used()
    if usage != Usage():
        answer["usage"] = msgspec.structs.asdict(usage)
    decisions = [
        TurnDecision(**{**msgspec.structs.asdict(decided), "always_approved": []}) for decided in turn.decisions
    ]
    said = turn.turn_id, turn.question, answer, usage, turn.model, turn.at, turn.facts, decisions, turn.unseen
    return Block(turn.items, Turn(number, *said))
