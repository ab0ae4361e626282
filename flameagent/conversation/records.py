"""The records of a conversation: one JSON object each, appended and never rewritten.

Promises that the envelope `{v, id, prev, seq, kind, at}` stays as it is for ever, so that any version of
this program can say of any record whether it applies; and that items come back as the JSON they were.
"""

from __future__ import annotations

import time
import uuid
from typing import Any, Literal, TypeAlias

import msgspec

from flameagent.conversation.codec import decode, encode

VERSION = 2
"""The newest record version that this program reads. A record says the lowest that understands it: 1, but for the
edits that came with 2, which an older program refuses by that number and does not take for damage."""

Item: TypeAlias = dict[str, Any]
"""One input item of the Agents SDK: a JSON object, kept exactly as it came."""


class Envelope(msgspec.Struct, frozen=True):
    """The part that every record has: enough to say whether it applies.

    `seq` counts the records applied before it in the whole conversation, `prev` is the `id` of the last
    of them ("" for the first); `at` is in epoch milliseconds.
    """

    v: int
    id: str
    prev: str
    seq: int
    kind: str
    at: int


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Requests that were made of a model, and their tokens."""

    requests: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.requests + other.requests,
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
        )

    def __sub__(self, other: Usage) -> Usage:
        """The rest; never less than nothing."""
        mine, theirs = msgspec.structs.astuple(self), msgspec.structs.astuple(other)
        return Usage(*(max(a - b, 0) for a, b in zip(mine, theirs, strict=True)))


Facts: TypeAlias = dict[str, str | None]
"""Facts that were learned: a text under a key; None where it was forgotten."""


def changed_facts(facts: dict[str, str], changes: Facts) -> dict[str, str]:
    """The facts after these changes, oldest first: one that was learned again is the newest."""
    kept = {key: text for key, text in facts.items() if key not in changes}
    return kept | {key: text for key, text in changes.items() if text is not None}


class TurnBody(msgspec.Struct, frozen=True, tag_field="kind", tag="turn", omit_defaults=True):
    """A question and its answer: everything that the turn adds, at once.

    `answer` holds the fields of the Answer that are not default; `facts` what the turn changed of them;
    `model` is who answered, and `omitted_items` how many of the oldest items before the turn it was not shown.
    """

    turn: str
    question: str
    items: list[Item]
    answer: dict[str, Any]
    usage: Usage = Usage()
    model: str = ""
    facts: Facts = {}
    omitted_items: int = msgspec.field(name="unseen", default=0)


class Call(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool call that waits for an approval; `arguments` is what the model wrote, mostly JSON.

    `id` is of this call alone in the conversation. `agent` is whose call it is, where that is another than the agent
    that was asked. Older records have calls of nested runs under one ID.
    """

    id: str
    tool: str
    arguments: str
    agent: str = ""


class PendingBody(msgspec.Struct, frozen=True, tag_field="kind", tag="pending", omit_defaults=True):
    """A turn that stopped at calls which need an approval: what was staged, and the SDK's `RunState`.

    Nothing of it is in the conversation before the turn's own record is.
    """

    turn: str
    question: str
    calls: list[Call]
    state: dict[str, Any]
    items: list[Item]
    usage: Usage = Usage()
    model: str = ""
    facts: Facts = {}


class TurnDecision(msgspec.Struct, frozen=True, omit_defaults=True):
    """A decision as it stays in the history of its turn: as in `DecisionBody`; `at` is in epoch milliseconds.

    `calls` are those that it decides on: those of nested runs are not among the turn's items.
    """

    at: int
    by: str = ""
    approved: list[str] = []
    rejected: list[str] = []
    reason: str = ""
    always_approved: list[str] = msgspec.field(name="always", default=[])
    calls: list[Call] = []


class Turn(msgspec.Struct, frozen=True, omit_defaults=True):
    """A turn in the conversation; `number` counts from 1, `at` is epoch milliseconds.

    `answer` is empty where the turn never came to its end: one that waited and was rewound. `omitted_items` is how
    many of the oldest items before it the model was not shown.
    """

    number: int
    id: str
    question: str
    answer: dict[str, Any]
    usage: Usage
    model: str
    at: int
    facts: Facts
    decisions: list[TurnDecision] = []
    omitted_items: int = msgspec.field(name="unseen", default=0)


class Block(msgspec.Struct, frozen=True, omit_defaults=True):
    """Items that were added together: those before the first turn, a turn's, or an edit's.

    `place` orders them: the number of the record that added them (0: none did), and which of its blocks they are.
    """

    items: list[Item]
    turn: Turn | None = None
    place: tuple[int, int] = (0, 0)


class Checkpoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """A conversation at one time, as far as a rewind goes back to it.

    It had `turn_count` turns and `item_count` items, `usage` in all. `always_approved` are rules as in
    `DecisionBody`, sorted.
    """

    turn_count: int = msgspec.field(name="turns", default=0)
    item_count: int = msgspec.field(name="items", default=0)
    model: str = ""
    usage: Usage = Usage()
    facts: dict[str, str] = {}
    always_approved: tuple[str, ...] = msgspec.field(name="always", default=())


class DecisionBody(msgspec.Struct, frozen=True, tag_field="kind", tag="decision", omit_defaults=True):
    """The decision of a human on waiting calls, appended before the tools run.

    `decides_on` is the ID of a record: of the `pending`, or of the decision before, which was interrupted.
    `decision` is its own name, so that it is carried out once. `always_approved` are rules, `TOOL of AGENT`: the
    later calls of that tool by that agent in this conversation need no approval; a mere `TOOL`, in older records, is
    that of the agent that is asked. `by` is who decided.
    """

    decision: str
    decides_on: str = msgspec.field(name="on")
    approved: list[str] = []
    rejected: list[str] = []
    reason: str = ""
    always_approved: list[str] = msgspec.field(name="always", default=[])
    by: str = ""


class EditBody(msgspec.Struct, frozen=True, tag_field="kind", tag="edit", omit_defaults=True):
    """A change outside a turn.

    `add` items, `pop` the newest item, `clear` all, `cancel` the turn `turn`, give it a `title` (empty: none);
    `rewind` to the `checkpoint`, before the first of the turns that it takes back, with the question that is to be
    asked again, if one is; or begin as a `copy` of another conversation (`origin`): of its `blocks`, before which it
    was as the `checkpoint` says. `by` is who did it.
    """

    op: Literal["add", "pop", "clear", "cancel", "rewind", "title", "copy"]
    items: list[Item] = []
    turn: str = ""
    title: str = ""
    checkpoint: Checkpoint = msgspec.field(name="kept", default=Checkpoint())
    retry_question: str = msgspec.field(name="again", default="")
    blocks: list[Block] = []
    origin: str = ""
    by: str = ""

    @property
    def version(self) -> int:
        """The lowest version that understands it."""
        return 1 if self.op in ("add", "pop", "clear", "cancel") else 2


class SegmentBody(msgspec.Struct, frozen=True, tag_field="kind", tag="segment"):
    """The conversation goes on in the object `key`; what follows in this one does not count."""

    key: str


Body: TypeAlias = TurnBody | PendingBody | DecisionBody | EditBody | SegmentBody


class Record(msgspec.Struct, frozen=True):
    """A record as it is appended: its envelope, its body and its bytes."""

    envelope: Envelope
    body: Body
    data: bytes


class Unreadable(ValueError):
    """The bytes are not a record; the message says what is wrong with them."""


def make(body: Body, *, seq: int, prev: str, record_id: str | None = None) -> Record:
    """A new record after `seq` others, the last of which is `prev`.

    Its body is what readers will read, so that a record which they could not read is never written.
    Raises `Unreadable`.
    """
    kind = str(body.__struct_config__.tag)
    version = body.version if isinstance(body, EditBody) else 1
    envelope = Envelope(version, record_id or uuid.uuid4().hex, prev, seq, kind, int(time.time() * 1000))
    data = encode({**msgspec.structs.asdict(envelope), **msgspec.to_builtins(body)})
    return Record(envelope, read_body(data), data)


def read_envelope(data: bytes | None) -> Envelope:
    """The envelope of a row. Raises `Unreadable`."""
    if data is None:
        raise Unreadable("its row is not what the conversation writes")
    try:
        envelope: Envelope = decode(data, Envelope)
        return envelope
    except (ValueError, RecursionError) as error:
        raise Unreadable(str(error)) from error


def read_body(data: bytes) -> Body:
    """The body of a row whose envelope applies. Raises `Unreadable`."""
    try:
        body: Body = decode(data, Body)
        return body
    except (ValueError, RecursionError) as error:
        raise Unreadable(str(error)) from error
