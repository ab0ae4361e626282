"""A conversation as a JSON document, which `import` reads on any engine.

Promises that it brings everything back that a conversation consists of: items as they were, turn IDs, facts, usage,
the title and who decided; and that what is no such file is refused in a sentence, before anything is made of it.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from hashlib import sha256
from itertools import pairwise
from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec

from flameagent import files
from flameagent.client.errors import UsageError
from flameagent.client.history import History, summaries_as_json, turn_as_json
from flameagent.conversation import (
    Attached,
    Block,
    Checkpoint,
    Conversation,
    EditBody,
    Facts,
    Item,
    Turn,
    TurnDecision,
    Usage,
    attachments,
    copy_edit,
)
from flameagent.conversation.codec import convert, decode
from flameagent.conversation.item_text import describe_item
from flameagent.text import all_well_formed

FORMAT = "flame-agent conversation"
VERSION = 2
"""The newest version that this program reads. A file says the lowest that reads it: 1, and 2 with attachments, to
which its items refer."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]  # what every reader of JSON can hold
Moment = Annotated[int, msgspec.Meta(ge=0, le=253_370_764_800_000)]  # to the year 9999


class Counts(msgspec.Struct, frozen=True):
    """Usage in a file."""

    requests: Count = 0
    input_tokens: Count = 0
    cached_tokens: Count = 0
    output_tokens: Count = 0
    cache_write_tokens: Count = 0
    reasoning_tokens: Count = 0

    def used(self) -> Usage:
        """The same as records have it."""
        return Usage(*msgspec.structs.astuple(self))


class ExportedDecision(TurnDecision, frozen=True):
    """A decision in a file; `at` is epoch milliseconds."""

    at: Moment


class ExportedAttachment(Attached, frozen=True):
    """An attachment as a turn in a file names it."""

    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


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
    user: str = ""
    context: dict[str, Any] = {}
    agent: str = ""
    output_type: str = ""
    request_usage: list[Counts] = []
    attachments: list[ExportedAttachment] = []
    own_facts: list[str] = []


class Outside(msgspec.Struct, frozen=True):
    """Items in a file that no turn added: those between the first `after` turns of the file and the others."""

    after: Count
    items: list[Item]


class Messages(msgspec.Struct, frozen=True):
    """A conversation as other programs have it: items of the Agents SDK alone, each a message where it has a role."""

    items: list[Item]

    def exported(self) -> Exported:
        """The same as an export: each message of the user begins a turn, which may lack its answer.

        A turn's ID is made of what was said up to it, so that the same file brings the same turns. Raises
        `ValueError` for an item that is none.
        """
        for number, item in enumerate(self.items, 1):
            message = isinstance(item.get("role"), str) and isinstance(item.get("content"), str | list)
            if not (message or ("role" not in item and isinstance(item.get("type"), str))):
                raise ValueError(f"item {number} is no message: it needs a role and a content")
        starts = [place for place, item in enumerate(self.items) if item.get("role") == "user"]
        if not starts:
            raise ValueError("there is no message of a user in it")
        at, digest, turns = int(time.time() * 1000), sha256(json.dumps(self.items[: starts[0]]).encode()), []
        for number, (start, end) in enumerate(pairwise([*starts, len(self.items)]), 1):
            items = self.items[start:end]
            digest.update(json.dumps(items).encode())
            said = [describe_item(item)[1] for item in items if item.get("role") == "assistant"]
            question = describe_item(items[0])[1]
            turns.append(
                ExportedTurn(
                    f"import-{digest.hexdigest()[:32]}", question, said[-1] if said else "", items, number, at=at
                )
            )
        before = [Outside(0, self.items[: starts[0]])] if starts[0] else []
        return Exported("flame-agent conversation", 1, "", turns, outside=before)


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
    attachments: dict[str, str] = {}

    def data(self) -> dict[str, bytes]:
        """The bytes of its attachments, by their hash. Raises `ValueError` where they are others."""
        found = {}
        for name, text in self.attachments.items():
            found[name] = base64.b64decode(text, validate=True)
            if sha256(found[name]).hexdigest() != name:
                raise ValueError(f"the attachment {name} has the bytes of another")
        return found

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


def as_json(found: History, data: Mapping[str, bytes] = MappingProxyType({})) -> dict[str, Any]:
    """The conversation as `export --format json` prints it, with the data of its attachments by their hash."""
    conversation = found.conversation or Conversation()
    turns: list[dict[str, Any]] = []
    outside: list[dict[str, Any]] = []
    for block in conversation.blocks:
        if block.turn is not None:
            turns.append(turn_as_json(block.turn, block.items))
        elif block.items:
            outside.append({"after": len(turns), "items": block.items})
    named = attachments.named(conversation.blocks)
    return {
        "format": FORMAT,
        "version": 2 if named else 1,
        "session_id": found.session_id,
        "title": conversation.title,
        "prompt": conversation.prompt,
        "model": conversation.model,
        "usage": msgspec.structs.asdict(conversation.usage),
        "facts": conversation.facts,
        "summaries": summaries_as_json(conversation),
        "outside": outside,
        "turns": turns,
        "attachments": {name: base64.b64encode(data[name]).decode() for name in named if name in data},
    }


def read(data: bytes, name: str) -> Exported:
    """The conversation in a file of that name. Raises `UsageError` for one that is none."""
    name = "Standard input" if name == "-" else name
    what = "what `export --format json` writes"
    try:
        written = files.decoded(data).encode()
        if _has_messages_alone(written):
            what = "an object with messages as `items`"
            exported: Exported = decode(written, Messages).exported()
        else:
            exported = decode(written, Exported)
        if b"\\ud" in written.lower():  # JSON may have halves of characters
            exported = convert(all_well_formed(msgspec.to_builtins(exported)), Exported)
        exported.data()
    except ValueError as error:
        raise UsageError(f"{name} is not {what}: {error}.") from error
    if exported.version > VERSION:
        raise UsageError(f"{name} was written by a newer version of this program (version {exported.version}).")
    return exported


def _has_messages_alone(written: bytes) -> bool:
    """True for a file of another program's. Raises `ValueError`."""
    kind = decode(written, dict[str, Any])
    return "items" in kind and "format" not in kind


def _block(turn: ExportedTurn, number: int) -> Block:
    answer: dict[str, Any] = {"answer": turn.answer, "turn": number, "turn_id": turn.turn_id}
    if turn.model:
        answer["model"] = turn.model
    if turn.agent:
        answer["agent"] = turn.agent
    if turn.output_type:
        answer["output_type"] = turn.output_type
    if turn.request_usage:
        answer["request_usage"] = [msgspec.structs.asdict(each.used()) for each in turn.request_usage]
    usage = turn.usage.used()
    if usage != Usage():
        answer["usage"] = msgspec.structs.asdict(usage)
    decisions = [
        TurnDecision(**{**msgspec.structs.asdict(decided), "always_approved": []}) for decided in turn.decisions
    ]
    said = turn.turn_id, turn.question, answer, usage, turn.model, turn.at, turn.facts, decisions, turn.unseen
    named = [Attached(**msgspec.structs.asdict(each)) for each in turn.attachments]
    own = turn.own_facts
    made = Turn(number, *said, user=turn.user, context=turn.context, attachments=named, own_facts=own)
    return Block(turn.items, made)
