"""What the records fold to: the conversation.

Promises that every reader folds the same rows to the same conversation: the first record with a number
wins, and anything out of line is named as damage, never passed over. It knows nothing of caches or agents.
"""

from __future__ import annotations

from base64 import b64encode
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import msgspec

from flameagent.conversation.errors import ConversationError, DamagedError
from flameagent.conversation.records import (
    KINDS,
    VERSION,
    Block,
    Body,
    Decided,
    DecisionBody,
    EditBody,
    Envelope,
    Item,
    Kept,
    PendingBody,
    SegmentBody,
    Turn,
    TurnBody,
    Unreadable,
    Usage,
    read_body,
    read_envelope,
)

REMEMBERED = 32
"""How many of the newest turns' answers a segment's base carries, so that a repeated turn is answered at once."""

_DIGEST = 8
"""Characters of what is kept of an older turn's ID: 48 bits."""


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
    title: str = ""
    titles: int = 0
    again: str = ""
    size: int = 0
    changed: int = 0
    settled: str = ""


@dataclass(frozen=True)
class _Mark:
    """The conversation before a turn began: its first `length` blocks in `blocks`, to which later ones are added."""

    place: tuple[int, int]
    before: int
    blocks: list[Block]
    length: int
    model: str
    usage: Usage
    facts: dict[str, str]
    always: frozenset[str]


@dataclass(frozen=True)
class Rewound:
    """What a rewind took back: the `blocks` after so many `turns`; `place` is its own. `at` is epoch milliseconds."""

    turns: int
    blocks: list[Block]
    by: str
    at: int
    place: tuple[int, int]


@dataclass
class Conversation:
    """A conversation, folded up to `seq` records; possibly from a later segment on.

    `before` items lie in segments that were not read; `blocks` are the items since, and `rewound` what rewinds
    have taken back of them. `again` is the question that the newest of them took back to ask it again, until
    something else changes. `origin` is the session that it began as a copy of. `size` (of its records) is in
    bytes, `changed` (when the newest was made) in epoch milliseconds; `settled` has digests of the turns that are no
    longer among the newest in `recent` and `cancelled`. `whole` says that it was read from its first record on;
    `waited` has the IDs of all calls that were read to wait. `next_segment` is set by the record that ends
    a segment; `damage` by the first row that is out of line, after which nothing is folded any more.

    What happened stays known after a rewind: an ID that was answered, decided or cancelled is so for good, so
    that a task which is run again cannot bring back what was taken back.
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
    always: frozenset[str] = frozenset()
    title: str = ""
    titles: int = 0
    again: str = ""
    origin: str = ""
    size: int = 0
    changed: int = 0
    settled: set[str] = field(default_factory=set)
    rewound: list[Rewound] = field(default_factory=list)
    newest: deque[str] = field(default_factory=lambda: deque(maxlen=1000))
    next_segment: str | None = None
    damage: DamagedError | None = None
    whole: bool = True
    waited: set[str] = field(default_factory=set)
    _marks: dict[int, _Mark] = field(default_factory=dict)
    _decisions: list[Decided] = field(default_factory=list)

    @classmethod
    def beginning(cls, prompt: str, items: list[Item], size: int = 0) -> Conversation:
        """The conversation before its first record; `size` is that of the base, in bytes."""
        return cls(prompt=prompt, blocks=[Block(items)] if items else [], size=size)

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
            always=frozenset(base.always),
            title=base.title,
            titles=base.titles,
            again=base.again,
            size=base.size,
            changed=base.changed,
            settled={base.settled[at : at + _DIGEST] for at in range(0, len(base.settled), _DIGEST)},
            whole=False,
            waited={call.id for call in base.waiting.pending.calls} if base.waiting else set(),
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
            title=self.title,
            titles=self.titles,
            again=self.again,
            size=self.size,
            changed=self.changed,
            settled="".join(sorted(self.settled)),
        )

    @property
    def revision(self) -> int:
        """How many changes the conversation has had: its records but for those that end a segment or name it."""
        return self.seq - self.segments - self.titles

    @property
    def item_count(self) -> int:
        """How many items the conversation has, those that were not read included."""
        return self.before + sum(len(block.items) for block in self.blocks)

    def items(self) -> list[Item]:
        """The items that were read, oldest first."""
        return [item for block in self.blocks for item in block.items]

    def call_ids(self) -> set[str]:
        """The IDs of calls that were read: those that are in it, and all that ever waited, also in nested runs."""
        return self.waited | {str(item["call_id"]) for item in self.items() if item.get("call_id")}

    def turns(self) -> list[tuple[Turn, list[Item]]]:
        """The turns that were read, oldest first, each with its items."""
        return [(block.turn, block.items) for block in self.blocks if block.turn is not None]

    def until(self, turns: int) -> tuple[Kept, list[Block]]:
        """What it had come to after that many turns, before the next one began; with the items that it had then.

        Everything has to be read. Raises `ConversationError` where there is no such turn.
        """
        if turns == self.turn_count and self.waiting is None:
            mark = self._mark()
        elif (found := self._marks.get(turns + 1)) is not None and 0 <= turns <= self.turn_count:
            mark = found
        else:
            count = "1 turn" if self.turn_count == 1 else f"{self.turn_count} turns"
            raise ConversationError(f"There is no turn {turns}: the conversation has {count}.")
        blocks = mark.blocks[: mark.length]
        items = mark.before + sum(len(block.items) for block in blocks)
        return Kept(turns, items, mark.model, mark.usage, mark.facts, sorted(mark.always)), blocks

    def rewinding(self, turns: int, *, by: str = "", again: str = "") -> EditBody:
        """The edit that keeps that many turns and takes back what came after them, a turn that waits included.

        Everything has to be read. Raises `ConversationError` where there is nothing to take back.
        """
        kept, _ = self.until(turns)
        if turns == self.turn_count and self.waiting is None:
            last = f"Turn {turns} is the last one" if turns else "The conversation has no turns"
            raise ConversationError(f"{last}: there is nothing to rewind.")
        return EditBody("rewind", kept=kept, by=by, again=again)

    def remembered(self, turn_id: str) -> Remembered | None:
        """The turn of that ID, if it is one of the newest."""
        return next((turn for turn in self.recent if turn.turn == turn_id), None)

    def is_settled(self, turn_id: str) -> bool:
        """Whether there was a turn of that ID, answered or cancelled, which is none of the newest any more."""
        return _digest(turn_id) in self.settled

    def found(self, turn_id: str) -> Remembered | None:
        """The turn of that ID, if it is one of those that were read, taken back or not."""
        blocks = [*self.blocks, *(block for rewound in self.rewound for block in rewound.blocks)]
        return next(
            (
                Remembered(turn.id, turn.question, turn.answer)
                for block in blocks
                if (turn := block.turn) is not None and turn.id == turn_id and turn.answer
            ),
            None,
        )

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
        if isinstance(body, EditBody) and body.op == "rewind" and not self._has_after(body.kept.turns):
            self.damage = DamagedError(number, f"Record {number} rewinds to a turn that is not there.")
            return None
        self.apply(envelope, body, len(row or b""))
        return envelope

    def apply(self, envelope: Envelope, body: Body, size: int) -> None:
        """Apply a record that is known to be the next one, of `size` bytes."""
        self.seq += 1
        self.last = envelope.id
        self.newest.append(envelope.id)
        if isinstance(body, SegmentBody):
            self.segments += 1
            self.next_segment = body.key
            return
        self.size += size
        self.changed = envelope.at
        if isinstance(body, TurnBody):
            if self.waiting is None:
                self._begin_turn()
            waited = self.waiting is not None and self.waiting.pending.turn == body.turn
            self._turn(body, envelope.at, self._decisions if waited else [])
            self.waiting = None
        elif isinstance(body, PendingBody):
            if self.waiting is None:
                self._begin_turn()
            self.waiting = Waiting(envelope.id, body)
            self.waited.update(call.id for call in body.calls)
        elif isinstance(body, DecisionBody):
            self._decision(envelope, body)
        else:
            self._edit(envelope, body)

    def _has_after(self, turns: int) -> bool:
        return 0 <= turns < self.turn_count or (turns == self.turn_count and self.waiting is not None)

    def _mark(self, part: int = 0) -> _Mark:
        place = self.seq, part
        return _Mark(
            place, self.before, self.blocks, len(self.blocks), self.model, self.usage, self.facts, self.always
        )

    def _begin_turn(self, part: int = 0) -> None:
        self._decisions = []
        self._marks[self.turn_count + 1] = self._mark(part)

    def _turn(self, body: TurnBody, at: int, decisions: list[Decided], part: int = 0) -> None:
        self.again = ""
        self.turn_count += 1
        turn = Turn(
            self.turn_count,
            body.turn,
            body.question,
            body.answer,
            body.usage,
            body.model,
            at,
            body.facts,
            decisions,
            body.unseen,
        )
        if body.facts:
            # A fact that was said again is the newest.
            kept = {key: text for key, text in self.facts.items() if key not in body.facts}
            self.facts = kept | {key: text for key, text in body.facts.items() if text is not None}
        self.blocks.append(Block(body.items, turn, (self.seq, part)))
        if len(self.recent) == REMEMBERED:
            self.settled.add(_digest(self.recent[0].turn))
        self.recent.append(Remembered(body.turn, body.question, body.answer))
        self.model = body.model or self.model
        self.usage = added(self.usage, body.usage)

    def _decision(self, envelope: Envelope, body: DecisionBody) -> None:
        """Only the decision that names what waits counts: of two, the first."""
        if self.waiting is not None and body.on == self.waiting.on:
            self.waiting = Waiting(envelope.id, self.waiting.pending, body)
            self.decided.append(body.decision)
            self.always |= set(body.always)
            calls = [call for call in self.waiting.pending.calls if call.id in {*body.approved, *body.rejected}]
            self._decisions.append(
                Decided(envelope.at, body.by, body.approved, body.rejected, body.reason, body.always, calls)
            )

    def _edit(self, envelope: Envelope, body: EditBody) -> None:
        if body.op not in ("cancel", "title"):
            self.again = ""
        if body.op == "add":
            self.blocks.append(Block(list(body.items), place=(self.seq, 0)))
        elif body.op == "clear":
            self.before, self.blocks, self.waiting = 0, [], None
        elif body.op == "cancel":
            self._cancel(body.turn)
            if self.waiting is not None and self.waiting.pending.turn == body.turn:
                self.waiting = None
        elif body.op == "rewind":
            self._rewind(envelope, body)
        elif body.op == "title":
            self.title = body.title
            self.titles += 1
        elif body.op == "copy":
            self._copy(body)
        else:
            self._pop()

    def _cancel(self, turn_id: str) -> None:
        if len(self.cancelled) == REMEMBERED:
            self.settled.add(_digest(self.cancelled[0]))
        self.cancelled.append(turn_id)

    def _pop(self) -> None:
        # In a new list: marks have the one that there was.
        for index in reversed(range(len(self.blocks))):
            block = self.blocks[index]
            if block.items:
                shorter = Block(block.items[:-1], block.turn, block.place)
                self.blocks = [*self.blocks[:index], shorter, *self.blocks[index + 1 :]]
                return
        self.before = max(self.before - 1, 0)

    def _rewind(self, envelope: Envelope, body: EditBody) -> None:
        kept, mark = body.kept, self._marks.get(body.kept.turns + 1)
        if mark is None:  # before what was read
            taken, self.before, self.blocks = self.blocks, kept.items, []
        else:
            taken = [block for block in self.blocks if block.place >= mark.place]
            self.before, self.blocks = mark.before, mark.blocks[: mark.length]
        if self.waiting is not None:
            turn, number = self.waiting.pending, self.turn_count + 1
            usage, model, facts = turn.usage, turn.model, turn.facts
            waited = Turn(number, turn.turn, turn.question, {}, usage, model, envelope.at, facts, self._decisions)
            taken = [*taken, Block(turn.items, waited, (self.seq, 0))]
            self._cancel(turn.turn)
            self.waiting = None
        self.rewound.append(Rewound(kept.turns, taken, body.by, envelope.at, (self.seq, 1)))
        self._marks = {number: mark for number, mark in self._marks.items() if number <= kept.turns}
        self._become(kept)
        self.again = body.again

    def _copy(self, body: EditBody) -> None:
        self._become(body.kept)
        self.origin, self.title = body.origin, body.title
        for part, block in enumerate(body.blocks):
            if block.turn is None:
                self.blocks.append(Block(block.items, place=(self.seq, part)))
                continue
            turn = block.turn
            self._begin_turn(part)
            said = turn.answer, turn.usage, turn.model, turn.facts, turn.unseen
            copied = TurnBody(turn.id, turn.question, block.items, *said)
            self._turn(copied, turn.at, turn.decisions, part)
            for decided in turn.decisions:
                self.always |= set(decided.always)
                self.waited.update([*decided.approved, *decided.rejected])

    def _become(self, kept: Kept) -> None:
        self.turn_count, self.model, self.usage = kept.turns, kept.model, kept.usage
        self.facts, self.always = dict(kept.facts), frozenset(kept.always)


def _digest(turn_id: str) -> str:
    return b64encode(blake2b(turn_id.encode(errors="surrogatepass"), digest_size=_DIGEST * 6 // 8).digest()).decode()


def copied(kept: Kept, blocks: list[Block], *, origin: str, title: str) -> EditBody:
    """The edit with which a conversation begins as a copy: of these blocks, which have come to what was `kept`.

    Where turns or facts lie before the blocks (all was cleared once), the copy begins with them.
    """
    turns = [block.turn for block in blocks if block.turn is not None]
    said = {key for turn in turns for key in turn.facts}
    granted = {tool for turn in turns for decided in turn.decisions for tool in decided.always}
    start = Kept(
        turns=turns[0].number - 1 if turns else kept.turns,
        model="" if turns else kept.model,
        usage=_less(kept.usage, [turn.usage for turn in turns]),
        facts={key: text for key, text in kept.facts.items() if key not in said},
        always=[tool for tool in kept.always if tool not in granted],
    )
    plain = [Block(block.items, block.turn) for block in blocks]
    return EditBody("copy", kept=start, blocks=plain, origin=origin, title=title)


def added(one: Usage, other: Usage) -> Usage:
    """Both together."""
    return Usage(*(a + b for a, b in zip(msgspec.structs.astuple(one), msgspec.structs.astuple(other), strict=True)))


def _less(total: Usage, parts: list[Usage]) -> Usage:
    counts = msgspec.structs.astuple(total)
    for part in parts:
        counts = tuple(max(a - b, 0) for a, b in zip(counts, msgspec.structs.astuple(part), strict=True))
    return Usage(*counts)
