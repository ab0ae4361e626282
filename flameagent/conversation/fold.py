"""What the records fold to: the conversation.

Promises that every reader folds the same rows to the same conversation: the first record with a number
wins, and anything out of line is named as damage, never passed over. It knows nothing of caches or agents.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from flameagent.conversation.errors import DamagedError
from flameagent.conversation.records import (
    KINDS,
    VERSION,
    Body,
    DecisionBody,
    EditBody,
    Envelope,
    Facts,
    Item,
    PendingBody,
    SegmentBody,
    TurnBody,
    Unreadable,
    Usage,
    read_body,
    read_envelope,
)

REMEMBERED = 32
"""How many of the newest turns' answers a segment's base carries, so that a repeated turn is known."""


@dataclass
class Block:
    """Items that were added together: those before the first turn, a turn's, or an edit's."""

    items: list[Item]
    turn: Turn | None = None


@dataclass(frozen=True)
class Turn:
    """A turn in the conversation; `number` counts from 1, `at` is epoch milliseconds."""

    number: int
    id: str
    question: str
    answer: dict[str, Any]
    usage: Usage
    model: str
    at: int
    facts: Facts


class Waiting(msgspec.Struct, frozen=True):
    """A turn that waits for an approval.

    `on` is the record that a decision has to name. With a `decision` it was interrupted: someone decided,
    and neither the turn's end nor another question for approval followed, so the approved tools may have run.
    """

    on: str
    pending: PendingBody
    decision: DecisionBody | None = None


class Remembered(msgspec.Struct, frozen=True):
    """Of an older turn what is needed to answer it again."""

    turn: str
    question: str
    answer: dict[str, Any]


class SegmentBase(msgspec.Struct, frozen=True):
    """The base of every segment but the first: what it goes on from, and what a turn needs.

    `previous` is the object before this one and `segments` counts those before it, which hold `before` items.
    """

    v: int
    previous: str
    segments: int
    seq: int
    last: str
    before: int
    turns: int
    prompt: str
    model: str
    usage: Usage
    recent: list[Remembered]
    cancelled: list[str]
    facts: dict[str, str]
    waiting: Waiting | None
    decided: list[str]
    always: list[str]


@dataclass
class Conversation:
    """A conversation, folded up to `seq` records; possibly from a later segment on.

    `before` items lie in segments that were not read; `blocks` are the items since. `next_segment` is
    set by the record that ends a segment; `damage` by the first row that is out of line, after which
    nothing is folded any more.
    """

    prompt: str = ""
    seq: int = 0
    last: str = ""
    before: int = 0
    blocks: list[Block] = field(default_factory=list)
    turn_count: int = 0
    segments: int = 0
    model: str = ""
    usage: Usage = field(default_factory=Usage)
    recent: deque[Remembered] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    cancelled: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    facts: dict[str, str] = field(default_factory=dict)
    waiting: Waiting | None = None
    decided: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    always: set[str] = field(default_factory=set)
    newest: deque[str] = field(default_factory=lambda: deque(maxlen=1000))
    next_segment: str | None = None
    damage: DamagedError | None = None

    @classmethod
    def beginning(cls, prompt: str, items: list[Item]) -> Conversation:
        """The conversation before its first record."""
        return cls(prompt=prompt, blocks=[Block(items)] if items else [])

    @classmethod
    def going_on(cls, base: SegmentBase) -> Conversation:
        """The conversation as a later segment begins with it."""
        conversation = cls(
            prompt=base.prompt,
            seq=base.seq,
            last=base.last,
            before=base.before,
            segments=base.segments,
            turn_count=base.turns,
            model=base.model,
            usage=base.usage,
            facts=dict(base.facts),
            waiting=base.waiting,
            always=set(base.always),
        )
        conversation.decided.extend(base.decided)
        conversation.recent.extend(base.recent)
        conversation.cancelled.extend(base.cancelled)
        return conversation

    def base_for_next(self, *, previous: str, record_id: str) -> SegmentBase:
        """The base of the segment that a `segment` record with this ID opens."""
        return SegmentBase(
            v=VERSION,
            previous=previous,
            segments=self.segments + 1,
            seq=self.seq + 1,
            last=record_id,
            before=self.item_count,
            turns=self.turn_count,
            prompt=self.prompt,
            model=self.model,
            usage=self.usage,
            recent=list(self.recent),
            cancelled=list(self.cancelled),
            facts=self.facts,
            waiting=self.waiting,
            decided=list(self.decided),
            always=sorted(self.always),
        )

    @property
    def revision(self) -> int:
        """How many changes the conversation has had: its records but for those that only end a segment."""
        return self.seq - self.segments

    @property
    def item_count(self) -> int:
        """How many items the conversation has, those that were not read included."""
        return self.before + sum(len(block.items) for block in self.blocks)

    def items(self) -> list[Item]:
        """The items that were read, oldest first."""
        return [item for block in self.blocks for item in block.items]

    def turns(self) -> list[tuple[Turn, list[Item]]]:
        """The turns that were read, oldest first, each with its items."""
        return [(block.turn, block.items) for block in self.blocks if block.turn is not None]

    def remembered(self, turn_id: str) -> Remembered | None:
        """The turn of that ID, if it is one of the newest."""
        return next((turn for turn in self.recent if turn.turn == turn_id), None)

    def window(self, limit: int) -> int:
        """Where a model that takes `limit` items starts: an index over all items, at a turn's beginning.

        It moves only when the conversation has grown by another half of the limit, so that what a model
        server cached stays a prefix; from there on there are between half the limit and the limit, and
        always the newest turn. An index below `before` means that earlier segments have to be read; it is
        then where the window starts at the earliest.
        """
        total = self.item_count
        if total <= limit:
            return 0
        half = max(limit // 2, 1)
        earliest = ((total - 1) // half - 1) * half
        if earliest < self.before:
            return earliest
        starts = list(self._turn_starts())
        if not starts:
            return max(self.before - 1, 0)  # the turn that goes on here began in an earlier segment
        return next((start for start in starts if start >= earliest), starts[-1])

    def _turn_starts(self) -> Iterator[int]:
        """Where the model may begin to read, as indexes over all items: turns, and elsewhere what users said."""
        index = self.before
        for block in self.blocks:
            if block.turn is not None and block.items:
                yield index
            else:
                yield from (index + i for i, item in enumerate(block.items) if item.get("role") == "user")
            index += len(block.items)

    def items_from(self, start: int) -> list[Item]:
        """The items from the index `start` (over all items) on; those before it must not be needed."""
        return self.items()[max(start - self.before, 0) :]

    def fold(self, row: bytes | None) -> Envelope | None:
        """Fold one row; returns its envelope where it applied, None where it lost or nothing counts any more.

        Damage is noted in `damage`, not raised: what came before stays readable.
        """
        if self.damage or self.next_segment:
            return None
        number = self.seq + 1
        try:
            envelope = read_envelope(row)
        except Unreadable as error:
            self.damage = DamagedError(number, f"Record {number} cannot be read: {error}.")
            return None
        if envelope.seq < self.seq:
            return None
        if envelope.seq > self.seq:
            one = envelope.seq == number
            missing = f"Record {number} is" if one else f"Records {number} to {envelope.seq} are"
            self.damage = DamagedError(number, f"{missing} missing.")
            return None
        if envelope.prev != self.last:
            self.damage = DamagedError(number, f"Record {number} does not follow the record before it.")
            return None
        if envelope.v > VERSION or envelope.kind not in KINDS:
            self.damage = DamagedError(
                number,
                f"Record {number} was written by a newer version of this program "
                f"(kind {envelope.kind!r}, version {envelope.v}).",
            )
            return None
        try:
            body = read_body(row or b"")
        except Unreadable as error:
            self.damage = DamagedError(number, f"Record {number} cannot be read: {error}.")
            return None
        self.apply(envelope, body)
        return envelope

    def apply(self, envelope: Envelope, body: Body) -> None:
        """Apply a record that is known to be the next one."""
        self.seq += 1
        self.last = envelope.id
        self.newest.append(envelope.id)
        if isinstance(body, SegmentBody):
            self.segments += 1
            self.next_segment = body.key
        elif isinstance(body, TurnBody):
            self._turn(envelope, body)
        elif isinstance(body, PendingBody):
            self.waiting = Waiting(envelope.id, body)
        elif isinstance(body, DecisionBody):
            self._decision(envelope, body)
        else:
            self._edit(body)

    def _turn(self, envelope: Envelope, body: TurnBody) -> None:
        self.turn_count += 1
        turn = Turn(
            self.turn_count,
            body.turn,
            body.question,
            body.answer,
            body.usage,
            body.model,
            envelope.at,
            body.facts,
        )
        self.waiting = None
        for key, text in body.facts.items():
            self.facts.pop(key, None)  # a fact that was said again is the newest
            if text is not None:
                self.facts[key] = text
        self.blocks.append(Block(body.items, turn))
        self.recent.append(Remembered(body.turn, body.question, body.answer))
        self.model = body.model or self.model
        self.usage = Usage(
            self.usage.requests + body.usage.requests,
            self.usage.input_tokens + body.usage.input_tokens,
            self.usage.cached_tokens + body.usage.cached_tokens,
            self.usage.output_tokens + body.usage.output_tokens,
        )

    def _decision(self, envelope: Envelope, body: DecisionBody) -> None:
        """Only the decision that names what waits counts: of two, the first."""
        if self.waiting is not None and body.on == self.waiting.on:
            self.waiting = Waiting(envelope.id, self.waiting.pending, body)
            self.decided.append(body.decision)
            self.always.update(body.always)

    def _edit(self, body: EditBody) -> None:
        if body.op == "add":
            self.blocks.append(Block(list(body.items)))
        elif body.op == "clear":
            self.before, self.blocks, self.waiting = 0, [], None
        elif body.op == "cancel":
            self.cancelled.append(body.turn)
            if self.waiting is not None and self.waiting.pending.turn == body.turn:
                self.waiting = None
        else:
            self._pop()

    def _pop(self) -> None:
        for block in reversed(self.blocks):
            if block.items:
                block.items = block.items[:-1]
                return
        self.before = max(self.before - 1, 0)
