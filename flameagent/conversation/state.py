"""The state of a conversation: what its records come to, but for the items.

Promises to stay small however long the conversation is, so that the base of each later segment carries it whole, and
that every reader has the same, whichever segment it began to read at.
"""

from __future__ import annotations

from hashlib import blake2b
from operator import attrgetter
from typing import Any

import msgspec

from flameagent.conversation.records import (
    NO_SUMMARY,
    VERSION,
    Call,
    Checkpoint,
    DecisionBody,
    PendingBody,
    QuestionData,
    Replay,
    Summary,
)
from flameagent.conversation.said_once import SAID_ONCE
from flameagent.conversation.usage import Usage

RECENT = 32
"""The number of newest turns whose answers are kept, so that a repeated turn is answered at once; of cancelled turns
and decisions as many IDs."""

_DIGEST = 6
"""Bytes of what is kept of an older turn's ID."""

_OF_CHECKPOINT = attrgetter(*Checkpoint.__struct_fields__)


class StoredTurn(msgspec.Struct, frozen=True):
    """A turn that is in the conversation, as far as it takes to answer it again; `answer` as in its record."""

    turn: str
    question: str
    answer: dict[str, Any]

    def has(self, turn_id: str) -> bool:
        """True where it is the turn of that ID, or has taken in the message of that ID, which came while it ran."""
        return turn_id == self.turn or turn_id in self.steered

    @property
    def steered(self) -> list[str]:
        """The IDs of the messages that it has taken in."""
        return list(self.answer.get("steered") or ())


class PendingApproval(msgspec.Struct, frozen=True):
    """A turn whose calls wait for an approval.

    `record_id` is the record that a decision on it has to name. With a `decision` it was interrupted: someone has
    decided, and neither the turn's end nor another question for approval followed, so approved tools may have run.
    """

    record_id: str = msgspec.field(name="on")
    pending: PendingBody
    decision: DecisionBody | None = None

    @property
    def turn_id(self) -> str:
        """The turn that waits."""
        return self.pending.turn

    @property
    def question(self) -> str:
        """The question of that turn."""
        return self.pending.question

    @property
    def calls(self) -> list[Call]:
        """The calls that a human is to decide on."""
        return self.pending.calls


class State(msgspec.Struct, kw_only=True):
    """The state after `seq` records, the newest of which has the ID `last`.

    The fields that a `Checkpoint` has, too, are what a rewind brings back. Everything else stays known after one: an
    ID that was answered, decided or cancelled is so for good, so that a task which is run again cannot bring back
    what was taken back.

    `segments` counts the records that end a segment, `titles` those that name the conversation, summarize it, forget
    facts, or have vectors or metadata; `summary` is the newest summary. `retry_question` is the question that the
    newest rewind took back to ask it again, until something else changes, with `retry_data`. `size` (of the records)
    is in bytes, `changed` (when the newest was made) in epoch milliseconds. `old_turn_digests` are of the turns,
    answered or cancelled, that are no longer among the newest in `recent` and `cancelled`.

    `owner` is the user whose session it is, "" everybody's; `erased` (epoch milliseconds) is when a person had all
    that was remembered of them erased, 0 never. `tools` are those that whoever asks runs, as in `MyContext`, and
    `chosen_model` is its model. `metadata` are a client's. With a `replay` another conversation is asked again in it.

    `facts` is never changed in place: checkpoints share it.
    """

    turn_count: int = msgspec.field(name="turns", default=0)
    item_count: int = msgspec.field(name="before", default=0)
    model: str = ""
    usage: Usage = Usage()
    facts: dict[str, str] = {}
    always_approved: tuple[str, ...] = msgspec.field(name="always", default=())
    agent: str = ""
    own_facts: tuple[str, ...] = ()
    summary: Summary = NO_SUMMARY
    prompt: str = ""
    owner: str = ""
    erased: int = 0
    seq: int = 0
    last: str = ""
    segments: int = 0
    recent: list[StoredTurn] = []
    cancelled: list[str] = []
    decided: list[str] = []
    waiting: PendingApproval | None = None
    title: str = ""
    titles: int = 0
    retry_question: str = msgspec.field(name="again", default="")
    retry_data: QuestionData = msgspec.field(name="again_with", default=QuestionData())
    size: int = 0
    changed: int = 0
    metadata: dict[str, str] = {}
    tools: list[str] = []
    chosen_model: str = ""
    replay: Replay | None = None
    old_turn_digests: bytearray = msgspec.field(name="settled", default_factory=bytearray)

    @property
    def revision(self) -> int:
        """The number of changes: its records, but for those that end a segment and those in `titles`."""
        return self.seq - self.segments - self.titles

    def checkpoint(self) -> Checkpoint:
        """As much of it as a rewind brings back."""
        return Checkpoint(*_OF_CHECKPOINT(self))

    def restore(self, checkpoint: Checkpoint) -> None:
        """Become what it was then."""
        for name in Checkpoint.__struct_fields__:
            setattr(self, name, getattr(checkpoint, name))

    def takes(self, summary: Summary) -> bool:
        """True for a summary that goes on from the newest one, and is of what there is."""
        return summary.start == self.summary.item_count < summary.item_count <= self.item_count

    def recent_turn(self, turn_id: str) -> StoredTurn | None:
        """The turn of that ID, or that has taken in the message of that ID, if it is one of the newest."""
        return next((turn for turn in self.recent if turn.has(turn_id)), None)

    def is_old_turn(self, turn_id: str) -> bool:
        """True where there was a turn of that ID, answered or cancelled, which is none of the newest any more."""
        return self.has_old_digest(digest_of(turn_id))

    def has_old_digest(self, digest: bytes, start: int = 0) -> bool:
        """True where the digest is among those of old turns, from the byte `start` of them on."""
        found = start - 1
        while (found := self.old_turn_digests.find(digest, found + 1)) >= 0:
            if found % _DIGEST == 0:
                return True
        return False

    def is_cancelled(self, turn_id: str) -> bool:
        """True where no turn may bring a message of that ID: it was cancelled, or long ago was in another turn."""
        return turn_id in self.cancelled or self.is_old_turn(turn_id)

    def add_recent(self, turn: StoredTurn) -> None:
        """Keep the answer of the newest turn, and of the one that is no longer recent a digest."""
        self.recent.append(turn)
        if len(self.recent) > RECENT:
            old = self.recent.pop(0)
            self.old_turn_digests += b"".join(map(digest_of, (old.turn, *old.steered)))

    def add_cancelled(self, turn_id: str) -> None:
        """Keep the ID of a turn that was cancelled, and of the one that is no longer recent a digest."""
        self.cancelled.append(turn_id)
        if len(self.cancelled) > RECENT:
            self.old_turn_digests += digest_of(self.cancelled.pop(0))

    def add_decided(self, decision: str) -> None:
        """Keep the name of a decision that was recorded."""
        self.decided.append(decision)
        del self.decided[:-RECENT]


class SegmentBase(State, kw_only=True):
    """The base of every segment but the first: the state that it begins with, and the object before it."""

    v: int
    previous: str

    @classmethod
    def after(cls, state: State, *, previous: str, record_id: str) -> SegmentBase:
        """The base of the segment that a `segment` record with this ID opens, behind the object `previous`."""
        version = VERSION if state.replay is not None else SAID_ONCE  # the lowest that understands it
        base = cls(**{name: getattr(state, name) for name in State.__struct_fields__}, v=version, previous=previous)
        base.seq, base.last, base.segments = state.seq + 1, record_id, state.segments + 1
        return base


def digest_of(turn_id: str) -> bytes:
    """What is kept of an old turn's ID."""
    return blake2b(turn_id.encode(errors="surrogatepass"), digest_size=_DIGEST).digest()
