"""The records of a conversation: one JSON object each, appended and never rewritten.

Promises that the envelope `{v, id, prev, seq, kind, at}` stays as it is for ever, so that any version of
this program can say of any record whether it applies; and that items come back as the JSON they were.
"""

from __future__ import annotations

import secrets
import time
from typing import Any, Literal, TypeAlias

import msgspec

from flameagent.conversation.codec import convert, decode, encode
from flameagent.conversation.said_once import SAID_ONCE, restored, shortened
from flameagent.conversation.timing import NO_TIMING, Timing
from flameagent.conversation.usage import Usage
from flameagent.conversation.vectors import NO_VECTORS, Vectors

VERSION = 8
"""The newest record version that this program reads. A record says the lowest that understands it, and an older
program refuses it by that number and does not take it for damage: 1, but for the edits that came with 2, with 3
what has attachments, to which its items refer, with 4 summaries and the edits of what is remembered of a person,
with 5 the vectors of its turns, with 6 metadata, and calls that a client runs, with their outputs, with 7 turns
that say once what is in their items, too (`said_once`), and with 8 sessions that are replays, in which no tool runs
by itself."""

Item: TypeAlias = dict[str, Any]
"""One input item of the Agents SDK: a JSON object, kept exactly as it came."""


class Envelope(msgspec.Struct, frozen=True, gc=False):
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


Facts: TypeAlias = dict[str, str | None]
"""Facts that were learned: a text under a key; None where it was forgotten."""


def changed_facts(facts: dict[str, str], changes: Facts) -> dict[str, str]:
    """The facts after these changes, oldest first: one that was learned again is the newest."""
    kept = {key: text for key, text in facts.items() if key not in changes}
    return kept | {key: text for key, text in changes.items() if text is not None}


class Attached(msgspec.Struct, frozen=True, omit_defaults=True):
    """An object of the session that a turn names: an image, a file or a text.

    `name` is for people, `size` in bytes; `sha256` is of the bytes, in hexadecimal digits, and the last part of the
    object's key. `call` is the ID of the tool call that returned it; empty: it came with the question.
    """

    name: str
    media_type: str
    size: int
    sha256: str
    call: str = ""


class Summary(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a model wrote of the beginning of a conversation, for when it is not shown that any more.

    It is of the first `turn_count` turns and `item_count` items; the summary that it was made of was of the first
    `start` items. `at` is epoch milliseconds. Without `text` there is none.
    """

    text: str = ""
    turn_count: int = msgspec.field(name="turns", default=0)
    item_count: int = msgspec.field(name="items", default=0)
    start: int = 0
    model: str = ""
    usage: Usage = Usage()
    at: int = 0


NO_SUMMARY = Summary()


class Source(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a turn that is remembered or was copied was: its session, its number there, and when it was, in epoch
    milliseconds."""

    session: str
    turn: int
    at: int


class TurnBody(msgspec.Struct, frozen=True, tag_field="kind", tag="turn", omit_defaults=True):
    """A question and its answer: everything that the turn adds, at once.

    `answer` holds the fields of the Answer that are not default; `facts` what the turn changed of them; `model` is
    who answered, and `omitted_items` how many of the oldest items before the turn it was not shown. `user` is who
    asked, with `context` as the Question had it. `attachments` are those of the question that the agent took, and
    what its tools returned. `recalled` are the IDs of the remembered turns that the model was shown, and `own_facts`
    the keys of those facts that are of this conversation only. In what is remembered of a person, `source` is where
    the turn was. Older programs do not look at `timing` (`ms`).
    """

    turn: str
    question: str
    items: list[Item]
    answer: dict[str, Any]
    usage: Usage = Usage()
    model: str = ""
    facts: Facts = {}
    omitted_items: int = msgspec.field(name="unseen", default=0)
    user: str = ""
    context: dict[str, Any] = {}
    attachments: list[Attached] = []
    recalled: list[str] = []
    own_facts: list[str] = []
    source: Source | None = None
    timing: Timing = msgspec.field(default=NO_TIMING, name="ms")

    @property
    def steered(self) -> list[str]:
        """The IDs of the messages that it has taken in."""
        return list(self.answer.get("steered") or ())

    @property
    def version(self) -> int:
        """The lowest version that understands it, written in full."""
        return 3 if self.attachments else 1


CLIENT = "client"
"""The `runner` of a call of a tool that the client has, not the agent."""


class Call(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool call that waits for an approval; `arguments` is what the model wrote, mostly JSON.

    `id` is of this call alone in the conversation. `agent` is whose call it is, where that is another than the agent
    that was asked. Older records have calls of nested runs under one ID. Without a `runner` the agent runs it.
    """

    id: str
    tool: str
    arguments: str
    agent: str = ""
    runner: str = ""


class PendingBody(msgspec.Struct, frozen=True, tag_field="kind", tag="pending", omit_defaults=True):
    """A turn that stopped at calls which need an approval: what was staged, and the SDK's `RunState`.

    `steered` are the IDs of the messages that it has taken in, `recalled`, `own_facts` and `timing` as in `TurnBody`;
    `traceparent` names the span that the turn is a part of. Nothing of it is in the conversation before the turn's
    own record is.
    """

    turn: str
    question: str
    calls: list[Call]
    state: dict[str, Any]
    items: list[Item]
    usage: Usage = Usage()
    model: str = ""
    facts: Facts = {}
    user: str = ""
    context: dict[str, Any] = {}
    attachments: list[Attached] = []
    steered: list[str] = []
    recalled: list[str] = []
    own_facts: list[str] = []
    timing: Timing = msgspec.field(default=NO_TIMING, name="ms")
    traceparent: str = ""

    @property
    def version(self) -> int:
        """The lowest version that understands it."""
        return 6 if any(call.runner for call in self.calls) else 3 if self.attachments else 1


class QuestionData(msgspec.Struct, frozen=True, omit_defaults=True):
    """What goes with a question beside its text, as the Question has it."""

    context: dict[str, Any] = {}
    attachments: list[Attached] = []


class TurnDecision(msgspec.Struct, frozen=True, omit_defaults=True):
    """A decision as it stays in the history of its turn: as in `DecisionBody`; `at` is in epoch milliseconds.

    `calls` are those that it decides on: those of nested runs are not among the turn's items. `left` are those that
    waited on beside them. When the turn had stopped it had `item_count` items, and `usage` so far; with `again` it is
    the same stop as that of the decision before, which was interrupted.
    """

    at: int
    by: str = ""
    approved: list[str] = []
    rejected: list[str] = []
    reason: str = ""
    always_approved: list[str] = msgspec.field(name="always", default=[])
    calls: list[Call] = []
    left: list[Call] = []
    item_count: int = msgspec.field(name="items", default=0)
    usage: Usage = Usage()
    again: bool = False


class Turn(msgspec.Struct, frozen=True, omit_defaults=True):
    """A turn in the conversation; `number` counts from 1, `at` is epoch milliseconds.

    `answer` is empty where the turn never came to its end: one that waited and was rewound. `omitted_items` is how
    many of the oldest items before it the model was not shown. `source` is where it was, in a copy of a session and
    in what is remembered of a person.
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
    user: str = ""
    context: dict[str, Any] = {}
    attachments: list[Attached] = []
    recalled: list[str] = []
    own_facts: list[str] = []
    source: Source | None = None
    timing: Timing = msgspec.field(default=NO_TIMING, name="ms")


class Block(msgspec.Struct, frozen=True, omit_defaults=True):
    """Items that were added together: those before the first turn, a turn's, or an edit's.

    `place` orders them: the number of the record that added them (0: none did), and which of its blocks they are.
    """

    items: list[Item]
    turn: Turn | None = None
    place: tuple[int, int] = (0, 0)


class Checkpoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """A conversation at one time, as far as a rewind goes back to it.

    It had `turn_count` turns and `item_count` items, `usage` in all; `agent` and `model` answered last.
    `always_approved` are rules as in `DecisionBody`, sorted; `own_facts` the keys of those `facts` that are of this
    conversation only, too.
    """

    turn_count: int = msgspec.field(name="turns", default=0)
    item_count: int = msgspec.field(name="items", default=0)
    model: str = ""
    usage: Usage = Usage()
    facts: dict[str, str] = {}
    always_approved: tuple[str, ...] = msgspec.field(name="always", default=())
    agent: str = ""
    own_facts: tuple[str, ...] = ()
    summary: Summary = NO_SUMMARY


class DecisionBody(msgspec.Struct, frozen=True, tag_field="kind", tag="decision", omit_defaults=True):
    """The decision of a human on waiting calls, appended before the tools run.

    `decides_on` is the ID of a record: of the `pending`, or of the decision before, which was interrupted.
    `decision` is its own name, so that it is carried out once. `always_approved` are rules, `TOOL of AGENT`: the
    later calls of that tool by that agent in this conversation need no approval; a mere `TOOL`, in older records, is
    that of the agent that is asked. `by` is who decided. `outputs` are of those approved calls that a client has run.
    """

    decision: str
    decides_on: str = msgspec.field(name="on")
    approved: list[str] = []
    rejected: list[str] = []
    reason: str = ""
    always_approved: list[str] = msgspec.field(name="always", default=[])
    by: str = ""
    outputs: dict[str, str] = {}

    @property
    def version(self) -> int:
        """The lowest version that understands it."""
        return 6 if self.outputs else 1


class RecordedCall(msgspec.Struct, frozen=True):
    """A call of a tool with its output, as items have both: `output` is a text or a list of parts."""

    tool: str
    arguments: str
    output: Any


class Replay(msgspec.Struct, frozen=True, omit_defaults=True):
    """What makes a session a replay: `calls` are what the record has for the next turn's calls of tools.

    Other calls are carried out only with `run_tools`.
    """

    calls: list[RecordedCall] = []
    run_tools: bool = False


_Newer: TypeAlias = Literal["metadata", "withdraw", "erase", "vectors", "replay"]


class EditBody(msgspec.Struct, frozen=True, tag_field="kind", tag="edit", omit_defaults=True):
    """A change outside a turn.

    `add` items, `pop` the newest item, `clear` all, `cancel` the turn `turn`, give it a `title` (empty: none);
    `rewind` to the `checkpoint`, before the first of the turns that it takes back, with the question that is to be
    asked again, if one is, and what went with it; or begin as a `copy` of another conversation (`origin`): of its
    `blocks`, before which it was as the `checkpoint` says; `forget` the facts under the `keys`, or all where there
    are none, as if they had never been learned; add a `summary` of what left the window; or have other `metadata`,
    which are a client's. A copy may be a `replay`, and one goes on with another `replay`, that of the next turn. In
    what is remembered of a person, `withdraw` takes back the `turns`, `erase` all that was
    there, and `vectors` are of turns. `by` is who did it.
    """

    op: Literal["add", "pop", "clear", "cancel", "rewind", "title", "copy", "forget", "summary", _Newer]
    items: list[Item] = []
    turn: str = ""
    title: str = ""
    checkpoint: Checkpoint = msgspec.field(name="kept", default=Checkpoint())
    retry_question: str = msgspec.field(name="again", default="")
    retry_data: QuestionData = msgspec.field(name="again_with", default=QuestionData())
    blocks: list[Block] = []
    origin: str = ""
    turns: list[str] = []
    keys: list[str] = []
    summary: Summary = NO_SUMMARY
    vectors: Vectors = NO_VECTORS
    metadata: dict[str, str] = {}
    replay: Replay | None = None
    by: str = ""

    @property
    def version(self) -> int:
        """The lowest version that understands it."""
        if self.replay is not None:
            return 8
        if self.op in ("vectors", "metadata"):
            return 5 if self.op == "vectors" else 6
        if self.op in ("forget", "summary", "withdraw", "erase"):
            return 4
        if self.retry_data.attachments or any(
            block.turn is not None and block.turn.attachments for block in self.blocks
        ):
            return 3
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
    version = 1 if isinstance(body, SegmentBody) else body.version
    fields: dict[str, Any] = msgspec.to_builtins(body)
    if isinstance(body, TurnBody) and (short := shortened(fields)) is not None:
        version, fields = SAID_ONCE, short
    envelope = Envelope(version, record_id or new_id(), prev, seq, kind, int(time.time() * 1000))
    data = encode({**msgspec.structs.asdict(envelope), **fields})
    return Record(envelope, read_body(data, version), data)


def new_id() -> str:
    """An ID for a record: it is told from the others of its conversation only."""
    return secrets.token_hex(8)


def read_envelope(data: bytes | None) -> Envelope:
    """The envelope of a row. Raises `Unreadable`."""
    if data is None:
        raise Unreadable("its row is not what the conversation writes")
    try:
        envelope: Envelope = decode(data, Envelope)
        return envelope
    except (ValueError, RecursionError) as error:
        raise Unreadable(str(error)) from error


def read_body(data: bytes, version: int) -> Body:
    """The body of a row whose envelope applies, and says this version. Raises `Unreadable`."""
    try:
        body: Body
        if version < SAID_ONCE:
            body = decode(data, Body)
        else:
            fields = decode(data, dict[str, Any])
            body = convert(restored(fields) if fields.get("kind") == "turn" else fields, Body)
        return body
    except (ValueError, RecursionError) as error:
        raise Unreadable(str(error)) from error
